//! `root=` and what belongs to it, on the command line with which a BE is started.
//!
//! A copy that another program made still names its source, by a UUID, a label, a partition or a
//! path. So `root=` is replaced unless it proves to name this BE.

use boot::command_line::CommandLine;

use crate::environment::BootEnvironment;
use crate::storage::device::Devices;
use crate::storage::subvolume::Subvolume;

/// A command line for the BE, and what was changed on it.
pub(super) struct Corrected {
    pub(super) command_line: String,
    pub(super) notes: Vec<String>,
}

/// Makes `root=`, `rootfstype=` and `rootflags=` those of the BE.
pub(super) fn correct(
    command_line: &str,
    has_initramfs: bool,
    environment: &BootEnvironment,
    devices: &Devices,
) -> Corrected {
    let mut line = CommandLine::parse(command_line);
    let mut notes = Vec::new();
    let named = line.get("root").unwrap_or_default().to_owned();
    if !is_proved(&named, environment, devices) {
        let wanted = wanted(environment, devices, has_initramfs);
        if !named.is_empty() {
            notes.push(format!("its command line had root={named}: root={wanted} replaces it"));
        }
        // Neither a UUID nor a device node has a character that a command line cannot hold.
        let _ = line.set("root", &wanted);
    }
    notes.extend(correct_type(&mut line, environment));
    Corrected { command_line: line.to_string(), notes }
}

/// Whether `root=` names the root of the BE, and still does when the kernel numbers the disks differently.
fn is_proved(named: &str, environment: &BootEnvironment, devices: &Devices) -> bool {
    let root = &environment.root;
    let uuid = named.strip_prefix("UUID=").or(named.strip_prefix("/dev/disk/by-uuid/"));
    if let Some(uuid) = uuid {
        return !root.uuid.is_empty() && uuid.trim_matches('"').eq_ignore_ascii_case(&root.uuid);
    }
    let is_stable = ["PARTUUID=", "LABEL=", "PARTLABEL=", "/dev/mapper/", "/dev/disk/by-"];
    if !is_stable.iter().any(|prefix| named.starts_with(prefix)) {
        return false;
    }
    matches!(devices.lookup(named)[..], [device] if device.node == root.device)
}

/// What `root=` should be. Only an initramfs knows the UUIDs of file systems.
fn wanted(environment: &BootEnvironment, devices: &Devices, has_initramfs: bool) -> String {
    let root = &environment.root;
    let device = devices.by_node(&root.device);
    let partition = device.and_then(|device| device.partition.as_ref());
    let part_uuid = partition.map(|partition| partition.part_uuid.as_str()).unwrap_or_default();
    match (has_initramfs, root.uuid.is_empty(), part_uuid.is_empty()) {
        (true, false, _) => format!("UUID={}", root.uuid),
        (_, _, false) => format!("PARTUUID={part_uuid}"),
        _ => root.device.display().to_string(),
    }
}

/// Removes the type and the options of another type of file system, and the subvolume of another
/// BE.
fn correct_type(line: &mut CommandLine, environment: &BootEnvironment) -> Option<String> {
    let root = &environment.root;
    let before = line.to_string();
    let other_type = line.get("rootfstype").is_some_and(|types| {
        !root.fs_type.is_empty() && !types.split(',').any(|one| one == root.fs_type)
    });
    if other_type {
        line.remove("rootfstype");
    }
    let flags = line.get("rootflags").unwrap_or_default().to_owned();
    let is_of_btrfs = root.fs_type == "btrfs";
    let names_subvolume = Subvolume::is_named_in(&flags);
    if other_type || (names_subvolume && !is_of_btrfs) {
        line.remove("rootflags");
    } else if is_of_btrfs && !has_subvolume(&flags, root.subvolume.as_deref()) {
        let kept = Subvolume::other_options(&flags).filter(|flag| !flag.is_empty());
        let own = root.subvolume.as_deref().map(|path| path.trim_matches('/'));
        let own = own.filter(|path| !path.is_empty()).map(|path| format!("subvol={path}"));
        let all: Vec<String> = kept.map(str::to_owned).chain(own).collect();
        line.remove("rootflags");
        if !all.is_empty() {
            // A path with a quote cannot be on a command line, and stays away from it.
            let _ = line.set("rootflags", &all.join(","));
        }
    }
    (line.to_string() != before).then(|| {
        "its command line had rootfstype= or rootflags= of another file system: they are corrected"
            .into()
    })
}

/// Whether the options name this subvolume, or none where the root is none.
fn has_subvolume(flags: &str, own: Option<&str>) -> bool {
    let own = own.unwrap_or_default().trim_matches('/');
    match Subvolume::of_options(flags) {
        Ok(Some(Subvolume::Path(path))) => path.trim_matches('/') == own,
        Ok(None) => own.is_empty() && !Subvolume::is_named_in(flags),
        // The path of an id is not known here.
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::storage::device::BlockDevice;
    use crate::storage::partitions::PartitionInfo;
    use crate::storage::probe::{Kind, SuperBlock};

    const SOURCE: &str = "99999999-2222-4333-8444-555555555555";
    const OWN: &str = "11111111-2222-4333-8444-555555555555";
    const OWN_PARTITION: &str = "14420948-2222-4333-8444-555555555555";

    fn device(name: &str, uuid: &str, label: &str, part_uuid: &str) -> BlockDevice {
        let mut found = SuperBlock::new(Kind::Ext4);
        (found.uuid, found.label) = (uuid.into(), label.into());
        let mut device = BlockDevice::example(name, found);
        device.partition = Some(PartitionInfo {
            number: 1,
            start_lba: 0,
            size_lba: 0,
            logical_block_size: 512,
            kind: None,
            part_uuid: part_uuid.into(),
            name: String::new(),
        });
        device
    }

    fn started(options: &str, fs_type: &str, subvolume: Option<&str>, initrd: bool) -> String {
        let devices: Devices = [
            device("sdy1", SOURCE, "arch_os", "88888888-2222-4333-8444-555555555555"),
            device("sdy2", OWN, "copy", OWN_PARTITION),
        ]
        .into_iter()
        .collect();
        let mut environment = BootEnvironment::empty(Path::new("/dev/sdy2"));
        environment.root.uuid = OWN.into();
        environment.root.fs_type = fs_type.into();
        environment.root.subvolume = subvolume.map(str::to_owned);
        let Corrected { command_line, notes } = correct(options, initrd, &environment, &devices);
        assert_eq!(notes.is_empty(), command_line == options || options == "ro", "{notes:?}");
        command_line
    }

    #[test]
    fn root_names_the_be_that_is_started() {
        let own = format!("root=UUID={OWN} rw quiet");
        for named in [
            "LABEL=arch_os",
            "PARTUUID=88888888-2222-4333-8444-555555555555",
            "/dev/sda2",
            "/dev/sdy1",
            "/dev/sdy2",
            "/dev/disk/by-label/arch_os",
            "/dev/disk/by-uuid/99999999-2222-4333-8444-555555555555",
            "UUID=99999999-2222-4333-8444-555555555555",
            "LABEL=gone",
            "ZFS=rpool/root",
            "UUID=11111111-2222-4333-8444-555555555555 root=/dev/sdy1",
        ] {
            assert_eq!(started(&format!("root={named} rw quiet"), "ext4", None, true), own);
        }
        for proved in [
            &own,
            "root=LABEL=copy rw quiet",
            "root=/dev/disk/by-uuid/11111111-2222-4333-8444-555555555555 rw quiet",
            "root=PARTUUID=14420948-2222-4333-8444-555555555555 rw quiet",
        ] {
            assert_eq!(started(proved, "ext4", None, true), proved);
        }
        assert_eq!(started("ro", "ext4", None, true), format!("ro root=UUID={OWN}"));
    }

    #[test]
    fn a_kernel_without_an_initramfs_is_given_a_partition() {
        assert_eq!(
            started("root=/dev/sda2 rw", "ext4", None, false),
            format!("root=PARTUUID={OWN_PARTITION} rw")
        );
    }

    #[test]
    fn options_of_another_type_go() {
        let own = format!("root=UUID={OWN}");
        for (more, fs_type, subvolume, expected) in [
            ("ro rootflags=subvol=root rw", "ext4", None, "ro rw"),
            ("rootfstype=btrfs rootflags=compress=zstd ro", "ext4", None, "ro"),
            ("rootfstype=ext4 rootflags=data=journal ro", "ext4", None, ""),
            ("rootfstype=ext4,xfs ro", "ext4", None, ""),
            ("rootflags=subvol=root ro", "btrfs", Some("root"), ""),
            ("rootflags=subvol=/root ro", "btrfs", Some("root"), ""),
            (
                "rootflags=subvol=root,compress=zstd ro",
                "btrfs",
                Some("snapshots/7"),
                "rootflags=compress=zstd,subvol=snapshots/7 ro",
            ),
            ("rootflags=subvol=root ro", "btrfs", None, "ro"),
            ("ro", "btrfs", Some("@"), "ro rootflags=subvol=@"),
        ] {
            let expected = if expected.is_empty() { more } else { expected };
            let line = started(&format!("{own} {more}"), fs_type, subvolume, true);
            // What is put in goes where it was, or to the end.
            let words = |text: &str| {
                let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
                words.sort();
                words
            };
            assert_eq!(words(&line), words(&format!("{own} {expected}")), "{more}");
        }
    }
}
