//! A menu, and the entry of it that boots.

use std::collections::BTreeMap;

/// A menu entry that starts a kernel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    /// What the menu shows.
    pub title: String,
    /// `--id`: `gnulinux-simple-UUID`.
    pub id: Option<String>,
    /// The kernel's path on GRUB's root device, or `(device)/path` if the script says so.
    pub linux: String,
    /// The paths of the initramfs images, in order, in the same form.
    pub initrd: Vec<String>,
    /// The kernel command line, without the `BOOT_IMAGE=` that GRUB adds.
    pub options: String,
    /// UUID of the file system that the last `search --fs-uuid` made GRUB's root.
    pub root_uuid: Option<String>,
    /// The file name of the boot loader entry that it was made from, if the script runs `blscfg`.
    pub entry_file: Option<String>,
}

/// One line of a menu.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What the menu shows.
    pub title: String,
    /// `--id`
    pub id: Option<String>,
    /// What selecting the line does.
    pub action: Action,
}

/// What selecting a line of a menu does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Starts a kernel.
    Linux(Entry),
    /// Opens another menu.
    Submenu(Vec<Item>),
    /// Anything else: another loader, the firmware's setup.
    Other,
}

/// The menu of a `grub.cfg`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Menu {
    /// Its lines, in order.
    pub items: Vec<Item>,
    /// The variable `default`: a number, title or id; `>` leads into a submenu.
    pub default: String,
    /// All variables, as they are at the end of the script.
    pub variables: BTreeMap<String, String>,
}

impl Menu {
    /// All entries that start a kernel, including those in submenus, in order.
    pub fn entries(&self) -> Vec<&Entry> {
        let mut entries = Vec::new();
        collect(&self.items, &mut entries);
        entries
    }

    /// The entry that boots if no key is pressed, or `None` if it does not start a kernel. As in
    /// GRUB, that is the first entry if `default` names none.
    pub fn default_entry(&self) -> Option<&Entry> {
        let mut items = &self.items;
        let mut path = self.default.as_str();
        loop {
            let (item, rest) = choose(items, path).or_else(|| Some((items.first()?, "")))?;
            match &item.action {
                Action::Linux(entry) => return Some(entry),
                Action::Other => return None,
                Action::Submenu(below) => (items, path) = (below, rest),
            }
        }
    }
}

fn collect<'a>(items: &'a [Item], entries: &mut Vec<&'a Entry>) {
    for item in items {
        match &item.action {
            Action::Linux(entry) => entries.push(entry),
            Action::Submenu(items) => collect(items, entries),
            Action::Other => {}
        }
    }
}

/// The item that the first part of a path names, and the rest of the path. In a title, `>` is
/// written twice.
fn choose<'a, 'b>(items: &'a [Item], path: &'b str) -> Option<(&'a Item, &'b str)> {
    let end = separator(path);
    let (head, rest) = match end {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (path, ""),
    };
    if let Ok(number) = head.trim().parse::<usize>() {
        return items.get(number).map(|item| (item, rest));
    }
    let name = head.replace(">>", ">");
    let named = |item: &&Item| item.id.as_ref() == Some(&name) || item.title == name;
    items.iter().find(named).map(|item| (item, rest))
}

/// The first `>` that is not doubled.
fn separator(path: &str) -> Option<usize> {
    let bytes = path.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], bytes.get(at + 1)) {
            (b'>', Some(b'>')) => at += 2,
            (b'>', _) => return Some(at),
            _ => at += 1,
        }
    }
    None
}
