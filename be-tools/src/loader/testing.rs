//! A firmware and an ESP in temporary directories.

use boot::efi::{BootEntries, DevicePath, LoadOption, Position, Variable, VariableName, Variables};
use tempfile::TempDir;
use uuid::Uuid;

use crate::environment::{BootEnvironment, OperatingSystem, Root};
use crate::host::Host;

/// PARTUUID of the ESP.
pub(crate) const PARTUUID: Uuid = Uuid::from_u128(0x11aa_22bb);

/// EFI variables in a directory.
pub(crate) struct Firmware {
    directory: TempDir,
}

impl Firmware {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("sys/firmware/efi/efivars")).unwrap();
        for name in ["run", "dev", "proc"] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
        }
        let firmware = Firmware { directory };
        firmware.set("SecureBoot", vec![0]);
        firmware
    }

    /// A machine that has these variables and nothing else.
    pub(crate) fn host(&self) -> Host {
        let at = |name: &str| self.directory.path().join(name);
        Host { sys: at("sys"), dev: at("dev"), proc: at("proc"), run: at("run") }
    }

    pub(crate) fn entries(&self) -> BootEntries {
        BootEntries::new(self.variables())
    }

    fn variables(&self) -> Variables {
        Variables::new(self.directory.path().join("sys/firmware/efi/efivars"))
    }

    /// Sets one of the specification's own variables.
    pub(crate) fn set(&self, name: &str, data: Vec<u8>) {
        self.variables().write(&VariableName::global(name), &Variable::boot(data)).unwrap();
    }

    pub(crate) fn option(description: &str, file: &str) -> LoadOption {
        LoadOption::new(description, DevicePath::hard_drive_file(1, 2048, 131_072, PARTUUID, file))
    }

    /// Appends an entry to the order.
    pub(crate) fn add(&self, description: &str, file: &str) -> u16 {
        self.entries().add(&Self::option(description, file), Position::Last).unwrap()
    }
}

/// An unmanaged Debian 12 on a partition of its own.
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
