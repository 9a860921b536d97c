//! How far a BE reaches the devices that its fstab names. An fstab may name any device of the
//! machine, the root of the running system too: it is the word of whoever wrote that disk. What is
//! on the disk of the root came with it, and what was made for the BE bears its mark.
//!
//! One btrfs may hold the roots of several BEs, and what else they are made of: there a subvolume
//! is judged, not the device.

use std::path::Path;

use super::wanted::{Wanted, is_needed_to_boot};
use crate::environment::{BootEnvironment, FileSystemUse, Inventory};
use crate::error::Refusal;
use crate::storage::device::BlockDevice;
use crate::storage::probe::Kind;
use crate::storage::subvolume::Subvolume;

/// How far a BE reaches a device.
pub(super) enum Reach {
    /// As far as it is wanted.
    Whole,
    /// For reading only, for this reason.
    Read(String),
    /// Not at all, for this reason.
    Nothing(String),
}

/// How far a BE reaches the device of a line of its fstab.
pub(super) fn of(
    inventory: &Inventory,
    environment: &BootEnvironment,
    file_system: &FileSystemUse,
    device: &BlockDevice,
    wanted: Wanted,
) -> Reach {
    let Wanted { mode, is_for_programs, writable, .. } = wanted;
    // Reading by Lifeboat itself shows nothing to anybody.
    if !mode.writes() && !is_for_programs {
        return Reach::Whole;
    }
    let (name, place) = (environment.name(), file_system.mountpoint.display());
    // Who only reads has no option to say otherwise.
    let way_out = |does: &str| match mode.writes() {
        true => format!("; --writable {place} {does}"),
        false => String::new(),
    };
    let claims =
        Claims { inventory, environment, device, subvolume: file_system.subvolume(device) };
    if let Some(other) = claims.owner() {
        let why = format!("{} belongs to '{other}'", device.node.display());
        return if is_for_programs { Reach::Nothing(why) } else { Reach::Read(why) };
    }
    if claims.is_made() || writable.contains(&file_system.mountpoint) {
        return Reach::Whole;
    }
    // What several BEs are made of is written by the one that runs. Programs that make a loader
    // read its kernels.
    let is_read = !mode.writes() && is_needed_to_boot(&file_system.mountpoint);
    if !file_system.shared
        && !is_read
        && let Some(other) = claims.also_named_by()
    {
        let why = format!(
            "{} is in the fstab of '{other}' too{}",
            device.node.display(),
            way_out(&format!("gives it to '{name}'"))
        );
        return if is_for_programs { Reach::Nothing(why) } else { Reach::Read(why) };
    }
    let is_on_its_disk = inventory.devices.disk_of(device).node == environment.root.disk;
    if is_on_its_disk {
        return Reach::Whole;
    }
    if is_for_programs && environment.is_on_portable_disk(&inventory.devices) {
        return Reach::Nothing(format!(
            "'{name}' is on a disk that may come from another machine, and this is on one of this \
            machine{}",
            way_out(&format!("gives it to '{name}'"))
        ));
    }
    Reach::Read(format!(
        "it is on another disk than the root, and nothing shows that it was made for '{name}'{}",
        way_out("mounts it for writing")
    ))
}

/// Refuses to take what another BE is made of for a part of this one, which does not run: a copy
/// would show it to this one's programs. Of what the fstab of another BE names too, only what comes
/// from a portable disk is refused. Otherwise its name is returned, for a note.
///
/// # Errors
/// [`Refusal::OutOfReach`]
pub(crate) fn refuse_anothers<'a>(
    inventory: &'a Inventory,
    environment: &'a BootEnvironment,
    file_system: &FileSystemUse,
    device: &'a BlockDevice,
) -> Result<Option<&'a str>, Refusal> {
    if environment.running {
        return Ok(None);
    }
    let subvolume = file_system.subvolume(device);
    let claims = Claims { inventory, environment, device, subvolume };
    let is_shared = file_system.shared || claims.is_made();
    let named = claims.also_named_by().filter(|_| !is_shared);
    let is_portable = environment.is_on_portable_disk(&inventory.devices);
    let Some(other) = claims.owner().or(named.filter(|_| is_portable)) else { return Ok(named) };
    Err(Refusal::OutOfReach {
        place: file_system.mountpoint.display().to_string(),
        why: format!(
            "the fstab of '{}' names {}, which is a part of '{other}'; correct that fstab, or boot \
            it and copy it from there",
            environment.name(),
            device.node.display()
        ),
    })
}

/// Who has a claim to a volume that the fstab of a BE names.
struct Claims<'a> {
    inventory: &'a Inventory,
    environment: &'a BootEnvironment,
    device: &'a BlockDevice,
    subvolume: Option<Subvolume>,
}

impl<'a> Claims<'a> {
    fn others(&self) -> impl Iterator<Item = &'a BootEnvironment> + use<'a> {
        let (own, all) = (&self.environment.root, &self.inventory.environments);
        // An unmanaged snapshot that nothing can be written to is made of what its original is. But a
        // root may be read-only by design, and then no writable one is its original.
        let is_copy =
            |e: &BootEnvironment| e.descriptor.as_ref().is_some_and(|d| d.source.is_some());
        let has_original = move |snapshot: &BootEnvironment| {
            let mut here = all.iter().filter(|e| e.root.device == snapshot.root.device);
            here.any(|e| !e.read_only && !is_copy(e) && e.os.id == snapshot.os.id)
        };
        let is_snapshot = move |other: &BootEnvironment| {
            other.read_only && !other.running && !other.is_managed() && has_original(other)
        };
        all.iter().filter(move |other| other.root != *own && !is_snapshot(other))
    }

    /// Whether a device holds the same file system: it is the same, or another one of its btrfs.
    fn is_here(&self, node: &Path) -> bool {
        let devices = &self.inventory.devices;
        let btrfs = |device: &BlockDevice| {
            device.super_block().filter(|s| s.kind == Kind::Btrfs).map(|s| s.uuid.to_string())
        };
        let own = btrfs(self.device);
        node == self.device.node || own.is_some() && devices.by_node(node).and_then(btrfs) == own
    }

    fn is_root_here(&self, other: &BootEnvironment) -> bool {
        self.is_here(&other.root.device)
    }

    /// Another BE whose root it is, or for which it was made.
    fn owner(&self) -> Option<&'a str> {
        let is_owner = |other: &&BootEnvironment| {
            let root = other.root.subvolume.as_deref().and_then(Subvolume::at);
            let has_root = self.is_root_here(other)
                && Subvolume::may_overlap(root.as_ref(), self.subvolume.as_ref());
            // For the btrfs of this root, the mark says who made all of it, not this subvolume.
            let is_own_root = self.is_here(&self.environment.root.device);
            has_root || !is_own_root && other.made.iter().any(|made| self.is_here(&made.device))
        };
        self.others().find(is_owner).map(BootEnvironment::name)
    }

    /// Whether it was made for this BE, and for no other one as well.
    fn is_made(&self) -> bool {
        self.environment.has_made(&self.device.node)
            && !self.others().any(|other| self.is_root_here(other))
    }

    /// Another BE whose fstab names it too, or may name it.
    fn also_named_by(&self) -> Option<&'a str> {
        let devices = &self.inventory.devices;
        let names_it = |line: &FileSystemUse| {
            let is_here = match &line.device {
                Some(node) => self.is_here(node),
                None => devices.lookup(&line.spec).iter().any(|d| self.is_here(&d.node)),
            };
            let named = line.subvolume(self.device);
            is_here && Subvolume::may_overlap(named.as_ref(), self.subvolume.as_ref())
        };
        self.others()
            .filter(|other| !other.is_visitor(devices) && !other.is_unfinished())
            .find(|other| other.file_systems.iter().any(names_it))
            .map(BootEnvironment::name)
    }
}
