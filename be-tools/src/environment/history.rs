//! What was done to a BE: a line of JSON for each operation that began, and one when it made the BE
//! complete again. The file lies in the BE, so that it is known wherever its disk is, and is not
//! copied.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::operation::{Operation, State};
use crate::error::{Doing, Error, Result};
use crate::own_files::HISTORY_PATH;
use crate::root_dir::RootDir;
use crate::timestamp::Timestamp;

/// How many lines are kept, the newest.
const MOST_LINES: usize = 500;

/// How large the file may be to be read, in bytes. Any disk may have any file there.
const MOST_BYTES: u64 = 1 << 20;

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    at: Timestamp,
    /// Incomplete when the operation began, complete when it had ended.
    state: State,
    operation: Operation,
    #[serde(flatten)]
    deed: Deed,
}

/// What a person did, and where what was printed can be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deed {
    /// The title of the plan.
    #[serde(default)]
    pub title: String,
    /// The user who gave the command.
    #[serde(default)]
    pub by: String,
    /// The name of the machine.
    #[serde(default)]
    pub host: String,
    /// The log, on the system that ran there then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<PathBuf>,
}

/// An operation on a BE.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Done {
    /// The operation.
    pub operation: Operation,
    /// When it began; `None` where that line is no longer there.
    pub began: Option<Timestamp>,
    /// When the BE was complete again; `None` if it never was, by this operation.
    pub ended: Option<Timestamp>,
    /// Who did it.
    #[serde(flatten)]
    pub deed: Deed,
}

/// What this process does, which every line says that it writes.
static DEED: Mutex<Option<Deed>> = Mutex::new(None);

/// Notes what this process does from now on. Its plan was confirmed.
pub fn note(title: &str, log: Option<&Path>) {
    let deed = Deed {
        title: title.to_owned(),
        by: user(),
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        log: log.map(Path::to_owned),
    };
    *DEED.lock().unwrap_or_else(PoisonError::into_inner) = Some(deed);
}

/// Writes a line into the BE mounted at `root`. That it cannot be written, on a full disk, is no
/// reason against the operation.
pub(super) fn add(root: &RootDir, operation: Operation, state: State) {
    let deed = DEED.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_default();
    let line = Line { at: Timestamp::now(), state, operation, deed };
    // What a block copy brought along is another BE's.
    let is_new = (operation, state) == (Operation::Create, State::Incomplete);
    if let Err(why) = append(root, &line, is_new) {
        log::warn!("{HISTORY_PATH}: {why}");
    }
}

fn append(root: &RootDir, line: &Line, is_new: bool) -> Result<()> {
    let before = match is_new {
        true => None,
        false => match root.read_at_most(HISTORY_PATH, MOST_BYTES) {
            // One that is too large is not Lifeboat's. One that cannot be read is left as it is.
            Err(Error::Format { .. }) => None,
            read => read?,
        },
    };
    let before = String::from_utf8_lossy(&before.unwrap_or_default()).into_owned();
    let kept: Vec<&str> = before.lines().collect();
    let kept = &kept[kept.len().saturating_sub(MOST_LINES - 1)..];
    let line = serde_json::to_string(line).doing(|| "writing a history".into())?;
    let text = kept.iter().map(|line| format!("{line}\n")).collect::<String>() + &line + "\n";
    root.write(HISTORY_PATH, text.as_bytes(), 0o644)
}

/// What was done to the BE mounted at `root`, the oldest first.
///
/// # Errors
/// The file cannot be read, or is too large to be one of Lifeboat's.
pub fn read(root: &RootDir) -> Result<Vec<Done>> {
    Ok(parse(&root.read_at_most(HISTORY_PATH, MOST_BYTES)?.unwrap_or_default()))
}

/// The operations in a file. A line that is none is passed over.
pub fn parse(text: &[u8]) -> Vec<Done> {
    let mut all: Vec<Done> = Vec::new();
    for line in text.split(|byte| *byte == b'\n').take(MOST_LINES) {
        let Ok(Line { at, state, operation, deed }) = serde_json::from_slice(line) else {
            continue;
        };
        let ends = |last: &&mut Done| last.ended.is_none() && last.operation == operation;
        match (state, all.last_mut().filter(ends)) {
            (State::Complete, Some(last)) => last.ended = Some(at),
            (State::Complete, None) => {
                all.push(Done { operation, began: None, ended: Some(at), deed });
            }
            (State::Incomplete, _) => {
                all.push(Done { operation, began: Some(at), ended: None, deed });
            }
        }
    }
    all
}

/// Who gives the commands: the user who became root, where that is known (sudo(8), pam_loginuid(8)).
fn user() -> String {
    if let Ok(user) = std::env::var("SUDO_USER") {
        return format!("{user} (sudo)");
    }
    let login = std::fs::read_to_string("/proc/self/loginuid").unwrap_or_default();
    match login.trim().parse::<u32>() {
        Ok(id) if id != u32::MAX => name_of(id).unwrap_or_else(|| format!("user {id}")),
        // A service, or a system without that.
        _ => "root".into(),
    }
}

/// The name of a user (passwd(5)).
fn name_of(id: u32) -> Option<String> {
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == id.to_string()).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Descriptor;

    #[test]
    fn every_operation_is_in_the_history_and_one_that_was_interrupted_has_no_end() {
        let directory = tempfile::tempdir().unwrap();
        let root = RootDir::open(directory.path()).unwrap();
        assert_eq!(read(&root).unwrap(), []);
        root.write(HISTORY_PATH, b"{\"of\": \"the source\"}\n", 0o644).unwrap();
        let mut descriptor = Descriptor::new("second".parse().unwrap(), None);
        descriptor.begin(Operation::Create, &root).unwrap();
        descriptor.complete(&root).unwrap();
        descriptor.begin(Operation::Upgrade, &root).unwrap();
        descriptor.begin(Operation::Upgrade, &root).unwrap();
        descriptor.complete_as_it_is(&root).unwrap();
        let found = read(&root).unwrap();
        let seen: Vec<_> =
            found.iter().map(|d| (d.operation, d.began.is_some(), d.ended.is_some())).collect();
        assert_eq!(
            seen,
            [
                (Operation::Create, true, true),
                (Operation::Upgrade, true, false),
                (Operation::Upgrade, true, true)
            ]
        );
        let text = root.text(HISTORY_PATH).unwrap().unwrap();
        assert!(!text.contains("the source"), "{text}");
        // Gone on with, it is there twice; what changed nothing has no end.
        descriptor.begin(Operation::Refresh, &root).unwrap();
        let began = descriptor.began;
        descriptor.go_on(&root).unwrap();
        assert_eq!(Descriptor::load(&root).unwrap().unwrap().began, began);
        descriptor.complete(&root).unwrap();
        descriptor.begin(Operation::Run, &root).unwrap();
        descriptor.withdraw(&root).unwrap();
        assert_eq!(Descriptor::load(&root).unwrap().unwrap().state, State::Complete);
        let ended: Vec<_> = read(&root).unwrap()[3..].iter().map(|d| d.ended.is_some()).collect();
        assert_eq!(ended, [false, true, false]);
    }

    #[test]
    fn the_newest_lines_are_kept_and_garbage_is_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let root = RootDir::open(directory.path()).unwrap();
        root.write(HISTORY_PATH, "x\n".repeat(2 * MOST_LINES).as_bytes(), 0o644).unwrap();
        add(&root, Operation::Refresh, State::Complete);
        let text = root.text(HISTORY_PATH).unwrap().unwrap();
        assert_eq!(text.lines().count(), MOST_LINES);
        assert_eq!(read(&root).unwrap().len(), 1);
        let last = text.lines().last().unwrap();
        assert_eq!(parse(&[b"\xff\xfe not text\n", last.as_bytes()].concat()).len(), 1);
        // One that is too large is not Lifeboat's.
        root.write(HISTORY_PATH, &vec![b'x'; (MOST_BYTES + 1) as usize], 0o644).unwrap();
        read(&root).unwrap_err();
        add(&root, Operation::Refresh, State::Complete);
        assert_eq!(read(&root).unwrap().len(), 1);
    }
}
