//! GRUB's configuration, read without being executed: GRUB manual, chapter 6.
//!
//! A `grub.cfg` is a script. Of it only what decides the menu has an effect here:
//! variables, conditions, `menuentry`, `submenu`, and in an entry the commands
//! `linux`, `initrd` and `search`. All other commands are taken to succeed and do
//! nothing; loops and functions are passed over. Any text ends in some menu.

mod evaluate;
mod script;

use crate::grubenv::EnvironmentBlock;

/// A menu entry that starts a kernel.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    /// What the menu shows.
    pub title: String,
    /// `--id`: `gnulinux-simple-UUID`.
    pub id: Option<String>,
    /// The kernel's path on GRUB's root, with the device before it where it says so.
    pub linux: String,
    /// The initramfs images in order, in paths alike.
    pub initrd: Vec<String>,
    /// The kernel command line, without the `BOOT_IMAGE=` that GRUB adds.
    pub options: String,
    /// The file system that `search --fs-uuid` made GRUB's root last.
    pub root_uuid: Option<String>,
}

/// One line of a menu.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What it shows.
    pub title: String,
    /// `--id`
    pub id: Option<String>,
    /// What it does.
    pub action: Action,
}

/// What a line of a menu does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// It starts a kernel.
    Linux(Entry),
    /// It opens another menu.
    Submenu(Vec<Item>),
    /// Anything else: another loader, the firmware's setup.
    Other,
}

/// The menu of a `grub.cfg`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Menu {
    /// Its lines, in order.
    pub items: Vec<Item>,
    /// The variable `default`: a number, title or id, with `>` into submenus.
    pub default: String,
}

impl Menu {
    /// Reads a configuration, with the variables that its `load_env` would find.
    pub fn parse(cfg: &str, environment: &EnvironmentBlock) -> Self {
        evaluate::menu(&script::parse(cfg), environment)
    }

    /// All entries that start a kernel, those of submenus too, in order.
    pub fn entries(&self) -> Vec<&Entry> {
        let mut entries = Vec::new();
        collect(&self.items, &mut entries);
        entries
    }

    /// The entry that boots when nobody presses a key; `None` where that starts
    /// no kernel. As with GRUB, the first where `default` names none.
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

/// The entry that boots when nobody presses a key.
pub fn default_entry(cfg: &str, environment: &EnvironmentBlock) -> Option<Entry> {
    Menu::parse(cfg, environment).default_entry().cloned()
}

/// All entries that start a kernel.
pub fn entries(cfg: &str, environment: &EnvironmentBlock) -> Vec<Entry> {
    Menu::parse(cfg, environment).entries().into_iter().cloned().collect()
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

/// The item that a path begins with, and the rest of the path. A title may have
/// `>` in it, doubled.
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

#[cfg(test)]
mod tests;
