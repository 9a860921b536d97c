//! What a package manager says while it works.

use std::collections::{BTreeSet, VecDeque};

use crate::distribution::package_manager::Event;

/// How many lines about something that was refused are kept.
const MAX_REFUSED: usize = 50;

/// How many names of one kind are kept.
const MAX_NAMES: usize = 10_000;

/// How many of the last lines are kept for an error message.
const MAX_LAST: usize = 5;

/// What a program prints that may not do something, in lower case: what strerror(3) says, and what
/// mount(8) does.
const REFUSED: [&str; 4] =
    ["read-only file system", "operation not permitted", "permission denied", "must be superuser"];

/// What a package manager has said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transcript {
    /// Configuration files that stay as the administrator changed them, although the package has a
    /// newer one.
    pub kept: BTreeSet<String>,
    /// Configuration files of the administrator that the package's have replaced.
    pub replaced: BTreeSet<String>,
    /// Lines about what the packages' scripts were not allowed to do, after the package that was
    /// worked on.
    pub refused: Vec<String>,
    /// How many more such lines there were.
    pub refused_more: usize,
    /// The packages that were removed.
    pub(in crate::operations) removed: BTreeSet<String>,
    /// The packages that are done.
    pub(super) done: BTreeSet<String>,
    /// What failed in packages' scripts although the package manager went on: the last thing that it
    /// said it was doing, and the error.
    pub failed: Vec<String>,
    /// The part of the download that is done, from 0 to 1.
    pub(super) downloaded: f64,
    /// The last line that says what it is doing.
    doing: String,
    package: String,
    configuration: Option<String>,
    last: VecDeque<String>,
}

impl Transcript {
    /// Takes in a line. Returns whether it says something to a person.
    pub(super) fn add(&mut self, line: &str, event: Option<Event<'_>>) -> bool {
        // "upgrading tool...", "(1/2) Updating the kernel images..."
        if let Some(doing) = line.trim().strip_suffix("...") {
            self.doing = doing.to_owned();
        }
        match event {
            None => {}
            Some(Event::Noise) => return false,
            Some(Event::Downloaded(part)) => {
                self.downloaded = part;
                return false;
            }
            Some(Event::Package(name)) => {
                self.package = name.to_owned();
                return false;
            }
            Some(Event::Done(name)) => {
                add_name(&mut self.done, Some(name.to_owned()));
                return false;
            }
            Some(Event::Removed(name)) => {
                add_name(&mut self.done, Some(name.to_owned()));
                add_name(&mut self.removed, Some(name.to_owned()));
                return false;
            }
            Some(Event::Configuration(path)) => self.configuration = Some(path.to_owned()),
            Some(Event::Failed) if self.failed.len() < MAX_REFUSED => {
                self.failed.push(format!("{}: {}", self.doing, line.trim()));
            }
            Some(Event::Failed) => {}
            Some(Event::KeptAt(path)) => add_name(&mut self.kept, Some(path.to_owned())),
            Some(Event::Kept) => add_name(&mut self.kept, self.configuration.take()),
            Some(Event::ReplacedAt(path)) => add_name(&mut self.replaced, Some(path.to_owned())),
            Some(Event::Replaced) => add_name(&mut self.replaced, self.configuration.take()),
        }
        let lower = line.to_lowercase();
        if REFUSED.iter().any(|words| lower.contains(words)) {
            if self.refused.len() < MAX_REFUSED {
                self.refused.push(format!("{}: {}", self.package, line.trim()));
            } else {
                self.refused_more += 1;
            }
        }
        if !line.trim().is_empty() {
            self.last.push_back(line.trim().to_owned());
            if self.last.len() > MAX_LAST {
                self.last.pop_front();
            }
        }
        true
    }

    /// The last lines.
    pub(super) fn last_words(&self) -> String {
        let last: Vec<&str> = self.last.iter().map(String::as_str).collect();
        if last.is_empty() { "it printed nothing".into() } else { last.join(" / ") }
    }
}

/// Adds a name, unless there are too many: a package manager may print anything.
fn add_name(names: &mut BTreeSet<String>, name: Option<String>) {
    if names.len() < MAX_NAMES {
        names.extend(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_replaced_or_refused_is_remembered_with_its_package() {
        let mut transcript = Transcript::default();
        for (line, event) in [
            ("pmstatus", Some(Event::Package("nginx"))),
            ("Configuration file '/etc/a'", Some(Event::Configuration("/etc/a"))),
            (" ==> Keeping", Some(Event::Kept)),
            ("Configuration file '/etc/b'", Some(Event::Configuration("/etc/b"))),
            (" ==> Using", Some(Event::Replaced)),
            (" ==> Using", Some(Event::Replaced)),
            ("rm: cannot remove '/home/x': Read-only file system", None),
            ("", None),
            ("pmstatus", Some(Event::Done("nginx"))),
            ("pmstatus", Some(Event::Removed("old"))),
        ] {
            assert_eq!(transcript.add(line, event), !line.starts_with("pmstatus"), "{line}");
        }
        assert_eq!(Vec::from_iter(&transcript.kept), ["/etc/a"]);
        assert_eq!(Vec::from_iter(&transcript.replaced), ["/etc/b"]);
        let expected = "nginx: rm: cannot remove '/home/x': Read-only file system";
        assert_eq!(transcript.refused, [expected]);
        assert_eq!(Vec::from_iter(&transcript.done), ["nginx", "old"]);
        assert_eq!(Vec::from_iter(&transcript.removed), ["old"]);
        assert!(
            transcript
                .last_words()
                .ends_with("/ rm: cannot remove '/home/x': Read-only file system")
        );
    }

    #[test]
    fn a_flood_of_refusals_is_counted() {
        let mut transcript = Transcript::default();
        for number in 0..MAX_REFUSED + 7 {
            transcript.add(&format!("{number}: Operation not permitted"), None);
        }
        assert_eq!((transcript.refused.len(), transcript.refused_more), (MAX_REFUSED, 7));
    }
}
