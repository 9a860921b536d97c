//! Tests of machines and fixtures, with real Debian systems.

use qemu::{Bus, Debian, Disk, Machine, Release, Result, deadline};

fn running(release: Release) -> Result<Machine> {
    let vm = Debian::new(release).build()?.machine()?.start()?;
    vm.ready()?;
    Ok(vm)
}

fn starts_and_runs_commands(release: Release) -> Result<()> {
    let vm = Debian::new(release).build()?.machine()?.start()?;
    vm.console().expect("GNU GRUB", deadline(60))?;
    vm.ready()?;

    assert!(vm.run("cat /etc/os-release")?.stdout.contains(release.name()));
    assert!(vm.run("efibootmgr")?.stdout.contains("debian"));
    let failed = vm.try_run("echo out; echo err >&2; exit 7")?;
    assert_eq!(
        (failed.status, failed.stdout.as_str(), failed.stderr.as_str()),
        (7, "out\n", "err\n")
    );
    assert!(vm.login()?.contains("Debian GNU/Linux comes with ABSOLUTELY NO WARRANTY"));

    vm.write("/root/kept", b"on the disk")?;
    vm.reboot()?;
    assert_eq!(vm.read("/root/kept")?, b"on the disk");
    assert_eq!(vm.run("systemctl is-system-running")?.stdout, "running\n");

    let vm = vm.power_off()?.start()?;
    vm.ready()?;
    assert_eq!(vm.read("/root/kept")?, b"on the disk");
    Ok(())
}

#[test]
fn bookworm_starts_through_its_own_loader_and_runs_commands() -> Result<()> {
    starts_and_runs_commands(Release::Bookworm)
}

#[test]
fn a_power_cut_loses_what_was_not_flushed() -> Result<()> {
    let disk = Disk::blank(1 << 30).logged().serial("victim");
    let vm = Debian::new(Release::Bookworm).build()?.machine()?.disk(disk).start()?;
    vm.ready()?;
    vm.run(
        "mkfs.ext4 -q /dev/disk/by-id/virtio-victim && mount /dev/disk/by-id/virtio-victim /mnt",
    )?;
    vm.run("echo 1 > /mnt/first && sync")?;
    let first = vm.writes("victim")?;
    vm.run("echo 2 > /mnt/second && sync && echo 3 > /mnt/never-flushed")?;

    let read = "mount /dev/disk/by-id/virtio-victim /mnt && ls /mnt | grep -v lost+found | tr \
        '\\n' ' '; umount /mnt";
    let machine = vm.power_cut()?;
    let vm = machine.start()?;
    vm.ready()?;
    assert_eq!(vm.run(read)?.stdout, "first second ");
    assert!(first > 0);
    Ok(())
}

#[test]
#[ignore = "slow: see `make test-all`"]
fn the_generic_kernel_finds_its_root_on_every_bus() -> Result<()> {
    let debian = Debian::new(Release::Bookworm).generic_kernel().build()?;
    for (bus, root) in [(Bus::Nvme, "/dev/nvme0n1p2"), (Bus::Ahci, "/dev/sda2")] {
        let stick = Disk::blank(64 << 20).bus(Bus::Usb).serial("STICK");
        let vm = debian.machine_on(bus)?.disk(stick).start()?;
        vm.ready()?;
        assert_eq!(vm.run("findmnt -no SOURCE /")?.stdout.trim(), root);
        assert!(vm.run("ls /dev/disk/by-id")?.stdout.contains("STICK"));
    }
    Ok(())
}

#[test]
#[ignore = "slow: see `make test-all`"]
fn secure_boot_is_enforced() -> Result<()> {
    let debian = Debian::new(Release::Bookworm).build()?;
    let vm = debian.machine_with_secure_boot()?.start()?;
    vm.ready()?;
    assert!(vm.run("cat /sys/kernel/security/lockdown")?.stdout.contains("[integrity]"));
    Ok(())
}

#[test]
fn disks_are_plugged_into_a_running_machine_and_the_screen_is_captured() -> Result<()> {
    let debian = Debian::new(Release::Bookworm).build()?;
    let vm = debian.machine()?.hot_plug_ports(1).screen().start()?;
    vm.ready()?;
    vm.plug(Disk::blank(64 << 20).serial("LATE"))?;
    vm.run(
        "udevadm settle; for i in 1 2 3 4 5 6 7 8 9; do [ -e /dev/disk/by-id/virtio-LATE ] && \
        exit; sleep 1; done; exit 1",
    )?;
    let picture = tempfile::tempdir().unwrap();
    let picture = picture.path().join("screen.png");
    vm.screenshot(&picture)?;
    assert!(std::fs::read(&picture).unwrap().starts_with(b"\x89PNG"));
    vm.power_button()?;
    vm.off(deadline(120))?;
    Ok(())
}

#[test]
fn a_machine_that_ends_is_an_error_with_its_last_output() -> Result<()> {
    let vm = running(Release::Bookworm)?;
    let error = vm
        .run("echo gone > /dev/console; sleep 1; echo o > /proc/sysrq-trigger; sleep 60")
        .unwrap_err();
    let text = error.to_string();
    assert!(text.contains("QEMU ended") && text.contains("gone"), "{text}");
    Ok(())
}
