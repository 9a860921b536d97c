//! A file with a name at the beginning of each line.

use std::collections::{BTreeMap, BTreeSet};

/// How many fields a line has.
const FIELDS: [(&str, usize); 6] = [
    ("etc/passwd", 7),
    ("etc/group", 4),
    ("etc/shadow", 9),
    ("etc/gshadow", 4),
    ("etc/subuid", 3),
    ("etc/subgid", 3),
];

/// The lines of a file by the name in them. One that is not of the file's form has no name, such as
/// those for NIS (nsswitch.conf(5), "Compatibility mode").
pub(super) struct Table<'a> {
    /// All lines in order, with their names.
    all: Vec<(Option<&'a str>, &'a str)>,
    by_name: BTreeMap<&'a str, Vec<&'a str>>,
}

impl<'a> Table<'a> {
    pub(super) fn of(file: &str, text: &'a str) -> Self {
        let fields = FIELDS.iter().find(|(name, _)| *name == file).map_or(0, |(_, count)| *count);
        let mut table = Table { all: Vec::new(), by_name: BTreeMap::new() };
        for line in text.split('\n').filter(|line| !line.is_empty()) {
            let name = line.split(':').next().filter(|name| {
                !name.is_empty()
                    && !name.starts_with(['+', '-', '#'])
                    && line.split(':').count() == fields
            });
            table.all.push((name, line));
            if let Some(name) = name {
                table.by_name.entry(name).or_default().push(line);
            }
        }
        table
    }

    /// The lines of a name. In most files only the first one counts, as for getpwnam(3).
    pub(super) fn lines(&self, name: &str) -> &[&'a str] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    /// The names, in the order of their first lines.
    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> + '_ {
        let mut seen = BTreeSet::new();
        self.all.iter().filter_map(|(name, _)| *name).filter(move |name| seen.insert(*name))
    }

    /// The text in which these names have these lines. New ones come at the end, before what is for
    /// NIS.
    pub(super) fn with(&self, changed: &BTreeMap<&str, &[String]>) -> String {
        let mut written = BTreeSet::new();
        let mut lines: Vec<&str> = Vec::new();
        for (name, line) in &self.all {
            match name.and_then(|name| Some((name, changed.get(name)?))) {
                None => lines.push(line),
                Some((name, new)) if written.insert(name) => {
                    lines.extend(new.iter().map(String::as_str));
                }
                Some(_) => {}
            }
        }
        let new = changed.iter().filter(|(name, _)| self.lines(name).is_empty());
        let new: Vec<&str> = new.flat_map(|(_, new)| new.iter()).map(String::as_str).collect();
        let end = lines.iter().position(|line| line.starts_with('+')).unwrap_or(lines.len());
        lines.splice(end..end, new);
        let mut text = lines.join("\n");
        text.push_str(if text.is_empty() { "" } else { "\n" });
        text
    }
}
