//! Finds the boot environments on the disks, managed and unmanaged. There is no registry: every
//! file system that can hold a root is read.

mod boot_state;
mod candidates;
mod environments;
mod memory;
pub(crate) mod scan;

use std::process::ExitCode;

use crate::environment::facts::Facts;
use crate::environment::inventory::Inventory;
use crate::error::Result;
use crate::host::Host;
use crate::loader::esp_location::silence::EspRequest;
use crate::storage::device::{BlockDevice, Devices, contents};
use crate::storage::mounts::Mounts;
use crate::storage::probe::Content;
use crate::storage::volume::FileSystem;
use crate::workers::{self, QuestionKind};
use candidates::Candidates;
use memory::Memory;

/// The hidden verb `internal-scan`: a worker that probes devices and reads file systems.
pub(crate) fn serve() -> ExitCode {
    workers::serve(&[
        QuestionKind::of::<contents::ProbeRequest>(),
        QuestionKind::of::<scan::ScanRequest>(),
        QuestionKind::of::<EspRequest>(),
    ])
}

/// Finds the boot environments of this machine. Writes nothing to any disk.
///
/// # Errors
/// When `/sys` or `/proc` cannot be read; a disk that cannot be read is a warning.
pub fn discover(host: &Host) -> Result<Inventory> {
    find(host, false)
}

/// As [`discover`], but what is at rest as it was found before is not mounted: as long as it were, a
/// mount by another program would fail. For what only looks, and does so often.
///
/// # Errors
/// As [`discover`].
pub fn glance(host: &Host) -> Result<Inventory> {
    find(host, true)
}

fn find(host: &Host, from_memory: bool) -> Result<Inventory> {
    let devices = Devices::scan(host)?;
    let mounts = Mounts::read(host)?;
    let mut inventory = read_all(host, devices, &mounts, from_memory);
    if let Err(e) = boot_state::annotate(host, &mut inventory) {
        inventory.warnings.push(format!("what the machine boots next cannot be determined: {e}"));
    }
    Ok(inventory)
}

fn read_all(host: &Host, devices: Devices, mounts: &Mounts, from_memory: bool) -> Inventory {
    let mut warnings = unreadable(&devices);
    let mut memory = Memory::open(host, mounts, from_memory);
    let Candidates { file_systems: candidates, warnings: left_out } =
        Candidates::find(&devices, mounts);
    warnings.extend(left_out);
    let directory = scan::mount_directory(host);
    let request = |file_system: &FileSystem| scan::ScanRequest {
        dir: directory.clone(),
        file_system: file_system.clone(),
        subvolume: None,
        nested: Vec::new(),
    };
    let mut ask = |requests: &[scan::ScanRequest]| memory.answer_all(host, requests);

    let not_read = |file_system: &FileSystem, why: String| {
        format!("the file system on {} was not read: {why}", file_system.volume.node().display())
    };

    let requests: Vec<_> = candidates.iter().map(request).collect();
    let mut roots = Vec::new();
    for (file_system, answer) in candidates.iter().zip(ask(&requests)) {
        match answer {
            Ok(found) => {
                if found.not_read > 0 {
                    warnings.push(too_many(file_system, &found));
                }
                let found = found.roots.into_iter();
                roots.extend(found.map(|facts| environments::FoundRoot { file_system, facts }));
            }
            Err(why) => warnings.push(not_read(file_system, why)),
        }
    }
    // A BE with a separate /boot or /usr is read again, with those mounted in it.
    let split: Vec<usize> = (0..roots.len())
        .filter(|i| !environments::nested(&roots[*i], &devices).is_empty())
        .collect();
    let requests: Vec<_> = split
        .iter()
        .map(|index| {
            let root = &roots[*index];
            scan::ScanRequest {
                subvolume: root.facts.subvolume.clone(),
                nested: environments::nested(root, &devices),
                ..request(root.file_system)
            }
        })
        .collect();
    for (index, answer) in split.into_iter().zip(ask(&requests)) {
        let root = &mut roots[index];
        match answer.map(|mut found| found.roots.pop()) {
            Ok(Some(facts)) => {
                root.facts = Facts { read_only: root.facts.read_only, ..facts };
            }
            Ok(None) => {}
            Err(why) => warnings.push(not_read(root.file_system, why)),
        }
    }
    memory.keep();
    let machine = environments::Machine { devices: &devices, mounts, root: &host.root };
    let environments = environments::environments(&roots, &machine);
    warnings.extend(environments::mounted_by_units(&roots, &environments));
    Inventory { environments, warnings, devices }
}

fn too_many(file_system: &FileSystem, found: &scan::ScanResult) -> String {
    format!(
        "{} more systems on {} were not read, only {}: the default subvolume, those that are \
        mounted, and those that can be written to come first; delete snapshots that are not needed",
        found.not_read,
        file_system.volume.node().display(),
        found.roots.len()
    )
}

/// A warning for each device that could not be read: a disk that fails or never answers, but not an
/// empty drive. Without root there is one warning for all of them.
fn unreadable(devices: &Devices) -> Vec<String> {
    let failed = |d: &BlockDevice| match &d.content {
        Content::Unreadable(why) if !d.removable || why.starts_with(workers::LATE) => {
            Some(format!("{} could not be read: {why}", d.node.display()))
        }
        _ => None,
    };
    let all: Vec<String> = devices.iter().filter_map(failed).collect();
    if all.is_empty() || rustix::process::geteuid().is_root() {
        return all;
    }
    vec![format!(
        "{} devices could not be read: only root can find boot environments, so use sudo",
        all.len()
    )]
}

/// What is on these devices alone. The machine that runs the test has others.
#[cfg(test)]
pub(crate) fn look_at(devices: Devices) -> Inventory {
    let run = tempfile::tempdir().unwrap();
    let host = Host { run: run.path().into(), ..Host::local() };
    look_on(&host, devices)
}

/// As [`look_at`], on a machine that may remember what it found before.
#[cfg(test)]
fn look_on(host: &Host, devices: Devices) -> Inventory {
    read_all(host, devices, &Mounts::read(host).unwrap(), true)
}

/// The BE that a directory would be as the root file system with this UUID, on a machine that also
/// has a file system labelled `second`.
#[cfg(test)]
pub(crate) fn environment_in(
    dir: &std::path::Path,
    uuid: &str,
) -> (crate::environment::facts::Facts, crate::environment::BootEnvironment, Devices) {
    use crate::storage::probe::{Kind, SuperBlock};
    use crate::storage::volume::Volume;
    let device = |name: &str, uuid: &str, label: &str| {
        let mut found = SuperBlock::new(Kind::Ext4);
        (found.uuid, found.label) = (uuid.into(), label.into());
        BlockDevice::example(name, found)
    };
    let devices: Devices =
        [device("vdy1", uuid, "first"), device("vdy2", "2", "second")].into_iter().collect();
    let facts = Facts::read(&crate::root_dir::RootDir::open(dir).unwrap(), None).unwrap();
    let volume = Volume::of(&devices, devices.by_name("vdy1").unwrap());
    let file_system = FileSystem::found(volume).unwrap();
    let root = environments::FoundRoot { file_system: &file_system, facts: facts.clone() };
    let mounts = Mounts::default();
    let machine = environments::Machine {
        devices: &devices,
        mounts: &mounts,
        root: std::path::Path::new("/"),
    };
    let environment = environments::environments(&[root], &machine).remove(0);
    (facts, environment, devices)
}

#[cfg(test)]
mod tests;
