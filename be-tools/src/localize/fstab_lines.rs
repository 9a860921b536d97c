//! The lines of fstab(5) for a copy, as `localize.rs` writes them. Does no I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::localization::Localization;
use crate::fstab::{Entry, Fstab, Spec};
use crate::layout::{FsType, MountPoint, TargetFileSystem};

/// The swap space of a copy, as far as hibernation is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Swap {
    /// There is none in fstab.
    None,
    /// It is shared with other BEs.
    Shared,
    /// It is the copy's own, with this UUID.
    Own(String),
}

/// Rewrites the source's fstab for the target's layout.
pub(super) fn rewrite(fstab: &mut Fstab, change: &Localization) -> Vec<String> {
    let mut done = Vec::new();
    let mut seen = BTreeSet::new();
    let merged: BTreeSet<&MountPoint> = change.layout.merged().collect();
    fstab.retain(|entry| {
        let Some(mountpoint) = mount_point(entry) else { return true };
        let again = change.layout.at(&mountpoint).is_some() && !seen.insert(mountpoint.clone());
        !again && !merged.contains(&mountpoint)
    });
    done.extend(
        merged
            .iter()
            .map(|m| format!("{m} is removed from fstab: it is part of {} now", holder(change, m))),
    );

    for entry in fstab.entries_mut() {
        let own = mount_point(entry).and_then(|m| change.layout.at(&m));
        match own.and_then(|target| Some((target, change.uuids.get(&target.mountpoint)?))) {
            Some((target, uuid)) => done.push(point_at(entry, target, uuid)),
            None => done.extend(name_by_uuid(entry, change.labels)),
        }
    }
    for target in change.layout.file_systems.iter().filter(|t| !seen.contains(&t.mountpoint)) {
        let Some(uuid) = change.uuids.get(&target.mountpoint) else { continue };
        let spec = format!("UUID={uuid}");
        let (place, fs_type) = (target.mountpoint.as_path(), target.fs_type);
        let options = target.options.as_str();
        fstab.push(Entry::new(&spec, place, fs_type.as_str(), options, pass(target)));
        done.push(format!("{} is added to fstab as {spec} ({fs_type})", target.mountpoint));
    }
    done.extend(rewrite_swap(fstab, change));
    done
}

/// Keeps the lines that `own`, the target's fstab until now, has for what the layout leaves as it
/// is.
pub(super) fn keep_own(fstab: &mut Fstab, own: &Fstab, change: &Localization) -> Vec<String> {
    let is_left = |entry: &Entry| {
        mount_point(entry).is_some_and(|mountpoint| change.layout.left.contains(&mountpoint))
    };
    fstab.retain(|entry| !is_left(entry));
    let mut done = Vec::new();
    for entry in own.entries().filter(|entry| is_left(entry)) {
        done.push(format!("{} in fstab stays as it was", entry.mountpoint().display()));
        fstab.push(entry.clone());
    }
    done
}

/// The swap space that the rewritten fstab uses.
pub(super) fn swap(fstab: &Fstab, change: &Localization) -> Swap {
    match change.swap_uuids.first() {
        Some(uuid) => Swap::Own(uuid.clone()),
        None if fstab.entries().any(Entry::is_swap) => Swap::Shared,
        None => Swap::None,
    }
}

fn mount_point(entry: &Entry) -> Option<MountPoint> {
    if entry.is_swap() { None } else { MountPoint::try_from(entry.mountpoint().as_path()).ok() }
}

fn holder<'a>(change: &'a Localization, place: &MountPoint) -> &'a str {
    change.layout.holding(place).and_then(|t| t.mountpoint.as_path().to_str()).unwrap_or("/")
}

fn point_at(entry: &mut Entry, target: &TargetFileSystem, uuid: &str) -> String {
    let spec = format!("UUID={uuid}");
    if entry.fs_type() != target.fs_type.as_str() {
        entry.set_fs_type(target.fs_type.as_str());
        entry.set_pass(pass(target));
    }
    if entry.options() != target.options {
        entry.set_options(&target.options);
    }
    entry.set_spec(&spec);
    format!("{} in fstab is {spec} ({})", target.mountpoint, target.fs_type)
}

/// The sixth field of fstab. It is 0 for xfs and btrfs, whose fsck does nothing.
fn pass(target: &TargetFileSystem) -> u32 {
    match target.fs_type {
        FsType::Xfs | FsType::Btrfs => 0,
        _ if target.mountpoint.is_root() => 1,
        _ => 2,
    }
}

/// Replaces a label by a UUID, because a copy may have the same label as its source.
fn name_by_uuid(entry: &mut Entry, labels: &BTreeMap<String, String>) -> Option<String> {
    if !matches!(entry.device(), Spec::Label(_) | Spec::PartLabel(_)) {
        return None;
    }
    let old = entry.spec();
    let spec = format!("UUID={}", labels.get(&old)?);
    entry.set_spec(&spec);
    Some(format!("{old} in fstab becomes {spec}"))
}

fn rewrite_swap(fstab: &mut Fstab, change: &Localization) -> Vec<String> {
    let mut done = Vec::new();
    if !change.swap_uuids.is_empty() {
        fstab.retain(|entry| !entry.is_swap());
        for uuid in change.swap_uuids {
            fstab.push(Entry::new(&format!("UUID={uuid}"), Path::new("none"), "swap", "sw", 0));
            done.push(format!("swap in fstab is UUID={uuid}"));
        }
        return done;
    }
    // A swap file on a copied file system is not copied.
    let is_gone = |entry: &Entry| match entry.device() {
        Spec::Path(path) if entry.is_swap() && !path.starts_with("/dev") => {
            let holder = MountPoint::try_from(path.as_path()).ok();
            let shared = holder.as_ref().and_then(|p| p.nearest(change.layout.shared.iter()));
            let copied =
                holder.as_ref().and_then(|p| change.layout.holding(p)).map(|t| &t.mountpoint);
            shared < copied
        }
        _ => false,
    };
    for entry in fstab.entries().filter(|e| is_gone(e)) {
        done.push(format!(
            "the swap file {} is not copied: its line in fstab becomes a comment",
            entry.spec()
        ));
    }
    fstab.comment_out(
        "Lifeboat does not copy swap files. To use one, run mkswap and uncomment the line.",
        is_gone,
    );
    done
}
