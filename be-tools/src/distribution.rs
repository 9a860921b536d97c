//! What has to be done for the packages of one distribution.

pub mod debian;
pub mod installed_packages;
pub mod package_manager;

use crate::root_dir::RootDir;
use debian::apt::Apt;
use package_manager::PackageManager;

/// The package manager of a system, if it is one that is known.
pub fn package_manager(root: &RootDir) -> Option<Box<dyn PackageManager>> {
    root.exists("usr/bin/apt-get").then(|| Box::new(Apt) as Box<dyn PackageManager>)
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
