//! Keeps Debian's loader packages in a copy from changing the vendor's directory on the ESP and
//! the firmware's order of entries.
//!
//! - grub-efi-amd64.postinst runs grub-install if `/boot/efi/EFI/$bootloader_id` exists (bookworm),
//!   or if `/boot/grub/x86_64-efi/core.efi` exists (trixie).
//! - shim-signed and shim-helpers run it if `/boot/efi/EFI/$bootloader_id` exists (both releases),
//!   and their postrm removes files from that directory.
//!
//! `$bootloader_id` is the first word of `GRUB_DISTRIBUTOR`, to which the settings give a value
//! that is unique to the BE.

pub mod apt;
pub(crate) mod release;

use crate::error::Result;
use crate::root_dir::RootDir;
use crate::sandbox::programs::Programs;

/// Images that grub-install creates. If one exists, grub-efi-amd64.postinst runs grub-install
/// again.
const CORE_IMAGES: [&str; 2] = ["boot/grub/x86_64-efi/core.efi", "boot/grub/i386-efi/core.efi"];

/// Answers to debconf, in case grub-install is run all the same.
const ANSWERS: [&str; 2] = [
    "grub-efi-amd64 grub2/update_nvram boolean false",
    "grub-efi-amd64 grub2/force_efi_extra_removable boolean false",
];

/// Answers to debconf that keep grub-pc.postinst from writing any boot sector.
const BIOS_ANSWERS: [&str; 2] = [
    "grub-pc grub-pc/install_devices multiselect",
    "grub-pc grub-pc/install_devices_empty boolean true",
];

/// Makes the loader packages of the copy leave the ESP alone. Returns what was done.
pub fn keep_off_the_esp(root: &RootDir, inside: &dyn Programs) -> Result<Vec<String>> {
    let mut done = Vec::new();
    for path in CORE_IMAGES.iter().filter(|path| root.exists(path)) {
        root.remove(path)?;
        done.push(format!("/{path} removed: upgrades of the package will not run grub-install"));
    }
    if root.exists("usr/bin/debconf-set-selections") {
        let bios = root.exists("var/lib/dpkg/info/grub-pc.postinst");
        let answers: Vec<&str> =
            ANSWERS.into_iter().chain(BIOS_ANSWERS.into_iter().filter(|_| bios)).collect();
        let script = format!("printf '%s\\n' '{}' | debconf-set-selections", answers.join("' '"));
        inside.run(&["sh", "-c", &script])?;
        done.push(
            "debconf: grub2/update_nvram and grub2/force_efi_extra_removable are false".into(),
        );
    }
    Ok(done)
}
