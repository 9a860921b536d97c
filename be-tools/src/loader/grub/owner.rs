//! Whose the files in a BE's directory on the ESP are: what the stubs in it lead to.

use std::path::Path;

use boot::esp::Esp;

use super::stub::Stub;
use super::vendor;
use crate::environment::BootEnvironment;
use crate::loader::firmware::removal::Owner;
use crate::storage::device::Devices;

/// Whose the files in the directory of this name are. They are those of `target` if each stub leads
/// to its `/boot`, on a file system whose UUID one device has.
pub fn owner(esp: &Esp, directory: &str, target: &BootEnvironment, devices: &Devices) -> Owner {
    let directory = Esp::directory_of(directory);
    let path = esp.root().join(&directory);
    let names = match std::fs::read_dir(&path) {
        Ok(names) => names,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Owner::Nobody,
        Err(e) => return Owner::Another(format!("{} cannot be read: {e}", path.display())),
    };
    let names = names.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut owner = Owner::Nobody;
    for name in names.filter(|name| name.to_ascii_lowercase().ends_with(".cfg")) {
        if let Err(why) = leads_to(esp, &directory.join(&name), target, devices) {
            return Owner::Another(format!("its {name} {why}"));
        }
        owner = Owner::This;
    }
    owner
}

/// Checks that a stub leads to the BE. The error is a phrase that follows the stub's name.
fn leads_to(
    esp: &Esp,
    stub: &Path,
    target: &BootEnvironment,
    devices: &Devices,
) -> Result<(), String> {
    let text = esp.read(stub).map_err(|e| format!("cannot be read: {e}"))?.unwrap_or_default();
    let boot = Stub::parse(&String::from_utf8_lossy(&text))?.boot;
    if !vendor::is_of(devices, target, &boot) {
        return Err("leads to another file system".into());
    }
    match devices.lookup(&format!("UUID={}", boot.uuid))[..] {
        [] | [_] => Ok(()),
        ref several => {
            let nodes: Vec<_> = several.iter().map(|d| d.node.display().to_string()).collect();
            Err(format!("leads to a UUID that {} have", nodes.join(" and ")))
        }
    }
}
