//! The kinds of hardware and file systems that the rescue image supports.

/// A kind of hardware or file system, and the kernel modules that support it.
#[derive(Debug)]
pub struct Family {
    /// Its name in messages.
    pub name: &'static str,
    /// Modules that the kernel must have, as modules or built in.
    pub required: &'static [&'static str],
    /// Modules that are included if the kernel has them.
    pub optional: &'static [&'static str],
}

const fn family(
    name: &'static str,
    required: &'static [&'static str],
    optional: &'static [&'static str],
) -> Family {
    Family { name, required, optional }
}

/// All families that the rescue image supports.
pub const FAMILIES: &[Family] = &[
    family(
        "virtio",
        &["virtio_pci", "virtio_blk", "virtio_scsi"],
        &["virtio_mmio", "virtio_console", "virtio_rng"],
    ),
    family("NVMe", &["nvme"], &["vmd"]),
    family("AHCI", &["ahci"], &["ata_piix", "ata_generic", "pata_acpi"]),
    family(
        "SCSI disks",
        &["sd_mod", "sr_mod"],
        &["sg", "mptspi", "mptsas", "mpt3sas", "megaraid_sas", "aacraid", "hpsa"],
    ),
    family(
        "USB storage",
        &["xhci_pci", "ehci_pci", "usb_storage"],
        &["uas", "ohci_pci", "uhci_hcd"],
    ),
    family("USB keyboards", &["usbhid", "hid_generic"], &["hid_apple", "hid_logitech_dj"]),
    family("PS/2 keyboards", &["i8042", "atkbd"], &[]),
    family("SD cards", &[], &["mmc_block", "sdhci_pci", "sdhci_acpi"]),
    family(
        "disks of other hypervisors",
        &[],
        &["hv_vmbus", "hv_storvsc", "hid_hyperv", "hyperv_keyboard", "vmw_pvscsi", "xen_blkfront"],
    ),
    family("ext4", &["ext4"], &["crc32c_generic", "crc32c_intel"]),
    family("XFS", &["xfs"], &["libcrc32c"]),
    family(
        "btrfs",
        &["btrfs"],
        &["xxhash_generic", "blake2b_generic", "sha256_generic", "raid6_pq", "xor"],
    ),
    family("FAT", &["vfat"], &["nls_cp437", "nls_ascii", "nls_iso8859_1", "nls_utf8"]),
    family("squashfs", &["squashfs"], &[]),
    family("overlay", &["overlay"], &[]),
    family("ISO 9660", &[], &["isofs"]),
    family("loop devices", &["loop"], &[]),
    family("EFI variables", &["efivarfs"], &[]),
    family("frame buffer console", &["fb"], &["simpledrm"]),
    // iTCO_wdt is a part of the chips that lpc_ich and i2c_i801 drive.
    family(
        "watchdogs",
        &[],
        &[
            "softdog",
            "iTCO_wdt",
            "lpc_ich",
            "i2c_i801",
            "sp5100_tco",
            "wdat_wdt",
            "hpwdt",
            "i6300esb",
        ],
    ),
];
