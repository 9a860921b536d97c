//! Files of a BE, opened as that BE would see them: with openat2(2) and `RESOLVE_IN_ROOT`, so that
//! a symlink on a foreign disk is never followed out of it.

mod menu_files;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, IFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::{Doing, Error, Result};
use crate::inode_flags;

/// The largest configuration file that is read. A foreign disk must not fill the memory.
pub const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// The root directory of a BE.
#[derive(Debug)]
pub struct RootDir {
    directory: OwnedFd,
    path: PathBuf,
}

impl RootDir {
    /// Opens the directory where a BE is mounted.
    ///
    /// # Errors
    /// When it cannot be opened as a directory.
    pub fn open(root: &Path) -> Result<Self> {
        let directory = rustix::fs::open(
            root,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .at("opening", root)?;
        Ok(RootDir { directory, path: root.to_owned() })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `path` with the mount point before it, for messages.
    fn shown(&self, path: &Path) -> PathBuf {
        self.path.join(relative(path))
    }

    fn openat2(
        &self,
        path: &Path,
        flags: OFlags,
        mode: Mode,
    ) -> std::result::Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let path = relative(path);
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        // A path with `..` fails with EAGAIN while something is mounted or renamed anywhere on the
        // system, which may happen for a while. openat2(2) leaves it to the caller to try again.
        let attempt =
            || rustix::fs::openat2(&self.directory, path, flags | OFlags::CLOEXEC, mode, resolve);
        for _ in 0..10_000 {
            match attempt() {
                Err(Errno::AGAIN) => std::thread::yield_now(),
                done => return done,
            }
        }
        attempt()
    }

    /// Opens a regular file for reading. Returns `None` if it does not exist. Nothing else is
    /// opened: to open a device can start a watchdog or load a driver.
    ///
    /// # Errors
    /// When it is not a regular file, or cannot be opened.
    pub fn file(&self, path: impl AsRef<Path>) -> Result<Option<File>> {
        let path = path.as_ref();
        let found = match self.openat2(path, OFlags::PATH, Mode::empty()) {
            Ok(found) => found,
            Err(e) if is_missing(e) => return Ok(None),
            Err(e) => return Err(e).at("opening", &self.shown(path)),
        };
        match open_found(&found, &[FileType::RegularFile]).at("opening", &self.shown(path))? {
            Some(file) => Ok(Some(file.into())),
            None => Err(Error::Format { path: self.shown(path), why: "not a regular file".into() }),
        }
    }

    /// Reads the metadata of a path, following symlinks. Returns `None` if it does not exist.
    ///
    /// # Errors
    /// When it exists but its metadata cannot be read.
    pub fn metadata(&self, path: impl AsRef<Path>) -> Result<Option<std::fs::Metadata>> {
        self.metadata_with(path.as_ref(), OFlags::PATH)
    }

    /// Reads the metadata of a path without following a symlink at its end. Returns `None` if it
    /// does not exist.
    ///
    /// # Errors
    /// When it exists but its metadata cannot be read.
    pub fn symlink_metadata(&self, path: impl AsRef<Path>) -> Result<Option<std::fs::Metadata>> {
        self.metadata_with(path.as_ref(), OFlags::PATH | OFlags::NOFOLLOW)
    }

    fn metadata_with(&self, path: &Path, flags: OFlags) -> Result<Option<std::fs::Metadata>> {
        let what = "reading the metadata of";
        match self.openat2(path, flags, Mode::empty()) {
            Ok(fd) => File::from(fd).metadata().map(Some).at(what, &self.shown(path)),
            Err(e) if is_missing(e) => Ok(None),
            Err(e) => Err(e).at(what, &self.shown(path)),
        }
    }

    /// What a symlink names; `None` if there is none.
    ///
    /// # Errors
    /// It is not a symlink, or cannot be read.
    pub fn link_target(&self, path: impl AsRef<Path>) -> Result<Option<PathBuf>> {
        let path = path.as_ref();
        let link = match self.openat2(path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(link) => link,
            Err(e) if is_missing(e) => return Ok(None),
            Err(e) => return Err(e).at("opening", &self.shown(path)),
        };
        let target = rustix::fs::readlinkat(&link, "", Vec::new());
        let target = target.at("reading the symlink", &self.shown(path))?;
        Ok(Some(PathBuf::from(std::ffi::OsString::from_vec(target.into_bytes()))))
    }

    /// Opens a directory with `O_PATH`, to mount something on it. Returns `None` if it does not
    /// exist.
    ///
    /// # Errors
    /// When it exists but cannot be opened.
    pub fn directory(&self, path: impl AsRef<Path>) -> Result<Option<OwnedFd>> {
        let path = path.as_ref();
        match self.openat2(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()) {
            Ok(fd) => Ok(Some(fd)),
            Err(e) if is_missing(e) => Ok(None),
            Err(e) => Err(e).at("opening", &self.shown(path)),
        }
    }

    /// Whether `path` exists, following symlinks.
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        matches!(self.metadata(path), Ok(Some(_)))
    }

    /// Reads a regular file of at most [`MAX_CONFIG_BYTES`]. Returns `None` if it does not exist.
    ///
    /// # Errors
    /// When it is not a regular file, larger, or unreadable.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Option<Vec<u8>>> {
        self.read_at_most(path, MAX_CONFIG_BYTES)
    }

    /// As [`RootDir::read`], for a file of at most this many bytes.
    ///
    /// # Errors
    /// As [`RootDir::read`].
    pub fn read_at_most(&self, path: impl AsRef<Path>, limit: u64) -> Result<Option<Vec<u8>>> {
        let path = path.as_ref();
        let Some(file) = self.file(path)? else { return Ok(None) };
        let metadata = file.metadata().at("reading the metadata of", &self.shown(path))?;
        let mut bytes = Vec::new();
        if metadata.len() <= limit {
            // One byte more, since the file may grow meanwhile.
            file.take(limit + 1).read_to_end(&mut bytes).at("reading", &self.shown(path))?;
        }
        if metadata.len().max(bytes.len() as u64) > limit {
            return Err(Error::Format {
                path: self.shown(path),
                why: format!("larger than {} MiB", limit >> 20),
            });
        }
        Ok(Some(bytes))
    }

    /// As [`RootDir::read`], but returns text. Bytes that are not UTF-8 are replaced.
    ///
    /// # Errors
    /// As [`RootDir::read`].
    pub fn text(&self, path: impl AsRef<Path>) -> Result<Option<String>> {
        Ok(self.read(path)?.map(|b| String::from_utf8_lossy(&b).into_owned()))
    }

    /// Lists the names in a directory, sorted. The list is empty if there is no such directory.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn names(&self, path: impl AsRef<Path>) -> Result<Vec<std::ffi::OsString>> {
        let path = path.as_ref();
        let fd = match self.openat2(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()) {
            Ok(fd) => fd,
            Err(e) if is_missing(e) => return Ok(Vec::new()),
            Err(e) => return Err(e).at("opening", &self.shown(path)),
        };
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(fd).at("reading", &self.shown(path))? {
            let entry = entry.at("reading", &self.shown(path))?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(std::ffi::OsStr::from_bytes(name).to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// Opens a directory, creating it and its parents with mode 755 if they are missing.
    ///
    /// # Errors
    /// When something that is not a directory is in the way, or it cannot be created.
    pub fn make_directory(&self, path: impl AsRef<Path>) -> Result<OwnedFd> {
        let path = path.as_ref();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        match self.openat2(path, flags, Mode::empty()) {
            Err(Errno::NOENT) => {}
            other => return other.at("opening", &self.shown(path)),
        }
        let (parent, name) = split(path)?;
        let parent = self.make_directory(parent)?;
        let _unlocked = Unlocked::new(&parent, name);
        match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(e).at("making the directory", &self.shown(path)),
        }
        rustix::fs::fsync(&parent).at("syncing the directory of", &self.shown(path))?;
        self.openat2(path, flags, Mode::empty()).at("opening", &self.shown(path))
    }

    /// Writes a file durably and in one step: under a temporary name, then fsync, rename, and fsync
    /// of the directory. An existing file keeps its owner, mode and extended attributes; a new one
    /// gets `mode`.
    ///
    /// # Errors
    /// When any of that fails. An existing file then has its old content.
    pub fn write(&self, path: impl AsRef<Path>, bytes: &[u8], mode: u32) -> Result<()> {
        self.replace(path, mode, |file| file.write_all(bytes))
    }

    /// As [`RootDir::write`], with what `fill` writes to the new file.
    ///
    /// # Errors
    /// Those of `fill` and of [`RootDir::write`]. An existing file then has its old content.
    pub fn replace(
        &self,
        path: impl AsRef<Path>,
        mode: u32,
        fill: impl FnOnce(&mut File) -> std::io::Result<()>,
    ) -> Result<()> {
        let path = path.as_ref();
        let shown = self.shown(path);
        let (parent, name) = split(path)?;
        let directory = self.make_directory(parent)?;
        let _unlocked = Unlocked::new(&directory, name);
        let mut temporary = name.to_owned();
        temporary.push(".lifeboat-new");
        let remove =
            |directory: &OwnedFd| rustix::fs::unlinkat(directory, &temporary, AtFlags::empty());
        match remove(&directory) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(e) => return Err(e).at("removing a left-over beside", &shown),
        }
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(
            rustix::fs::openat(&directory, &temporary, flags, Mode::from_raw_mode(0o600))
                .at("writing", &shown)?,
        );
        let written = fill(&mut file)
            .and_then(|()| keep_attributes(&directory, name, &file, mode))
            .and_then(|()| file.sync_all())
            .and_then(|()| {
                rustix::fs::renameat(&directory, &temporary, &directory, name)
                    .map_err(std::io::Error::from)
            })
            .and_then(|()| rustix::fs::fsync(&directory).map_err(std::io::Error::from));
        if written.is_err() {
            // The first error is the one to report. The next write removes what is left over.
            let _ = remove(&directory);
        }
        written.at("writing", &shown)
    }

    /// Makes `path` a further name of a file, in the place of another one of that name.
    ///
    /// # Errors
    /// As link(2) and rename(2). What was there is then still there.
    pub fn hard_link(&self, existing: impl AsRef<Path>, path: impl AsRef<Path>) -> Result<()> {
        let (existing, path) = (existing.as_ref(), path.as_ref());
        let shown = self.shown(path);
        let places = [existing, path].map(|path| -> Result<_> {
            let (parent, name) = split(path)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let parent = self.openat2(parent, flags, Mode::empty()).at("opening", &shown)?;
            Ok((parent, name.to_owned()))
        });
        let [from, to] = places;
        let ((from, from_name), (to, name)) = (from?, to?);
        let _unlocked = Unlocked::new(&to, &name);
        let mut temporary = name.clone();
        temporary.push(".lifeboat-new");
        let _ = rustix::fs::unlinkat(&to, &temporary, AtFlags::empty());
        rustix::fs::linkat(&from, &from_name, &to, &temporary, AtFlags::empty())
            .and_then(|()| rustix::fs::renameat(&to, &temporary, &to, &name))
            .and_then(|()| rustix::fs::fsync(&to))
            .at("linking", &shown)
    }

    /// Creates a symlink, replacing a file or symlink of the same name. A symlink that already has
    /// this target is left alone.
    ///
    /// # Errors
    /// When a directory is in the way, or the symlink cannot be created.
    pub fn symlink(&self, path: impl AsRef<Path>, target: &str) -> Result<()> {
        let path = path.as_ref();
        let (parent, name) = split(path)?;
        let directory = self.make_directory(parent)?;
        if rustix::fs::readlinkat(&directory, name, Vec::new())
            .is_ok_and(|found| found.to_bytes() == target.as_bytes())
        {
            return Ok(());
        }
        self.remove(path)?;
        let _unlocked = Unlocked::new(&directory, name);
        rustix::fs::symlinkat(target, &directory, name)
            .at("making the symlink", &self.shown(path))?;
        rustix::fs::fsync(&directory).at("syncing the directory of", &self.shown(path))
    }

    /// Removes a file, or a symlink but not its target. It is not an error if there is none.
    ///
    /// # Errors
    /// When it is a directory, or cannot be removed.
    pub fn remove(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let (parent, name) = split(path)?;
        let directory =
            match self.openat2(parent, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()) {
                Ok(directory) => directory,
                Err(e) if is_missing(e) => return Ok(()),
                Err(e) => return Err(e).at("opening", &self.shown(parent)),
            };
        let _unlocked = Unlocked::new(&directory, name);
        match rustix::fs::unlinkat(&directory, name, AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(e).at("removing", &self.shown(path)),
            Ok(()) => {
                rustix::fs::fsync(&directory).at("syncing the directory of", &self.shown(path))
            }
        }
    }

    /// Flushes the whole file system.
    ///
    /// # Errors
    /// When the device reports a write error.
    pub fn sync(&self) -> Result<()> {
        let directory =
            self.openat2(Path::new("."), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty());
        let directory = directory.at("opening", &self.path)?;
        rustix::fs::syncfs(directory.as_fd()).at("syncing", &self.path)
    }
}

/// Gives a new file the attributes of the one that it replaces, or `mode` if there is none.
fn keep_attributes(
    directory: &OwnedFd,
    name: &std::ffi::OsStr,
    file: &File,
    mode: u32,
) -> std::io::Result<()> {
    let old = match open_entry(directory, name) {
        Ok(fd) => File::from(fd),
        Err(Errno::NOENT | Errno::LOOP) => {
            return Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(mode))?);
        }
        Err(e) => return Err(e.into()),
    };
    let metadata = old.metadata()?;
    std::os::unix::fs::fchown(file, Some(metadata.uid()), Some(metadata.gid()))?;
    let mut names = vec![0; 64 << 10];
    let length = match rustix::fs::flistxattr(&old, &mut names) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => 0,
        Err(e) => return Err(e.into()),
    };
    for attribute in names[..length].split(|b| *b == 0).filter(|n| !n.is_empty()) {
        let mut value = vec![0; 64 << 10];
        let size = rustix::fs::fgetxattr(&old, attribute, &mut value)?;
        rustix::fs::fsetxattr(file, attribute, &value[..size], rustix::fs::XattrFlags::empty())?;
    }
    // This comes after chown(2), which clears the set-user-ID bit.
    Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(metadata.mode() & 0o7777))?)
}

/// Clears the immutable and append-only flags of a directory and of one of its entries until this
/// is dropped. Then the directory, and whatever has the name of the entry, get their flags back.
struct Unlocked<'a> {
    directory: &'a OwnedFd,
    name: &'a std::ffi::OsStr,
    directory_flags: Option<IFlags>,
    entry_flags: Option<IFlags>,
}

impl<'a> Unlocked<'a> {
    fn new(directory: &'a OwnedFd, name: &'a std::ffi::OsStr) -> Self {
        let entry = open_entry(directory, name).ok();
        let entry_flags = entry.and_then(|file| inode_flags::lift(&file));
        let directory_flags = inode_flags::lift(directory);
        Unlocked { directory, name, directory_flags, entry_flags }
    }
}

impl Drop for Unlocked<'_> {
    fn drop(&mut self) {
        if let Some(lifted) = self.entry_flags
            && let Ok(file) = open_entry(self.directory, self.name)
        {
            inode_flags::put_back(&file, lifted);
        }
        if let Some(lifted) = self.directory_flags {
            inode_flags::put_back(self.directory, lifted);
        }
    }
}

/// Opens an entry of a directory for reading, if it is a file or a directory. Anything else
/// fails with `ELOOP`, as a symlink does.
pub(crate) fn open_entry(directory: &OwnedFd, name: &std::ffi::OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = rustix::fs::openat(directory, name, flags, Mode::empty())?;
    open_found(&found, &[FileType::RegularFile, FileType::Directory])?.ok_or(Errno::LOOP)
}

/// Opens for reading what was found with `O_PATH`; `None` if it is of another type. A device node
/// is not opened at any time, not even to find out what it is.
fn open_found(found: &OwnedFd, types: &[FileType]) -> Result<Option<OwnedFd>, Errno> {
    let mode = rustix::fs::fstat(found)?.st_mode;
    if !types.contains(&FileType::from_raw_mode(mode)) {
        return Ok(None);
    }
    let link = format!("/proc/self/fd/{}", found.as_raw_fd());
    rustix::fs::open(link, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map(Some)
}

/// A path without its leading slashes.
fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

fn split(path: &Path) -> Result<(&Path, &std::ffi::OsStr)> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok((parent, name)),
        _ => Err(Error::Failed(format!("'{}' does not name a file", path.display()))),
    }
}

fn is_missing(e: Errno) -> bool {
    matches!(e, Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
}

#[cfg(test)]
pub(crate) mod testing;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn tree() -> (tempfile::TempDir, RootDir) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("etc")).unwrap();
        let root = RootDir::open(directory.path()).unwrap();
        (directory, root)
    }

    #[test]
    fn an_absolute_symlink_stays_inside() {
        let (directory, root) = tree();
        symlink("/etc/real", directory.path().join("etc/link")).unwrap();
        std::fs::write(directory.path().join("etc/real"), "inside").unwrap();
        assert_eq!(root.text("/etc/link").unwrap().unwrap(), "inside");
        symlink("../../../../../etc/passwd", directory.path().join("etc/escape")).unwrap();
        assert_eq!(root.text("/etc/escape").unwrap(), None);
    }

    #[test]
    fn a_symlink_with_dot_dot_is_followed_while_other_threads_rename() {
        let (directory, root) = tree();
        symlink("../etc/real", directory.path().join("etc/link")).unwrap();
        std::fs::write(directory.path().join("etc/real"), "inside").unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (a, b) = (directory.path().join("a"), directory.path().join("b"));
                std::fs::write(&a, "").unwrap();
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    std::fs::rename(&a, &b).unwrap();
                    std::fs::rename(&b, &a).unwrap();
                }
            });
            let failure = (0..5000).find_map(|_| root.text("/etc/link").err());
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(failure.is_none(), "{failure:?}");
        });
    }

    #[test]
    fn writing_through_a_symlink_to_a_directory_outside_fails() {
        let (directory, root) = tree();
        let outside = tempfile::tempdir().unwrap();
        symlink(outside.path(), directory.path().join("etc/lifeboat")).unwrap();
        assert!(root.write("/etc/lifeboat/environment.toml", b"x", 0o644).is_err());
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_replaced_file_keeps_its_mode() {
        let (directory, root) = tree();
        let path = directory.path().join("etc/fstab");
        std::fs::write(&path, "old").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        root.write("etc/fstab", b"new", 0o644).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(root.names("etc").unwrap(), ["fstab"]);
    }

    #[test]
    fn a_fifo_or_an_endless_file_is_not_read() {
        let (directory, root) = tree();
        rustix::fs::mkfifoat(
            rustix::fs::CWD,
            directory.path().join("etc/fifo"),
            Mode::from_raw_mode(0o600),
        )
        .unwrap();
        assert!(root.read("etc/fifo").is_err() && root.file("etc/fifo").is_err());
        assert!(root.file("etc").is_err() && root.file("etc/none").unwrap().is_none());
        File::create(directory.path().join("etc/huge"))
            .unwrap()
            .set_len(MAX_CONFIG_BYTES + 1)
            .unwrap();
        assert!(root.read("etc/huge").is_err());
    }

    /// The open of a block device whose number no driver has yet makes the loop driver add it
    /// (`loop_probe`), which is seen in /sys.
    #[test]
    fn a_device_node_in_a_be_is_never_opened() {
        let is_root = rustix::process::geteuid().is_root();
        let minor = (200..250).find(|n| !Path::new(&format!("/sys/block/loop{n}")).exists());
        let Some(minor) = minor.filter(|_| is_root) else {
            eprintln!("skipped: device nodes need root");
            return;
        };
        let (directory, root) = tree();
        let path = directory.path().join("etc/machine-id");
        let number = rustix::fs::makedev(7, minor);
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::BlockDevice, mode, number).unwrap();
        assert!(root.file("etc/machine-id").is_err());
        assert!(root.read("etc/machine-id").is_err());
        root.write("etc/machine-id", b"new", 0o644).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        std::fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::BlockDevice, mode, number).unwrap();
        root.remove("etc/machine-id").unwrap();
        assert!(!Path::new(&format!("/sys/block/loop{minor}")).exists());
    }
}
