//! The files of accounts (passwd(5), group(5), shadow(5), gshadow(5), subuid(5)), merged line by
//! line: packages add accounts in one BE while people are added in the other.

use std::collections::{BTreeMap, BTreeSet};

/// The files that are merged, relative to the root.
pub(super) const FILES: [&str; 6] =
    ["etc/passwd", "etc/group", "etc/shadow", "etc/gshadow", "etc/subuid", "etc/subgid"];

/// The files whose third field is a number that belongs to one name only.
const NUMBERED: [&str; 2] = ["etc/passwd", "etc/group"];

/// A merged file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Its text.
    pub text: String,
    /// The names whose line stays, although the other BE has another one.
    pub kept: Vec<String>,
}

/// The lines of a file by the name in them, and the names in order.
struct Lines<'a> {
    names: Vec<&'a str>,
    lines: BTreeMap<&'a str, &'a str>,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        let (mut names, mut lines) = (Vec::new(), BTreeMap::new());
        for line in text.split('\n').filter(|line| !line.is_empty()) {
            let name = line.split(':').next().unwrap_or(line);
            // Only the first line of a name counts, as for getpwnam(3).
            if let std::collections::btree_map::Entry::Vacant(place) = lines.entry(name) {
                place.insert(line);
                names.push(name);
            }
        }
        Lines { names, lines }
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.lines.get(name).copied()
    }
}

fn number(line: &str) -> Option<&str> {
    line.split(':').nth(2)
}

/// Merges the file of the other BE into this one's. `base` is what both had.
pub fn merge(file: &str, base: &str, other: &str, own: &str) -> Merged {
    let (base, other, own) = (Lines::of(base), Lines::of(other), Lines::of(own));
    let is_numbered = NUMBERED.contains(&file);
    let (mut merged, mut kept) = (Vec::new(), Vec::new());
    for name in &own.names {
        let (b, o, w) = (base.get(name), other.get(name), own.get(name));
        let line = match () {
            () if b == o || o == w => w,
            () if b == w => o,
            () => {
                kept.push((*name).to_owned());
                w
            }
        };
        merged.extend(line);
    }
    let mut numbers: BTreeSet<&str> = merged.iter().copied().filter_map(number).collect();
    for name in other.names.iter().filter(|name| own.get(name).is_none()) {
        let Some(line) = other.get(name) else { continue };
        match (base.get(name), number(line)) {
            // It was removed here.
            (Some(before), _) if before == line => {}
            (Some(_), _) => kept.push((*name).to_owned()),
            // A package has taken the number here.
            (None, Some(number)) if is_numbered && !numbers.insert(number) => {
                kept.push((*name).to_owned());
            }
            (None, _) => merged.push(line),
        }
    }
    let mut text = merged.join("\n");
    text.push_str(if text.is_empty() { "" } else { "\n" });
    Merged { text, kept }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n\
        gone:x:1001:1001::/:/bin/sh\n";

    #[test]
    fn an_account_of_either_side_is_there_afterwards() {
        let other = format!("{BASE}bob:x:1002:1002::/home/bob:/bin/sh\n")
            .replace("alice:/bin/sh", "alice:/bin/bash");
        let own = format!("{BASE}_apt2:x:101:65534::/:/nologin\n");
        let merged = merge("etc/passwd", BASE, &other, &own);
        assert_eq!(merged.kept, Vec::<String>::new());
        assert_eq!(
            merged.text,
            "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/bash\n\
            gone:x:1001:1001::/:/bin/sh\n_apt2:x:101:65534::/:/nologin\n\
            bob:x:1002:1002::/home/bob:/bin/sh\n"
        );
        // Doing it again changes nothing.
        assert_eq!(merge("etc/passwd", BASE, &other, &merged.text), merged);
    }

    #[test]
    fn what_was_removed_on_one_side_is_removed() {
        let without = BASE.replace("gone:x:1001:1001::/:/bin/sh\n", "");
        assert_eq!(merge("etc/passwd", BASE, &without, BASE).text, without);
        assert_eq!(merge("etc/passwd", BASE, BASE, &without).text, without);
    }

    #[test]
    fn what_both_sides_changed_stays_and_is_named() {
        let other = BASE.replace("alice:/bin/sh", "alice:/bin/zsh");
        let own = BASE.replace("alice:/bin/sh", "alice:/bin/bash");
        let merged = merge("etc/passwd", BASE, &other, &own);
        assert_eq!((merged.text, merged.kept), (own, vec!["alice".to_owned()]));
        // A package and a person were given one number.
        let other = format!("{BASE}backup:x:998:998::/:/bin/sh\n");
        let own = format!("{BASE}systemd-x:x:998:998::/:/nologin\n");
        let merged = merge("etc/passwd", BASE, &other, &own);
        assert_eq!((merged.text, merged.kept), (own, vec!["backup".to_owned()]));
    }
}
