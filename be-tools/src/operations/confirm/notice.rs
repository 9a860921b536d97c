//! The notice at login of trials that failed or were interrupted: pam_motd(8) shows `/run/motd.d`.

use super::running;
use crate::environment::Trial;
use crate::error::{Doing, Result};
use crate::host::Host;
use crate::loader::{AllEntries, UnconfirmedTrial};
use crate::storage::device::Devices;
use crate::storage::namespace;

const FILE: &str = "motd.d/lifeboat";

/// Writes the notice, or removes the old one if there is no such trial.
///
/// # Errors
/// The variables cannot be read, or `/run` cannot be written.
pub fn write(host: &Host) -> Result<()> {
    let path = host.run.join(FILE);
    let text = text(&trials(host)?);
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

/// The unconfirmed trials of all BEs except the running one.
fn trials(host: &Host) -> Result<Vec<UnconfirmedTrial>> {
    if AllEntries::of(host, &Devices::default()).is_none() {
        return Ok(Vec::new());
    }
    // If the descriptor of the running BE cannot be read, there is no id to leave out.
    let running = running::descriptor().ok().flatten().map(|descriptor| descriptor.id);
    namespace::in_private_namespace(|| {
        let devices = Devices::scan(host)?;
        AllEntries::of(host, &devices).map_or(Ok(Vec::new()), |all| all.unconfirmed(running))
    })
}

fn text(trials: &[UnconfirmedTrial]) -> String {
    let mut text = String::new();
    for UnconfirmedTrial { name, entry, trial } in trials {
        let paragraph = match trial {
            Trial::Failed => format!(
                "Lifeboat: the trial of boot environment '{name}' failed: it was started and did \
                not confirm itself.\n\
                The system that ran before the trial is running. `be check {name}` looks for the \
                reason,\n\
                `be activate {name}` tries '{name}' again, and `be delete {name}` deletes it. If \
                its disk is lost,\n\
                `be boot-entries remove {entry:04X}` removes it from the firmware's menu.\n"
            ),
            Trial::Interrupted => format!(
                "Lifeboat: boot environment '{name}' was activated but never started. `be activate \
                {name}` activates it again.\n"
            ),
            Trial::Pending | Trial::Running => continue,
        };
        text.push_str(&paragraph);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failed_and_interrupted_trials_are_in_the_notice() {
        let trials = [
            ("a", Trial::Failed),
            ("b", Trial::Interrupted),
            ("c", Trial::Pending),
            ("d", Trial::Running),
        ];
        let text = text(&trials.map(|(name, trial)| UnconfirmedTrial {
            name: name.into(),
            entry: 0xA,
            trial,
        }));
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
        let host = Host::below(directory.path());
        std::fs::create_dir_all(at("run/motd.d")).unwrap();
        std::fs::write(at("run/motd.d/lifeboat"), "old").unwrap();
        write(&host).unwrap();
        assert!(!at("run/motd.d/lifeboat").exists());
    }
}
