//! EFI variables: UEFI 2.10, section 8.2, accessed through Linux's efivarfs
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
    /// efivarfs is not mounted.
    #[error(
        "{0} has no EFI variables: boot in UEFI mode, or load the module efivarfs and mount it \
        on that directory"
    )]
    Unavailable(PathBuf),
    /// A system call failed.
    #[error("{action} EFI variable {name}: {source}{}", advice(.source))]
    Io {
        /// The action that failed.
        action: &'static str,
        /// The variable.
        name: VariableName,
        /// The kernel's error.
        source: io::Error,
    },
    /// The variable is shorter than its attributes.
    #[error("EFI variable {name} has {length} bytes, fewer than its attributes need")]
    Short {
        /// The variable.
        name: VariableName,
        /// Its length in bytes.
        length: usize,
    },
    /// The variable differs from what was written.
    #[error(
        "EFI variable {0} does not read back as it was written: the firmware's variable store may \
        be full or locked; delete unused entries and try again"
    )]
    ReadBack(VariableName),
    /// A variable of this name already exists.
    #[error("EFI variable {0} already exists")]
    Exists(VariableName),
    /// The directory could not be listed.
    #[error("listing EFI variables in {path}: {source}")]
    List {
        /// The directory.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => " (this needs root and efivarfs mounted rw)",
        io::ErrorKind::ReadOnlyFilesystem => " (remount efivarfs rw)",
        io::ErrorKind::StorageFull => {
            " (the firmware's variable store is full; delete unused entries)"
        }
        _ => "",
    }
}

/// A variable's name, which is unique only together with its vendor.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VariableName {
    /// `BootOrder`
    pub name: String,
    /// The GUID of the vendor that defined it, see [`guid`].
    pub vendor: Uuid,
}

impl VariableName {
    /// A variable of the UEFI specification, such as `BootOrder`.
    pub fn global(name: impl Into<String>) -> Self {
        Self { name: name.into(), vendor: guid::GLOBAL }
    }

    /// A variable of the Boot Loader Interface, such as `LoaderEntryOneShot`.
    pub fn loader(name: impl Into<String>) -> Self {
        Self { name: name.into(), vendor: guid::LOADER }
    }

    /// Parses the name of a file in efivarfs: `BootOrder-8be4df61-…`.
    pub fn parse(file: &str) -> Option<Self> {
        let (name, vendor) = file.split_at_checked(file.len().checked_sub(37)?)?;
        let vendor = Uuid::try_parse(vendor.strip_prefix('-')?).ok()?;
        (!name.is_empty()).then(|| Self { name: name.to_owned(), vendor })
    }
}

/// The name of the variable's file in efivarfs. The kernel replaces `/` with `!`.
impl fmt::Display for VariableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.name.replace('/', "!"), self.vendor)
    }
}

/// The attributes of a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes(pub u32);

impl Attributes {
    /// Non-volatile, and accessible to loaders and to the running system, like all boot variables.
    pub const BOOT: Self = Self(7);
    /// As [`Self::BOOT`], but lost on a reset.
    pub const VOLATILE: Self = Self(6);
}

/// The attributes and data of a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Whether it is non-volatile, and who may access it.
    pub attributes: Attributes,
    /// Its value.
    pub data: Vec<u8>,
}

impl Variable {
    /// A variable with [`Attributes::BOOT`], as boot entries and loaders use.
    pub fn boot(data: impl Into<Vec<u8>>) -> Self {
        Self { attributes: Attributes::BOOT, data: data.into() }
    }

    /// A string of the Boot Loader Interface: UTF-16LE with a NUL.
    pub fn text(text: &str) -> Self {
        Self::boot(ucs2::encode_nul(text))
    }

    /// Parses what efivarfs has for a variable: its attributes, then its value. Returns `None` if the
    /// bytes are fewer than the attributes.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (attributes, data) = bytes.split_first_chunk()?;
        Some(Self { attributes: Attributes(u32::from_le_bytes(*attributes)), data: data.to_vec() })
    }

    /// The value as numbers of boot entries, as in `BootOrder`. Returns `None` if its length is odd.
    pub fn to_numbers(&self) -> Option<Vec<u16>> {
        let (numbers, []) = self.data.as_chunks() else { return None };
        Some(numbers.iter().copied().map(u16::from_le_bytes).collect())
    }

    /// The value as a string.
    pub fn to_text(&self) -> String {
        ucs2::decode_lossy(&self.data)
    }
}

/// The variables of a machine, accessed through efivarfs.
#[derive(Debug, Clone)]
pub struct Variables {
    root: PathBuf,
}

impl Variables {
    /// The variables in `root`, an efivarfs or a directory with the same layout.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The variables of this machine.
    pub fn system() -> Self {
        Self::new(SYSTEM)
    }

    /// Whether any variable exists, that is, whether the machine was booted in UEFI mode and
    /// efivarfs is mounted.
    pub fn available(&self) -> bool {
        self.names().is_ok_and(|names| !names.is_empty())
    }

    /// Reads a variable. Returns `None` if it does not exist.
    ///
    /// # Errors
    /// Reading failed.
    pub fn read(&self, name: &VariableName) -> Result<Option<Variable>, Error> {
        let bytes = match fs::read(self.path(name)) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed("reading", name, e)),
        };
        // A file that was created but never written is not a variable.
        if bytes.is_empty() {
            return Ok(None);
        }
        let variable = Variable::parse(&bytes);
        let short = || Error::Short { name: name.clone(), length: bytes.len() };
        variable.map(Some).ok_or_else(short)
    }

    /// Sets the variable and reads it back. An equal variable is not written again, to spare the
    /// flash memory.
    ///
    /// # Errors
    /// Writing failed, or the firmware stored something else.
    pub fn write(&self, name: &VariableName, variable: &Variable) -> Result<(), Error> {
        if self.read(name)?.as_ref() == Some(variable) {
            return Ok(());
        }
        let existed = self.path(name).exists();
        let mut options = OpenOptions::new();
        self.put(name, variable, options.write(true).create(true), existed)
    }

    /// As [`Self::write`], but the variable must not exist yet.
    ///
    /// # Errors
    /// [`Error::Exists`], or as [`Self::write`].
    pub fn create(&self, name: &VariableName, variable: &Variable) -> Result<(), Error> {
        let mut options = OpenOptions::new();
        self.put(name, variable, options.write(true).create_new(true), false)
    }

    fn put(
        &self,
        name: &VariableName,
        variable: &Variable,
        options: &OpenOptions,
        existed: bool,
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
                // If its first write fails, a new file is left behind, empty.
                if !existed && path.metadata().is_ok_and(|m| m.len() == 0) {
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

    /// Deletes the variable. Deleting one that does not exist succeeds.
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

/// Writes attributes and data in a single write, which efivarfs turns into a single `SetVariable`
/// that replaces the whole variable. On the ordinary file systems of tests, the file has to be
/// truncated as well.
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

/// Lifts a file's immutable flag until it is dropped. The kernel makes unknown variables immutable,
/// because deleting some of them bricked machines.
struct Mutable(Option<(File, IFlags)>);

impl Mutable {
    fn new(path: &Path) -> io::Result<Self> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Self(None)),
            Err(e) => return Err(e),
        };
        // Not every file system supports flags.
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
