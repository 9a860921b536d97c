//! Localizes a real Debian, and checks what its loader packages do to the ESP afterwards.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test")]

mod loop_device;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use be_tools::command_line::CommandLine;
use be_tools::environment::{FileSystemUse, Id, Root};
use be_tools::fstab::Fstab;
use be_tools::layout::{MountPoint, Placement, lay_out};
use be_tools::loader::grub::GrubSettings;
use be_tools::localize::{Localization, Localized, localize};
use be_tools::sandbox::{Inside, use_program};
use be_tools::storage::device::BlockDevice;
use be_tools::storage::provision::Provision;
use be_tools::storage::stack::Stack;
use be_tools::storage::volume::Volume;
use boot::grubenv::EnvironmentBlock;
use boot::menu::{BootMenu, MenuEntry};
use loop_device::{root, sh};

const OLD: &str = "9a2b8c1e-5c5f-4b5e-8d5e-0f6f2d1c7a11";
const NEW: &str = "6f1d2c3b-2222-4333-8444-555555555555";

/// A Debian with its loader packages, made once and kept in the target directory.
fn debian(release: &str) -> PathBuf {
    // Two tests of one release must not make it at the same time.
    static MAKING: Mutex<()> = Mutex::new(());
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let debian = cache.join(format!("debian-loader-{release}"));
    if !debian.exists() {
        let fresh = cache.join(format!("debian-loader-{release}.new"));
        let _ = fs::remove_dir_all(&fresh);
        let packages = "systemd-sysv,linux-image-cloud-amd64,initramfs-tools,grub-efi-amd64,\
            grub-efi-amd64-signed,shim-signed";
        let made = Command::new("mmdebstrap")
            .args(["--quiet", "--variant=apt", &format!("--include={packages}"), release])
            .arg(&fresh)
            .stdin(Stdio::null())
            .status()
            .unwrap();
        assert!(made.success());
        fs::rename(&fresh, &debian).unwrap();
    }
    debian
}

/// The copy of a Debian on a block device, as the copy engine leaves it. The device has a second
/// node, because GRUB uses the file behind a device with the name of a loop device.
struct Copy {
    directory: tempfile::TempDir,
    device: PathBuf,
    node: PathBuf,
}

impl Copy {
    /// The copy has a device node with this name.
    fn of(release: &str, name: &str) -> Self {
        let debian = debian(release);
        let directory = tempfile::tempdir().unwrap();
        let image = "truncate -s 3G image; mkdir root esp";
        sh(directory.path(), image);
        sh(directory.path(), &format!("mke2fs -q -t ext4 -U {NEW} -d {} image", debian.display()));
        let device = PathBuf::from(sh(directory.path(), "losetup --find --show image").trim());
        let node = PathBuf::from(format!("/dev/lifeboat-test-{name}"));
        let script = format!(
            "rm -f {node}; \
            mknod {node} b $((0x$(stat -c %t {device}))) $((0x$(stat -c %T {device}))); \
            mount {node} root",
            node = node.display(),
            device = device.display()
        );
        let copy = Copy { directory, device, node };
        sh(copy.directory.path(), &script);
        copy.write(
            "etc/fstab",
            &format!("UUID={OLD} / ext4 errors=remount-ro 0 1\nUUID=77 none swap sw 0 0\n"),
        );
        // An installed system has these.
        fs::create_dir(copy.root().join("boot/efi")).unwrap();
        copy.write("boot/grub/x86_64-efi/core.efi", "core");
        copy.write("boot/grub/grub.cfg", "");
        for name in ["shimx64.efi", "grubx64.efi", "mmx64.efi", "grub.cfg"] {
            let path = copy.directory.path().join("esp/EFI/debian").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("the vendor's {name}")).unwrap();
        }
        copy
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.root().join(path)).unwrap_or_default()
    }

    /// Runs a script in the copy as its own system would, with the ESP on which the vendor's files
    /// are. Of the machine's devices it has only its own.
    fn run(&self, script: &str) -> String {
        const SYSTEM: &str = r#"
            cp /etc/resolv.conf root/etc/resolv.conf
            mount -t proc proc root/proc
            mount -t tmpfs tmpfs root/dev
            for name in null zero full random urandom tty; do cp -a /dev/$name root/dev; done
            cp -a "$2" root/dev
            mkdir -p root/dev/disk/by-uuid
            ln -s "$2" root/dev/disk/by-uuid/"$3"
            mount --bind esp root/boot/efi
            export DEBIAN_FRONTEND=noninteractive
            exec chroot root sh -ec "$1"
        "#;
        let out = Command::new("unshare")
            .args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", SYSTEM, "sh"])
            .args([script, self.node.to_str().unwrap(), NEW])
            .current_dir(self.directory.path())
            .output()
            .unwrap();
        let text = [out.stdout, out.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(out.status.success(), "{script}: {text}");
        text
    }

    fn localize(&self, source_menu: &BootMenu) -> Localized {
        let fstab = Fstab::parse(&self.text("etc/fstab"));
        let line = |e: &be_tools::fstab::Entry| FileSystemUse {
            mountpoint: e.mountpoint(),
            spec: e.spec(),
            device: None,
            fs_type: e.fs_type(),
            options: e.options(),
            size: None,
            shared: false,
        };
        let source: Vec<FileSystemUse> = fstab.entries().map(line).collect();
        let device = Arc::new(BlockDevice::bare(&self.node));
        let volume = Volume { device, subvolume: None, stack: Stack::default() };
        let placement: Placement = "/:node:ext4".parse().unwrap();
        let placement = placement.resolve(|_| Ok(Provision::Existing(volume))).unwrap();
        let layout = lay_out(&source, &[], &[placement]).unwrap();
        let source_root = Root {
            device: "/dev/vda2".into(),
            fs_type: "ext4".into(),
            uuid: OLD.into(),
            subvolume: None,
            disk: "/dev/vda".into(),
        };
        let change = Localization {
            id: id(),
            layout: &layout,
            uuids: &BTreeMap::from([(MountPoint::root(), NEW.to_owned())]),
            swap_uuids: &[],
            labels: &BTreeMap::new(),
            source_root: &source_root,
            source_menu,
            source_fstab: None,
            new_machine: None,
            is_bootable: true,
        };
        let (root, devices) = (self.root(), [(self.node.clone(), Some(NEW.to_owned()))]);
        localize(&root, &change, &GrubSettings, &Inside::new(&root, &devices)).unwrap()
    }

    /// Checksums of all files on the ESP, the vendor's among them.
    fn esp(&self) -> String {
        sh(self.directory.path(), "find esp -type f | sort | xargs sha256sum")
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let directory = self.directory.path().display();
        let _ = Command::new("sh")
            .args([
                "-c",
                &format!(
                    "umount -R -l {directory}/root; losetup -d {}; rm -f {}",
                    self.device.display(),
                    self.node.display()
                ),
            ])
            .status();
    }
}

fn id() -> Id {
    "2f0c1a94-0000-4000-8000-000000000000".parse().unwrap()
}

/// Reinstalls every loader package, with a grub-install that only records that it was called.
fn reinstalling_leaves_the_vendors_directory(release: &str) {
    if !root() {
        return;
    }
    use_program(env!("CARGO_BIN_EXE_be"));
    let copy = Copy::of(release, release);
    copy.run(
        "apt-get -q update >/dev/null
        dpkg-divert --quiet --local --rename \
            --divert /usr/sbin/grub-install.real --add /usr/sbin/grub-install",
    );
    copy.write("usr/sbin/grub-install", "#!/bin/sh\necho \"$@\" >>/called\n");
    fs::set_permissions(
        copy.root().join("usr/sbin/grub-install"),
        fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    let reinstall = "apt-get -qy install --reinstall grub-efi-amd64 grub-efi-amd64-signed \
        shim-signed shim-signed-common shim-helpers-amd64-signed 2>&1";

    let before = copy.esp();
    copy.run(reinstall);
    assert!(
        copy.text("called").contains("--target=x86_64-efi"),
        "grub-install was not called before localizing: {release}"
    );
    fs::remove_file(copy.root().join("called")).unwrap();

    let Localized { done, warnings, shortfalls } = copy.localize(&BootMenu::default());
    assert_eq!((warnings, shortfalls), (Vec::new(), Vec::new()));
    assert!(!done.iter().any(|d| d.starts_with("initramfs rebuilt")), "{done:#?}");
    assert!(
        copy.text("boot/grub/grub.cfg")
            .contains(&format!("root=UUID={NEW} ro  noresume panic=30 quiet"))
    );
    assert!(!copy.text("boot/grub/grub.cfg").contains(OLD));
    assert_eq!(fs::metadata(copy.root().join("boot/grub/grubenv")).unwrap().len(), 1024);

    copy.run(reinstall);
    copy.run("dpkg-reconfigure -f noninteractive grub-efi-amd64 2>&1");
    copy.run("apt-get -qy remove shim-signed shim-helpers-amd64-signed 2>&1");
    assert_eq!(copy.text("called"), "", "{release}");
    assert_eq!(copy.esp(), before, "{release}");
    let answers = copy.run("debconf-show grub-efi-amd64");
    assert!(answers.contains("grub2/update_nvram: false"), "{answers}");
}

#[test]
fn the_menu_of_a_copy_has_its_own_root_and_the_kernel_of_its_source() {
    if !root() {
        return;
    }
    use_program(env!("CARGO_BIN_EXE_be"));
    let copy = Copy::of("bookworm", "pinned");
    // A newer kernel, and settings that pin the older one and bring a root of their own.
    let kernel = copy.run(
        "cd /boot; kernel=$(ls vmlinuz-*); old=${kernel#vmlinuz-}; cp $kernel vmlinuz-99; \
        cp initrd.img-$old initrd.img-99; printf %s $old",
    );
    let title = |os: &str| format!("Advanced options for {os}>{os}, with Linux {kernel}");
    let settings = |default: &str| {
        format!(
            "GRUB_DEFAULT=\"{default}\"\nGRUB_DISTRIBUTOR=Debian\nmore=root=/dev/sda2\n\
            GRUB_CMDLINE_LINUX=\"net.ifnames=0 \\\n    root=/dev/sda2\"\n\
            GRUB_CMDLINE_LINUX_DEFAULT=\"quiet $more\"\n"
        )
    };
    let mut block = EnvironmentBlock::new();
    block.set("saved_entry", &title("Debian GNU/Linux")).unwrap();
    let entry = MenuEntry { kernel: format!("vmlinuz-{kernel}"), ..MenuEntry::default() };
    let source_menu = BootMenu { default: Some(entry), variables: block, ..BootMenu::default() };
    for default in [title("Debian GNU/Linux").as_str(), "saved", "1>2"] {
        copy.write("etc/default/grub", &settings(default));
        let Localized { warnings, shortfalls, .. } = copy.localize(&source_menu);
        assert_eq!((warnings, shortfalls), (Vec::new(), Vec::new()), "{default}");
        let block = boot::grubenv::read(&copy.root().join("boot/grub/grubenv")).unwrap();
        let menu = copy.text("boot/grub/grub.cfg");
        let entry = boot::grub_cfg::default_entry(&menu, &block).unwrap();
        assert_eq!(entry.linux, format!("/boot/vmlinuz-{kernel}"), "{default}");
        let root = CommandLine::parse(&entry.options).get("root").map(str::to_owned);
        assert_eq!(root, Some(format!("UUID={NEW}")), "{default}: {}", entry.options);
    }
    copy.write("etc/default/grub", &settings("0"));
    let warnings = copy.localize(&source_menu).warnings;
    assert!(warnings[0].contains("vmlinuz-99") && warnings[0].contains(&kernel), "{warnings:?}");
}

#[test]
fn reinstalling_in_a_bookworm_leaves_the_vendors_directory() {
    reinstalling_leaves_the_vendors_directory("bookworm");
}

#[test]
#[ignore = "slow: see `make test-all`"]
fn reinstalling_in_a_trixie_leaves_the_vendors_directory() {
    reinstalling_leaves_the_vendors_directory("trixie");
}
