//! What was found on file systems that have not changed since. It lasts as long as the machine runs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::scan::{ScanRequest, ScanResult};
use crate::host::Host;
use crate::root_dir::RootDir;
use crate::storage::mounts::Mounts;
use crate::storage::volume::FileSystem;
use crate::workers::{self, Answer};

/// How long reading one file system may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// The name of the file.
const FILE: &str = "found.json";

/// The most bytes of that file.
const MOST: u64 = 8 << 20;

/// What was found before.
pub(super) struct Memory<'a> {
    /// The directory of the file that keeps it; `None` if there can be none, as without root.
    directory: Option<RootDir>,
    mounts: &'a Mounts,
    before: Vec<Found>,
    now: Vec<Found>,
}

/// What was found on a file system. The question has the device's number and sequence, and the
/// digest of the super block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Found {
    question: ScanRequest,
    answer: ScanResult,
}

/// The file of what was found.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Content {
    /// The version of the program that wrote it. Another one may look for more.
    version: String,
    found: Vec<Found>,
}

impl<'a> Memory<'a> {
    /// Opens the memory of this machine. Unless `is_used`, what was found before is forgotten.
    pub(super) fn open(host: &Host, mounts: &'a Mounts, is_used: bool) -> Self {
        let directory = host.work_directory("").and_then(|path| RootDir::open(&path)).ok();
        let before = directory.as_ref().filter(|_| is_used).and_then(read).unwrap_or_default();
        Memory { directory, mounts, before, now: Vec::new() }
    }

    /// The answers, in the order of the questions. Only what is not remembered is asked.
    pub(super) fn answer_all(
        &mut self,
        host: &Host,
        questions: &[ScanRequest],
    ) -> Vec<Answer<ScanResult>> {
        let known = |question: &ScanRequest| {
            self.before
                .iter()
                .find(|found| found.question == *question && self.is_at_rest(question))
        };
        let known: Vec<Option<Found>> = questions.iter().map(|q| known(q).cloned()).collect();
        let open: Vec<ScanRequest> = questions
            .iter()
            .zip(&known)
            .filter(|(_, known)| known.is_none())
            .map(|(question, _)| question.clone())
            .collect();
        let mut asked = workers::answer_all(host, open.chunks(1), DEADLINE).into_iter();
        let answers: Vec<Answer<ScanResult>> = known
            .into_iter()
            .map(|known| match known {
                Some(found) => Ok(found.answer),
                None => asked.next().unwrap_or_else(|| Err("it was not asked".into())),
            })
            .collect();
        for (question, answer) in questions.iter().zip(&answers) {
            if let Ok(answer) = answer
                && self.is_at_rest(question)
                && answer.is_whole()
            {
                self.now.push(Found { question: question.clone(), answer: answer.clone() });
            }
        }
        answers
    }

    /// Whether nothing that the question is about can have changed without a change in the question.
    fn is_at_rest(&self, question: &ScanRequest) -> bool {
        let is_at_rest = |file_system: &FileSystem| {
            let device = &file_system.volume.device;
            device.super_block().is_some_and(|found| found.at_rest.is_some())
                && self.mounts.of(device).next().is_none()
        };
        is_at_rest(&question.file_system)
            && question.nested.iter().all(|nested| is_at_rest(&nested.file_system))
    }

    /// Keeps what was found now. A memory that cannot be kept costs the next look its time only.
    pub(super) fn keep(self) {
        let Some(directory) = &self.directory else { return };
        if self.before == self.now {
            return;
        }
        let content = Content { version: version(), found: self.now };
        let text = serde_json::to_string(&content).unwrap_or_default();
        if text.len() as u64 > MOST {
            return;
        }
        if let Err(why) = directory.write(FILE, text.as_bytes(), 0o600) {
            log::debug!("what was found is not remembered: {why}");
        }
    }
}

fn version() -> String {
    env!("CARGO_PKG_VERSION").into()
}

fn read(directory: &RootDir) -> Option<Vec<Found>> {
    let bytes = directory.read_at_most(FILE, MOST).ok()??;
    let content: Content = serde_json::from_slice(&bytes).ok()?;
    (content.version == version()).then_some(content.found)
}
