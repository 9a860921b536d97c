//! Runs the rescue image in a machine.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use qemu::{Builder, Bus, Disk, Kernel, Machine};

/// A file of the built image, from `$LIFEBOAT_IMAGE` or else `target/lifeboat`.
///
/// # Errors
/// The image is not built.
pub fn image(name: &str) -> Result<PathBuf> {
    let directory = std::env::var_os("LIFEBOAT_IMAGE")
        .map_or_else(|| qemu::target_dir().join("lifeboat"), PathBuf::from);
    let path = directory.join(name);
    ensure!(path.exists(), "{} does not exist: run `make image`", path.display());
    Ok(path)
}

/// Kernel and initramfs of the image, as for a network boot, with additional parameters on the
/// kernel command line.
///
/// # Errors
/// The image is not built.
pub fn kernel(parameters: &str) -> Result<Kernel> {
    Ok(Kernel {
        image: image("netboot/vmlinuz")?,
        initrd: Some(image("netboot/initramfs")?),
        command_line: format!("console=ttyS0,115200 quiet {parameters}"),
    })
}

/// Serial number of the rescue stick's disk.
pub const STICK: &str = "stick";

/// Plugs a rescue stick into a machine: usb-storage on xHCI.
///
/// # Errors
/// The image is not built.
pub fn with_stick(builder: Builder) -> Result<Builder> {
    Ok(builder.disk(Disk::new(image("lifeboat.img")?).overlay().serial(STICK).bus(Bus::Usb)))
}

/// Selects the stick for the next boot, as a user does in the firmware's boot menu. The machine
/// must run a Debian and have the stick plugged in.
///
/// # Errors
/// The firmware has no entry for the stick.
pub fn boot_stick_next(vm: &Machine) -> Result<()> {
    vm.run(
        "n=$(efibootmgr | sed -n 's/^Boot\\(....\\).*USB.*/\\1/p' | head -1); test -n \"$n\" \
        && efibootmgr -q -n $n",
    )?;
    Ok(())
}
