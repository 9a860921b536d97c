//! The rescue image in a machine.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use qemu::{Builder, Bus, Disk, Kernel, Machine};

/// A file of the image as built: below `$LIFEBOAT_IMAGE`, or `target/lifeboat`.
///
/// # Errors
/// It is not built.
pub fn image(name: &str) -> Result<PathBuf> {
    let directory = std::env::var_os("LIFEBOAT_IMAGE")
        .map_or_else(|| qemu::target_dir().join("lifeboat"), PathBuf::from);
    let path = directory.join(name);
    ensure!(path.exists(), "{} is not there: run `make image`", path.display());
    Ok(path)
}

/// The image as it is started over the network, with these words for it on the kernel's command
/// line.
///
/// # Errors
/// It is not built.
pub fn kernel(words: &str) -> Result<Kernel> {
    Ok(Kernel {
        image: image("netboot/vmlinuz")?,
        initrd: Some(image("netboot/initramfs")?),
        command_line: format!("console=ttyS0,115200 quiet {words}"),
    })
}

/// Serial number of the rescue stick.
pub const STICK: &str = "stick";

/// Puts a rescue stick into a machine: usb-storage on xHCI.
///
/// # Errors
/// The image is not built.
pub fn with_stick(builder: Builder) -> Result<Builder> {
    Ok(builder.disk(Disk::new(image("lifeboat.img")?).overlay().serial(STICK).bus(Bus::Usb)))
}

/// Chooses the stick for the next start, as one does in the firmware's boot menu. The machine runs
/// a Debian and has the stick plugged in.
///
/// # Errors
/// The firmware has no entry for it.
pub fn choose_stick(vm: &Machine) -> Result<()> {
    vm.run(
        "n=$(efibootmgr | sed -n 's/^Boot\\(....\\).*USB.*/\\1/p' | head -1); test -n \"$n\" \
        && efibootmgr -q -n $n",
    )?;
    Ok(())
}
