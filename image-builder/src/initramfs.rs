//! The initramfs: a cpio archive in the "newc" format of the kernel's
//! Documentation/driver-api/early-userspace/buffer-format.rst, compressed with zstd.

use std::collections::BTreeMap;
use std::io::{self, Write};

/// The number of a device node.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct DeviceNumber {
    /// Selects the driver.
    pub major: u32,
    /// Selects the device of that driver.
    pub minor: u32,
}

/// A file of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Directory,
    File { data: Vec<u8>, mode: u32 },
    Symlink { target: String },
    CharacterDevice { number: DeviceNumber, mode: u32 },
}

/// Why a file cannot be added to the archive.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// A file in the image cannot have this path.
    #[error("{0:?} cannot be a path in the image: give one without \"..\" or empty components")]
    Path(String),
    /// The archive has another file at this path.
    #[error("{0} would be in the image twice, with different content")]
    Conflict(String),
    /// A component of the path is not a directory.
    #[error("{0} would be in the image both as a file and as a directory")]
    NotDirectory(String),
    /// The file is too large for the format.
    #[error("{0} is larger than 4 GiB, the limit of cpio")]
    TooLarge(String),
}

/// A tree of files in memory, all owned by root. The order in which files are added does not
/// matter.
#[derive(Debug, Default, Clone)]
pub struct Archive {
    nodes: BTreeMap<String, Node>,
}

impl Archive {
    /// Adds a directory and its parents.
    ///
    /// # Errors
    /// When the path is invalid or already in use.
    pub fn directory(&mut self, path: &str) -> Result<(), Error> {
        self.insert(path, Node::Directory)
    }

    /// Adds a file with permission bits `mode`.
    ///
    /// # Errors
    /// When the path is invalid or already in use.
    pub fn file(&mut self, path: &str, data: Vec<u8>, mode: u32) -> Result<(), Error> {
        if u32::try_from(data.len()).is_err() {
            return Err(Error::TooLarge(path.into()));
        }
        self.insert(path, Node::File { data, mode })
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// When the path is invalid or already in use.
    pub fn symlink(&mut self, path: &str, target: &str) -> Result<(), Error> {
        self.insert(path, Node::Symlink { target: target.into() })
    }

    /// Adds a character device.
    ///
    /// # Errors
    /// When the path is invalid or already in use.
    pub fn character_device(
        &mut self,
        path: &str,
        number: DeviceNumber,
        mode: u32,
    ) -> Result<(), Error> {
        self.insert(path, Node::CharacterDevice { number, mode })
    }

    /// Whether the archive has a file at `path`.
    pub fn contains(&self, path: &str) -> bool {
        self.nodes.contains_key(path.trim_matches('/'))
    }

    /// Total size of all files in bytes.
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
            Some(existing) if *existing == node => Ok(()),
            Some(_) => Err(Error::Conflict(clean.into())),
            None => {
                self.nodes.insert(clean.into(), node);
                Ok(())
            }
        }
    }

    /// Writes the archive, sorted by path. All files get the time `mtime` (seconds since 1970).
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn write(&self, mtime: u32, out: &mut impl Write) -> io::Result<()> {
        for (index, (path, node)) in (1..).zip(&self.nodes) {
            let header = Header { inode: index, mtime, ..Header::of(node) };
            let content = match node {
                Node::File { data, .. } => data.as_slice(),
                Node::Symlink { target } => target.as_bytes(),
                Node::Directory | Node::CharacterDevice { .. } => &[],
            };
            header.write(path, content, out)?;
        }
        Header::default().write("TRAILER!!!", &[], out)
    }

    /// Renders the archive for the kernel: cpio, compressed with zstd at `level` 1 to 19.
    ///
    /// Level 19 has a window of 8 MiB. The kernel accepts up to 128 MiB and needs as much memory.
    ///
    /// # Errors
    /// When zstd fails.
    pub fn compress(&self, level: i32, mtime: u32) -> io::Result<Vec<u8>> {
        let mut encoder = zstd::Encoder::new(Vec::new(), level)?;
        // The number of workers affects the output, so it is fixed.
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
    device: DeviceNumber,
}

impl Header {
    fn of(node: &Node) -> Self {
        let file = |mode| Self { mode, links: 1, ..Self::default() };
        match node {
            Node::Directory => Self { links: 2, ..file(0o040_755) },
            Node::File { mode, .. } => file(0o100_000 | mode),
            Node::Symlink { .. } => file(0o120_777),
            Node::CharacterDevice { number, mode } => {
                Self { device: *number, ..file(0o020_000 | mode) }
            }
        }
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
            0, // device that the file was read from
            0,
            self.device.major,
            self.device.minor,
            name_size,
            0, // checksum, not used in this format
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

    const CONSOLE: DeviceNumber = DeviceNumber { major: 5, minor: 1 };

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
        archive.symlink("/bin/sh", "busybox").unwrap();
        archive.directory("proc").unwrap();
        archive.character_device("dev/console", CONSOLE, 0o600).unwrap();
        archive
    }

    #[test]
    fn cpio_lists_the_files_that_were_added() {
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
    fn the_order_of_adding_does_not_matter() {
        let mut other = Archive::default();
        other.character_device("dev/console", CONSOLE, 0o600).unwrap();
        other.directory("proc").unwrap();
        other.symlink("bin/sh", "busybox").unwrap();
        other.file("init", b"#!/bin/sh\n".to_vec(), 0o755).unwrap();
        assert_eq!(other.compress(3, 0).unwrap(), sample().compress(3, 0).unwrap());
    }

    #[test]
    fn invalid_and_conflicting_paths_are_refused() {
        let mut archive = sample();
        for path in ["", "/", "a//b", "../x", "a/./b"] {
            assert!(matches!(archive.directory(path), Err(Error::Path(_))), "{path}");
        }
        assert_eq!(archive.file("init/x", vec![], 0o644), Err(Error::NotDirectory("init".into())));
        assert_eq!(archive.file("init", vec![], 0o644), Err(Error::Conflict("init".into())));
        assert_eq!(archive.directory("proc"), Ok(()));
    }
}
