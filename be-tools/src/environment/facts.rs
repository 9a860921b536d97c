//! The facts that are read from a root file system: which system it holds, and whether that would
//! boot.

pub(crate) mod boot_images;
mod files;
mod kernels;
mod mount_units;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::boot_environment::OperatingSystem;
use super::descriptor::Descriptor;
use crate::error::Error;
use crate::fstab::{Fstab, Spec};
use crate::own_files::DESCRIPTOR_PATH;
use crate::root_dir::RootDir;
use crate::storage::probe;

pub use kernels::{Kernel, Menu, MenuEntry, MenuFile};

/// The most swap files that are read.
const MAX_SWAP_FILES: usize = 16;

/// The facts about the system on one root file system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The btrfs subvolume that is the root.
    pub subvolume: Option<String>,
    /// Nothing can be written to that subvolume, as to a snapshot.
    pub read_only: bool,
    /// The descriptor.
    pub descriptor: Option<Descriptor>,
    /// Why an existing descriptor cannot be read.
    pub descriptor_error: Option<String>,
    /// The content of os-release(5).
    pub os: Option<OperatingSystem>,
    /// The text of /etc/fstab.
    pub fstab: Option<String>,
    /// The content of /etc/hostname.
    pub hostname: Option<String>,
    /// The kernels, newest first.
    pub kernels: Vec<Kernel>,
    /// What the menu would start.
    pub menu: Menu,
    /// What is wrong with /sbin/init.
    pub init_problem: Option<String>,
    /// Bytes in use on the root file system.
    pub used: Option<u64>,
    /// A swap file that holds a hibernation image.
    pub hibernated_swap_file: Option<PathBuf>,
    /// The mount points of devices that units of systemd mount, and not fstab.
    pub mount_units: Vec<String>,
    /// File systems of the BE that could not be mounted, and why.
    pub not_mounted: Vec<String>,
}

impl Facts {
    /// Whether a directory looks like the root of a Linux system: it has a descriptor, an
    /// os-release, or both an fstab and a passwd.
    pub fn is_root(root: &RootDir) -> bool {
        let there = |path: &str| matches!(root.symlink_metadata(path), Ok(Some(_)));
        there(DESCRIPTOR_PATH)
            || there("etc/os-release")
            || (there("usr/lib/os-release") && there("etc"))
            || (there("etc/fstab") && there("etc/passwd"))
    }

    /// Reads the facts. Returns `None` unless [`Facts::is_root`].
    pub fn read(root: &RootDir, subvolume: Option<String>) -> Option<Self> {
        if !Self::is_root(root) {
            return None;
        }
        let mut facts = Facts { subvolume, ..Facts::default() };
        match root.text(DESCRIPTOR_PATH) {
            Ok(None) => {}
            Ok(Some(text)) => match Descriptor::parse(&text) {
                Ok(descriptor) => facts.descriptor = Some(descriptor),
                Err(why) => facts.descriptor_error = Some(why),
            },
            // The path is left out, because it has a temporary mount point.
            Err(Error::Format { why, .. }) => facts.descriptor_error = Some(why),
            Err(Error::Io { source, .. }) => facts.descriptor_error = Some(source.to_string()),
            Err(other) => facts.descriptor_error = Some(other.to_string()),
        }
        let text = |path: &str| root.text(path).ok().flatten();
        facts.os = OperatingSystem::of(root);
        facts.fstab = text("etc/fstab");
        facts.hostname =
            text("etc/hostname").map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
        facts.menu = kernels::menu(root);
        facts.kernels = kernels::kernels(root, facts.menu.default.as_ref());
        facts.init_problem = boot_images::init_problem(root);
        facts.used = used(root);
        facts.hibernated_swap_file =
            facts.fstab.as_deref().and_then(|fstab| hibernated_swap_file(root, fstab));
        facts.mount_units = mount_units::read(root, facts.fstab.as_deref().unwrap_or_default());
        Some(facts)
    }

    /// The kernel that the BE would boot: the one in the default entry of the menu, else the newest
    /// that is complete, else the newest.
    pub fn kernel(&self) -> Option<&Kernel> {
        let image = self.menu.default.as_ref().and_then(|entry| entry.image.as_ref());
        let default = self.kernels.iter().find(|kernel| Some(&kernel.image) == image);
        default
            .or_else(|| self.kernels.iter().find(|k| k.is_complete()))
            .or_else(|| self.kernels.first())
    }
}

/// The newest kernel of a BE that is complete, whatever its menu says.
pub fn newest_complete_kernel(root: &RootDir) -> Option<Kernel> {
    kernels::kernels(root, None).into_iter().find(Kernel::is_complete)
}

/// The first swap file of fstab that holds a hibernation image.
fn hibernated_swap_file(root: &RootDir, fstab: &str) -> Option<PathBuf> {
    let fstab = Fstab::parse(fstab);
    let files = fstab.entries().filter(|entry| entry.is_swap()).filter_map(|entry| {
        let Spec::Path(path) = entry.device() else { return None };
        (!path.starts_with("/dev")).then_some(path)
    });
    files.take(MAX_SWAP_FILES).find(|path| {
        let found = files::regular(root, path).and_then(|(file, size)| {
            probe::super_block(&probe::OpenDevice { file, size }).ok().flatten()
        });
        found.is_some_and(|found| found.kind == probe::Kind::Hibernation)
    })
}

fn used(root: &RootDir) -> Option<u64> {
    let directory = root.directory("/").ok()??;
    let stat = rustix::fs::fstatvfs(&directory).ok()?;
    stat.f_blocks.checked_sub(stat.f_bfree)?.checked_mul(stat.f_frsize)
}
