//! What has to be done for the packages of one distribution.

pub mod debian;
pub mod packages;

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
