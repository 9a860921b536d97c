//! What a copy boots: its own root, whatever the files that it was copied with say, and what is
//! refused because no copy of it would boot.

use std::path::Path;

use super::{Disk, be, copied, disks, done, refused, root, said};
use crate::loop_device::sh;

/// The names of a BE and of its copy, which no other test has.
fn names(kind: &str) -> (String, String) {
    let id = std::process::id();
    (format!("{kind}-{id}"), format!("copy-of-{kind}-{id}"))
}

/// Files of a kernel, and a boot loader entry that names a root.
pub(super) fn entry(root: &str) -> String {
    format!(
        "mkdir -p boot/loader/entries usr/lib/modules/6.9; echo k >boot/vmlinuz-6.9; \
        echo 070701 >boot/initramfs-6.9.img; printf 'linux /boot/vmlinuz-6.9\\ninitrd \
        /boot/initramfs-6.9.img $tuned_initrd\\noptions root={root} rw quiet\\n' \
        >boot/loader/entries/arch.conf"
    )
}

#[test]
fn the_root_of_a_copy_is_its_own_whatever_its_loader_entry_says() {
    if !root() {
        return;
    }
    for (kind, named) in [
        ("by-label", "LABEL=arch_os"),
        ("by-partition", "PARTUUID=14420948-0001-4000-8000-000000000001"),
        ("by-path", "/dev/disk/by-uuid/5d9a6cf4-35a4-4a51-8a0e-1b6f4b8b5a11"),
    ] {
        let (name, second) = names(kind);
        let (_source, target) = copied(&name, &second, &entry(named));
        let own = sh(Path::new("/"), &format!("blkid -p -s UUID -o value {}", target.node));
        let own = own.trim();
        let options = target.change("cat boot/loader/entries/arch.conf");
        assert!(options.contains(&format!("root=UUID={own} rw quiet")), "{options}");
        // Also where another program made the copy.
        target.change(&entry(named));
        let plan = done(&["boot", &second, "--dry-run"]);
        assert!(plan.contains(&format!("command line: root=UUID={own} rw quiet")), "{plan}");
        assert!(plan.contains("/boot/initramfs-6.9.img") && plan.contains(named), "{plan}");
    }
}

#[test]
fn a_device_that_a_crypttab_names_is_not_overwritten() {
    if !root() {
        return;
    }
    let (name, second) = names("crypttab");
    let (source, target) = disks(&name);
    let (place, before) = (format!("/:{}:ext4", target.node), target.sum());
    let create = ["create", &second, "--from", &name, "-m", &place, "--no-boot-entry", "--yes"];
    source.change(&format!(
        "echo 'cryptswap1 {} /dev/urandom swap,cipher=aes' >etc/crypttab",
        target.node
    ));
    refused(&create, 3, "'cryptswap1' in the /etc/crypttab");
    source.change("echo 'root_crypt UUID=1234-5678 none luks' >etc/crypttab");
    refused(&create, 3, "'root_crypt' by its /etc/crypttab");
    // To erase is another matter than to copy what may not start.
    refused(&[&create[..], &["--force"]].concat(), 3, "give --other-storage");
    assert_eq!(target.sum(), before);
    done(&[&create[..], &["--other-storage"]].concat());
    // And a refresh does not overwrite it either.
    source.change(&format!("echo 'swap1 {} /dev/urandom swap' >etc/crypttab", target.node));
    refused(&["refresh", &second, "--yes"], 3, "'swap1' in the /etc/crypttab");
}

#[test]
fn a_device_in_the_fstab_of_the_source_is_refused_with_the_way_out() {
    if !root() {
        return;
    }
    let (name, second) = names("in-fstab");
    let (source, target) = disks(&name);
    source.change(&format!("echo '{} /mnt/old ext4 noauto 0 0' >>etc/fstab", target.node));
    let place = format!("/:{}:ext4", target.node);
    let create = ["create", &second, "--from", &name, "-m", &place, "--no-boot-entry", "--yes"];
    let output = be(&create);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("/mnt/old in the fstab") && !text.contains("--replace"), "{text}");
}

#[test]
fn without_a_boot_entry_a_menu_that_cannot_be_made_is_a_warning() {
    if !root() {
        return;
    }
    let (name, second) = names("no-menu");
    let (source, target) = disks(&name);
    source.change("mkdir -p etc/grub.d; echo '#!/bin/sh' >etc/grub.d/10_linux");
    let place = format!("/:{}:ext4", target.node);
    let create = ["create", &second, "--from", &name, "-m", &place, "--no-boot-entry", "--yes"];
    let output = be(&create);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(4), "{text}");
    assert!(text.contains("no boot menu of its own") && text.contains("is complete"), "{text}");
    assert!(text.contains("grub2-mkconfig"), "{text}");
}

#[test]
fn bytes_of_a_comment_in_fstab_survive_a_copy_and_a_refresh() {
    if !root() {
        return;
    }
    let (name, second) = names("latin");
    let (_source, target): (Disk, Disk) =
        copied(&name, &second, "printf '# disque d\\351di\\351\\n' >>etc/fstab");
    let count = |target: &Disk| target.change("grep -ac \"$(printf 'd\\351di\\351')\" etc/fstab");
    assert_eq!(count(&target), "1\n");
    done(&["refresh", &second, "--yes"]);
    assert_eq!(count(&target), "1\n");
}

#[test]
fn the_uuid_of_a_foreign_header_enters_no_file_of_a_copy() {
    if !root() {
        return;
    }
    let (name, second) = names("foreign-header");
    let change = "mkdir -p etc/kernel etc/initramfs-tools; echo 'root=LABEL=x' >etc/kernel/cmdline";
    let (_source, target) = copied(&name, &second, change);
    // The node that was its swap space is another device today.
    let stick = Disk::new(32);
    sh(
        Path::new("/"),
        &format!(
            "printf 'LUKS\\272\\276\\000\\001' | dd of={0} conv=notrunc status=none; printf \
            '$(touch /PWNED; echo x)' | dd of={0} bs=1 seek=168 conv=notrunc status=none; sync",
            stick.node
        ),
    );
    target.change(&format!("echo '{} none swap sw 0 0' >>etc/fstab", stick.node));
    done(&["refresh", &second, "--yes"]);
    assert_eq!(target.change("grep -rl PWNED etc || true"), "");
    assert!(target.change("cat etc/kernel/cmdline").contains("noresume"));
}
