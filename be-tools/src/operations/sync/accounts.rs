//! The files of accounts (passwd(5), group(5), shadow(5), gshadow(5), subuid(5)), merged account by
//! account: packages add accounts in one BE while people are added in the other.
//!
//! An account comes with its lines in all of these files, or not at all: a line whose number belongs
//! to somebody else here would make that one's files its own.

mod table;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::RangeInclusive;

use table::Table;

pub(super) const PASSWD: &str = "etc/passwd";
pub(super) const GROUP: &str = "etc/group";
const SHADOW: &str = "etc/shadow";
const GSHADOW: &str = "etc/gshadow";
const SUBUID: &str = "etc/subuid";
const SUBGID: &str = "etc/subgid";

/// The files that are merged, relative to the root, in the order in which they are written: nothing
/// refers to what is not there yet.
pub const FILES: [&str; 6] = [GROUP, GSHADOW, PASSWD, SHADOW, SUBUID, SUBGID];

/// The numbers of people and their groups. All others are those of the system's accounts, which
/// packages add and remove (login.defs(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct People {
    users: RangeInclusive<u32>,
    groups: RangeInclusive<u32>,
}

impl People {
    /// As a file of login.defs(5) says.
    pub fn of(login_defs: &str) -> Self {
        let number = |name: &str, otherwise| {
            let mut values = login_defs.lines().filter_map(|line| {
                let mut words = line.split_whitespace();
                words.next().filter(|word| *word == name).and(words.next()?.parse().ok())
            });
            values.next().unwrap_or(otherwise)
        };
        People {
            users: number("UID_MIN", 1000)..=number("UID_MAX", 59_999),
            groups: number("GID_MIN", 1000)..=number("GID_MAX", 59_999),
        }
    }
}

/// The largest of them that is read, in bytes.
pub(super) const MAX_BYTES: u64 = 16 << 20;

/// The texts of the files by their paths. One that is missing is empty.
pub type Texts = BTreeMap<&'static str, String>;

/// The merged files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Their texts.
    pub texts: Texts,
    /// What both have from now on: what the other BE has, except of what stays.
    pub base: Texts,
    /// What stays as it is here although the other BE has it otherwise.
    pub kept: Vec<KeptLine>,
}

/// Lines that stay as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptLine {
    /// The file.
    pub file: &'static str,
    /// The account or group.
    pub name: String,
    /// Why, after its name.
    pub why: String,
}

/// Merges the accounts of the other BE into this one's. `base` is what both had.
///
/// # Errors
/// The files of the other BE are damaged: a sentence that says how.
pub fn merge(base: &Texts, other: &Texts, own: &Texts, people: &People) -> Result<Merged, String> {
    /// Each time but the last one, somebody has gone and made room.
    const MOST: usize = 8;
    let mut merged = merge_once(base, other, own, people)?;
    for _ in 0..MOST {
        let again = merge_once(base, other, &merged.texts, people)?;
        let is_done = again.texts == merged.texts;
        merged = again;
        if is_done {
            break;
        }
    }
    Ok(merged)
}

/// The same, where the number of somebody who goes is not free yet.
fn merge_once(base: &Texts, other: &Texts, own: &Texts, people: &People) -> Result<Merged, String> {
    let tables = |texts| FILES.map(|file| (file, Table::of(file, text(texts, file))));
    let [base, other, own] = [base, other, own].map(|texts| Accounts(tables(texts).into()));
    other.refuse_damage(&own)?;
    let (changed, kept) = (BTreeMap::new(), Vec::new());
    let mut merging = Merging { base, other, own, people, changed, kept };
    merging.groups();
    merging.people();
    merging.removed_groups();
    merging.refuse_strangers();
    let texts = FILES.map(|file| (file, merging.text(file)));
    let base = FILES.map(|file| (file, merging.next_base(file)));
    Ok(Merged { texts: texts.into(), base: base.into(), kept: merging.kept })
}

/// What the numbers of owners and groups mean in one BE.
pub(super) struct Owners([HashMap<u32, String>; 2]);

impl Owners {
    pub(super) fn of(texts: &Texts) -> Self {
        Owners([PASSWD, GROUP].map(|file| {
            let table = Table::of(file, text(texts, file));
            let mut names = HashMap::new();
            for name in table.names() {
                if let Some(number) = table.lines(name).first().and_then(|line| number(line, 2)) {
                    // The first one counts, as for getpwuid(3).
                    names.entry(number).or_insert_with(|| name.to_owned());
                }
            }
            names
        }))
    }

    /// Whether an owner and a group mean the same in another one.
    pub(super) fn agree(&self, other: &Owners, uid: u32, gid: u32) -> bool {
        let is_same =
            |index: usize, number| self.0[index].get(number) == other.0[index].get(number);
        is_same(0, &uid) && is_same(1, &gid)
    }
}

fn text<'a>(texts: &'a Texts, file: &str) -> &'a str {
    texts.get(file).map_or("", String::as_str)
}

/// The files of one BE.
struct Accounts<'a>(BTreeMap<&'static str, Table<'a>>);

impl<'a> Accounts<'a> {
    fn lines(&self, file: &str, name: &str) -> &[&'a str] {
        self.0.get(file).map_or(&[], |table| table.lines(name))
    }

    fn names(&self, file: &str) -> impl Iterator<Item = &'a str> + '_ {
        self.0.get(file).into_iter().flat_map(Table::names)
    }

    fn has(&self, file: &str, name: &str) -> bool {
        !self.lines(file, name).is_empty()
    }

    /// The number of an account or a group.
    fn number(&self, file: &str, name: &str) -> Option<u32> {
        self.lines(file, name).first().and_then(|line| number(line, 2))
    }

    fn group_with(&self, gid: u32) -> Option<&'a str> {
        self.names(GROUP).find(|name| self.number(GROUP, name) == Some(gid))
    }

    /// Refuses files that lack what every system has. An empty one would remove everybody.
    fn refuse_damage(&self, own: &Accounts) -> Result<(), String> {
        for (file, name) in [(PASSWD, "root"), (GROUP, "root"), (SHADOW, "root"), (GSHADOW, "root")]
        {
            if own.has(file, name) && !self.has(file, name) {
                return Err(format!("/{file} has no line of '{name}' there"));
            }
        }
        match self.number(PASSWD, "root") {
            Some(0) | None => Ok(()),
            Some(_) => Err(format!("'root' has another number than 0 in /{PASSWD} there")),
        }
    }
}

/// A number in a line, such as `0998`.
fn number(line: &str, field: usize) -> Option<u32> {
    line.split(':').nth(field)?.parse().ok()
}

/// What becomes of lines that two sides may have changed.
#[derive(PartialEq, Eq)]
enum Choice {
    Own,
    Other,
    Conflict,
}

fn three_way(base: &[&str], other: &[&str], own: &[&str]) -> Choice {
    match () {
        // What is missing in one of the files there is not removed from it here.
        () if base == other || own == other || other.is_empty() => Choice::Own,
        () if base == own => Choice::Other,
        () => Choice::Conflict,
    }
}

struct Merging<'a> {
    base: Accounts<'a>,
    other: Accounts<'a>,
    own: Accounts<'a>,
    people: &'a People,
    /// The lines that a name has in a file from now on.
    changed: BTreeMap<(&'static str, &'a str), Vec<String>>,
    kept: Vec<KeptLine>,
}

impl<'a> Merging<'a> {
    fn keep(&mut self, file: &'static str, name: &str, why: &str) {
        self.kept.push(KeptLine { file, name: name.to_owned(), why: why.to_owned() });
    }

    fn take(&mut self, file: &'static str, name: &'a str) {
        let lines = self.other.lines(file, name).iter().map(|line| (*line).to_owned()).collect();
        self.changed.insert((file, name), lines);
    }

    fn remove(&mut self, file: &'static str, name: &'a str) {
        if self.own.has(file, name) {
            self.changed.insert((file, name), Vec::new());
        }
    }

    /// The lines that a name has here now.
    fn lines(&self, file: &'static str, name: &'a str) -> Vec<&str> {
        match self.changed.get(&(file, name)) {
            Some(lines) => lines.iter().map(String::as_str).collect(),
            None => self.own.lines(file, name).to_vec(),
        }
    }

    fn names(&self, file: &'static str) -> BTreeSet<&'a str> {
        let added = self.changed.keys().filter(|(of, _)| *of == file).map(|(_, name)| *name);
        self.own.names(file).chain(added).collect()
    }

    /// The name that has a number here now.
    fn holder(&self, file: &'static str, wanted: u32) -> Option<&'a str> {
        let has = |name: &&'a str| {
            self.lines(file, name).first().and_then(|line| number(line, 2)) == Some(wanted)
        };
        self.names(file).into_iter().find(has)
    }

    /// Decides about a line that both sides have.
    fn decide(&mut self, file: &'static str, name: &'a str) {
        let lines =
            [&self.base, &self.other, &self.own].map(|side| side.lines(file, name).to_vec());
        match three_way(&lines[0], &lines[1], &lines[2]) {
            Choice::Own => {}
            Choice::Other => self.take(file, name),
            Choice::Conflict => self.keep(file, name, "was changed in both"),
        }
    }

    fn groups(&mut self) {
        for name in self.other.names(GROUP).collect::<Vec<_>>() {
            let Some(gid) = self.other.number(GROUP, name) else { continue };
            if self.own.has(GROUP, name) {
                if self.own.number(GROUP, name) != Some(gid) {
                    self.keep(GROUP, name, "has another number there");
                    continue;
                }
                match self.members(name) {
                    Some(line) => {
                        self.changed.insert((GROUP, name), vec![line]);
                    }
                    None => self.decide(GROUP, name),
                }
                self.decide(GSHADOW, name);
            } else if self.base.has(GROUP, name) {
                if self.base.lines(GROUP, name) != self.other.lines(GROUP, name) {
                    self.keep(GROUP, name, "was removed here, and changed there");
                }
            } else if let Some(holder) = self.holder(GROUP, gid) {
                self.keep(
                    GROUP,
                    name,
                    &format!("has the number {gid} there, which '{holder}' has here"),
                );
            } else {
                self.take(GROUP, name);
                self.take(GSHADOW, name);
            }
        }
    }

    /// The line of a group to which both sides have added members, or from which they removed some.
    fn members(&self, name: &str) -> Option<String> {
        let parts = |side: &Accounts<'a>| -> Option<(&'a str, BTreeSet<&'a str>)> {
            let (rest, members) = side.lines(GROUP, name).first()?.rsplit_once(':')?;
            Some((rest, members.split(',').filter(|member| !member.is_empty()).collect()))
        };
        let (base, other, own) = (parts(&self.base)?, parts(&self.other)?, parts(&self.own)?);
        if base.0 != other.0 || base.0 != own.0 || other.1 == base.1 || own.1 == base.1 {
            return None;
        }
        let stays = |member: &&&str| other.1.contains(**member) || !base.1.contains(**member);
        let members: BTreeSet<&str> = own.1.iter().filter(stays).copied().collect();
        let added = other.1.difference(&base.1).copied();
        let members: Vec<&str> =
            members.into_iter().chain(added).collect::<BTreeSet<_>>().into_iter().collect();
        Some(format!("{}:{}", own.0, members.join(",")))
    }

    fn people(&mut self) {
        let there: Vec<&'a str> = self.other.names(PASSWD).collect();
        for name in &there {
            if self.own.has(PASSWD, name) {
                self.changed_person(name);
            } else {
                self.new_person(name);
            }
        }
        for name in self.own.names(PASSWD).collect::<Vec<_>>() {
            if !there.contains(&name) {
                self.removed_person(name);
            }
        }
    }

    fn changed_person(&mut self, name: &'a str) {
        let uid = self.other.number(PASSWD, name);
        if uid.is_none() || uid != self.own.number(PASSWD, name) {
            return self.keep(PASSWD, name, "has another number there");
        }
        let line = |side: &Accounts<'a>| side.lines(PASSWD, name).first().copied();
        let group = |line: Option<&str>| line.and_then(|line| number(line, 3));
        if group(line(&self.other)) != group(line(&self.own)) && !self.is_same_group(name) {
            self.keep(PASSWD, name, "has a primary group there that is another one here");
        } else {
            self.decide(PASSWD, name);
        }
        self.decide(SHADOW, name);
        for file in [SUBUID, SUBGID] {
            if self.is_free(file, name) {
                self.decide(file, name);
            } else {
                self.keep(file, name, "has a range there that somebody else has here");
            }
        }
    }

    fn new_person(&mut self, name: &'a str) {
        let Some(uid) = self.other.number(PASSWD, name) else { return };
        if self.base.has(PASSWD, name) {
            if self.base.lines(PASSWD, name) != self.other.lines(PASSWD, name) {
                self.keep(PASSWD, name, "was removed here, and changed there");
            }
            return;
        }
        if let Some(holder) = self.holder(PASSWD, uid) {
            let why = format!("has the number {uid} there, which '{holder}' has here");
            return self.keep(PASSWD, name, &why);
        }
        if !self.is_same_group(name) {
            return self.keep(PASSWD, name, "has a primary group there that is another one here");
        }
        self.take(PASSWD, name);
        // A line that nobody has belonged to somebody of the same name.
        self.take(SHADOW, name);
        for file in [SUBUID, SUBGID] {
            if self.is_free(file, name) {
                self.take(file, name);
            } else {
                self.keep(file, name, "has a range there that somebody else has here");
            }
        }
    }

    fn removed_person(&mut self, name: &'a str) {
        if !self.base.has(PASSWD, name) {
            return;
        }
        // A package that was removed there is still installed here.
        let uid = self.own.number(PASSWD, name);
        if uid.is_none_or(|uid| !self.people.users.contains(&uid)) {
            return;
        }
        let is_unchanged = |file| self.own.lines(file, name) == self.base.lines(file, name);
        if self.other.has(SHADOW, name) {
            self.keep(PASSWD, name, "has a line in /etc/shadow there, and none in /etc/passwd");
        } else if is_unchanged(PASSWD) && is_unchanged(SHADOW) {
            [PASSWD, SHADOW, SUBUID, SUBGID].into_iter().for_each(|file| self.remove(file, name));
        } else {
            self.keep(PASSWD, name, "was removed there, and changed here");
        }
    }

    fn removed_groups(&mut self) {
        for name in self.own.names(GROUP).collect::<Vec<_>>() {
            let Some(gid) = self.own.number(GROUP, name) else { continue };
            let is_gone = self.base.has(GROUP, name)
                && !self.other.has(GROUP, name)
                && !self.other.has(GSHADOW, name);
            if !is_gone || !self.people.groups.contains(&gid) {
                continue;
            }
            let is_used = self.names(PASSWD).into_iter().any(|person| {
                self.lines(PASSWD, person).first().and_then(|line| number(line, 3)) == Some(gid)
            });
            let is_unchanged = |file| self.own.lines(file, name) == self.base.lines(file, name);
            if !is_used && is_unchanged(GROUP) && is_unchanged(GSHADOW) {
                [GROUP, GSHADOW].into_iter().for_each(|file| self.remove(file, name));
            } else {
                self.keep(GROUP, name, "was removed there, and is used or was changed here");
            }
        }
    }

    /// Whether the primary group that an account has there is the same one here.
    fn is_same_group(&self, name: &str) -> bool {
        let Some(gid) = self.other.lines(PASSWD, name).first().and_then(|line| number(line, 3))
        else {
            return false;
        };
        self.other.group_with(gid) == self.holder(GROUP, gid)
    }

    /// Whether nobody else has numbers here that somebody has there (subuid(5)).
    fn is_free(&self, file: &'static str, name: &str) -> bool {
        let wanted: Vec<_> = self.other.lines(file, name).iter().map(|line| range(line)).collect();
        let others = self.names(file).into_iter().filter(|other| *other != name);
        let taken: Vec<_> = others.flat_map(|other| self.lines(file, other)).map(range).collect();
        wanted.iter().all(|(begin, end)| taken.iter().all(|(from, to)| to <= begin || end <= from))
    }

    /// Takes those out of groups who were not in them here, and whose name is that of somebody else
    /// here.
    fn refuse_strangers(&mut self) {
        let changed: Vec<(&'static str, &'a str)> = self.changed.keys().copied().collect();
        for (file, group) in changed.into_iter().filter(|(file, _)| [GROUP, GSHADOW].contains(file))
        {
            let had: BTreeSet<String> =
                self.own.lines(file, group).iter().flat_map(|line| members(file, line)).collect();
            let lines = self.lines(file, group);
            let strangers: Vec<String> = lines
                .iter()
                .flat_map(|line| members(file, line))
                .filter(|member| !had.contains(member) && !self.is_same_person(member))
                .collect();
            if strangers.is_empty() {
                continue;
            }
            let without = lines.iter().map(|line| without(file, line, &strangers)).collect();
            self.changed.insert((file, group), without);
            for stranger in &strangers {
                self.keep(
                    file,
                    group,
                    &format!("has the member '{stranger}' there, who is not the same one here"),
                );
            }
        }
    }

    fn is_same_person(&self, name: &str) -> bool {
        let Some(uid) = self.other.number(PASSWD, name) else { return false };
        self.holder(PASSWD, uid) == Some(name)
    }

    /// What both have in a file from now on: what was not taken over is as it was before.
    fn next_base(&self, file: &'static str) -> String {
        let is_person = |file: &str| ![GROUP, GSHADOW].contains(&file);
        let kept = self.kept.iter().filter(|kept| is_person(kept.file) == is_person(file));
        let lines: BTreeMap<&str, Vec<String>> = kept
            .map(|kept| {
                let before = self.base.lines(file, &kept.name).iter();
                (kept.name.as_str(), before.map(|line| (*line).to_owned()).collect())
            })
            .collect();
        let lines = lines.iter().map(|(name, lines)| (*name, lines.as_slice())).collect();
        self.other.0.get(file).map_or_else(String::new, |table| table.with(&lines))
    }

    fn text(&self, file: &'static str) -> String {
        let changed = self.changed.iter().filter(|((of, _), _)| *of == file);
        let changed = changed.map(|((_, name), lines)| (*name, lines.as_slice())).collect();
        self.own.0.get(file).map_or_else(String::new, |table| table.with(&changed))
    }
}

/// The first field of a line that has names of members. In gshadow(5), administrators come before.
fn first_list(file: &str) -> usize {
    if file == GSHADOW { 2 } else { 3 }
}

/// The members of a group in one of its lines.
fn members(file: &str, line: &str) -> Vec<String> {
    let lists = line.split(':').skip(first_list(file));
    let names = lists.flat_map(|list| list.split(',')).filter(|name| !name.is_empty());
    names.map(str::to_owned).collect()
}

/// The line without these members.
fn without(file: &str, line: &str, strangers: &[String]) -> String {
    let list = |(index, field): (usize, &str)| {
        if index < first_list(file) {
            return field.to_owned();
        }
        let names = field.split(',').filter(|name| strangers.iter().all(|s| s != name));
        names.collect::<Vec<_>>().join(",")
    };
    line.split(':').enumerate().map(list).collect::<Vec<_>>().join(":")
}

/// The first number of a line of subuid(5), and the first one after it.
fn range(line: &str) -> (u64, u64) {
    let mut fields = line.split(':').skip(1).map(|field| field.parse::<u64>().unwrap_or(0));
    let (begin, count) = (fields.next().unwrap_or(0), fields.next().unwrap_or(0));
    (begin, begin.saturating_add(count))
}

#[cfg(test)]
mod tests;
