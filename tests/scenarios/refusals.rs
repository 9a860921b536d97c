//! Refusals: one message with the reason and a remedy, the exit status, and nothing is written.

use std::io::Write;
use std::os::unix::fs::FileExt;
use std::process::Command;

use anyhow::{Result, ensure};
use qemu::{Firmware, Machine, Release, deadline};
use tests::prepared::{FIRST, SECOND, TwoEnvironments};
use tests::table::Scenario;
use tests::{BeCommands, scenario};

use super::running::{mark_time, written_files};

pub const SCENARIOS: &[Scenario] = &[
    scenario!(harmful_commands_are_refused_and_nothing_is_written),
    scenario!(create_and_activate_are_refused_under_secure_boot),
];

fn harmful_commands_are_refused_and_nothing_is_written(release: Release) -> Result<()> {
    let vm = TwoEnvironments::on(release)?.machine()?.start()?;
    vm.ready()?;
    vm.run("mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0 /dev/vda4")?;
    mark_time(&vm)?;
    let devices = "vda vda3 vda4";
    let before = state(&vm, devices)?;

    refused(
        &vm,
        "create third -m /:/dev/vda:ext4 --yes",
        3,
        &["/dev/vda", "partition table", "/dev/vda4"],
    )?;
    refused(
        &vm,
        "create third -m /:/dev/vda3:ext4 --yes --force",
        3,
        &["/dev/vda3", SECOND, "--replace"],
    )?;
    refused(
        &vm,
        "create third -m /:/dev/vda2:ext4 --yes --force",
        3,
        &["/dev/vda2", "is mounted"],
    )?;
    refused(&vm, "create third -m /:/dev/vda5:ext4 --yes --force", 3, &["/dev/vda5", "swap"])?;
    refused(&vm, "create third -m /:/dev/vda4:ext4 --yes", 3, &["/dev/vda4", "ext4", "--force"])?;
    refused(
        &vm,
        "create third -m /:/dev/vda4:ext4 --yes --force",
        3,
        &["/dev/vda4", "too small", "needs"],
    )?;
    refused(&vm, "create third -m /:/dev/nosuch:ext4 --yes", 2, &["/dev/nosuch"])?;
    refused(&vm, "create third --yes", 2, &["-m /:"])?;
    refused(
        &vm,
        &format!("create {} -m /:/dev/vda4:ext4 --force --yes", SECOND.to_uppercase()),
        3,
        &["exists", "/dev/vda3"],
    )?;
    refused(&vm, "create 'a b' -m /:/dev/vda4:ext4 --yes", 2, &["a b"])?;
    refused(
        &vm,
        &format!("create third --replace {FIRST} --from {SECOND} --yes"),
        3,
        &[FIRST, "running"],
    )?;
    refused(&vm, &format!("delete {FIRST} --yes"), 3, &[FIRST, "running"])?;
    refused(&vm, "activate nosuch --yes", 2, &["nosuch", FIRST, SECOND])?;
    refused(&vm, &format!("delete {SECOND}"), 3, &["--yes"])?;
    let output = vm.try_run("runuser -u nobody -- be list")?;
    assert_eq!((output.status, output.stderr.contains("root")), (3, true), "{}", output.stderr);

    assert_eq!(state(&vm, devices)?, before);

    // Mounted read-only, because mounting for writing changes the device.
    vm.run("mount -o ro,noload /dev/vda4 /mnt")?;
    let mounted = state(&vm, devices)?;
    refused(&vm, "create third -m /:/dev/vda4:ext4 --yes --force", 3, &["/dev/vda4", "/mnt"])?;
    assert_eq!(state(&vm, devices)?, mounted);
    vm.run("umount /mnt")?;

    // A copy made with other tools has the same name as its source.
    vm.run(
        "mount /dev/vda3 /mnt && mkdir -p /run/copy && mount /dev/vda4 /run/copy && mkdir -p \
        /run/copy/usr/lib && \
         cp -a /mnt/etc /run/copy/ && cp /mnt/usr/lib/os-release /run/copy/usr/lib/ && umount \
         /mnt /run/copy",
    )?;
    refused(&vm, &format!("activate {SECOND} --yes"), 3, &["ambiguous", "vda3", "vda4"])?;
    vm.run("wipefs -qa /dev/vda4")?;

    vm.run("umount /boot/efi")?;
    let sectors =
        vm.run("blockdev --getsz /dev/vda && dd if=/dev/vda of=/run/gpt count=34")?.stdout;
    vm.write("/run/gpt", &without_esp(&vm.read("/run/gpt")?, sectors.trim().parse()?)?)?;
    vm.run("dd if=/run/gpt of=/dev/vda conv=notrunc && udevadm trigger --settle /dev/vda1")?;
    let devices = "vda vda1 vda3";
    let before = state(&vm, devices)?;
    refused(
        &vm,
        &format!("create {SECOND} --replace {SECOND} --yes"),
        3,
        &["EFI system partition", "--no-boot-entry"],
    )?;
    assert_eq!(state(&vm, devices)?, before);
    assert_eq!(written_files(&vm)?, [""; 0]);
    Ok(())
}

/// The firmware's entries, the hashes of the ESP's files if it is mounted, and the hash of the
/// first MiB of each device.
fn state(vm: &Machine, devices: &str) -> Result<String> {
    let script = format!(
        "efibootmgr && find /boot/efi -type f | sort | xargs -r sha256sum && \
         for d in {devices}; do head -c 4M /dev/$d | sha256sum; done"
    );
    Ok(vm.run(&script)?.stdout)
}

/// Changes the type of partition 1 to Linux in the first 34 sectors of a disk. The fixtures have no
/// tool for that.
fn without_esp(gpt: &[u8], sectors: u64) -> Result<Vec<u8>> {
    let mut image = tempfile::NamedTempFile::new()?;
    image.write_all(gpt)?;
    image.as_file().set_len(sectors * 512)?;
    let changed = Command::new("sgdisk").arg("--typecode=1:8300").arg(image.path()).output()?;
    ensure!(changed.status.success(), "sgdisk: {}", String::from_utf8_lossy(&changed.stdout));
    let mut first = vec![0; gpt.len()];
    image.as_file().read_exact_at(&mut first, 0)?;
    Ok(first)
}

fn refused(vm: &Machine, command: &str, status: i32, words: &[&str]) -> Result<()> {
    let output = vm.try_be(command)?;
    let text =
        format!("be {command}\nstatus {}\n{}{}", output.status, output.stdout, output.stderr);
    assert_eq!(output.status, status, "{text}");
    for word in words {
        assert!(output.stderr.contains(word), "'{word}' is missing\n{text}");
    }
    // A usage error also prints the usage and a hint at --help. A refusal is a single line.
    assert!(status == 2 || output.stderr.trim().lines().count() == 1, "{text}");
    Ok(())
}

fn create_and_activate_are_refused_under_secure_boot(release: Release) -> Result<()> {
    // The firmware with Microsoft's keys has no entry for this disk, so it boots the path for
    // removable media.
    let vm = TwoEnvironments::on(release)?.machine()?.start()?;
    vm.ready()?;
    vm.run(
        "mkdir -p /boot/efi/EFI/BOOT && cd /boot/efi/EFI && cp debian/shimx64.efi \
        BOOT/BOOTX64.EFI && \
         cp debian/grubx64.efi debian/grub.cfg BOOT/",
    )?;
    let store = tempfile::tempdir()?;
    let builder = vm
        .power_off()?
        .firmware(Firmware::OvmfSecureBoot)
        .variables(store.path().join("secure.fd"));
    let vm = builder.start()?;
    vm.ready_within(deadline(300))?;
    vm.run("od -An -tu1 -j4 /sys/firmware/efi/efivars/SecureBoot-* | grep -qw 1")?;
    mark_time(&vm)?;
    let before = state(&vm, "vda3 vda4")?;
    let create = "create third -m /:/dev/vda4:ext4 --yes";
    refused(&vm, create, 3, &["Secure Boot", "--no-boot-entry"])?;
    for option in ["", "--permanent", "--force"] {
        refused(
            &vm,
            &format!("activate {SECOND} {option} --yes"),
            3,
            &["Secure Boot", "firmware setup"],
        )?;
    }
    assert_eq!(state(&vm, "vda3 vda4")?, before);
    assert_eq!(written_files(&vm)?, [""; 0]);
    Ok(())
}
