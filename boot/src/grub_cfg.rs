//! GRUB's menu, read from `grub.cfg` without side effects: GRUB manual, chapter 6.
//!
//! A `grub.cfg` is a script. Only what determines the menu is evaluated: variables, conditions,
//! `menuentry`, `submenu`, and within an entry the commands `linux`, `initrd` and `search`. All
//! other commands are assumed to succeed and have no effect; loops and functions are skipped. Every
//! text yields a menu, if an empty one.

mod evaluate;
mod menu;
mod script;

use crate::bls;
use crate::grubenv::EnvironmentBlock;

pub use menu::{Action, Entry, Item, Menu};

impl Menu {
    /// Parses a configuration; `environment` is what its `load_env` reads.
    pub fn parse(cfg: &str, environment: &EnvironmentBlock) -> Self {
        Self::parse_with_entries(cfg, environment, &[])
    }

    /// As [`Menu::parse`]; `entries` are the boot loader entries that the command `blscfg` of
    /// Fedora's GRUB adds to the menu.
    pub fn parse_with_entries(
        cfg: &str,
        environment: &EnvironmentBlock,
        entries: &[bls::Entry],
    ) -> Self {
        evaluate::menu(&script::parse(cfg), environment, entries)
    }
}

/// The entry that boots if no key is pressed: [`Menu::default_entry`].
pub fn default_entry(cfg: &str, environment: &EnvironmentBlock) -> Option<Entry> {
    Menu::parse(cfg, environment).default_entry().cloned()
}

/// All entries that start a kernel: [`Menu::entries`].
pub fn entries(cfg: &str, environment: &EnvironmentBlock) -> Vec<Entry> {
    Menu::parse(cfg, environment).entries().into_iter().cloned().collect()
}

#[cfg(test)]
mod tests;
