//! Files below a root that is not ours, where no link leads out: openat2(2) with `RESOLVE_IN_ROOT` and
//! `RESOLVE_NO_MAGICLINKS`. Absolute links, which os-release and init are on many systems, resolve inside.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use rustix::fs::{CWD, Dir, Mode, OFlags, ResolveFlags, openat, openat2};

/// A directory taken as the root of a foreign system.
#[derive(Debug)]
pub struct RootDir {
    fd: OwnedFd,
}

impl RootDir {
    /// Opens the directory itself.
    ///
    /// # Errors
    /// As open(2).
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(RootDir { fd: openat(CWD, path, flags, Mode::empty())? })
    }

    /// A directory below, as a root of its own.
    ///
    /// # Errors
    /// As openat2(2).
    pub fn subdirectory(&self, path: &Path) -> io::Result<Self> {
        Ok(RootDir { fd: self.open_at(path, OFlags::PATH | OFlags::DIRECTORY)? })
    }

    /// Opens a path below with these flags.
    ///
    /// # Errors
    /// As openat2(2); `ENOSYS` before Linux 5.6.
    pub fn open_at(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        Ok(openat2(&self.fd, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?)
    }

    /// What a path leads to, links followed.
    ///
    /// # Errors
    /// As openat2(2).
    pub fn metadata(&self, path: impl AsRef<Path>) -> io::Result<Metadata> {
        File::from(self.open_at(path.as_ref(), OFlags::PATH)?).metadata()
    }

    /// What stands at a path itself; only its last component is not followed.
    ///
    /// # Errors
    /// As openat2(2).
    pub fn symlink_metadata(&self, path: impl AsRef<Path>) -> io::Result<Metadata> {
        File::from(self.open_at(path.as_ref(), OFlags::PATH | OFlags::NOFOLLOW)?).metadata()
    }

    /// Something is there, links followed.
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.metadata(path).is_ok()
    }

    /// A directory is there, links followed.
    pub fn is_dir(&self, path: impl AsRef<Path>) -> bool {
        self.metadata(path).is_ok_and(|m| m.is_dir())
    }

    /// Opens a regular file for reading; anything else (a FIFO would block) is an error.
    ///
    /// # Errors
    /// As openat2(2), and `InvalidInput` for what is not a regular file.
    pub fn open_file(&self, path: impl AsRef<Path>) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(self.open_at(path.as_ref(), flags)?);
        if file.metadata()?.is_file() {
            return Ok(file);
        }
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
    }

    /// Reads a regular file of at most `limit` bytes.
    ///
    /// # Errors
    /// As [`RootDir::open_file`], and `FileTooLarge` beyond the limit.
    pub fn read(&self, path: impl AsRef<Path>, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.open_file(path)?.take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {limit} bytes")));
        }
        Ok(bytes)
    }

    /// The names in a directory, at most `limit` of them, in no order.
    ///
    /// # Errors
    /// As openat2(2) and getdents(2).
    pub fn names(&self, path: impl AsRef<Path>, limit: usize) -> io::Result<Vec<OsString>> {
        let fd = self.open_at(path.as_ref(), OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut names = Vec::new();
        for entry in Dir::new(fd)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name == b"." || name == b".." {
                continue;
            }
            if names.len() == limit {
                break;
            }
            names.push(OsString::from_vec(name));
        }
        Ok(names)
    }
}

impl AsFd for RootDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_stay_inside() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("etc")).unwrap();
        std::fs::create_dir_all(root.path().join("usr/lib")).unwrap();
        std::fs::write(root.path().join("usr/lib/os-release"), "ID=inside").unwrap();
        symlink("/usr/lib/os-release", root.path().join("etc/os-release")).unwrap();
        symlink("../../../../../../etc/os-release", root.path().join("etc/up")).unwrap();
        symlink("/proc/self/root/etc/passwd", root.path().join("etc/magic")).unwrap();
        let dir = RootDir::open(root.path()).unwrap();
        assert_eq!(dir.read("etc/os-release", 100).unwrap(), b"ID=inside");
        assert_eq!(dir.read("/etc/up", 100).unwrap(), b"ID=inside");
        assert!(dir.read("etc/magic", 1 << 20).is_err());
        assert!(dir.read("etc/os-release", 3).is_err());
        assert!(dir.read("etc", 100).is_err());
        assert!(dir.symlink_metadata("etc/magic").unwrap().is_symlink());
    }

    #[test]
    fn a_fifo_does_not_block() {
        let root = tempfile::tempdir().unwrap();
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(CWD, root.path().join("fifo"), fifo, Mode::RUSR, 0).unwrap();
        assert!(RootDir::open(root.path()).unwrap().read("fifo", 10).is_err());
    }
}
