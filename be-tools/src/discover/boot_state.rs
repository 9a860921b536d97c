//! Asks the loaders of the BEs how they boot: entry, next boot, trial.

use crate::environment::Inventory;
use crate::error::Result;
use crate::host::Host;
use crate::loader::{self, AllEntries, BootState};
use crate::storage::namespace;

/// Sets `boot_entry`, `next_boot` and `trial` of every BE, adds the problems of its loader, and
/// adds warnings about entries whose BE was not found. Without UEFI nothing changes. A BE without
/// an entry may have been made for another machine, so that is not a problem.
///
/// # Errors
/// The boot entries cannot be read.
pub fn annotate(host: &Host, inventory: &mut Inventory) -> Result<()> {
    // Without boot entries no ESP is mounted, so root is not needed.
    if AllEntries::of(host, &inventory.devices).is_none() {
        return annotate_all(host, inventory);
    }
    namespace::in_private_namespace(|| annotate_all(host, inventory))
}

fn annotate_all(host: &Host, inventory: &mut Inventory) -> Result<()> {
    let entries = AllEntries::of(host, &inventory.devices);
    let held = entries.as_ref().map(AllEntries::hold_esps).transpose()?;
    let mut states = Vec::new();
    let mut warnings = Vec::new();
    for environment in &inventory.environments {
        let loader = loader::for_environment(host, inventory, environment);
        states.push(match loader {
            Ok(loader) => loader.state()?,
            Err(unknown) => {
                warnings.push(unknown.to_string());
                BootState::default()
            }
        });
    }
    for (environment, state) in inventory.environments.iter_mut().zip(states) {
        environment.boot_entry = state.entry;
        environment.next_boot = state.next;
        environment.trial = state.trial;
        environment.problems.extend(state.problems.into_iter().map(Into::into));
    }
    if let Some(entries) = &entries {
        entries.follow_foreign(&mut inventory.environments)?;
        warnings.extend(entries.without_root(&inventory.environments)?);
    }
    drop(held);
    inventory.warnings.extend(warnings);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::environment::sentences;
    use crate::environment::{BootEnvironment, Descriptor, State, Trial};
    use crate::loader::testing::{Firmware, environment};
    use crate::loader::trial_record::TrialRecord;

    struct Machine {
        firmware: Firmware,
        environments: Vec<BootEnvironment>,
    }

    /// A new Debian that was adopted as `first` and is running, and its copy `second`.
    fn machine() -> Machine {
        let firmware = Firmware::new();
        let esp = firmware.esp();
        let stub = b"search.fs_uuid aaaa-01 root hd0,gpt2 \nset \
            prefix=($root)'/boot/grub'\nconfigfile $prefix/grub.cfg\n";
        esp.write_new(Path::new("EFI/debian/grub.cfg"), stub).unwrap();
        esp.write_new(Path::new("EFI/debian/shimx64.efi"), b"MZ").unwrap();
        let debian = firmware.add("debian", r"\EFI\debian\shimx64.efi");
        firmware.set("BootCurrent", debian.to_le_bytes().to_vec());
        let mut environments =
            vec![environment("first", "aaaa-01"), environment("second", "aaaa-02")];
        environments[0].running = true;
        for environment in &mut environments {
            let mut descriptor = Descriptor::new(environment.reference.parse().unwrap(), None);
            descriptor.state = State::Complete;
            firmware.add(
                &format!("Lifeboat: {}", environment.reference),
                &format!(r"\EFI\lifeboat\{}\grubx64.efi", descriptor.id.short()),
            );
            firmware.make_record(descriptor.id);
            environment.descriptor = Some(descriptor);
        }
        Machine { firmware, environments }
    }

    impl Machine {
        fn next(&mut self) -> Vec<&str> {
            self.annotate();
            self.environments.iter().filter(|e| e.next_boot).map(|e| e.reference.as_str()).collect()
        }

        /// Annotates the BEs again. Returns the warnings.
        fn annotate(&mut self) -> Vec<String> {
            let mut inventory = Inventory {
                devices: self.firmware.devices(),
                environments: std::mem::take(&mut self.environments),
                ..Inventory::default()
            };
            annotate_all(&self.firmware.host(), &mut inventory).unwrap();
            self.environments = inventory.environments;
            inventory.warnings
        }

        fn record(&self, environment: usize, record: TrialRecord) {
            let id = self.environments[environment].descriptor.as_ref().unwrap().id;
            record.store(&self.firmware.esp(), &id.short()).unwrap();
        }
    }

    #[test]
    fn the_entry_of_a_distribution_starts_the_be_that_its_grub_cfg_names() {
        let mut machine = machine();
        assert_eq!(machine.next(), ["first"]);
        assert_eq!(machine.environments[0].boot_entry, Some(1));
        for environment in &mut machine.environments {
            environment.descriptor = None;
        }
        assert_eq!(machine.next(), ["first"]);
        assert_eq!(machine.environments[0].boot_entry, Some(0));
    }

    #[test]
    fn the_entry_of_a_distribution_without_its_loader_starts_nothing() {
        let mut machine = machine();
        machine.environments[0].running = false;
        std::fs::remove_file(machine.firmware.esp().root().join("EFI/debian/shimx64.efi")).unwrap();
        assert!(machine.next().is_empty());
    }

    #[test]
    fn a_missing_loader_is_a_problem_of_its_be() {
        let mut machine = machine();
        machine.next();
        let problems = |machine: &Machine| sentences(&machine.environments[1].problems).join("; ");
        assert_eq!(problems(&machine), "its loader grubx64.efi is missing on the ESP");
        machine.environments[1].problems.clear();
        std::fs::remove_dir_all(machine.firmware.esp().root().join("EFI/lifeboat")).unwrap();
        machine.next();
        assert_eq!(problems(&machine), "its loader grubx64.efi is missing on the ESP");
        machine.environments[1].problems.clear();
        machine.firmware.entries().remove(2).unwrap();
        machine.next();
        assert_eq!(problems(&machine), "");
    }

    #[test]
    fn a_be_with_an_unknown_loader_is_listed_with_a_warning() {
        let mut machine = machine();
        let descriptor = machine.environments[1].descriptor.as_mut().unwrap();
        descriptor.loader = "of-the-future".parse().unwrap();
        let [warning] = &machine.annotate()[..] else { panic!("one warning") };
        assert!(warning.contains("'second' is started by the loader 'of-the-future'"), "{warning}");
        assert_eq!(machine.next(), ["first"]);
        let second = &machine.environments[1];
        assert_eq!((second.boot_entry, second.problems.len()), (None, 0));
        let (host, inventory) = (machine.firmware.host(), Inventory::default());
        let refused = loader::for_environment(&host, &inventory, second).err().unwrap();
        assert_eq!(refused.exit_status(), 3);
        assert!(refused.to_string().contains("use a newer be"), "{refused}");
    }

    #[test]
    fn an_entry_without_its_root_is_a_warning_with_its_trial() {
        let mut machine = machine();
        machine.record(1, TrialRecord { tried: true, ..TrialRecord::begin(Some(0)) });
        assert!(machine.annotate().is_empty());
        machine.environments.pop();
        let [warning] = &machine.annotate()[..] else { panic!("one warning") };
        assert!(warning.starts_with("Boot0002 starts 'second', whose trial failed"), "{warning}");
        assert!(warning.contains("be boot-entries remove 0002"), "{warning}");
    }

    #[test]
    fn boot_next_and_the_record_decide_the_state_of_the_trial() {
        let mut machine = machine();
        let second = 2;
        machine.record(1, TrialRecord::begin(Some(0)));
        machine.firmware.entries().set_next(Some(second)).unwrap();
        assert_eq!(machine.next(), ["second"]);
        assert_eq!(machine.environments[1].trial, Some(Trial::Pending));

        machine.firmware.entries().set_next(None).unwrap();
        assert_eq!(machine.next(), ["first"]);
        assert_eq!(machine.environments[1].trial, Some(Trial::Interrupted));

        machine.record(1, TrialRecord { tried: true, ..TrialRecord::begin(Some(0)) });
        machine.next();
        assert_eq!(machine.environments[1].trial, Some(Trial::Failed));
        machine.environments[1].running = true;
        machine.next();
        assert_eq!(machine.environments[1].trial, Some(Trial::Running));
    }
}
