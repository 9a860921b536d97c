//! Firmware: OVMF with a variable store for each machine, with or without Secure Boot, or SeaBIOS.

use crate::{Error, Result};
use std::path::{Path, PathBuf};

const PACKAGE: &str = "ovmf";
const DIRECTORY: &str = "/usr/share/OVMF";

/// The firmware of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// UEFI without Secure Boot.
    Ovmf,
    /// UEFI that enforces Secure Boot with Microsoft's keys. SMM protects its variables.
    OvmfSecureBoot,
    /// A BIOS.
    SeaBios,
}

impl Firmware {
    /// The firmware's code and the template of its variable store; `None` for SeaBIOS, which is
    /// part of QEMU.
    pub(crate) fn files(self) -> Result<Option<(PathBuf, PathBuf)>> {
        let (code, variables) = match self {
            Firmware::Ovmf => ("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"),
            Firmware::OvmfSecureBoot => ("OVMF_CODE_4M.ms.fd", "OVMF_VARS_4M.ms.fd"),
            Firmware::SeaBios => return Ok(None),
        };
        Ok(Some((installed(code)?, installed(variables)?)))
    }

    /// QEMU's arguments. `store` is the machine's variable store, which it writes to.
    pub(crate) fn arguments(self, store: Option<&Path>) -> Result<Vec<String>> {
        let machine = match self {
            Firmware::OvmfSecureBoot => "q35,smm=on",
            Firmware::Ovmf | Firmware::SeaBios => "q35",
        };
        let mut arguments = vec!["-machine".to_owned(), machine.to_owned()];
        if let (Some((code, _)), Some(store)) = (self.files()?, store) {
            for (unit, file, read_only) in [(0, code.as_path(), "on"), (1, store, "off")] {
                arguments.push("-drive".to_owned());
                arguments.push(format!(
                    "if=pflash,unit={unit},format=raw,readonly={read_only},file={}",
                    escape(file)
                ));
            }
        }
        if self == Firmware::OvmfSecureBoot {
            arguments.extend(
                ["-global", "driver=cfi.pflash01,property=secure,value=on"].map(str::to_owned),
            );
        }
        Ok(arguments)
    }
}

/// Doubles the commas in a path. QEMU's option parser ends a value at a single comma.
pub(crate) fn escape(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

fn installed(name: &str) -> Result<PathBuf> {
    let path = Path::new(DIRECTORY).join(name);
    if path.exists() { Ok(path) } else { Err(Error::MissingFile { path, package: PACKAGE }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secure_boot_protects_its_variables_with_smm() {
        let arguments =
            Firmware::OvmfSecureBoot.arguments(Some(Path::new("/x/a,b"))).unwrap().join(" ");
        assert!(
            arguments.contains("q35,smm=on") && arguments.contains("property=secure,value=on"),
            "{arguments}"
        );
        assert!(arguments.contains("readonly=off,file=/x/a,,b"), "{arguments}");
    }

    #[test]
    fn a_bios_has_no_variable_store() {
        assert_eq!(Firmware::SeaBios.arguments(None).unwrap(), ["-machine", "q35"]);
    }
}
