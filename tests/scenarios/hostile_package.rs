//! A package whose scripts try to reach the system that serves while it is installed in a copy.

use anyhow::Result;
use qemu::{Machine, Release, deadline};
use tests::prepared::{FIRST, SECOND, fresh};
use tests::table::Scenario;
use tests::{BeCommands, scenario};

pub const SCENARIOS: &[Scenario] =
    &[scenario!(a_hostile_package_reaches_nothing_outside_its_boot_environment)];

/// What its script tries. Each try that succeeds leaves a word in a file of the BE.
const TRIES: &str = r#"#!/bin/sh
try() { "$@" && echo "$*" >>/root/possible; }
try systemctl restart victim
try sh -c 'rm /srv/shared/data'
try mount -t tmpfs none /mnt
try reboot -f
try sh -c 'echo 1 >/proc/sys/kernel/panic'
try sh -c 'echo b >/proc/sysrq-trigger'
try sh -c 'echo owned >/proc/sys/kernel/hostname'
try sh -c 'test -b /dev/vda && dd if=/dev/zero of=/dev/vda bs=512 count=1'
try nft flush ruleset
try nft add table inet owned
try perl -e 'ioctl(STDIN, 0x5412, my $c = "x") or exit 1'
try perl -e 'open(T, "+<", "/dev/tty") && ioctl(T, 0x5412, my $c = "x") or exit 1'
try perl -e 'open(T, "+<", "/dev/console") && ioctl(T, 0x5412, my $c = "x") or exit 1'
try mknod /root/disk b 254 0
try sh -c 'test -b /root/disk && echo x >/root/disk'
try sh -c 'echo x >/proc/1/root/root/owned'
try sh -c 'for p in /proc/[0-9]*; do grep -l 1234567[8] $p/cmdline; done | grep .'
exit 0
"#;

const KILLS: &str = "#!/bin/sh\nkill -9 -1\n";

/// A repository with both, served by the running system.
fn publish(vm: &Machine) -> Result<()> {
    for (name, script) in [("tries", TRIES), ("kills", KILLS)] {
        vm.run(&format!("mkdir -p /root/www/stable /root/{name}/DEBIAN"))?;
        vm.write(&format!("/root/{name}/DEBIAN/postinst"), script.as_bytes())?;
        let control = format!(
            "Package: {name}\nVersion: 1\nArchitecture: amd64\nMaintainer: x <x@x>\nDescription: x\n"
        );
        vm.write(&format!("/root/{name}/DEBIAN/control"), control.as_bytes())?;
        vm.run(&format!(
            "cd /root/www && chmod 755 /root/{name}/DEBIAN/postinst && d=stable/{name}_1_amd64.deb && \
            dpkg-deb -b /root/{name} $d && (cat /root/{name}/DEBIAN/control; echo \"Filename: $d\"; \
            echo \"Size: $(stat -c %s $d)\"; echo \"SHA256: $(sha256sum $d | cut -d' ' -f1)\"; echo) \
            >>stable/Packages"
        ))?;
    }
    vm.run(
        "systemd-run --quiet --unit=www busybox httpd -f -p 127.0.0.1:80 -h /root/www && \
        echo 'deb [trusted=yes] http://127.0.0.1 stable/' >/etc/apt/sources.list",
    )?;
    Ok(())
}

/// What must be as before.
fn outside(vm: &Machine) -> Result<String> {
    let seen = "nft list ruleset; systemctl show -p MainPID,ActiveState victim; cat /srv/shared/data; \
        cut -d' ' -f3-6 /proc/self/mountinfo; cat /proc/sys/kernel/panic /proc/sys/kernel/hostname; \
        dd if=/dev/vda bs=512 count=34 status=none | md5sum; ls -A /root; cat /var/lib/dpkg/status | md5sum";
    Ok(vm.boot_id()? + &vm.run(seen)?.stdout)
}

fn a_hostile_package_reaches_nothing_outside_its_boot_environment(release: Release) -> Result<()> {
    let vm = fresh(release)?;
    vm.run(
        "mkfs.ext4 -q /dev/vda4 && echo '/dev/vda4 /srv ext4 defaults 0 2' >>/etc/fstab && \
        mount /srv && mkdir /srv/shared && echo data >/srv/shared/data",
    )?;
    publish(&vm)?;
    vm.run("nft add table inet kept; systemd-run --quiet --unit=victim sleep 12345678")?;
    vm.be(&format!("create {SECOND} -m /:/dev/vda3:ext4 --current {FIRST} --yes"))?;
    let before = outside(&vm)?;

    let upgrade = |package: &str| {
        let command = format!("be upgrade {SECOND} --install {package} --yes 2>&1");
        vm.try_run_within(&command, deadline(900))
    };
    let tried = upgrade("tries")?;
    assert_eq!(tried.status, 4, "{}", tried.stdout);
    for refused in ["Read-only file system", "Operation not permitted"] {
        let is_named = |line: &str| line.starts_with("refused: ") && line.contains(refused);
        assert!(tried.stdout.lines().any(is_named), "{refused}: {}", tried.stdout);
    }
    assert_eq!(outside(&vm)?, before);
    vm.be(&format!("mount {SECOND} /mnt --read-only"))?;
    let possible = vm.run("cat /mnt/root/possible 2>/dev/null || true")?.stdout;
    vm.be(&format!("umount {SECOND}"))?;
    assert_eq!(possible, "");

    // What kills the package manager itself leaves a copy that says so.
    let killed = upgrade("kills")?;
    assert_ne!(killed.status, 0, "{}", killed.stdout);
    assert_eq!(outside(&vm)?, before);
    assert_eq!(vm.listed(SECOND, "STATE")?, "incomplete (upgrade)");
    Ok(())
}
