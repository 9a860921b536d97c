//! The firmware that started this machine, which decides what the menu can offer.

use std::fs;
use std::path::Path;

/// A kind of firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// A BIOS, or UEFI that imitates one. It has no boot entries.
    Bios,
    /// UEFI.
    Uefi,
    /// UEFI that starts only signed programs.
    SecureBoot,
}

impl Firmware {
    /// The firmware of the machine whose `/sys` this is.
    pub fn read(sys: &Path) -> Self {
        // UEFI specification, section 3.3, "Globally Defined Variables". In efivarfs, four bytes of
        // attributes come before the value.
        const SECURE_BOOT: &str = "efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
        let efi = sys.join("firmware/efi");
        if !efi.exists() {
            return Firmware::Bios;
        }
        match fs::read(efi.join(SECURE_BOOT)).as_deref() {
            Ok([_, _, _, _, 1]) => Firmware::SecureBoot,
            _ => Firmware::Uefi,
        }
    }

    /// Whether it has boot entries, which a BE can be activated by.
    pub fn has_boot_entries(self) -> bool {
        self != Firmware::Bios
    }

    /// Its name in the title of the menu.
    pub fn name(self) -> &'static str {
        match self {
            Firmware::Bios => "BIOS",
            Firmware::Uefi => "UEFI",
            Firmware::SecureBoot => "UEFI, Secure Boot",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_firmware_is_recognised_by_its_variables() {
        let sys = tempfile::tempdir().unwrap();
        assert_eq!(Firmware::read(sys.path()), Firmware::Bios);
        let variables = sys.path().join("firmware/efi/efivars");
        fs::create_dir_all(&variables).unwrap();
        assert_eq!(Firmware::read(sys.path()), Firmware::Uefi);
        let variable = variables.join("SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c");
        for (value, expected) in [(0, Firmware::Uefi), (1, Firmware::SecureBoot)] {
            fs::write(&variable, [6, 0, 0, 0, value]).unwrap();
            assert_eq!(Firmware::read(sys.path()), expected);
        }
    }
}
