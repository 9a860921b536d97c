//! What is never copied (docs/design.md, "Copying"), and what the user leaves out.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::glob::Glob;

/// Directories that every boot fills again: kept with their attributes, but without their contents.
const EMPTY: [&[u8]; 5] = [b"/proc", b"/sys", b"/dev", b"/run", b"/tmp"];

/// Paths that are left out altogether.
const NEVER: [&[u8]; 5] = [
    b"/etc/lifeboat/environment.toml",
    b"/etc/lifeboat/history.jsonl",
    b"/boot/grub/grubenv",
    b"/var/log/lifeboat",
    b"/var/lib/lifeboat",
];

/// What the user leaves out, as globs on paths as the BE sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// What is not copied.
    pub exclude: Vec<String>,
    /// What is copied although `exclude` matches it.
    pub include: Vec<String>,
}

impl Selection {
    pub(crate) fn is_empty(&self) -> bool {
        self.exclude.is_empty() && self.include.is_empty()
    }
}

/// What the rules say of one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The path is copied, and each entry below it is judged by itself.
    Copy,
    /// The directory is created with its attributes and stays empty.
    DirectoryOnly,
    /// Neither the path nor anything below it is copied.
    Skip,
    /// The path is left out, but something below it may be included.
    DescendOnly,
}

/// The rules of one copy. Paths are absolute paths in the boot environment, whichever file system
/// they are on.
#[derive(Clone, Debug, Default)]
pub struct Exclude {
    skip: Vec<Vec<u8>>,
    empty: Vec<Vec<u8>>,
    exclude: Vec<Glob>,
    include: Vec<Glob>,
}

impl Exclude {
    /// The rules of docs/design.md, "Copying".
    pub fn standard() -> Self {
        Exclude {
            skip: NEVER.iter().map(|p| p.to_vec()).collect(),
            empty: EMPTY.iter().map(|p| p.to_vec()).collect(),
            ..Exclude::default()
        }
    }

    /// As [`Exclude::standard`], and without what is written to past the file system: what changes
    /// in it would look like damage.
    pub fn of_manifests() -> Self {
        Self::standard().never("/boot/grub2/grubenv".as_ref())
    }

    /// No rules: only `lost+found` at the root of a file system is left out, by the walk itself.
    pub fn nothing() -> Self {
        Exclude::default()
    }

    /// Adds a path that is left out whatever the user includes, such as a swap file.
    pub fn never(mut self, path: &Path) -> Self {
        self.skip.push(path.as_os_str().as_bytes().to_vec());
        self
    }

    /// Adds a directory that is kept without its contents, such as a mount point.
    pub fn only_directory(mut self, path: &Path) -> Self {
        self.empty.push(path.as_os_str().as_bytes().to_vec());
        self
    }

    /// Leaves out the swap files in use, given the text of /proc/swaps.
    pub fn swap_files(self, proc_swaps: &str) -> Self {
        swap_files(proc_swaps).iter().fold(self, |rules, file| rules.never(file))
    }

    /// Adds `--exclude GLOB`: leaves out what matches, and everything below it.
    pub fn exclude(mut self, pattern: &OsStr) -> Self {
        self.exclude.push(Glob::new(pattern.as_bytes()));
        self
    }

    /// Adds `--include GLOB`: copies what matches and everything below it, although an `--exclude`
    /// matches too.
    pub fn include(mut self, pattern: &OsStr) -> Self {
        self.include.push(Glob::new(pattern.as_bytes()));
        self
    }

    /// Whether `--include` names this path, and not only something above or below it.
    pub fn is_included(&self, path: &[u8]) -> bool {
        self.include.iter().any(|glob| glob.matches(path))
    }

    /// The paths that are left out by name, whatever the user includes.
    pub(crate) fn skipped(&self) -> impl Iterator<Item = &[u8]> {
        self.skip.iter().map(Vec::as_slice)
    }

    /// The directories that are kept without their contents.
    pub(crate) fn emptied(&self) -> impl Iterator<Item = &[u8]> {
        self.empty.iter().map(Vec::as_slice)
    }

    /// Judges the root of a file system by its mount point. The directory itself is always kept.
    pub fn verdict_of_mount_point(&self, path: &[u8]) -> Verdict {
        let mut verdict = Verdict::Copy;
        for end in (1..=path.len())
            .filter(|end| path.get(*end).is_none_or(|b| *b == b'/') && path.len() > 1)
        {
            verdict = match self.verdict(&path[..end], verdict) {
                Verdict::Skip => return Verdict::DirectoryOnly,
                deeper => deeper,
            };
        }
        verdict
    }

    /// Judges a path whose parent directory's verdict is known.
    pub fn verdict(&self, path: &[u8], parent: Verdict) -> Verdict {
        if parent == Verdict::DirectoryOnly || self.skip.iter().any(|p| p == path) {
            return Verdict::Skip;
        }
        if self.empty.iter().any(|p| p == path) {
            return Verdict::DirectoryOnly;
        }
        let left_out =
            parent == Verdict::DescendOnly || self.exclude.iter().any(|g| g.matches(path));
        if !left_out || self.include.iter().any(|g| g.matches(path)) {
            Verdict::Copy
        } else if self.include.iter().any(|g| g.reaches_below(path)) {
            Verdict::DescendOnly
        } else {
            Verdict::Skip
        }
    }
}

/// The swap files, but not the partitions, that /proc/swaps lists. It escapes white space in octal,
/// such as `\040`.
fn swap_files(proc_swaps: &str) -> Vec<PathBuf> {
    let kind_is_file = |line: &&str| line.split_whitespace().nth(1) == Some("file");
    let lines = proc_swaps.lines().skip(1).filter(kind_is_file);
    lines.filter_map(|line| line.split_whitespace().next()).map(unescape_octal).collect()
}

fn unescape_octal(word: &str) -> PathBuf {
    PathBuf::from(OsString::from_vec(crate::octal::unescape(word.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_rules_are_those_of_the_design_document() {
        let rules = Exclude::standard();
        for (path, expected) in [
            ("/etc/fstab", Verdict::Copy),
            ("/proc", Verdict::DirectoryOnly),
            ("/tmp", Verdict::DirectoryOnly),
            ("/var/tmp", Verdict::Copy),
            ("/etc/lifeboat/environment.toml", Verdict::Skip),
            ("/etc/lifeboat/sync.list", Verdict::Copy),
            ("/boot/grub/grubenv", Verdict::Skip),
            ("/var/log/lifeboat", Verdict::Skip),
        ] {
            assert_eq!(rules.verdict(path.as_bytes(), Verdict::Copy), expected, "{path}");
        }
        assert_eq!(rules.verdict(b"/run/lock", Verdict::DirectoryOnly), Verdict::Skip);
    }

    #[test]
    fn include_overrides_exclude_but_not_the_standard_rules() {
        let rules = Exclude::standard()
            .exclude(OsStr::new("/var/log"))
            .exclude(OsStr::new("**/*.iso"))
            .include(OsStr::new("/var/log/apt"))
            .include(OsStr::new("/proc/*"));
        let log = rules.verdict(b"/var/log", Verdict::Copy);
        assert_eq!(log, Verdict::DescendOnly);
        assert_eq!(rules.verdict(b"/var/log/syslog", log), Verdict::Skip);
        let apt = rules.verdict(b"/var/log/apt", log);
        assert_eq!(apt, Verdict::Copy);
        assert_eq!(rules.verdict(b"/var/log/apt/history.log", apt), Verdict::Copy);
        assert_eq!(rules.verdict(b"/srv/debian.iso", Verdict::Copy), Verdict::Skip);
        assert_eq!(
            rules.verdict(b"/proc/1", rules.verdict(b"/proc", Verdict::Copy)),
            Verdict::Skip
        );
    }

    #[test]
    fn a_file_system_is_judged_by_its_mount_point() {
        let rules =
            Exclude::standard().exclude(OsStr::new("/srv")).include(OsStr::new("/srv/keep"));
        for (path, expected) in [
            ("/", Verdict::Copy),
            ("/boot", Verdict::Copy),
            ("/tmp", Verdict::DirectoryOnly),
            ("/run/user", Verdict::DirectoryOnly),
            ("/srv", Verdict::DescendOnly),
            ("/srv/data", Verdict::DirectoryOnly),
            ("/srv/keep/data", Verdict::Copy),
        ] {
            assert_eq!(rules.verdict_of_mount_point(path.as_bytes()), expected, "{path}");
        }
    }

    #[test]
    fn swap_files_are_left_out_and_swap_partitions_are_ignored() {
        let text = "\
Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority
/dev/vda3                               partition\t1046524\t\t0\t\t-2
/swap\\040file                           file\t\t524284\t\t0\t\t-3
";
        assert_eq!(swap_files(text), [PathBuf::from("/swap file")]);
        let rules = Exclude::nothing().swap_files(text);
        assert_eq!(rules.verdict(b"/swap file", Verdict::Copy), Verdict::Skip);
    }
}
