//! What is said at login about trials that failed or were interrupted: pam_motd(8) shows
//! `/run/motd.d`.

use boot::efi::BootEntries;

use crate::environment::{Descriptor, Trial};
use crate::error::{Doing, Result};
use crate::host::Host;
use crate::loader::esp_location::EspLocation;
use crate::loader::firmware::{self, reading};
use crate::loader::trial_in;
use crate::root_dir::RootDir;
use crate::storage::device::Devices;
use crate::storage::namespace;

const FILE: &str = "motd.d/lifeboat";

/// Writes the notice anew, or removes it where there is nothing to say.
///
/// # Errors
/// The variables cannot be read, or `/run` not be written.
pub fn write(host: &Host) -> Result<()> {
    let path = host.run.join(FILE);
    let text = match firmware::boot_entries(host) {
        Ok(entries) => text(&namespace::in_private_namespace(|| trials(host, &entries))?),
        Err(_) => String::new(),
    };
    if text.is_empty() {
        return match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).at("removing", &path),
            _ => Ok(()),
        };
    }
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).at("making the directory", directory)?;
    }
    std::fs::write(&path, text).at("writing", &path)
}

/// The trial of a BE that does not run.
struct Judged {
    name: String,
    entry: u16,
    trial: Trial,
}

/// The BEs that do not run, and how their trials stand, by their entries and environment blocks
/// alone: no root file system is looked at.
fn trials(host: &Host, entries: &BootEntries) -> Result<Vec<Judged>> {
    let descriptor = RootDir::open("/".as_ref())?.text(crate::environment::DESCRIPTOR_PATH)?;
    let running = descriptor.and_then(|text| Descriptor::parse(&text).ok()).map(|d| d.id.short());
    let devices = Devices::scan(host)?;
    let next = entries.next().map_err(reading)?;
    let mut found = Vec::new();
    for entry in entries.entries().map_err(reading)? {
        let Some((directory, _)) = firmware::loader_file(&entry.option) else { continue };
        if Some(&directory) == running.as_ref() {
            continue;
        }
        let Some(partuuid) = entry.option.path.partuuid() else { continue };
        let Ok(Some(location)) = EspLocation::by_partuuid(&devices, partuuid) else { continue };
        let Ok(mounted) = location.mount_read_only(host, &devices) else { continue };
        if let Some(trial) = trial_in(mounted.esp(), &directory, false, next == Some(entry.number))
        {
            let name = firmware::shown_name(&entry.option, &directory).to_owned();
            found.push(Judged { name, entry: entry.number, trial });
        }
    }
    Ok(found)
}

fn text(trials: &[Judged]) -> String {
    let mut text = String::new();
    for Judged { name, entry, trial } in trials {
        let said = match trial {
            Trial::Failed => format!(
                "Lifeboat: the trial of boot environment '{name}' failed: it was started and did \
                not confirm itself.\n\
                 The system that ran before it is running. `be check {name}` says what is wrong \
                 with it;\n\
                 `be activate {name}` tries it again, `be delete {name}` removes it; if its disk \
                 is gone for good,\n\
                 `be boot-entries remove {entry:04X}` takes it out of the firmware's menu.\n"
            ),
            Trial::Interrupted => format!(
                "Lifeboat: boot environment '{name}' was activated, but never started. `be \
                activate {name}` does it again.\n"
            ),
            Trial::Pending | Trial::Running => continue,
        };
        text.push_str(&said);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_went_wrong_is_said() {
        let trials = [
            ("a", Trial::Failed),
            ("b", Trial::Interrupted),
            ("c", Trial::Pending),
            ("d", Trial::Running),
        ];
        let text =
            text(&trials.map(|(name, trial)| Judged { name: name.into(), entry: 0xA, trial }));
        assert!(text.contains("'a' failed") && text.contains("be check a"), "{text}");
        assert!(text.contains("be boot-entries remove 000A"), "{text}");
        assert!(
            text.contains("'b' was activated") && !text.contains("'c'") && !text.contains("'d'"),
            "{text}"
        );
    }

    #[test]
    fn a_machine_without_uefi_has_no_notice() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let host = Host { sys: at("sys"), dev: at("dev"), proc: at("proc"), run: at("run") };
        std::fs::create_dir_all(at("run/motd.d")).unwrap();
        std::fs::write(at("run/motd.d/lifeboat"), "old").unwrap();
        write(&host).unwrap();
        assert!(!at("run/motd.d/lifeboat").exists());
    }
}
