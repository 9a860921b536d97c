//! The programs of the image: file system tools with their libraries, and busybox.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::elf;
use crate::initramfs::{self, Archive};
use crate::packages::Packages;
use crate::tool::{self, Tool};

/// A program, and other names that it can be run by.
struct Program {
    name: &'static str,
    aliases: &'static [&'static str],
}

const fn program(name: &'static str, aliases: &'static [&'static str]) -> Program {
    Program { name, aliases }
}

/// The tools that create, check and modify file systems.
const PROGRAMS: &[Program] = &[
    program("mke2fs", &["mkfs.ext2", "mkfs.ext3", "mkfs.ext4"]),
    program("e2fsck", &["fsck.ext2", "fsck.ext3", "fsck.ext4"]),
    program("tune2fs", &["e2label"]),
    program("resize2fs", &[]),
    program("dumpe2fs", &[]),
    program("mkfs.xfs", &[]),
    program("xfs_repair", &[]),
    program("xfs_db", &[]),
    program("xfs_growfs", &[]),
    program("btrfs", &[]),
    program("mkfs.btrfs", &[]),
    program("btrfstune", &[]),
    program("mkfs.fat", &["mkfs.vfat"]),
    program("fsck.fat", &["fsck.vfat"]),
    program("fatlabel", &[]),
];

/// Shell scripts that belong to those tools.
const SCRIPTS: &[&str] = &["xfs_admin"];

/// Libraries that programs load at run time and that no `DT_NEEDED` names. glibc loads this one
/// when a thread is cancelled.
const LOADED_AT_RUN_TIME: &[&str] = &["libgcc_s.so.1"];

/// busybox applets that get no symlink: other files in the image have their names, or they would
/// replace PID 1.
const UNUSED_APPLETS: &[&str] = &["busybox", "init", "linuxrc"];

/// Why the programs could not be added to the image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program is in none of the packages.
    #[error("program {0} is in none of the packages")]
    NoProgram(String),
    /// A library is in none of the packages.
    #[error("library {library}, which {wanted_by} needs, is in none of the packages")]
    NoLibrary {
        /// The library.
        library: String,
        /// The program or library that needs it.
        wanted_by: String,
    },
    /// A file cannot be read.
    #[error("{path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file is not a program.
    #[error("{path}: not a 64-bit ELF file", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: object::Error,
    },
    /// busybox did not list its applets.
    #[error(transparent)]
    Tool(#[from] tool::Error),
    /// A program cannot be added to the archive.
    #[error(transparent)]
    Archive(#[from] initramfs::Error),
}

/// Sizes in bytes of what was added to the image.
#[derive(Debug, Default, Clone, Copy)]
pub struct Sizes {
    /// File system tools and busybox.
    pub tools: u64,
    /// Shared libraries and the dynamic linker.
    pub libraries: u64,
}

/// Adds the tools, their libraries and busybox to the archive.
///
/// # Errors
/// When a program or library is missing from the packages or cannot be read.
pub fn install(packages: &Packages, archive: &mut Archive) -> Result<Sizes, Error> {
    let mut sizes = Sizes::default();
    let mut libraries = Libraries::new(packages);
    for program in PROGRAMS {
        let data = read_program(packages, program.name)?;
        libraries.add_needs(program.name, &packages.file(program.name), &data)?;
        sizes.tools += data.len() as u64;
        archive.file(&format!("bin/{}", program.name), data, 0o755)?;
        for alias in program.aliases {
            archive.symlink(&format!("bin/{alias}"), program.name)?;
        }
    }
    for name in SCRIPTS {
        let data = read_program(packages, name)?;
        sizes.tools += data.len() as u64;
        archive.file(&format!("bin/{name}"), data, 0o755)?;
    }
    for name in LOADED_AT_RUN_TIME {
        libraries.add(name, "glibc")?;
    }
    sizes.libraries = libraries.install(archive)?;
    sizes.tools += busybox(packages, archive)?;
    Ok(sizes)
}

fn read_program(packages: &Packages, name: &str) -> Result<Vec<u8>, Error> {
    let path = packages.program(name).ok_or_else(|| Error::NoProgram(name.into()))?;
    read(&path)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::Read { path: path.into(), source })
}

fn busybox(packages: &Packages, archive: &mut Archive) -> Result<u64, Error> {
    let path = packages.program("busybox").ok_or_else(|| Error::NoProgram("busybox".into()))?;
    let data = read(&path)?;
    let size = data.len() as u64;
    for applet in Tool::new(&path).arg("--list").run()?.lines() {
        let symlink = format!("bin/{applet}");
        if !UNUSED_APPLETS.contains(&applet) && !archive.contains(&symlink) {
            archive.symlink(&symlink, "busybox")?;
        }
    }
    archive.file("bin/busybox", data, 0o755)?;
    Ok(size)
}

/// The shared libraries that programs need, directly or through other libraries.
struct Libraries<'a> {
    packages: &'a Packages,
    found: BTreeMap<String, Vec<u8>>,
    interpreters: BTreeMap<String, String>,
}

impl<'a> Libraries<'a> {
    fn new(packages: &'a Packages) -> Self {
        Self { packages, found: BTreeMap::new(), interpreters: BTreeMap::new() }
    }

    fn add_needs(&mut self, name: &str, path: &Path, data: &[u8]) -> Result<(), Error> {
        let dynamic =
            elf::dynamic(data).map_err(|source| Error::Malformed { path: path.into(), source })?;
        if let Some(interpreter) = dynamic.interpreter {
            let library = interpreter.rsplit('/').next().unwrap_or(&interpreter);
            self.add(library, name)?;
            self.interpreters.insert(interpreter.clone(), library.into());
        }
        for library in dynamic.needed {
            self.add(&library, name)?;
        }
        Ok(())
    }

    fn add(&mut self, library: &str, wanted_by: &str) -> Result<(), Error> {
        if self.found.contains_key(library) {
            return Ok(());
        }
        let path = self.packages.library(library).ok_or_else(|| Error::NoLibrary {
            library: library.into(),
            wanted_by: wanted_by.into(),
        })?;
        let data = read(&path)?;
        self.found.insert(library.into(), data.clone());
        self.add_needs(library, &path, &data)
    }

    /// Adds every library to the directory that Debian's dynamic linker searches first, and the
    /// linker at the path that the programs name.
    fn install(self, archive: &mut Archive) -> Result<u64, Error> {
        let mut size = 0;
        let directory = "lib/x86_64-linux-gnu";
        for (name, data) in self.found {
            size += data.len() as u64;
            archive.file(&format!("{directory}/{name}"), data, 0o755)?;
        }
        for (interpreter, name) in self.interpreters {
            archive.symlink(&interpreter, &format!("/{directory}/{name}"))?;
        }
        Ok(size)
    }
}
