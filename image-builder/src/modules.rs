//! Selects the kernel modules of an image, and writes the files `modules.dep`, `modules.alias`,
//! `modules.softdep` and `modules.builtin` (modules.dep(5), depmod.d(5)) by which an init finds
//! them.
//!
//! Dependencies are read from the modules themselves, so that `depmod` need not have run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::elf;
use crate::families::Family;
use crate::initramfs::{self, Archive};

/// Why the modules of a kernel could not be selected or installed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A directory or file cannot be read.
    #[error("{path}", path = path.display())]
    Read {
        /// The directory or file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A module is not an ELF file.
    #[error("{path}: not a kernel module", path = path.display())]
    Malformed {
        /// The module.
        path: PathBuf,
        /// What is wrong with it.
        source: object::Error,
    },
    /// The kernel lacks required modules.
    #[error(
        "kernel {version} lacks {missing}; a rescue image needs a generic kernel \
         (Debian's linux-image-amd64, not linux-image-cloud-amd64)"
    )]
    MissingModules {
        /// The kernel's version.
        version: String,
        /// The incomplete families, each with its missing modules.
        missing: String,
    },
    /// A module depends on another one that does not exist.
    #[error(
        "module {module} depends on {missing}, which {directory} does not have",
        directory = directory.display()
    )]
    MissingDependency {
        /// The module.
        module: String,
        /// The missing dependency.
        missing: String,
        /// The kernel's module directory.
        directory: PathBuf,
    },
    /// A module cannot be compressed.
    #[error("compressing module {module}")]
    Compress {
        /// The module.
        module: String,
        /// zstd's error.
        source: io::Error,
    },
    /// A module cannot be added to the archive.
    #[error(transparent)]
    Archive(#[from] initramfs::Error),
}

/// The modules of one kernel: `…/lib/modules/VERSION`.
#[derive(Debug)]
pub struct ModuleDirectory {
    path: PathBuf,
    version: String,
    files: BTreeMap<String, PathBuf>,
    builtin_list: String,
    builtin: BTreeSet<String>,
}

/// A selected module.
#[derive(Debug)]
struct Module {
    /// Its path in the archive, relative to the module directory.
    path: String,
    data: Vec<u8>,
    depends: Vec<String>,
    before: Vec<String>,
    after: Vec<String>,
    aliases: Vec<String>,
}

/// The selected modules, by name.
#[derive(Debug)]
pub struct Selection {
    version: String,
    builtin_list: String,
    modules: BTreeMap<String, Module>,
}

impl ModuleDirectory {
    /// Opens the module directory `path` of the kernel `version`.
    ///
    /// # Errors
    /// When the directory or its `modules.builtin` cannot be read.
    pub fn open(path: &Path, version: &str) -> Result<Self, Error> {
        let mut files = BTreeMap::new();
        walk(&path.join("kernel"), &mut files)?;
        let builtin_list = read(&path.join("modules.builtin"))?;
        let builtin_list = String::from_utf8_lossy(&builtin_list).into_owned();
        Ok(Self {
            path: path.into(),
            version: version.into(),
            builtin: builtin_list.lines().filter_map(name_of).collect(),
            builtin_list,
            files,
        })
    }

    fn has(&self, name: &str) -> bool {
        self.files.contains_key(name) || self.builtin.contains(name)
    }

    /// Selects the modules of `families`, those named in `extra`, and all their dependencies.
    ///
    /// # Errors
    /// When the kernel lacks a module that a family requires or `extra` names, or a module cannot
    /// be read.
    pub fn select(&self, families: &[Family], extra: &[String]) -> Result<Selection, Error> {
        self.check_complete(families, extra)?;
        let mut selection = Selection {
            version: self.version.clone(),
            builtin_list: self.builtin_list.clone(),
            modules: BTreeMap::new(),
        };
        let wanted = families
            .iter()
            .flat_map(|family| family.required.iter().chain(family.optional))
            .map(|name| normalize(name))
            .chain(extra.iter().map(|name| normalize(name)));
        for name in wanted {
            self.add(&name, &mut selection.modules)?;
        }
        Ok(selection)
    }

    /// Refuses a kernel that lacks a required module.
    fn check_complete(&self, families: &[Family], extra: &[String]) -> Result<(), Error> {
        let absent = |name: &&str| !self.has(&normalize(name));
        let mut missing: Vec<String> = families
            .iter()
            .filter_map(|family| {
                let names: Vec<&str> = family.required.iter().copied().filter(absent).collect();
                (!names.is_empty()).then(|| format!("{} ({})", family.name, names.join(", ")))
            })
            .collect();
        missing.extend(
            extra.iter().filter(|name| absent(&name.as_str())).map(|name| format!("module {name}")),
        );
        if missing.is_empty() {
            return Ok(());
        }
        Err(Error::MissingModules { version: self.version.clone(), missing: missing.join(", ") })
    }

    /// Adds a module and its dependencies. Modules that are built in or absent are skipped.
    fn add(&self, name: &str, chosen: &mut BTreeMap<String, Module>) -> Result<(), Error> {
        let Some(relative) = self.files.get(name) else {
            return Ok(());
        };
        if chosen.contains_key(name) {
            return Ok(());
        }
        let module = self.load(relative)?;
        let depends = module.depends.clone();
        let soft: Vec<String> = module.before.iter().chain(&module.after).cloned().collect();
        chosen.insert(name.into(), module);
        for dependency in depends {
            if !self.has(&dependency) {
                return Err(Error::MissingDependency {
                    module: name.into(),
                    missing: dependency,
                    directory: self.path.clone(),
                });
            }
            self.add(&dependency, chosen)?;
        }
        for name in soft {
            self.add(&normalize(&name), chosen)?;
        }
        Ok(())
    }

    fn load(&self, relative: &Path) -> Result<Module, Error> {
        let path = self.path.join(relative);
        let data = decompress(&path)?;
        let mut info = elf::modinfo(&data)
            .map_err(|source| Error::Malformed { path: path.clone(), source })?;
        let depends = info
            .remove("depends")
            .unwrap_or_default()
            .iter()
            .flat_map(|names| names.split(','))
            .filter(|name| !name.is_empty())
            .map(normalize)
            .collect();
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for line in info.remove("softdep").unwrap_or_default() {
            softdep(&line, &mut before, &mut after);
        }
        let relative = relative.to_string_lossy();
        let end = relative.rfind(".ko").unwrap_or(relative.len());
        Ok(Module {
            path: format!("{}.ko.zst", &relative[..end]),
            data,
            depends,
            before,
            after,
            aliases: info.remove("alias").unwrap_or_default(),
        })
    }
}

impl Selection {
    /// Names of the modules.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.modules.keys().map(String::as_str)
    }

    /// Adds the modules and their lists to `lib/modules/VERSION` in the archive, and returns the
    /// total size of the modules. Each module is compressed by itself with zstd's `level`, 1 to 19:
    /// the kernel unpacks the whole archive before anything runs, but a machine needs only a
    /// quarter of the modules.
    ///
    /// # Errors
    /// When the archive already has something else at one of the paths.
    pub fn install(self, level: i32, archive: &mut Archive) -> Result<u64, Error> {
        let directory = format!("lib/modules/{}", self.version);
        for (name, content) in [
            ("modules.dep", self.dependencies()),
            ("modules.alias", self.aliases()),
            ("modules.softdep", self.soft_dependencies()),
            ("modules.builtin", self.builtin_list.clone()),
        ] {
            archive.file(&format!("{directory}/{name}"), content.into_bytes(), 0o644)?;
        }
        let mut size = 0;
        for (name, module) in self.modules {
            let data = zstd::bulk::compress(&module.data, level)
                .map_err(|source| Error::Compress { module: name, source })?;
            size += data.len() as u64;
            archive.file(&format!("{directory}/{}", module.path), data, 0o644)?;
        }
        Ok(size)
    }

    /// Renders `modules.dep`. In a line, the dependency to load first comes last.
    fn dependencies(&self) -> String {
        let mut text = String::new();
        for (name, module) in &self.modules {
            let mut order = Vec::new();
            self.visit(name, &mut order);
            order.pop();
            text.push_str(&module.path);
            text.push(':');
            for dependency in order.iter().rev() {
                text.push(' ');
                text.push_str(&self.modules[*dependency].path);
            }
            text.push('\n');
        }
        text
    }

    /// Appends the dependencies of `name`, each once, then `name` itself.
    fn visit<'a>(&'a self, name: &'a str, order: &mut Vec<&'a str>) {
        let Some(module) = self.modules.get(name) else {
            return; // built in
        };
        for dependency in &module.depends {
            if !order.contains(&dependency.as_str()) {
                self.visit(dependency, order);
            }
        }
        order.push(name);
    }

    fn aliases(&self) -> String {
        let mut text = String::new();
        for (name, module) in &self.modules {
            for alias in &module.aliases {
                text.push_str(&format!("alias {alias} {name}\n"));
            }
        }
        text
    }

    fn soft_dependencies(&self) -> String {
        let mut text = String::new();
        for (name, module) in &self.modules {
            let mut line = format!("softdep {name}");
            for (kind, names) in [(" pre:", &module.before), (" post:", &module.after)] {
                if !names.is_empty() {
                    line.push_str(&format!("{kind} {}", names.join(" ")));
                }
            }
            if line.contains(':') {
                text.push_str(&line);
                text.push('\n');
            }
        }
        text
    }
}

/// A module's name in the kernel's spelling.
fn normalize(name: &str) -> String {
    name.replace('-', "_")
}

/// The name of the module at `path`: `kernel/fs/nls/nls_cp437.ko.xz` is `nls_cp437`.
fn name_of(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let (name, compression) = file.split_once(".ko")?;
    matches!(compression, "" | ".xz" | ".zst" | ".gz").then(|| normalize(name))
}

fn softdep(line: &str, before: &mut Vec<String>, after: &mut Vec<String>) {
    let mut list = None;
    for word in line.split_whitespace() {
        match word {
            "pre:" => list = Some(&mut *before),
            "post:" => list = Some(&mut *after),
            name => {
                if let Some(list) = list.as_mut() {
                    list.push(name.into());
                }
            }
        }
    }
}

fn walk(directory: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<(), Error> {
    let root = directory.parent().unwrap_or(directory).to_owned();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        let failed = |source| Error::Read { path: directory.clone(), source };
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            if entry.file_type().map_err(failed)?.is_dir() {
                directories.push(path);
            } else if let Some(name) = path.to_str().and_then(name_of) {
                let relative = path.strip_prefix(&root).unwrap_or(&path).to_owned();
                files.insert(name, relative);
            }
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::Read { path: path.into(), source })
}

/// Reads a module, decompressing it if necessary.
fn decompress(path: &Path) -> Result<Vec<u8>, Error> {
    let data = read(path)?;
    let unpacked = match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => {
            let mut unpacked = Vec::new();
            lzma_rust2::XzReader::new(data.as_slice(), true)
                .read_to_end(&mut unpacked)
                .map(|_| unpacked)
        }
        Some("zst") => zstd::decode_all(data.as_slice()),
        Some("ko") => Ok(data),
        _ => Err(io::Error::other(
            "unsupported compression; only plain, xz and zstd modules can be read",
        )),
    };
    unpacked.map_err(|source| Error::Read { path: path.into(), source })
}

#[cfg(test)]
mod tests;
