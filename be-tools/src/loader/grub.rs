//! GRUB on UEFI without Secure Boot: image, stub and environment block in `\EFI\lifeboat\ID8\`, and
//! a boot entry.
//!
//! A file that a boot entry or an image points at is never replaced. The image and the stub of a
//! new generation get new names, the boot entry is switched by writing one variable, then the old
//! files are removed.

mod check;
mod generation;
mod image;
mod localization;
mod menu_program;
mod owner;
mod settings;
pub mod stub;
pub mod vendor;

use std::path::Path;

use boot::esp::Esp;
use indicatif::HumanBytes;

use super::contract::{BootState, InstallTarget, Loader, LoaderStep, Stage};
use super::esp_location::esp_error;
use super::firmware::environment_entry::EnvironmentEntry;
use super::firmware::lines;
use super::firmware::removal::Owner;
use super::problem::LoaderProblem;
use crate::environment::mounted::MountedEnvironment;
use crate::environment::{BootEnvironment, Inventory, Name, Trial};
use crate::error::{Refusal, Result};
use crate::host::Host;
use crate::localize::LoaderSettings;
use crate::root_dir::RootDir;
use crate::sandbox::Inside;
use crate::sandbox::programs::{Programs, Running};
use crate::storage::mounts::Mounts;
use crate::storage::namespace;
use generation::Generation;
use image::InstalledGrub;

pub use localization::GrubSettings;

/// The name of this loader in a descriptor.
pub const NAME: &str = "grub";

/// Makes the image that reads the stub of a name, with the GRUB of the BE.
type MakeImage = fn(&GrubEfi, &InstallTarget, &InstalledGrub, &str) -> Result<Vec<u8>>;

/// The loader `grub` of one BE, on UEFI.
pub struct GrubEfi<'a> {
    host: &'a Host,
    inventory: &'a Inventory,
    /// The BE that the loader starts.
    target: BootEnvironment,
    entry: EnvironmentEntry<'a>,
    make_image: MakeImage,
}

impl<'a> GrubEfi<'a> {
    /// The loader of `target`. Reads nothing yet.
    pub fn new(host: &'a Host, inventory: &'a Inventory, target: &BootEnvironment) -> Self {
        let entry = EnvironmentEntry::new(host, inventory, target);
        GrubEfi { host, inventory, target: target.clone(), entry, make_image }
    }

    /// Replaces the making of images, so that a test runs no program of a BE.
    #[cfg(test)]
    pub(crate) fn with_images(self, make_image: MakeImage) -> Self {
        GrubEfi { make_image, ..self }
    }

    /// The GRUB of the BE mounted at `root`. Checks that it can read the file system that will hold
    /// the target's kernels.
    fn grub_for_target(&self, root: &Path, name: &str) -> Result<InstalledGrub> {
        let grub = InstalledGrub::find(&RootDir::open(root)?, name)?;
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
            "GRUB of '{name}' cannot read {fs_type}: put /boot on a separate file system, such as \
            -m /boot:DEVICE:ext4"
        ))
        .into())
    }

    fn grub_of_source(&self, source: &BootEnvironment) -> Result<InstalledGrub> {
        if source.running {
            return self.grub_for_target(&self.host.root, source.name());
        }
        namespace::in_private_namespace(|| {
            let mounted = MountedEnvironment::mount_system(self.host, self.inventory, source)?;
            self.grub_for_target(mounted.root(), source.name())
        })
    }

    /// Whose the files in the BE's directory on an ESP are.
    fn owner_on(&self, esp: &Esp) -> Owner {
        owner::owner(esp, &self.directory(), &self.target, &self.inventory.devices)
    }

    fn directory(&self) -> String {
        self.target.descriptor.as_ref().map(|d| d.id.short()).unwrap_or_default()
    }
}

fn make_image(
    loader: &GrubEfi,
    target: &InstallTarget,
    grub: &InstalledGrub,
    stub_name: &str,
) -> Result<Vec<u8>> {
    let table = Mounts::read(loader.host)?;
    let root = &target.environment.root;
    let boot = table.at(&target.root.join("boot")).or_else(|| table.at(target.root));
    let device = boot.map_or_else(|| root.device.clone(), |m| m.source.clone());
    let make =
        |inside: &dyn Programs| grub.make(stub_name, &image::probe(&device, inside)?, inside);
    if target.root == loader.host.root {
        return make(&Running);
    }
    let mut devices = vec![(device.clone(), None)];
    if device != root.device {
        devices.push((root.device.clone(), Some(root.uuid.clone())));
    }
    make(&Inside::new(target.root, &devices))
}

impl Loader for GrubEfi<'_> {
    fn prove(&self, source: &BootEnvironment) -> Result<Vec<String>> {
        self.entry.prove_unsigned()?;
        let location = self.entry.location()?;
        let grub = self.grub_of_source(source)?;
        log::debug!("{grub:?} is used for '{}'", self.target.name());
        let esp = location.mount_read_only(self.host, &self.inventory.devices)?;
        let free = esp.esp().free_bytes().map_err(esp_error("asking for free space"))?;
        if free < image::EXPECTED_BYTES {
            return Err(Refusal::Other(format!(
                "the EFI system partition {} has {} free, but a loader needs {}: delete a boot \
                environment, or old files there",
                location.device.display(),
                HumanBytes(free),
                HumanBytes(image::EXPECTED_BYTES)
            ))
            .into());
        }
        Ok(location.note(&self.target).into_iter().collect())
    }

    fn settings(&self) -> &dyn LoaderSettings {
        &GrubSettings
    }

    fn line(&self, stage: Stage) -> String {
        match stage {
            Stage::InstallAdopted => lines::install_adopted(),
            Stage::Install => lines::install(),
            Stage::InstallAgain => lines::install_again(&self.directory()),
        }
    }

    fn install(&self, target: &InstallTarget) -> Result<()> {
        let InstallTarget { descriptor, environment, .. } = *target;
        // The environment of a system that is being adopted does not have its descriptor yet.
        let described =
            BootEnvironment { descriptor: Some(descriptor.clone()), ..environment.clone() };
        let entry = EnvironmentEntry::new(self.host, self.inventory, &described);
        let root = RootDir::open(target.root)?;
        let grub = InstalledGrub::find(&root, environment.name())?;
        let boot_directory = image::boot_directory(&root, environment, &self.inventory.devices)?;
        let location = entry.location()?;
        let mounted = location.mount(self.host, &self.inventory.devices)?;
        let generation = Generation::next(mounted.esp(), descriptor.id)?;
        let image = (self.make_image)(self, target, &grub, &generation.stub_name())?;
        generation.write(mounted.esp(), &image, boot_directory)?;
        entry.point_to(&location, &generation.efi_path()?)?;
        generation.remove_others(mounted.esp())?;
        mounted.close()
    }

    fn set_listed(&self, listed: bool) -> Result<()> {
        self.entry.set_listed(listed)
    }

    fn prove_switch(&self, force: bool) -> Result<Vec<String>> {
        self.entry.prove_switch(force)
    }

    fn try_once(&self) -> Result<Vec<LoaderStep<'_>>> {
        self.entry.try_once()
    }

    fn make_default(&self) -> Result<Vec<LoaderStep<'_>>> {
        self.entry.make_default()
    }

    fn call_off(&self) -> Result<()> {
        self.entry.call_off()
    }

    fn running_trial(&self) -> Result<Option<Trial>> {
        self.entry.running_trial()
    }

    fn confirm(&self) -> Result<Vec<LoaderStep<'_>>> {
        self.entry.confirm()
    }

    fn is_default(&self) -> Result<bool> {
        self.entry.is_default()
    }

    fn state(&self) -> Result<BootState> {
        let Some(descriptor) = &self.target.descriptor else { return Ok(BootState::default()) };
        self.entry.state(|esp, file| check::check(esp, descriptor.id, file, &self.target))
    }

    fn problems(&self) -> Result<Vec<LoaderProblem>> {
        let Some(descriptor) = &self.target.descriptor else {
            return Ok(BootState::default().into_problems());
        };
        let id = descriptor.id;
        let check = |esp: &Esp, file: &str| check::check_version(esp, id, file, &self.target);
        self.entry.state(check).map(BootState::into_problems)
    }

    fn rename(&self, name: &Name) -> Result<()> {
        self.entry.rename(name)
    }

    fn prove_another_boots(&self, gone: &[u16]) -> Result<()> {
        self.entry.prove_another_boots(gone)
    }

    fn remove(&self) -> Result<Vec<LoaderStep<'_>>> {
        self.entry.remove(|esp| self.owner_on(esp))
    }

    fn kept_by_removal(&self) -> Result<Vec<String>> {
        self.entry.kept_by_removal(|esp| self.owner_on(esp))
    }

    fn leads_here(&self) -> Result<bool> {
        self.entry.leads_here(|esp| self.owner_on(esp))
    }

    fn removed_entries(&self) -> Result<Vec<u16>> {
        self.entry.removed_entries(|esp| self.owner_on(esp))
    }

    fn refuse_kept_first(&self, gone: &[u16]) -> Result<()> {
        self.entry.refuse_kept_first(gone)
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
