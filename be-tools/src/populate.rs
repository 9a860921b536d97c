//! Fills the file systems of a target from a source, and makes the result a system of its own. Both
//! create and refresh use this.

pub(crate) mod other_storage;
pub(crate) mod source;
pub(crate) mod source_system;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use boot::menu::BootMenu;
use indicatif::HumanBytes;

use crate::copy::{self, Mode, Summary};
use crate::environment::Inventory;
use crate::environment::{BootEnvironment, Descriptor, FileSystemUse, Id};
use crate::error::{Error, Refusal, Result};
use crate::host::Host;
use crate::layout::{self, Layout, MountPoint, Placement, TargetFileSystem};
use crate::localize::identity::NewMachine;
use crate::localize::{self, LoaderSettings, Localization};
use crate::own_files;
use crate::plan::Report;
use crate::root_dir::RootDir;
use crate::sandbox::Inside;
use crate::session::Session;
use crate::storage::hold::Holds;
use crate::storage::mkfs::Capacity;
use crate::storage::mount_place::MountPlace;
use crate::storage::mounts::{Mounted, Mounts};
use crate::storage::provision::Provision;
use crate::storage::subvolume::Subvolume;
use crate::storage::volume::{Access, FileSystem};
use crate::tree::exclude::{Exclude, Selection};
use crate::tree::measure::{self, Measured, Totals};

/// The population of a target from a source.
#[derive(Clone, Copy)]
pub(crate) struct Population<'a> {
    pub(crate) session: &'a Session<'a>,
    pub(crate) source: &'a BootEnvironment,
    pub(crate) layout: &'a Layout,
    /// UUIDs of the layout's file systems.
    pub(crate) uuids: &'a BTreeMap<MountPoint, String>,
    /// UUIDs of the target's own swap spaces.
    pub(crate) swap_uuids: &'a [String],
    /// The devices that the plan names.
    pub(crate) holds: &'a Holds,
    /// The boot menu of the source.
    pub(crate) source_menu: &'a BootMenu,
    /// The target has, or gets, a boot entry on this machine.
    pub(crate) is_bootable: bool,
}

/// One tree of the layout, and how it is copied.
pub(crate) struct TreeRequest<'a> {
    pub(crate) tree: &'a layout::TreeCopy,
    pub(crate) exclude: Exclude,
    pub(crate) mode: Mode,
    /// The total number and size of the files, for progress reports.
    pub(crate) totals: Option<Totals>,
}

/// The layout for these placements, whose devices are found by name here, and from then on are the
/// values that were found.
///
/// # Errors
/// There is no device of a name, or several; a subvolume, which is not filled as a whole; and the
/// errors of [`layout::lay_out`].
pub(crate) fn lay_out(
    inventory: &Inventory,
    source: &[FileSystemUse],
    placements: Vec<Placement>,
) -> Result<Layout> {
    let devices = &inventory.devices;
    let find = |name: &String| Provision::find(devices, name);
    let placements: Vec<_> =
        placements.into_iter().map(|placement| placement.resolve(find)).collect::<Result<_>>()?;
    let esps: Vec<PathBuf> = devices.esps().map(|d| d.node.clone()).collect();
    let layout = layout::lay_out(source, &esps, &placements)?;
    for target in &layout.file_systems {
        if Subvolume::of_options(&target.options)?.is_some() {
            return Err(Refusal::Subvolume {
                name: target.mountpoint.to_string(),
                device: target.node().display().to_string(),
                way_out: "give it a file system of its own, without subvol=".into(),
            }
            .into());
        }
    }
    Ok(layout)
}

/// Waits until everything that was written to the file systems is on their devices.
pub(crate) fn sync(mounted: &[Mounted]) -> Result<()> {
    mounted.iter().try_for_each(|file_system| RootDir::open(file_system.dir())?.sync())
}

/// Unmounts the file systems of the target, the last one first, so that everything is where a loader
/// reads it.
///
/// # Errors
/// One of them is in use.
pub(crate) fn unmount(mounted: &mut Vec<Mounted>) -> Result<()> {
    while let Some(file_system) = mounted.pop() {
        file_system.unmount()?;
    }
    Ok(())
}

/// The number and size of the files in these trees, without those that are left out, and the
/// snapshots in them.
pub(crate) fn measure<'t>(
    session: &Session,
    source: &BootEnvironment,
    trees: impl Iterator<Item = &'t layout::TreeCopy>,
    rules: impl Fn(&layout::TreeCopy) -> Exclude,
) -> Result<Measured> {
    let mut sum = Measured::default();
    for tree in trees {
        let mounted = source::mount(session, source, &tree.source)?;
        let place = tree.source_directory();
        let measured = measure::measure(mounted.dir(), &tree.from, &place, &rules(tree))?;
        sum.totals += measured.totals;
        sum.snapshots.extend(measured.snapshots);
    }
    Ok(sum)
}

/// The line of a plan for the snapshots that are left out; none if there are none.
pub(crate) fn note_on_snapshots(snapshots: &[PathBuf]) -> Option<String> {
    let shown: Vec<_> = snapshots.iter().take(3).map(|path| path.display().to_string()).collect();
    let more = if snapshots.len() > shown.len() { ", …" } else { "" };
    match shown.len() {
        0 => None,
        _ => Some(format!(
            "{} of its own snapshots are left out ({}{more}): --include PATH copies one",
            snapshots.len(),
            shown.join(", ")
        )),
    }
}

/// Refuses a layout in which the path to a mount point leads through a symlink of the source: the
/// content would be copied to where the symlink points.
pub(crate) fn refuse_symlinks(
    session: &Session,
    source: &BootEnvironment,
    layout: &Layout,
) -> Result<()> {
    let mounted = source::mount(session, source, &MountPoint::root())?;
    let root = RootDir::open(mounted.dir())?;
    let copies = layout.copies();
    let ends = copies.iter().flat_map(|c| [c.source_directory(), c.target_directory()]);
    for place in ends.chain(layout.file_systems.iter().map(|f| f.mountpoint.as_path().to_owned())) {
        let place: PathBuf = place.components().collect();
        for ancestor in place.ancestors() {
            if root.symlink_metadata(ancestor)?.is_some_and(|found| found.is_symlink()) {
                return Err(Refusal::SymlinkInPath {
                    symlink: ancestor.display().to_string(),
                    name: source.name().into(),
                    mountpoint: place.display().to_string(),
                }
                .into());
            }
        }
    }
    Ok(())
}

/// Refuses a file system of the target that is too small for what is needed.
pub(crate) fn refuse_too_small(
    target: &TargetFileSystem,
    capacity: &Capacity,
    needed: Totals,
) -> Result<(), Refusal> {
    let need = needed.into();
    if capacity.holds(need) {
        return Ok(());
    }
    let too_many = capacity.files.filter(|_| !capacity.has_inodes(need));
    let bytes = |bytes| HumanBytes(bytes).to_string();
    let needed = too_many
        .map_or_else(|| bytes(capacity.needed(need)), |_| format!("{} inodes", need.inodes));
    let available =
        too_many.map_or_else(|| bytes(capacity.bytes), |inodes| format!("{inodes} inodes"));
    Err(Refusal::TooSmall {
        device: target.node().display().to_string(),
        mountpoint: target.mountpoint.to_string(),
        needed,
        available,
    })
}

/// What is not copied from this tree: what the user leaves out, and what is never copied.
pub(crate) fn exclude(
    host: &Host,
    source: &BootEnvironment,
    selection: &Selection,
    tree: &layout::TreeCopy,
) -> Exclude {
    let place = tree.source_directory();
    let mut rules = Exclude::standard();
    if source.running {
        // Swap files in use that are not in fstab are left out too.
        rules =
            rules.swap_files(&std::fs::read_to_string(host.proc.join("swaps")).unwrap_or_default());
    }
    for path in source.swap_files() {
        rules = rules.never(&path);
    }
    for directory in &tree.without {
        rules = rules.only_directory(&place.join(directory));
    }
    for glob in &selection.exclude {
        rules = rules.exclude(glob.as_ref());
    }
    for glob in &selection.include {
        rules = rules.include(glob.as_ref());
    }
    rules
}

impl Population<'_> {
    /// Mounts one file system of the target, with nothing mounted in it.
    pub(crate) fn mount_alone(&self, target: &TargetFileSystem, at: &Path) -> Result<Mounted> {
        let hold = target.provision.hold(self.holds)?;
        self.made(target).show(&Mounts::default(), Access::Write(hold), at)
    }

    /// A file system of the target, as it is after it was made.
    fn made(&self, target: &TargetFileSystem) -> FileSystem {
        target.file_system(self.uuids.get(&target.mountpoint).map_or("", String::as_str))
    }

    /// Mounts all file systems of the target, as they will be mounted when it runs.
    pub(crate) fn mount_target(&self) -> Result<Vec<Mounted>> {
        let mut mounted = Vec::new();
        for file_system in &self.layout.file_systems {
            // The file systems mounted so far are an untrusted tree, whose symlinks must not lead
            // out.
            let top = RootDir::open(&self.session.work.target)?;
            let place = top.make_directory(file_system.mountpoint.relative())?;
            let hold = file_system.provision.hold(self.holds)?;
            let (made, place) = (self.made(file_system), MountPlace::of(place)?);
            mounted.push(made.show_on(&Mounts::default(), Access::Write(hold), &place)?);
        }
        Ok(mounted)
    }

    /// Copies one tree of the layout from and to a file system on which nothing else is mounted.
    pub(crate) fn copy(
        &self,
        request: TreeRequest<'_>,
        report: &mut dyn Report,
    ) -> Result<Summary> {
        let TreeRequest { tree, exclude, mode, totals } = request;
        let from = source::mount(self.session, self.source, &tree.source)?;
        let file_system = self.layout.at(&tree.target).ok_or_else(|| {
            Error::Failed(format!("{} is not in the layout of the target", tree.target))
        })?;
        let to = self.mount_alone(file_system, &self.session.work.alone)?;
        let request = copy::CopyRequest {
            source: from.dir(),
            target: to.dir(),
            from: &tree.from,
            to: &tree.to,
            mountpoint: &tree.source_directory(),
            exclude,
            mode,
            two_pass: self.source.running,
            totals,
        };
        copy::copy_tree(&request, report)
    }

    /// Localizes the target, all of whose file systems are mounted. `fstab` is the content of the
    /// source's, if it was not copied.
    pub(crate) fn localize(
        &self,
        id: Id,
        loader: &dyn LoaderSettings,
        new_machine: Option<&NewMachine>,
        fstab: Option<&str>,
        report: &mut dyn Report,
    ) -> Result<()> {
        let own = self.layout.file_systems.iter();
        let devices: Vec<_> =
            own.map(|f| (f.node().to_owned(), self.uuids.get(&f.mountpoint).cloned())).collect();
        let inside = Inside::new(&self.session.work.target, &devices);
        let change = Localization {
            id,
            layout: self.layout,
            uuids: self.uuids,
            swap_uuids: self.swap_uuids,
            labels: &labels(&self.session.inventory, self.source),
            source_root: &self.source.root,
            source_menu: self.source_menu,
            source_fstab: fstab,
            new_machine,
            is_bootable: self.is_bootable,
        };
        let localized = localize::localize(&self.session.work.target, &change, loader, &inside)?;
        for done in &localized.done {
            log::info!("{done}");
        }
        localized.warnings.iter().for_each(|warning| report.warn(warning));
        localized.shortfalls.iter().for_each(|shortfall| report.fall_short(shortfall));
        for done in
            own_files::install_program(&self.session.work.target, &self.session.host.program())?
        {
            log::info!("{done}");
        }
        Ok(())
    }
}

/// Records lost files in the descriptor, and reports what else a copy could not do.
pub(crate) fn note(summary: &Summary, descriptor: &mut Descriptor, report: &mut dyn Report) {
    summary.lost.iter().for_each(|path| descriptor.lose(path));
    descriptor.lost_more += summary.more_lost;
    for (path, why) in &summary.not_representable {
        report.warn(&format!("{}: {why}", path.display()));
    }
    if summary.more_not_representable > 0 {
        report.warn(&format!(
            "{} more files have attributes that the target cannot hold",
            summary.more_not_representable
        ));
    }
    for (path, what) in &summary.remarks {
        report.warn(&format!("{}: {what}", path.display()));
    }
    if summary.more_remarks > 0 {
        report.warn(&format!("there are {} more such lines", summary.more_remarks));
    }
    for path in &summary.changed_during_copy {
        report.warn(&format!("{} changed while it was copied", path.display()));
    }
    if summary.more_changed > 0 {
        report.warn(&format!("{} more files changed while they were copied", summary.more_changed));
    }
}

/// The UUIDs of the devices that a fstab names by their labels. Two copies cannot share a label.
fn labels(inventory: &Inventory, source: &BootEnvironment) -> BTreeMap<String, String> {
    let named = source.file_systems.iter().filter(|f| f.spec.contains("LABEL="));
    named
        .filter_map(|f| Some((f.spec.clone(), inventory.devices.uuid_on(f.device.as_deref()?)?)))
        .collect()
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn the_plan_names_the_first_snapshots_that_are_left_out() {
        let note = |count: usize| {
            let paths: Vec<_> = (1..=count).map(|n| PathBuf::from(format!("/s/{n}"))).collect();
            note_on_snapshots(&paths)
        };
        assert_eq!(note(0), None);
        for (count, begins) in [
            (1, "1 of its own snapshots are left out (/s/1): --include"),
            (3, "3 of its own snapshots are left out (/s/1, /s/2, /s/3): --include"),
            (40, "40 of its own snapshots are left out (/s/1, /s/2, /s/3, …): --include"),
        ] {
            let note = note(count).unwrap();
            assert!(note.starts_with(begins), "{note}");
        }
    }

    #[test]
    fn what_lacks_inodes_is_refused_by_their_number() {
        let target = TargetFileSystem {
            mountpoint: MountPoint::root(),
            provision: Provision::example("/dev/lifeboat-none1"),
            fs_type: "ext4".parse().unwrap(),
            options: "defaults".into(),
            sources: Vec::new(),
        };
        let capacity = Capacity { bytes: 1 << 30, files: Some(1000), per_entry: 2600 };
        let refused =
            |needed| refuse_too_small(&target, &capacity, needed).map_err(|e| e.to_string());
        let few = Totals { files: 5000, inodes: 900, bytes: 1 << 20 };
        refused(few).unwrap();
        let why = refused(Totals { inodes: 5000, ..few }).unwrap_err();
        assert!(why.contains("needs 5000 inodes, the device gives 1000 inodes"), "{why}");
        let why = refused(Totals { bytes: 2 << 30, ..few }).unwrap_err();
        assert!(why.contains("GiB") && !why.contains("inodes"), "{why}");
    }
}
