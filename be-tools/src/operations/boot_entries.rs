//! Changes of the firmware's boot entries: the plan, and its steps.

use std::fmt::{Display, Formatter};
use std::fs::File;
use std::io::Read;
use std::path::Path;

use boot::efi::boot_entries::{BootEntries as Entries, Position, SecureBoot};
use boot::efi::load_option::LoadOption;

use crate::error::{Doing, Error, Refusal, Result};
use crate::host::Host;
use crate::loader::esp_location::EspLocation;
use crate::loader::firmware::{lines, reading, writing};
use crate::plan::{Plan, Report};
use crate::session::lock::Lock;
use crate::step;
use crate::storage::device::Devices;
use crate::storage::mounts::Mounts;

/// A change of the boot entries.
#[derive(Debug, PartialEq)]
pub enum Change {
    /// Puts these entries first, in this order.
    Order(Vec<u16>),
    /// Starts this entry at the next boot only.
    Next(u16),
    /// Removes an entry.
    Remove {
        /// Its number.
        entry: u16,
        /// Even if Lifeboat did not make it.
        foreign: bool,
    },
    /// Adds an entry after all others.
    Add(LoadOption),
}

impl Change {
    /// A new entry for a file on a mounted EFI system partition.
    ///
    /// # Errors
    /// The file is not an EFI program, is somewhere else, or two partitions have the PARTUUID of
    /// its partition.
    pub fn add(host: &Host, label: String, file: &Path) -> Result<Self> {
        let file = file.canonicalize().at("finding", file)?;
        let mut magic = [0; 2];
        let read = File::open(&file).and_then(|mut f| f.read_exact(&mut magic));
        // The first bytes of every EFI program (PE format, "MS-DOS Stub").
        if read.is_err() || magic != *b"MZ" {
            return Err(Error::Usage(format!("{} is not an EFI program", file.display())));
        }
        let elsewhere = || {
            Error::Usage(format!(
                "{} is not on a mounted EFI system partition: copy it to one",
                file.display()
            ))
        };
        let mounts = Mounts::read(host)?;
        let above = mounts.iter().filter(|m| file.starts_with(&m.mount_point));
        let mount = above
            .max_by_key(|m| m.mount_point.as_os_str().len())
            .filter(|m| m.fs_type == "vfat")
            .ok_or_else(elsewhere)?;
        let below = file.strip_prefix(&mount.mount_point).unwrap_or(&file);
        let devices = Devices::scan(host)?;
        let esp =
            devices.by_number(mount.number).and_then(|device| EspLocation::of(&devices, device));
        let esp = esp.ok_or_else(elsewhere)?;
        let path = firmware_path(&mount.root.join(below)).ok_or_else(|| {
            Error::Usage(format!("{}: the firmware only accepts names in Unicode", file.display()))
        })?;
        // Refuses a PARTUUID that two partitions have.
        EspLocation::by_partuuid(&devices, esp.partuuid)?;
        Ok(Change::Add(LoadOption::new(label, esp.device_path(&path))))
    }

    /// The steps.
    ///
    /// # Errors
    /// An entry does not exist or is not Lifeboat's, or the variables cannot be read.
    fn steps(&self, entries: &Entries) -> Result<Vec<Step<'_>>> {
        Ok(vec![match self {
            Change::Order(wanted) => {
                for number in wanted {
                    entry_name(entries, *number)?;
                }
                let order = with_first(wanted, entries)?;
                // BootOrder may name entries that do not exist.
                let names = order
                    .iter()
                    .map(|n| entry_name(entries, *n).unwrap_or_else(|_| format!("{n:04X}")));
                Step::WriteOrder { names: names.collect(), order }
            }
            Change::Next(number) => {
                entry_name(entries, *number)?;
                Step::WriteNext(*number)
            }
            Change::Remove { entry, foreign } => {
                let name = entry_name(entries, *entry)?;
                let is_ours =
                    matches!(entries.entry(*entry), Ok(Some(e)) if e.option.is_lifeboat());
                if !is_ours && !foreign {
                    return Err(Refusal::ForeignEntry { entry: name }.into());
                }
                Step::Remove { entry: *entry, foreign: *foreign }
            }
            Change::Add(option) => Step::Add(option),
        }])
    }

    fn title(&self, entries: &Entries) -> Result<String> {
        Ok(match self {
            Change::Order(_) => "Set the order in which the firmware tries its boot entries".into(),
            Change::Next(number) => {
                format!("Start boot entry {} at the next boot only", entry_name(entries, *number)?)
            }
            Change::Remove { entry, .. } => {
                format!("Remove boot entry {}", entry_name(entries, *entry)?)
            }
            Change::Add(option) => {
                let file = option.path.file().unwrap_or_default();
                format!("Add boot entry '{}' for {file}", option.description)
            }
        })
    }

    fn notes(&self, entries: &Entries) -> Result<Vec<String>> {
        let Change::Add(option) = self else { return Ok(Vec::new()) };
        let mut notes = Vec::new();
        for other in entries.entries().map_err(reading)? {
            if other.option.path == option.path {
                notes.push(format!("{} also starts this file", entry_name(entries, other.number)?));
            }
        }
        if entries.secure_boot().map_err(reading)? == SecureBoot::Enabled {
            notes.push(
                "Secure Boot is enforced: the firmware starts this file only if it trusts its \
                signature"
                    .into(),
            );
        }
        Ok(notes)
    }
}

/// Makes a change. `Ok(false)` if the report stopped after the plan.
///
/// # Errors
/// An entry does not exist or is not Lifeboat's, a variable cannot be written, or the firmware did
/// not keep it.
pub fn change(
    lock: &Lock,
    entries: &mut Entries,
    change: &Change,
    report: &mut dyn Report,
) -> Result<bool> {
    let steps = change.steps(entries)?;
    let plan = Plan {
        title: change.title(entries)?,
        steps: step::lines(&steps),
        notes: change.notes(entries)?,
        ..Plan::default()
    };
    if !lock.confirm(report, &plan)? {
        return Ok(false);
    }
    step::run_all(&steps, entries, report)?;
    Ok(true)
}

/// A step that writes to the firmware's variables.
#[derive(Debug)]
enum Step<'a> {
    WriteOrder { order: Vec<u16>, names: Vec<String> },
    WriteNext(u16),
    Remove { entry: u16, foreign: bool },
    Add(&'a LoadOption),
}

impl Display for Step<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Step::WriteOrder { names, .. } => f.write_str(&lines::order(names)),
            Step::WriteNext(number) => f.write_str(&lines::next(*number)),
            Step::Remove { entry, .. } => f.write_str(&lines::delete(*entry)),
            Step::Add(_) => f.write_str(&lines::add()),
        }
    }
}

impl step::Step<Entries> for Step<'_> {
    fn run(&self, entries: &mut Entries, _: &mut dyn Report) -> Result<()> {
        match self {
            Step::WriteOrder { order, .. } => entries.set_order(order).map_err(writing),
            Step::WriteNext(number) => entries.set_next(Some(*number)).map_err(writing),
            Step::Remove { entry, foreign: true } => {
                entries.remove_foreign(*entry).map_err(writing)
            }
            Step::Remove { entry, foreign: false } => entries.remove(*entry).map_err(writing),
            Step::Add(option) => {
                let number = entries.add(option, Position::Last).map_err(writing)?;
                let kept =
                    entries.entry(number).map_err(reading)?.is_some_and(|e| e.option == **option);
                if kept && entries.order().map_err(reading)?.contains(&number) {
                    return Ok(());
                }
                Err(Error::EntryNotKept { number })
            }
        }
    }
}

/// The whole order with the `wanted` entries first.
fn with_first(wanted: &[u16], entries: &Entries) -> Result<Vec<u16>> {
    let present = entries.order().map_err(reading)?;
    let rest = present.into_iter().filter(|n| !wanted.contains(n));
    Ok(wanted.iter().copied().chain(rest).collect())
}

/// An entry as messages name it: `0003 (debian)`, or only the number if it is damaged.
fn entry_name(entries: &Entries, number: u16) -> Result<String> {
    match entries.entry(number) {
        Ok(Some(entry)) => Ok(format!("{number:04X} ({})", entry.option.description)),
        Ok(None) => {
            Err(Error::Usage(format!("there is no boot entry {number:04X}: see `be boot-entries`")))
        }
        Err(_) => Ok(format!("{number:04X}")),
    }
}

/// A path on a FAT in the form that the firmware expects.
fn firmware_path(path: &Path) -> Option<String> {
    path.to_str().map(|path| path.replace('/', "\\"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loader::testing::Firmware;
    use crate::plan::testing::Recorder;

    #[test]
    fn a_change_does_what_the_plan_says() {
        let firmware = Firmware::new();
        let (debian, ours) = (
            firmware.add("debian", r"\EFI\debian\shimx64.efi"),
            firmware.add("ours", r"\EFI\lifeboat\a\b.efi"),
        );
        assert_eq!((debian, ours), (0, 1));
        let rescue = Change::Add(Firmware::option("rescue", r"\EFI\lifeboat\rescue.efi"));
        let remove = |entry, foreign| Change::Remove { entry, foreign };
        for (wanted, planned, order) in [
            (rescue, "write a new entry, last in BootOrder", vec![0, 1, 2]),
            (
                Change::Order(vec![2, 0]),
                "write BootOrder: 0002 (rescue), 0000 (debian), 0001 (ours)",
                vec![2, 0, 1],
            ),
            (Change::Next(1), "write BootNext: 0001", vec![2, 0, 1]),
            (
                remove(1, false),
                "remove 0001 from BootNext and BootOrder, then delete Boot0001; the file it starts \
                is kept",
                vec![2, 0],
            ),
            (
                remove(0, true),
                "remove 0000 from BootNext and BootOrder, then delete Boot0000; the file it starts \
                is kept",
                vec![2],
            ),
        ] {
            assert_eq!(step::lines(&wanted.steps(&firmware.entries()).unwrap()), [planned]);
            let mut recorder = Recorder::default();
            let lock = Lock::acquire(&firmware.host()).unwrap();
            assert!(change(&lock, &mut firmware.entries(), &wanted, &mut recorder).unwrap());
            assert_eq!(recorder.steps, [planned]);
            assert_eq!(firmware.entries().order().unwrap(), order, "{planned}");
        }
    }

    #[test]
    fn entries_that_do_not_exist_or_are_not_lifeboats_are_refused() {
        let firmware = Firmware::new();
        let debian = firmware.add("debian", r"\EFI\debian\shimx64.efi");
        let foreign = Change::Remove { entry: debian, foreign: false };
        for (change, status) in [
            (Change::Order(vec![debian, 7]), 2),
            (Change::Next(7), 2),
            (Change::Remove { entry: 7, foreign: true }, 2),
            (foreign, 3),
        ] {
            let refused = change.steps(&firmware.entries()).unwrap_err();
            assert_eq!(refused.exit_status(), status, "{change:?}");
        }
    }

    #[test]
    fn a_second_entry_for_a_file_is_noted() {
        let firmware = Firmware::new();
        firmware.add("rescue", r"\EFI\lifeboat\rescue.efi");
        let notes = Change::Add(Firmware::option("again", r"\EFI\lifeboat\rescue.efi"))
            .notes(&firmware.entries());
        assert_eq!(notes.unwrap(), ["0000 (rescue) also starts this file"]);
    }

    #[test]
    fn only_a_program_on_an_esp_gets_an_entry() {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes, why) in [
            ("text.efi", "no", "not an EFI program"),
            ("program.efi", "MZ", "not on a mounted EFI"),
        ] {
            let file = dir.path().join(name);
            std::fs::write(&file, bytes).unwrap();
            let error = Change::add(&Host::local(), "x".into(), &file).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn the_firmware_separates_names_by_backslashes() {
        assert_eq!(firmware_path(Path::new("/EFI/a b/c.efi")).unwrap(), r"\EFI\a b\c.efi");
    }
}
