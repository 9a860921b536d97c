//! What plans say of the firmware's variables: no other module has their names.

use boot::esp::Esp;

/// Entries are put in this order.
pub fn order(names: &[String]) -> String {
    format!("write BootOrder: {}", names.join(", "))
}

/// An entry is started next.
pub fn next(number: u16) -> String {
    format!("write BootNext: {number:04X}")
}

/// An entry goes.
pub fn delete(number: u16) -> String {
    format!(
        "take {number:04X} out of BootNext and BootOrder, then delete Boot{number:04X}; what it \
        points at stays"
    )
}

/// An entry is added.
pub fn add() -> String {
    "write a new entry, and put it last in BootOrder".into()
}

/// A BE's entry goes.
pub fn remove(number: u16) -> String {
    format!("remove Boot{number:04X} from BootNext and BootOrder, then the entry")
}

/// A BE's directory goes from the ESP.
pub fn remove_directory(directory: &str) -> String {
    format!("remove {} from the ESP", directory_path(directory))
}

/// A BE's files are written, and its first entry is made. The directory has the name of the BE's
/// id, which is another one each time a plan for a new BE is made.
pub fn install() -> String {
    "write its loader's directory on the ESP, then append its boot entry to BootOrder, inactive"
        .into()
}

/// A BE's files are written again, and its entry is pointed at them.
pub fn install_again(directory: &str) -> String {
    format!("write {} and its boot entry again", directory_path(directory))
}

/// The running system gets a loader and an entry.
pub fn install_adopted() -> String {
    "adopt: write its loader's directory on the ESP and append its boot entry to BootOrder, \
    inactive"
        .into()
}

/// A BE's directory as firmware writes it: `\EFI\lifeboat\2f0c1a94`.
fn directory_path(directory: &str) -> String {
    Esp::efi_path(&Esp::directory_of(directory)).unwrap_or_else(|_| directory.to_owned())
}
