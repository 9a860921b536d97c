//! GRUB's environment block: GRUB manual, section 15.2; `grub-core/lib/envblk.c`.
//!
//! A block is exactly 1024 bytes: a signature, `name=value` lines, then `#` up to the end. In a
//! value, backslashes and newlines are escaped with a backslash. GRUB writes to the disk blocks
//! that it read the file from, so the file must keep its length and its location on the disk.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The length of a block.
pub const SIZE: usize = 1024;

const SIGNATURE: &[u8] = b"# GRUB Environment Block\n";

/// A disk writes a sector completely or not at all.
const SECTOR: usize = 512;

/// Why an environment block could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The length is wrong.
    #[error(
        "environment block has {0} bytes, not {SIZE}; recreate it with `grub-editenv FILE create`"
    )]
    Size(usize),
    /// The first line is not the signature.
    #[error(
        "environment block does not begin with its signature; recreate it with `grub-editenv \
        FILE create`"
    )]
    Signature,
    /// A line cannot be parsed.
    #[error("environment block has a damaged line at byte {0}")]
    Line(usize),
    /// GRUB could not parse the name.
    #[error("{0:?} cannot be the name of a GRUB variable")]
    Name(String),
    /// The variables do not fit.
    #[error(
        "the variables take {needed} bytes, but the environment block has room for {limit}; unset \
        some"
    )]
    Full {
        /// Bytes that the variables take.
        needed: usize,
        /// Bytes that are available.
        limit: usize,
    },
    /// The bytes on the disk differ from what was written.
    #[error("{0} does not read back as it was written; check the disk")]
    ReadBack(PathBuf),
    /// A system call failed.
    #[error("{action} {path}: {source}")]
    Io {
        /// The action that failed.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
}

/// The variables of a block, in file order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EnvironmentBlock {
    lines: Vec<Line>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Line {
    Variable {
        name: String,
        value: String,
    },
    /// Since 2.06, `grub-editenv` starts the block with a warning.
    Comment(String),
}

impl EnvironmentBlock {
    /// A block without variables.
    pub fn new() -> Self {
        Self::default()
    }

    /// Parses a block.
    ///
    /// # Errors
    /// The length, the signature or a line is invalid.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() != SIZE {
            return Err(Error::Size(bytes.len()));
        }
        let body = bytes.strip_prefix(SIGNATURE).ok_or(Error::Signature)?;
        let padding = body.iter().rev().take_while(|byte| **byte == b'#').count();
        let body = &body[..body.len() - padding];
        let mut lines = Vec::new();
        let mut start = 0;
        while start < body.len() {
            let damaged = || Error::Line(SIGNATURE.len() + start);
            let end = start + line_length(&body[start..]).ok_or_else(damaged)?;
            let line = std::str::from_utf8(&body[start..end]).map_err(|_| damaged())?;
            lines.push(Line::parse(line).ok_or_else(damaged)?);
            start = end + 1;
        }
        Ok(Self { lines })
    }

    /// Renders the 1024 bytes.
    ///
    /// # Errors
    /// [`Error::Full`]
    pub fn to_bytes(&self) -> Result<[u8; SIZE], Error> {
        let text = self.rendered(SIZE)?;
        let mut bytes = [b'#'; SIZE];
        bytes[..text.len()].copy_from_slice(&text);
        Ok(bytes)
    }

    /// A variable's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables().find_map(|(other, value)| (other == name).then_some(value))
    }

    /// Sets a variable. An existing one keeps its position.
    ///
    /// # Errors
    /// [`Error::Name`]
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), Error> {
        if !is_name(name) {
            return Err(Error::Name(name.to_owned()));
        }
        for line in &mut self.lines {
            if let Line::Variable { name: other, value: old } = line
                && other == name
            {
                value.clone_into(old);
                return Ok(());
            }
        }
        self.lines.push(Line::Variable { name: name.to_owned(), value: value.to_owned() });
        Ok(())
    }

    /// Removes a variable.
    pub fn unset(&mut self, name: &str) {
        self.lines
            .retain(|line| !matches!(line, Line::Variable { name: other, .. } if other == name));
    }

    /// The names and values of all variables.
    pub fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.lines.iter().filter_map(|line| match line {
            Line::Variable { name, value } => Some((name.as_str(), value.as_str())),
            Line::Comment(_) => None,
        })
    }

    fn rendered(&self, limit: usize) -> Result<Vec<u8>, Error> {
        let mut text = SIGNATURE.to_vec();
        for line in &self.lines {
            match line {
                Line::Comment(comment) => text.extend(comment.bytes()),
                Line::Variable { name, value } => {
                    text.extend(name.bytes());
                    text.push(b'=');
                    for byte in value.bytes() {
                        if matches!(byte, b'\\' | b'\n') {
                            text.push(b'\\');
                        }
                        text.push(byte);
                    }
                }
            }
            text.push(b'\n');
        }
        if text.len() > limit {
            return Err(Error::Full { needed: text.len(), limit });
        }
        Ok(text)
    }
}

impl Line {
    fn parse(line: &str) -> Option<Self> {
        if line.starts_with('#') {
            return Some(Self::Comment(line.to_owned()));
        }
        let (name, escaped) = line.split_once('=')?;
        let mut value = String::new();
        let mut chars = escaped.chars();
        while let Some(c) = chars.next() {
            value.push(if c == '\\' { chars.next()? } else { c });
        }
        is_name(name).then(|| Self::Variable { name: name.to_owned(), value })
    }
}

/// The length up to the newline that ends the line: in a comment the first newline, in a variable
/// the first that is not escaped.
fn line_length(bytes: &[u8]) -> Option<usize> {
    let comment = bytes.first() == Some(&b'#');
    let mut escaped = false;
    bytes.iter().position(|byte| {
        let ends = *byte == b'\n' && !escaped;
        escaped = !comment && *byte == b'\\' && !escaped;
        ends
    })
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('#') && !name.contains(['=', '\n', '\\'])
}

/// Reads the environment block in a file.
///
/// # Errors
/// Reading failed, or the file is not an environment block.
pub fn read(path: &Path) -> Result<EnvironmentBlock, Error> {
    let failed = |e| failed("reading", path, e);
    let file = File::open(path).map_err(failed)?;
    expect_length(&file).map_err(failed)??;
    let mut bytes = [0; SIZE];
    file.read_exact_at(&mut bytes, 0).map_err(failed)?;
    EnvironmentBlock::parse(&bytes)
}

/// Overwrites the block in a file with a single write, and returns after the block is on the disk.
/// Only the first sector differs, so that a power cut leaves either the old block or the new one.
///
/// # Errors
/// [`Error::Full`] if the variables do not fit into a sector, [`Error::Size`] if the file is not an
/// environment block, or a system call failed.
pub fn write_in_place(path: &Path, block: &EnvironmentBlock) -> Result<(), Error> {
    block.rendered(SECTOR)?;
    let bytes = block.to_bytes()?;
    let failed = |e| failed("writing", path, e);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .map_err(failed)?;
    expect_length(&file).map_err(failed)??;
    if file.write_at(&bytes, 0).map_err(failed)? != SIZE {
        return Err(failed(io::ErrorKind::WriteZero.into()));
    }
    file.sync_all().map_err(failed)?;
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)
        .map_err(|e| failed(e.into()))?;
    let mut back = [0; SIZE];
    file.read_exact_at(&mut back, 0).map_err(failed)?;
    if back != bytes {
        return Err(Error::ReadBack(path.to_owned()));
    }
    Ok(())
}

/// A file of another length is not an environment block and is not read.
fn expect_length(file: &File) -> io::Result<Result<(), Error>> {
    let length = file.metadata()?.len();
    let size = || Error::Size(usize::try_from(length).unwrap_or(usize::MAX));
    Ok((length == SIZE as u64).then_some(()).ok_or_else(size))
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
