//! What has to be done for the packages of one distribution.

pub mod debian;
pub mod installed_packages;
pub mod package_manager;
pub mod pacman;

use crate::root_dir::RootDir;
use debian::apt::Apt;
use package_manager::PackageManager;
use pacman::Pacman;

/// The package manager of a system, if it is one that is known: the one whose list of packages is
/// there. Debian has programs of others among its packages.
pub fn package_manager(root: &RootDir) -> Option<Box<dyn PackageManager>> {
    if root.exists("usr/bin/apt-get") && root.exists("var/lib/dpkg/status") {
        Some(Box::new(Apt))
    } else if root.exists("usr/bin/pacman") && root.exists("var/lib/pacman/local") {
        Some(Box::new(Pacman))
    } else {
        None
    }
}

/// The command that installs a kernel in a system whose os-release(5) has this `ID`.
pub fn kernel_installation(os_id: &str) -> &'static str {
    match os_id {
        "debian" => "apt-get install --reinstall linux-image-amd64",
        "ubuntu" | "linuxmint" | "pop" => "apt-get install --reinstall linux-image-generic",
        "fedora" | "rhel" | "centos" | "rocky" | "almalinux" | "ol" => "dnf reinstall kernel-core",
        "arch" | "manjaro" | "endeavouros" => "pacman -S linux",
        "alpine" => "apk fix linux-lts",
        "void" => "xbps-install -f linux",
        "gentoo" => "emerge sys-kernel/gentoo-kernel-bin",
        id if id.starts_with("opensuse") || id.starts_with("sle") => {
            "zypper install --force kernel-default"
        }
        _ => "bash",
    }
}
