//! The lines of plans about the firmware's variables. No other module names these variables.

use boot::efi::BootEntry;
use boot::esp::Esp;

use crate::environment::Descriptor;

/// A BE's entry is not started while the BE is changed.
pub const MAKE_INACTIVE: &str = "make its boot entry inactive";

/// A BE's entry may be started again.
pub const MAKE_ACTIVE: &str = "make its boot entry active";

/// The boot order is set.
pub fn order(names: &[String]) -> String {
    format!("write BootOrder: {}", names.join(", "))
}

/// An entry is set to be started next.
pub fn next(number: u16) -> String {
    format!("write BootNext: {number:04X}")
}

/// An entry of another system is deleted.
pub fn delete(number: u16) -> String {
    format!(
        "remove {number:04X} from BootNext and BootOrder, then delete Boot{number:04X}; the file \
        it starts is kept"
    )
}

/// An entry is added.
pub fn add() -> String {
    "write a new entry, last in BootOrder".into()
}

/// A BE's entry is deleted.
pub fn remove(number: u16) -> String {
    format!("remove {number:04X} from BootNext and BootOrder, then delete Boot{number:04X}")
}

/// A BE's directory is removed from the ESP.
pub fn remove_directory(directory: &str) -> String {
    format!("remove {} from the ESP", directory_path(directory))
}

/// An entry is not removed.
pub fn kept(number: u16, why: &str) -> String {
    format!(
        "Boot{number:04X} is not removed, because it may be that of another boot environment with \
        the same id: {why}; if it is not, `be boot-entries remove {number:04X}` removes it"
    )
}

/// A directory is not removed.
pub fn kept_directory(directory: &str, device: &str, why: &str) -> String {
    format!(
        "{} on {device} is not removed, because it may be that of another boot environment with \
        the same id: {why}",
        directory_path(directory)
    )
}

/// A new BE's files are written and its entry is made. The line does not name the directory, which
/// has the name of the BE's id: a plan for a new BE has another id each time it is made.
pub fn install() -> String {
    "write its loader on the ESP, then append its boot entry to BootOrder, inactive".into()
}

/// A BE's files are written again, and its entry is pointed at them.
pub fn install_again(directory: &str) -> String {
    format!("write {} and its boot entry again", directory_path(directory))
}

/// The running system gets its files on the ESP and its entry.
pub fn install_adopted() -> String {
    "adopt: write its loader on the ESP, then append its boot entry to BootOrder, inactive".into()
}

/// A BE's directory as firmware writes it: `\EFI\lifeboat\2f0c1a94`.
fn directory_path(directory: &str) -> String {
    Esp::efi_path(&Esp::directory_of(directory)).unwrap_or_else(|_| directory.to_owned())
}

/// A note for the plan of a switch: what boots over the network, first by intent on machines that a
/// server manages, will come after the BE.
pub fn network_is_first(first: &BootEntry, descriptor: &Descriptor) -> String {
    let (number, name) = (first.number, &descriptor.name);
    format!(
        "Boot{number:04X} '{}' boots over the network and is first in BootOrder: '{name}' will be \
        placed before it; `be boot-entries order {number:04X}` makes it the first again",
        first.option.description
    )
}
