//! The programs of the image: tools of file systems with the libraries they load, and busybox.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::elf;
use crate::initramfs::{self, Archive};
use crate::packages::Packages;
use crate::tool::{self, Tool};

/// A program, and further names it answers to.
struct Program {
    name: &'static str,
    links: &'static [&'static str],
}

const fn program(name: &'static str, links: &'static [&'static str]) -> Program {
    Program { name, links }
}

/// The tools that make, check and change file systems.
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

/// Shell scripts of those tools.
const SCRIPTS: &[&str] = &["xfs_admin"];

/// Libraries that programs open by themselves, which no `DT_NEEDED` names: glibc wants this
/// one when a thread ends early.
const OPENED: &[&str] = &["libgcc_s.so.1"];

/// Names of busybox that belong to others in the image, or that end PID 1's rule.
const NOT_LINKED: &[&str] = &["busybox", "init", "linuxrc"];

/// Why the programs cannot be put into the image.
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
        /// What needs it.
        wanted_by: String,
    },
    /// A file cannot be read.
    #[error("{path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
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
    /// busybox could not be asked for its applets.
    #[error(transparent)]
    Tool(#[from] tool::Error),
    /// A program has no place in the archive.
    #[error(transparent)]
    Archive(#[from] initramfs::Error),
}

/// Bytes of what was put into the image.
#[derive(Debug, Default, Clone, Copy)]
pub struct Sizes {
    /// Programs, and busybox.
    pub tools: u64,
    /// Shared libraries and the dynamic linker.
    pub libraries: u64,
}

/// Puts the tools, their libraries and busybox into the archive.
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
        for link in program.links {
            archive.link(&format!("bin/{link}"), program.name)?;
        }
    }
    for name in SCRIPTS {
        let data = read_program(packages, name)?;
        sizes.tools += data.len() as u64;
        archive.file(&format!("bin/{name}"), data, 0o755)?;
    }
    for name in OPENED {
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
        let link = format!("bin/{applet}");
        if !NOT_LINKED.contains(&applet) && !archive.contains(&link) {
            archive.link(&link, "busybox")?;
        }
    }
    archive.file("bin/busybox", data, 0o755)?;
    Ok(size)
}

/// The shared libraries that programs need, and those that these need.
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

    /// Puts every library where Debian's dynamic linker looks first, and the linker where
    /// the programs name it.
    fn install(self, archive: &mut Archive) -> Result<u64, Error> {
        let mut size = 0;
        let directory = "lib/x86_64-linux-gnu";
        for (name, data) in self.found {
            size += data.len() as u64;
            archive.file(&format!("{directory}/{name}"), data, 0o755)?;
        }
        for (interpreter, name) in self.interpreters {
            archive.link(&interpreter, &format!("/{directory}/{name}"))?;
        }
        Ok(size)
    }
}
