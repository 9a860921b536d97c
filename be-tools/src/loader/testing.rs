//! A simulated machine for tests: firmware variables and an ESP in a temporary directory.

mod memory;

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

/// The device number of the ESP, which no real device has.
const NUMBER: DeviceNumber = DeviceNumber { major: 250_000, minor: 7 };

/// A directory of EFI variables, and a directory that is mounted as the ESP.
pub(crate) struct Firmware {
    directory: TempDir,
}

impl Firmware {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("sys/firmware/efi/efivars")).unwrap();
        for name in ["run", "dev", "proc/thread-self", "esp"] {
            std::fs::create_dir_all(directory.path().join(name)).unwrap();
        }
        let firmware = Firmware { directory };
        let DeviceNumber { major, minor } = NUMBER;
        let table = format!(
            "1 0 {major}:{minor} / {} rw - vfat /dev/lifeboat-esp1 rw\n",
            firmware.esp().root().display()
        );
        let mountinfo = firmware.host().proc.join("thread-self/mountinfo");
        std::fs::write(mountinfo, table).unwrap();
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
        let mut esp = BlockDevice::example("lifeboat-esp1", SuperBlock::new(Kind::Vfat));
        esp.number = NUMBER;
        esp.partition = Some(PartitionInfo {
            number: 1,
            start_lba: 2048,
            size_lba: 131_072,
            logical_block_size: 512,
            kind: Some(PartitionType::Guid(ESP_TYPE)),
            part_uuid: PARTUUID.to_string(),
            name: String::new(),
        });
        [esp].into_iter().collect()
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
