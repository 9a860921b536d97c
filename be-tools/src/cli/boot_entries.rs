//! `be boot-entries`

use std::path::PathBuf;

use boot::efi::boot_entries::{BootEntries as Entries, BootEntry};
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::acting_options::ActingOptions;
use super::context::Context;
use super::headings::OUTPUT;
use super::output::print_json;
use super::table;
use crate::error::{Error, Result};
use crate::loader::firmware;
use crate::operations::boot_entries::{self, Change};
use crate::session::lock::Lock;

/// List and order the firmware's boot entries, Lifeboat's and all others (eeprom)
#[derive(Debug, Args)]
pub struct BootEntries {
    /// Print JSON
    #[arg(long, help_heading = OUTPUT, display_order = 100)]
    json: bool,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Put entries first in the order in which the firmware tries them; the others follow in their
    /// present order
    Order {
        /// Numbers of entries, four hex digits each, as `be boot-entries` prints them
        #[arg(required = true, value_parser = number)]
        entries: Vec<u16>,
        #[command(flatten)]
        acting: ActingOptions,
    },
    /// Start an entry at the next boot only
    Next {
        /// Number of the entry, four hex digits
        #[arg(value_parser = number)]
        entry: u16,
        #[command(flatten)]
        acting: ActingOptions,
    },
    /// Add an entry after all others, for example for the rescue image
    Add {
        /// The description that the firmware's menu shows
        #[arg(value_parser = NonEmptyStringValueParser::new())]
        label: String,
        /// The EFI program, on a mounted EFI system partition
        file: PathBuf,
        #[command(flatten)]
        acting: ActingOptions,
    },
    /// Remove an entry; the file that it starts is kept
    Remove {
        /// Number of the entry, four hex digits
        #[arg(value_parser = number)]
        entry: u16,
        /// Remove it even if Lifeboat did not make it
        #[arg(long)]
        foreign: bool,
        #[command(flatten)]
        acting: ActingOptions,
    },
}

/// Parses `Boot0003`, `0003` or `3`, hexadecimal.
fn number(text: &str) -> std::result::Result<u16, String> {
    let digits = text.strip_prefix("Boot").unwrap_or(text);
    u16::from_str_radix(digits, 16)
        .map_err(|_| format!("'{text}' is not the number of a boot entry, such as 0003"))
}

#[derive(Serialize)]
struct EntryRow {
    number: String,
    description: String,
    active: bool,
    file: Option<String>,
    partuuid: Option<String>,
    lifeboat: bool,
    place: Option<usize>,
    next: bool,
    current: bool,
}

impl BootEntries {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        context.need_root("boot-entries")?;
        let mut entries = firmware::boot_entries(&context.host)?;
        let Some(action) = self.action else { return list(&entries, self.json) };
        let lock = Lock::acquire(&context.host)?;
        let (change, mut acting) = match action {
            Action::Order { entries, acting } => (Change::Order(entries), acting),
            Action::Next { entry, acting } => (Change::Next(entry), acting),
            Action::Remove { entry, foreign, acting } => {
                (Change::Remove { entry, foreign }, acting)
            }
            Action::Add { label, file, acting } => {
                (Change::add(&context.host, label, &file)?, acting)
            }
        };
        acting.json |= self.json;
        // A removed entry cannot easily be made again, and neither can the old order.
        let mut report = match change {
            Change::Remove { .. } | Change::Order(_) => context.report("boot-entries", &acting),
            _ => context.unasked_report("boot-entries", &acting),
        };
        if !boot_entries::change(&lock, &mut entries, &change, &mut report)? {
            return Ok(0);
        }
        if acting.json || context.quiet { Ok(0) } else { list(&entries, false) }
    }
}

fn list(entries: &Entries, json: bool) -> Result<u8> {
    let reading = |e| Error::boot("reading the firmware's boot entries", e);
    let order = entries.order().map_err(reading)?;
    let next = entries.next().map_err(reading)?;
    let current = entries.current().map_err(reading)?;
    let row = |e: BootEntry| EntryRow {
        number: format!("{:04X}", e.number),
        active: e.option.is_active(),
        file: e.option.path.file(),
        partuuid: e.option.path.partuuid().map(|u| u.to_string()),
        lifeboat: e.option.is_lifeboat(),
        place: order.iter().position(|n| *n == e.number).map(|p| p + 1),
        next: next == Some(e.number),
        current: current == Some(e.number),
        description: e.option.description,
    };
    let mut all: Vec<EntryRow> = entries.entries().map_err(reading)?.into_iter().map(row).collect();
    all.sort_by_key(|r| (r.place.unwrap_or(usize::MAX), r.number.clone()));
    if json {
        print_json(&all)?;
        return Ok(0);
    }
    let mut rows = table::with_header(&["entry", "place", "marks", "description", "file"]);
    for r in all {
        let marks = [
            (r.next, "next"),
            (r.current, "running"),
            (!r.active, "inactive"),
            (r.lifeboat, "lifeboat"),
        ];
        let marks: Vec<&str> = marks.iter().filter(|(is, _)| *is).map(|(_, mark)| *mark).collect();
        let row = [
            r.number,
            r.place.map_or_else(|| "-".into(), |p| p.to_string()),
            marks.join(","),
            r.description,
            r.file.unwrap_or_default(),
        ];
        table::add(&mut rows, row);
    }
    table::print(&rows)?;
    Ok(0)
}
