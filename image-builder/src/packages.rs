//! The Debian packages that an image is built from. They are downloaded once and unpacked into a
//! cache; nothing is installed.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::apt::{Apt, Error, Package};
use crate::tool::Tool;

/// Packages that are unpacked without their dependencies.
const WITHOUT_DEPENDENCIES: &[&str] =
    &["systemd-boot-efi", "busybox-static", "grub-common", "grub-pc-bin"];
/// The kernel's metapackage. The kernel is its only dependency.
const KERNEL: &str = "linux-image-amd64";
/// Packages that are unpacked with their dependencies, for their programs and libraries.
const WITH_DEPENDENCIES: &[&str] = &["e2fsprogs", "xfsprogs", "btrfs-progs", "dosfstools"];

/// The directories where Debian's packages install programs.
const PROGRAM_DIRECTORIES: &[&str] = &["usr/sbin", "usr/bin", "sbin", "bin"];
/// The directories that Debian's dynamic linker searches for libraries.
const LIBRARY_DIRECTORIES: &[&str] =
    &["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib", "lib", "usr/lib64", "lib64"];

/// The unpacked files of a kernel package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelFiles {
    /// The kernel's version.
    pub version: String,
    /// Path of the kernel image.
    pub image: PathBuf,
    /// Path of its module directory.
    pub modules: PathBuf,
}

/// A directory with packages unpacked into it.
#[derive(Debug)]
pub struct Packages {
    root: PathBuf,
    manifest: String,
}

impl Packages {
    /// The packages of `release`. They are taken from `cache` if it has them, unless `update` asks
    /// for the newest ones.
    ///
    /// # Errors
    /// When they have to be downloaded or unpacked, and that fails.
    pub fn obtain(
        cache: &Path,
        release: &str,
        sources: Option<&Path>,
        update: bool,
    ) -> Result<Self, Error> {
        let directory = cache.join(release);
        fs::create_dir_all(&directory).map_err(|source| failed(&directory, source))?;
        let directory = directory.canonicalize().map_err(|source| failed(&directory, source))?;
        let _lock = lock(&directory.join("lock"))?;
        let root = directory.join("root");
        let marker = directory.join("complete");
        let wanted = format!("{KERNEL} {WITHOUT_DEPENDENCIES:?} {WITH_DEPENDENCIES:?}\n");
        let complete = fs::read_to_string(&marker).is_ok_and(|have| have.starts_with(&wanted));
        if !complete || update {
            let apt = Apt::prepare(&directory, release, sources)?;
            log::info!("looking for the packages of Debian {release}");
            apt.update()?;
            let packages = list(&apt)?;
            log::info!(
                "downloading {} packages and unpacking them in {}",
                packages.len(),
                root.display()
            );
            apt.download(&packages)?;
            unpack(&apt.archives(), &packages, &marker, &root)?;
            let names: Vec<String> = packages
                .iter()
                .map(|package| format!("{}={}\n", package.name, package.version))
                .collect();
            fs::write(&marker, wanted.clone() + &names.concat())
                .map_err(|source| failed(&marker, source))?;
        }
        let marker_text = read(&marker)?;
        warn_of_age(&marker);
        let manifest = marker_text.strip_prefix(&wanted).unwrap_or_default().to_owned();
        Ok(Self { root, manifest })
    }

    /// Packages that were already unpacked into `root`.
    pub fn at(root: &Path) -> Self {
        Self { root: root.into(), manifest: String::new() }
    }

    /// The packages, as lines of `NAME=VERSION`.
    pub fn manifest(&self) -> &str {
        &self.manifest
    }

    /// The path of the program `name`.
    pub fn program(&self, name: &str) -> Option<PathBuf> {
        self.first(PROGRAM_DIRECTORIES, name)
    }

    /// The path of the shared library `name`.
    pub fn library(&self, name: &str) -> Option<PathBuf> {
        self.first(LIBRARY_DIRECTORIES, name)
    }

    /// The directories of shared libraries, in the form of the dynamic linker's option.
    pub fn library_path(&self) -> String {
        let directories = LIBRARY_DIRECTORIES.iter().map(|directory| self.root.join(directory));
        directories.map(|directory| directory.display().to_string()).collect::<Vec<_>>().join(":")
    }

    fn first(&self, directories: &[&str], name: &str) -> Option<PathBuf> {
        directories.iter().find_map(|directory| self.resolve(&self.root.join(directory).join(name)))
    }

    /// Follows symlinks. An absolute target is relative to the packages' root, not to the host's.
    fn resolve(&self, path: &Path) -> Option<PathBuf> {
        let mut path = path.to_owned();
        for _ in 0..8 {
            let Ok(target) = fs::read_link(&path) else {
                return path.exists().then_some(path);
            };
            path = match target.strip_prefix("/") {
                Ok(below) => self.root.join(below),
                Err(_) => path.parent()?.join(target),
            };
        }
        None
    }

    /// The path on the host of the file `path` in the packages.
    pub fn file(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// The kernel.
    pub fn kernel(&self) -> Option<KernelFiles> {
        let boot = fs::read_dir(self.root.join("boot")).ok()?;
        let version = boot
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter_map(|name| Some(name.strip_prefix("vmlinuz-")?.to_owned()))
            .max()?;
        let modules = ["usr/lib/modules", "lib/modules"]
            .iter()
            .map(|directory| self.root.join(directory).join(&version))
            .find(|path| path.exists())?;
        let image = self.root.join(format!("boot/vmlinuz-{version}"));
        Some(KernelFiles { version, image, modules })
    }
}

/// Locks the cache until the file is dropped, so that only one builder at a time uses it.
fn lock(path: &Path) -> Result<File, Error> {
    let open = || {
        let file = File::options().write(true).create(true).truncate(false).open(path)?;
        file.lock()?;
        Ok(file)
    };
    open().map_err(|source| failed(path, source))
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| failed(path, source))
}

/// Warns if the packages in the cache are so old that there are security updates for them.
fn warn_of_age(marker: &Path) {
    const DAY: u64 = 24 * 60 * 60;
    const OLD: u64 = 30;
    let age = fs::metadata(marker).and_then(|metadata| metadata.modified());
    let Some(age) = age.ok().and_then(|time| time.elapsed().ok()) else { return };
    let days = age.as_secs() / DAY;
    if days > OLD {
        log::warn!("the packages in the cache are {days} days old: --update gets the newest");
    }
}

fn list(apt: &Apt) -> Result<Vec<Package>, Error> {
    let mut packages = apt.with_dependencies(WITH_DEPENDENCIES)?;
    packages.push(apt.first_dependency(KERNEL)?);
    for name in WITHOUT_DEPENDENCIES {
        packages.push(apt.package(name)?);
    }
    packages.sort();
    packages.dedup();
    Ok(packages)
}

/// Unpacks into a new directory, which replaces the old one when it is complete.
fn unpack(archives: &Path, packages: &[Package], marker: &Path, root: &Path) -> Result<(), Error> {
    let remove = |path: &Path| match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(path, error)),
        _ => Ok(()),
    };
    let fresh = root.with_extension("new");
    remove(&fresh)?;
    fs::create_dir_all(&fresh).map_err(|source| failed(&fresh, source))?;
    for package in packages {
        Tool::new("dpkg-deb").arg("-x").arg(archive(archives, package)?).arg(&fresh).run()?;
    }
    let _ = fs::remove_file(marker);
    remove(root)?;
    fs::rename(&fresh, root).map_err(|source| failed(root, source))
}

fn archive(archives: &Path, package: &Package) -> Result<PathBuf, Error> {
    let version = package.version.replace(':', "%3a");
    ["amd64", "all"]
        .iter()
        .map(|kind| archives.join(format!("{}_{version}_{kind}.deb", package.name)))
        .find(|path| path.exists())
        .ok_or_else(|| Error::Package {
            package: package.name.clone(),
            problem: format!(
                "was not downloaded to {}; remove that directory and try again",
                archives.display()
            ),
        })
}

fn failed(path: &Path, source: io::Error) -> Error {
    Error::File { path: path.into(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complete_cache_knows_what_it_consists_of() {
        let cache = tempfile::tempdir().unwrap();
        let release = cache.path().join("bookworm");
        fs::create_dir(&release).unwrap();
        let wanted = format!("{KERNEL} {WITHOUT_DEPENDENCIES:?} {WITH_DEPENDENCIES:?}\n");
        let manifest = "busybox-static=1:1.35.0-4\ne2fsprogs=1.47.0-2\n";
        fs::write(release.join("complete"), wanted + manifest).unwrap();
        let packages = Packages::obtain(cache.path(), "bookworm", None, false).unwrap();
        assert_eq!(packages.manifest(), manifest);
    }

    #[test]
    fn programs_libraries_and_kernel_are_found_in_the_directories_of_every_release() {
        let root = tempfile::tempdir().unwrap();
        for path in [
            "sbin/mke2fs",
            "usr/bin/btrfs",
            "lib/x86_64-linux-gnu/libc.so.6",
            "usr/lib64/ld-linux-x86-64.so.2",
            "boot/vmlinuz-6.1.0-9-amd64",
            "lib/modules/6.1.0-9-amd64/modules.builtin",
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let symlink = root.path().join("lib/x86_64-linux-gnu/libz.so.1");
        std::os::unix::fs::symlink("/usr/bin/btrfs", symlink).unwrap();
        let packages = Packages::at(root.path());
        let below = |path: Option<PathBuf>| {
            path.map(|path| path.strip_prefix(root.path()).unwrap().display().to_string())
        };
        assert_eq!(below(packages.program("mke2fs")).unwrap(), "sbin/mke2fs");
        assert_eq!(below(packages.program("btrfs")).unwrap(), "usr/bin/btrfs");
        assert_eq!(below(packages.program("zfs")), None);
        assert_eq!(
            below(packages.library("ld-linux-x86-64.so.2")).unwrap(),
            "usr/lib64/ld-linux-x86-64.so.2"
        );
        assert_eq!(below(packages.library("libz.so.1")).unwrap(), "usr/bin/btrfs");
        let kernel = packages.kernel().unwrap();
        assert_eq!(kernel.version, "6.1.0-9-amd64");
        assert!(kernel.image.ends_with("boot/vmlinuz-6.1.0-9-amd64"));
        assert!(kernel.modules.ends_with("lib/modules/6.1.0-9-amd64"));
    }
}
