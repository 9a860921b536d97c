//! GRUB on UEFI without Secure Boot: image, stub and environment block in `\EFI\lifeboat\ID8\`, and
//! a boot entry.
//!
//! A file that something points at is never replaced. Image and stub of a new generation get new
//! names, the boot entry is switched by one variable write, then the old ones go.

pub mod image;
pub mod stub;
pub mod vendor;

use std::path::{Path, PathBuf};

use boot::efi::{BootEntries, BootEntry, LoadOption, Position, SecureBoot};
use boot::esp::Esp;
use boot::grubenv::EnvironmentBlock;

use super::esp_location::{EspLocation, esp_error};
use super::{Loader, Subject};
use crate::environment::Inventory;
use crate::environment::mounted::{Access, MountedEnvironment};
use crate::environment::{BootEnvironment, Id};
use crate::error::{Error, Refusal, Result};
use crate::host::Host;
use crate::loader::firmware::{self, reading, writing};
use crate::root_dir::RootDir;
use crate::sandbox::Inside;
use crate::sandbox::programs::{Programs, Running};
use crate::storage::mounts::Mounts;
use crate::storage::namespace;
use crate::storage::size_text;
use image::Grub;
use stub::{BootPlace, Image, Stub};

/// The loader `grub` on UEFI, on one ESP.
#[derive(Debug)]
pub struct GrubEfi<'a> {
    host: &'a Host,
    inventory: &'a Inventory,
    entries: BootEntries,
    location: EspLocation,
    /// The BE that is to be started.
    target: BootEnvironment,
}

impl<'a> GrubEfi<'a> {
    /// For `target`, with its files on the ESP at `location`.
    ///
    /// # Errors
    /// [`Refusal::NoFirmwareVariables`]
    pub fn new(
        host: &'a Host,
        inventory: &'a Inventory,
        target: &BootEnvironment,
        location: EspLocation,
    ) -> Result<Self> {
        let entries = firmware::boot_entries(host)?;
        Ok(GrubEfi { host, inventory, entries, location, target: target.clone() })
    }

    /// GRUB of the BE mounted at `root`, and that it can read where the target's kernels will lie.
    fn grub_for_target(&self, root: &Path, name: &str) -> Result<Grub> {
        let grub = Grub::find(&RootDir::open(root)?, name)?;
        let boot = self
            .target
            .file_systems
            .iter()
            .find(|f| f.mountpoint == Path::new("/boot") && !f.shared);
        let fs_type = boot.map_or(&self.target.root.fs_type, |b| &b.fs_type);
        if grub.reads(fs_type) {
            return Ok(grub);
        }
        Err(Refusal::Other(format!(
            "GRUB of '{name}' cannot read {fs_type}: put /boot on a file system of its own, such \
            as -m /boot:DEVICE:ext4"
        ))
        .into())
    }

    fn entry(&self, id: Id) -> Result<BootEntry> {
        let mut found = firmware::entries_of(&self.entries, id)?;
        if found.is_empty() {
            return Err(Error::Failed(format!(
                "'{}' has no boot entry: `be activate` makes it anew",
                self.target.name()
            )));
        }
        Ok(found.swap_remove(0))
    }

    fn capture<T>(
        &self,
        subject: &Subject,
        work: impl FnOnce(&dyn Programs, &Path) -> Result<T>,
    ) -> Result<T> {
        let table = Mounts::read(self.host)?;
        let boot = table.at(&subject.root.join("boot")).or_else(|| table.at(subject.root));
        let device =
            boot.map_or_else(|| subject.environment.root.device.clone(), |m| m.source.clone());
        if subject.root == Path::new("/") {
            return work(&Running, &device);
        }
        let mut devices = vec![(device.clone(), None)];
        if device != subject.environment.root.device {
            devices.push((
                subject.environment.root.device.clone(),
                Some(subject.environment.root.uuid.clone()),
            ));
        }
        let inside = Inside {
            root: subject.root,
            block_devices: &devices,
            esp: None,
            shared: &[],
            privileged: false,
            interactive: false,
        };
        work(&inside, &device)
    }
}

impl Loader for GrubEfi<'_> {
    fn prove(&self, source: &BootEnvironment) -> Result<Vec<String>> {
        if self.entries.secure_boot().map_err(reading)? == SecureBoot::Enabled {
            return Err(Refusal::SecureBoot.into());
        }
        let grub = if source.running {
            self.grub_for_target(Path::new("/"), source.name())?
        } else {
            namespace::in_private_namespace(|| {
                let mounted = MountedEnvironment::mount_system(
                    self.host,
                    self.inventory,
                    source,
                    Access::ReadOnly,
                )?;
                self.grub_for_target(mounted.root(), source.name())
            })?
        };
        log::debug!("{grub:?} is used for '{}'", self.target.name());
        let esp = self.location.mount_read_only(self.host, &self.inventory.devices)?;
        let free = esp.esp().free_bytes().map_err(esp_error("asking for free space"))?;
        if free < image::EXPECTED_BYTES {
            return Err(Refusal::Other(format!(
                "the EFI system partition {} has {} free and a loader needs {}: delete a boot \
                environment or old files there",
                self.location.device.display(),
                size_text(free),
                size_text(image::EXPECTED_BYTES)
            ))
            .into());
        }
        Ok(self.location.note(&self.target).into_iter().collect())
    }

    fn install(&self, subject: &Subject) -> Result<u16> {
        let root = RootDir::open(subject.root)?;
        let grub = Grub::find(&root, subject.environment.name())?;
        let place = image::boot_place(&root, subject.environment, &self.inventory.devices)?;
        let mounted = self.location.mount(self.host, &self.inventory.devices)?;
        let generation = Generation::next(mounted.esp(), subject.descriptor.id)?;
        let image = self.capture(subject, |inside, device| {
            grub.make(&generation.stub_name(), &image::probe(device, inside)?, inside)
        })?;
        generation.write(mounted.esp(), &image, place)?;
        let description =
            firmware::description(subject.descriptor.name.as_str(), &subject.environment.os);
        let path = self.location.device_path(&generation.efi_path()?);
        let number =
            point(&self.entries, subject.descriptor.id, LoadOption::new(description, path))?;
        generation.remove_others(mounted.esp())?;
        mounted.close()?;
        Ok(number)
    }

    fn set_active(&self, id: Id, active: bool) -> Result<()> {
        let number = self.entry(id)?.number;
        self.entries.set_active(number, active).map_err(writing)
    }

    fn problems(&self, id: Id) -> Result<Vec<String>> {
        let found = firmware::entries_of(&self.entries, id)?;
        let Some(entry) = found.first() else { return Ok(vec!["it has no boot entry".into()]) };
        if entry.option.path.partuuid() != Some(self.location.partuuid) {
            return Ok(vec![NO_ESP.into()]);
        }
        let Some((_, file)) = firmware::loader_file(&entry.option) else {
            return Ok(vec!["its boot entry names no loader".into()]);
        };
        let mounted = self.location.mount_read_only(self.host, &self.inventory.devices)?;
        Ok(check(mounted.esp(), id, &file, &self.target))
    }
}

/// Makes the BE's one entry hold `option`; a new one is inactive and last in `BootOrder`, others of
/// the BE go.
fn point(entries: &BootEntries, id: Id, mut option: LoadOption) -> Result<u16> {
    let found = firmware::entries_of(entries, id)?;
    let Some((first, others)) = found.split_first() else {
        option.set_active(false);
        return entries.add(&option, Position::Last).map_err(writing);
    };
    option.set_active(first.option.is_active());
    entries.replace(first.number, &option).map_err(writing)?;
    if !entries.order().map_err(reading)?.contains(&first.number) {
        entries.place(first.number, Position::Last).map_err(writing)?;
    }
    for other in others {
        entries.remove(other.number).map_err(writing)?;
    }
    Ok(first.number)
}

/// The ESP of a boot entry is gone.
pub const NO_ESP: &str =
    "the EFI system partition (ESP) that its boot entry names is not there or cannot be read";

/// Why the loader whose image is `file` would not lead to the BE.
pub(crate) fn check(esp: &Esp, id: Id, file: &str, target: &BootEnvironment) -> Vec<String> {
    let directory = Esp::directory_of(&id.short());
    let read = |what: String, name: &str| {
        let bytes =
            esp.read(&directory.join(name)).map_err(|e| format!("{what} cannot be read: {e}"))?;
        bytes.ok_or_else(|| format!("{what} is missing on the ESP"))
    };
    let image = match read(format!("its loader {file}"), file) {
        Ok(image) => image,
        Err(why) => return vec![why],
    };
    let stub_name = stub_of(file);
    let text = match read(format!("its loader's {stub_name}"), &stub_name) {
        Ok(text) => text,
        Err(why) => return vec![why],
    };
    let stub = match Stub::parse(&String::from_utf8_lossy(&text)) {
        Ok(stub) => stub,
        Err(why) => return vec![format!("its loader's {stub_name} {why}")],
    };
    let mut problems = Vec::new();
    if stub.image != Image::of(file, &image) {
        problems.push(format!("its loader {file} is damaged on the ESP"));
    }
    let boot = target.file_systems.iter().find(|f| f.mountpoint == Path::new("/boot"));
    if boot.is_none() && !stub.boot.uuid.eq_ignore_ascii_case(&target.root.uuid) {
        problems.push("its loader leads to another file system".into());
    }
    let environment = esp.root().join(&directory).join(stub::ENVIRONMENT);
    if let Err(e) = boot::grubenv::read(&environment) {
        problems.push(format!("its loader's {}: {e}", stub::ENVIRONMENT));
    }
    problems
}

/// `grubx64-2.efi` reads `lifeboat-2.cfg`.
fn stub_of(image: &str) -> String {
    let stem = image.strip_suffix(".efi").unwrap_or(image);
    format!("lifeboat{}.cfg", stem.strip_prefix("grubx64").unwrap_or_default())
}

/// The files of one installation in a BE's directory. The first has no number.
#[derive(Debug)]
struct Generation {
    directory: PathBuf,
    suffix: String,
}

impl Generation {
    /// One whose names are free.
    fn next(esp: &Esp, id: Id) -> Result<Self> {
        let directory = Esp::directory_of(&id.short());
        for number in 1..1000 {
            let suffix = if number == 1 { String::new() } else { format!("-{number}") };
            let generation = Generation { directory: directory.clone(), suffix };
            let is_free =
                |name: &str| esp.root().join(&directory).join(name).symlink_metadata().is_err();
            if is_free(&generation.image_name()) && is_free(&generation.stub_name()) {
                return Ok(generation);
            }
        }
        Err(Error::Failed(format!(
            "{} on the ESP is full of old loaders: remove what is not used",
            directory.display()
        )))
    }

    fn image_name(&self) -> String {
        format!("grubx64{}.efi", self.suffix)
    }

    fn stub_name(&self) -> String {
        format!("lifeboat{}.cfg", self.suffix)
    }

    fn efi_path(&self) -> Result<String> {
        Esp::efi_path(&self.directory.join(self.image_name()))
            .map_err(esp_error("naming the loader"))
    }

    /// Writes all of it, or nothing. Nothing points at it yet.
    fn write(&self, esp: &Esp, image: &[u8], place: BootPlace) -> Result<()> {
        let stub = Stub { image: Image::of(&self.image_name(), image), boot: place }.render();
        let stub_path = self.directory.join(self.stub_name());
        let image_path = self.directory.join(self.image_name());
        let sizes =
            [(stub_path.as_path(), stub.len() as u64), (image_path.as_path(), image.len() as u64)];
        let needed =
            esp.needed_bytes(&sizes).map_err(esp_error("computing the space for the loader"))?;
        let free = esp.free_bytes().map_err(esp_error("asking for free space"))?;
        if needed > free {
            let path = esp.root().join(&image_path);
            return Err(esp_error("writing the loader")(boot::esp::Error::NoSpace {
                path,
                needed,
                free,
            }));
        }
        let write = || {
            self.make_environment(esp)?;
            esp.write_new(&stub_path, stub.as_bytes()).map_err(esp_error("writing the stub"))?;
            esp.write_new(&image_path, image).map_err(esp_error("writing the loader"))
        };
        write().inspect_err(|_| {
            for path in [&image_path, &stub_path] {
                let _ = esp.remove_tree(path);
            }
        })
    }

    /// The environment block is made once, and from then on written in place.
    fn make_environment(&self, esp: &Esp) -> Result<()> {
        let path = self.directory.join(stub::ENVIRONMENT);
        if boot::grubenv::read(&esp.root().join(&path)).is_ok() {
            return Ok(());
        }
        // A damaged one is of no use to GRUB either.
        esp.remove_tree(&path).map_err(esp_error("removing a damaged environment block"))?;
        let block = EnvironmentBlock::new()
            .to_bytes()
            .map_err(|e| Error::boot("making an environment block", e))?;
        esp.write_new(&path, &block).map_err(esp_error("writing the environment block"))
    }

    /// Removes what an earlier installation, or an interrupted one, left in the directory.
    fn remove_others(&self, esp: &Esp) -> Result<()> {
        let keep = [self.image_name(), self.stub_name(), stub::ENVIRONMENT.to_owned()];
        let directory = esp.root().join(&self.directory);
        let names = std::fs::read_dir(&directory).map_err(|source| Error::Io {
            doing: format!("listing {}", directory.display()),
            source,
        })?;
        for name in names.filter_map(|n| n.ok()?.file_name().into_string().ok()) {
            if !keep.iter().any(|k| k.eq_ignore_ascii_case(&name)) {
                esp.remove_tree(&self.directory.join(&name))
                    .map_err(esp_error("removing an old loader"))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
