//! The virtual file systems of the rescue image, and the symlinks and settings that programs
//! expect.

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

/// The file systems to mount, in this order. `proc` is first because it lists what is mounted.
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

const SYMLINKS: &[(&str, &str)] = &[
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("/proc/self/mounts", "/etc/mtab"),
];

/// Mounts file systems that are not mounted yet, and makes symlinks and settings. Returns a message
/// for each failure.
pub fn set_up() -> Vec<String> {
    let mut failures = Vec::new();
    note(&mut failures, "/root", fs::create_dir_all("/root"));
    for api in API {
        let mounted = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        if !targets(&mounted).any(|target| target == api.target) {
            note(&mut failures, api.target, mount_api(api));
        }
    }
    for (target, path) in SYMLINKS {
        if let Some(directory) = Path::new(path).parent() {
            note(&mut failures, path, fs::create_dir_all(directory));
        }
        if fs::symlink_metadata(path).is_err() {
            note(&mut failures, path, symlink(target, path));
        }
    }
    for (setting, value) in [("printk_devkmsg", "on\n"), ("hostname", "lifeboat\n")] {
        let path = format!("/proc/sys/kernel/{setting}");
        note(&mut failures, &path, fs::write(&path, value));
    }
    failures
}

/// Mounts efivarfs if the machine was booted by UEFI. Its module must be loaded.
pub fn firmware_variables() -> io::Result<()> {
    const TARGET: &str = "/sys/firmware/efi/efivars";
    let mounted = fs::read_to_string("/proc/self/mounts")?;
    if !Path::new("/sys/firmware/efi").exists() || targets(&mounted).any(|target| target == TARGET)
    {
        return Ok(());
    }
    Ok(mount(Some("efivarfs"), TARGET, Some("efivarfs"), QUIET, None::<&str>)?)
}

/// Unmounts all file systems on block devices, the last mounted first.
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
            if let Err(error) = read_only {
                log::warn!("{target} could be neither unmounted nor remounted read-only: {error}");
            }
        }
    }
}

fn mount_api(api: &Api) -> io::Result<()> {
    fs::create_dir_all(api.target)?;
    match mount(Some(api.kind), api.target, Some(api.kind), api.flags, Some(api.data)) {
        Ok(()) | Err(Errno::EBUSY) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn note(failures: &mut Vec<String>, what: &str, result: io::Result<()>) {
    if let Err(error) = result {
        failures.push(format!("{what}: {error}"));
    }
}

/// The mount points in the text of `/proc/self/mounts`.
fn targets(mounts: &str) -> impl Iterator<Item = &str> {
    mounts.lines().filter_map(|line| line.split(' ').nth(1))
}

/// Undoes the escapes of proc_pid_mounts(5): space, tab, newline and backslash in octal.
fn unescape(field: &str) -> String {
    [(r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", "\\")]
        .iter()
        .fold(field.to_owned(), |text, (code, character)| text.replace(code, character))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_point_is_the_second_field() {
        let mounts = "rootfs / rootfs rw 0 0\nproc /proc proc rw,nosuid 0 0\n";
        assert_eq!(targets(mounts).collect::<Vec<_>>(), ["/", "/proc"]);
    }

    #[test]
    fn escaped_mount_points_are_unescaped() {
        assert_eq!(unescape(r"/run/a\040b\134c"), r"/run/a b\c");
    }
}
