//! A running machine.

use crate::accel::{AcceleratorChoice, ChosenAccelerator};
use crate::host::deadline;
use crate::lock::MachineLock;
use crate::process::Process;
use crate::{Builder, Console, Disk, Error, Result};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

/// A running machine. It ends when it is dropped, or when the thread that started it ends. If it
/// was started again under TCG ([`Builder::start`]), it ends when it is dropped or when this
/// process ends.
pub struct Machine {
    pub(crate) process: Process,
    pub(crate) builder: Builder,
}

impl Machine {
    pub(crate) fn start(builder: Builder) -> Result<Machine> {
        let lock = MachineLock::acquire()?;
        let chosen = AcceleratorChoice::of_this_run().choose(builder.chosen_firmware())?;
        Machine::start_under(builder, chosen, Some(lock), deadline(60))
    }

    /// Starts the machine. Its QEMU must start within `limit`.
    pub(crate) fn start_under(
        builder: Builder,
        chosen: ChosenAccelerator,
        lock: Option<MachineLock>,
        limit: Duration,
    ) -> Result<Machine> {
        Ok(Machine { process: Process::start(&builder, chosen, lock, limit)?, builder })
    }

    /// The name in messages and logs.
    pub fn name(&self) -> &str {
        &self.builder.name
    }

    /// The first serial console.
    pub fn console(&self) -> &Console {
        &self.process.consoles[0]
    }

    /// A serial console by its number, from 0.
    pub fn console_number(&self, number: usize) -> &Console {
        &self.process.consoles[number]
    }

    /// Presses the reset button.
    ///
    /// # Errors
    /// QEMU refused.
    pub fn reset(&self) -> Result<()> {
        self.qmp("system_reset", json!({})).map(drop)
    }

    /// Presses the power button, which sends the guest an ACPI event.
    ///
    /// # Errors
    /// QEMU refused.
    pub fn power_button(&self) -> Result<()> {
        self.qmp("system_powerdown", json!({})).map(drop)
    }

    /// Writes a screenshot to a PNG file. Needs [`Builder::screen`].
    ///
    /// # Errors
    /// The machine has no screen.
    pub fn screenshot(&self, path: &Path) -> Result<()> {
        let path = std::path::absolute(path)
            .map_err(Error::io(|| format!("finding {}", path.display())))?;
        self.qmp("screendump", json!({ "filename": path, "format": "png" })).map(drop)
    }

    /// Presses keys together on the USB keyboard, by QEMU's names (`ret`, `down`, `f12`, `ctrl`).
    /// Needs [`Builder::screen`].
    ///
    /// # Errors
    /// QEMU does not know a key.
    pub fn press(&self, keys: &[&str]) -> Result<()> {
        let keys: Vec<Value> =
            keys.iter().map(|key| json!({ "type": "qcode", "data": key })).collect();
        self.qmp("send-key", json!({ "keys": keys })).map(drop)
    }

    /// Plugs a disk in. A virtio or NVMe disk needs a free port ([`Builder::hot_plug_ports`]), a
    /// USB disk needs [`Builder::usb`]. The disk is removed when the machine is stopped.
    ///
    /// # Errors
    /// There is no free port, or QEMU refused.
    pub fn plug(&self, disk: Disk) -> Result<()> {
        let mut plugged = self.process.plugged.borrow_mut();
        let disk =
            disk.attach(self.process.sockets(), self.builder.disk_count() + plugged.len())?;
        let port = format!("port{}", plugged.len());
        let port = disk.needs_port().then_some(port.as_str());
        if port.is_some() && plugged.len() >= self.builder.ports() {
            return Err(Error::Description(format!(
                "machine {} has no free port: use Builder::hot_plug_ports",
                self.builder.name
            )));
        }
        self.qmp("blockdev-add", disk.node())?;
        self.qmp("device_add", disk.device(port))?;
        plugged.push(disk);
        Ok(())
    }

    /// Removes a disk that was plugged in, by its serial number. On PCIe the guest is notified five
    /// seconds before, but cannot prevent it.
    ///
    /// # Errors
    /// There is no such disk, or QEMU refused.
    pub fn pull(&self, serial: &str) -> Result<()> {
        let plugged = self.process.plugged.borrow();
        let Some(disk) = plugged.iter().find(|disk| disk.serial == serial) else {
            return Err(Error::Description(format!(
                "no disk {serial} was plugged into {}",
                self.builder.name
            )));
        };
        self.qmp("device_del", json!({ "id": disk.device(None)["id"] })).map(drop)
    }

    /// Runs a command of QEMU's monitor.
    ///
    /// # Errors
    /// QEMU refused.
    pub fn qmp(&self, command: &str, arguments: Value) -> Result<Value> {
        self.process.status.mark_used();
        self.process.running().monitor.execute(command, arguments)
    }

    /// Waits until the guest has switched the machine off.
    ///
    /// # Errors
    /// The machine is still on after `limit`.
    pub fn off(&self, limit: Duration) -> Result<()> {
        let start = Instant::now();
        while !self.has_ended() {
            if let Some(error) = self.process.status.error(|| self.console().tail()) {
                return Err(error);
            }
            if start.elapsed() > limit {
                return Err(Error::Deadline {
                    machine: self.builder.name.clone(),
                    what: "the power-off".to_owned(),
                    limit,
                    tail: self.console().tail(),
                });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Stops the machine at once. Everything that the guest wrote to its disks is kept. The
    /// returned description can start the same machine again, or one with other disks.
    pub fn stop(self) -> Builder {
        self.builder
    }

    /// Cuts the power now. Every logged disk ([`Disk::logged`]) loses what the guest had not
    /// flushed.
    ///
    /// # Errors
    /// A disk cannot be rebuilt, or QEMU cannot be killed.
    pub fn power_cut(self) -> Result<Builder> {
        // Killed, because an orderly end of QEMU flushes the disks.
        self.process.kill();
        self.off(deadline(60))?;
        let builder = self.builder;
        drop(self.process);
        builder.forget_unflushed()
    }

    /// The number of writes, flushes and discards so far on the disk with this serial number, for
    /// [`Builder::rewind`].
    ///
    /// # Errors
    /// The disk has no log.
    pub fn writes(&self, serial: &str) -> Result<usize> {
        Ok(self.builder.write_log(serial)?.len())
    }

    /// The registers of each processor, read twice within a second, which tell a guest that hangs
    /// from a slow one.
    pub(crate) fn processors(&self) -> String {
        let read_registers = || {
            let registers =
                self.qmp("human-monitor-command", json!({ "command-line": "info registers -a" }));
            let text =
                registers.ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default();
            let telling =
                |line: &&str| ["CPU#", "RIP=", "EIP=", "CR0="].iter().any(|p| line.starts_with(p));
            text.lines().filter(telling).collect::<Vec<_>>().join("\n")
        };
        let first = read_registers();
        std::thread::sleep(Duration::from_secs(1));
        format!("Its processors:\n{first}\nand a second later:\n{}", read_registers())
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.process.has_ended()
    }
}
