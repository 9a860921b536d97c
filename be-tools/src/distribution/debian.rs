//! What keeps Debian's loader packages in a copy away from the vendor's directory on the ESP and
//! from the firmware's order of entries.
//!
//! - grub-efi-amd64.postinst runs grub-install if `/boot/efi/EFI/$bootloader_id` exists (bookworm),
//!   or if
//!   `/boot/grub/x86_64-efi/core.efi` exists (trixie);
//! - shim-signed and shim-helpers run it if `/boot/efi/EFI/$bootloader_id` exists (both), and their
//!   postrm removes
//!   files from that directory.
//!
//! `$bootloader_id` is the first word of `GRUB_DISTRIBUTOR`, which the settings make the BE's own.

use crate::error::Result;
use crate::root_dir::RootDir;
use crate::sandbox::programs::Programs;

/// What grub-install leaves behind, and takes as the sign to install again.
const CORE_IMAGES: [&str; 2] = ["boot/grub/x86_64-efi/core.efi", "boot/grub/i386-efi/core.efi"];

/// For a grub-install that runs in spite of all.
const ANSWERS: [&str; 2] = [
    "grub-efi-amd64 grub2/update_nvram boolean false",
    "grub-efi-amd64 grub2/force_efi_extra_removable boolean false",
];

/// grub-pc.postinst writes the boot sectors named here.
const BIOS_ANSWERS: [&str; 2] = [
    "grub-pc grub-pc/install_devices multiselect",
    "grub-pc grub-pc/install_devices_empty boolean true",
];

pub fn keep_off_the_esp(root: &RootDir, inside: &dyn Programs) -> Result<Vec<String>> {
    let mut done = Vec::new();
    for path in CORE_IMAGES.iter().filter(|path| root.exists(path)) {
        root.remove(path)?;
        done.push(format!("/{path} removed: grub-install is not run again when the package is"));
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
