//! The firmware's boot entries: which BE each one starts, and what boots next.

pub mod environment_entry;
pub mod lines;
pub mod removal;

use boot::efi::{BootEntries, BootEntry, LoadOption, Position};

use crate::environment::{Id, Name, OperatingSystem};
use crate::error::{Error, Refusal, Result};
use crate::host::Host;

/// The machine's boot entries.
///
/// # Errors
/// [`Refusal::NoFirmwareVariables`]
pub fn boot_entries(host: &Host) -> Result<BootEntries> {
    let variables = host.variables();
    if variables.available() {
        Ok(BootEntries::new(variables))
    } else {
        Err(Refusal::NoFirmwareVariables.into())
    }
}

/// The most characters of a description that say what system it is.
const LONGEST_SYSTEM: usize = 40;

/// The text for a BE in the firmware's menu. The name is first, because firmware truncates long
/// texts.
pub fn description(name: &str, os: &OperatingSystem) -> String {
    // A file of the BE says what it is, and the firmware has little room.
    let system: String = os.short().chars().take(LONGEST_SYSTEM).collect();
    format!("Lifeboat: {name} ({system})")
}

/// The BE's name in such a description.
pub fn name_in(description: &str) -> Option<&str> {
    let rest = description.strip_prefix("Lifeboat: ")?;
    rest.rsplit_once(" (").map_or(Some(rest), |(name, _)| Some(name))
}

/// The name of an entry's BE; the directory of its loader if the description does not contain a
/// valid name. Any program can write a description, so anything else is not printed on a terminal.
pub fn shown_name<'a>(option: &'a LoadOption, directory: &'a str) -> &'a str {
    name_in(&option.description).filter(|name| name.parse::<Name>().is_ok()).unwrap_or(directory)
}

/// The directory and the file name of a BE's loader in an entry's path, such as
/// `\EFI\lifeboat\2f0c1a94\grubx64.efi`.
pub fn loader_file(option: &LoadOption) -> Option<(String, String)> {
    if !option.is_lifeboat() {
        return None;
    }
    let file = option.path.file()?;
    let mut names: Vec<&str> = file.split(['\\', '/']).filter(|n| !n.is_empty()).collect();
    let (name, directory) = (names.pop()?, names.pop()?);
    let is_id = directory.len() == 8 && directory.bytes().all(|b| b.is_ascii_hexdigit());
    (is_id && names.len() == 2).then(|| (directory.to_ascii_lowercase(), name.to_owned()))
}

/// Whether an entry starts the BE.
pub fn starts(option: &LoadOption, id: Id) -> bool {
    loader_file(option).is_some_and(|(directory, _)| directory == id.short())
}

/// The entries that start the BE, in the order of `BootOrder`. There is one, unless another program
/// wrote entries too.
///
/// # Errors
/// The variables cannot be read.
pub fn entries_of(entries: &BootEntries, id: Id) -> Result<Vec<BootEntry>> {
    let order = entries.order().map_err(reading)?;
    let mut found: Vec<BootEntry> = entries.entries().map_err(reading)?;
    found.retain(|e| starts(&e.option, id));
    found.sort_by_key(|e| order.iter().position(|n| *n == e.number).unwrap_or(usize::MAX));
    Ok(found)
}

/// `LOAD_OPTION_CATEGORY`. Any other value than zero is an application of the firmware, such as its
/// setup, which the firmware skips in `BootOrder` (UEFI 2.10, section 3.1.3).
const CATEGORY: u32 = 0x1f00;

fn is_started(option: &LoadOption) -> bool {
    option.is_active() && option.attributes & CATEGORY == 0
}

/// The entry that the firmware starts next: `BootNext`, else the first one of `BootOrder` that
/// exists and is active.
///
/// # Errors
/// The variables cannot be read.
pub fn next(entries: &BootEntries) -> Result<Option<BootEntry>> {
    if let Some(number) = entries.next().map_err(reading)?
        && let Ok(Some(entry)) = entries.entry(number)
    {
        return Ok(Some(entry));
    }
    first(entries)
}

/// The entry that the firmware starts without a `BootNext`: the first one of `BootOrder` that
/// exists and is active.
///
/// # Errors
/// The variables cannot be read.
pub fn first(entries: &BootEntries) -> Result<Option<BootEntry>> {
    Ok(in_order(entries)?.into_iter().next())
}

/// What the firmware would start without the entries `gone`: once, if an entry is set for that, and
/// after that.
///
/// # Errors
/// The variables cannot be read.
pub fn first_without(entries: &BootEntries, gone: &[u16]) -> Result<Vec<BootEntry>> {
    let stays = |entry: &BootEntry| !gone.contains(&entry.number);
    let once = next(entries)?.filter(stays);
    let first = in_order(entries)?.into_iter().find(stays);
    Ok(once.into_iter().chain(first).collect())
}

/// The entries of `BootOrder` that exist and are active.
///
/// # Errors
/// The variables cannot be read.
pub fn in_order(entries: &BootEntries) -> Result<Vec<BootEntry>> {
    let order = entries.order().map_err(reading)?;
    let existing = order.into_iter().filter_map(|number| entries.entry(number).ok().flatten());
    Ok(existing.filter(|entry| is_started(&entry.option)).collect())
}

/// The entries of `BootOrder` that the firmware could start and that do not start this BE.
///
/// # Errors
/// The variables cannot be read.
pub fn other_entries(entries: &BootEntries, id: Id) -> Result<Vec<u16>> {
    let mut order = entries.order().map_err(reading)?;
    order.retain(|number| {
        let Ok(Some(entry)) = entries.entry(*number) else { return false };
        is_started(&entry.option) && !starts(&entry.option, id)
    });
    Ok(order)
}

/// The entry that must be moved before the BE's own, so that the machine does not start the same BE
/// again after a failed trial: the running BE's, else the one that started it, else the next in
/// order. `None` if the BE's entry is not first, or there is no other.
///
/// # Errors
/// The variables cannot be read.
pub fn fallback(entries: &BootEntries, id: Id, running: Option<u16>) -> Result<Option<u16>> {
    let order = entries.order().map_err(reading)?;
    let mut existing = order.into_iter().filter_map(|number| entries.entry(number).ok().flatten());
    // The BE's own entry counts although it may be inactive: the trial makes it active.
    let first = existing.find(|e| is_started(&e.option) || starts(&e.option, id));
    if !first.is_some_and(|first| starts(&first.option, id)) {
        return Ok(None);
    }
    let others = other_entries(entries, id)?;
    let current = entries.current().map_err(reading)?;
    let found = running.into_iter().chain(current).find(|number| others.contains(number));
    Ok(found.or(others.first().copied()))
}

/// Writes `option` to the BE's entry and removes any other entries of the BE. A new entry is
/// inactive and last in `BootOrder`.
///
/// # Errors
/// The variables cannot be written. The old entry is unchanged.
pub fn point_entry(entries: &BootEntries, id: Id, mut option: LoadOption) -> Result<u16> {
    let found = entries_of(entries, id)?;
    let Some((first, others)) = found.split_first() else {
        option.set_active(false);
        return entries.add(&option, Position::Last).map_err(writing);
    };
    option.set_active(first.option.is_active());
    entries.replace(first.number, &option).map_err(writing)?;
    if !entries.order().map_err(reading)?.contains(&first.number) {
        entries.place(first.number, Position::Last).map_err(writing)?;
    }
    for other in others {
        entries.remove(other.number).map_err(writing)?;
    }
    Ok(first.number)
}

/// An error of reading the boot entries.
pub(crate) fn reading(error: boot::efi::boot_entries::Error) -> Error {
    Error::boot("reading the firmware's boot entries", error)
}

/// An error of writing the boot entries.
pub(crate) fn writing(error: boot::efi::boot_entries::Error) -> Error {
    Error::boot("writing the firmware's boot entries", error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loader::testing::Firmware;

    #[test]
    fn an_entry_belongs_to_the_be_whose_directory_it_names() {
        let cases = [
            (r"\EFI\lifeboat\2f0c1a94\grubx64.efi", Some(("2f0c1a94", "grubx64.efi"))),
            (r"\efi\LIFEBOAT\2F0C1A94\grubx64-2.efi", Some(("2f0c1a94", "grubx64-2.efi"))),
            (r"\EFI\lifeboat\rescue.efi", None),
            (r"\EFI\lifeboat\2f0c1a9\grubx64.efi", None),
            (r"\EFI\lifeboat\2f0c1a94\below\grubx64.efi", None),
            (r"\EFI\debian\shimx64.efi", None),
        ];
        for (file, expected) in cases {
            let option = Firmware::option("any", file);
            let found = loader_file(&option);
            assert_eq!(found.as_ref().map(|(a, b)| (a.as_str(), b.as_str())), expected, "{file}");
        }
    }

    #[test]
    fn a_description_has_the_name() {
        let os = OperatingSystem {
            id: "debian".into(),
            version_id: "12".into(),
            ..OperatingSystem::default()
        };
        assert_eq!(description("second", &os), "Lifeboat: second (Debian 12)");
        assert_eq!(name_in("Lifeboat: second (Debian 12)"), Some("second"));
        assert_eq!(name_in("debian"), None);
    }

    #[test]
    fn a_description_has_a_bound() {
        let os = OperatingSystem {
            id: "x".repeat(1 << 20),
            version_id: "1".into(),
            ..Default::default()
        };
        let description = description("second", &os);
        assert!(description.len() < 80, "{}", description.len());
        assert_eq!(name_in(&description), Some("second"));
    }

    #[test]
    fn a_failed_trial_of_the_first_in_order_ends_in_another() {
        let (firmware, id) = (Firmware::new(), Id::random());
        let own =
            firmware.add("Lifeboat: second", &format!(r"\EFI\lifeboat\{}\grubx64.efi", id.short()));
        let debian = firmware.add("debian", r"\EFI\debian\shimx64.efi");
        let third = firmware.add("Lifeboat: third", r"\EFI\lifeboat\2f0c1a94\grubx64.efi");
        let entries = firmware.entries();
        for (order, running, expected) in [
            ([own, debian, third], Some(third), Some(third)),
            ([own, debian, third], None, Some(debian)),
            ([own, third, debian], Some(own), Some(third)),
            ([debian, own, third], Some(third), None),
        ] {
            entries.set_order(&order).unwrap();
            assert_eq!(fallback(&entries, id, running).unwrap(), expected, "{order:?} {running:?}");
        }
        let alone = Firmware::new();
        alone.add("Lifeboat: second", &format!(r"\EFI\lifeboat\{}\grubx64.efi", id.short()));
        assert_eq!(fallback(&alone.entries(), id, None).unwrap(), None);
    }

    #[test]
    fn next_is_what_the_firmware_would_start() {
        let firmware = Firmware::new();
        let debian = firmware.add("debian", r"\EFI\debian\shimx64.efi");
        let second = firmware.add("Lifeboat: second", r"\EFI\lifeboat\2f0c1a94\grubx64.efi");
        let entries = firmware.entries();
        let number = || next(&entries).unwrap().map(|e| e.number);
        assert_eq!(number(), Some(debian));
        let mut setup = Firmware::option("UiApp", r"\any.efi");
        setup.attributes |= 0x109;
        entries.add(&setup, boot::efi::Position::First).unwrap();
        assert_eq!(number(), Some(debian));
        entries.set_next(Some(second)).unwrap();
        assert_eq!(number(), Some(second));
        entries.set_next(None).unwrap();
        entries.place(second, boot::efi::Position::First).unwrap();
        assert_eq!(number(), Some(second));
        entries.set_active(second, false).unwrap();
        assert_eq!(number(), Some(debian));
        let id: Id = "2f0c1a94-8a3c-4a52-9a7e-0c6f6e1f3b55".parse().unwrap();
        assert_eq!(entries_of(&entries, id).unwrap().len(), 1);
        assert_eq!(other_entries(&entries, id).unwrap(), [debian]);
    }
}
