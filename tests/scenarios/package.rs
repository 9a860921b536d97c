//! The Debian packages: installed, used, upgraded, removed and purged.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use qemu::{Disk, Machine, Release, deadline};
use tests::prepared::{FIRST, SECOND, debian};
use tests::table::Scenario;
use tests::{BeCommands, packages, rescue, scenario};

use super::running::assert_confirmed;

pub const SCENARIOS: &[Scenario] =
    &[scenario!(packages_are_installed_upgraded_and_purged_and_what_they_made_boots)];

/// Where a BE keeps its own copy of the program.
const OWN: &str = "/usr/lib/lifeboat/be";

/// The same package as the next version.
const NEWER: &str = "dpkg-deb -R /run/debs/lifeboat_*.deb /root/newer && \
    sed -i 's/^Version: .*/Version: 99/' /root/newer/DEBIAN/control && \
    dpkg-deb -b /root/newer /root/newer.deb";

fn packages_are_installed_upgraded_and_purged_and_what_they_made_boots(
    release: Release,
) -> Result<()> {
    packages::files()?;
    let debs = Disk::directory(packages::directory()).serial("debs");
    let vm = debian(release).build()?.machine()?.disk(debs).start()?;
    vm.ready()?;
    vm.run("mkdir -p /run/debs && mount -o ro /dev/disk/by-id/virtio-debs /run/debs")?;

    // Nothing stays on a system that is not a boot environment.
    dpkg(&vm, "-i /run/debs/lifeboat_*.deb")?;
    vm.be("list")?;
    dpkg(&vm, "-P lifeboat")?;
    vm.run(
        "test ! -e /etc/lifeboat && test ! -e /usr/lib/lifeboat && test ! -e /var/lib/lifeboat",
    )?;

    dpkg(&vm, "-i /run/debs/*.deb")?;
    let built = sum(&rescue::image("lifeboat.efi")?)?;
    let installed = vm.run("sha256sum </usr/lib/lifeboat-rescue-image/lifeboat.efi")?.stdout;
    assert_eq!(installed, built);
    for name in ["be", "lucreate"] {
        assert_eq!(vm.run(&format!("command -v {name}"))?.stdout, format!("/usr/sbin/{name}\n"));
    }
    vm.run("bash -c '. /usr/share/bash-completion/completions/be && complete -p be'")?;
    vm.be(&format!("create {SECOND} -m /:/dev/vda3:ext4 --current {FIRST} --yes"))?;
    vm.run("systemd-analyze verify /etc/systemd/system/lifeboat-*.service")?;

    look_at_menu(&vm)?;

    // A newer one reaches the copy that the units of the running system start.
    vm.run(&format!("echo old >{OWN}; rm /etc/systemd/system/lifeboat-used.service"))?;
    vm.run(NEWER)?;
    dpkg(&vm, "-i /root/newer.deb")?;
    vm.run(&format!("cmp /usr/sbin/be {OWN} && systemctl cat lifeboat-used.service"))?;

    // What is gone changes nothing in the night; installed again, it goes on.
    vm.be(&format!("schedule {SECOND} daily --yes"))?;
    let timers = "systemctl list-timers --all --no-legend | grep -c lifeboat- || true";
    assert_eq!(vm.run(timers)?.stdout, "1\n");
    dpkg(&vm, "-r lifeboat")?;
    assert_eq!(vm.run(timers)?.stdout, "0\n");
    dpkg(&vm, "-i /root/newer.deb")?;
    assert_eq!(vm.run(timers)?.stdout, "1\n");
    assert!(vm.be("schedule")?.contains("refresh"));
    let said = dpkg(&vm, "-P lifeboat")?;
    assert!(said.contains("stays a boot environment"), "{said}");
    vm.run("! command -v be && ! dpkg -s lifeboat && ! ls /etc/systemd/system/lifeboat-*.timer")?;

    vm.restarted_by("reboot")?;
    vm.run(&format!("systemctl is-active lifeboat-confirm && {OWN} current | grep -qx {FIRST}"))?;
    assert_eq!(vm.run("systemctl --failed --no-legend --plain")?.stdout, "");
    vm.run_within(&format!("{OWN} activate {SECOND} --yes"), deadline(600))?;
    vm.restarted_by("reboot")?;
    // It was copied with the package, and boots whatever became of that elsewhere.
    assert_confirmed(&vm, SECOND)?;
    vm.run("dpkg -s lifeboat lifeboat-rescue-image >/dev/null && dpkg --verify lifeboat")?;
    Ok(())
}

/// The menu of the rescue image, on this system.
fn look_at_menu(vm: &Machine) -> Result<()> {
    vm.login()?;
    let console = vm.console();
    console.send("lu\r")?;
    console.expect("Lifeboat on ", deadline(120))?;
    console.expect(SECOND, deadline(120))?;
    console.send("c")?;
    console.expect("# be check ", deadline(60))?;
    console.expect("Press Enter to return", deadline(300))?;
    console.send("\r")?;
    console.expect("Lifeboat on ", deadline(60))?;
    console.send("q")?;
    console.expect(":~# ", deadline(60))?;
    console.send("exit\r")?;
    Ok(())
}

fn sum(file: &Path) -> Result<String> {
    let output = Command::new("sha256sum").stdin(File::open(file)?).output()?;
    Ok(String::from_utf8(output.stdout)?)
}

/// Runs dpkg, and returns all that it said.
fn dpkg(vm: &Machine, arguments: &str) -> Result<String> {
    Ok(vm.run_within(&format!("dpkg {arguments} 2>&1"), deadline(600))?.stdout)
}
