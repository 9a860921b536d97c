//! The content of a device: the kind of its structure, and the fields of its super block.

use indicatif::HumanBytes;
use serde::{Deserialize, Serialize};

use super::fs_uuid::FsUuid;

/// The kind of a structure that was recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "each is the format of that name")]
pub enum Kind {
    Ext2,
    Ext3,
    Ext4,
    Xfs,
    Btrfs,
    Vfat,
    ExFat,
    Ntfs,
    F2fs,
    Iso9660,
    SquashFs,
    Erofs,
    /// Swap space.
    Swap,
    /// Swap space that holds a hibernation image.
    Hibernation,
    Luks1,
    Luks2,
    /// Physical volume of LVM2.
    Lvm,
    /// Member of a Linux md array.
    MdRaid,
    /// Member of a ZFS pool.
    Zfs,
    Gpt,
    Mbr,
}

impl Kind {
    /// The type as mount(8), mkfs(8) and `blkid` call it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Ext2 => "ext2",
            Kind::Ext3 => "ext3",
            Kind::Ext4 => "ext4",
            Kind::Xfs => "xfs",
            Kind::Btrfs => "btrfs",
            Kind::Vfat => "vfat",
            Kind::ExFat => "exfat",
            Kind::Ntfs => "ntfs",
            Kind::F2fs => "f2fs",
            Kind::Iso9660 => "iso9660",
            Kind::SquashFs => "squashfs",
            Kind::Erofs => "erofs",
            Kind::Swap => "swap",
            Kind::Hibernation => "swsuspend",
            Kind::Luks1 | Kind::Luks2 => "crypto_LUKS",
            Kind::Lvm => "LVM2_member",
            Kind::MdRaid => "linux_raid_member",
            Kind::Zfs => "zfs_member",
            Kind::Gpt => "gpt",
            Kind::Mbr => "dos",
        }
    }

    /// The name for a message.
    pub fn description(self) -> &'static str {
        match self {
            Kind::Swap => "swap space",
            Kind::Hibernation => "swap space with a hibernation image",
            Kind::Luks1 => "LUKS1 encrypted volume",
            Kind::Luks2 => "LUKS2 encrypted volume",
            Kind::Lvm => "LVM physical volume",
            Kind::MdRaid => "member of a RAID array",
            Kind::Zfs => "member of a ZFS pool",
            Kind::Gpt => "GPT partition table",
            Kind::Mbr => "MBR partition table",
            other => other.name(),
        }
    }

    /// A file system that mount(2) takes.
    pub fn is_file_system(self) -> bool {
        use Kind::*;
        matches!(
            self,
            Ext2 | Ext3
                | Ext4
                | Xfs
                | Btrfs
                | Vfat
                | ExFat
                | Ntfs
                | F2fs
                | Iso9660
                | SquashFs
                | Erofs
        )
    }

    /// A file system type that can hold a boot environment.
    pub fn can_hold_root(self) -> bool {
        matches!(self, Kind::Ext2 | Kind::Ext3 | Kind::Ext4 | Kind::Xfs | Kind::Btrfs)
    }

    /// A partition table.
    pub fn is_table(self) -> bool {
        matches!(self, Kind::Gpt | Kind::Mbr)
    }
}

/// The fields of a super block that Lifeboat needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuperBlock {
    /// The kind of structure.
    pub kind: Kind,
    /// Its UUID; empty if the format has none.
    pub uuid: FsUuid,
    /// Its label or name, with control characters replaced; empty if it has none.
    pub label: String,
    /// Its size in bytes, if the format records it.
    pub size: Option<u64>,
    /// The bytes in use, if the format records them. Stale while the file system is mounted or
    /// dirty.
    pub used: Option<u64>,
    /// Its journal or log holds changes that a mount would replay, according to the super block.
    pub dirty: bool,
    /// The number of its devices (btrfs); 1 for other kinds.
    pub devices: u64,
    /// The number of this one among them (btrfs); `None` for other kinds.
    pub device_id: Option<u64>,
    /// A digest that every mount for writing changes, if no mount for writing is there now. Only of
    /// ext file systems: the super blocks of others do not say whether they are mounted.
    pub at_rest: Option<String>,
}

impl SuperBlock {
    pub(crate) fn new(kind: Kind) -> Self {
        SuperBlock {
            kind,
            uuid: FsUuid::default(),
            label: String::new(),
            size: None,
            used: None,
            dirty: false,
            devices: 1,
            device_id: None,
            at_rest: None,
        }
    }
}

/// What a block device holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Content {
    /// Nothing was recognised, and nothing was found where it was looked.
    Blank,
    /// The bytes match no probe.
    Unknown,
    /// The device could not be read, for this reason.
    Unreadable(String),
    /// A known structure.
    Known(SuperBlock),
}

impl Content {
    /// The super block, if one was recognised.
    pub fn super_block(&self) -> Option<&SuperBlock> {
        match self {
            Content::Known(found) => Some(found),
            _ => None,
        }
    }

    /// The kind, if one was recognised.
    pub fn kind(&self) -> Option<Kind> {
        self.super_block().map(|s| s.kind)
    }

    /// The device is blank, so that writing to it loses nothing.
    pub fn is_blank(&self) -> bool {
        matches!(self, Content::Blank)
    }

    /// One phrase for a plan: `ext4 "root" (3.20 GiB used)`.
    pub fn description(&self) -> String {
        match self {
            Content::Blank => "nothing".into(),
            Content::Unknown => "unknown data".into(),
            Content::Unreadable(why) => format!("unreadable ({why})"),
            Content::Known(found) => {
                let mut text = found.kind.description().to_owned();
                if !found.label.is_empty() {
                    text.push_str(&format!(" \"{}\"", found.label));
                }
                if let Some(used) = found.used {
                    text.push_str(&format!(" ({} used)", HumanBytes(used)));
                }
                text
            }
        }
    }
}
