//! A system as one file: an archive of tar(5), as GNU tar and libarchive write it with numbers for
//! owners, compressed or not. It is read once, from its beginning to its end; nothing is unpacked.

use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{BufRead, BufReader, Error, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::FileType;
use tar_core::parse::{Limits, ParseEvent, ParsedEntry, Parser};
use tar_core::{EntryType, PaxExtensions};

use crate::error::{self, Doing, Result};
use crate::plan::go_on;
use crate::timestamp::Timestamp;
use crate::tree::exclude::{Exclude, Verdict};
use crate::tree::manifest::{Described, MAX_ENTRIES, MAX_PATH, Manifest};
use crate::tree::xattr::Xattr;

/// The content of a member is followed by zeros up to a multiple of this, in bytes.
const BLOCK: u64 = 512;

/// How much of a file is read at a time, in bytes.
const PIECE: usize = 64 * 1024;

/// What an archive holds.
#[derive(Debug, Default)]
pub struct Contents {
    /// Its entries. The content of files is in it if it was asked for.
    pub manifest: Manifest,
    /// The files that were asked for, by their paths.
    pub files: HashMap<PathBuf, Vec<u8>>,
    /// Sentences about what cannot be compared with a file system.
    pub warnings: Vec<String>,
}

/// What to read of an archive.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// What of it is left out.
    pub rules: &'a Exclude,
    /// Whether the content of files is hashed.
    pub content: bool,
    /// Files that are kept, and how large they may be in bytes.
    pub files: &'a [(&'a str, u64)],
}

/// Reads an archive. `progress` is called with the number of entries so far.
///
/// # Errors
/// It cannot be read or is none, and [`Error::Interrupted`](error::Error::Interrupted).
pub fn read(path: &Path, wanted: Wanted<'_>, progress: &dyn Fn(u64)) -> Result<Contents> {
    members(decompressed(path)?, wanted, progress).map_err(|why| match go_on() {
        Err(interrupted) => interrupted,
        Ok(()) => {
            error::Error::Format { path: path.to_owned(), why: format!("as an archive: {why}") }
        }
    })
}

/// The same of an archive that is not compressed.
pub(crate) fn members(
    from: Box<dyn Read + '_>,
    wanted: Wanted<'_>,
    progress: &dyn Fn(u64),
) -> std::io::Result<Contents> {
    let mut input = Input { from, buffer: Vec::new(), begin: 0 };
    let mut parser = Parser::new(Limits::default());
    let mut reading = Reading {
        wanted,
        verdicts: HashMap::new(),
        entries: HashMap::new(),
        found: Contents::default(),
    };
    loop {
        go_on().map_err(Error::other)?;
        let (consumed, member) = match parser.parse(input.seen()).map_err(Error::other)? {
            ParseEvent::NeedData { min_bytes } => match input.fill(min_bytes)? {
                true => continue,
                // Some programs write no end.
                false if input.seen().is_empty() && !reading.entries.is_empty() => break,
                false => return Err(Error::other("it ends in the middle")),
            },
            ParseEvent::Entry { consumed, entry } => (consumed, Some(Member::of(&entry, None))),
            ParseEvent::SparseEntry { consumed, entry, real_size, .. } => {
                (consumed, Some(Member::of(&entry, Some(real_size))))
            }
            ParseEvent::GlobalExtensions { consumed, .. } => (consumed, None),
            ParseEvent::End { .. } => break,
        };
        input.begin += consumed;
        if let Some(member) = member {
            let stored = member.stored;
            let mut content = Content { input: &mut input, left: stored };
            reading.take(member, &mut content)?;
            // What was not read of it, and what is after it.
            content.left += stored.next_multiple_of(BLOCK) - stored;
            std::io::copy(&mut content, &mut std::io::sink())?;
        }
        if reading.entries.len() > MAX_ENTRIES {
            return Err(Error::other("it has too many entries"));
        }
        progress(reading.entries.len() as u64);
    }
    let Reading { entries, mut found, .. } = reading;
    found.manifest = Manifest::of_archive(entries.into_values());
    Ok(found)
}

/// What was read of an archive, and has not been looked at.
struct Input<'a> {
    from: Box<dyn Read + 'a>,
    buffer: Vec<u8>,
    begin: usize,
}

impl Input<'_> {
    fn seen(&self) -> &[u8] {
        &self.buffer[self.begin..]
    }

    /// Reads until so many bytes can be seen, and at least a block; `false` if nothing is left. The
    /// parser bounds them.
    fn fill(&mut self, count: usize) -> std::io::Result<bool> {
        self.buffer.drain(..self.begin);
        self.begin = 0;
        let missing = (count.saturating_sub(self.buffer.len()) as u64).max(BLOCK);
        let read = (&mut self.from).take(missing).read_to_end(&mut self.buffer)?;
        Ok(read > 0)
    }
}

/// The content of a member. One that ends before it should is an error, and so is an interruption.
struct Content<'a, 'b> {
    input: &'a mut Input<'b>,
    left: u64,
}

impl Read for Content<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        go_on().map_err(Error::other)?;
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        let seen = self.input.seen();
        let read = match seen.len().min(most) {
            0 => self.input.from.read(&mut buffer[..most])?,
            length => {
                buffer[..length].copy_from_slice(&seen[..length]);
                self.input.begin += length;
                length
            }
        };
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= read as u64;
        Ok(read)
    }
}

/// The archive itself, whatever it was compressed with: the first bytes tell.
fn decompressed(path: &Path) -> Result<Box<dyn Read>> {
    let file = File::open(path).at("opening", path)?;
    let mut file = BufReader::with_capacity(PIECE, file);
    let begin = file.fill_buf().at("reading", path)?;
    Ok(match begin {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            Box::new(zstd::Decoder::with_buffer(file).at("reading", path)?)
        }
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Box::new(lzma_rust2::XzReader::new(file, true)),
        _ => Box::new(file),
    })
}

/// A member of an archive.
struct Member {
    kind: EntryType,
    /// How many bytes of content are in the archive.
    stored: u64,
    is_sparse: bool,
    has_acl: bool,
    /// None if it is of a kind that no tree has, or its path leads nowhere in one.
    entry: Option<Described>,
}

impl Member {
    /// `real_size` is that of a sparse file, of which only parts are stored.
    fn of(found: &ParsedEntry<'_>, real_size: Option<u64>) -> Self {
        let extensions = PaxExtensions::new(found.pax.unwrap_or_default());
        let mut xattrs: Vec<Xattr> = Vec::new();
        for (name, value) in &found.xattrs {
            if let Ok(name) = CString::new(name.to_vec()) {
                xattrs.push((name, value.to_vec()));
            }
        }
        xattrs.sort();
        let has_acl =
            extensions.flatten().any(|extension| extension.key_bytes().starts_with(b"SCHILY.acl."));
        let place = kind(found.entry_type).zip(absolute(&found.path));
        Member {
            kind: found.entry_type,
            stored: found.size,
            is_sparse: real_size.is_some(),
            has_acl,
            entry: place.map(|(kind, path)| Described {
                path,
                kind,
                mode: found.mode & 0o7777,
                owner: (number(found.uid), number(found.gid)),
                size: real_size.unwrap_or(found.size),
                modified: Timestamp::new(i64::try_from(found.mtime).unwrap_or(0), 0),
                target: found.link_target.as_ref().map(|target| target.to_vec()),
                device: (found.dev_major.unwrap_or(0), found.dev_minor.unwrap_or(0)),
                hash: None,
                xattrs: Some(xattrs).filter(|_| !has_acl),
            }),
        }
    }
}

fn kind(of: EntryType) -> Option<FileType> {
    Some(match of {
        EntryType::Regular | EntryType::Continuous | EntryType::GnuSparse | EntryType::Link => {
            FileType::RegularFile
        }
        EntryType::Symlink => FileType::Symlink,
        EntryType::Directory => FileType::Directory,
        EntryType::Char => FileType::CharacterDevice,
        EntryType::Block => FileType::BlockDevice,
        EntryType::Fifo => FileType::Fifo,
        _ => return None,
    })
}

struct Reading<'a> {
    wanted: Wanted<'a>,
    /// What the rules say of directories.
    verdicts: HashMap<Vec<u8>, Verdict>,
    /// By path: of a file that is there twice the later one counts.
    entries: HashMap<Vec<u8>, Described>,
    found: Contents,
}

impl Reading<'_> {
    fn take(&mut self, member: Member, content: &mut impl Read) -> std::io::Result<()> {
        let Member { kind, is_sparse, has_acl, entry, .. } = member;
        let Some(mut entry) = entry else { return Ok(()) };
        let path = entry.path.clone();
        if self.verdict(&path) == Verdict::Skip {
            return Ok(());
        }
        if kind == EntryType::Link {
            let target = entry.target.and_then(|target| absolute(&target));
            let linked = target.and_then(|target| self.entries.get(&target).cloned());
            match linked {
                Some(linked) => {
                    self.entries.insert(path.clone(), Described { path, ..linked });
                }
                None => self.warn(&path, "it is a link to what is not in the archive before it"),
            }
            return Ok(());
        }
        if has_acl {
            self.warn(&path, "its ACL is not compared");
        }
        if entry.kind == FileType::RegularFile {
            let files = self.wanted.files.iter();
            let kept =
                files.copied().find(|(name, _)| absolute(name.as_bytes()).as_ref() == Some(&path));
            match kept {
                // What is longer is not kept.
                Some((name, most)) if entry.size <= most && !is_sparse => {
                    let mut bytes = Vec::new();
                    content.read_to_end(&mut bytes)?;
                    entry.hash = Some(*blake3::hash(&bytes).as_bytes());
                    self.found.files.insert(PathBuf::from(name), bytes);
                }
                _ if self.wanted.content && !is_sparse => entry.hash = Some(hash(content)?),
                _ => {}
            }
            if self.wanted.content && entry.hash.is_none() {
                self.warn(&path, "it is sparse, and its content is not compared");
            }
        }
        self.entries.insert(path, entry);
        Ok(())
    }

    /// What the rules say of a path, which is judged after the directories above it.
    fn verdict(&mut self, path: &[u8]) -> Verdict {
        if let Some(known) = self.verdicts.get(path) {
            return *known;
        }
        let above = match path.iter().rposition(|byte| *byte == b'/') {
            Some(0) | None => Verdict::Copy,
            Some(slash) => self.verdict(&path[..slash]),
        };
        let verdict = match above {
            Verdict::Skip | Verdict::DirectoryOnly => Verdict::Skip,
            above => self.wanted.rules.verdict(path, above),
        };
        self.verdicts.insert(path.to_owned(), verdict);
        verdict
    }

    /// Only the first ones are named.
    fn warn(&mut self, path: &[u8], what: &str) {
        const MOST: usize = 20;
        if self.found.warnings.len() < MOST {
            let path = crate::escape::path_text(OsStr::from_bytes(path).as_ref());
            self.found.warnings.push(format!("{path}: {what}"));
        }
    }
}

fn number(id: u64) -> u32 {
    u32::try_from(id).unwrap_or(u32::MAX)
}

fn hash(content: &mut impl Read) -> std::io::Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(content)?;
    Ok(*hasher.finalize().as_bytes())
}

/// The path of a member below the root, such as `./etc/fstab`; `None` if it is the root itself, leads
/// out of it or is too long.
fn absolute(name: &[u8]) -> Option<Vec<u8>> {
    let mut path = Vec::new();
    for component in Path::new(OsStr::from_bytes(name)).components() {
        match component {
            Component::Normal(name) => {
                path.push(b'/');
                path.extend_from_slice(name.as_bytes());
            }
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    (!path.is_empty() && path.len() <= MAX_PATH && path != b"/lost+found").then_some(path)
}

#[cfg(test)]
mod tests;
