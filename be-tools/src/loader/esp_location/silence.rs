//! An ESP on a disk that never answers: a worker reads it first, so that no verb and no unit waits
//! for it for ever (docs/design.md, invariant 7).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::host::Host;
use crate::storage::mounts::Mounts;
use crate::storage::namespace::stay_in_private_namespace;
use crate::storage::volume::{Access, FileSystem};
use crate::workers::{self, Answer, Question};

/// How long an ESP may take to answer. A sleeping disk was woken when it was probed.
const DEADLINE: Duration = Duration::from_secs(10);

/// The most directories that are read, and their depth: `EFI/lifeboat/ID8`.
const MAX_DIRECTORIES: usize = 200;
const MAX_DEPTH: usize = 3;

/// The ESPs that were asked, by the number of the device, with the reason if one did not answer.
static ASKED: Mutex<BTreeMap<(u32, u32), Option<String>>> = Mutex::new(BTreeMap::new());

/// An ESP to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EspRequest {
    /// The directory to mount it on.
    directory: PathBuf,
    file_system: FileSystem,
}

impl Question for EspRequest {
    const KIND: &'static str = "esp";
    type Finding = ();

    fn answer(&self) -> Answer<()> {
        stay_in_private_namespace().and_then(|()| self.read()).map_err(|error| error.to_string())
    }
}

impl EspRequest {
    fn read(&self) -> Result<()> {
        let table = Mounts::read(&Host::local())?;
        let mounted = self.file_system.show(&table, Access::Look, &self.directory)?;
        read_directories(mounted.dir());
        mounted.unmount()
    }
}

fn read_directories(top: &Path) {
    let mut queue = vec![(top.to_owned(), 0)];
    let mut next = 0;
    while let Some((directory, depth)) = queue.get(next).cloned() {
        next += 1;
        // Whatever cannot be read is no concern here: it was an answer.
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_directory && depth < MAX_DEPTH && queue.len() < MAX_DIRECTORIES {
                queue.push((entry.path(), depth + 1));
            }
        }
    }
}

/// Refuses an ESP that does not answer. Each is asked once.
///
/// # Errors
/// It did not answer in time.
pub(super) fn refuse(host: &Host, file_system: &FileSystem) -> Result<()> {
    let number = file_system.volume.device.number.into();
    let mut asked = ASKED.lock().unwrap_or_else(PoisonError::into_inner);
    let why = match asked.get(&number) {
        Some(why) => why.clone(),
        None => {
            let directory = host.work_directory("scan")?;
            let request = EspRequest { directory, file_system: file_system.clone() };
            let why = ask(host, &request);
            asked.insert(number, why.clone());
            why
        }
    };
    match why {
        None => Ok(()),
        Some(why) => Err(Error::Failed(format!(
            "the ESP on {} does not answer ({why}): its disk may be failing",
            file_system.volume.node().display()
        ))),
    }
}

/// Why an ESP did not answer. An error is an answer: who mounts it next reports it.
fn ask(host: &Host, request: &EspRequest) -> Option<String> {
    let answers = workers::answer_all(host, std::slice::from_ref(request).chunks(1), DEADLINE);
    answers.into_iter().find_map(Result::err).filter(|why| why.starts_with(workers::LATE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::device::{BlockDevice, Devices};
    use crate::storage::device_number::DeviceNumber;
    use crate::storage::probe::{Kind, SuperBlock};
    use crate::storage::testing::{RootFileSystem, is_root};
    use crate::storage::volume::Volume;

    #[test]
    fn an_esp_that_did_not_answer_is_refused_and_not_asked_again() {
        let number = DeviceNumber { major: 250, minor: 77 };
        let device = BlockDevice {
            number,
            ..BlockDevice::example("lifeboat-none7", SuperBlock::new(Kind::Vfat))
        };
        let file_system = FileSystem::found(Volume::of(&Devices::default(), &device)).unwrap();
        let late = format!("{} 10 seconds", workers::LATE);
        ASKED.lock().unwrap().insert(number.into(), Some(late));
        let why = refuse(&Host::local(), &file_system).unwrap_err().to_string();
        assert!(why.contains("lifeboat-none7 does not answer (no answer within"), "{why}");
    }

    #[test]
    fn one_that_answers_is_left_as_it_is() {
        if !is_root() {
            return;
        }
        let root = RootFileSystem::debian("ext4");
        let run = tempfile::tempdir().unwrap();
        let host = Host { run: run.path().into(), ..Host::local() };
        refuse(&host, &root.device.file_system()).unwrap();
        let table = Mounts::read(&Host::local()).unwrap();
        assert!(table.under(run.path()).next().is_none());
    }
}
