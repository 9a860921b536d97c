//! The hardware child: loads modules for all devices, including those that appear later, and starts
//! a scan whenever a disk is added, removed or changed.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, ExitCode};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::modules::Loader;
use crate::scan::{self, DIRECTORY};
use crate::uevent::{Listener, ReadResult};
use crate::{log as kernel_log, mounts};

/// Exists once the modules are loaded for all devices that were present at boot.
pub const READY: &str = "/run/rescue-init/hardware";

/// The program that the kernel runs to request a module: this one, under another name.
const MODPROBE: &str = "/run/rescue-init/modprobe";

/// Modules wait for hardware while they initialise, so more threads than processors help.
const THREADS: usize = 4;

/// Modules that every boot environment needs at some point. They are loaded while nothing else is.
const EARLY: &[&str] = &["fs-ext4", "fs-vfat"];

/// Partitions appear one by one: how long the disks must be unchanged before a scan, and how long
/// the scan may be postponed.
const QUIET_TIME: Duration = Duration::from_millis(50);
const MAX_DELAY: Duration = Duration::from_secs(1);

/// Runs until the machine shuts down.
pub fn run() -> ExitCode {
    kernel_log::start("hardware");
    match watch() {
        Ok(never) => match never {},
        Err(error) => {
            log::error!("uevents cannot be received: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `/run/rescue-init/modprobe -q -- NAME`, as run by the kernel (kernel/module/kmod.c).
pub fn modprobe(names: impl Iterator<Item = String>) -> ExitCode {
    kernel_log::start("modprobe");
    let loader = match Loader::for_running_kernel() {
        Ok(loader) => loader,
        Err(error) => {
            log::error!("reading the lists of kernel modules: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut all = true;
    for name in names.filter(|name| !name.starts_with('-')) {
        all &= loader.load(&name);
    }
    if all { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

enum Never {}

fn watch() -> io::Result<Never> {
    // The socket is opened before devices are listed, so that no device is missed in between.
    let listener = Listener::open()?;
    fs::create_dir_all(DIRECTORY)?;
    register_modprobe();
    // Reading the lists of modules takes as long as listing devices.
    let (loader, devices) = thread::scope(|scope| {
        let devices = scope.spawn(modaliases);
        (Loader::for_running_kernel(), devices.join().unwrap_or_default())
    });
    let loader = loader?;
    for failure in loader.make_static_nodes(Path::new("/dev")) {
        log::warn!("{failure}");
    }
    let queue = Queue::default();
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| queue.run(&loader));
        }
        let watch = Watcher {
            listener,
            queue: &queue,
            requested: HashSet::new(),
            changes: None,
            scanner: None,
        };
        watch.run(devices, &loader)
    })
}

/// Makes the kernel run [`MODPROBE`] when something needs a module: a mount, a cipher, a device
/// node.
fn register_modprobe() {
    let program = std::env::current_exe().unwrap_or_else(|_| "/init".into());
    let made = match symlink(program, MODPROBE) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    };
    if let Err(error) = made.and_then(|()| fs::write("/proc/sys/kernel/modprobe", MODPROBE)) {
        log::error!("the kernel cannot request modules: {error}");
    }
}

/// The modules to load, the most urgent first, and how many are not loaded yet.
#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<BinaryHeap<(Urgency, Reverse<usize>, String)>>,
    more: Condvar,
    open: AtomicUsize,
}

impl Queue {
    fn add(&self, alias: String) {
        let number = self.open.fetch_add(1, Ordering::Acquire);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push((urgency(&alias), Reverse(number), alias));
        self.more.notify_one();
    }

    /// Loads the modules in the queue. Never returns.
    fn run(&self, loader: &Loader) {
        loop {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let alias = loop {
                match waiting.pop() {
                    Some((_, _, alias)) => break alias,
                    None => {
                        waiting = self.more.wait(waiting).unwrap_or_else(PoisonError::into_inner)
                    }
                }
            };
            drop(waiting);
            set_nice_value(urgency(&alias));
            loader.load(&alias);
            self.open.fetch_sub(1, Ordering::Release);
        }
    }

    fn is_idle(&self) -> bool {
        self.open.load(Ordering::Acquire) == 0
    }
}

/// How urgently a module is needed. The most urgent is the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    /// Everything else.
    Other,
    /// File systems.
    FileSystems,
    /// Drivers of disks and their controllers.
    Disks,
    /// The same for disks that respond immediately: no spin-up, no bus that has to be probed.
    FastDisks,
}

/// Sets the nice value of this thread according to urgency. On Linux each thread has its own.
fn set_nice_value(urgency: Urgency) {
    let nice = match urgency {
        Urgency::Other => 10,
        Urgency::Disks => 0,
        // File systems are needed as soon as the first disk is found.
        Urgency::FileSystems | Urgency::FastDisks => -5,
    };
    // If this fails, modules are loaded all the same, only later.
    let _ = rustix::process::setpriority_process(None, nice);
}

/// The urgency by device class: the list of BEs needs disks, then their file systems, but neither
/// keyboards nor CD drives.
fn urgency(alias: &str) -> Urgency {
    let is_any =
        |device: &str, prefixes: &[&str]| prefixes.iter().any(|prefix| device.starts_with(prefix));
    match alias.split_once(':') {
        // Virtio and NVMe controllers (PCI class 01, subclass 08), then all mass storage.
        Some(("pci", device)) if device.starts_with("v00001AF4") || device.contains("bc01sc08") => {
            Urgency::FastDisks
        }
        Some(("pci", device)) if device.contains("bc01sc") => Urgency::Disks,
        // Types 2 and 8 are disks (virtio 1.2, section 5).
        Some(("virtio", device)) if is_any(device, &["d00000002", "d00000008"]) => {
            Urgency::FastDisks
        }
        Some(("vmbus" | "xen" | "nvme", _)) => Urgency::FastDisks,
        // Types 0x00 and 0x0e are disks; 0x05 is a CD drive.
        Some(("scsi", device)) if is_any(device, &["t-0x00", "t-0x0e"]) => Urgency::Disks,
        Some(("usb", device)) if device.contains("ic08") => Urgency::Disks,
        None if alias.starts_with("fs-") => Urgency::FileSystems,
        _ => Urgency::Other,
    }
}

/// When disks changed since the last scan.
#[derive(Clone, Copy, Debug)]
struct DiskChanges {
    first: Instant,
    last: Instant,
}

impl DiskChanges {
    fn now() -> Self {
        DiskChanges { first: Instant::now(), last: Instant::now() }
    }

    fn is_due(&self) -> bool {
        self.last.elapsed() >= QUIET_TIME || self.first.elapsed() >= MAX_DELAY
    }
}

struct Watcher<'a> {
    listener: Listener,
    queue: &'a Queue,
    requested: HashSet<String>,
    changes: Option<DiskChanges>,
    scanner: Option<Child>,
}

impl Watcher<'_> {
    fn run(mut self, devices: Vec<String>, loader: &Loader) -> io::Result<Never> {
        devices.into_iter().for_each(|modalias| self.load(modalias));
        EARLY.iter().for_each(|alias| self.load((*alias).into()));
        // If a scan started before these are loaded, the kernel would request them through
        // modprobe, which has to read the lists of modules again.
        loader.load("fs-efivarfs");
        EARLY.iter().for_each(|alias| _ = loader.load(alias));
        if let Err(error) = mounts::firmware_variables() {
            log::warn!("efivarfs cannot be mounted: {error}");
        }
        let mut ready = false;
        loop {
            self.handle_uevents()?;
            if !ready && self.queue.is_idle() {
                // By now, the socket has received all uevents of the last module.
                self.handle_uevents()?;
                ready = self.queue.is_idle();
                if ready {
                    log::info!("modules are loaded for all devices");
                    fs::write(READY, "")?;
                    // A scan is also needed to report that there is no disk.
                    if self.changes.is_some() || self.scanner.is_none() {
                        self.start_scan();
                    }
                }
            }
            if self.changes.is_some_and(|changes| changes.is_due()) {
                self.start_scan();
            }
            self.wait(ready);
        }
    }

    fn load(&mut self, alias: String) {
        if self.requested.insert(alias.clone()) {
            self.queue.add(alias);
        }
    }

    /// Handles all uevents that have arrived.
    fn handle_uevents(&mut self) -> io::Result<()> {
        loop {
            match self.listener.read()? {
                ReadResult::Empty => return Ok(()),
                ReadResult::Ignored => {}
                ReadResult::Overflow => {
                    log::warn!("uevents were lost; checking all devices again");
                    modaliases().into_iter().for_each(|modalias| self.load(modalias));
                    self.changes.get_or_insert_with(DiskChanges::now);
                }
                ReadResult::Event(event) => {
                    if event.is_block() && !event.path.starts_with("/devices/virtual/") {
                        self.changes.get_or_insert_with(DiskChanges::now).last = Instant::now();
                    }
                    if let Some(modalias) = event.modalias.filter(|_| event.action == "add") {
                        self.load(modalias);
                    }
                }
            }
        }
    }

    /// Starts a scan, unless one is running.
    fn start_scan(&mut self) {
        if let Some(scanner) = &mut self.scanner
            && matches!(scanner.try_wait(), Ok(None))
        {
            return;
        }
        self.changes = None;
        match scan::start(Path::new(DIRECTORY), "be") {
            Ok(scanner) => self.scanner = Some(scanner),
            Err(error) => log::error!("the scan cannot be started: {error}"),
        }
    }

    fn wait(&self, ready: bool) {
        let mut sources = [PollFd::new(&self.listener, PollFlags::IN)];
        let timeout = match (ready, self.changes) {
            (false, _) => Timespec { tv_sec: 0, tv_nsec: 10_000_000 },
            (true, Some(_)) => Timespec { tv_sec: 0, tv_nsec: 50_000_000 },
            (true, None) => Timespec { tv_sec: 60, tv_nsec: 0 },
        };
        // If interrupted, the loop checks everything anyway.
        let _ = poll(&mut sources, Some(&timeout));
    }
}

/// The modaliases of all devices, by which their drivers are found.
fn modaliases() -> Vec<String> {
    modaliases_below(Path::new("/sys/bus"))
}

/// Reads `BUS/devices/DEVICE/modalias`: every device that a driver can bind to is on a bus. Walking
/// the thousands of directories of `/sys/devices` would take longer than loading a module.
fn modaliases_below(buses: &Path) -> Vec<String> {
    let entries = |directory: &Path| {
        fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
    };
    entries(buses)
        .flat_map(|bus| entries(&bus.join("devices")))
        .filter_map(|device| fs::read_to_string(device.join("modalias")).ok())
        .map(|modalias| modalias.trim().to_owned())
        .filter(|modalias| !modalias.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_are_more_urgent_than_file_systems_and_those_than_the_rest() {
        for (alias, expected) in [
            ("pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01", Urgency::Disks),
            ("pci:v00001AF4d00001042sv00001AF4sd00001100bc01sc00i00", Urgency::FastDisks),
            ("pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02", Urgency::FastDisks),
            ("virtio:d00000002v00001AF4", Urgency::FastDisks),
            ("virtio:d00000003v00001AF4", Urgency::Other),
            ("usb:v46F4p0001d0000dc00dsc00dp00ic08isc06ip50in00", Urgency::Disks),
            ("scsi:t-0x00", Urgency::Disks),
            ("scsi:t-0x05", Urgency::Other),
            ("fs-ext4", Urgency::FileSystems),
            ("pci:v00008086d00002934sv00001AF4sd00001100bc0Csc03i00", Urgency::Other),
            ("cpu:type:x86,ven0002fam000Fmod006B:feature:,0000", Urgency::Other),
        ] {
            assert_eq!(urgency(alias), expected, "{alias}");
        }
    }

    #[test]
    fn the_modalias_of_every_device_on_a_bus_is_found() {
        let sys = tempfile::tempdir().unwrap();
        let make = |bus: &str, name: &str, modalias: Option<&str>| {
            let device = sys.path().join("devices").join(name);
            fs::create_dir_all(&device).unwrap();
            if let Some(modalias) = modalias {
                fs::write(device.join("modalias"), modalias).unwrap();
            }
            let on_bus = sys.path().join("bus").join(bus).join("devices");
            fs::create_dir_all(&on_bus).unwrap();
            symlink(device, on_bus.join(name)).unwrap();
        };
        make("virtio", "virtio0", Some("virtio:d00000002v00001AF4\n"));
        make("pci", "0000:00:03.0", Some("pci:v00001AF4\n"));
        make("pci", "0000:00:04.0", Some("\n"));
        make("clocksource", "clocksource0", None);
        let mut found = modaliases_below(&sys.path().join("bus"));
        found.sort();
        assert_eq!(found, ["pci:v00001AF4", "virtio:d00000002v00001AF4"]);
    }
}
