//! Disks on which `be` has already created a boot environment, so that scenarios can start with
//! two. They are cached by what they are made from: the fixture's recipe and the program.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use qemu::{Builder, Bus, Debian, Disk, Fixture, Machine, Release};

use crate::{BeCommands, be_program};

/// Name of the boot environment that was installed.
pub const FIRST: &str = "first";
/// Name of its copy.
pub const SECOND: &str = "second";

/// Sizes of the spare partitions: 3 is for the copy, 4 is small and for use by scenarios.
pub const SPARE_MIB: [u64; 2] = [3072, 256];

/// A freshly installed Debian, with two empty partitions before its swap.
pub fn debian(release: Release) -> Debian {
    Debian::new(release).spares(&SPARE_MIB)
}

/// A running machine with a fresh Debian, in which `be` is installed but has not been run.
///
/// # Errors
/// The fixture cannot be built or does not boot.
pub fn fresh(release: Release) -> Result<Machine> {
    let vm = debian(release).build()?.machine()?.start()?;
    vm.ready()?;
    vm.install_be()?;
    Ok(vm)
}

/// A disk with two complete boot environments, and its firmware's variable store.
#[derive(Clone, Debug)]
pub struct TwoEnvironments {
    directory: PathBuf,
}

impl TwoEnvironments {
    /// Takes the disk from the cache, or creates it with `be create` in a machine.
    ///
    /// # Errors
    /// The fixture cannot be built, or `be create` failed.
    pub fn on(release: Release) -> Result<Self> {
        Self::of(&debian(release).build()?)
    }

    /// As [`TwoEnvironments::on`], with the generic kernel, which supports NVMe and AHCI.
    ///
    /// # Errors
    /// As [`TwoEnvironments::on`].
    pub fn with_generic_kernel(release: Release) -> Result<Self> {
        Self::of(&debian(release).generic_kernel().build()?)
    }

    fn of(fixture: &Fixture) -> Result<Self> {
        let program = std::fs::read(be_program()?).context("reading the program")?;
        let disk = fixture.disk();
        let mut hasher = DefaultHasher::new();
        (&disk, program).hash(&mut hasher);
        let cache = disk
            .ancestors()
            .nth(2)
            .context("the disk of a fixture is in a subdirectory of the cache")?;
        let two =
            TwoEnvironments { directory: cache.join(format!("two-{:016x}", hasher.finish())) };
        let lock = File::create(two.directory.with_extension("lock"))
            .context("opening the lock of a prepared disk")?;
        lock.lock().context("waiting for another test to prepare the disk")?;
        if !two.directory.exists() {
            two.make(fixture)?;
        }
        Ok(two)
    }

    fn make(&self, fixture: &Fixture) -> Result<()> {
        let work = self.directory.with_extension("partial");
        if work.exists() {
            std::fs::remove_dir_all(&work)
                .context("removing the leftovers of an interrupted test")?;
        }
        std::fs::create_dir_all(&work)?;
        std::fs::copy(fixture.variables(), work.join("variables.fd"))?;
        let copied = Command::new("cp")
            .args(["--sparse=always", "--reflink=auto"])
            .args([fixture.disk(), work.join("disk.raw")])
            .status()
            .context("starting cp")?;
        ensure!(copied.success(), "copying {} failed: {copied}", fixture.disk().display());
        let disk = Disk::new(work.join("disk.raw")).serial("primary");
        let vm =
            Builder::new("prepare")?.disk(disk).variables(work.join("variables.fd")).start()?;
        vm.ready()?;
        vm.install_be()?;
        vm.be(&format!("create {SECOND} -m /:/dev/vda3:ext4 --current {FIRST} --yes"))?;
        vm.power_off()?;
        std::fs::rename(&work, &self.directory).context("storing the prepared disk")
    }

    /// A machine with an overlay of the disk on virtio, serial number `primary`.
    ///
    /// # Errors
    /// The machine's directory cannot be created.
    pub fn machine(&self) -> Result<Builder> {
        self.machine_on(Bus::Virtio)
    }

    /// As [`TwoEnvironments::machine`], on another bus.
    ///
    /// # Errors
    /// As [`TwoEnvironments::machine`].
    pub fn machine_on(&self, bus: Bus) -> Result<Builder> {
        self.builder(self.disk().overlay().bus(bus))
    }

    /// As [`TwoEnvironments::machine`], but the power can be cut.
    ///
    /// # Errors
    /// As [`TwoEnvironments::machine`].
    pub fn machine_to_cut(&self) -> Result<Builder> {
        self.builder(self.disk().logged())
    }

    /// The disk itself, serial number `primary`. Machines use overlays of it.
    pub fn disk(&self) -> Disk {
        Disk::new(self.directory.join("disk.raw")).serial("primary")
    }

    fn builder(&self, disk: Disk) -> Result<Builder> {
        Ok(Builder::new("two")?.disk(disk).copy_variables(&self.directory.join("variables.fd"))?)
    }
}
