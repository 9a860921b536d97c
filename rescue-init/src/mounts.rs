//! The file systems of the rescue image itself, and the links and settings that programs expect of
//! them.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

struct Api {
    kind: &'static str,
    target: &'static str,
    flags: MsFlags,
    data: &'static str,
}

const QUIET: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);
const PLAIN: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV);

/// In this order; `proc` first, as it tells what is mounted already.
const API: &[Api] = &[
    Api { kind: "proc", target: "/proc", flags: QUIET, data: "" },
    Api { kind: "sysfs", target: "/sys", flags: QUIET, data: "" },
    Api { kind: "devtmpfs", target: "/dev", flags: MsFlags::MS_NOSUID, data: "mode=0755" },
    Api { kind: "tmpfs", target: "/run", flags: PLAIN, data: "mode=0755" },
    Api { kind: "tmpfs", target: "/tmp", flags: PLAIN, data: "mode=1777" },
    Api {
        kind: "devpts",
        target: "/dev/pts",
        flags: MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC),
        data: "mode=0620,gid=5,ptmxmode=0666",
    },
];

const LINKS: &[(&str, &str)] = &[
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("/proc/self/mounts", "/etc/mtab"),
];

/// Mounts what is not mounted yet. Returns one sentence for each thing that could not be done.
pub fn set_up() -> Vec<String> {
    let mut failures = Vec::new();
    note(&mut failures, "/root", fs::create_dir_all("/root"));
    for api in API {
        let mounted = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        if !targets(&mounted).any(|target| target == api.target) {
            note(&mut failures, api.target, mount_api(api));
        }
    }
    for (target, link) in LINKS {
        if let Some(directory) = Path::new(link).parent() {
            note(&mut failures, link, fs::create_dir_all(directory));
        }
        if fs::symlink_metadata(link).is_err() {
            note(&mut failures, link, symlink(target, link));
        }
    }
    for (setting, value) in [("printk_devkmsg", "on\n"), ("hostname", "lifeboat\n")] {
        let path = format!("/proc/sys/kernel/{setting}");
        note(&mut failures, &path, fs::write(&path, value));
    }
    failures
}

/// Mounts the firmware's variables, where the machine was started by UEFI. Needs modules to be
/// loadable.
pub fn firmware_variables() -> io::Result<()> {
    const TARGET: &str = "/sys/firmware/efi/efivars";
    let mounted = fs::read_to_string("/proc/self/mounts")?;
    if !Path::new("/sys/firmware/efi").exists() || targets(&mounted).any(|target| target == TARGET)
    {
        return Ok(());
    }
    Ok(mount(Some("efivarfs"), TARGET, Some("efivarfs"), QUIET, None::<&str>)?)
}

/// Unmounts every file system that lies on a block device, the last mounted first.
pub fn release_disks() {
    let mounted = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut on_disks: Vec<&str> = mounted
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(source, _)| source.starts_with("/dev/"))
        .filter_map(|(_, rest)| rest.split(' ').next())
        .collect();
    on_disks.reverse();
    for target in on_disks {
        let target = unescape(target);
        if umount2(target.as_str(), MntFlags::empty()).is_err() {
            let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
            let read_only = mount(None::<&str>, target.as_str(), None::<&str>, flags, None::<&str>);
            if let Err(why) = read_only {
                log::warn!("{target}: neither unmounted nor made read-only: {why}");
            }
        }
    }
}

fn mount_api(api: &Api) -> io::Result<()> {
    fs::create_dir_all(api.target)?;
    match mount(Some(api.kind), api.target, Some(api.kind), api.flags, Some(api.data)) {
        Ok(()) | Err(Errno::EBUSY) => Ok(()),
        Err(why) => Err(why.into()),
    }
}

fn note(failures: &mut Vec<String>, what: &str, result: io::Result<()>) {
    if let Err(why) = result {
        failures.push(format!("{what}: {why}"));
    }
}

/// The mount points of a `/proc/self/mounts`.
fn targets(mounts: &str) -> impl Iterator<Item = &str> {
    mounts.lines().filter_map(|line| line.split(' ').nth(1))
}

/// proc_pid_mounts(5) writes space, tab, newline and backslash as three octal digits.
fn unescape(field: &str) -> String {
    [(r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", "\\")]
        .iter()
        .fold(field.to_owned(), |text, (code, character)| text.replace(code, character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_the_second_field() {
        let mounts = "rootfs / rootfs rw 0 0\nproc /proc proc rw,nosuid 0 0\n";
        assert_eq!(targets(mounts).collect::<Vec<_>>(), ["/", "/proc"]);
    }

    #[test]
    fn escaped_mount_points_are_read() {
        assert_eq!(unescape(r"/run/a\040b\134c"), r"/run/a b\c");
    }
}
