//! The storage under a copy, compared with that under its source, and the devices that a crypttab
//! names.
//!
//! Until localize writes a crypttab and has the initramfs made from it, a copy starts only on the
//! same kind of storage as its source: its initramfs opens the containers, the groups and the
//! arrays of the source, and no others.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::source;
use crate::crypttab::{self, EncryptedVolume};
use crate::environment::{BootEnvironment, Inventory};
use crate::error::{Refusal, Result};
use crate::layout::{Layout, MountPoint};
use crate::root_dir::RootDir;
use crate::session::Session;
use crate::storage::device::{BlockDevice, Devices};
use crate::storage::stack::{LayerKind, Stack};

/// Where a BE keeps its crypttab, relative to its root.
const CRYPTTAB: &str = "etc/crypttab";

/// A crypttab, and whose it is.
pub(crate) struct Crypttab {
    /// The name of its system in a message.
    owner: String,
    volumes: Vec<EncryptedVolume>,
}

impl Crypttab {
    fn read(owner: String, root: &RootDir) -> Result<Self> {
        let volumes = crypttab::parse(&root.text(CRYPTTAB)?.unwrap_or_default());
        Ok(Crypttab { owner, volumes })
    }

    /// The crypttabs of the source and of the running system, which will open their devices again.
    pub(crate) fn all(session: &Session, source: Option<&BootEnvironment>) -> Result<Vec<Self>> {
        let mut all = Vec::new();
        if let Some(source) = source {
            let mounted = source::mount(session, source, &MountPoint::root())?;
            let root = RootDir::open(mounted.dir())?;
            all.push(Self::read(format!("'{}'", source.name()), &root)?);
        }
        if !source.is_some_and(|source| source.running) {
            let running = RootDir::open(&session.host.root)?;
            all.push(Self::read("the running system".into(), &running)?);
        }
        Ok(all)
    }
}

/// Refuses a device that a crypttab names: a system would open it, or format it as swap, at its
/// next boot.
pub(crate) fn refuse_named(
    devices: &Devices,
    crypttabs: &[Crypttab],
    device: &BlockDevice,
) -> Result<(), Refusal> {
    for crypttab in crypttabs {
        let names = |volume: &&EncryptedVolume| {
            devices.lookup(&volume.device).iter().any(|named| named.number == device.number)
                || Path::new(&volume.device) == device.node
        };
        if let Some(volume) = crypttab.volumes.iter().find(names) {
            return Err(Refusal::InCrypttab {
                device: device.node.display().to_string(),
                volume: volume.name.clone(),
                owner: crypttab.owner.clone(),
            });
        }
    }
    Ok(())
}

/// Refuses a copy on another kind of storage than that of its source, and one whose crypttab would
/// open what the copy does not use.
pub(crate) fn refuse(
    inventory: &Inventory,
    found: &BootEnvironment,
    layout: &Layout,
    crypttabs: &[Crypttab],
) -> Result<()> {
    for place in ["/", "/usr"].into_iter().map(Path::new) {
        let Ok(mountpoint) = MountPoint::try_from(place) else { continue };
        let Some(target) = layout.at(&mountpoint) else { continue };
        let of_source = match found.file_systems.iter().any(|f| f.mountpoint == place) {
            true => source::file_system(inventory, found, &mountpoint)?,
            false => source::file_system(inventory, found, &MountPoint::root())?,
        };
        let (own, of_source) =
            (Storage::of(target.provision.stack()), Storage::of(&of_source.volume.stack));
        if own != of_source {
            return Err(Refusal::OtherStorage {
                mountpoint: mountpoint.to_string(),
                device: target.node().display().to_string(),
                target: own.to_string(),
                source_storage: of_source.to_string(),
            }
            .into());
        }
    }
    let used = used_mappings(inventory, found, layout);
    let opened = crypttabs.first().map(|crypttab| crypttab.volumes.as_slice()).unwrap_or_default();
    let unused = opened.iter().find(|volume| {
        volume.is_opened_at_boot() && !volume.is_formatted() && !used.contains(&volume.name)
    });
    match unused {
        Some(volume) => {
            Err(Refusal::OpensForNothing { name: found.name().into(), volume: volume.name.clone() }
                .into())
        }
        None => Ok(()),
    }
}

/// The layers between a file system and its disks that an initramfs has to know.
#[derive(Debug, Default, PartialEq, Eq)]
struct Storage {
    is_logical_volume: bool,
    is_array: bool,
    /// The LUKS containers. The copy's initramfs opens those of the source, and no others.
    containers: BTreeSet<PathBuf>,
}

impl Storage {
    fn of(stack: &Stack) -> Self {
        let mut storage = Storage::default();
        for layer in stack.layers() {
            match layer.kind {
                LayerKind::LogicalVolume { .. } => storage.is_logical_volume = true,
                LayerKind::Array => storage.is_array = true,
                LayerKind::Mapping => {
                    storage.containers.insert(layer.node.clone());
                }
                LayerKind::Disk | LayerKind::Partition | LayerKind::Mapper => {}
            }
        }
        storage
    }
}

impl std::fmt::Display for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = String::new();
        let mut add = |part: &str| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{}{part}", if text.is_empty() { "" } else { " in " });
        };
        if self.is_logical_volume {
            add("a logical volume");
        }
        for container in &self.containers {
            add(&format!("the LUKS container {}", container.display()));
        }
        if self.is_array {
            add("a RAID array");
        }
        f.write_str(if text.is_empty() { "a plain partition" } else { &text })
    }
}

/// The names of the opened containers that the copy uses: under its own file systems, and under
/// those and the swap that it shares.
fn used_mappings(
    inventory: &Inventory,
    found: &BootEnvironment,
    layout: &Layout,
) -> BTreeSet<String> {
    const OPENED: &str = "/dev/mapper/";
    let mut used = BTreeSet::new();
    let mut add = |stack: &Stack| {
        let mappings = stack.layers().filter(|layer| layer.kind == LayerKind::Mapping);
        used.extend(
            mappings.filter_map(|l| Some(l.node.to_str()?.strip_prefix(OPENED)?.to_owned())),
        );
    };
    layout.file_systems.iter().for_each(|target| add(target.provision.stack()));
    let is_shared = |place: &Path| layout.shared.iter().any(|shared| shared.as_path() == place);
    let shared =
        found.file_systems.iter().filter(|f| f.fs_type == "swap" || is_shared(&f.mountpoint));
    let mut named = BTreeSet::new();
    for line in shared {
        if let Some(device) = line.device.as_deref().and_then(|d| inventory.devices.by_node(d)) {
            add(&Stack::of(&inventory.devices, device));
        }
        named.extend(line.spec.strip_prefix(OPENED).map(str::to_owned));
    }
    used.extend(named);
    used
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::FileSystemUse;
    use crate::layout::{Placement, lay_out};
    use crate::storage::device_number::DeviceNumber;
    use crate::storage::probe::{Kind, SuperBlock};
    use crate::storage::provision::Provision;
    use crate::storage::volume::Volume;

    /// A disk, a LUKS container on it with a group of two volumes in it, another container, an
    /// array, and plain partitions.
    fn devices() -> Devices {
        let mut minor = 0;
        let mut device = |name: &str, slave: Option<&str>, dm_name: Option<&str>, kind: Kind| {
            let mut device = BlockDevice::example(name, SuperBlock::new(kind));
            if dm_name.is_some() || name.starts_with("md") {
                device.disk = name.into();
            }
            if let Some(dm_name) = dm_name {
                device.node = Path::new("/dev/mapper").join(dm_name);
            }
            minor += 1;
            device.number = DeviceNumber { major: 250, minor };
            device.slaves = slave.into_iter().map(str::to_owned).collect();
            device.dm_name = dm_name.map(str::to_owned);
            device.transport = if name.starts_with("md") { "md" } else { "" }.into();
            device
        };
        [
            device("sda", None, None, Kind::Gpt),
            device("sda1", None, None, Kind::Ext4),
            device("sda2", None, None, Kind::Ext4),
            device("sda3", None, None, Kind::Luks2),
            device("dm-0", Some("sda3"), Some("sda3_crypt"), Kind::Lvm),
            device("dm-1", Some("dm-0"), Some("vg-root"), Kind::Ext4),
            device("dm-2", Some("dm-0"), Some("vg-second"), Kind::Ext4),
            device("sda4", None, None, Kind::Luks2),
            device("dm-3", Some("sda4"), Some("other_crypt"), Kind::Ext4),
            device("sda5", None, None, Kind::MdRaid),
            device("md0", Some("sda5"), None, Kind::Ext4),
        ]
        .into_iter()
        .collect()
    }

    fn judged(source: &str, target: &str, crypttab: &str, shared: &[&str]) -> Result<()> {
        let inventory = Inventory { devices: devices(), ..Inventory::default() };
        let devices = &inventory.devices;
        let node = |name: &str| devices.by_name(name).unwrap().node.clone();
        let mut found = BootEnvironment::empty(&node(source));
        found.file_systems = std::iter::once(("/", source))
            .chain(shared.iter().map(|name| ("/home", *name)))
            .map(|(place, name)| FileSystemUse::example(place, node(name).to_str().unwrap()))
            .collect();
        let volume = Volume::of(devices, devices.by_name(target).unwrap());
        let placement = "/:it:ext4".parse::<Placement>().unwrap();
        let placement = placement.resolve(|_| Ok(Provision::Existing(volume))).unwrap();
        let layout = lay_out(&found.file_systems, &[], &[placement]).unwrap();
        let crypttab = Crypttab { owner: "'first'".into(), volumes: crypttab::parse(crypttab) };
        refuse(&inventory, &found, &layout, &[crypttab])
    }

    #[test]
    fn a_copy_on_other_storage_than_its_source_is_refused() {
        const ROOT: &str = "sda3_crypt UUID=1 none luks\n";
        for (source, target, crypttab) in [
            ("sda1", "sda2", ""),
            ("dm-1", "dm-2", ROOT),
            ("dm-3", "dm-3", "other_crypt /dev/sda4 none luks\n"),
            ("md0", "md0", ""),
        ] {
            assert!(judged(source, target, crypttab, &[]).is_ok(), "{source} {target}");
        }
        for (source, target, words) in [
            ("dm-1", "sda2", "/dev/mapper/sda3_crypt"),
            ("sda1", "dm-2", "logical volume"),
            ("sda1", "dm-3", "/dev/mapper/other_crypt"),
            ("dm-3", "dm-1", "/dev/mapper/other_crypt"),
            ("sda1", "md0", "RAID"),
            ("md0", "sda1", "RAID"),
        ] {
            let refused = judged(source, target, "", &[]).unwrap_err();
            assert_eq!(refused.exit_status(), 3);
            assert!(refused.to_string().contains(words), "{source} {target}: {refused}");
        }
    }

    #[test]
    fn a_crypttab_that_opens_what_the_copy_does_not_use_is_refused() {
        let refused = judged("sda1", "sda2", "data UUID=1 none luks\n", &[]).unwrap_err();
        assert!(refused.to_string().contains("data"), "{refused}");
        assert_eq!(refused.exit_status(), 3);
        for (crypttab, shared) in [
            ("other_crypt UUID=1 none luks\n", &["dm-3"][..]),
            ("data UUID=1 none luks,noauto\n", &[]),
            ("cryptswap1 /dev/sda5 /dev/urandom swap\n", &[]),
            ("# data UUID=1 none luks\n", &[]),
        ] {
            assert!(judged("sda1", "sda2", crypttab, shared).is_ok(), "{crypttab}");
        }
    }

    #[test]
    fn a_device_that_a_crypttab_names_is_refused() {
        let devices = devices();
        let crypttabs = [
            Crypttab { owner: "'first'".into(), volumes: Vec::new() },
            Crypttab {
                owner: "the running system".into(),
                volumes: crypttab::parse("cryptswap1 /dev/sda2 /dev/urandom swap\n"),
            },
        ];
        let refused =
            |name: &str| refuse_named(&devices, &crypttabs, devices.by_name(name).unwrap()).err();
        let said = refused("sda2").unwrap().to_string();
        assert!(said.contains("cryptswap1") && said.contains("the running system"), "{said}");
        assert!(refused("sda1").is_none());
    }
}
