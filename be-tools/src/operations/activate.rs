//! What must be true before a switch, and the switch (DESIGN.md, "Before a switch").

use std::path::Path;

use boot::efi::{BootEntries, Position, SecureBoot};
use boot::grubenv;

use crate::discover;
use crate::environment::Inventory;
use crate::environment::health::sentences;
use crate::environment::mounted::{Access, MountedEnvironment};
use crate::environment::{BootEnvironment, Descriptor, Id, Trial};
use crate::error::{Error, Refusal, Result};
use crate::host::Host;
use crate::loader::esp_location::EspLocation;
use crate::loader::firmware::{self, reading, writing};
use crate::loader::trial_record::Record;
use crate::loader::{self, Subject, environment_path};
use crate::plan::{Plan, Report, go_on};
use crate::session::lock::Lock;
use crate::storage::device::Devices;
use crate::storage::namespace;
use crate::storage::probe::Kind;

/// For how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// For the next boot, and for good when it confirms itself.
    Trial,
    /// From now on.
    Permanent,
}

/// What is known before the first write.
struct Switch<'a> {
    host: &'a Host,
    inventory: &'a Inventory,
    environment: &'a BootEnvironment,
    descriptor: &'a Descriptor,
    entries: BootEntries,
    how: How,
    /// Why the loader has to be made anew; empty if it need not be.
    loader_problems: Vec<String>,
}

/// Makes a BE the one that boots next. Returns its name, and how: what runs need not be tried.
/// `None` when the report stopped after the plan.
///
/// # Errors
/// A [`Refusal`] when a check fails, before anything is written.
pub fn activate(
    host: &Host,
    reference: &str,
    how: How,
    force: bool,
    report: &mut dyn Report,
) -> Result<Option<(String, How)>> {
    // Locked before looking: what is checked cannot be another operation's half.
    let _lock = Lock::acquire(host)?;
    let inventory = discover::discover(host)?;
    let environment = inventory.find(reference)?;
    let switch = Switch::check(host, &inventory, environment, how, force)?;
    if !report.confirm(&switch.plan(force)?)? {
        return Ok(None);
    }
    namespace::enter_private_namespace()?;
    switch.run(report)?;
    Ok(Some((environment.name().to_owned(), switch.how)))
}

impl<'a> Switch<'a> {
    fn check(
        host: &'a Host,
        inventory: &'a Inventory,
        environment: &'a BootEnvironment,
        how: How,
        force: bool,
    ) -> Result<Self> {
        let descriptor = managed(environment)?;
        refuse_twin(inventory, environment)?;
        let entries = firmware::boot_entries(host)?;
        if entries.secure_boot().map_err(reading)? == SecureBoot::Enabled {
            return Err(Refusal::SecureBoot.into());
        }
        refuse_without_another(&entries, descriptor, force)?;
        let loader = loader::for_environment(host, inventory, environment)?;
        let loader_problems = loader.problems(descriptor.id)?;
        let problems = faults(environment, descriptor, &inventory.devices, &loader_problems);
        if !force && !problems.is_empty() {
            return Err(Refusal::WouldNotBoot { name: environment.name().into(), problems }.into());
        }
        if !loader_problems.is_empty() {
            loader.prove(environment)?;
        }
        // What runs has come up: it need not be tried.
        let how = if environment.running { How::Permanent } else { how };
        Ok(Switch { host, inventory, environment, descriptor, entries, how, loader_problems })
    }

    fn plan(&self, force: bool) -> Result<Plan> {
        let name = self.environment.name();
        let title = match self.how {
            How::Trial => format!("Try boot environment '{name}' at the next boot"),
            How::Permanent => format!("Boot '{name}' from now on"),
        };
        let mut plan = Plan { title, ..Plan::default() };
        for problem in &self.loader_problems {
            plan.notes.push(format!("{problem}: its loader is made anew"));
        }
        if force {
            let problems = faults(
                self.environment,
                self.descriptor,
                &self.inventory.devices,
                &self.loader_problems,
            );
            plan.notes.extend(problems.into_iter().map(|p| format!("--force: {p}")));
        }
        if !self.loader_problems.is_empty() {
            plan.steps.push(format!(
                "write \\EFI\\lifeboat\\{} and its boot entry anew",
                self.descriptor.id.short()
            ));
        }
        match self.how {
            How::Trial => {
                if let Some(fallback) = self.fallback()? {
                    plan.steps.push(format!(
                        "put Boot{fallback:04X} first in BootOrder: a trial that fails ends \
                        there, not in '{name}' again"
                    ));
                }
                plan.steps.push("write the trial record beside its loader".into());
                plan.steps.push("set BootNext to its boot entry".into());
                if !watchdog_runs(self.host) {
                    plan.notes.push(
                        "no watchdog of this machine is active: should the kernel hang before the \
                        initramfs runs, someone \
                         has to reset it by hand"
                            .into(),
                    );
                }
            }
            How::Permanent => {
                plan.steps.push("clear its trial record".into());
                plan.steps.push("put its boot entry first in BootOrder, and clear BootNext".into());
            }
        }
        let others = others_on_trial(self.inventory, self.descriptor.id);
        plan.steps.extend(others.map(|other| format!("call off the trial of '{}'", other.name())));
        Ok(plan)
    }

    fn run(&self, report: &mut dyn Report) -> Result<()> {
        if !self.loader_problems.is_empty() {
            report.part("writing its loader and boot entry anew");
            self.install_loader()?;
        }
        go_on()?;
        let entry = firmware::entries_of(&self.entries, self.descriptor.id)?
            .into_iter()
            .next()
            .ok_or_else(|| {
                Error::Failed(format!(
                    "the boot entry of '{}' is gone: activate it again",
                    self.environment.name()
                ))
            })?;
        self.entries.set_active(entry.number, true).map_err(writing)?;
        match self.how {
            How::Trial => {
                report.part("writing the trial record, then BootNext");
                if let Some(fallback) = self.fallback()? {
                    self.entries.place(fallback, Position::First).map_err(writing)?;
                }
                let previous = self.entries.order().map_err(reading)?.first().copied();
                self.write_record(self.environment, Record::begin(previous))?;
                self.entries.set_next(Some(entry.number)).map_err(writing)?;
            }
            How::Permanent => {
                report.part("putting it first in BootOrder");
                // An old count of attempts must not send its first start to the rescue image.
                self.write_record(self.environment, Record::default())?;
                self.entries.place(entry.number, Position::First).map_err(writing)?;
                self.entries.set_next(None).map_err(writing)?;
            }
        }
        self.call_off_others(report)
    }

    fn fallback(&self) -> Result<Option<u16>> {
        let running = self.inventory.running().and_then(|running| running.boot_entry);
        fallback(&self.entries, self.descriptor.id, running)
    }

    fn install_loader(&self) -> Result<()> {
        let loader = loader::for_environment(self.host, self.inventory, self.environment)?;
        let install =
            |root: &Path| loader.install(&Subject::new(self.descriptor, self.environment, root));
        if self.environment.running {
            return install(Path::new("/")).map(drop);
        }
        let mounted = MountedEnvironment::mount_system(
            self.host,
            self.inventory,
            self.environment,
            Access::ReadWrite,
        )?;
        install(mounted.root()).map(drop)
    }

    /// A trial of another BE that was to come next will not: it is no interrupted one.
    fn call_off_others(&self, report: &mut dyn Report) -> Result<()> {
        for other in others_on_trial(self.inventory, self.descriptor.id) {
            report.part(&format!("calling off the trial of '{}'", other.name()));
            self.write_record(other, Record::default())?;
        }
        Ok(())
    }

    fn write_record(&self, environment: &BootEnvironment, record: Record) -> Result<()> {
        let Some(descriptor) = &environment.descriptor else { return Ok(()) };
        let devices = &self.inventory.devices;
        let entry = firmware::entries_of(&self.entries, descriptor.id)?.into_iter().next();
        let partuuid = entry.and_then(|e| e.option.path.partuuid());
        let location =
            partuuid.map(|p| EspLocation::by_partuuid(devices, p)).transpose()?.flatten();
        let location = location.ok_or_else(|| {
            Error::Failed(format!(
                "the EFI system partition of '{}' is not there",
                environment.name()
            ))
        })?;
        let mounted = location.mount(self.host, devices)?;
        let path = environment_path(mounted.esp(), &descriptor.id.short());
        let failed = |e| Error::boot(format!("writing the trial record {}", path.display()), e);
        let mut block = grubenv::read(&path).map_err(failed)?;
        if Record::read(&block) != record {
            record.write(&mut block).map_err(failed)?;
            grubenv::write_in_place(&path, &block).map_err(failed)?;
        }
        mounted.close()
    }
}

fn managed(environment: &BootEnvironment) -> Result<&Descriptor> {
    let Some(descriptor) = &environment.descriptor else {
        return Err(Refusal::Other(format!(
            "'{}' is unmanaged, so it has no boot entry of Lifeboat's: start it with `be boot {}` \
            and run `be adopt` there",
            environment.reference, environment.reference
        ))
        .into());
    };
    descriptor.refuse_incomplete()?;
    Ok(descriptor)
}

/// Two with one id share a boot entry and a loader directory: to activate one would take them from
/// the other.
fn refuse_twin(inventory: &Inventory, environment: &BootEnvironment) -> Result<()> {
    let Some(twin) = inventory.twin_of(environment) else { return Ok(()) };
    Err(Refusal::Other(format!(
        "'{}' and '{}' have the same id, as block copies have: disconnect the disk of one, or `be \
        delete` it",
        environment.reference, twin.reference
    ))
    .into())
}

/// Why it should not be started, one sentence each. Faults of the loader, in `put_right`, end with
/// the activation.
fn faults(
    environment: &BootEnvironment,
    descriptor: &Descriptor,
    devices: &Devices,
    put_right: &[String],
) -> Vec<String> {
    let all = sentences(&environment.problems).into_iter();
    let mut faults: Vec<String> = all.filter(|problem| !put_right.contains(problem)).collect();
    if descriptor.lost_count() > 0 {
        faults.push(match &descriptor.lost[..] {
            [one] => format!("{} could not be read when it was copied", one.display()),
            _ => format!("{} files could not be read when it was copied", descriptor.lost_count()),
        });
    }
    for swap in environment.file_systems.iter().filter(|f| f.fs_type == "swap") {
        let device = swap.device.as_ref().and_then(|d| devices.by_node(d));
        if device.and_then(|d| d.content.kind()) == Some(Kind::Hibernation) {
            faults.push(format!(
                "a hibernated system waits on its swap space {}: resume it first",
                swap.spec
            ));
        }
    }
    faults
}

/// Those but the one with this id that would be tried at the next boot.
fn others_on_trial(inventory: &Inventory, id: Id) -> impl Iterator<Item = &BootEnvironment> {
    inventory.environments.iter().filter(move |other| {
        other.trial == Some(Trial::Pending) && other.descriptor.as_ref().is_some_and(|d| d.id != id)
    })
}

fn refuse_without_another(
    entries: &BootEntries,
    descriptor: &Descriptor,
    force: bool,
) -> Result<()> {
    if force || !firmware::others(entries, descriptor.id)?.is_empty() {
        return Ok(());
    }
    Err(Refusal::Other(format!(
        "nothing but '{}' is in BootOrder, so there would be nothing to fall back to: make \
        another boot environment, add \
         the rescue image to the firmware's entries, or give --force",
        descriptor.name
    ))
    .into())
}

/// The entry that has to come before the BE's own, so that a failed trial does not end in the same
/// one again: what runs, or what started it, or the next in order. `None` where the order is right,
/// or has nothing else.
fn fallback(entries: &BootEntries, id: Id, running: Option<u16>) -> Result<Option<u16>> {
    if !firmware::first(entries)?.is_some_and(|first| firmware::is_of(&first.option, id)) {
        return Ok(None);
    }
    let others = firmware::others(entries, id)?;
    let current = entries.current().map_err(reading)?;
    let found = running.into_iter().chain(current).find(|number| others.contains(number));
    Ok(found.or(others.first().copied()))
}

/// A watchdog counts: what is only there resets nothing
/// (Documentation/ABI/testing/sysfs-class-watchdog).
fn watchdog_runs(host: &Host) -> bool {
    let Ok(devices) = std::fs::read_dir(host.sys.join("class/watchdog")) else { return false };
    devices.flatten().any(|d| {
        std::fs::read_to_string(d.path().join("state")).is_ok_and(|s| s.trim() == "active")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::{FileSystemUse, Operation, State};
    use crate::loader::testing::{Firmware, environment};

    fn complete() -> BootEnvironment {
        let mut environment = environment("second", "aaaa-02");
        let mut descriptor = Descriptor::new("second".parse().unwrap(), None);
        (descriptor.state, descriptor.operation) = (State::Complete, None);
        environment.descriptor = Some(descriptor);
        environment
    }

    #[test]
    fn unmanaged_and_incomplete_ones_are_refused_with_the_way_out() {
        let mut environment = complete();
        assert!(managed(&environment).is_ok());
        let descriptor = environment.descriptor.as_mut().unwrap();
        (descriptor.state, descriptor.operation) = (State::Incomplete, Some(Operation::Create));
        let refused = managed(&environment).unwrap_err();
        assert_eq!(refused.exit_status(), 3);
        assert!(refused.to_string().contains("interrupted create"), "{refused}");
        environment.descriptor = None;
        let refused = managed(&environment).unwrap_err();
        assert_eq!(refused.exit_status(), 3);
        assert!(refused.to_string().contains("be boot second"), "{refused}");
    }

    #[test]
    fn one_of_two_with_the_same_id_is_refused() {
        let environment = complete();
        let mut inventory =
            Inventory { environments: vec![environment.clone()], ..Inventory::default() };
        assert!(refuse_twin(&inventory, &environment).is_ok());
        let mut twin = environment.clone();
        twin.root.device = "/dev/lifeboat-none9".into();
        inventory.environments.push(twin);
        assert_eq!(refuse_twin(&inventory, &environment).unwrap_err().exit_status(), 3);
    }

    #[test]
    fn each_fault_is_a_sentence() {
        let mut environment = complete();
        let all = |e: &BootEnvironment| {
            faults(
                e,
                e.descriptor.as_ref().unwrap(),
                &Devices::default(),
                &["its loader".to_owned()],
            )
        };
        assert!(all(&environment).is_empty());
        environment.problems =
            ["its kernel has no initramfs", "its loader"].map(|p| p.to_owned().into()).into();
        environment.descriptor.as_mut().unwrap().lost = vec!["/var/lib/a".into(), "/b".into()];
        environment.file_systems.push(FileSystemUse {
            mountpoint: "none".into(),
            spec: "UUID=1".into(),
            device: None,
            fs_type: "swap".into(),
            options: "sw".into(),
            size: None,
            shared: true,
        });
        assert_eq!(
            all(&environment),
            ["its kernel has no initramfs", "2 files could not be read when it was copied"]
        );
    }

    #[test]
    fn the_plan_names_the_trial_that_it_calls_off() {
        let (firmware, environment) = (Firmware::new(), complete());
        let (mut waiting, mut failed) = (complete(), complete());
        waiting.descriptor.as_mut().unwrap().name = "third".parse().unwrap();
        (waiting.trial, failed.trial) = (Some(Trial::Pending), Some(Trial::Failed));
        let itself = BootEnvironment { trial: Some(Trial::Pending), ..environment.clone() };
        let inventory =
            Inventory { environments: vec![itself, waiting, failed], ..Inventory::default() };
        let switch = Switch {
            host: &firmware.host(),
            inventory: &inventory,
            environment: &environment,
            descriptor: environment.descriptor.as_ref().unwrap(),
            entries: firmware.entries(),
            how: How::Permanent,
            loader_problems: Vec::new(),
        };
        let steps = switch.plan(false).unwrap().steps;
        assert_eq!(steps.len(), 3, "{steps:?}");
        assert_eq!(steps[2], "call off the trial of 'third'");
    }

    #[test]
    fn something_to_fall_back_to_must_remain() {
        let (firmware, environment) = (Firmware::new(), complete());
        let descriptor = environment.descriptor.as_ref().unwrap();
        let file = format!(r"\EFI\lifeboat\{}\grubx64.efi", descriptor.id.short());
        firmware.add("Lifeboat: second", &file);
        let entries = firmware.entries();
        assert_eq!(
            refuse_without_another(&entries, descriptor, false).unwrap_err().exit_status(),
            3
        );
        assert!(refuse_without_another(&entries, descriptor, true).is_ok());
        firmware.add("debian", r"\EFI\debian\shimx64.efi");
        assert!(refuse_without_another(&entries, descriptor, false).is_ok());
    }

    #[test]
    fn a_failed_trial_of_the_first_in_order_ends_in_another() {
        let (firmware, environment) = (Firmware::new(), complete());
        let id = environment.descriptor.as_ref().unwrap().id;
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
    fn a_watchdog_that_nobody_started_is_none() {
        let firmware = Firmware::new();
        let host = firmware.host();
        assert!(!watchdog_runs(&host));
        let directory = host.sys.join("class/watchdog/watchdog0");
        std::fs::create_dir_all(&directory).unwrap();
        assert!(!watchdog_runs(&host));
        for (state, expected) in [("inactive\n", false), ("active\n", true)] {
            std::fs::write(directory.join("state"), state).unwrap();
            assert_eq!(watchdog_runs(&host), expected, "{state}");
        }
    }
}
