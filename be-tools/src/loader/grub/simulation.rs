//! Tests that GRUB on UEFI keeps the promises of every loader: on a simulated machine with real
//! variables and files, whose firmware and stub act as the specification and `stub.cfg` say.

use std::path::Path;

use boot::efi::{BootEntry, VariableName};
use boot::esp::Esp;

use super::check::stub_of;
use super::stub::{HINT, REQUIRED, RESCUE_IMAGE, Stub};
use super::*;
use crate::environment::{BootEnvironment, Descriptor, Id, State};
use crate::loader::contract::run;
use crate::loader::esp_location::EspLocation;
use crate::loader::firmware;
use crate::loader::promises::{Machine, Started, keep_every_promise};
use crate::loader::testing::{Firmware, environment};
use crate::loader::trial_record::{MAX_ATTEMPTS, TrialRecord};
use crate::storage::device::BlockDevice;
use crate::storage::probe::{Kind, SuperBlock};

const FOREIGN: &str = "EFI/debian/shimx64.efi";
const RESCUE: &str = "EFI/lifeboat/rescue.efi";

struct GrubMachine {
    firmware: Firmware,
    host: Host,
    inventory: Inventory,
    /// A tree with a GRUB, which stands for the root of every BE.
    root: tempfile::TempDir,
}

impl GrubMachine {
    fn new() -> Self {
        let (firmware, root) = (Firmware::new(), tempfile::tempdir().unwrap());
        firmware.esp().write_new(Path::new(FOREIGN), b"MZ").unwrap();
        firmware.esp().write_new(Path::new(RESCUE), b"MZ").unwrap();
        let debian = firmware.add("debian", r"\EFI\debian\shimx64.efi");
        firmware.set("BootCurrent", debian.to_le_bytes().to_vec());
        let modules = root.path().join("usr/lib/grub/x86_64-efi");
        for directory in [&modules, &root.path().join("usr/bin")] {
            std::fs::create_dir_all(directory).unwrap();
        }
        for module in REQUIRED {
            std::fs::write(modules.join(format!("{module}.mod")), "").unwrap();
        }
        std::fs::write(root.path().join("usr/bin/grub-mkimage"), "").unwrap();
        let inventory = Inventory { devices: firmware.devices(), ..Inventory::default() };
        GrubMachine { host: firmware.host(), firmware, inventory, root }
    }

    fn environment(&self, name: &str) -> &BootEnvironment {
        self.inventory.environments.iter().find(|e| e.name() == name).unwrap()
    }

    fn descriptor(&self, name: &str) -> &Descriptor {
        self.environment(name).descriptor.as_ref().unwrap()
    }

    fn id(&self, name: &str) -> Id {
        self.descriptor(name).id
    }

    fn entry(&self, name: &str) -> Option<BootEntry> {
        let found = firmware::entries_of(&self.firmware.entries(), self.id(name)).unwrap();
        found.into_iter().next()
    }

    /// The first entry that the firmware can start: `BootNext`, active or not, else the order (UEFI
    /// 2.10, 3.1.1). An entry whose file does not exist is skipped.
    fn chosen(&self) -> Option<BootEntry> {
        let entries = self.firmware.entries();
        let next = entries.next().unwrap();
        entries.set_next(None).unwrap();
        let at = |number| entries.entry(number).unwrap();
        let order = entries.order().unwrap().into_iter().filter_map(at);
        let active = order.filter(|entry| entry.option.is_active());
        next.and_then(at).into_iter().chain(active).find(|entry| {
            let file = entry.option.path.file().unwrap().replace('\\', "/");
            self.firmware.esp().root().join(file.trim_start_matches('/')).is_file()
        })
    }

    /// Does what the stub does: counts the attempt, and starts the BE whose `/boot` it names.
    fn hand_over(&self, directory: &str, file: &str) -> Started {
        let esp = self.firmware.esp();
        let text = esp.read(&Esp::directory_of(directory).join(stub_of(file))).unwrap().unwrap();
        let text = String::from_utf8(text).unwrap();
        let mut record = TrialRecord::load(&esp, directory).unwrap();
        let is_last = record.attempts == MAX_ATTEMPTS;
        if is_last && esp.root().join(RESCUE_IMAGE.trim_start_matches('/')).exists() {
            return Started::Rescue;
        }
        record.attempts = MAX_ATTEMPTS.min(record.attempts + 1);
        record.tried |= record.trial;
        record.store(&esp, directory).unwrap();
        Started::Environment(self.search(&text).unwrap().name().to_owned())
    }

    /// What GRUB's `search` finds: with the hint, first on the disk that the stub was read from,
    /// else on the first disk that has the UUID.
    fn search(&self, stub: &str) -> Option<&BootEnvironment> {
        let uuid = Stub::parse(stub).unwrap().boot.uuid;
        let disk = EspLocation::all(&self.firmware.devices()).pop().unwrap().disk;
        let all = self.inventory.environments.iter();
        let mut found: Vec<_> = all.filter(|e| e.root.uuid == uuid).collect();
        found.sort_by_key(|e| stub.contains(HINT) && e.root.disk != disk);
        found.first().copied()
    }

    /// Sets the running BE, as a scan would find it.
    fn run(&mut self, running: Option<&str>) {
        let entries = self.inventory.environments.iter();
        let entries: Vec<_> = entries.map(|e| self.entry(e.name()).map(|e| e.number)).collect();
        for (environment, entry) in self.inventory.environments.iter_mut().zip(entries) {
            environment.running = Some(environment.name()) == running;
            environment.boot_entry = entry;
        }
    }
}

impl Machine for GrubMachine {
    fn add(&mut self, name: &str) {
        let uuid = format!("aaaa-{:02}", self.inventory.environments.len());
        let mut added = environment(name, &uuid).complete();
        added.root.disk = "/dev/lifeboat-esp1".into();
        self.inventory.environments.push(added);
    }

    fn loader(&self, name: &str) -> Box<dyn Loader + '_> {
        let loader = GrubEfi::new(&self.host, &self.inventory, self.environment(name));
        Box::new(loader.with_images(|_, target, _, stub| {
            Ok(format!("MZ {} {stub}", target.descriptor.name).into())
        }))
    }

    fn install(&self, name: &str) {
        let target =
            InstallTarget::new(self.descriptor(name), self.environment(name), self.root.path());
        self.loader(name).install(&target).unwrap();
    }

    fn set_state(&mut self, name: &str, state: State) {
        let found = self.inventory.environments.iter_mut().find(|e| e.name() == name).unwrap();
        found.descriptor.as_mut().unwrap().state = state;
    }

    fn start(&mut self) -> Started {
        let Some(entry) = self.chosen() else { return Started::Nothing };
        self.firmware.set("BootCurrent", entry.number.to_le_bytes().to_vec());
        let started = match firmware::loader_file(&entry.option) {
            Some((directory, file)) => self.hand_over(&directory, &file),
            None => Started::Foreign,
        };
        match &started {
            Started::Environment(name) => self.run(Some(name)),
            _ => self.run(None),
        }
        started
    }

    fn kexec(&mut self, name: &str) {
        self.run(Some(name));
    }

    fn lose_foreign(&mut self) {
        std::fs::remove_file(self.firmware.esp().root().join(FOREIGN)).unwrap();
        let entries = self.firmware.entries();
        let foreign = entries.entries().unwrap().into_iter().find(|e| !e.option.is_lifeboat());
        // Not by a verb, which would keep the last one that starts.
        let name = VariableName::global(format!("Boot{:04X}", foreign.unwrap().number));
        entries.variables().delete(&name).unwrap();
    }

    fn damage(&mut self, name: &str) {
        let (directory, file) = firmware::loader_file(&self.entry(name).unwrap().option).unwrap();
        let path = self.firmware.esp().root().join(Esp::directory_of(&directory)).join(file);
        std::fs::write(path, "MZ damaged").unwrap();
    }

    fn shown(&self, name: &str) -> Option<String> {
        self.entry(name).map(|entry| entry.option.description)
    }

    fn has_files(&self, name: &str) -> bool {
        let directory = Esp::directory_of(&self.id(name).short());
        self.firmware.esp().root().join(directory).exists()
    }
}

keep_every_promise! { || Box::new(GrubMachine::new()) }

#[test]
fn a_machine_that_enforces_signatures_is_refused() {
    let mut machine = GrubMachine::new();
    machine.add("second");
    machine.firmware.set("SecureBoot", vec![1]);
    let loader = machine.loader("second");
    for refused in [loader.prove(machine.environment("second")), loader.prove_switch(true)] {
        assert!(matches!(refused, Err(crate::Error::Refused(Refusal::SecureBoot))));
    }
}

#[test]
fn no_loader_is_written_to_an_esp_whose_partuuid_a_copy_has() {
    let mut machine = GrubMachine::new();
    machine.add("first");
    machine.install("first");
    machine.add("second");
    machine.inventory.devices = machine.firmware.attach_copy();
    for found in &mut machine.inventory.environments {
        found.root.disk = "/dev/lifeboat-esp".into();
    }
    // `be adopt` and `be create` ask the first, for a BE that has an entry or none; `be activate`
    // the other.
    let prove = |name| machine.loader(name).prove(machine.environment(name)).map(drop);
    let switch = machine.loader("first").prove_switch(true).map(drop);
    for refused in [prove("first"), prove("second"), switch] {
        let is_ambiguous =
            matches!(&refused, Err(crate::Error::Refused(Refusal::AmbiguousEsp { .. })));
        assert!(is_ambiguous, "{refused:?}");
    }
}

#[test]
fn a_loader_of_an_earlier_version_starts_its_be_and_is_written_again_by_a_switch() {
    let mut machine = GrubMachine::new();
    machine.add("second");
    machine.install("second");
    let directory = Esp::directory_of(&machine.id("second").short());
    let stub = machine.firmware.esp().root().join(directory).join("lifeboat.cfg");
    let text = std::fs::read_to_string(&stub).unwrap().replace(HINT, "");
    let body = &text[..text.rfind("# end ").unwrap()];
    let sealed = format!("{body}# end {}\n", blake3::hash(body.as_bytes()).to_hex());
    std::fs::write(&stub, sealed).unwrap();

    assert_eq!(machine.loader("second").state().unwrap().problems, []);
    let problems = |machine: &GrubMachine| machine.loader("second").problems().unwrap();
    assert_eq!(problems(&machine), [LoaderProblem::Outdated]);
    machine.install("second");
    assert_eq!(problems(&machine), []);
}

#[test]
fn the_directory_on_another_machines_esp_is_not_removed() {
    let mut machine = GrubMachine::new();
    machine.add("second");
    machine.install("second");
    let directory =
        machine.firmware.esp().root().join(Esp::directory_of(&machine.id("second").short()));
    assert!(directory.exists());
    // The entry is gone, and the only ESP is on the disk of neither this BE nor the running one.
    let entry = machine.entry("second").unwrap();
    machine.firmware.entries().remove(entry.number).unwrap();
    let environment = BootEnvironment {
        root: crate::environment::Root {
            disk: "/dev/vdz".into(),
            ..machine.environment("second").root.clone()
        },
        ..machine.environment("second").clone()
    };
    machine.inventory.devices = machine
        .inventory
        .devices
        .iter()
        .map(|device| BlockDevice { removable: true, ..device.clone() })
        .collect();
    let loader =
        crate::loader::for_environment(&machine.host, &machine.inventory, &environment).unwrap();
    run(&loader.remove().unwrap()).unwrap();
    assert!(directory.exists());
}

/// A machine with `second` on the disk of the ESP, and `copy` with its UUID on a disk before that.
fn with_a_copy() -> GrubMachine {
    let mut machine = GrubMachine::new();
    machine.add("copy");
    machine.add("second");
    let second = machine.environment("second").root.clone();
    let copy = &mut machine.inventory.environments[0].root;
    (copy.uuid, copy.disk) = (second.uuid, "/dev/lifeboat-copy".into());
    machine.install("second");
    let loader = machine.loader("second");
    loader.set_listed(true).unwrap();
    run(&loader.make_default().unwrap()).unwrap();
    drop(loader);
    machine
}

#[test]
fn of_two_file_systems_with_one_uuid_that_on_the_disk_of_the_stub_is_started() {
    let mut machine = with_a_copy();
    assert_eq!(machine.start(), Started::Environment("second".into()));
    // The disk with the ESP has no such file system: the hint does no harm.
    machine.inventory.environments[1].root.disk = "/dev/vdz".into();
    assert_eq!(machine.start(), Started::Environment("copy".into()));
}

#[test]
fn without_a_rescue_image_on_its_own_esp_the_be_is_tried_once_more() {
    let mut machine = with_a_copy();
    machine.firmware.attach_copy();
    assert!(machine.firmware.copy_of_esp().root().join(RESCUE).exists());
    std::fs::remove_file(machine.firmware.esp().root().join(RESCUE)).unwrap();
    for _ in 0..5 {
        assert_eq!(machine.start(), Started::Environment("second".into()));
    }
}

#[test]
fn every_start_is_confirmed_although_a_copy_of_the_disk_is_attached() {
    let mut machine = with_a_copy();
    machine.inventory.devices = machine.firmware.attach_copy();
    machine.firmware.mount_root();
    for _ in 0..5 {
        assert_eq!(machine.start(), Started::Environment("second".into()));
        let loader = machine.loader("second");
        run(&loader.confirm().unwrap()).unwrap();
    }
}

#[test]
fn the_esp_that_counted_the_start_wins_over_the_mounted_one() {
    let mut machine = with_a_copy();
    // Where the mount table does not show the root on the disk of either.
    machine.inventory.devices = machine.firmware.attach_copy();
    machine.firmware.mount_copy_of_esp();
    for _ in 0..5 {
        assert_eq!(machine.start(), Started::Environment("second".into()));
        let loader = machine.loader("second");
        run(&loader.confirm().unwrap()).unwrap();
    }
}

/// The notes and the lines of the removal of `second`, which is then done.
fn remove_second(machine: &GrubMachine) -> (Vec<String>, Vec<String>) {
    let loader = machine.loader("second");
    let (notes, steps) = (loader.kept_by_removal().unwrap(), loader.remove().unwrap());
    let lines = steps.iter().map(ToString::to_string).collect();
    run(&steps).unwrap();
    (notes, lines)
}

#[test]
fn a_copy_with_the_id_of_a_be_whose_disk_is_away_does_not_take_its_entry_and_files_with_it() {
    let add_second = || {
        let mut machine = GrubMachine::new();
        machine.add("second");
        machine.install("second");
        machine
    };
    let is_left = |machine: &GrubMachine, why: &str| {
        let (notes, lines) = remove_second(machine);
        assert_eq!(lines, Vec::<String>::new(), "{why}");
        assert_eq!(notes.len(), 2, "{notes:?}");
        assert!(notes.iter().all(|note| note.contains(why)), "{notes:?}");
        assert!(machine.has_files("second") && machine.entry("second").is_some(), "{why}");
    };

    let mut machine = add_second();
    machine.inventory.environments[0].root.uuid = "bbbb-00".into();
    is_left(&machine, "leads to another file system");

    let mut machine = add_second();
    let uuid = machine.environment("second").root.uuid.clone();
    let with_uuid = |name| {
        let found = SuperBlock { uuid: (*uuid).into(), ..SuperBlock::new(Kind::Ext4) };
        BlockDevice::example(name, found)
    };
    let disks = ["lifeboat-none1", "lifeboat-none2"].map(with_uuid);
    machine.inventory.devices = machine.firmware.devices().iter().cloned().chain(disks).collect();
    is_left(&machine, "/dev/lifeboat-none1 and /dev/lifeboat-none2");

    let machine = add_second();
    let directory =
        machine.firmware.esp().root().join(Esp::directory_of(&machine.id("second").short()));
    std::fs::write(directory.join("lifeboat.cfg"), "reboot\n").unwrap();
    is_left(&machine, "lifeboat.cfg is damaged");
    // As the first one it would reboot for ever, once its root is erased.
    let refuse = |machine: &GrubMachine| {
        let loader = machine.loader("second");
        loader.refuse_kept_first(&loader.removed_entries().unwrap())
    };
    refuse(&machine).unwrap();
    run(&machine.loader("second").make_default().unwrap()).unwrap();
    let refused = refuse(&machine).unwrap_err();
    assert!(refused.to_string().contains("be boot-entries remove"), "{refused}");

    // What starts nothing belongs to nobody.
    std::fs::remove_file(directory.join("lifeboat.cfg")).unwrap();
    refuse(&machine).unwrap();
    let (notes, lines) = remove_second(&machine);
    assert_eq!((notes.len(), lines.len()), (0, 2));
    assert!(!machine.has_files("second") && machine.entry("second").is_none());
}
