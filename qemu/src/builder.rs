//! The description of a machine, and QEMU's command line made from it.

use crate::disk::AttachedDisk;
use crate::host::{Tool, target_dir};
use crate::{Accelerator, Disk, Error, Firmware, Machine, Result, WriteLog, agent};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// A kernel that QEMU loads without the boot loader. OVMF's variables work as usual.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The kernel, or a unified kernel image.
    pub image: PathBuf,
    /// Its initramfs.
    pub initrd: Option<PathBuf>,
    /// Its command line.
    pub command_line: String,
}

/// The description of a machine. Its overlays, blank disks and variables are kept as long as the
/// description or a machine made from it exists, so that the machine can be stopped and started
/// again.
#[derive(Clone, Debug)]
pub struct Builder {
    pub(crate) name: String,
    program: String,
    pub(crate) directory: Arc<TempDir>,
    firmware: Firmware,
    variables: Option<PathBuf>,
    memory: u32,
    cpus: u32,
    disks: Vec<Disk>,
    consoles: usize,
    kernel: Option<Kernel>,
    screen: bool,
    usb: bool,
    ports: usize,
}

impl Builder {
    /// A machine with OVMF, 1 GiB of memory, one processor, one serial console and nothing else.
    /// The name is for messages and logs.
    ///
    /// # Errors
    /// Its directory below `target/vm` cannot be made.
    pub fn new(name: &str) -> Result<Builder> {
        let machines = target_dir().join("vm");
        let directory = std::fs::create_dir_all(&machines)
            .and_then(|()| tempfile::Builder::new().prefix(name).tempdir_in(&machines))
            .map_err(Error::io(|| format!("making a directory in {}", machines.display())))?;
        Ok(Builder {
            name: name.to_owned(),
            program: "qemu-system-x86_64".to_owned(),
            directory: Arc::new(directory),
            firmware: Firmware::Ovmf,
            variables: None,
            memory: 1024,
            cpus: 1,
            disks: Vec::new(),
            consoles: 1,
            kernel: None,
            screen: false,
            usb: false,
            ports: 0,
        })
    }

    /// Sets the name for messages and logs.
    pub fn name(mut self, name: &str) -> Builder {
        self.name = name.to_owned();
        self
    }

    /// Sets the firmware; OVMF by default.
    pub fn firmware(mut self, firmware: Firmware) -> Builder {
        self.firmware = firmware;
        self
    }

    /// Sets a file as the variable store, which the machine writes to. By default the machine has
    /// its own store, made from the firmware's template.
    pub fn variables(mut self, store: impl Into<PathBuf>) -> Builder {
        self.variables = Some(store.into());
        self
    }

    /// Makes the machine's own variable store a copy of another.
    ///
    /// # Errors
    /// The store cannot be copied.
    pub fn copy_variables(self, store: &Path) -> Result<Builder> {
        let own = self.directory.path().join("variables.fd");
        std::fs::copy(store, &own).map_err(Error::io(|| format!("copying {}", store.display())))?;
        Ok(self)
    }

    /// Sets the memory in MiB.
    pub fn memory(mut self, mebibytes: u32) -> Builder {
        self.memory = mebibytes;
        self
    }

    /// Sets the number of processors; one by default. With two, QEMU's translator sometimes ran
    /// code on one while the other was patching it, and the guest's kernel crashed at its own
    /// breakpoint (`Oops: int3`), without a message if it boots quietly.
    pub fn cpus(mut self, count: u32) -> Builder {
        self.cpus = count;
        self
    }

    /// Adds a disk.
    pub fn disk(mut self, disk: Disk) -> Builder {
        self.disks.push(disk);
        self
    }

    /// Removes the disk with this serial number from the machine. Its image is kept for
    /// [`Builder::with_disk`].
    ///
    /// # Errors
    /// There is no such disk.
    pub fn without_disk(self, serial: &str) -> Result<Builder> {
        self.set_present(serial, false)
    }

    /// Inserts a disk again that [`Builder::without_disk`] removed.
    ///
    /// # Errors
    /// There is no such disk.
    pub fn with_disk(self, serial: &str) -> Result<Builder> {
        self.set_present(serial, true)
    }

    fn set_present(mut self, serial: &str, present: bool) -> Result<Builder> {
        let mut disks = self.disks.iter_mut().enumerate();
        let Some((_, disk)) = disks.find(|(number, disk)| disk.serial_or(*number) == serial) else {
            return Err(Error::Description(format!("machine {} has no disk {serial}", self.name)));
        };
        disk.set_present(present);
        Ok(self)
    }

    /// Sets the number of serial consoles; one by default.
    pub fn consoles(mut self, count: usize) -> Builder {
        self.consoles = count;
        self
    }

    /// Makes QEMU load a kernel without the boot loader.
    pub fn kernel(mut self, kernel: Kernel) -> Builder {
        self.kernel = Some(kernel);
        self
    }

    /// Makes the machine boot through the firmware and its loaders again.
    pub fn no_kernel(mut self) -> Builder {
        self.kernel = None;
        self
    }

    /// Adds a graphics card and a USB keyboard.
    pub fn screen(mut self) -> Builder {
        self.screen = true;
        self
    }

    /// Adds a USB controller, for a USB disk that is plugged in later.
    pub fn usb(mut self) -> Builder {
        self.usb = true;
        self
    }

    /// Adds PCIe ports for virtio and NVMe disks that are plugged in later.
    pub fn hot_plug_ports(mut self, count: usize) -> Builder {
        self.ports = count;
        self
    }

    /// Starts the machine as soon as the host has a processor for it: under KVM if that can run the
    /// machine's firmware, else under TCG. If KVM fails later, all machines run under TCG from then
    /// on. This machine is then started again if it was not used yet: no wait has succeeded,
    /// nothing was typed, and QEMU was not given a command. For the guest that is a power cut
    /// during its boot. QEMU itself ends in order, so no disk image is damaged. Otherwise, and if
    /// `LIFEBOAT_ACCEL` is set, every wait fails at once with [`Error::Accelerator`].
    ///
    /// # Errors
    /// QEMU or its firmware is not installed, a disk image is missing, or QEMU refuses the
    /// description.
    pub fn start(self) -> Result<Machine> {
        Machine::start(self)
    }

    /// The image file of the disk with this serial number, which is made if it does not exist yet.
    /// An overlay is a qcow2 image.
    ///
    /// # Errors
    /// There is no such disk, or its file cannot be made.
    pub fn disk_image(&self, serial: &str) -> Result<PathBuf> {
        let disk = self.attached()?.into_iter().find(|disk| disk.serial == serial);
        disk.map(|disk| disk.path).ok_or_else(|| {
            Error::Description(format!("machine {} has no disk {serial}", self.name))
        })
    }

    /// The write log of the disk with this serial number. Needs [`Disk::logged`].
    ///
    /// # Errors
    /// There is no such disk, or it has no log.
    pub fn write_log(&self, serial: &str) -> Result<WriteLog> {
        let disk = self.attached()?.into_iter().find(|disk| disk.serial == serial);
        match disk.and_then(|disk| disk.log) {
            Some(log) => WriteLog::open(&log),
            None => Err(Error::Description(format!(
                "machine {} has no logged disk {serial}: use Disk::logged",
                self.name
            ))),
        }
    }

    /// Takes the disk with this serial number back to its first `count` writes, flushes and
    /// discards, as a power cut at that instant would leave it. Its log begins again. The variable
    /// store is not changed.
    ///
    /// # Errors
    /// There is no such disk, it has no log, or it cannot be rebuilt.
    pub fn rewind(mut self, serial: &str, count: usize) -> Result<Builder> {
        let directory = self.directory.path().to_owned();
        let mut disks = self.disks.iter_mut().enumerate();
        match disks.find(|(number, disk)| disk.serial_or(*number) == serial) {
            Some((number, disk)) => disk.cut(&directory, number, Some(count))?,
            None => {
                return Err(Error::Description(format!(
                    "machine {} has no disk {serial}",
                    self.name
                )));
            }
        }
        Ok(self)
    }

    /// Takes every logged disk back to its last flush.
    pub(crate) fn forget_unflushed(mut self) -> Result<Builder> {
        let directory = self.directory.path().to_owned();
        for (number, disk) in self.disks.iter_mut().enumerate().filter(|(_, disk)| disk.is_logged())
        {
            disk.cut(&directory, number, None)?;
        }
        Ok(self)
    }

    pub(crate) fn chosen_firmware(&self) -> Firmware {
        self.firmware
    }

    /// Sets another program instead of QEMU.
    #[cfg(test)]
    pub(crate) fn program(mut self, program: &Path) -> Builder {
        self.program = program.display().to_string();
        self
    }

    pub(crate) fn disk_count(&self) -> usize {
        self.disks.len()
    }

    pub(crate) fn console_count(&self) -> usize {
        self.consoles
    }

    pub(crate) fn ports(&self) -> usize {
        self.ports
    }

    fn attached(&self) -> Result<Vec<AttachedDisk>> {
        let disks = self.disks.iter().enumerate().filter(|(_, disk)| disk.is_present());
        disks.map(|(number, disk)| disk.attach(self.directory.path(), number)).collect()
    }

    fn store(&self) -> Result<Option<PathBuf>> {
        let Some((_, template)) = self.firmware.files()? else { return Ok(None) };
        let store =
            self.variables.clone().unwrap_or_else(|| self.directory.path().join("variables.fd"));
        if !store.exists() {
            std::fs::copy(&template, &store).map_err(Error::io(|| {
                format!("copying {} to {}", template.display(), store.display())
            }))?;
        }
        Ok(Some(store))
    }

    /// The command that runs QEMU. It connects to the sockets in the directory `sockets`, which
    /// must be listening.
    pub(crate) fn qemu(&self, accelerator: Accelerator, sockets: &Path) -> Result<Tool> {
        let socket = |name: &str| {
            format!("socket,id={name},path={}", crate::firmware::escape(&sockets.join(name)))
        };
        let mut qemu = Tool::new(&self.program)
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-name", &self.name])
            .args(accelerator.arguments())
            .args(self.firmware.arguments(self.store()?.as_deref())?)
            .args(["-m", &self.memory.to_string(), "-smp", &self.cpus.to_string()])
            .args([
                "-object",
                "rng-random,id=entropy,filename=/dev/urandom",
                "-device",
                "virtio-rng-pci,rng=entropy",
            ])
            .args(["-chardev", &socket("qmp"), "-mon", "chardev=qmp,mode=control"])
            .args(["-chardev", &socket("watch"), "-mon", "chardev=watch,mode=control"])
            .args(["-chardev", &socket("agent"), "-device", "virtio-serial-pci"])
            .args(["-device", &format!("virtserialport,chardev=agent,name={}", agent::PORT)]);
        for number in 0..self.consoles {
            let name = format!("console{number}");
            qemu = qemu.args(["-chardev", &socket(&name), "-serial", &format!("chardev:{name}")]);
        }
        if self.usb
            || self.screen
            || self.disks.iter().any(|disk| disk.is_present() && disk.is_usb())
        {
            qemu = qemu.args(["-device", "qemu-xhci,id=xhci"]);
        }
        if self.screen {
            qemu = qemu.args(["-device", "VGA", "-device", "usb-kbd,bus=xhci.0"]);
        }
        for number in 0..self.ports {
            let slot = number + 1;
            qemu = qemu.args([
                "-device",
                &format!("pcie-root-port,id=port{number},chassis={slot},slot={slot}"),
            ]);
        }
        for disk in self.attached()? {
            qemu = qemu.args([
                "-blockdev",
                &disk.node().to_string(),
                "-device",
                &disk.device(None).to_string(),
            ]);
        }
        if let Some(kernel) = &self.kernel {
            qemu = qemu.arg("-kernel").arg(&kernel.image).args(["-append", &kernel.command_line]);
            if let Some(initrd) = &kernel.initrd {
                qemu = qemu.arg("-initrd").arg(initrd);
            }
        }
        Ok(qemu)
    }
}
