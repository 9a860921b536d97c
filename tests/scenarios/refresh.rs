//! An earlier copy is refreshed, and what interrupts a refresh or create.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use qemu::{Disk, Machine, Release, deadline};
use tests::prepared::{SECOND, TwoEnvironments, debian};
use tests::table::Scenario;
use tests::{BeCommands, scenario};

use super::running::{assert_confirmed, assert_same_files};

pub const SCENARIOS: &[Scenario] = &[
    scenario!(a_copy_is_refreshed_and_boots),
    scenario!(a_refresh_interrupted_by_a_power_cut_can_be_repeated),
    scenario!(a_target_disk_that_is_unplugged_is_an_error),
];

/// Changes a system as months of use would.
const USE_SYSTEM: &str = "echo new >/etc/motd; echo x >/srv/new; ln /srv/new /srv/link; rm \
    /usr/share/doc/bash/copyright; \
    mv /usr/share/common-licenses/BSD /srv/; rm -r /usr/share/man; echo y >/usr/share/man; chown \
    7:8 /srv; \
    setfattr -n user.a -v 1 /srv/new 2>/dev/null; chattr +i /etc/issue; cp -a /usr/share/locale \
    /srv/locale; \
    mkdir -p /usr/share/perl5 && touch -d 2001-01-01 /usr/share/perl5; sync";

/// Installs hooks that dump a database before the copy and remove the dump after it.
const INSTALL_HOOKS: &str = "cd /etc/lifeboat; mkdir -p hooks.d/before-copy hooks.d/after-copy; \
    printf '#!/bin/sh\necho $LIFEBOAT_VERB $LIFEBOAT_TARGET >/srv/dump\n' \
    >hooks.d/before-copy/10-dump; \
    printf '#!/bin/sh\nmv /srv/dump /run/dumped\n' >hooks.d/after-copy/10-tidy; chmod +x \
    hooks.d/*/*";

fn a_copy_is_refreshed_and_boots(release: Release) -> Result<()> {
    let vm = TwoEnvironments::on(release)?.machine()?.start()?;
    vm.ready()?;
    vm.run(USE_SYSTEM)?;
    vm.run(INSTALL_HOOKS)?;
    let output = refresh(&vm)?;
    assert!(output.contains("is complete"), "{output}");
    assert_eq!(vm.run("cat /run/dumped")?.stdout, format!("refresh {SECOND}\n"));
    vm.be(&format!("mount {SECOND} /mnt --yes"))?;
    assert_eq!(vm.run("cat /mnt/srv/dump")?.stdout, format!("refresh {SECOND}\n"));
    vm.be("umount /mnt")?;
    vm.run("rm -r /etc/lifeboat/hooks.d")?;
    // Only files that a running system writes are copied again.
    let output = refresh(&vm)?;
    let changed: u32 = output
        .split(" files ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next()?.parse().ok())
        .unwrap_or(u32::MAX);
    assert!(changed < 40, "{output}");
    // This comes last because it reads all files of the source, which changes their access times.
    assert_same_files(&vm)?;

    vm.be(&format!("activate {SECOND} --yes"))?;
    vm.reboot()?;
    assert_eq!(vm.current_be()?, SECOND);
    assert_confirmed(&vm, SECOND)?;
    assert_eq!(vm.run("cat /etc/motd /srv/link")?.stdout, "new\nx\n");
    Ok(())
}

/// Runs a refresh and returns its messages on standard error.
fn refresh(vm: &Machine) -> Result<String> {
    let output = vm.try_be(&format!("refresh {SECOND} --yes"))?;
    ensure!(output.status == 0, "{output:?}");
    Ok(output.stderr)
}

fn a_refresh_interrupted_by_a_power_cut_can_be_repeated(release: Release) -> Result<()> {
    let vm = TwoEnvironments::on(release)?.machine_to_cut()?.start()?;
    vm.ready()?;
    vm.run(USE_SYSTEM)?;
    vm.run("cp -a /usr/lib /srv/lib && sync")?;
    vm.run_detached(&format!("be refresh {SECOND} --yes"))?;
    // Wait until some of the differences are on the disk, but most are not.
    let sectors_written = || -> Result<u64> {
        let sectors = vm.run("awk '{print $7}' /sys/class/block/vda3/stat")?.stdout;
        Ok(sectors.trim().parse()?)
    };
    let (before, end) = (sectors_written()?, Instant::now() + deadline(300));
    while sectors_written()? < before + 20_000 {
        ensure!(Instant::now() < end, "nothing is written to the target");
        sleep(Duration::from_millis(100));
    }
    let vm = vm.power_cut()?.start()?;
    vm.ready_within(deadline(300))?;

    assert_eq!(vm.environment(SECOND)?["descriptor"]["state"], "incomplete");
    let refused = vm.try_be(&format!("activate {SECOND} --yes"))?;
    assert!(refused.status == 3 && refused.stderr.contains("incomplete"), "{refused:?}");
    vm.be(&format!("refresh {SECOND} --yes"))?;
    assert_eq!(vm.environment(SECOND)?["descriptor"]["state"], "complete");
    vm.run("e2fsck -fn /dev/vda3")?;
    assert_same_files(&vm)?;
    Ok(())
}

fn a_target_disk_that_is_unplugged_is_an_error(release: Release) -> Result<()> {
    let builder = debian(release).build()?.machine()?.hot_plug_ports(1);
    let vm = builder.start()?;
    vm.ready()?;
    vm.install_be()?;
    vm.plug(Disk::blank(4 << 30).serial("loose"))?;
    let loose = "/dev/disk/by-id/virtio-loose";
    vm.run(&format!("for i in $(seq 60); do test -e {loose} && exit 0; sleep 1; done; exit 1"))?;
    vm.run_detached(&format!(
        "be create third -m /:{loose}:ext4 --current first --yes >/run/output 2>&1; echo status $? \
        >>/run/output"
    ))?;
    vm.run_within(
        "for i in $(seq 300); do test $(awk '{print $7}' /sys/class/block/vdb/stat) -gt 400000 && \
        exit 0; sleep 1; done; \
         cat /run/output; exit 1",
        deadline(320),
    )?;
    vm.pull("loose")?;
    let output = vm.run_within(
        "for i in $(seq 300); do grep -q ^status /run/output && break; sleep 1; done; \
         cat /run/output",
        deadline(320),
    )?;
    assert!(output.stdout.contains("status 1"), "{}", output.stdout);
    // Nothing hangs, and the running system is unchanged.
    let list = vm.be("list")?;
    assert!(list.contains("first") && !list.contains("third"), "{list}");
    assert!(!vm.run("efibootmgr")?.stdout.contains("third"));
    assert_eq!(vm.run("findmnt -rno SOURCE | grep -c vdb || true")?.stdout, "0\n");
    vm.reboot()?;
    assert_eq!(vm.current_be()?, "first");
    Ok(())
}
