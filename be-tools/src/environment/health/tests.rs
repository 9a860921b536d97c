use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;
use crate::discover::environment_in;
use crate::storage::testing::{RELEASE, debian_root};

const UUID: &str = "5d7a1ad5-8a3c-4a52-9a7e-0c6f6e1f3b55";

/// The codes of what is wrong with a Debian after `damage`.
fn after(damage: impl FnOnce(&Path)) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    debian_root(dir.path(), &format!("UUID={UUID} / ext4 errors=remount-ro 0 1\n"), UUID);
    damage(dir.path());
    let (facts, environment, devices) = environment_in(dir.path(), UUID);
    problems(&facts, &environment, &devices).into_iter().map(|p| p.code.into_owned()).collect()
}

fn write(dir: &Path, path: &str, text: impl AsRef<[u8]>) {
    fs::create_dir_all(dir.join(path).parent().unwrap()).unwrap();
    fs::write(dir.join(path), text).unwrap();
}

#[test]
fn each_kind_of_damage_is_found() {
    let image = format!("boot/vmlinuz-{RELEASE}");
    let initramfs = format!("boot/initrd.img-{RELEASE}");
    let remove = |path: &'static str| move |dir: &Path| fs::remove_file(dir.join(path)).unwrap();
    let fstab = |text: &'static str| move |dir: &Path| write(dir, "etc/fstab", text);
    type Damage<'a> = Box<dyn FnOnce(&Path) + 'a>;
    let table: Vec<(&str, Damage, &[&str])> = vec![
        ("nothing", Box::new(|_| {}), &[]),
        (
            "kernel gone",
            Box::new(|dir| fs::remove_file(dir.join(&image)).unwrap()),
            &["no-kernel", "grub-cfg-kernel"],
        ),
        ("kernel empty", Box::new(|dir| write(dir, &image, "")), &["kernel-damaged"]),
        (
            "kernel cut short",
            Box::new(|dir| {
                let whole = fs::read(dir.join(&image)).unwrap();
                write(dir, &image, &whole[..6000]);
            }),
            &["kernel-damaged"],
        ),
        (
            "initramfs gone",
            Box::new(|dir| fs::remove_file(dir.join(&initramfs)).unwrap()),
            &["no-initramfs", "grub-cfg-initramfs"],
        ),
        ("initramfs empty", Box::new(|dir| write(dir, &initramfs, "")), &["initramfs-damaged"]),
        (
            "initramfs is text",
            Box::new(|dir| write(dir, &initramfs, "hello")),
            &["initramfs-damaged"],
        ),
        (
            "initramfs ends in zeros",
            Box::new(|dir| write(dir, &initramfs, [&b"\x1f\x8b\x08"[..], &[0; 4096]].concat())),
            &["initramfs-damaged"],
        ),
        (
            "modules gone",
            Box::new(|dir| fs::remove_dir_all(dir.join("usr/lib/modules")).unwrap()),
            &["no-modules"],
        ),
        ("init gone", Box::new(remove("usr/sbin/init")), &["init"]),
        ("target of the init symlink gone", Box::new(remove("usr/lib/systemd/systemd")), &["init"]),
        ("linker gone", Box::new(remove("usr/lib64/ld-linux-x86-64.so.2")), &["init"]),
        (
            "linker empty",
            Box::new(|dir| write(dir, "usr/lib64/ld-linux-x86-64.so.2", "")),
            &["init"],
        ),
        ("init is text", Box::new(|dir| write(dir, "usr/lib/systemd/systemd", "hello")), &["init"]),
        ("os-release dangles", Box::new(remove("usr/lib/os-release")), &["no-os-release"]),
        ("grub.cfg gone", Box::new(remove("boot/grub/grub.cfg")), &["no-grub-cfg"]),
        (
            "grub.cfg empty",
            Box::new(|dir| write(dir, "boot/grub/grub.cfg", "\n")),
            &["no-grub-cfg"],
        ),
        (
            "grub.cfg without entries",
            Box::new(|dir| write(dir, "boot/grub/grub.cfg", "set timeout=5\n")),
            &["grub-cfg-no-entry"],
        ),
        (
            "grub.cfg of the source",
            Box::new(|dir| {
                let cfg = fs::read_to_string(dir.join("boot/grub/grub.cfg")).unwrap();
                write(
                    dir,
                    "boot/grub/grub.cfg",
                    cfg.replace(UUID, "00000000-1111-2222-3333-444444444444"),
                );
            }),
            &["grub-cfg-root"],
        ),
        ("no GRUB at all", Box::new(|dir| fs::remove_dir_all(dir.join("boot/grub")).unwrap()), &[]),
        ("fstab gone", Box::new(remove("etc/fstab")), &["no-fstab"]),
        (
            "devices of fstab gone",
            Box::new(fstab(
                "UUID=other / ext4 x 0 1\nUUID=1 /home ext4\nUUID=2 /a ext4 nofail\n\
                UUID=3 none swap sw\n",
            )),
            &["fstab-device", "fstab-device"],
        ),
        (
            "another root in fstab",
            Box::new(fstab("LABEL=second / ext4 defaults 0 1\ntmpfs /tmp tmpfs\n")),
            &["fstab-root"],
        ),
        (
            "descriptor is not TOML",
            Box::new(|dir| write(dir, "etc/lifeboat/environment.toml", "format = ")),
            &["descriptor-unreadable"],
        ),
        (
            "descriptor is a directory",
            Box::new(|dir| fs::create_dir_all(dir.join("etc/lifeboat/environment.toml")).unwrap()),
            &["descriptor-unreadable"],
        ),
        (
            "descriptor is incomplete",
            Box::new(|dir| {
                let descriptor = crate::environment::Descriptor::new("new".parse().unwrap(), None);
                write(dir, "etc/lifeboat/environment.toml", descriptor.render().unwrap());
            }),
            &["incomplete"],
        ),
    ];
    for (name, damage, expected) in table {
        assert_eq!(after(damage), expected, "{name}");
    }
}

#[test]
fn boot_loader_entries_that_grub_includes_are_judged_as_its_own() {
    let with_entry = |cfg: &'static str, root: &'static str, more: &'static str| {
        move |dir: &Path| {
            write(dir, "boot/grub/grub.cfg", cfg);
            let entry = format!(
                "linux /boot/vmlinuz-{RELEASE}{more}\ninitrd /boot/initrd.img-{RELEASE} \
                $tuned_initrd\noptions root={root} ro $tuned_params\n"
            );
            write(dir, "boot/loader/entries/0123-6.1.conf", entry);
        }
    };
    let own = "UUID=5d7a1ad5-8a3c-4a52-9a7e-0c6f6e1f3b55";
    for (cfg, root, more, expected) in [
        ("insmod blscfg\nblscfg\n", own, "", &[][..]),
        ("blscfg\n", "UUID=other", "", &["loader-entry-root"]),
        ("blscfg\n", "LABEL=second", "", &["loader-entry-root"]),
        ("blscfg\n", own, "-gone", &["loader-entry-kernel"]),
        ("set timeout=5\n", own, "", &["grub-cfg-no-entry"]),
    ] {
        assert_eq!(after(with_entry(cfg, root, more)), expected, "{cfg} {root} {more}");
    }
    // Without a grub.cfg, a loader reads the entries by itself.
    let without = |dir: &Path| {
        with_entry("", own, "")(dir);
        fs::remove_file(dir.join("boot/grub/grub.cfg")).unwrap();
    };
    assert_eq!(after(without), [""; 0]);
}

#[test]
fn a_kernel_that_the_menu_starts_without_an_initramfs_needs_none() {
    let without = |dir: &Path| {
        let cfg = format!("menuentry x {{\nlinux /boot/vmlinuz-{RELEASE} root=/dev/sda2\n}}\n");
        write(dir, "boot/grub/grub.cfg", cfg);
        fs::remove_file(dir.join(format!("boot/initrd.img-{RELEASE}"))).unwrap();
    };
    assert_eq!(after(without), [""; 0]);
}

#[test]
fn without_a_menu_the_newest_complete_kernel_is_the_one_that_boots() {
    let dir = tempfile::tempdir().unwrap();
    debian_root(dir.path(), &format!("UUID={UUID} / ext4\n"), UUID);
    fs::remove_dir_all(dir.path().join("boot/grub")).unwrap();
    let add = |release: &str, initramfs: bool| {
        let mut image = fs::read(dir.path().join(format!("boot/vmlinuz-{RELEASE}"))).unwrap();
        let version = format!("{release} \0");
        image[0x500..0x500 + version.len()].copy_from_slice(version.as_bytes());
        write(dir.path(), &format!("boot/vmlinuz-{release}"), image);
        write(dir.path(), &format!("usr/lib/modules/{release}/modules.dep"), "");
        if initramfs {
            write(dir.path(), &format!("boot/initrd.img-{release}"), b"\x1f\x8b and more");
        }
    };
    add("6.1.0-9-amd64", true);
    add("6.12.3-amd64", false);
    let kernel = |dir: &Path| environment_in(dir, UUID).1.kernel.unwrap();
    assert_eq!(kernel(dir.path()), RELEASE);
    fs::remove_file(dir.path().join(format!("boot/initrd.img-{RELEASE}"))).unwrap();
    assert_eq!(kernel(dir.path()), "6.1.0-9-amd64");
    fs::remove_file(dir.path().join("boot/initrd.img-6.1.0-9-amd64")).unwrap();
    assert_eq!(kernel(dir.path()), "6.12.3-amd64");
}

#[test]
fn microcode_before_the_initramfs_is_skipped() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "kernel/x86/microcode/a", "microcode");
    let early = |end: &[u8]| {
        let list = crate::tool::Tool::new("sh")
            .args(["-c", "cd \"$1\" && find kernel | cpio --quiet -o -H newc > \"$2\"", "sh"])
            .arg(dir.path())
            .arg(dir.path().join("early"));
        list.run().unwrap();
        [fs::read(dir.path().join("early")).unwrap(), end.to_vec()].concat()
    };
    for (end, expected) in
        [(&b"\x28\xb5\x2f\xfd main"[..], &[][..]), (b"", &[]), (b"garbage", &["initramfs-damaged"])]
    {
        let archive = early(end);
        let path = format!("boot/initrd.img-{RELEASE}");
        assert_eq!(after(|dir| write(dir, &path, archive)), expected, "{end:?}");
    }
    let cut = early(b"")[..150].to_vec();
    assert_eq!(
        after(|dir| write(dir, &format!("boot/initrd.img-{RELEASE}"), cut)),
        ["initramfs-damaged"]
    );
}

#[test]
fn init_may_be_a_script_or_static() {
    let systemd = "usr/lib/systemd/systemd";
    assert_eq!(after(|dir| write(dir, systemd, "#!/bin/sh\n")), [""; 0]);
    let outside = |dir: &Path| {
        fs::remove_file(dir.join("usr/sbin/init")).unwrap();
        // The target exists on this machine, but not in the BE.
        symlink("/bin/true", dir.join("usr/sbin/init")).unwrap();
    };
    assert_eq!(after(outside), ["init"]);
}
