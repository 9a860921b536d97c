//! Compares two trees, directory by directory: what is only in one of them, and in which attributes
//! what is in both differs. Times are not compared: a file that was written again with the same
//! content is not a difference.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashSet;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;
use serde::Serialize;

use super::exclude::{Exclude, Verdict};
use super::listing::{Listed, Place, THREADS, Tree, joined, kind_name, list, open_file};
use super::queue::lock;
use super::work_stack::WorkStack;
use super::working_directory::WorkingDirectory;
use super::xattr::Xattr;
use crate::error::{Error, Result};
use crate::plan::go_on;

/// How much of two files is compared at a time, in bytes.
const PIECE: usize = 128 * 1024;

/// One of the two trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The first one.
    First,
    /// The second one.
    Second,
}

/// What differs at one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The path, from the root of the trees.
    pub path: PathBuf,
    /// How.
    pub how: How,
}

/// How a path differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// It is in one tree only.
    OnlyIn(Which, FileType),
    /// It is in both, with other attributes. There is at least one.
    Changed(Vec<Attribute>),
}

/// An attribute with its two values, for people. For a missing one and for content they are empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attribute {
    /// `type`, `mode`, `owner`, `size`, `target`, `device`, `content`, or `xattr` and its name.
    pub name: String,
    /// Its value in the first tree.
    pub first: String,
    /// Its value in the second tree.
    pub second: String,
}

/// What a comparison found.
#[derive(Debug, Default)]
pub struct Findings {
    /// Every difference, sorted by path.
    pub differences: Vec<Difference>,
    /// How many entries were compared or are in one tree only.
    pub entries: u64,
    /// What could not be read, with the reason.
    pub unread: Vec<String>,
}

/// A directory that is in one of the trees, or in both.
struct Task {
    /// The directories that hold it.
    above: [Option<Arc<OwnedFd>>; 2],
    name: CString,
    path: Vec<u8>,
    verdict: Verdict,
}

struct Comparison<'a> {
    trees: [&'a Tree; 2],
    rules: &'a Exclude,
    with_content: bool,
    progress: &'a (dyn Fn(u64) + Sync),
    stack: WorkStack<Task>,
    findings: Mutex<Findings>,
    /// Pairs of inodes with several names whose content has been compared, and is the same.
    same_content: Mutex<HashSet<[u64; 4]>>,
}

/// Compares two trees, except what the rules leave out. With `with_content`, files of the same size
/// are read. `progress` is called with the number of entries so far.
///
/// # Errors
/// [`Error::Interrupted`]. What cannot be read is in the findings.
pub fn compare(
    trees: [&Tree; 2],
    rules: &Exclude,
    with_content: bool,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Findings> {
    let mut above = [None, None];
    for (opened, tree) in above.iter_mut().zip(trees) {
        *opened = Some(tree.start()?);
    }
    let root = Task { above, name: c".".into(), path: b"/".to_vec(), verdict: Verdict::Copy };
    let comparison = Comparison {
        trees,
        rules,
        with_content,
        progress,
        stack: WorkStack::new(root),
        findings: Mutex::default(),
        same_content: Mutex::default(),
    };
    let failure: Mutex<Option<Error>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut here = WorkingDirectory::default();
                while let Some(task) = comparison.stack.take() {
                    if let Err(error) = go_on() {
                        lock(&failure).get_or_insert(error);
                        comparison.stack.end();
                    } else {
                        comparison.run(&task, &mut here);
                    }
                    comparison.stack.done();
                }
            });
        }
    });
    if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    // A comparison of content that was interrupted in the last directory is none.
    go_on()?;
    let mut findings = comparison.findings.into_inner().unwrap_or_else(PoisonError::into_inner);
    findings.differences.sort_by(|a, b| a.path.cmp(&b.path));
    findings.unread.sort();
    Ok(findings)
}

impl Comparison<'_> {
    fn run(&self, task: &Task, here: &mut WorkingDirectory) {
        let mut opened: [Option<Arc<OwnedFd>>; 2] = [None, None];
        for (index, above) in task.above.iter().enumerate() {
            let Some(above) = above else { continue };
            match self.trees[index].open_directory(above, &task.name) {
                Ok(directory) => opened[index] = Some(Arc::new(directory)),
                // Something else is mounted there. It is not part of the tree.
                Err(Errno::XDEV) => return,
                Err(why) => return self.unread(index, &task.path, why),
            }
        }
        let mut lists: [Vec<Listed>; 2] = [Vec::new(), Vec::new()];
        for (index, directory) in opened.iter().enumerate() {
            let Some(directory) = directory else { continue };
            let place = Place { path: &task.path, verdict: task.verdict };
            let mut unread = |path: &[u8], why| self.unread(index, path, why);
            match list(directory, place, self.rules, here, &mut unread) {
                Ok(entries) => lists[index] = entries,
                // Without it everything in the other one would seem to be missing here.
                Err(why) => return self.unread(index, &task.path, why),
            }
        }
        let (mut found, mut below) = (Vec::new(), Vec::new());
        let [first, second] = lists;
        let count = merge(first, second, |first, second| {
            let name = first.as_ref().or(second.as_ref()).map(|entry| entry.name.clone());
            let Some(name) = name else { return };
            let path = joined(&task.path, &name);
            let is_directory = |entry: &Option<Listed>| {
                entry.as_ref().is_some_and(|e| e.kind() == FileType::Directory)
            };
            let descends = [is_directory(&first), is_directory(&second)];
            if let Some(how) = self.how(&first, &second, &name, &opened, &path) {
                let path = PathBuf::from(OsStr::from_bytes(&path));
                found.push(Difference { path, how });
            }
            if descends.contains(&true) {
                let verdict = self.rules.verdict(&path, task.verdict);
                if verdict != Verdict::DirectoryOnly {
                    let above = std::array::from_fn(|index| {
                        opened[index].clone().filter(|_| descends[index])
                    });
                    below.push(Task { above, name, path, verdict });
                }
            }
        });
        let entries = {
            let mut findings = lock(&self.findings);
            findings.differences.append(&mut found);
            findings.entries += count;
            findings.entries
        };
        (self.progress)(entries);
        if !below.is_empty() {
            self.stack.push(below.into_iter());
        }
    }

    fn how(
        &self,
        first: &Option<Listed>,
        second: &Option<Listed>,
        name: &CStr,
        opened: &[Option<Arc<OwnedFd>>; 2],
        path: &[u8],
    ) -> Option<How> {
        let (first, second) = match (first, second) {
            (Some(first), Some(second)) => (first, second),
            (Some(only), None) => return Some(How::OnlyIn(Which::First, only.kind())),
            (None, Some(only)) => return Some(How::OnlyIn(Which::Second, only.kind())),
            (None, None) => return None,
        };
        let mut changed = Vec::new();
        let mut add = |name: &str, first: String, second: String| {
            if first != second {
                changed.push(Attribute { name: name.to_owned(), first, second });
            }
        };
        let (kind, other) = (first.kind(), second.kind());
        add("type", kind_name(kind).into(), kind_name(other).into());
        let owner = |entry: &Listed| format!("{}:{}", entry.stat.st_uid, entry.stat.st_gid);
        add("owner", owner(first), owner(second));
        if kind == other {
            // The mode of a symlink has no effect.
            if kind != FileType::Symlink {
                let mode = |entry: &Listed| format!("{:04o}", entry.stat.st_mode & 0o7777);
                add("mode", mode(first), mode(second));
            }
            match kind {
                FileType::RegularFile => {
                    add("size", first.stat.st_size.to_string(), second.stat.st_size.to_string());
                }
                FileType::CharacterDevice | FileType::BlockDevice => {
                    add("device", device(&first.stat), device(&second.stat));
                }
                _ => {}
            }
        }
        for attribute in xattr_names(&first.xattrs, &second.xattrs) {
            let value = |of: &[Xattr]| {
                let found = of.iter().find(|(name, _)| name == attribute);
                found.map_or_else(String::new, |(_, value)| shown(value))
            };
            let name = format!("xattr {}", attribute.to_string_lossy());
            add(&name, value(&first.xattrs), value(&second.xattrs));
        }
        let [Some(one), Some(two)] = opened else { return None };
        if kind == other && kind == FileType::Symlink {
            match (target(one, name), target(two, name)) {
                (Ok(first), Ok(second)) => add("target", first, second),
                (Err(why), _) => self.unread(0, path, why),
                (_, Err(why)) => self.unread(1, path, why),
            }
        }
        let is_file = kind == other && kind == FileType::RegularFile;
        if self.with_content && is_file && first.stat.st_size == second.stat.st_size {
            match self.is_same_content(one, two, name, &first.stat, &second.stat) {
                Ok(true) => {}
                Ok(false) => changed.push(Attribute {
                    name: "content".into(),
                    first: String::new(),
                    second: String::new(),
                }),
                Err((index, why)) => self.unread(index, path, why),
            }
        }
        (!changed.is_empty()).then_some(How::Changed(changed))
    }

    fn is_same_content(
        &self,
        one: &OwnedFd,
        two: &OwnedFd,
        name: &CStr,
        first: &Stat,
        second: &Stat,
    ) -> Result<bool, (usize, Errno)> {
        let pair = [first.st_dev, first.st_ino, second.st_dev, second.st_ino];
        let is_one_file = pair[..2] == pair[2..];
        let has_names = first.st_nlink > 1 && second.st_nlink > 1;
        if is_one_file
            || first.st_size == 0
            || has_names && lock(&self.same_content).contains(&pair)
        {
            return Ok(true);
        }
        let mut files = [
            open_file(one, name).map_err(|why| (0, why))?,
            open_file(two, name).map_err(|why| (1, why))?,
        ];
        let mut pieces = [vec![0; PIECE], vec![0; PIECE]];
        loop {
            let mut lengths = [0, 0];
            for index in 0..2 {
                lengths[index] = fill(&mut files[index], &mut pieces[index])
                    .map_err(|why| (index, Errno::from_io_error(&why).unwrap_or(Errno::IO)))?;
            }
            if pieces[0][..lengths[0]] != pieces[1][..lengths[1]] {
                return Ok(false);
            }
            if lengths[0] < PIECE {
                break;
            }
            // What was not read to its end is neither the same nor another: compare() ends with
            // the interruption.
            if go_on().is_err() {
                return Ok(true);
            }
        }
        if has_names {
            lock(&self.same_content).insert(pair);
        }
        Ok(true)
    }

    fn unread(&self, index: usize, path: &[u8], why: Errno) {
        let side = ["first", "second"][index];
        let path = String::from_utf8_lossy(path);
        lock(&self.findings).unread.push(format!("{path} in the {side} one: {why}"));
    }
}

/// Reads until the buffer is full or the file ends. Returns the number of bytes.
fn fill(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(why) if why.kind() == std::io::ErrorKind::Interrupted => {}
            Err(why) => return Err(why),
        }
    }
    Ok(length)
}

fn target(directory: &OwnedFd, name: &CStr) -> Result<String, Errno> {
    let target = rustix::fs::readlinkat(directory, name, Vec::new())?;
    Ok(target.to_string_lossy().into_owned())
}

fn device(stat: &Stat) -> String {
    format!("{}:{}", rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev))
}

/// The names of both, each once.
fn xattr_names<'a>(first: &'a [Xattr], second: &'a [Xattr]) -> Vec<&'a CString> {
    let mut names: Vec<_> = first.iter().chain(second).map(|(name, _)| name).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// A value as text if it is one, else in hexadecimal, its beginning only. A digest of the whole
/// stands behind what is cut, so that two long values that differ look different.
fn shown(value: &[u8]) -> String {
    const MOST: usize = 64;
    let text = match std::str::from_utf8(value) {
        Ok(text) if !value.is_empty() && !text.contains(char::is_control) => Cow::Borrowed(text),
        _ => Cow::Owned(value.iter().map(|byte| format!("{byte:02x}")).collect()),
    };
    match text.char_indices().nth(MOST) {
        None => format!("\"{text}\""),
        Some((end, _)) => {
            let digest = blake3::hash(value).to_hex();
            format!("\"{}…\" ({} bytes, blake3 {})", &text[..end], value.len(), &digest[..16])
        }
    }
}

/// Calls `visit` with the entries of both lists by name. Returns how many names there are.
fn merge(
    first: Vec<Listed>,
    second: Vec<Listed>,
    mut visit: impl FnMut(Option<Listed>, Option<Listed>),
) -> u64 {
    let (mut first, mut second) = (first.into_iter().peekable(), second.into_iter().peekable());
    let mut count = 0;
    loop {
        let order = match (first.peek(), second.peek()) {
            (None, None) => return count,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(one), Some(two)) => one.name.cmp(&two.name),
        };
        count += 1;
        let one = if order == Ordering::Greater { None } else { first.next() };
        let two = if order == Ordering::Less { None } else { second.next() };
        visit(one, two);
    }
}

#[cfg(test)]
mod tests;
