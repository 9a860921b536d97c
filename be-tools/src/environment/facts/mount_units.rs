//! Mount units of the administrator (systemd.mount(5)). Lifeboat reads fstab, so that it neither
//! copies nor mounts what only a unit mounts.

use std::path::Path;

use crate::fstab::{Fstab, Spec};
use crate::root_dir::RootDir;

const DIRECTORY: &str = "etc/systemd/system";

/// The most units that are read.
const MAX_UNITS: usize = 64;

/// The mount points of devices that are in units, and not in fstab.
pub(super) fn read(root: &RootDir, fstab: &str) -> Vec<String> {
    let fstab = Fstab::parse(fstab);
    let names = root.names(DIRECTORY).unwrap_or_default();
    let units = names.iter().filter(|name| Path::new(name).extension() == Some("mount".as_ref()));
    units
        .take(MAX_UNITS)
        .filter_map(|name| root.text(Path::new(DIRECTORY).join(name)).ok()?)
        .filter_map(|text| mount_point_of_device(&text))
        .filter(|place| !fstab.entries().any(|entry| entry.mountpoint() == Path::new(place)))
        .collect()
}

fn mount_point_of_device(unit: &str) -> Option<String> {
    let value = |key: &str| {
        let line = unit.lines().rev().find_map(|line| line.trim().strip_prefix(key))?;
        Some(line.trim_start().strip_prefix('=')?.trim())
    };
    let is_device = match Spec::parse(value("What")?) {
        Spec::Path(path) => path.starts_with("/dev"),
        Spec::Other(_) => false,
        _ => true,
    };
    is_device.then_some(())?;
    value("Where").filter(|place| place.starts_with('/')).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_units_that_mount_a_device_and_are_not_in_fstab_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let directory = dir.path().join(DIRECTORY);
        std::fs::create_dir_all(&directory).unwrap();
        let unit = |name: &str, what: &str, place: &str| {
            let text = format!("[Unit]\nBefore=x\n[Mount]\nWhat = {what}\nWhere={place}\n");
            std::fs::write(directory.join(name), text).unwrap();
        };
        unit("var.mount", "/dev/disk/by-label/var", "/var");
        unit("srv.mount", "UUID=1", "/srv");
        unit("home.mount", "UUID=2", "/home");
        unit("nas.mount", "nas:/export", "/nas");
        unit("tmp.mount", "tmpfs", "/tmp");
        unit("opt.automount", "/dev/vda9", "/opt");
        std::fs::write(directory.join("empty.mount"), "").unwrap();
        let root = RootDir::open(dir.path()).unwrap();
        assert_eq!(read(&root, "UUID=2 /home ext4\n"), ["/srv", "/var"]);
    }
}
