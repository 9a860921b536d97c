//! Disks: their content, how they are attached, and their nodes in QEMU's block graph.

use crate::host::Tool;
use crate::{Error, Result, WriteLog, qcow2};
use serde_json::{Value, json};
use std::fs::File;
use std::path::{Path, PathBuf};

/// How a disk is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bus {
    /// virtio-blk: `/dev/vda`
    Virtio,
    /// An NVMe controller of its own: `/dev/nvme0n1`. Debian's cloud kernel has no driver for it on
    /// some releases.
    Nvme,
    /// The chipset's AHCI controller: `/dev/sda`. Debian's cloud kernel has no driver for it.
    Ahci,
    /// usb-storage on an xHCI controller, removable like a USB stick.
    Usb,
}

/// The format of an image file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The bytes of the disk, and nothing else.
    Raw,
    /// QEMU's own format.
    Qcow2,
}

impl Format {
    fn driver(self) -> &'static str {
        match self {
            Format::Raw => "raw",
            Format::Qcow2 => "qcow2",
        }
    }
}

/// The content of a disk.
#[derive(Clone, Debug)]
enum Content {
    File(PathBuf),
    Blank(u64),
    Directory(PathBuf),
}

/// A disk of a machine.
#[derive(Clone, Debug)]
pub struct Disk {
    content: Content,
    format: Format,
    overlay: bool,
    logged: bool,
    read_only: bool,
    serial: Option<String>,
    bus: Bus,
    boot_index: Option<u32>,
    present: bool,
}

impl Disk {
    /// A raw image file that the machine writes to.
    pub fn new(path: impl Into<PathBuf>) -> Disk {
        Disk::of(Content::File(path.into()))
    }

    /// An empty disk of so many bytes, which is removed with the machine.
    pub fn blank(bytes: u64) -> Disk {
        Disk::of(Content::Blank(bytes))
    }

    /// A read-only ext4 file system with a copy of a directory on the host.
    pub fn directory(path: impl Into<PathBuf>) -> Disk {
        Disk::of(Content::Directory(path.into())).read_only()
    }

    fn of(content: Content) -> Disk {
        Disk {
            content,
            format: Format::Raw,
            overlay: false,
            logged: false,
            read_only: false,
            serial: None,
            bus: Bus::Virtio,
            boot_index: None,
            present: true,
        }
    }

    /// Sets the format of the image file; raw by default.
    pub fn format(self, format: Format) -> Disk {
        Disk { format, ..self }
    }

    /// Makes the machine write to an overlay, which is removed with it, and not to the image file.
    /// For raw images.
    pub fn overlay(self) -> Disk {
        Disk { overlay: true, ..self }
    }

    /// Logs every write, for [`crate::Machine::power_cut`]. The machine writes to an overlay. For
    /// raw images and blank disks.
    pub fn logged(self) -> Disk {
        Disk { logged: true, ..self }
    }

    /// Makes the disk read-only for the guest.
    pub fn read_only(self) -> Disk {
        Disk { read_only: true, ..self }
    }

    /// Sets the serial number, at most 20 bytes; `diskN` by default.
    pub fn serial(self, serial: impl Into<String>) -> Disk {
        Disk { serial: Some(serial.into()), ..self }
    }

    /// Sets how the disk is attached; virtio by default.
    pub fn bus(self, bus: Bus) -> Disk {
        Disk { bus, ..self }
    }

    /// Makes the firmware boot from the disk. OVMF reorders `BootOrder` for that, so do not use it
    /// in a test of the order.
    pub fn boot_index(self, index: u32) -> Disk {
        Disk { boot_index: Some(index), ..self }
    }

    pub(crate) fn serial_or(&self, number: usize) -> String {
        self.serial.clone().unwrap_or_else(|| format!("disk{number}"))
    }

    /// Removes the disk, or inserts it again. The other disks keep their numbers, and so their
    /// images.
    pub(crate) fn set_present(&mut self, present: bool) {
        self.present = present;
    }

    pub(crate) fn is_present(&self) -> bool {
        self.present
    }

    pub(crate) fn is_usb(&self) -> bool {
        self.bus == Bus::Usb
    }

    /// Makes the files of the disk in `directory`, unless an earlier start of the machine made
    /// them.
    pub(crate) fn attach(&self, directory: &Path, number: usize) -> Result<AttachedDisk> {
        let base = match &self.content {
            Content::File(path) => absolute(path)?,
            Content::Blank(bytes) => blank(*bytes, directory, number)?,
            Content::Directory(from) => filled(from, directory, number)?,
        };
        let (path, format) = match self.overlay || self.logged {
            true if self.format == Format::Raw => {
                (overlay(&base, directory, number)?, Format::Qcow2)
            }
            true => {
                return Err(Error::Description(format!(
                    "{} is not a raw image, so it cannot have an overlay",
                    base.display()
                )));
            }
            false => (base.clone(), self.format),
        };
        let log = self.logged.then(|| directory.join(format!("disk{number}.log")));
        if let Some(log) = &log {
            let made = File::options().create(true).append(true).open(log);
            made.map_err(Error::io(|| format!("making {}", log.display())))?;
        }
        let serial = self.serial_or(number);
        if serial.len() > 20 {
            return Err(Error::Description(format!(
                "serial number {serial:?} is longer than 20 bytes"
            )));
        }
        Ok(AttachedDisk {
            disk: self.clone(),
            base,
            path,
            format,
            log,
            serial,
            id: format!("disk{number}"),
        })
    }

    /// Takes the disk back to its state after the first `count` writes of its log, or after the
    /// last flush. Its log begins again.
    pub(crate) fn cut(
        &mut self,
        directory: &Path,
        number: usize,
        count: Option<usize>,
    ) -> Result<()> {
        let attached = self.attach(directory, number)?;
        let Some(log) = &attached.log else {
            return Err(Error::Description(format!(
                "disk {} has no log: use Disk::logged",
                attached.serial
            )));
        };
        let writes = WriteLog::open(log)?;
        let part = tempfile::Builder::new()
            .prefix(&format!("disk{number}-"))
            .suffix(".raw")
            .tempfile_in(directory);
        let part = part.and_then(|file| file.into_temp_path().keep().map_err(|error| error.error));
        let rebuilt =
            part.map_err(Error::io(|| format!("making a file in {}", directory.display())))?;
        writes.rebuild(&attached.base, count.unwrap_or(writes.flushed()), &rebuilt)?;
        let old = attached.base.starts_with(directory).then_some(&attached.base);
        for path in [&attached.path, log].into_iter().chain(old) {
            std::fs::remove_file(path)
                .map_err(Error::io(|| format!("removing {}", path.display())))?;
        }
        self.content = Content::File(rebuilt);
        Ok(())
    }

    pub(crate) fn is_logged(&self) -> bool {
        self.logged
    }
}

/// A disk with its files and the id of its nodes in QEMU.
#[derive(Clone, Debug)]
pub(crate) struct AttachedDisk {
    disk: Disk,
    /// The backing file of an overlay; the same as `path` if there is none.
    base: PathBuf,
    pub(crate) path: PathBuf,
    format: Format,
    pub(crate) log: Option<PathBuf>,
    pub(crate) serial: String,
    pub(crate) id: String,
}

impl AttachedDisk {
    /// The block nodes, for `-blockdev` or `blockdev-add`. Flushes are logged, but not passed to
    /// the host, whose page cache outlives the guest.
    pub(crate) fn node(&self) -> Value {
        let cache = json!({ "direct": false, "no-flush": true });
        let mut image = json!({
            "driver": self.format.driver(), "read-only": self.disk.read_only,
            "discard": "unmap", "cache": cache,
            "file": { "driver": "file", "filename": self.path, "discard": "unmap", "cache": cache },
        });
        let Some(log) = &self.log else {
            image["node-name"] = json!(self.id);
            return image;
        };
        json!({
            "driver": "blklogwrites", "node-name": self.id, "discard": "unmap", "log-append": true,
            "cache": { "direct": false, "no-flush": false },
            "file": image, "log": { "driver": "file", "filename": log, "cache": cache },
        })
    }

    /// The device, for `-device` or `device_add`. `port` is the PCIe port of a hot-plugged device.
    pub(crate) fn device(&self, port: Option<&str>) -> Value {
        let (driver, bus) = match self.disk.bus {
            Bus::Virtio => ("virtio-blk-pci", port.map(str::to_owned)),
            Bus::Nvme => ("nvme", port.map(str::to_owned)),
            Bus::Ahci => ("ide-hd", None),
            Bus::Usb => ("usb-storage", Some("xhci.0".to_owned())),
        };
        let mut device = json!({
            "driver": driver, "id": format!("{}-device", self.id), "drive": self.id,
            "serial": self.serial,
        });
        if let Some(bus) = bus {
            device["bus"] = json!(bus);
        }
        if self.disk.bus == Bus::Usb {
            device["removable"] = json!(true);
        }
        if let Some(index) = self.disk.boot_index {
            device["bootindex"] = json!(index);
        }
        device
    }

    pub(crate) fn needs_port(&self) -> bool {
        matches!(self.disk.bus, Bus::Virtio | Bus::Nvme)
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    path.canonicalize().map_err(Error::io(|| format!("finding the disk image {}", path.display())))
}

fn overlay(backing: &Path, directory: &Path, number: usize) -> Result<PathBuf> {
    let path = directory.join(format!("disk{number}.qcow2"));
    if !path.exists() {
        let size = backing
            .metadata()
            .map_err(Error::io(|| format!("reading the size of {}", backing.display())))?
            .len();
        let image = qcow2::overlay(&backing.to_string_lossy(), size).ok_or_else(|| {
            Error::Description(format!(
                "{} is too large for an overlay, or its name is too long",
                backing.display()
            ))
        })?;
        std::fs::write(&path, image)
            .map_err(Error::io(|| format!("writing {}", path.display())))?;
    }
    Ok(path)
}

fn blank(bytes: u64, directory: &Path, number: usize) -> Result<PathBuf> {
    let path = directory.join(format!("disk{number}.raw"));
    if !path.exists() {
        File::create(&path)
            .and_then(|f| f.set_len(bytes))
            .map_err(Error::io(|| format!("making {}", path.display())))?;
    }
    Ok(path)
}

fn filled(from: &Path, directory: &Path, number: usize) -> Result<PathBuf> {
    let path = directory.join(format!("disk{number}.ext4"));
    if !path.exists() {
        let mebibytes = size_of_tree(from)
            .map_err(Error::io(|| format!("reading {}", from.display())))?
            .div_ceil(1 << 20);
        Tool::new("mke2fs")
            .args(["-q", "-t", "ext4", "-O", "^has_journal", "-d"])
            .arg(from)
            .arg(&path)
            .arg(format!("{}M", mebibytes + mebibytes / 8 + 16))
            .run()?;
    }
    Ok(path)
}

/// The total size of the files below a directory, each rounded up to blocks.
fn size_of_tree(directory: &Path) -> std::io::Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        sum += if meta.is_dir() {
            4096 + size_of_tree(&entry.path())?
        } else {
            meta.len().next_multiple_of(4096) + 256
        };
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bus_has_its_device() {
        let directory = tempfile::tempdir().unwrap();
        for (bus, driver, on) in [
            (Bus::Virtio, "virtio-blk-pci", None),
            (Bus::Nvme, "nvme", None),
            (Bus::Ahci, "ide-hd", None),
            (Bus::Usb, "usb-storage", Some("xhci.0")),
        ] {
            let disk =
                Disk::blank(1 << 20).bus(bus).serial("S1").attach(directory.path(), 3).unwrap();
            let device = disk.device(None);
            assert_eq!(device["driver"], driver);
            assert_eq!(device["serial"], "S1");
            assert_eq!(device.get("bus").and_then(Value::as_str), on);
            assert!(
                device.get("bootindex").is_none(),
                "the firmware's order is changed only on request"
            );
        }
    }

    #[test]
    fn an_overlay_is_kept_for_a_second_start() {
        let directory = tempfile::tempdir().unwrap();
        let base = directory.path().join("base");
        File::create(&base).unwrap().set_len(1 << 30).unwrap();
        let disk = Disk::new(&base).overlay();
        let first = disk.attach(directory.path(), 0).unwrap();
        std::fs::write(&first.path, b"written by a guest").unwrap();
        let second = disk.attach(directory.path(), 0).unwrap();
        assert_eq!(std::fs::read(second.path).unwrap(), b"written by a guest");
        assert_eq!(second.format, Format::Qcow2);
    }

    #[test]
    fn a_directory_becomes_a_valid_file_system() {
        let directory = tempfile::tempdir().unwrap();
        let from = directory.path().join("from");
        std::fs::create_dir_all(from.join("sub")).unwrap();
        std::fs::write(from.join("sub/file"), vec![7; 3 << 20]).unwrap();
        let disk = Disk::directory(&from).attach(directory.path(), 1).unwrap();
        Tool::new("e2fsck").args(["-fn"]).arg(&disk.path).run().unwrap();
    }

    #[test]
    fn a_missing_image_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let error = Disk::new("/no/such.img").attach(directory.path(), 0).unwrap_err();
        assert!(error.to_string().contains("/no/such.img"), "{error}");
    }
}
