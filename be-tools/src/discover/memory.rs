//! What was found on file systems that have not changed since. It lasts as long as the machine runs.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::scan::{ScanRequest, ScanResult};
use crate::error::{Doing, Result};
use crate::host::Host;
use crate::storage::mounts::Mounts;
use crate::storage::volume::FileSystem;
use crate::workers::{self, Answer};

/// How long reading one file system may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// The name of the file.
const FILE: &str = "found.json";

/// The most bytes of that file.
const MOST: usize = 8 << 20;

/// What was found before.
pub(super) struct Memory<'a> {
    /// The file that keeps it; `None` if there can be none, as without root.
    file: Option<PathBuf>,
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
        let file = host.work_directory("").ok().map(|directory| directory.join(FILE));
        let before = file.as_deref().filter(|_| is_used).and_then(read).unwrap_or_default();
        Memory { file, mounts, before, now: Vec::new() }
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
                && !self.mounts.iter().any(|mount| mount.is_of(device))
        };
        is_at_rest(&question.file_system)
            && question.nested.iter().all(|nested| is_at_rest(&nested.file_system))
    }

    /// Keeps what was found now. A memory that cannot be kept costs the next look its time only.
    pub(super) fn keep(self) {
        let Some(file) = &self.file else { return };
        if self.before == self.now {
            return;
        }
        let content = Content { version: version(), found: self.now };
        if let Err(why) = write(file, &content) {
            log::debug!("what was found is not remembered: {why}");
        }
    }
}

fn version() -> String {
    env!("CARGO_PKG_VERSION").into()
}

fn read(file: &Path) -> Option<Vec<Found>> {
    let content: Content = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    (content.version == version()).then_some(content.found)
}

/// Writes the file anew under another name first: another `be` may be reading it.
fn write(file: &Path, content: &Content) -> Result<()> {
    let text = serde_json::to_string(content).unwrap_or_default();
    if text.len() > MOST {
        return Ok(());
    }
    let new = file.with_extension(format!("{}.new", std::process::id()));
    let mut options = fs::File::options();
    let opened = options.write(true).create(true).truncate(true).mode(0o600).open(&new);
    std::io::Write::write_all(&mut opened.at("creating", &new)?, text.as_bytes())
        .at("writing", &new)?;
    fs::rename(&new, file).at("renaming", &new)
}
