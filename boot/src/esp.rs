//! Files on an EFI system partition (ESP).
//!
//! FAT has no journal, and renaming over an existing file is not atomic. So this module never
//! replaces a file: a new file is either complete and on the disk, or absent.

use rustix::fs::{Advice, RenameFlags};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::{Component, Path, PathBuf};

/// Lifeboat's own directory.
pub const DIRECTORY: &str = "EFI/lifeboat";

/// Larger than any kernel with its initramfs. A damaged FAT can claim up to 4 GiB.
const LARGEST: u64 = 256 << 20;

const TEMPORARY: &str = "lifeboat.new";

/// Why the ESP could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file exists, and files are never replaced.
    #[error(
        "{0} exists, and files on an ESP are not replaced; write the new one under another name"
    )]
    Exists(PathBuf),
    /// There is not enough space. Nothing was written.
    #[error(
        "{path} needs {needed} bytes on the ESP, but only {free} are free; delete a boot \
        environment or old files"
    )]
    NoSpace {
        /// The file that was not written.
        path: PathBuf,
        /// Bytes that it takes.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// FAT cannot hold the path, or the path leads out of the ESP.
    #[error("{0:?} cannot be the path of a file on an ESP; use a relative path of plain names")]
    Path(PathBuf),
    /// The path is not below Lifeboat's directory.
    #[error("refused to delete {0:?}: it is not below {DIRECTORY} on the ESP")]
    NotOurs(PathBuf),
    /// The file is too large to be read into memory.
    #[error(
        "{path} has {length} bytes, more than any loader file; check the ESP with `fsck.fat -n`"
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        length: u64,
    },
    /// The bytes on the disk differ from what was written.
    #[error("{0} does not read back as it was written; check the disk")]
    ReadBack(PathBuf),
    /// A system call failed.
    #[error("{action} {path}: {source}")]
    Io {
        /// The action that failed.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
}

/// A mounted ESP.
#[derive(Debug, Clone)]
pub struct Esp {
    root: PathBuf,
}

impl Esp {
    /// The ESP mounted on `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The mount point.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of the boot environment whose id begins with these eight hex
    /// digits, relative to the ESP.
    pub fn directory_of(id8: &str) -> PathBuf {
        Path::new(DIRECTORY).join(id8)
    }

    /// A path on the ESP as firmware writes it: `\EFI\lifeboat\2f0c1a94\grubx64.efi`.
    ///
    /// # Errors
    /// [`Error::Path`]
    pub fn efi_path(relative: &Path) -> Result<String, Error> {
        let mut path = String::new();
        for name in names(relative)? {
            path.push('\\');
            path.push_str(name);
        }
        Ok(path)
    }

    /// The absolute path, in the running system, of a path on the ESP.
    ///
    /// # Errors
    /// [`Error::Path`]
    pub fn absolute(&self, relative: &Path) -> Result<PathBuf, Error> {
        names(relative).map(|_| self.root.join(relative))
    }

    /// Free space in bytes.
    ///
    /// # Errors
    /// statvfs(3) failed.
    pub fn free_bytes(&self) -> Result<u64, Error> {
        self.space().map(|(free, _)| free)
    }

    /// Bytes that the files would take, including new directories, so that a plan to write several
    /// files can check the space beforehand. Each write checks again.
    ///
    /// # Errors
    /// statvfs(3) failed, or a path cannot be on an ESP.
    pub fn needed_bytes(&self, files: &[(&Path, u64)]) -> Result<u64, Error> {
        let (_, cluster) = self.space()?;
        let mut directories: Vec<&Path> = Vec::new();
        let mut clusters = 0;
        for (relative, length) in files {
            self.absolute(relative)?;
            clusters += length.div_ceil(cluster);
            let parents = relative.ancestors().skip(1);
            let new = parents.filter(|p| !p.as_os_str().is_empty() && !self.root.join(p).exists());
            directories.extend(new);
        }
        directories.sort();
        directories.dedup();
        // One more, for an existing directory that may grow.
        clusters += directories.len() as u64 + 1;
        Ok(clusters * cluster)
    }

    /// Writes a new file, creates the directories above it, and reads the file back from the disk.
    /// After this returns, a boot entry may point at the file.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::NoSpace`] before anything is written, [`Error::Path`],
    /// [`Error::ReadBack`], or a system call failed. After an error the file does not exist.
    pub fn write_new(&self, relative: &Path, bytes: &[u8]) -> Result<(), Error> {
        let path = self.absolute(relative)?;
        if path.symlink_metadata().is_ok() {
            return Err(Error::Exists(path));
        }
        let needed = self.needed_bytes(&[(relative, bytes.len() as u64)])?;
        let free = self.free_bytes()?;
        if needed > free {
            return Err(Error::NoSpace { path, needed, free });
        }
        let directory = self.make_directories(relative)?;
        let temporary = directory.join(TEMPORARY);
        let written = write_synced(&temporary, bytes)
            .and_then(|()| rename_new(&temporary, &path))
            .and_then(|()| sync_directory(&directory));
        if let Err(e) = written {
            let _ = fs::remove_file(&temporary);
            return Err(e);
        }
        match read_from_disk(&path) {
            Ok(back) if back == bytes => Ok(()),
            back => {
                let _ = fs::remove_file(&path);
                Err(back.err().unwrap_or(Error::ReadBack(path)))
            }
        }
    }

    /// The bytes of a file, or `None` if it does not exist.
    ///
    /// # Errors
    /// [`Error::TooLarge`], or reading failed.
    pub fn read(&self, relative: &Path) -> Result<Option<Vec<u8>>, Error> {
        let path = self.absolute(relative)?;
        let length = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(e) if is_absent(&e) => return Ok(None),
            Err(e) => return Err(failed("reading", &path, e)),
        };
        if length > LARGEST {
            return Err(Error::TooLarge { path, length });
        }
        fs::read(&path).map(Some).map_err(|e| failed("reading", &path, e))
    }

    /// Deletes a file, or a directory and its contents. The path must be below Lifeboat's own
    /// directory. Deleting a path that does not exist succeeds.
    ///
    /// # Errors
    /// [`Error::NotOurs`], [`Error::Path`], or a system call failed. The call can be repeated after
    /// an error.
    pub fn remove_tree(&self, relative: &Path) -> Result<(), Error> {
        let names = names(relative)?;
        let ours = DIRECTORY.split('/');
        let below = ours.clone().count() < names.len()
            && ours.zip(&names).all(|(a, b)| a.eq_ignore_ascii_case(b));
        if !below {
            return Err(Error::NotOurs(relative.to_owned()));
        }
        let path = self.root.join(relative);
        let removed = match path.symlink_metadata() {
            Ok(m) if m.is_dir() => fs::remove_dir_all(&path),
            Ok(_) => fs::remove_file(&path),
            Err(e) => Err(e),
        };
        match removed {
            Ok(()) => sync_directory(path.parent().unwrap_or(&self.root)),
            Err(e) if is_absent(&e) => Ok(()),
            Err(e) => Err(failed("deleting", &path, e)),
        }
    }

    /// The subdirectories of Lifeboat's directory, sorted: one per boot environment.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn directories(&self) -> Result<Vec<String>, Error> {
        let path = self.root.join(DIRECTORY);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(e) if is_absent(&e) => return Ok(Vec::new()),
            Err(e) => return Err(failed("listing", &path, e)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| failed("listing", &path, e))?;
            let directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            names.extend(entry.file_name().into_string().ok().filter(|_| directory));
        }
        names.sort();
        Ok(names)
    }

    /// Free bytes, and the bytes of one cluster.
    fn space(&self) -> Result<(u64, u64), Error> {
        let space = rustix::fs::statvfs(&self.root)
            .map_err(|e| failed("reading the free space of", &self.root, e.into()))?;
        let cluster = space.f_frsize.max(1);
        Ok((space.f_bavail.saturating_mul(cluster), cluster))
    }

    /// Creates the directories above a file; each is on the disk before the next is made.
    fn make_directories(&self, relative: &Path) -> Result<PathBuf, Error> {
        let mut directory = self.root.clone();
        for name in relative.parent().into_iter().flat_map(Path::components) {
            let above = directory.clone();
            directory.push(name);
            match fs::create_dir(&directory) {
                Ok(()) => sync_directory(&above)?,
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(failed("creating", &directory, e)),
            }
        }
        Ok(directory)
    }
}

/// The components of a relative path; FAT can hold each of them.
fn names(relative: &Path) -> Result<Vec<&str>, Error> {
    let error = || Error::Path(relative.to_owned());
    let mut names = Vec::new();
    for component in relative.components() {
        let Component::Normal(name) = component else {
            return Err(error());
        };
        let name = name.to_str().ok_or_else(error)?;
        let legal = |c: char| !c.is_control() && !r#""*/:<>?\|"#.contains(c);
        if !name.chars().all(legal) || name.ends_with(['.', ' ']) || name.len() > 255 {
            return Err(error());
        }
        names.push(name);
    }
    if names.is_empty() {
        return Err(error());
    }
    Ok(names)
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|e| failed("writing", path, e))
}

fn rename_new(from: &Path, to: &Path) -> Result<(), Error> {
    let here = rustix::fs::CWD;
    match rustix::fs::renameat_with(here, from, here, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::EXIST) => Err(Error::Exists(to.to_owned())),
        Err(e) => Err(failed("renaming to", to, e.into())),
    }
}

/// Writes a directory's entries to the disk. On vfat, fsync of a directory does not write the
/// allocation table or the FSINFO sector; syncfs does.
fn sync_directory(path: &Path) -> Result<(), Error> {
    let sync = || {
        let directory = File::open(path)?;
        directory.sync_all()?;
        Ok(rustix::fs::syncfs(directory.as_fd())?)
    };
    sync().map_err(|e| failed("syncing", path, e))
}

/// Reads a file from the disk, bypassing the page cache.
fn read_from_disk(path: &Path) -> Result<Vec<u8>, Error> {
    let read = || {
        let mut file = File::open(path)?;
        rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|e| failed("reading back", path, e))
}

fn is_absent(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
