//! The initramfs: a cpio archive in the "newc" form of the kernel's
//! Documentation/driver-api/early-userspace/buffer-format.rst, compressed with zstd.

use std::collections::BTreeMap;
use std::io::{self, Write};

/// What stands at a path of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Directory,
    File { data: Vec<u8>, mode: u32 },
    Link { target: String },
    Character { major: u32, minor: u32, mode: u32 },
}

/// A path cannot be put into the archive.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// The path is not one that a file in the image can have.
    #[error("{0:?} cannot be a path in the image: give one without \"..\" or empty parts")]
    Path(String),
    /// The path is taken.
    #[error("{0} is in the image twice, with different content")]
    Twice(String),
    /// A file stands where a directory is needed.
    #[error("{0} is in the image as a file and as a directory")]
    NotDirectory(String),
    /// The file is larger than the format can say.
    #[error("{0} is larger than 4 GiB, which cpio cannot hold")]
    TooLarge(String),
}

/// A tree of files, in memory, owned by root; the order of what is added has no influence.
#[derive(Debug, Default, Clone)]
pub struct Archive {
    nodes: BTreeMap<String, Node>,
}

impl Archive {
    /// Adds a directory and those above it.
    ///
    /// # Errors
    /// When the path is not one, or taken.
    pub fn directory(&mut self, path: &str) -> Result<(), Error> {
        self.insert(path, Node::Directory)
    }

    /// Adds a file with permission bits `mode`.
    ///
    /// # Errors
    /// When the path is not one, or taken.
    pub fn file(&mut self, path: &str, data: Vec<u8>, mode: u32) -> Result<(), Error> {
        if u32::try_from(data.len()).is_err() {
            return Err(Error::TooLarge(path.into()));
        }
        self.insert(path, Node::File { data, mode })
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// When the path is not one, or taken.
    pub fn link(&mut self, path: &str, target: &str) -> Result<(), Error> {
        self.insert(path, Node::Link { target: target.into() })
    }

    /// Adds a character device.
    ///
    /// # Errors
    /// When the path is not one, or taken.
    pub fn character(
        &mut self,
        path: &str,
        (major, minor): (u32, u32),
        mode: u32,
    ) -> Result<(), Error> {
        self.insert(path, Node::Character { major, minor, mode })
    }

    /// Whether something stands at `path`.
    pub fn contains(&self, path: &str) -> bool {
        self.nodes.contains_key(path.trim_matches('/'))
    }

    /// Bytes of all files.
    pub fn size(&self) -> u64 {
        self.nodes
            .values()
            .map(|node| match node {
                Node::File { data, .. } => data.len() as u64,
                _ => 0,
            })
            .sum()
    }

    fn insert(&mut self, path: &str, node: Node) -> Result<(), Error> {
        let clean = path.strip_prefix('/').unwrap_or(path);
        let illegal = |part: &str| matches!(part, "" | "." | "..") || part.contains('\0');
        if clean.split('/').any(illegal) {
            return Err(Error::Path(path.into()));
        }
        for (end, _) in clean.match_indices('/') {
            let above = &clean[..end];
            let directory = self.nodes.entry(above.into()).or_insert(Node::Directory);
            if *directory != Node::Directory {
                return Err(Error::NotDirectory(above.into()));
            }
        }
        match self.nodes.get(clean) {
            Some(there) if *there == node => Ok(()),
            Some(_) => Err(Error::Twice(clean.into())),
            None => {
                self.nodes.insert(clean.into(), node);
                Ok(())
            }
        }
    }

    /// Writes the archive, sorted by path, every file dated `mtime` (seconds since 1970).
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn write(&self, mtime: u32, out: &mut impl Write) -> io::Result<()> {
        for (index, (path, node)) in (1..).zip(&self.nodes) {
            let header = Header { inode: index, mtime, ..Header::of(node) };
            let content = match node {
                Node::File { data, .. } => data.as_slice(),
                Node::Link { target } => target.as_bytes(),
                Node::Directory | Node::Character { .. } => &[],
            };
            header.write(path, content, out)?;
        }
        Header::default().write("TRAILER!!!", &[], out)
    }

    /// The archive as the kernel takes it: cpio, then zstd of `level` 1 to 19.
    ///
    /// The window of level 19 is 8 MiB; the kernel takes at most 128 MiB and needs as much memory.
    ///
    /// # Errors
    /// When zstd fails.
    pub fn compress(&self, level: i32, mtime: u32) -> io::Result<Vec<u8>> {
        let mut encoder = zstd::Encoder::new(Vec::new(), level)?;
        // The number of workers has an influence on the output.
        encoder.multithread(2)?;
        encoder.include_checksum(false)?;
        self.write(mtime, &mut encoder)?;
        encoder.finish()
    }
}

#[derive(Debug, Default)]
struct Header {
    inode: u32,
    mode: u32,
    links: u32,
    mtime: u32,
    device: (u32, u32),
}

impl Header {
    fn of(node: &Node) -> Self {
        let (mode, links, device) = match node {
            Node::Directory => (0o040_755, 2, (0, 0)),
            Node::File { mode, .. } => (0o100_000 | mode, 1, (0, 0)),
            Node::Link { .. } => (0o120_777, 1, (0, 0)),
            Node::Character { major, minor, mode } => (0o020_000 | mode, 1, (*major, *minor)),
        };
        Self { mode, links, device, ..Self::default() }
    }

    fn write(&self, path: &str, content: &[u8], out: &mut impl Write) -> io::Result<()> {
        let name_size = path.len() + 1;
        write!(
            out,
            "070701{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}",
            self.inode,
            self.mode,
            0, // user
            0, // group
            self.links.max(1),
            self.mtime,
            content.len(),
            0, // device the archive was made from
            0,
            self.device.0,
            self.device.1,
            name_size,
            0, // check sum, not used in this form
        )?;
        out.write_all(path.as_bytes())?;
        out.write_all(&[0])?;
        pad(110 + name_size, out)?;
        out.write_all(content)?;
        pad(content.len(), out)
    }
}

fn pad(written: usize, out: &mut impl Write) -> io::Result<()> {
    out.write_all(&[0; 3][..written.next_multiple_of(4) - written])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn cpio(archive: &Archive, arguments: &[&str]) -> String {
        let mut child = Command::new("cpio")
            .args(arguments)
            .env("TZ", "UTC")
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut bytes = Vec::new();
        archive.write(315_532_800, &mut bytes).unwrap();
        child.stdin.take().unwrap().write_all(&bytes).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    }

    fn sample() -> Archive {
        let mut archive = Archive::default();
        archive.file("init", b"#!/bin/sh\n".to_vec(), 0o755).unwrap();
        archive.link("/bin/sh", "busybox").unwrap();
        archive.directory("proc").unwrap();
        archive.character("dev/console", (5, 1), 0o600).unwrap();
        archive
    }

    #[test]
    fn cpio_lists_what_was_added() {
        let listing = cpio(&sample(), &["-tv", "--quiet"]);
        let lines: Vec<String> = listing
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(
            lines,
            [
                "drwxr-xr-x 2 root root 0 Jan 1 1980 bin",
                "lrwxrwxrwx 1 root root 7 Jan 1 1980 bin/sh -> busybox",
                "drwxr-xr-x 2 root root 0 Jan 1 1980 dev",
                "crw------- 1 root root 5, 1 Jan 1 1980 dev/console",
                "-rwxr-xr-x 1 root root 10 Jan 1 1980 init",
                "drwxr-xr-x 2 root root 0 Jan 1 1980 proc",
            ]
        );
    }

    #[test]
    fn the_order_of_adding_has_no_influence() {
        let mut other = Archive::default();
        other.character("dev/console", (5, 1), 0o600).unwrap();
        other.directory("proc").unwrap();
        other.link("bin/sh", "busybox").unwrap();
        other.file("init", b"#!/bin/sh\n".to_vec(), 0o755).unwrap();
        assert_eq!(other.compress(3, 0).unwrap(), sample().compress(3, 0).unwrap());
    }

    #[test]
    fn paths_that_cannot_be_are_refused() {
        let mut archive = sample();
        for path in ["", "/", "a//b", "../x", "a/./b"] {
            assert!(matches!(archive.directory(path), Err(Error::Path(_))), "{path}");
        }
        assert_eq!(archive.file("init/x", vec![], 0o644), Err(Error::NotDirectory("init".into())));
        assert_eq!(archive.file("init", vec![], 0o644), Err(Error::Twice("init".into())));
        assert_eq!(archive.directory("proc"), Ok(()));
    }
}
