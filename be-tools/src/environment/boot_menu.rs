//! The boot menu of a BE, read from its files and never run: boot loader entries (UAPI.1), and
//! GRUB's grub.cfg, which may include them (`blscfg`, Fedora and RHEL).

use std::fmt;
use std::path::{Path, PathBuf};

use boot::bls;
use boot::grub_cfg::{self, Menu};
use boot::grubenv::EnvironmentBlock;

use crate::root_dir::RootDir;

/// The directories of GRUB's menu and environment block: that of most distributions, and that of
/// Fedora and openSUSE.
pub const GRUB_DIRECTORIES: [&str; 2] = ["boot/grub", "boot/grub2"];

/// The directory of the entries that GRUB's `blscfg` reads.
pub const ENTRIES: &str = "boot/loader/entries";

/// The other directories of boot loader entries: on an ESP.
const ESP_ENTRIES: [&str; 2] = ["efi/loader/entries", "boot/efi/loader/entries"];

/// The most boot loader entries that are read. A hostile directory could have any number.
const MAX_ENTRIES: usize = 256;

/// Where an entry is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WrittenIn {
    /// A file of its own, with this name.
    BootLoaderEntry(String),
    /// A grub.cfg, as a path in the root.
    GrubCfg(PathBuf),
}

/// A menu entry that starts a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MenuEntry {
    /// Where it is written.
    pub written_in: WrittenIn,
    /// What the menu shows.
    pub title: String,
    /// The kernel, as the menu names it: [`resolve`] finds the file.
    pub kernel: String,
    /// The initramfs images, in order, in the same form.
    pub initrds: Vec<String>,
    /// The kernel command line.
    pub options: String,
    /// The UUID of the file system on which GRUB searches the kernel.
    pub search_uuid: Option<String>,
}

/// The boot menu of a BE.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootMenu {
    /// There is a grub.cfg.
    pub has_grub_cfg: bool,
    /// There is something in it.
    pub is_grub_configured: bool,
    /// The entry of grub.cfg that boots if no key is pressed. Where that starts no kernel, the
    /// first one that does.
    pub grub_default: Option<MenuEntry>,
    /// The entries to start the BE with, the best one first.
    pub entries: Vec<MenuEntry>,
}

impl BootMenu {
    /// Reads the menu of the BE whose root directory is `root`. What cannot be read counts as
    /// missing.
    pub fn read(root: &RootDir) -> Self {
        let directory = GRUB_DIRECTORIES
            .into_iter()
            .find(|directory| root.exists(Path::new(directory).join("grub.cfg")));
        let cfg = directory.map(|directory| Path::new(directory).join("grub.cfg"));
        let text = cfg.as_ref().map(|cfg| root.text(cfg).ok().flatten());
        let own = boot_loader_entries(root, ENTRIES);
        let block = environment_block(root, directory);
        let script = text.clone().flatten().unwrap_or_default();
        let menu = Menu::parse_with_entries(&script, &block, &own);
        let of_grub = |entry: &grub_cfg::Entry| MenuEntry::of_grub(entry, cfg.as_deref());
        // One that starts something else, such as another system, is not to start this one.
        let first = || menu.entries().into_iter().next();
        let grub_default = menu.default_entry().or_else(first).map(of_grub);
        let included: Vec<MenuEntry> =
            menu.entries().into_iter().filter(|e| e.entry_file.is_some()).map(of_grub).collect();
        let mut entries = Vec::new();
        if included.is_empty() {
            let on_esp = ESP_ENTRIES.iter().flat_map(|path| boot_loader_entries(root, path));
            entries.extend(by_themselves(own.iter().cloned().chain(on_esp), &menu, &block));
            entries.extend(grub_default.clone());
        } else {
            entries.extend(grub_default.clone());
            entries.extend(included.into_iter().filter(|e| Some(e) != grub_default.as_ref()));
        }
        BootMenu {
            has_grub_cfg: cfg.is_some(),
            // A grub.cfg that cannot be read is not empty.
            is_grub_configured: text.is_some_and(|t| t.is_none_or(|t| !t.trim().is_empty())),
            grub_default,
            entries,
        }
    }

    /// The entry that its own loader starts if no key is pressed, as far as that is known.
    pub fn default_entry(&self) -> Option<&MenuEntry> {
        if self.has_grub_cfg { self.grub_default.as_ref() } else { self.entries.first() }
    }
}

impl MenuEntry {
    /// The file name of the kernel.
    pub fn kernel_name(&self) -> &str {
        self.kernel.rsplit('/').next().unwrap_or(&self.kernel)
    }

    fn of_grub(entry: &grub_cfg::Entry, cfg: Option<&Path>) -> Self {
        MenuEntry {
            written_in: match &entry.entry_file {
                Some(file) => WrittenIn::BootLoaderEntry(file.clone()),
                None => WrittenIn::GrubCfg(cfg.unwrap_or(Path::new("grub.cfg")).to_owned()),
            },
            title: entry.title.clone(),
            kernel: entry.linux.clone(),
            initrds: entry.initrd.clone(),
            options: entry.options.clone(),
            search_uuid: entry.root_uuid.clone(),
        }
    }

    fn of_file(entry: &bls::Entry) -> Option<Self> {
        Some(MenuEntry {
            written_in: WrittenIn::BootLoaderEntry(entry.file_name()),
            title: entry.title.clone().unwrap_or_else(|| entry.id.clone()),
            kernel: entry.linux.clone()?,
            initrds: entry.initrd.clone(),
            options: entry.options.clone(),
            search_uuid: None,
        })
    }
}

impl fmt::Display for MenuEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.written_in {
            WrittenIn::BootLoaderEntry(file) => write!(f, "the boot loader entry {file}"),
            WrittenIn::GrubCfg(path) => write!(f, "/{}: {}", path.display(), self.title),
        }
    }
}

/// The variables of the BE's environment block, which may be there without a grub.cfg: RHEL 8 has
/// that on the ESP.
pub fn environment_block(root: &RootDir, directory: Option<&str>) -> EnvironmentBlock {
    let others = GRUB_DIRECTORIES.into_iter().filter(|other| Some(*other) != directory);
    let read = |directory: &str| root.read(Path::new(directory).join("grubenv")).ok().flatten();
    directory
        .into_iter()
        .chain(others)
        .find_map(read)
        .and_then(|bytes| EnvironmentBlock::parse(&bytes).ok())
        .unwrap_or_default()
}

/// Turns a path in a loader's configuration, which begins at the top of the file system that holds
/// /boot, into a path in the BE. That is the same path, or one below /boot if /boot is a file
/// system of its own, or the path without the subvolume that it begins with.
pub fn resolve(root: &RootDir, path: &str) -> Option<String> {
    let path =
        path.strip_prefix('(').and_then(|p| p.split_once(')')).map_or(path, |(_, rest)| rest);
    let path = path.trim_start_matches('/');
    let in_boot = format!("boot/{path}");
    let below_subvolume = path.find("boot/").map(|at| path[at..].to_owned());
    [Some(path.to_owned()), Some(in_boot), below_subvolume].into_iter().flatten().find(
        |candidate| root.metadata(candidate).is_ok_and(|found| found.is_some_and(|m| m.is_file())),
    )
}

fn boot_loader_entries(root: &RootDir, directory: &str) -> Vec<bls::Entry> {
    let names = root.names(directory).unwrap_or_default();
    let names = names.iter().filter_map(|name| name.to_str());
    names
        .filter(|name| name.ends_with(".conf"))
        .take(MAX_ENTRIES)
        .filter_map(|name| {
            let text = root.text(format!("{directory}/{name}")).ok().flatten()?;
            bls::Entry::parse(name, &text)
        })
        .collect()
}

/// The entries of a loader that reads them itself, in the order of its menu. Those that were
/// written for GRUB have its variables, and its saved entry is the default.
fn by_themselves(
    entries: impl Iterator<Item = bls::Entry>,
    menu: &Menu,
    block: &EnvironmentBlock,
) -> Vec<MenuEntry> {
    let value = |name: &str| {
        let found = block.get(name).or(menu.variables.get(name).map(String::as_str));
        found.unwrap_or_default().to_owned()
    };
    let mut entries: Vec<_> = entries.map(|entry| entry.with_variables(value)).collect();
    bls::sort(&mut entries);
    let saved = block.get("saved_entry").unwrap_or_default();
    entries.sort_by_key(|entry| entry.id != saved || entry.is_bad());
    entries.iter().filter_map(MenuEntry::of_file).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root_dir::testing::tree;

    fn block(variables: &[(&str, &str)]) -> String {
        let mut block = EnvironmentBlock::new();
        for (name, value) in variables {
            block.set(name, value).unwrap();
        }
        String::from_utf8(block.to_bytes().unwrap().to_vec()).unwrap()
    }

    const OLD: &str = "boot/loader/entries/0123-4.18.0-80.conf";
    const NEW: &str = "boot/loader/entries/0123-4.18.0-553.conf";
    const ENTRY: &str = "title RHEL\nlinux /vmlinuz-4\ninitrd /initramfs-4.img $tuned_initrd\n\
        options $kernelopts $tuned_params\n";

    #[test]
    fn entries_without_a_grub_cfg_have_the_variables_of_grubenv() {
        let block = block(&[("kernelopts", "root=UUID=1 ro"), ("saved_entry", "0123-4.18.0-80")]);
        let (_directory, root) = tree(&[
            (OLD, ENTRY),
            (NEW, ENTRY),
            ("boot/grub2/grubenv", &block),
            ("boot/loader/entries/notes.txt", "linux /x"),
        ]);
        let menu = BootMenu::read(&root);
        assert!(!menu.has_grub_cfg && menu.grub_default.is_none());
        let first = menu.default_entry().unwrap();
        assert_eq!(first.options, "root=UUID=1 ro");
        assert_eq!(first.initrds, ["/initramfs-4.img"]);
        assert_eq!(first.to_string(), "the boot loader entry 0123-4.18.0-80.conf");
        assert_eq!(menu.entries.len(), 2);
    }

    #[test]
    fn a_grub_cfg_with_blscfg_has_the_entries_and_chooses_one() {
        let cfg = "load_env\nset default=\"${saved_entry}\"\nblscfg\n";
        let saved = block(&[("saved_entry", "0123-4.18.0-80"), ("kernelopts", "root=UUID=2")]);
        let files = [(OLD, ENTRY), (NEW, ENTRY), ("boot/grub2/grub.cfg", cfg)];
        let (_directory, root) = tree(&[&files[..], &[("boot/grub2/grubenv", &saved)]].concat());
        let menu = BootMenu::read(&root);
        assert!(menu.has_grub_cfg && menu.is_grub_configured);
        let default = menu.default_entry().unwrap();
        assert_eq!(default.to_string(), "the boot loader entry 0123-4.18.0-80.conf");
        assert_eq!(default.options, "root=UUID=2");
        assert_eq!(menu.entries.len(), 2);
        // And one that chooses nothing has the newest.
        let (_directory, root) = tree(&files);
        let menu = BootMenu::read(&root);
        assert!(menu.default_entry().unwrap().to_string().contains("553"));
    }

    #[test]
    fn an_empty_grub_cfg_is_no_menu() {
        let (_directory, root) = tree(&[("boot/grub/grub.cfg", "\n")]);
        let menu = BootMenu::read(&root);
        assert!(menu.has_grub_cfg && !menu.is_grub_configured && menu.entries.is_empty());
        let (_directory, root) = tree(&[]);
        assert_eq!(BootMenu::read(&root), BootMenu::default());
    }
}
