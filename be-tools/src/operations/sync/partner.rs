//! The BE that ran last: how it is told from one that only says so.
//!
//! What it has becomes the accounts of the system that starts, so its id does not suffice: anybody
//! can write that on a stick, and a copy of its disk has it. An activation leaves a mark in the
//! running system that only root can read, and what proves it in the descriptor of the BE that
//! starts next. A copy that was made before lacks it; with one that was made since, two have it, and
//! nothing is taken over.

use std::path::{Path, PathBuf};

use super::list::Item;
use crate::environment::mounted::MountedEnvironment;
use crate::environment::unclean::unclean;
use crate::environment::{BootEnvironment, Id, Inventory, SyncNote};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::root_dir::RootDir;
use crate::storage::device::BlockDevice;

/// Where the mark is, relative to the root.
const MARK: &str = "var/lib/lifeboat/sync-mark";

/// How many of the last ones are there.
const MOST_MARKS: usize = 16;

/// The longest list of them that is read, in bytes.
const MAX_MARKS: u64 = 4096;

/// Leaves a new mark in the running system, whose BE has this id. Returns what the next one has to
/// know.
///
/// # Errors
/// It cannot be written.
pub(super) fn leave_mark(running: &RootDir, id: Id) -> Result<SyncNote> {
    let mark = format!("{}{}", uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
    // Another BE that was activated before may still start.
    let before = running.read_at_most(MARK, MAX_MARKS)?.unwrap_or_default();
    let before = String::from_utf8_lossy(&before).into_owned();
    let skipped = before.lines().count().saturating_sub(MOST_MARKS - 1);
    let marks = before.lines().skip(skipped).chain([mark.as_str()]);
    let text = marks.map(|mark| format!("{mark}\n")).collect::<String>();
    running.write(MARK, text.as_bytes(), 0o600)?;
    Ok(SyncNote { from: id, mark: proof(mark.as_bytes()), tries: 0 })
}

fn proof(mark: &[u8]) -> String {
    blake3::hash(mark).to_hex().to_string()
}

/// Whether the system at `root` has the mark.
fn has_mark(root: &RootDir, note: &SyncNote) -> Result<bool> {
    let marks = root.read_at_most(MARK, MAX_MARKS)?.unwrap_or_default();
    Ok(marks.split(|byte| *byte == b'\n').any(|mark| proof(mark) == note.mark))
}

/// The BE that ran last, mounted for reading.
pub(super) struct Partner {
    pub(super) name: String,
    pub(super) mounted: MountedEnvironment,
    /// The mount points of file systems that it shares with others, or that are not always mounted.
    shared: Vec<PathBuf>,
}

impl Partner {
    /// Finds it, and mounts all of it that the list names. Call this in a private mount namespace.
    /// `None` if it is not there yet, with the reason.
    ///
    /// # Errors
    /// Several are it. It was not cleanly unmounted, or is hibernated.
    pub(super) fn find(
        host: &Host,
        inventory: &Inventory,
        note: &SyncNote,
        items: &[Item],
    ) -> Result<std::result::Result<Partner, String>> {
        let mut why = format!("the boot environment {}, which ran last, is on no disk", note.from);
        let mut found: Option<Partner> = None;
        for environment in &inventory.environments {
            let id = environment.descriptor.as_ref().map(|descriptor| descriptor.id);
            if environment.running || id != Some(note.from) {
                continue;
            }
            // Before it is mounted, which would count as in use.
            let unclean = unclean(host, inventory, environment)?;
            match Partner::mount(host, inventory, environment, note, items) {
                Ok(Some(_)) if found.is_some() => {
                    return Err(Error::Failed(format!(
                        "two disks have the boot environment '{}', which ran last: one is a copy of \
                        the other",
                        environment.name()
                    )));
                }
                Ok(Some(partner)) => {
                    refuse_unclean(environment, &unclean)?;
                    found = Some(partner);
                }
                Ok(None) => {
                    why = format!(
                        "{} has the id of the boot environment that ran last, and not its mark",
                        environment.root.device.display()
                    );
                }
                Err(error) => why = error.to_string(),
            }
        }
        Ok(found.ok_or(why))
    }

    /// Mounts a BE that may be it; `None` if it is not.
    fn mount(
        host: &Host,
        inventory: &Inventory,
        environment: &BootEnvironment,
        note: &SyncNote,
        items: &[Item],
    ) -> Result<Option<Partner>> {
        let paths: Vec<PathBuf> = items.iter().map(|item| item.path.clone()).collect();
        let mounted = MountedEnvironment::mount_for_reading(host, inventory, environment, &paths)?;
        if !has_mark(&RootDir::open(mounted.root())?, note)? {
            return Ok(None);
        }
        // Nor does anybody know what one that is not mounted by itself had.
        let shared = environment
            .file_systems
            .iter()
            .filter(|file_system| file_system.shared || file_system.has_option("noauto"));
        let shared = shared.map(|file_system| file_system.mountpoint.clone()).collect();
        Ok(Some(Partner { name: environment.name().to_owned(), mounted, shared }))
    }

    /// Whether both have the same file system there.
    pub(super) fn shares(&self, path: &Path) -> bool {
        self.shared.iter().any(|mountpoint| path.starts_with(mountpoint))
    }
}

/// Refuses a BE whose journals would have to be replayed first: without that, its files are older
/// than they were, or have what belongs to others.
fn refuse_unclean(environment: &BootEnvironment, unclean: &[&BlockDevice]) -> Result<()> {
    environment.refuse_hibernated()?;
    let Some(device) = unclean.first() else { return Ok(()) };
    Err(Error::Failed(format!(
        "'{}' was not shut down cleanly ({}): start it once, and activate this one from there",
        environment.name(),
        device.node.display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root_dir::testing::tree;

    #[test]
    fn who_has_only_the_id_of_a_boot_environment_does_not_have_its_mark() {
        let (_running, running) = tree(&[("etc/fstab", "")]);
        let (_copy, copy) = tree(&[("etc/fstab", "")]);
        let id = Id::random();
        let note = leave_mark(&running, id).unwrap();
        assert_eq!(note.from, id);
        assert!(has_mark(&running, &note).unwrap() && !has_mark(&copy, &note).unwrap());
        // Not a copy of its disk that was made before, either.
        copy.write(MARK, &running.read(MARK).unwrap().unwrap(), 0o600).unwrap();
        let later = leave_mark(&running, id).unwrap();
        assert!(has_mark(&running, &later).unwrap() && !has_mark(&copy, &later).unwrap());
        // What proves it does not tell it.
        copy.write(MARK, later.mark.as_bytes(), 0o600).unwrap();
        assert!(!has_mark(&copy, &later).unwrap());
        let mode = running.metadata(MARK).unwrap().unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::mode(&mode) & 0o777, 0o600);
    }
}
