//! EFI variables: UEFI 2.10, section 8.2, through Linux's efivarfs
//! (Documentation/filesystems/efivarfs.rst).

use super::guid;
use super::ucs2;
use rustix::fs::IFlags;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// Where Linux mounts efivarfs.
pub const SYSTEM: &str = "/sys/firmware/efi/efivars";

const EFIVARFS_MAGIC: u64 = 0xde5e_81e4;

/// Why a variable could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no efivarfs.
    #[error(
        "{0} has no EFI variables: boot in UEFI mode, or load the module efivarfs and mount it \
        there"
    )]
    Unavailable(PathBuf),
    /// A system call failed.
    #[error("{action} EFI variable {name}: {source}{}", advice(.source))]
    Io {
        /// What was done.
        action: &'static str,
        /// The variable.
        name: VariableName,
        /// What the kernel said.
        source: io::Error,
    },
    /// The variable is shorter than its attributes.
    #[error("EFI variable {name} has {length} bytes, fewer than its attributes need")]
    Short {
        /// The variable.
        name: VariableName,
        /// The bytes that it has.
        length: usize,
    },
    /// What was read back is not what was written.
    #[error(
        "EFI variable {0} was written and reads back different: the firmware's store may be full \
        or locked; free some entries and try again"
    )]
    ReadBack(VariableName),
    /// A variable of this name exists and was to be new.
    #[error("EFI variable {0} exists")]
    Exists(VariableName),
    /// The directory could not be listed.
    #[error("listing EFI variables in {path}: {source}")]
    List {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => " (be root, and have efivarfs mounted rw)",
        io::ErrorKind::ReadOnlyFilesystem => " (remount efivarfs rw)",
        io::ErrorKind::StorageFull => {
            " (the firmware's variable store is full; delete unused entries)"
        }
        _ => "",
    }
}

/// A variable's name; it is unique only together with its vendor.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VariableName {
    /// `BootOrder`
    pub name: String,
    /// Who defined it, see [`guid`].
    pub vendor: Uuid,
}

impl VariableName {
    /// One of the UEFI specification's own: `BootOrder`.
    pub fn global(name: impl Into<String>) -> Self {
        Self { name: name.into(), vendor: guid::GLOBAL }
    }

    /// One of the Boot Loader Interface: `LoaderEntryOneShot`.
    pub fn loader(name: impl Into<String>) -> Self {
        Self { name: name.into(), vendor: guid::LOADER }
    }

    /// The name of a file in efivarfs: `BootOrder-8be4df61-…`.
    pub fn parse(file: &str) -> Option<Self> {
        let (name, vendor) = file.split_at_checked(file.len().checked_sub(37)?)?;
        let vendor = Uuid::try_parse(vendor.strip_prefix('-')?).ok()?;
        (!name.is_empty()).then(|| Self { name: name.to_owned(), vendor })
    }
}

/// The name of its file in efivarfs; the kernel writes `!` for a slash.
impl fmt::Display for VariableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.name.replace('/', "!"), self.vendor)
    }
}

/// The attributes of a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes(pub u32);

impl Attributes {
    /// Kept over a reset, readable by loaders and by the running system: what
    /// all boot variables are.
    pub const BOOT: Self = Self(7);
    /// As [`Self::BOOT`], but gone after a reset.
    pub const VOLATILE: Self = Self(6);
}

/// What a variable holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Who sees it, and for how long.
    pub attributes: Attributes,
    /// Its bytes.
    pub data: Vec<u8>,
}

impl Variable {
    /// A variable as boot entries and loaders use them, [`Attributes::BOOT`].
    pub fn boot(data: impl Into<Vec<u8>>) -> Self {
        Self { attributes: Attributes::BOOT, data: data.into() }
    }

    /// A string as the Boot Loader Interface has it: UTF-16LE with a NUL.
    pub fn text(text: &str) -> Self {
        Self::boot(ucs2::encode_nul(text))
    }

    /// The string in it.
    pub fn to_text(&self) -> String {
        ucs2::decode_lossy(&self.data)
    }
}

/// The variables of a machine, by way of an efivarfs.
#[derive(Debug, Clone)]
pub struct Variables {
    root: PathBuf,
}

impl Variables {
    /// The variables below `root`, an efivarfs or a directory like one.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The variables of this machine.
    pub fn system() -> Self {
        Self::new(SYSTEM)
    }

    /// Whether there are any: the machine was booted in UEFI mode, and efivarfs
    /// is mounted.
    pub fn available(&self) -> bool {
        self.names().is_ok_and(|names| !names.is_empty())
    }

    /// The variable; `None` where there is none of this name.
    ///
    /// # Errors
    /// Reading failed.
    pub fn read(&self, name: &VariableName) -> Result<Option<Variable>, Error> {
        let bytes = match fs::read(self.path(name)) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed("reading", name, e)),
        };
        // A file that was created and never written has no variable behind it.
        if bytes.is_empty() {
            return Ok(None);
        }
        let (attributes, data) = bytes
            .split_first_chunk()
            .ok_or_else(|| Error::Short { name: name.clone(), length: bytes.len() })?;
        Ok(Some(Variable {
            attributes: Attributes(u32::from_le_bytes(*attributes)),
            data: data.to_vec(),
        }))
    }

    /// Makes the variable hold `variable`, and reads it back. One that holds it
    /// already is not written: flash wears.
    ///
    /// # Errors
    /// Writing failed, or the firmware kept something else.
    pub fn write(&self, name: &VariableName, variable: &Variable) -> Result<(), Error> {
        if self.read(name)?.as_ref() == Some(variable) {
            return Ok(());
        }
        let known = self.path(name).exists();
        let mut options = OpenOptions::new();
        self.put(name, variable, options.write(true).create(true), known)
    }

    /// As [`Self::write`], for a variable that must not exist yet.
    ///
    /// # Errors
    /// [`Error::Exists`], and those of [`Self::write`].
    pub fn create(&self, name: &VariableName, variable: &Variable) -> Result<(), Error> {
        let mut options = OpenOptions::new();
        self.put(name, variable, options.write(true).create_new(true), false)
    }

    fn put(
        &self,
        name: &VariableName,
        variable: &Variable,
        options: &OpenOptions,
        known: bool,
    ) -> Result<(), Error> {
        if !self.root.is_dir() {
            return Err(Error::Unavailable(self.root.clone()));
        }
        let path = self.path(name);
        let _mutable = Mutable::new(&path).map_err(|e| failed("unlocking", name, e))?;
        let mut bytes = variable.attributes.0.to_le_bytes().to_vec();
        bytes.extend(&variable.data);
        let written = options.open(&path).and_then(|file| replace(file, &bytes));
        match written {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Error::Exists(name.clone()));
            }
            Err(e) => {
                // A new file whose first write failed stays behind, empty.
                if !known && path.metadata().is_ok_and(|m| m.len() == 0) {
                    let _ = fs::remove_file(&path);
                }
                return Err(failed("writing", name, e));
            }
        }
        match self.read(name)? {
            Some(back) if back == *variable => Ok(()),
            _ => Err(Error::ReadBack(name.clone())),
        }
    }

    /// Deletes the variable. One that does not exist is deleted already.
    ///
    /// # Errors
    /// Deleting failed.
    pub fn delete(&self, name: &VariableName) -> Result<(), Error> {
        let path = self.path(name);
        let deleted = Mutable::new(&path).and_then(|mut mutable| {
            let deleted = fs::remove_file(&path);
            if deleted.is_ok() {
                mutable.forget();
            }
            deleted
        });
        match deleted {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("deleting", name, e)),
            _ => Ok(()),
        }
    }

    /// The names of all variables, sorted.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn names(&self) -> Result<Vec<VariableName>, Error> {
        let failed = |source| Error::List { path: self.root.clone(), source };
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_str().and_then(VariableName::parse);
            let empty = entry.metadata().is_ok_and(|m| m.len() == 0);
            names.extend(name.filter(|_| !empty));
        }
        names.sort();
        Ok(names)
    }

    fn path(&self, name: &VariableName) -> PathBuf {
        self.root.join(name.to_string())
    }
}

/// One write of attributes and data: efivarfs makes it one `SetVariable`, which
/// replaces the whole. A common file system, in tests, needs the cut.
fn replace(mut file: File, bytes: &[u8]) -> io::Result<()> {
    if file.write(bytes)? != bytes.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    #[expect(clippy::cast_sign_loss, reason = "a magic number is 32 bits, whatever its type")]
    let kind = rustix::fs::fstatfs(&file)?.f_type as u64;
    if kind & 0xffff_ffff != EFIVARFS_MAGIC {
        file.set_len(bytes.len() as u64)?;
    }
    Ok(())
}

fn failed(action: &'static str, name: &VariableName, source: io::Error) -> Error {
    Error::Io { action, name: name.clone(), source }
}

/// While it lives, a file that was immutable is not. The kernel makes variables
/// immutable that it does not know, since deleting some bricked machines.
struct Mutable(Option<(File, IFlags)>);

impl Mutable {
    fn new(path: &Path) -> io::Result<Self> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Self(None)),
            Err(e) => return Err(e),
        };
        // Not every file system has flags.
        let Ok(flags) = rustix::fs::ioctl_getflags(&file) else {
            return Ok(Self(None));
        };
        if !flags.contains(IFlags::IMMUTABLE) {
            return Ok(Self(None));
        }
        rustix::fs::ioctl_setflags(&file, flags - IFlags::IMMUTABLE)?;
        Ok(Self(Some((file, flags))))
    }

    fn forget(&mut self) {
        self.0 = None;
    }
}

impl Drop for Mutable {
    fn drop(&mut self) {
        if let Some((file, flags)) = &self.0
            && let Err(e) = rustix::fs::ioctl_setflags(file, *flags)
        {
            log::warn!("making an EFI variable immutable again: {e}");
        }
    }
}

#[cfg(test)]
mod tests;
