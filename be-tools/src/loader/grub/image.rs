//! The GRUB image of a BE, made by its own grub-mkimage(1), so that its kernel is loaded by the
//! GRUB that it was tested with.

use std::ffi::OsStr;
use std::path::Path;

use super::stub::{self, BootDirectory};
use crate::environment::BootEnvironment;
use crate::error::{Error, Refusal, Result};
use crate::fstab::{Fstab, Spec};
use crate::root_dir::RootDir;
use crate::sandbox::programs::Programs;
use crate::storage::device::Devices;
use crate::storage::subvolume::Subvolume;

/// The directories of GRUB's modules for UEFI on x86-64, from Debian's grub-efi-amd64-bin.
const MODULE_DIRECTORIES: [&str; 2] = ["usr/lib/grub/x86_64-efi", "boot/grub/x86_64-efi"];

/// The free space on the ESP that a plan requires. The largest image that was seen has 1.2 MB.
pub const EXPECTED_BYTES: u64 = 2 << 20;

/// The GRUB that a BE has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstalledGrub {
    directory: &'static str,
    modules: Vec<String>,
}

impl InstalledGrub {
    /// Finds the GRUB of the BE mounted at `root`.
    ///
    /// # Errors
    /// There is none: a refusal that names the package.
    pub fn find(root: &RootDir, name: &str) -> Result<Self> {
        let missing = |what: &str| {
            Error::from(Refusal::Other(format!(
                "'{name}' has no {what}: install its package grub-efi-amd64-bin (and grub-common)"
            )))
        };
        let has_program = |program: &str| {
            ["usr/bin", "usr/sbin"].iter().any(|f| root.exists(format!("{f}/{program}")))
        };
        if !has_program("grub-mkimage") {
            if has_program("grub2-mkimage") {
                return Err(Refusal::Other(format!(
                    "'{name}' has the GRUB of Fedora and openSUSE (grub2-mkimage), and this \
                    version of be makes boot entries with Debian's only: install grub-mkimage"
                ))
                .into());
            }
            return Err(missing("grub-mkimage"));
        }
        for directory in MODULE_DIRECTORIES {
            let names = root.names(directory)?;
            let modules: Vec<String> = names
                .iter()
                .filter_map(|n| n.to_str()?.strip_suffix(".mod").map(str::to_owned))
                .collect();
            if stub::REQUIRED.iter().all(|r| modules.iter().any(|m| m == r)) {
                return Ok(InstalledGrub { directory, modules });
            }
        }
        Err(missing("GRUB modules for UEFI"))
    }

    /// Whether it can read a file system of this type.
    pub fn reads(&self, fs_type: &str) -> bool {
        let module = match fs_type {
            "ext2" | "ext3" | "ext4" => "ext2",
            "vfat" => "fat",
            other => other,
        };
        self.modules.iter().any(|m| m == module)
    }

    /// The modules for the image: of [`stub::MODULES`] and `more`, those that this GRUB has.
    fn available<'a>(&'a self, more: &'a [String]) -> Vec<&'a str> {
        let has = |m: &&str| self.modules.iter().any(|own| own == m);
        let mut available: Vec<&str> = stub::MODULES.iter().copied().filter(has).collect();
        for module in more.iter().map(String::as_str).filter(has) {
            if !available.contains(&module) {
                available.push(module);
            }
        }
        available
    }

    /// Makes the image that reads the file `stub_name` in its directory. `more` names the modules
    /// that the device of `/boot` needs.
    ///
    /// # Errors
    /// grub-mkimage failed, or did not print an EFI program.
    pub fn make(&self, stub_name: &str, more: &[String], inside: &dyn Programs) -> Result<Vec<u8>> {
        // grub-mkimage reads the embedded configuration only from a file, and syncs its output, so
        // that neither can be a pipe.
        const SCRIPT: &str = "set -e; work=$(mktemp -d); trap 'rm -rf \"$work\"' EXIT; \
            printf %s \"$1\" >\"$work/early\"; directory=$2; shift 2; \
            grub-mkimage -O x86_64-efi -d \"$directory\" -p /boot/grub -c \"$work/early\" \
            -o \"$work/image\" \"$@\" >&2; cat \"$work/image\"";
        let early = stub::early_configuration(stub_name);
        let directory = format!("/{}", self.directory);
        let mut command = vec!["/bin/sh", "-c", SCRIPT, "sh", &early, &directory];
        command.extend(self.available(more));
        let command: Vec<&OsStr> = command.into_iter().map(OsStr::new).collect();
        let image = inside.capture(&command)?;
        if image.starts_with(b"MZ") {
            return Ok(image);
        }
        Err(Error::Failed(
            "grub-mkimage did not print an EFI program: reinstall the BE's package grub-common"
                .into(),
        ))
    }
}

/// The `/boot` directory of the BE mounted at `root`, from its own fstab.
///
/// # Errors
/// The fstab names a `/boot` that does not exist, or whose file system has no UUID.
pub fn boot_directory(
    root: &RootDir,
    environment: &BootEnvironment,
    devices: &Devices,
) -> Result<BootDirectory> {
    let fstab = Fstab::parse(&root.text("etc/fstab")?.unwrap_or_default());
    let boot = fstab.entries().find(|e| e.mountpoint().as_os_str() == "/boot");
    let Some(boot) = boot else {
        let subvolume = environment.root.subvolume.as_deref().unwrap_or_default().trim_matches('/');
        let above = if subvolume.is_empty() { String::new() } else { format!("/{subvolume}") };
        return with_uuid(environment.root.uuid.clone(), format!("{above}/boot"), environment);
    };
    let uuid = match boot.device() {
        Spec::Uuid(uuid) => uuid,
        _ => {
            let device = devices.resolve(&boot.spec())?;
            device.super_block().map(|s| s.uuid.to_string()).unwrap_or_default()
        }
    };
    let subvolume = match Subvolume::of_options(&boot.options())? {
        None | Some(Subvolume::Default) => String::new(),
        Some(Subvolume::Path(path)) => path,
        Some(Subvolume::Id(id)) => {
            return Err(Refusal::Other(format!(
                "the fstab of '{}' has subvolid={id} for /boot, but GRUB needs a path: write \
                subvol=PATH there",
                environment.name()
            ))
            .into());
        }
    };
    with_uuid(uuid, format!("/{subvolume}"), environment)
}

fn with_uuid(uuid: String, path: String, environment: &BootEnvironment) -> Result<BootDirectory> {
    if uuid.is_empty() || !uuid.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') {
        return Err(Refusal::Other(format!(
            "the file system of /boot of '{}' has no UUID, so GRUB could not find it: give it one",
            environment.name()
        ))
        .into());
    }
    // The stub has its path in one line, and GRUB prints it.
    if path.chars().any(char::is_control) {
        return Err(Refusal::Other(format!(
            "the path of /boot of '{}', '{}', contains a control character: rename its subvolume",
            environment.name(),
            path.escape_debug()
        ))
        .into());
    }
    Ok(BootDirectory { uuid, path })
}

/// The modules that GRUB needs to read the file system on `device`, with those for the LVM, LUKS or
/// md below it.
///
/// # Errors
/// The BE's GRUB cannot read it.
pub fn probe(device: &Path, inside: &dyn Programs) -> Result<Vec<String>> {
    let mut modules = Vec::new();
    for target in ["fs", "partmap", "abstraction"] {
        let target = format!("--target={target}");
        let command = ["grub-probe", &target, "--device"].map(OsStr::new);
        let printed = inside.capture(&[&command[..], &[device.as_os_str()]].concat())?;
        for word in String::from_utf8_lossy(&printed).split_whitespace() {
            // For partmap, grub-probe prints the table's name without the prefix of its module.
            let module =
                if target.ends_with("partmap") { format!("part_{word}") } else { word.to_owned() };
            modules.push(module);
        }
    }
    Ok(modules)
}
