//! What the firmware's variables and the ESPs say about BEs that were found: entry, next boot,
//! trial.

use std::collections::BTreeMap;
use std::path::Path;

use boot::efi::{BootEntries, BootEntry, LoadOption};
use uuid::Uuid;

use crate::environment::Inventory;
use crate::environment::{BootEnvironment, Trial};
use crate::error::Result;
use crate::host::Host;
use crate::loader::esp_location::{EspLocation, MountedEsp};
use crate::loader::firmware::{self, reading};
use crate::loader::grub::stub::BootPlace;
use crate::loader::grub::vendor;
use crate::loader::grub::{self, NO_ESP};
use crate::loader::trial_in;
use crate::storage::device::Devices;
use crate::storage::namespace;

/// Fills `boot_entry`, `next_boot` and `trial` of every BE, and adds to `problems` what is wrong
/// with the loader that its boot entry leads to; warns of entries whose BE was not found. Without
/// UEFI they stay as they are; a BE without an entry, made for another machine, is healthy.
///
/// # Errors
/// The variables cannot be read.
pub fn annotate(host: &Host, inventory: &mut Inventory) -> Result<()> {
    let Ok(entries) = firmware::boot_entries(host) else { return Ok(()) };
    let (devices, environments) = (&inventory.devices, &mut inventory.environments);
    let lost = namespace::in_private_namespace(|| {
        let mut esps = Esps { host, devices, mounted: BTreeMap::new() };
        annotate_all(&entries, environments, &mut esps, |environment, place| {
            leads_to(devices, environment, place)
        })
    })?;
    inventory.warnings.extend(lost);
    Ok(())
}

/// Where the ESP of a boot entry is looked up.
trait Lookup {
    /// The ESP of this PARTUUID, mounted to be read; `None` where that does not work.
    fn esp(&mut self, partuuid: Uuid) -> Option<&MountedEsp>;
}

struct Esps<'a> {
    host: &'a Host,
    devices: &'a Devices,
    mounted: BTreeMap<Uuid, Option<MountedEsp>>,
}

impl Lookup for Esps<'_> {
    fn esp(&mut self, partuuid: Uuid) -> Option<&MountedEsp> {
        let (host, devices) = (self.host, self.devices);
        let mount = || {
            EspLocation::by_partuuid(devices, partuuid)?
                .map(|e| e.mount_read_only(host, devices))
                .transpose()
        };
        let mounted = self.mounted.entry(partuuid).or_insert_with(|| {
            mount().unwrap_or_else(|e| {
                log::warn!("{e}");
                None
            })
        });
        mounted.as_ref()
    }
}

fn annotate_all(
    entries: &BootEntries,
    environments: &mut [BootEnvironment],
    esps: &mut dyn Lookup,
    leads_to: impl Fn(&BootEnvironment, &BootPlace) -> bool,
) -> Result<Vec<String>> {
    let boot_next = entries.next().map_err(reading)?;
    let next = firmware::next(entries)?;
    let next_number = next.as_ref().map(|e| e.number);
    for environment in environments.iter_mut() {
        let Some(descriptor) = &environment.descriptor else { continue };
        let own = firmware::entries_of(entries, descriptor.id)?;
        environment.next_boot = own.iter().any(|e| Some(e.number) == next_number);
        let Some(entry) = own.into_iter().next() else { continue };
        environment.boot_entry = Some(entry.number);
        let Some(mounted) = entry.option.path.partuuid().and_then(|p| esps.esp(p)) else {
            environment.problems.push(NO_ESP.to_owned().into());
            continue;
        };
        let is_next = boot_next == Some(entry.number);
        environment.trial =
            trial_in(mounted.esp(), &descriptor.id.short(), environment.running, is_next);
        if let Some((_, file)) = firmware::loader_file(&entry.option) {
            let problems = grub::check(mounted.esp(), descriptor.id, &file, environment);
            environment.problems.extend(problems.into_iter().map(Into::into));
        }
    }
    let mut lost = Vec::new();
    for entry in entries.entries().map_err(reading)? {
        if entry.option.is_lifeboat() {
            lost.extend(without_root(&entry, boot_next == Some(entry.number), environments, esps));
            continue;
        }
        let place = vendor_place(&entry.option, esps);
        let led_to = place.and_then(|p| environments.iter_mut().find(|e| leads_to(e, &p)));
        if let Some(environment) = led_to {
            environment.boot_entry.get_or_insert(entry.number);
            environment.next_boot |= Some(entry.number) == next_number;
        }
    }
    // A foreign entry that does not say where it leads, but led to the system that runs.
    if let Some(next) = &next
        && !next.option.is_lifeboat()
        && !environments.iter().any(|e| e.next_boot)
        && entries.current().map_err(reading)? == Some(next.number)
        && let Some(running) = environments.iter_mut().find(|e| e.running)
    {
        running.next_boot = true;
    }
    Ok(lost)
}

/// The warning for an entry of Lifeboat's whose BE was not found.
fn without_root(
    entry: &BootEntry,
    is_next: bool,
    environments: &[BootEnvironment],
    esps: &mut dyn Lookup,
) -> Option<String> {
    let (directory, _) = firmware::loader_file(&entry.option)?;
    if environments.iter().filter_map(|e| e.descriptor.as_ref()).any(|d| d.id.short() == directory)
    {
        return None;
    }
    let esp = entry.option.path.partuuid().and_then(|partuuid| esps.esp(partuuid));
    let trial = esp.and_then(|esp| trial_in(esp.esp(), &directory, false, is_next));
    let failed = if trial == Some(Trial::Failed) { ", whose trial failed" } else { "" };
    Some(format!(
        "Boot{number:04X} starts '{}'{failed}, but its root is on no disk here: if it is gone for \
        good, \
         `be boot-entries remove {number:04X}` takes it out of the firmware's menu",
        firmware::shown_name(&entry.option, &directory),
        number = entry.number
    ))
}

/// Where a distribution's own entry leads, by the grub.cfg beside its loader.
fn vendor_place(option: &LoadOption, esps: &mut dyn Lookup) -> Option<BootPlace> {
    let file = option.path.file()?.replace('\\', "/");
    let directory = Path::new(file.trim_start_matches('/')).parent()?;
    let mounted = esps.esp(option.path.partuuid()?)?;
    // Without the loader the firmware goes on with the next entry.
    let loader = mounted.esp().absolute(Path::new(file.trim_start_matches('/'))).ok()?;
    loader.is_file().then_some(())?;
    let configuration = mounted.esp().read(&directory.join("grub.cfg")).ok().flatten()?;
    vendor::boot_place(&String::from_utf8_lossy(&configuration))
}

fn leads_to(devices: &Devices, environment: &BootEnvironment, place: &BootPlace) -> bool {
    let boot = environment.file_systems.iter().find(|f| f.mountpoint == Path::new("/boot"));
    match boot {
        Some(boot) => {
            let device = boot.device.as_ref().and_then(|d| devices.by_node(d));
            let uuid = device.and_then(|d| d.super_block()).map(|s| s.uuid.as_str());
            uuid.is_some_and(|u| u.eq_ignore_ascii_case(&place.uuid))
        }
        None => {
            let subvolume =
                environment.root.subvolume.as_deref().unwrap_or_default().trim_matches('/');
            environment.root.uuid.eq_ignore_ascii_case(&place.uuid)
                && place.path.trim_matches('/').strip_suffix("boot").map(|p| p.trim_matches('/'))
                    == Some(subvolume)
        }
    }
}

#[cfg(test)]
mod tests {
    use boot::esp::Esp;
    use boot::grubenv::EnvironmentBlock;

    use super::*;
    use crate::environment::health::sentences;
    use crate::environment::{Descriptor, State};
    use crate::loader::environment_path;
    use crate::loader::testing::{Firmware, PARTUUID, environment};
    use crate::loader::trial_record::Record;

    struct OneEsp(MountedEsp);

    impl Lookup for OneEsp {
        fn esp(&mut self, partuuid: Uuid) -> Option<&MountedEsp> {
            (partuuid == PARTUUID).then_some(&self.0)
        }
    }

    struct Machine {
        firmware: Firmware,
        directory: tempfile::TempDir,
        environments: Vec<BootEnvironment>,
    }

    /// A fresh Debian that was adopted as `first` and runs, and its copy `second`.
    fn machine() -> Machine {
        let directory = tempfile::tempdir().unwrap();
        let firmware = Firmware::new();
        let esp = Esp::new(directory.path());
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
            let path = Esp::directory_of(&descriptor.id.short()).join("lifeboat.env");
            esp.write_new(&path, &EnvironmentBlock::new().to_bytes().unwrap()).unwrap();
            environment.descriptor = Some(descriptor);
        }
        Machine { firmware, directory, environments }
    }

    impl Machine {
        fn next(&mut self) -> Vec<&str> {
            self.annotate();
            self.environments.iter().filter(|e| e.next_boot).map(|e| e.reference.as_str()).collect()
        }

        /// Anew; the warnings.
        fn annotate(&mut self) -> Vec<String> {
            for environment in &mut self.environments {
                (environment.next_boot, environment.trial, environment.boot_entry) =
                    (false, None, None);
            }
            let mut esps = OneEsp(MountedEsp::of_directory(self.directory.path()));
            let leads = |e: &BootEnvironment, p: &BootPlace| leads_to(&Devices::default(), e, p);
            annotate_all(&self.firmware.entries(), &mut self.environments, &mut esps, leads)
                .unwrap()
        }

        fn record(&self, environment: usize, record: Record) {
            let esp = Esp::new(self.directory.path());
            let id = self.environments[environment].descriptor.as_ref().unwrap().id;
            let path = environment_path(&esp, &id.short());
            let mut block = boot::grubenv::read(&path).unwrap();
            record.write(&mut block).unwrap();
            boot::grubenv::write_in_place(&path, &block).unwrap();
        }
    }

    #[test]
    fn a_vendors_entry_leads_to_the_be_that_its_grub_cfg_names() {
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
    fn a_vendors_entry_without_a_loader_leads_nowhere() {
        let mut machine = machine();
        machine.environments[0].running = false;
        std::fs::remove_file(machine.directory.path().join("EFI/debian/shimx64.efi")).unwrap();
        assert!(machine.next().is_empty());
    }

    #[test]
    fn a_loader_that_is_gone_is_a_problem_of_its_be() {
        let mut machine = machine();
        machine.next();
        let problems = |machine: &Machine| sentences(&machine.environments[1].problems).join("; ");
        assert_eq!(problems(&machine), "its loader grubx64.efi is missing on the ESP");
        machine.environments[1].problems.clear();
        std::fs::remove_dir_all(machine.directory.path().join("EFI/lifeboat")).unwrap();
        machine.next();
        assert_eq!(problems(&machine), "its loader grubx64.efi is missing on the ESP");
        machine.environments[1].problems.clear();
        machine.firmware.entries().remove(2).unwrap();
        machine.next();
        assert_eq!(problems(&machine), "");
    }

    #[test]
    fn an_entry_whose_root_is_gone_is_told_with_its_trial() {
        let mut machine = machine();
        machine.record(1, Record { tried: true, ..Record::begin(Some(0)) });
        assert!(machine.annotate().is_empty());
        machine.environments.pop();
        let [warning] = &machine.annotate()[..] else { panic!("one warning") };
        assert!(warning.starts_with("Boot0002 starts 'second', whose trial failed"), "{warning}");
        assert!(warning.contains("be boot-entries remove 0002"), "{warning}");
    }

    #[test]
    fn boot_next_decides_and_the_record_says_how_the_trial_stands() {
        let mut machine = machine();
        let second = 2;
        machine.record(1, Record::begin(Some(0)));
        machine.firmware.entries().set_next(Some(second)).unwrap();
        assert_eq!(machine.next(), ["second"]);
        assert_eq!(machine.environments[1].trial, Some(Trial::Pending));

        machine.firmware.entries().set_next(None).unwrap();
        assert_eq!(machine.next(), ["first"]);
        assert_eq!(machine.environments[1].trial, Some(Trial::Interrupted));

        machine.record(1, Record { tried: true, ..Record::begin(Some(0)) });
        machine.next();
        assert_eq!(machine.environments[1].trial, Some(Trial::Failed));
        machine.environments[1].running = true;
        machine.next();
        assert_eq!(machine.environments[1].trial, Some(Trial::Running));
    }
}
