//! What becomes of an entry of the sources, whatever its form.

use crate::error::{Error, Result};

/// The releases, oldest first, with their numbers. One cannot be skipped.
const RELEASES: [(&str, &str); 6] = [
    ("buster", "10"),
    ("bullseye", "11"),
    ("bookworm", "12"),
    ("trixie", "13"),
    ("forky", "14"),
    ("duke", "15"),
];

/// Since this release, firmware is in a component of its own.
const FIRST_WITH_FIRMWARE: &str = "bookworm";

const COMPONENTS: [&str; 4] = ["main", "contrib", "non-free", "non-free-firmware"];

/// From which release to which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rewriting {
    from: &'static str,
    pub(super) to: &'static str,
    /// Whether non-free had the firmware that has a component of its own now.
    adds_firmware: bool,
}

/// What a file of sources becomes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rewritten {
    pub(super) text: String,
    pub(super) notes: Vec<String>,
    /// Whether an entry of Debian's own archives is among them.
    pub(super) has_debian: bool,
}

/// One entry of either form.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub(super) uris: &'a [&'a str],
    pub(super) suites: &'a [&'a str],
    pub(super) components: &'a [&'a str],
    pub(super) signed_by: &'a str,
}

/// What becomes of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It has these suites and components. What was left out or added is in the notes.
    Becomes { suites: Vec<String>, components: Vec<String>, notes: Vec<String> },
    /// It is switched off.
    SwitchedOff,
}

impl Rewriting {
    pub(super) fn between(from: &str, to: &str) -> Result<Self> {
        let index = |name: &str| RELEASES.iter().position(|(n, v)| *n == name || *v == name);
        let known = || RELEASES.map(|(name, _)| name).join(", ");
        let Some(to) = index(to) else {
            return Err(Error::Usage(format!(
                "'{to}' is not a release of Debian that be knows: {}",
                known()
            )));
        };
        let Some(from) = index(from) else {
            return Err(Error::Usage(format!(
                "it is '{from}', which is not a release of Debian that be knows: {}",
                known()
            )));
        };
        let firmware = index(FIRST_WITH_FIRMWARE).unwrap_or_default();
        if from != to && from + 1 != to {
            let next = RELEASES.get(from + 1).map_or("", |(name, _)| name);
            return Err(Error::Usage(format!(
                "Debian is upgraded one release at a time: from {} to {next}",
                RELEASES[from].0
            )));
        }
        Ok(Rewriting {
            from: RELEASES[from].0,
            to: RELEASES[to].0,
            adds_firmware: from < firmware && to >= firmware,
        })
    }

    pub(super) fn fate(&self, entry: &Entry<'_>) -> Fate {
        if !self.is_debian(entry) {
            return Fate::SwitchedOff;
        }
        let (mut suites, mut notes) = (Vec::new(), Vec::new());
        for suite in entry.suites {
            match self.suite(suite) {
                Some(new) => suites.push(new),
                None => notes.push(format!("{suite} is left out")),
            }
        }
        if suites.is_empty() {
            return Fate::SwitchedOff;
        }
        let mut components: Vec<String> = entry.components.iter().map(|&c| c.into()).collect();
        let has = |name: &str| entry.components.contains(&name);
        if self.adds_firmware && has("non-free") && !has("non-free-firmware") {
            components.push("non-free-firmware".into());
            notes.push("non-free-firmware is added, which has the firmware of non-free".into());
        }
        Fate::Becomes { suites, components, notes }
    }

    /// Whether an entry is one of Debian's own archives, or of a mirror: by its key, or by the name
    /// of its directory. Its suites and components must be Debian's too.
    fn is_debian(&self, entry: &Entry<'_>) -> bool {
        let is_archive = |uri: &str| {
            let last = uri.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            let last = last.strip_suffix(".list").unwrap_or(last);
            last == "debian" || last.starts_with("debian-")
        };
        // A key that is named and is another one decides: others have a directory `debian`, too.
        let is_from_debian = match entry.signed_by {
            "" => entry.uris.iter().all(|uri| is_archive(uri)),
            key => key.contains("debian-archive-"),
        };
        let is_ours = |suite: &&str| self.parts(suite).is_some();
        is_from_debian
            && !entry.components.is_empty()
            && entry.components.iter().all(|c| COMPONENTS.contains(c))
            && entry.suites.iter().all(is_ours)
    }

    /// What follows the release's name in a suite: ``, `-updates`, `/updates`.
    fn parts<'a>(&self, suite: &'a str) -> Option<&'a str> {
        let names = [self.from, self.to, "stable", "oldstable", "oldoldstable"];
        let rest = names.iter().find_map(|name| suite.strip_prefix(name))?;
        (rest.is_empty() || rest.starts_with(['-', '/'])).then_some(rest)
    }

    /// The suite of the new release. None for backports and proposed updates, which are for the old
    /// one.
    fn suite(&self, suite: &str) -> Option<String> {
        match self.parts(suite)? {
            "" => Some(self.to.to_owned()),
            "/updates" | "-security" => Some(format!("{}-security", self.to)),
            rest @ ("-updates" | "-debug" | "-updates-debug" | "-security-debug") => {
                Some(format!("{}{rest}", self.to))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_release_at_a_time_and_only_those_that_are_known() {
        let between = |from, to| Rewriting::between(from, to).map(|r| r.to);
        assert_eq!(between("bookworm", "trixie").unwrap(), "trixie");
        assert_eq!(between("bookworm", "13").unwrap(), "trixie");
        assert_eq!(between("trixie", "trixie").unwrap(), "trixie", "after an interruption");
        for (from, to, why) in [
            ("bullseye", "trixie", "from bullseye to bookworm"),
            ("trixie", "bookworm", "one release at a time"),
            ("bookworm", "sarge", "'sarge' is not"),
            ("", "trixie", "it is ''"),
        ] {
            let error = between(from, to).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
