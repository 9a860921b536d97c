use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use boot::grubenv::EnvironmentBlock;
use boot::menu::{BootMenu, MenuEntry};

use super::*;
use crate::environment::FileSystemUse;
use crate::environment::Root;
use crate::layout::{Layout, MountPoint};
use crate::layout::{Placement, lay_out};
use crate::loader::grub::GrubSettings;
use crate::localize::identity::NewMachine;
use crate::own_files::PROGRAM_PATH;
use crate::root_dir::testing::tree;
use crate::storage::provision::Provision;

const SETTINGS: &str = "etc/default/grub.d/lifeboat.cfg";
const MENU: &str = "boot/grub/grub.cfg";

/// The menu of a source whose default entry starts this kernel.
fn source_menu(kernel: &str, variables: EnvironmentBlock) -> BootMenu {
    let default = Some(MenuEntry { kernel: kernel.into(), ..MenuEntry::default() });
    BootMenu { default, variables, ..BootMenu::default() }
}

const OLD: &str = "9a2b8c1e-5c5f-4b5e-8d5e-0f6f2d1c7a11";
const NEW: &str = "11111111-2222-4333-8444-555555555555";

/// The fstab of Debian's installer, with lines of an administrator.
const FSTAB: &str = "\
# /etc/fstab: static file system information.
UUID=9a2b8c1e-5c5f-4b5e-8d5e-0f6f2d1c7a11 /               ext4    errors=remount-ro 0       1
# /boot/efi was on /dev/sda1 during installation
UUID=7A1B-22C3  /boot/efi       vfat    umask=0077      0       1
LABEL=usr       /usr            ext4    defaults        0       2
LABEL=home      /home           xfs     noatime         0       2
UUID=0d9f0f4e-1111-4c8e-a1fd-0123456789ab none            swap    sw              0       0
/swapfile       none            swap    sw,pri=1        0       0
tmpfs /tmp tmpfs nosuid,size=1G 0 0
";

/// Programs that record their command lines. update-grub also writes grub.cfg.
struct Recorder {
    root: PathBuf,
    grub_cfg: String,
    asked: RefCell<Vec<String>>,
}

impl Programs for Recorder {
    fn capture(&self, command: &[&OsStr]) -> Result<Vec<u8>> {
        self.asked.borrow_mut().push(command.join(OsStr::new(" ")).into_string().unwrap());
        let menu = match command[0].to_str() {
            Some("update-grub") => "boot/grub/grub.cfg",
            Some("grub2-mkconfig") => "boot/grub2/grub.cfg",
            _ => return Ok(Vec::new()),
        };
        fs::create_dir_all(self.root.join(menu).parent().unwrap()).unwrap();
        fs::write(self.root.join(menu), &self.grub_cfg).unwrap();
        Ok(Vec::new())
    }
}

/// A copy of a Debian as the copy engine leaves it, as far as it matters here.
struct Copied {
    directory: tempfile::TempDir,
    layout: Layout,
    uuids: BTreeMap<MountPoint, String>,
    labels: BTreeMap<String, String>,
    source_root: Root,
    swap_uuids: Vec<String>,
}

impl Copied {
    fn with(placements: &[&str]) -> Self {
        let fstab = Fstab::parse(FSTAB);
        let line = |e: &crate::fstab::Entry| FileSystemUse {
            mountpoint: e.mountpoint(),
            spec: e.spec(),
            device: None,
            fs_type: e.fs_type(),
            options: e.options(),
            size: None,
            shared: false,
        };
        let source: Vec<FileSystemUse> = fstab.entries().map(line).collect();
        let find = |node: &String| Ok(Provision::example(node));
        let placements: Vec<_> = placements
            .iter()
            .map(|text| text.parse::<Placement>().unwrap().resolve(find).unwrap())
            .collect();
        let layout = lay_out(&source, &[], &placements).unwrap();
        let uuid = |(n, t): (usize, &crate::layout::TargetFileSystem)| {
            let uuid = if n == 0 { NEW.to_owned() } else { format!("uuid-of-{}", t.mountpoint) };
            (t.mountpoint.clone(), uuid)
        };
        let uuids = layout.file_systems.iter().enumerate().map(uuid).collect();
        let (directory, _root) = tree(&[
            ("etc/fstab", FSTAB),
            ("etc/os-release", "ID=debian\nNAME=\"Debian GNU/Linux\"\n"),
            ("etc/grub.d/10_linux", "#!/bin/sh\n"),
            ("etc/default/grub", "GRUB_DEFAULT=0\nGRUB_CMDLINE_LINUX=\"root=LABEL=root\"\n"),
            ("etc/initramfs-tools/initramfs.conf", "MODULES=most\n"),
            ("boot/grub/x86_64-efi/core.efi", "MZ"),
            ("usr/bin/debconf-set-selections", ""),
            ("usr/sbin/update-grub", ""),
            ("usr/sbin/update-initramfs", ""),
        ]);
        let source_root = Root {
            device: "/dev/vda2".into(),
            fs_type: "ext4".into(),
            uuid: OLD.into(),
            subvolume: None,
            disk: "/dev/vda".into(),
        };
        let labels = [("LABEL=home", "home-uuid"), ("LABEL=usr", "usr-uuid")];
        let labels = labels.map(|(l, u)| (l.to_owned(), u.to_owned())).into();
        let swap_uuids = layout.swap.iter().map(|_| "swap-uuid".to_owned()).collect();
        Copied { directory, layout, uuids, labels, source_root, swap_uuids }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    fn localize_with(
        &self,
        grub_cfg: &str,
        new_machine: Option<&NewMachine>,
    ) -> (Result<Localized>, Vec<String>) {
        self.localize_as(grub_cfg, &BootMenu::default(), new_machine, true)
    }

    fn localize_as(
        &self,
        grub_cfg: &str,
        source_menu: &BootMenu,
        new_machine: Option<&NewMachine>,
        is_bootable: bool,
    ) -> (Result<Localized>, Vec<String>) {
        let programs = Recorder {
            root: self.directory.path().to_owned(),
            grub_cfg: grub_cfg.to_owned(),
            asked: RefCell::default(),
        };
        let change = Localization {
            id: "2f0c1a94-0000-4000-8000-000000000000".parse().unwrap(),
            layout: &self.layout,
            uuids: &self.uuids,
            swap_uuids: &self.swap_uuids,
            labels: &self.labels,
            source_root: &self.source_root,
            source_menu,
            source_fstab: None,
            new_machine,
            is_bootable,
        };
        let done = localize(self.directory.path(), &change, &GrubSettings, &programs);
        (done, programs.asked.into_inner())
    }

    fn localize(&self) -> Vec<String> {
        let (done, asked) =
            self.localize_with(&entry(&format!("/boot/vmlinuz-6.1 root=UUID={NEW} ro")), None);
        done.unwrap();
        asked
    }
}

/// A grub.cfg with one entry.
fn entry(linux: &str) -> String {
    format!("menuentry 'Debian' {{\n\tlinux\t{linux}\n}}\n")
}

/// All files and symlinks below a directory, sorted.
fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().map(|e| e.unwrap()) {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files_below(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found.sort();
    found
}

#[test]
fn a_merged_file_system_leaves_fstab_and_other_lines_are_kept() {
    let copied = Copied::with(&["/:/dev/vdb1:ext4"]);
    copied.localize();
    assert_eq!(
        copied.text("etc/fstab"),
        "\
# /etc/fstab: static file system information.
UUID=11111111-2222-4333-8444-555555555555 /               ext4    errors=remount-ro 0       1
# /boot/efi was on /dev/sda1 during installation
UUID=7A1B-22C3  /boot/efi       vfat    umask=0077      0       1
UUID=home-uuid      /home           xfs     noatime         0       2
UUID=0d9f0f4e-1111-4c8e-a1fd-0123456789ab none            swap    sw              0       0
# Lifeboat does not copy swap files. To use one, run mkswap and uncomment the line.
#/swapfile       none            swap    sw,pri=1        0       0
tmpfs /tmp tmpfs nosuid,size=1G 0 0
"
    );
}

#[test]
fn new_file_systems_and_own_swap_are_added_to_fstab() {
    let copied = Copied::with(&[
        "/:/dev/vdb1:xfs",
        "/usr:/dev/vdb2:btrfs",
        "/var:/dev/vdb3:ext4:nodev",
        "/home:/dev/vdb5:ext4",
        "-:/dev/vdb4:swap",
    ]);
    let asked = copied.localize();
    assert_eq!(
        copied.text("etc/fstab"),
        "\
# /etc/fstab: static file system information.
UUID=11111111-2222-4333-8444-555555555555 /               xfs    defaults 0       0
# /boot/efi was on /dev/sda1 during installation
UUID=7A1B-22C3  /boot/efi       vfat    umask=0077      0       1
UUID=uuid-of-/usr       /usr            btrfs    defaults        0       0
UUID=uuid-of-/home      /home           ext4     noatime         0       2
tmpfs /tmp tmpfs nosuid,size=1G 0 0
UUID=uuid-of-/var /var ext4 nodev 0 2
UUID=swap-uuid none swap sw 0 0
"
    );
    assert_eq!(copied.text("etc/initramfs-tools/conf.d/resume"), "RESUME=UUID=swap-uuid\n");
    assert!(asked.contains(&"update-initramfs -u -k all".to_owned()), "{asked:?}");
}

#[test]
fn localizing_twice_has_the_same_result() {
    let copied = Copied::with(&["/:/dev/vdb1:ext4", "/var:/dev/vdb3:ext4"]);
    let first = copied.localize();
    let fstab = copied.text("etc/fstab");
    let second = copied.localize();
    assert_eq!(copied.text("etc/fstab"), fstab);
    assert_eq!(first, second);
    assert!(
        !first.iter().any(|c| c.starts_with("update-initramfs")),
        "the command line turns resume off"
    );
    assert!(copied.text(SETTINGS).contains("'noresume'"));
}

#[test]
fn loader_packages_are_kept_from_writing_to_the_esp() {
    let copied = Copied::with(&["/:/dev/vdb1:ext4"]);
    let asked = copied.localize();
    let settings = copied.text(SETTINGS);
    assert!(settings.contains("GRUB_DISTRIBUTOR=\"lifeboat-2f0c1a94 Debian\""), "{settings}");
    assert!(
        copied
            .text("etc/default/grub")
            .contains(&format!("GRUB_CMDLINE_LINUX=\"root=UUID={NEW}\""))
    );
    assert!(!copied.path("boot/grub/x86_64-efi/core.efi").exists());
    assert!(asked[0].contains("grub-efi-amd64 grub2/update_nvram boolean false"), "{asked:?}");
    assert_eq!(asked.last().unwrap(), "update-grub");
    assert_eq!(fs::read(copied.path("boot/grub/grubenv")).unwrap().len(), 1024);
}

#[test]
fn a_grub_cfg_that_still_boots_the_source_is_an_error() {
    let copied = Copied::with(&["/:/dev/vdb1:ext4"]);
    let (done, _) = copied.localize_with(&entry(&format!("/boot/vmlinuz root=UUID={OLD}")), None);
    let message = done.unwrap_err().to_string();
    assert!(message.contains("boot/grub/grub.cfg") && message.contains(OLD), "{message}");
}

#[test]
fn without_a_boot_entry_a_menu_that_cannot_be_made_is_a_shortfall() {
    let copied = Copied::with(&["/:/dev/vdb1:ext4"]);
    let menu = entry(&format!("/boot/vmlinuz root=UUID={OLD}"));
    let shortfalls = |copied: &Copied, menu: &str| {
        let (done, _) = copied.localize_as(menu, &BootMenu::default(), None, false);
        done.unwrap().shortfalls
    };
    let [shortfall] = &shortfalls(&copied, &menu)[..] else { panic!() };
    assert!(shortfall.contains("boot menu") && shortfall.contains(OLD), "{shortfall}");
    assert!(shortfalls(&copied, "# no kernel\n")[0].contains("no menu entry"));
    fs::remove_file(copied.path("usr/sbin/update-grub")).unwrap();
    assert!(shortfalls(&copied, &menu)[0].contains("grub2-mkconfig"));
    assert!(copied.text("etc/fstab").contains(NEW));
}

#[test]
fn an_initramfs_for_another_file_system_is_made_or_its_lack_is_said() {
    let programs = [
        ("usr/sbin/update-initramfs", "update-initramfs -u -k all"),
        ("usr/bin/dracut", "dracut --no-hostonly --regenerate-all --force"),
        ("usr/bin/mkinitcpio", "mkinitcpio -P"),
    ];
    let menu = entry(&format!("/boot/vmlinuz root=UUID={NEW}"));
    for (path, command) in programs {
        let copied = Copied::with(&["/:/dev/vdb1:xfs"]);
        fs::remove_file(copied.path("usr/sbin/update-initramfs")).unwrap();
        fs::create_dir_all(copied.path("usr/bin")).unwrap();
        fs::write(copied.path(path), "").unwrap();
        let (done, asked) = copied.localize_with(&menu, None);
        assert!(done.unwrap().warnings.is_empty(), "{path}");
        assert!(asked.contains(&command.to_owned()), "{path}: {asked:?}");
    }
    let copied = Copied::with(&["/:/dev/vdb1:xfs"]);
    fs::remove_file(copied.path("usr/sbin/update-initramfs")).unwrap();
    let (done, _) = copied.localize_with(&menu, None);
    let warnings = done.unwrap().warnings;
    assert!(warnings[0].contains("another type of file system"), "{warnings:?}");
}

#[test]
fn a_system_of_fedora_gets_a_menu_of_its_own() {
    let copied = Copied::with(&["/:/dev/vdb1:ext4"]);
    fs::remove_file(copied.path("usr/sbin/update-grub")).unwrap();
    let put = |path: &str, text: &str| {
        fs::create_dir_all(copied.path(path).parent().unwrap()).unwrap();
        fs::write(copied.path(path), text).unwrap();
    };
    put("usr/sbin/grub2-mkconfig", "#!/bin/sh\n. ${sysconfdir}/default/grub\n");
    let entry = "boot/loader/entries/0123-6.9.conf";
    put(
        entry,
        &format!("linux /vmlinuz-6.9\noptions root=UUID={OLD} ro rootflags=subvol=root rhgb\n"),
    );
    let older = "boot/loader/entries/0123-6.8.conf";
    put(older, "linux /vmlinuz-6.8\noptions $kernelopts $tuned_params\n");
    let mut block = EnvironmentBlock::new();
    for (name, value) in [
        ("saved_entry", "0123-6.8"),
        ("kernelopts", &format!("root=UUID={OLD} ro rhgb")),
        ("boot_success", "1"),
    ] {
        block.set(name, value).unwrap();
    }
    let source_menu = source_menu("vmlinuz-6.8", block);
    let cfg = "load_env\nset default=\"${saved_entry}\"\nblscfg\n";
    let (done, asked) = copied.localize_as(cfg, &source_menu, None, true);
    let done = done.unwrap();
    assert!(done.warnings.is_empty() && done.shortfalls.is_empty(), "{done:?}");
    assert_eq!(asked.last().unwrap(), "grub2-mkconfig -o /boot/grub2/grub.cfg");
    assert_eq!(
        copied.text(entry),
        format!("linux /vmlinuz-6.9\noptions root=UUID={NEW} ro rhgb panic=30 noresume\n")
    );
    assert_eq!(copied.text(older), "linux /vmlinuz-6.8\noptions $kernelopts $tuned_params\n");
    let block = boot::grubenv::read(&copied.path("boot/grub2/grubenv")).unwrap();
    assert_eq!(block.get("saved_entry"), Some("0123-6.8"));
    assert_eq!(
        block.get("kernelopts").unwrap(),
        format!("root=UUID={NEW} ro rhgb panic=30 noresume")
    );
    assert_eq!(block.get("boot_success"), None);
    assert!(copied.text("etc/default/grub").contains("/etc/default/grub.d/lifeboat.cfg"));
}

#[test]
fn the_copy_starts_the_kernel_that_its_source_starts() {
    let copied = Copied::with(&["/:/dev/vdb1:ext4"]);
    let titles = "Advanced options for Debian GNU/Linux>Debian GNU/Linux, with Linux 6.1.0-18";
    let mut block = EnvironmentBlock::new();
    block.set("saved_entry", titles).unwrap();
    let source_menu = source_menu("vmlinuz-6.1.0-18", block);
    let linux = |kernel: &str| entry(&format!("/boot/{kernel} root=UUID={NEW} ro"));
    let (done, _) = copied.localize_as(&linux("vmlinuz-6.1.0-18"), &source_menu, None, true);
    assert_eq!(done.unwrap().warnings, [""; 0]);
    let block = boot::grubenv::read(&copied.path("boot/grub/grubenv")).unwrap();
    assert_eq!(
        block.get("saved_entry").unwrap(),
        "Advanced options for lifeboat-2f0c1a94 Debian GNU/Linux>lifeboat-2f0c1a94 Debian \
        GNU/Linux, with Linux 6.1.0-18"
    );
    let (done, _) = copied.localize_as(&linux("vmlinuz-6.1.0-21"), &source_menu, None, true);
    let warnings = done.unwrap().warnings;
    assert!(warnings[0].contains("6.1.0-21") && warnings[0].contains("6.1.0-18"), "{warnings:?}");
}

#[test]
fn bytes_that_are_not_text_stay_as_they_are() {
    let copied = Copied::with(&["/:/dev/vdb1:ext4"]);
    for path in ["etc/fstab", "etc/default/grub", "etc/initramfs-tools/conf.d/resume"] {
        fs::create_dir_all(copied.path(path).parent().unwrap()).unwrap();
        let old = fs::read(copied.path(path)).unwrap_or_default();
        fs::write(copied.path(path), [b"# disque d\xe9di\xe9\n", &old[..]].concat()).unwrap();
    }
    copied.localize();
    for (path, words) in [
        ("etc/fstab", NEW),
        ("etc/default/grub", NEW),
        ("etc/initramfs-tools/conf.d/resume", "none"),
    ] {
        let new = fs::read(copied.path(path)).unwrap();
        assert!(new.starts_with(b"# disque d\xe9di\xe9\n"), "{path}");
        assert!(String::from_utf8_lossy(&new).contains(words), "{path}");
    }
}

#[test]
fn every_file_of_kernel_parameters_names_the_copy() {
    let copied = Copied::with(&["/:/dev/vdb1:ext4"]);
    let put = |path: &str, text: &str| {
        fs::create_dir_all(copied.path(path).parent().unwrap()).unwrap();
        fs::write(copied.path(path), text).unwrap();
    };
    put("etc/kernel/cmdline", "# root on the NVMe\nroot=UUID=8941c6ec rw\n# quiet boot\nquiet\n");
    put("etc/cmdline.d/root.conf", "root=UUID=8941c6ec rw\n");
    put("etc/cmdline.d/notes.txt", "root=UUID=8941c6ec\n");
    put("etc/cmdline", "root=LABEL=x\n");
    copied.localize();
    assert_eq!(
        copied.text("etc/kernel/cmdline"),
        format!("# root on the NVMe\nroot=UUID={NEW} rw panic=30 noresume\n# quiet boot\nquiet\n")
    );
    assert_eq!(copied.text("etc/cmdline.d/root.conf"), format!("root=UUID={NEW} rw\n"));
    assert_eq!(copied.text("etc/cmdline.d/notes.txt"), "root=UUID=8941c6ec\n");
    assert_eq!(copied.text("etc/cmdline"), format!("root=UUID={NEW}\n"));
}

#[test]
fn a_symlink_out_of_the_copy_is_not_followed() {
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("fstab");
    fs::write(&victim, FSTAB).unwrap();
    let copied = Copied::with(&["/:/dev/vdb1:ext4"]);
    fs::remove_file(copied.path("etc/fstab")).unwrap();
    std::os::unix::fs::symlink(&victim, copied.path("etc/fstab")).unwrap();
    copied.localize();
    assert_eq!(fs::read_to_string(&victim).unwrap(), FSTAB);
    assert!(copied.text("etc/fstab").contains(NEW));
}

#[test]
fn a_new_machine_has_an_identity_of_its_own() {
    let copied = Copied::with(&["/:/dev/vdb1:ext4"]);
    for (path, text) in [
        ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
        ("etc/hostname", "old\n"),
        ("etc/hosts", "127.0.0.1 localhost\n127.0.1.1 old\n"),
        ("etc/ssh/ssh_host_ed25519_key", "secret"),
        ("etc/ssh/sshd_config", "Port 22\n"),
        ("usr/bin/ssh-keygen", ""),
    ] {
        fs::create_dir_all(copied.path(path).parent().unwrap()).unwrap();
        fs::write(copied.path(path), text).unwrap();
    }
    let machine = NewMachine { hostname: Some("new".into()) };
    let (done, asked) =
        copied.localize_with(&entry(&format!("/vmlinuz root=UUID={NEW}")), Some(&machine));
    done.unwrap();
    assert_eq!(
        (copied.text("etc/machine-id"), copied.text("etc/hostname")),
        (String::new(), "new\n".into())
    );
    assert_eq!(copied.text("etc/hosts"), "127.0.0.1 localhost\n127.0.1.1 new\n");
    assert!(
        !copied.path("etc/ssh/ssh_host_ed25519_key").exists()
            && copied.path("etc/ssh/sshd_config").exists()
    );
    assert!(asked.contains(&"ssh-keygen -A".to_owned()));
}

fn root_of(copied: &Copied) -> RootDir {
    RootDir::open(copied.directory.path()).unwrap()
}

#[test]
fn adopting_adds_its_files_and_changes_only_the_menu() {
    let copied = Copied::with(&["/:/dev/vdb1:ext4"]);
    let default = copied.text("etc/default/grub");
    root_of(&copied).write(MENU, b"linux /boot/vmlinuz root=UUID=a ro\n", 0o444).unwrap();
    let before = files_below(copied.directory.path());
    adopt(&root_of(&copied), &GrubSettings, Path::new("/proc/self/exe")).unwrap();
    GrubSettings.adopt_menu(&root_of(&copied)).unwrap();
    assert_eq!(copied.text(MENU), "linux /boot/vmlinuz root=UUID=a ro panic=30\n");
    let mut listed: Vec<PathBuf> = adopted_files(&root_of(&copied), &GrubSettings)
        .iter()
        .map(|path| copied.path(path))
        .collect();
    listed.sort();
    let added: Vec<PathBuf> = files_below(copied.directory.path())
        .into_iter()
        .filter(|path| !before.contains(path))
        .collect();
    assert_eq!(added, listed);
    let program = fs::metadata(copied.path(PROGRAM_PATH)).unwrap();
    assert_eq!(program.permissions().mode() & 0o7777, 0o755);
    let settings = copied.text(SETTINGS);
    assert!(settings.contains("panic=30") && !settings.contains("DISTRIBUTOR"), "{settings}");
    assert_eq!(
        (copied.text("etc/default/grub"), copied.text("etc/fstab")),
        (default, FSTAB.to_owned())
    );
}
