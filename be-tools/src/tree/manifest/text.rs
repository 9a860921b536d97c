//! The text of a manifest.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{BufRead, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use rustix::fs::FileType;

use super::content::Hash;
use super::entry::{Content, Entry, MAX_PATH, Manifest};
use crate::octal::{escape_bytes, unescape};
use crate::timestamp::Timestamp;

/// The most entries that a manifest has. Each takes about 200 bytes of memory.
pub const MAX_ENTRIES: usize = 8 << 20;

/// The longest line, in bytes: two paths of which every byte is escaped, and the keywords.
const MAX_LINE: u64 = 2 * 4 * MAX_PATH as u64 + 1024;

/// The first line of a file of mtree(5).
const SIGNATURE: &str = "#mtree";

/// The line of the root, which other programs need. Its attributes are those of a mount point.
const ROOT: &str = ". type=dir";

/// The types, with their names in mtree(5).
const TYPES: [(FileType, &str); 7] = [
    (FileType::RegularFile, "file"),
    (FileType::Directory, "dir"),
    (FileType::Symlink, "link"),
    (FileType::Fifo, "fifo"),
    (FileType::Socket, "socket"),
    (FileType::CharacterDevice, "char"),
    (FileType::BlockDevice, "block"),
];

/// Writes a manifest as text.
///
/// # Errors
/// Those of the writer.
pub fn write(manifest: &Manifest, to: &mut dyn Write) -> std::io::Result<()> {
    writeln!(
        to,
        "{SIGNATURE}\n# What this boot environment held when it was last complete.\n{ROOT}"
    )?;
    for entry in &manifest.entries {
        to.write_all(line(entry).as_bytes())?;
    }
    Ok(())
}

fn line(entry: &Entry) -> String {
    let kind = TYPES.iter().find(|(kind, _)| *kind == entry.kind).map_or("file", |(_, name)| name);
    let (uid, gid) = entry.owner;
    let mut line = format!(
        ".{} type={kind} uid={uid} gid={gid} mode={:04o}",
        escape_bytes(&entry.path),
        entry.mode
    );
    let mut add = |keyword: &str, value: &str| {
        // Writing to a String does not fail.
        let _ = write!(line, " {keyword}={value}");
    };
    if entry.kind == FileType::RegularFile {
        add("size", &entry.size.to_string());
    }
    add("time", &entry.modified.decimal());
    add("ctime", &entry.changed.decimal());
    add("inode", &entry.inode.to_string());
    match &entry.content {
        Content::Unknown => {}
        Content::Hash(Hash::Whole(hash)) => add("blake3", &hex(hash)),
        Content::Hash(Hash::Sparse(hash)) => add("sparse", &hex(hash)),
        Content::Target(target) => add("link", &escape_bytes(target)),
        Content::Device(major, minor) => add("device", &format!("native,{major},{minor}")),
    }
    if let Some(hash) = &entry.xattrs {
        add("xattrs", &hex(hash));
    }
    line.push('\n');
    line
}

/// Reads the text of a manifest. Keywords that are not known are left out.
///
/// # Errors
/// As a sentence with the number of the line: it cannot be read, or is not a manifest.
pub fn parse(mut from: impl BufRead) -> Result<Manifest, String> {
    let (mut entries, mut line, mut number) = (Vec::new(), Vec::new(), 0u64);
    loop {
        line.clear();
        let length = from
            .by_ref()
            .take(MAX_LINE)
            .read_until(b'\n', &mut line)
            .map_err(|why| format!("reading it: {why}"))?;
        if length == 0 {
            break;
        }
        number += 1;
        let wrong = |why: &str| format!("line {number}: {why}");
        // A file that was cut off in a line is not a shorter manifest.
        if line.pop() != Some(b'\n') {
            return Err(wrong("it has no end"));
        }
        if number == 1 {
            if line != SIGNATURE.as_bytes() {
                return Err(wrong("it is not #mtree"));
            }
        } else if !line.starts_with(b"#") && line != ROOT.as_bytes() {
            if entries.len() == MAX_ENTRIES {
                return Err(wrong("there are more entries than any manifest has"));
            }
            entries.push(entry(&line).map_err(wrong)?);
        }
    }
    if number == 0 {
        return Err("it is empty".into());
    }
    Ok(Manifest::new(entries))
}

fn entry(line: &[u8]) -> Result<Entry, &'static str> {
    let text = std::str::from_utf8(line).map_err(|_| "it is not text")?;
    let mut words = text.split(' ');
    let path = words.next().and_then(|path| path.strip_prefix('.')).ok_or("it has no path")?;
    let path = unescape(path.as_bytes());
    if !is_plain(&path) {
        return Err("its path is not one below the root");
    }
    let mut entry = Entry {
        path: path.into(),
        kind: FileType::Unknown,
        mode: 0,
        owner: (0, 0),
        size: 0,
        modified: Timestamp::new(0, 0),
        changed: Timestamp::new(0, 0),
        inode: 0,
        content: Content::Unknown,
        xattrs: None,
    };
    for word in words {
        let (keyword, value) = word.split_once('=').ok_or("a keyword has no value")?;
        set(&mut entry, keyword, value).ok_or("a value is not one of its keyword")?;
    }
    entry.size = match (entry.kind, &entry.content) {
        (FileType::Unknown, _) => return Err("it has no type"),
        (FileType::RegularFile, _) => entry.size,
        (FileType::Symlink, Content::Target(target)) => target.len() as u64,
        _ => 0,
    };
    Ok(entry)
}

fn set(entry: &mut Entry, keyword: &str, value: &str) -> Option<()> {
    match keyword {
        "type" => entry.kind = TYPES.iter().find(|(_, name)| *name == value)?.0,
        "uid" => entry.owner.0 = value.parse().ok()?,
        "gid" => entry.owner.1 = value.parse().ok()?,
        "mode" => entry.mode = u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o7777)?,
        "size" => entry.size = value.parse().ok()?,
        "time" => entry.modified = Timestamp::from_decimal(value)?,
        "ctime" => entry.changed = Timestamp::from_decimal(value)?,
        "inode" => entry.inode = value.parse().ok()?,
        "blake3" => entry.content = Content::Hash(Hash::Whole(from_hex(value)?)),
        "sparse" => entry.content = Content::Hash(Hash::Sparse(from_hex(value)?)),
        "link" => entry.content = Content::Target(unescape(value.as_bytes()).into()),
        "device" => {
            let (major, minor) = value.strip_prefix("native,")?.split_once(',')?;
            entry.content = Content::Device(major.parse().ok()?, minor.parse().ok()?);
        }
        "xattrs" => entry.xattrs = Some(from_hex(value)?),
        _ => {}
    }
    Some(())
}

/// Whether this is a path below the root that names each directory once.
fn is_plain(path: &[u8]) -> bool {
    let below = Path::new(OsStr::from_bytes(path)).strip_prefix("/");
    let Ok(below) = below else { return false };
    let mut length = 0;
    for component in below.components() {
        let Component::Normal(name) = component else { return false };
        length += 1 + name.len();
    }
    // Otherwise it has a slash or a `.` too many.
    length == path.len() && length > 0 && !path.contains(&0)
}

fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = digit(digits[0])? << 4 | digit(digits[1])?;
    }
    Some(bytes)
}
