//! The kernels of a BE, and what its menu would start.
//!
//! Distributions name them differently: `vmlinuz-RELEASE` with `initrd.img-RELEASE` (Debian),
//! `initramfs-RELEASE.img` (Fedora, Gentoo) or `initrd-RELEASE` (openSUSE), `vmlinuz-linux` with
//! `initramfs-linux.img` (Arch), `vmlinuz-lts` with `initramfs-lts` (Alpine), `kernel-RELEASE`
//! (Gentoo), `vmlinuz-generic-RELEASE` with `initrd.gz` (Slackware).

use std::path::Path;

use boot::command_line::CommandLine;
use boot::menu::{BootMenu, WrittenIn, resolve};
use serde::{Deserialize, Serialize};

use super::boot_images;
use crate::root_dir::RootDir;

/// The most kernels that are read. A hostile /boot could have any number.
const MAX_KERNELS: usize = 64;

/// How the names of kernel images begin.
const PREFIXES: [&str; 4] = ["vmlinuz-", "vmlinux-", "kernel-", "bzImage-"];

/// The ends of names that are not of kernel images: openSUSE has a compressed vmlinux for
/// debuggers, others have checksums and signatures.
const NOT_IMAGES: [&str; 7] = [".gz", ".xz", ".zst", ".hmac", ".sig", ".config", ".img"];

/// The initramfs of any kernel, where there is one only.
const COMMON_INITRAMFS: [&str; 2] = ["initrd.gz", "initrd.img"];

/// A kernel in /boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// The release, as `uname -r` prints it.
    pub release: String,
    /// The path of the image in the BE.
    pub image: String,
    /// What is wrong with the image.
    pub image_problem: Option<String>,
    /// The path of the initramfs in the BE.
    pub initramfs: Option<String>,
    /// What is wrong with the initramfs.
    pub initramfs_problem: Option<String>,
    /// Whether /lib/modules has a directory for the release.
    pub modules: bool,
    /// The menu starts it without an initramfs, so it needs none.
    pub needs_no_initramfs: bool,
}

impl Kernel {
    /// Whether kernel, initramfs and modules exist and look undamaged.
    pub fn is_complete(&self) -> bool {
        self.image_problem.is_none()
            && (self.initramfs.is_some() || self.needs_no_initramfs)
            && self.initramfs_problem.is_none()
            && self.modules
    }
}

/// The menu of a BE.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Menu {
    /// Whether the BE has a loader that reads a menu, or that loader's directory.
    pub is_expected: bool,
    /// Whether there is a menu, and something in it.
    pub is_there: bool,
    /// Where it is written, or where it is missing.
    pub file: MenuFile,
    /// The entry that the menu starts if no key is pressed.
    pub default: Option<MenuEntry>,
}

/// A file of a menu.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MenuFile {
    /// Its form, as the codes of problems have it.
    pub form: String,
    /// Its name, as sentences have it.
    pub name: String,
}

/// A menu entry that starts a kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MenuEntry {
    /// Where it is written.
    pub file: MenuFile,
    /// The kernel, as the menu names it.
    pub kernel: String,
    /// The path of the kernel in the BE, if it exists.
    pub image: Option<String>,
    /// The paths of the initramfs images in the BE that exist.
    pub initramfs: Vec<String>,
    /// Initramfs images that do not exist.
    pub missing_initramfs: Vec<String>,
    /// `root=` of the command line.
    pub root: Option<String>,
    /// `resume=` of the command line.
    pub resume: Option<String>,
    /// The UUID of the file system on which it searches the kernel.
    pub search_uuid: Option<String>,
}

impl From<&WrittenIn> for MenuFile {
    fn from(file: &WrittenIn) -> Self {
        MenuFile { form: file.form().to_owned(), name: file.to_string() }
    }
}

/// What the menu would start.
pub(super) fn menu(root: &RootDir) -> Menu {
    let menu = BootMenu::read(root);
    Menu {
        is_expected: menu.is_expected,
        is_there: menu.is_there,
        file: MenuFile::from(&menu.written_in),
        default: menu.default.as_ref().map(|entry| described(root, entry)),
    }
}

fn described(root: &RootDir, entry: &boot::menu::MenuEntry) -> MenuEntry {
    let found = |path: &String| resolve(root, path);
    MenuEntry {
        file: MenuFile::from(&entry.written_in),
        image: found(&entry.kernel),
        initramfs: entry.initrds.iter().filter_map(found).collect(),
        missing_initramfs: entry.initrds.iter().filter(|p| found(p).is_none()).cloned().collect(),
        root: CommandLine::parse(&entry.options).get("root").map(str::to_owned),
        resume: CommandLine::parse(&entry.options).get("resume").map(str::to_owned),
        search_uuid: entry.search_uuid.clone(),
        kernel: entry.kernel.clone(),
    }
}

/// The kernels, newest first. The one that the menu starts is among them whatever its name is, and
/// has the initramfs that the menu gives it.
pub fn kernels(root: &RootDir, default: Option<&MenuEntry>) -> Vec<Kernel> {
    let names = root.names("boot").unwrap_or_default();
    let names: Vec<String> = names.into_iter().filter_map(|name| name.into_string().ok()).collect();
    let images = names.iter().filter(|name| is_image(name)).take(MAX_KERNELS);
    let mut paths: Vec<String> = images.map(|name| format!("boot/{name}")).collect();
    if let Some(image) = default.and_then(|entry| entry.image.clone())
        && !paths.contains(&image)
    {
        paths.push(image);
    }
    let mut kernels: Vec<Kernel> =
        paths.iter().filter_map(|path| kernel(root, path, &names, default)).collect();
    kernels.sort_by(|a, b| boot::bls::compare_versions(&b.release, &a.release));
    kernels
}

fn is_image(name: &str) -> bool {
    PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        && !NOT_IMAGES.iter().any(|end| name.ends_with(end))
}

fn kernel(
    root: &RootDir,
    image: &str,
    names: &[String],
    default: Option<&MenuEntry>,
) -> Option<Kernel> {
    let name = image.rsplit('/').next().unwrap_or(image);
    let suffix = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or_default();
    let (release, image_problem) = boot_images::kernel(root, image)?;
    let release = release.unwrap_or_else(|| suffix.to_owned());
    let started = default.filter(|entry| entry.image.as_deref() == Some(image));
    let initramfs = match started {
        // Those before the last one are microcode.
        Some(entry) if entry.missing_initramfs.is_empty() => entry.initramfs.last().cloned(),
        _ => initramfs_of(suffix, names),
    };
    Some(Kernel {
        initramfs_problem: initramfs
            .as_ref()
            .and_then(|path| boot_images::initramfs_problem(root, path)),
        needs_no_initramfs: started
            .is_some_and(|entry| entry.initramfs.is_empty() && entry.missing_initramfs.is_empty()),
        modules: has_modules(root, &release),
        release,
        image: image.to_owned(),
        image_problem,
        initramfs,
    })
}

fn initramfs_of(suffix: &str, names: &[String]) -> Option<String> {
    let own = [
        format!("initrd.img-{suffix}"),
        format!("initramfs-{suffix}.img"),
        format!("initrd-{suffix}"),
        format!("initramfs-{suffix}"),
        format!("initrd-{suffix}.img"),
    ];
    let own = own.iter().filter(|_| !suffix.is_empty()).map(String::as_str);
    own.chain(COMMON_INITRAMFS)
        .find(|wanted| names.iter().any(|name| name == wanted))
        .map(|name| format!("boot/{name}"))
}

fn has_modules(root: &RootDir, release: &str) -> bool {
    ["lib/modules", "usr/lib/modules"]
        .iter()
        .any(|directory| !release.is_empty() && root.exists(Path::new(directory).join(release)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::testing::debian_root;

    /// What Facts has of a tree with these files in /boot, the modules of a release, and a menu.
    fn found(
        files: &[&str],
        release: Option<&str>,
        menu_text: &str,
    ) -> (Vec<Kernel>, Option<MenuEntry>) {
        let directory = tempfile::tempdir().unwrap();
        debian_root(directory.path(), "", "1");
        let boot = directory.path().join("boot");
        let (kernel, initramfs) = {
            use crate::storage::testing::RELEASE;
            let read = |name: String| std::fs::read(boot.join(name)).unwrap();
            (read(format!("vmlinuz-{RELEASE}")), read(format!("initrd.img-{RELEASE}")))
        };
        std::fs::remove_dir_all(&boot).unwrap();
        std::fs::remove_dir_all(directory.path().join("usr/lib/modules")).unwrap();
        std::fs::create_dir_all(boot.join("grub")).unwrap();
        for name in files {
            let is_initramfs = name.starts_with("init");
            let mut bytes = if is_initramfs { initramfs.clone() } else { kernel.clone() };
            if let (false, Some(release)) = (is_initramfs, release) {
                let version = format!("{release} (maker)\0");
                bytes[0x500..0x500 + version.len()].copy_from_slice(version.as_bytes());
            }
            std::fs::write(boot.join(name), bytes).unwrap();
        }
        if let Some(release) = release {
            let modules = directory.path().join("usr/lib/modules").join(release);
            std::fs::create_dir_all(modules).unwrap();
        }
        if !menu_text.is_empty() {
            std::fs::write(boot.join("grub/grub.cfg"), menu_text).unwrap();
        }
        let root = RootDir::open(directory.path()).unwrap();
        let menu = menu(&root);
        (kernels(&root, menu.default.as_ref()), menu.default)
    }

    #[test]
    fn the_kernels_of_every_distribution_are_found() {
        let table: [(&str, &[&str], &str, &str); 8] = [
            ("Debian", &["vmlinuz-6.1-1", "initrd.img-6.1-1"], "6.1-1", "initrd.img-6.1-1"),
            ("Fedora", &["vmlinuz-6.1", "initramfs-6.1.img"], "6.1", "initramfs-6.1.img"),
            (
                "openSUSE",
                &["vmlinuz-6.4", "initrd-6.4", "vmlinux-6.4.xz", ".vmlinuz-6.4.hmac"],
                "6.4",
                "initrd-6.4",
            ),
            (
                "Arch",
                &["vmlinuz-linux", "initramfs-linux.img", "initramfs-linux-fallback.img"],
                "6.9.1-arch1-1",
                "initramfs-linux.img",
            ),
            ("Alpine", &["vmlinuz-lts", "initramfs-lts"], "6.6.31-0-lts", "initramfs-lts"),
            (
                "Gentoo",
                &["kernel-6.6-gentoo-dist", "initramfs-6.6-gentoo-dist.img"],
                "6.6-gentoo-dist",
                "initramfs-6.6-gentoo-dist.img",
            ),
            (
                "genkernel",
                &["kernel-genkernel-x86_64-5.15", "initramfs-genkernel-x86_64-5.15"],
                "5.15",
                "initramfs-genkernel-x86_64-5.15",
            ),
            ("Slackware", &["vmlinuz-generic-5.15.160", "initrd.gz"], "5.15.160", "initrd.gz"),
        ];
        for (name, files, release, initramfs) in table {
            let (kernels, _) = found(files, Some(release), "");
            let [kernel] = &kernels[..] else { panic!("{name}: {kernels:?}") };
            assert_eq!(kernel.release, release, "{name}");
            assert_eq!(kernel.initramfs, Some(format!("boot/{initramfs}")), "{name}");
            assert!(kernel.is_complete(), "{name}: {kernel:?}");
        }
    }

    #[test]
    fn what_the_menu_starts_is_a_kernel_whatever_its_name() {
        let menu = |initrd: &str| {
            format!("menuentry 'mine' {{\nlinux /boot/mine root=/dev/sda2 ro\n{initrd}\n}}\n")
        };
        let (kernels, entry) =
            found(&["mine", "initramfs-mine"], Some("6.9"), &menu("initrd /boot/initramfs-mine"));
        let [kernel] = &kernels[..] else { panic!("{kernels:?}") };
        assert_eq!((kernel.image.as_str(), kernel.release.as_str()), ("boot/mine", "6.9"));
        assert!(kernel.is_complete() && !kernel.needs_no_initramfs, "{kernel:?}");
        assert_eq!(entry.unwrap().root.as_deref(), Some("/dev/sda2"));
        // And one that is started without an initramfs needs none.
        let (kernels, _) = found(&["mine"], Some("6.9"), &menu(""));
        assert!(kernels[0].is_complete() && kernels[0].needs_no_initramfs, "{kernels:?}");
        // An initramfs that is missing is not one that is not needed.
        let (kernels, entry) = found(&["mine"], Some("6.9"), &menu("initrd /boot/gone"));
        assert!(!kernels[0].is_complete(), "{kernels:?}");
        assert_eq!(entry.unwrap().missing_initramfs, ["/boot/gone"]);
    }
}
