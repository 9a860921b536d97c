//! The boot menu of an installed system, read from its files and never run: boot loader entries
//! (UAPI.1), and GRUB's grub.cfg, which may include them (`blscfg`, Fedora and RHEL).

use std::fmt;

use crate::bls;
use crate::grub_cfg::{self, Menu};
use crate::grubenv::EnvironmentBlock;

/// The directories of GRUB's menu and environment block: that of most distributions, and that of
/// Fedora and openSUSE.
pub const GRUB_DIRECTORIES: [&str; 2] = ["boot/grub", "boot/grub2"];

/// The programs that make GRUB's menu.
const GRUB_PROGRAMS: [&str; 2] = ["usr/sbin/grub-mkconfig", "usr/sbin/grub2-mkconfig"];

/// The directory of the entries that GRUB's `blscfg` reads.
pub const ENTRIES: &str = "boot/loader/entries";

/// The other directories of boot loader entries: on an ESP.
const ESP_ENTRIES: [&str; 2] = ["efi/loader/entries", "boot/efi/loader/entries"];

/// The most boot loader entries that are read. A hostile directory could have any number.
const MAX_ENTRIES: usize = 256;

/// The files of a system. Paths are relative to its root directory; what cannot be read counts as
/// missing.
pub trait Files {
    /// The content of a regular file.
    fn content(&self, path: &str) -> Option<Vec<u8>>;

    /// The names in a directory, sorted. One that is not UTF-8 is left out.
    fn list(&self, directory: &str) -> Vec<String>;

    /// Whether there is something at this path.
    fn is_there(&self, path: &str) -> bool;

    /// Whether there is a regular file at this path, or a symlink to one.
    fn is_file(&self, path: &str) -> bool;
}

/// Where a menu or an entry of it is written. Shown as a sentence has it after `its`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WrittenIn {
    /// A grub.cfg, as a path in the root.
    GrubCfg(String),
    /// A file of its own, with this name.
    BootLoaderEntry(String),
}

/// A menu entry that starts a kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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

/// The boot menu of a system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootMenu {
    /// The system has a loader that reads a menu, or that loader's directory.
    pub is_expected: bool,
    /// There is a menu, and something in it.
    pub is_there: bool,
    /// Where it is written, or where it is missing.
    pub written_in: WrittenIn,
    /// The entry that its own loader starts if no key is pressed, as far as that is known. Where
    /// that starts no kernel, the first one that does.
    pub default: Option<MenuEntry>,
    /// The entries to start the system with, the best one first.
    pub entries: Vec<MenuEntry>,
    /// The variables that outlast a boot. They may be there without a grub.cfg: RHEL 8 has that on
    /// the ESP.
    pub variables: EnvironmentBlock,
}

impl Default for WrittenIn {
    fn default() -> Self {
        WrittenIn::GrubCfg(grub_cfg_in(GRUB_DIRECTORIES[0]))
    }
}

impl BootMenu {
    /// Reads the menu of a system.
    pub fn read(files: &dyn Files) -> Self {
        let directory =
            GRUB_DIRECTORIES.into_iter().find(|directory| files.is_there(&grub_cfg_in(directory)));
        let path = grub_cfg_in(directory.unwrap_or(GRUB_DIRECTORIES[0]));
        let text = directory.map(|_| text(files, &path));
        let own = boot_loader_entries(files, ENTRIES);
        let variables = environment_block(files, directory);
        let script = text.clone().flatten().unwrap_or_default();
        let menu = Menu::parse_with_entries(&script, &variables, &own);
        let of_grub = |entry: &grub_cfg::Entry| MenuEntry::of_grub(entry, &path);
        // One that starts something else, such as another system, is not to start this one.
        let first = || menu.entries().into_iter().next();
        let grub_default = menu.default_entry().or_else(first).map(of_grub);
        let included: Vec<MenuEntry> =
            menu.entries().into_iter().filter(|e| e.entry_file.is_some()).map(of_grub).collect();
        let mut entries = Vec::new();
        if included.is_empty() {
            let on_esp = ESP_ENTRIES.iter().flat_map(|path| boot_loader_entries(files, path));
            entries.extend(by_themselves(own.iter().cloned().chain(on_esp), &menu, &variables));
            entries.extend(grub_default.clone());
        } else {
            entries.extend(grub_default.clone());
            entries.extend(included.into_iter().filter(|e| Some(e) != grub_default.as_ref()));
        }
        let paths = GRUB_DIRECTORIES.into_iter().chain(GRUB_PROGRAMS);
        BootMenu {
            is_expected: paths.into_iter().any(|path| files.is_there(path)),
            is_there: match &text {
                // One that cannot be read is not empty.
                Some(text) => text.as_ref().is_none_or(|text| !text.trim().is_empty()),
                None => !entries.is_empty(),
            },
            default: if text.is_some() { grub_default } else { entries.first().cloned() },
            written_in: WrittenIn::GrubCfg(path),
            entries,
            variables,
        }
    }
}

impl WrittenIn {
    /// The form of the file, as the codes of problems have it.
    pub fn form(&self) -> &'static str {
        match self {
            WrittenIn::GrubCfg(_) => "grub-cfg",
            WrittenIn::BootLoaderEntry(_) => "loader-entry",
        }
    }
}

impl fmt::Display for WrittenIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WrittenIn::GrubCfg(_) => f.write_str("grub.cfg"),
            WrittenIn::BootLoaderEntry(file) => write!(f, "boot loader entry {file}"),
        }
    }
}

impl MenuEntry {
    /// The file name of the kernel.
    pub fn kernel_name(&self) -> &str {
        self.kernel.rsplit('/').next().unwrap_or(&self.kernel)
    }

    fn of_grub(entry: &grub_cfg::Entry, path: &str) -> Self {
        MenuEntry {
            written_in: match &entry.entry_file {
                Some(file) => WrittenIn::BootLoaderEntry(file.clone()),
                None => WrittenIn::GrubCfg(path.to_owned()),
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
            WrittenIn::GrubCfg(path) => write!(f, "/{path}: {}", self.title),
            entry @ WrittenIn::BootLoaderEntry(_) => write!(f, "the {entry}"),
        }
    }
}

fn grub_cfg_in(directory: &str) -> String {
    format!("{directory}/grub.cfg")
}

/// The environment block beside the menu, else that of the other directory.
fn environment_block(files: &dyn Files, directory: Option<&str>) -> EnvironmentBlock {
    let others = GRUB_DIRECTORIES.into_iter().filter(|other| Some(*other) != directory);
    directory
        .into_iter()
        .chain(others)
        .find_map(|directory| files.content(&format!("{directory}/grubenv")))
        .and_then(|bytes| EnvironmentBlock::parse(&bytes).ok())
        .unwrap_or_default()
}

fn text(files: &dyn Files, path: &str) -> Option<String> {
    files.content(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Turns a path in a loader's configuration, which begins at the top of the file system that holds
/// /boot, into a path in the system. That is the same path, or one below /boot if /boot is a file
/// system of its own, or the path without the subvolume that it begins with.
pub fn resolve(files: &dyn Files, path: &str) -> Option<String> {
    let path =
        path.strip_prefix('(').and_then(|p| p.split_once(')')).map_or(path, |(_, rest)| rest);
    let path = path.trim_start_matches('/');
    let in_boot = format!("boot/{path}");
    let below_subvolume = path.find("boot/").map(|at| path[at..].to_owned());
    let candidates = [Some(path.to_owned()), Some(in_boot), below_subvolume];
    candidates.into_iter().flatten().find(|candidate| files.is_file(candidate))
}

fn boot_loader_entries(files: &dyn Files, directory: &str) -> Vec<bls::Entry> {
    let names = files.list(directory);
    names
        .iter()
        .filter(|name| name.ends_with(".conf"))
        .take(MAX_ENTRIES)
        .filter_map(|name| {
            let text = text(files, &format!("{directory}/{name}"))?;
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
mod tests;
