//! What has to be done for the packages of one distribution.

pub mod debian;
pub mod dnf;
pub mod installed_packages;
pub mod package_manager;
pub mod pacman;
mod rpm;
pub mod zypper;

use crate::root_dir::RootDir;
use debian::apt::Apt;
use dnf::Dnf;
use package_manager::PackageManager;
use pacman::Pacman;
use zypper::Zypper;

/// The package manager of a system, if it is one that is known: the one whose list of packages is
/// there. Debian has programs of others among its packages.
pub fn package_manager(root: &RootDir) -> Option<Box<dyn PackageManager>> {
    if root.exists("usr/bin/apt-get") && root.exists("var/lib/dpkg/status") {
        Some(Box::new(Apt))
    } else if root.exists("usr/bin/pacman") && root.exists("var/lib/pacman/local") {
        Some(Box::new(Pacman))
    } else if rpm::DATABASES.iter().any(|database| root.exists(database)) {
        with_rpm(root)
    } else {
        None
    }
}

/// That of a system whose packages are those of rpm(8). Some have both programs.
fn with_rpm(root: &RootDir) -> Option<Box<dyn PackageManager>> {
    // The program of dnf 4; that of dnf 5 has another name, and is another one.
    let dnf = || root.exists("usr/bin/dnf-3").then(|| Box::new(Dnf) as Box<dyn PackageManager>);
    let zypper = || root.exists("usr/bin/zypper").then(|| Box::new(Zypper) as _);
    match rpm::family(root).iter().any(|id| id.contains("suse") || id == "sles") {
        true => zypper().or_else(dnf),
        false => dnf().or_else(zypper),
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
