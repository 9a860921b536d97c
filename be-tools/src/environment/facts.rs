//! The facts that are read from a root file system: which system it holds, and whether that would
//! boot.

mod boot_images;
mod files;
mod mount_units;

use std::path::{Path, PathBuf};

use boot::command_line::CommandLine;
use boot::grubenv::EnvironmentBlock;
use serde::{Deserialize, Serialize};

use super::boot_environment::OperatingSystem;
use super::descriptor::Descriptor;
use crate::error::Error;
use crate::fstab::{Fstab, Spec};
use crate::installed::DESCRIPTOR_PATH;
use crate::root_dir::RootDir;
use crate::storage::probe;

/// The most kernels that are read. A hostile /boot could have any number.
const MAX_KERNELS: usize = 64;

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
    /// What the GRUB menu would start.
    pub grub: Grub,
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

/// A kernel in /boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// The release, as `uname -r` prints it.
    pub release: String,
    /// The path of the image in the BE.
    pub image: String,
    /// What is wrong with the image.
    pub image_problem: Option<String>,
    /// The path of the initramfs in the BE.
    pub initramfs: Option<String>,
    /// What is wrong with the initramfs.
    pub initramfs_problem: Option<String>,
    /// Whether /lib/modules has a directory for the release.
    pub modules: bool,
}

impl Kernel {
    /// Whether kernel, initramfs and modules exist and look undamaged.
    pub fn is_complete(&self) -> bool {
        self.image_problem.is_none()
            && self.initramfs.is_some()
            && self.initramfs_problem.is_none()
            && self.modules
    }
}

/// The GRUB of a BE.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grub {
    /// Whether GRUB's programs or its directory exist.
    pub installed: bool,
    /// Whether grub.cfg exists and is not empty.
    pub configured: bool,
    /// The entry that the menu starts if no key is pressed.
    pub default: Option<GrubEntry>,
}

/// A menu entry that starts a kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrubEntry {
    /// The kernel, as grub.cfg names it.
    pub kernel: String,
    /// Whether the kernel exists.
    pub kernel_exists: bool,
    /// Initramfs images that do not exist.
    pub missing_initramfs: Vec<String>,
    /// `root=` of the command line.
    pub root: Option<String>,
    /// `resume=` of the command line.
    pub resume: Option<String>,
    /// The UUID of the file system on which it searches the kernel.
    pub search_uuid: Option<String>,
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
        facts.os =
            text("etc/os-release").or_else(|| text("usr/lib/os-release")).map(|t| os_release(&t));
        facts.fstab = text("etc/fstab");
        facts.hostname =
            text("etc/hostname").map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
        facts.kernels = kernels(root);
        facts.grub = grub(root);
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
        let default = self.grub.default.as_ref().and_then(|entry| {
            let name = entry.kernel.rsplit('/').next()?;
            self.kernels.iter().find(|k| k.image.rsplit('/').next() == Some(name))
        });
        default
            .or_else(|| self.kernels.iter().find(|k| k.is_complete()))
            .or_else(|| self.kernels.first())
    }
}

/// Parses os-release(5): shell assignments, whose values may be quoted.
fn os_release(text: &str) -> OperatingSystem {
    let value = |key: &str| {
        let raw = text
            .lines()
            .rev()
            .find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='))?
            .trim();
        let quoted = raw.strip_prefix('"').and_then(|r| r.strip_suffix('"'));
        let quoted = quoted.or_else(|| raw.strip_prefix('\'').and_then(|r| r.strip_suffix('\'')));
        let mut plain = String::new();
        let mut chars = quoted.unwrap_or(raw).chars();
        while let Some(c) = chars.next() {
            let c = if c == '\\' { chars.next().unwrap_or(c) } else { c };
            plain.extend((!c.is_control()).then_some(c));
        }
        Some(plain)
    };
    let id = value("ID").unwrap_or_else(|| "linux".into());
    OperatingSystem {
        version_id: value("VERSION_ID").unwrap_or_default(),
        pretty_name: value("PRETTY_NAME").or_else(|| value("NAME")).unwrap_or_else(|| id.clone()),
        id,
    }
}

fn kernels(root: &RootDir) -> Vec<Kernel> {
    let names = root.names("boot").unwrap_or_default();
    let names: Vec<String> = names.into_iter().filter_map(|name| name.into_string().ok()).collect();
    let images = names.iter().filter(|n| n.starts_with("vmlinuz-") || n.starts_with("vmlinux-"));
    let mut kernels: Vec<Kernel> = images
        .take(MAX_KERNELS)
        .filter_map(|name| {
            let suffix = &name["vmlinuz-".len()..];
            let image = format!("boot/{name}");
            let (release, image_problem) = boot_images::kernel(root, &image)?;
            let release = release.unwrap_or_else(|| suffix.to_owned());
            let initramfs = [
                format!("initrd.img-{suffix}"),
                format!("initramfs-{suffix}.img"),
                format!("initrd-{suffix}"),
            ];
            let initramfs =
                initramfs.iter().find(|n| names.contains(n)).map(|n| format!("boot/{n}"));
            Some(Kernel {
                initramfs_problem: initramfs
                    .as_ref()
                    .and_then(|path| boot_images::initramfs_problem(root, path)),
                modules: ["lib/modules", "usr/lib/modules"]
                    .iter()
                    .any(|directory| root.exists(Path::new(directory).join(&release))),
                release,
                image,
                image_problem,
                initramfs,
            })
        })
        .collect();
    kernels.sort_by(|a, b| boot::bls::compare_versions(&b.release, &a.release));
    kernels
}

fn grub(root: &RootDir) -> Grub {
    let installed =
        ["boot/grub", "boot/grub2", "usr/sbin/grub-mkconfig", "usr/sbin/grub2-mkconfig"];
    let installed = installed.iter().any(|path| root.exists(path));
    let directory = ["boot/grub", "boot/grub2"]
        .into_iter()
        .find(|f| root.exists(Path::new(f).join("grub.cfg")));
    let Some(directory) = directory else { return Grub { installed, ..Grub::default() } };
    let Ok(Some(cfg)) = root.text(Path::new(directory).join("grub.cfg")) else {
        return Grub { installed, configured: true, default: None };
    };
    let environment = root.read(Path::new(directory).join("grubenv")).ok().flatten();
    let environment =
        environment.and_then(|bytes| EnvironmentBlock::parse(&bytes).ok()).unwrap_or_default();
    let default = boot::grub_cfg::default_entry(&cfg, &environment).map(|entry| GrubEntry {
        kernel_exists: on_grub_root(root, &entry.linux),
        missing_initramfs: entry
            .initrd
            .iter()
            .filter(|path| !on_grub_root(root, path))
            .cloned()
            .collect(),
        root: CommandLine::parse(&entry.options).get("root").map(str::to_owned),
        resume: CommandLine::parse(&entry.options).get("resume").map(str::to_owned),
        search_uuid: entry.root_uuid,
        kernel: entry.linux,
    });
    Grub { installed, configured: !cfg.trim().is_empty(), default }
}

/// Whether a path in grub.cfg exists. It may be relative to the root, to a separate /boot, or to
/// the top of a btrfs of which the root is a subvolume.
fn on_grub_root(root: &RootDir, path: &str) -> bool {
    let path =
        path.strip_prefix('(').and_then(|p| p.split_once(')')).map_or(path, |(_, rest)| rest);
    let below_boot = path.find("/boot/").map(|at| &path[at..]);
    root.exists(path)
        || root.exists(format!("boot/{path}"))
        || below_boot.is_some_and(|p| root.exists(p))
}

/// The first swap file of fstab that holds a hibernation image.
fn hibernated_swap_file(root: &RootDir, fstab: &str) -> Option<PathBuf> {
    let fstab = Fstab::parse(fstab);
    let files = fstab.entries().filter(|entry| entry.is_swap()).filter_map(|entry| {
        let Spec::Path(path) = entry.device() else { return None };
        (!path.starts_with("/dev")).then_some(path)
    });
    files.take(MAX_SWAP_FILES).find(|path| {
        let content = files::regular(root, path)
            .map(|(file, size)| probe::probe(&probe::OpenDevice { file, size }));
        content.and_then(|content| content.kind()) == Some(probe::Kind::Hibernation)
    })
}

fn used(root: &RootDir) -> Option<u64> {
    let directory = root.directory("/").ok()??;
    let stat = rustix::fs::fstatvfs(&directory).ok()?;
    stat.f_blocks.checked_sub(stat.f_bfree)?.checked_mul(stat.f_frsize)
}
