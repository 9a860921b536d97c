//! A simulated machine for tests: firmware variables and an ESP in a temporary directory.

mod memory;

use std::path::Path;

use boot::efi::{BootEntries, DevicePath, LoadOption, Position, Variable, VariableName, Variables};
use boot::esp::Esp;
use boot::grubenv::EnvironmentBlock;
use tempfile::TempDir;
use uuid::Uuid;

use super::trial_record;
use crate::environment::{BootEnvironment, Descriptor, Id, OperatingSystem, Root, State};
use crate::host::Host;
use crate::storage::device::{BlockDevice, Devices};
use crate::storage::device_number::DeviceNumber;
use crate::storage::partitions::{ESP_TYPE, PartitionInfo, PartitionType};
use crate::storage::probe::{Kind, SuperBlock};

/// The PARTUUID of the ESP.
pub(crate) const PARTUUID: Uuid = Uuid::from_u128(0x11aa_22bb);

/// The device numbers of the ESP, of a copy of it, and of the root file system, which no real device
/// has.
const NUMBER: DeviceNumber = DeviceNumber { major: 250_000, minor: 7 };
const COPY_NUMBER: DeviceNumber = DeviceNumber { major: 250_000, minor: 8 };
const ROOT_NUMBER: DeviceNumber = DeviceNumber { major: 250_000, minor: 9 };

/// A directory of EFI variables, and a directory that is mounted as the ESP.
pub(crate) struct Firmware {
    directory: TempDir,
}

impl Firmware {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("sys/firmware/efi/efivars")).unwrap();
        for name in ["run", "dev", "proc/thread-self", "esp", "copy"] {
            std::fs::create_dir_all(directory.path().join(name)).unwrap();
        }
        let firmware = Firmware { directory };
        firmware.mount(NUMBER, "lifeboat-esp1", firmware.esp().root());
        firmware.set("SecureBoot", vec![0]);
        firmware
    }

    /// A machine with these variables and nothing else.
    pub(crate) fn host(&self) -> Host {
        Host::below(self.directory.path())
    }

    pub(crate) fn entries(&self) -> BootEntries {
        BootEntries::new(self.variables())
    }

    /// The ESP.
    pub(crate) fn esp(&self) -> Esp {
        Esp::new(self.directory.path().join("esp"))
    }

    /// The device of the ESP alone.
    pub(crate) fn devices(&self) -> Devices {
        [Self::esp_device("lifeboat-esp1", NUMBER)].into_iter().collect()
    }

    /// Attaches a copy of the disk of the ESP, with the files and the identity that the ESP has now.
    /// Each disk has a root file system too.
    pub(crate) fn attach_copy(&self) -> Devices {
        let copy = self.copy_of_esp();
        crate::tool::Tool::new("cp")
            .arg("-rT")
            .args([self.esp().root(), copy.root()])
            .run()
            .unwrap();
        self.mount(COPY_NUMBER, "lifeboat-copy1", copy.root());
        let root = SuperBlock { uuid: "aaaa-02".into(), ..SuperBlock::new(Kind::Ext4) };
        let whole = |name: &str| BlockDevice::example(name, SuperBlock::new(Kind::Gpt));
        let mut own_root = BlockDevice::example("lifeboat-esp2", root.clone());
        own_root.number = ROOT_NUMBER;
        let devices = [
            whole("lifeboat-copy"),
            Self::esp_device("lifeboat-copy1", COPY_NUMBER),
            BlockDevice::example("lifeboat-copy2", root),
            whole("lifeboat-esp"),
            Self::esp_device("lifeboat-esp1", NUMBER),
            own_root,
        ];
        devices.into_iter().collect()
    }

    /// The ESP on the copy of the disk.
    pub(crate) fn copy_of_esp(&self) -> Esp {
        Esp::new(self.directory.path().join("copy"))
    }

    /// Mounts the root file system on the disk of the ESP.
    pub(crate) fn mount_root(&self) {
        self.mount(ROOT_NUMBER, "lifeboat-esp2", self.directory.path());
    }

    /// Mounts the ESP where systems mount it.
    pub(crate) fn mount_esp(&self) {
        self.mount(NUMBER, "lifeboat-esp1", &self.directory.path().join("boot/efi"));
    }

    /// Mounts the ESP of the copy there instead, as an fstab does that names its UUID.
    pub(crate) fn mount_copy_of_esp(&self) {
        self.mount(COPY_NUMBER, "lifeboat-copy1", &self.directory.path().join("boot/efi"));
    }

    /// Adds a line to the mount table.
    fn mount(&self, number: DeviceNumber, name: &str, at: &Path) {
        let mountinfo = self.host().proc.join("thread-self/mountinfo");
        let before = std::fs::read_to_string(&mountinfo).unwrap_or_default();
        let DeviceNumber { major, minor } = number;
        let at = at.display();
        let table = format!("{before}1 0 {major}:{minor} / {at} rw - vfat /dev/{name} rw\n");
        std::fs::write(mountinfo, table).unwrap();
    }

    fn esp_device(name: &str, number: DeviceNumber) -> BlockDevice {
        let mut esp = BlockDevice::example(name, SuperBlock::new(Kind::Vfat));
        esp.number = number;
        esp.partition = Some(PartitionInfo {
            number: 1,
            start_lba: 2048,
            size_lba: 131_072,
            logical_block_size: 512,
            kind: Some(PartitionType::Guid(ESP_TYPE)),
            part_uuid: PARTUUID.to_string(),
            name: String::new(),
        });
        esp
    }

    /// Makes the trial record of a BE that was never tried.
    pub(crate) fn make_record(&self, id: Id) {
        let path = Esp::directory_of(&id.short()).join(trial_record::FILE);
        self.esp().write_new(&path, &EnvironmentBlock::new().to_bytes().unwrap()).unwrap();
    }

    fn variables(&self) -> Variables {
        Variables::new(self.directory.path().join("sys/firmware/efi/efivars"))
    }

    /// Sets a variable that the UEFI specification defines.
    pub(crate) fn set(&self, name: &str, data: Vec<u8>) {
        self.variables().write(&VariableName::global(name), &Variable::boot(data)).unwrap();
    }

    pub(crate) fn option(description: &str, file: &str) -> LoadOption {
        LoadOption::new(description, DevicePath::hard_drive_file(1, 2048, 131_072, PARTUUID, file))
    }

    /// Adds an entry at the end of the order.
    pub(crate) fn add(&self, description: &str, file: &str) -> u16 {
        self.entries().add(&Self::option(description, file), Position::Last).unwrap()
    }
}

impl BootEnvironment {
    /// Makes it a complete BE, whose name is its reference.
    pub(crate) fn complete(mut self) -> Self {
        let mut descriptor = Descriptor::new(self.reference.parse().unwrap(), None);
        (descriptor.state, descriptor.operation) = (State::Complete, None);
        self.descriptor = Some(descriptor);
        self
    }
}

/// An unmanaged Debian 12 on its own partition.
pub(crate) fn environment(reference: &str, uuid: &str) -> BootEnvironment {
    BootEnvironment {
        reference: reference.into(),
        descriptor: None,
        os: OperatingSystem {
            id: "debian".into(),
            version_id: "12".into(),
            pretty_name: "Debian".into(),
        },
        kernel: None,
        root: Root {
            device: format!("/dev/{reference}").into(),
            fs_type: "ext4".into(),
            uuid: uuid.into(),
            subvolume: None,
            disk: "/dev/vda".into(),
        },
        read_only: false,
        file_systems: Vec::new(),
        made: Vec::new(),
        running: false,
        next_boot: false,
        boot_entry: None,
        trial: None,
        used: None,
        problems: Vec::new(),
        mounted_at: Vec::new(),
    }
}
