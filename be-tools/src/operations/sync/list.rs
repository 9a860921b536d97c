//! `/etc/lifeboat/sync.list`: what a BE takes over at its first start, in the format of Live
//! Upgrade's synclist(4): a path and a word in each line.

use std::path::{Component, Path, PathBuf};

/// Where a BE keeps it, relative to its root.
pub(super) const LIST_PATH: &str = "etc/lifeboat/sync.list";

/// What is taken over if there is no list: accounts, mail, cron, and logs.
pub(super) const DEFAULT: &str = "\
/etc/passwd OVERWRITE
/etc/group OVERWRITE
/etc/shadow OVERWRITE
/etc/gshadow OVERWRITE
/etc/subuid OVERWRITE
/etc/subgid OVERWRITE
/var/mail OVERWRITE
/var/spool/cron OVERWRITE
/var/log/syslog APPEND
/var/log/messages APPEND
/var/log/auth.log APPEND
/var/log/secure APPEND
/var/log/mail.log APPEND
/var/log/maillog APPEND
/var/log/cron.log APPEND
/var/log/wtmp APPEND
/var/log/btmp APPEND
";

/// The most lines of a list.
const MAX_LINES: usize = 1000;

/// How a file is taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// It becomes that of the other BE.
    Overwrite,
    /// What the other BE has more comes after it.
    Append,
    /// What the other BE has more comes before it.
    Prepend,
}

/// A line of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// A file or a directory, with all files below it, from the root.
    pub path: PathBuf,
    /// How.
    pub manner: Manner,
}

/// Reads a list. Returns what it says, and sentences about lines that say nothing.
pub fn parse(text: &str) -> (Vec<Item>, Vec<String>) {
    let (mut items, mut wrong) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().take(MAX_LINES).enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        match item(line) {
            Some(item) => items.push(item),
            None => wrong.push(format!(
                "line {} of /{LIST_PATH} is not a path and OVERWRITE, APPEND or PREPEND",
                index + 1
            )),
        }
    }
    (items, wrong)
}

fn item(line: &str) -> Option<Item> {
    let mut words = line.split_whitespace();
    let path = PathBuf::from(words.next()?);
    // As in Live Upgrade.
    let manner = match words.next().unwrap_or("OVERWRITE") {
        "OVERWRITE" => Manner::Overwrite,
        "APPEND" => Manner::Append,
        "PREPEND" => Manner::Prepend,
        _ => return None,
    };
    let is_plain = |component| matches!(component, Component::RootDir | Component::Normal(_));
    let is_path = path.is_absolute() && path != Path::new("/") && path.components().all(is_plain);
    (is_path && words.next().is_none()).then_some(Item { path, manner })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_path_and_a_word() {
        let item = |path: &str, manner| Item { path: path.into(), manner };
        let text =
            "# comment\n\n/etc/passwd OVERWRITE\n/var/log/x\tAPPEND # more\n/a PREPEND\n/b\n";
        assert_eq!(
            parse(text),
            (
                vec![
                    item("/etc/passwd", Manner::Overwrite),
                    item("/var/log/x", Manner::Append),
                    item("/a", Manner::Prepend),
                    item("/b", Manner::Overwrite),
                ],
                Vec::new()
            )
        );
        for line in
            ["etc/passwd APPEND", "/ OVERWRITE", "/a/../b APPEND", "/a append", "/a APPEND x"]
        {
            let (items, wrong) = parse(line);
            assert!(items.is_empty() && wrong.len() == 1, "{line}");
        }
        let (items, wrong) = parse(DEFAULT);
        assert!(items.len() == DEFAULT.lines().count() && wrong.is_empty());
    }
}
