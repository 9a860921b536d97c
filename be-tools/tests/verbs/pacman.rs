//! `be upgrade` with the real pacman, in a system whose packages are a small repository on its own
//! disk.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Disk, be, done, from_packages, refused, root, said};
use crate::loop_device::sh;

/// A system with pacman that is a BE. Debian's package of pacman is what there is here: its own list
/// of packages is taken away.
fn arch(name: &str) -> Disk {
    let own_list = "rm -rf var/lib/dpkg usr/bin/apt-get; mkdir -p var/lib/pacman/local; \
        echo 9 >var/lib/pacman/local/ALPM_DB_VERSION";
    let sources = "mkdir -p srv/arch/D && printf '[options]\\nArchitecture = auto\\n[here]\\n\
        SigLevel = Optional TrustAll\\nServer = file:///srv/arch\\n' >etc/pacman.conf";
    from_packages("pacman", "--include=pacman-package-manager", own_list, name, sources)
}

/// Puts a version of a package into the repository of a BE, in the place of the one that is there.
fn publish(disk: &Disk, name: &str, version: &str) {
    disk.change(&format!(
        "cd srv/arch; mkdir -p P/usr/share/doc/{name} P/etc; echo {version} >P/usr/share/doc/{name}/v; \
        echo 'of {version}' >P/etc/{name}.conf; printf 'pkgname = {name}\\npkgbase = {name}\\n\
        pkgver = {version}\\npkgdesc = x\\nurl = x\\nbuilddate = 1\\npackager = x\\nsize = 100\\n\
        arch = any\\nbackup = etc/{name}.conf\\n' >P/.PKGINFO; f={name}-{version}-any.pkg.tar.gz; \
        (cd P; tar czf ../$f .PKGINFO etc usr); rm -rf P D/{name}-*; mkdir D/{name}-{version}; \
        printf '%%%s%%\\n%s\\n\\n' FILENAME $f NAME {name} VERSION {version} CSIZE $(stat -c %s $f) \
        ISIZE 100 SHA256SUM $(sha256sum $f | cut -d' ' -f1) ARCH any >D/{name}-{version}/desc; \
        tar czf here.db -C D $(ls D)"
    ));
}

fn version(disk: &Disk, package: &str) -> String {
    disk.change(&format!("cat usr/share/doc/{package}/v 2>/dev/null || true")).trim().to_owned()
}

#[test]
fn pacman_installs_upgrades_and_removes_as_the_plan_says() {
    if !root() {
        return;
    }
    let name = format!("arch-{}", std::process::id());
    let disk = arch(&name);
    publish(&disk, "tool", "1-1");
    publish(&disk, "other", "1-1");

    let before = disk.sum();
    let plan = done(&["upgrade", &name, "--install", "tool", "other", "--dry-run"]);
    assert!(plan.contains("new  other  1-1") || plan.contains("new       other"), "{plan}");
    assert_eq!(disk.sum(), before, "a plan writes nothing");
    done(&["upgrade", &name, "--install", "tool", "other", "--yes"]);
    assert_eq!((version(&disk, "tool"), version(&disk, "other")), ("1-1".into(), "1-1".into()));

    // What was changed by hand stays, and is named.
    disk.change("echo changed >>etc/tool.conf");
    publish(&disk, "tool", "2-1");
    let text = done(&["upgrade", &name, "--dist", "--yes"]);
    assert!(text.contains("upgraded  tool  1-1 -> 2-1"), "{text}");
    assert!(text.contains("kept: /etc/tool.conf"), "{text}");
    assert_eq!(version(&disk, "tool"), "2-1");
    assert_eq!(disk.change("cat etc/tool.conf"), "of 1-1\nchanged\n");
    let text = done(&["upgrade", &name, "--dist", "--yes"]);
    assert!(text.contains("are as they should be"), "{text}");

    done(&["upgrade", &name, "--remove", "other", "--yes"]);
    assert_eq!(version(&disk, "other"), "");
    // The oracle is pacman itself.
    assert_eq!(disk.change("chroot . pacman -Q"), "tool 2-1\n");

    // A hook that fails, which pacman itself only mentions, is reported.
    let hook = "usr/share/libalpm/hooks/tool.hook";
    disk.change(&format!(
        "mkdir -p usr/share/libalpm/hooks; printf '[Trigger]\\nOperation = Upgrade\\nType = Package\\n\
        Target = *\\n[Action]\\nDescription = Make the initramfs...\\nWhen = PostTransaction\\nExec = \
        /bin/false\\n' >{hook}"
    ));
    publish(&disk, "tool", "3-1");
    let failed = be(&["upgrade", &name, "--dist", "--yes"]);
    assert_eq!(failed.status.code(), Some(4), "{}", said(&failed));
    let line = "failed: (1/1) Make the initramfs: error: command failed";
    assert!(said(&failed).contains(line), "{}", said(&failed));
    let state = || disk.change("grep ^state etc/lifeboat/environment.toml");
    assert_eq!((state().as_str(), &*version(&disk, "tool")), ("state = \"complete\"\n", "3-1"));
    disk.change(&format!("rm {hook}"));

    // What cannot be downloaded changes nothing.
    publish(&disk, "tool", "4-1");
    disk.change("mv srv/arch/tool-4-1-any.pkg.tar.gz srv/");
    let output = be(&["upgrade", &name, "--dist", "--yes"]);
    let text = said(&output);
    assert!(output.status.code() == Some(1) && text.contains("is as it was"), "{text}");
    assert_eq!((state().as_str(), &*version(&disk, "tool")), ("state = \"complete\"\n", "3-1"));
    disk.change("mv srv/tool-4-1-any.pkg.tar.gz srv/arch/");

    // Nor does a download that is interrupted.
    disk.change(
        "cp -a etc/pacman.conf srv/; sed -i '/^.options/a XferCommand = /srv/fetch %u %o' \
        etc/pacman.conf; printf '#!/bin/sh\ncase $1 in *.pkg.*) exec sleep 61;; *) cp \
        ${1#file://} $2;; esac\n' >srv/fetch; chmod +x srv/fetch",
    );
    let upgrade = || {
        Command::new(env!("CARGO_BIN_EXE_be"))
            .args(["upgrade", &name, "--dist", "--yes"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    let fetches = || !sh(Path::new("/"), "pgrep -fx 'sleep 61' || true").is_empty();
    let mut upgrade = loop {
        let mut child = upgrade();
        while child.try_wait().unwrap().is_none() && !fetches() {
            std::thread::sleep(Duration::from_millis(100));
        }
        // Another test's operation is in progress.
        match child.try_wait().unwrap() {
            Some(status) if status.code() == Some(3) => {
                std::thread::sleep(Duration::from_millis(500));
            }
            _ => break child,
        }
    };
    sh(Path::new("/"), &format!("kill -INT {}", upgrade.id()));
    assert_eq!(upgrade.wait().unwrap().code(), Some(130));
    assert_eq!((state().as_str(), &*version(&disk, "tool")), ("state = \"complete\"\n", "3-1"));
    disk.change("mv srv/pacman.conf etc/");

    // What was wrong before is no fault of the change, which may put it right.
    disk.change("printf '%%DEPENDS%%\\nother\\n\\n' >>var/lib/pacman/local/tool-3-1/desc");
    done(&["upgrade", &name, "--install", "other", "--yes"]);
    assert_eq!((version(&disk, "tool"), version(&disk, "other")), ("4-1".into(), "1-1".into()));

    // A transaction that was killed is not finished.
    disk.change(
        "sed -i 's/^state.*/state = \"incomplete\"\\noperation = \"upgrade\"/' \
        etc/lifeboat/environment.toml",
    );
    refused(&["upgrade", &name, "--dist", "--yes"], 2, "be refresh");
    disk.change(
        "sed -i '/^operation/d; s/^state.*/state = \"complete\"/' \
        etc/lifeboat/environment.toml",
    );

    let missing = be(&["upgrade", &name, "--install", "no-such", "--yes"]);
    assert!(!missing.status.success() && said(&missing).contains("no-such"), "{}", said(&missing));
    assert!(disk.change("cat etc/lifeboat/environment.toml").contains("state = \"complete\""));
    refused(&["upgrade", &name, "--security", "--yes"], 2, "--dist");
    refused(&["upgrade", &name, "--dist", "--conffiles", "new", "--yes"], 2, ".pacnew");
    refused(&["upgrade", &name, "--release", "x", "--yes"], 2, "no releases");
}
