//! The hardware child: it loads a module for every device there is and that appears later, and has
//! the disks looked at again whenever one comes, goes or changes.

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
use crate::uevent::{Heard, Listener};
use crate::{log as kernel_log, mounts};

/// Present once everything was loaded that the machine had when it started.
pub const READY: &str = "/run/rescue-init/hardware";

/// The kernel's way to ask for a module: this program under another name.
const MODPROBE: &str = "/run/rescue-init/modprobe";

/// Modules wait for hardware while they start, so more threads than processors help.
const THREADS: usize = 4;

/// What every boot environment needs sooner or later; loaded while there is nothing else to do.
const EARLY: &[&str] = &["fs-ext4", "fs-vfat"];

/// Partitions come one by one: how long it must be quiet before a look, and how long that may be
/// put off.
const QUIET: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(1);

/// Runs until the machine ends.
pub fn run() -> ExitCode {
    kernel_log::start("hardware");
    match watch() {
        Ok(never) => match never {},
        Err(why) => {
            log::error!("devices cannot be watched: {why}");
            ExitCode::FAILURE
        }
    }
}

/// `/run/rescue-init/modprobe -q -- NAME`, as the kernel calls it (kernel/module/kmod.c).
pub fn modprobe(names: impl Iterator<Item = String>) -> ExitCode {
    kernel_log::start("modprobe");
    let loader = match Loader::for_running_kernel() {
        Ok(loader) => loader,
        Err(why) => {
            log::error!("the lists of kernel modules cannot be read: {why}");
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
    // Listening comes before looking, so that nothing falls between the two.
    let listener = Listener::open()?;
    fs::create_dir_all(DIRECTORY)?;
    answer_the_kernel();
    // Reading the lists of modules takes as long as looking for devices.
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
            scope.spawn(|| queue.work(&loader));
        }
        let watch =
            Watch { listener, queue: &queue, asked: HashSet::new(), news: None, scanner: None };
        watch.run(devices, &loader)
    })
}

/// Has the kernel ask us when something needs a module: a mount, a cipher, a device node.
fn answer_the_kernel() {
    let program = std::env::current_exe().unwrap_or_else(|_| "/init".into());
    let linked = match symlink(program, MODPROBE) {
        Err(why) if why.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    };
    if let Err(why) = linked.and_then(|()| fs::write("/proc/sys/kernel/modprobe", MODPROBE)) {
        log::error!("the kernel cannot load modules by itself: {why}");
    }
}

/// What is to be loaded, the urgent first, and how much of it is not done yet.
#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<BinaryHeap<(Urgency, Reverse<usize>, String)>>,
    more: Condvar,
    open: AtomicUsize,
}

impl Queue {
    fn add(&self, what: String) {
        let number = self.open.fetch_add(1, Ordering::Acquire);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push((urgency(&what), Reverse(number), what));
        self.more.notify_one();
    }

    /// Loads what is waiting, for ever.
    fn work(&self, loader: &Loader) {
        loop {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let what = loop {
                match waiting.pop() {
                    Some((_, _, what)) => break what,
                    None => {
                        waiting = self.more.wait(waiting).unwrap_or_else(PoisonError::into_inner)
                    }
                }
            };
            drop(waiting);
            hurry(urgency(&what));
            loader.load(&what);
            self.open.fetch_sub(1, Ordering::Release);
        }
    }

    fn is_idle(&self) -> bool {
        self.open.load(Ordering::Acquire) == 0
    }
}

/// How soon a module is wanted; what comes later is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    /// Everything else.
    Later,
    /// What disks hold.
    Contents,
    /// What disks are reached through.
    Disks,
    /// The same, of disks that answer at once: nothing to spin up, no links to wait for.
    QuickDisks,
}

/// Lets this thread stand back for what is urgent: a nice value is a thread's own on Linux.
fn hurry(urgency: Urgency) {
    let nice = match urgency {
        Urgency::Later => 10,
        Urgency::Disks => 0,
        // The first disk is enough to need it.
        Urgency::Contents | Urgency::QuickDisks => -5,
    };
    // Without it the same is done, only later.
    let _ = rustix::process::setpriority_process(None, nice);
}

/// By the device's class: a list of BEs needs disks, then their file systems, and neither keyboards
/// nor CD drives.
fn urgency(what: &str) -> Urgency {
    let is_any =
        |device: &str, prefixes: &[&str]| prefixes.iter().any(|prefix| device.starts_with(prefix));
    match what.split_once(':') {
        // Virtio and NVMe controllers (PCI class 01, subclass 08), then all of mass storage.
        Some(("pci", device)) if device.starts_with("v00001AF4") || device.contains("bc01sc08") => {
            Urgency::QuickDisks
        }
        Some(("pci", device)) if device.contains("bc01sc") => Urgency::Disks,
        // 2 and 8 are disks (virtio 1.2, 5).
        Some(("virtio", device)) if is_any(device, &["d00000002", "d00000008"]) => {
            Urgency::QuickDisks
        }
        Some(("vmbus" | "xen" | "nvme", _)) => Urgency::QuickDisks,
        // Disks; 5 is a CD drive.
        Some(("scsi", device)) if is_any(device, &["t-0x00", "t-0x0e"]) => Urgency::Disks,
        Some(("usb", device)) if device.contains("ic08") => Urgency::Disks,
        None if what.starts_with("fs-") => Urgency::Contents,
        _ => Urgency::Later,
    }
}

/// When the disks changed, since the last look.
#[derive(Clone, Copy, Debug)]
struct News {
    first: Instant,
    last: Instant,
}

impl News {
    fn now() -> Self {
        News { first: Instant::now(), last: Instant::now() }
    }

    fn is_ripe(&self) -> bool {
        self.last.elapsed() >= QUIET || self.first.elapsed() >= PATIENCE
    }
}

struct Watch<'a> {
    listener: Listener,
    queue: &'a Queue,
    asked: HashSet<String>,
    news: Option<News>,
    scanner: Option<Child>,
}

impl Watch<'_> {
    fn run(mut self, devices: Vec<String>, loader: &Loader) -> io::Result<Never> {
        devices.into_iter().for_each(|modalias| self.load(modalias));
        EARLY.iter().for_each(|what| self.load((*what).into()));
        // A look that comes before one of these has the kernel ask for it, by a program that reads
        // the lists of modules anew.
        loader.load("fs-efivarfs");
        EARLY.iter().for_each(|what| _ = loader.load(what));
        if let Err(why) = mounts::firmware_variables() {
            log::warn!("the firmware's variables cannot be reached: {why}");
        }
        let mut ready = false;
        loop {
            self.listen()?;
            if !ready && self.queue.is_idle() {
                // What the last module made known is in the socket by now.
                self.listen()?;
                ready = self.queue.is_idle();
                if ready {
                    log::info!("every device that is there has its module");
                    fs::write(READY, "")?;
                    // Also to say that there is no disk.
                    if self.news.is_some() || self.scanner.is_none() {
                        self.look();
                    }
                }
            }
            if self.news.is_some_and(|news| news.is_ripe()) {
                self.look();
            }
            self.wait(ready);
        }
    }

    fn load(&mut self, what: String) {
        if self.asked.insert(what.clone()) {
            self.queue.add(what);
        }
    }

    /// Takes note of all that was said.
    fn listen(&mut self) -> io::Result<()> {
        loop {
            match self.listener.next()? {
                Heard::Silence => return Ok(()),
                Heard::Noise => {}
                Heard::Lost => {
                    log::warn!("messages about devices were lost: looking at all of them again");
                    modaliases().into_iter().for_each(|modalias| self.load(modalias));
                    self.news.get_or_insert_with(News::now);
                }
                Heard::Event(event) => {
                    if event.is_block() && !event.path.starts_with("/devices/virtual/") {
                        self.news.get_or_insert_with(News::now).last = Instant::now();
                    }
                    if let Some(modalias) = event.modalias.filter(|_| event.action == "add") {
                        self.load(modalias);
                    }
                }
            }
        }
    }

    /// Looks at the disks, unless somebody does.
    fn look(&mut self) {
        if let Some(scanner) = &mut self.scanner
            && matches!(scanner.try_wait(), Ok(None))
        {
            return;
        }
        self.news = None;
        match scan::start(Path::new(DIRECTORY), "be") {
            Ok(scanner) => self.scanner = Some(scanner),
            Err(why) => log::error!("the disks cannot be looked at: {why}"),
        }
    }

    fn wait(&self, ready: bool) {
        let mut sources = [PollFd::new(&self.listener, PollFlags::IN)];
        let patience = match (ready, self.news) {
            (false, _) => Timespec { tv_sec: 0, tv_nsec: 10_000_000 },
            (true, Some(_)) => Timespec { tv_sec: 0, tv_nsec: 50_000_000 },
            (true, None) => Timespec { tv_sec: 60, tv_nsec: 0 },
        };
        // Interrupted or not: the loop looks at everything.
        let _ = poll(&mut sources, Some(&patience));
    }
}

/// What the drivers of all devices are found by.
fn modaliases() -> Vec<String> {
    modaliases_below(Path::new("/sys/bus"))
}

/// `BUS/devices/DEVICE/modalias`: a device that a driver can be bound to is on a bus.
/// `/sys/devices` has the same ones in some thousand directories, which takes longer than loading a
/// module.
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
    fn disks_come_before_file_systems_and_those_before_the_rest() {
        for (what, expected) in [
            ("pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01", Urgency::Disks),
            ("pci:v00001AF4d00001042sv00001AF4sd00001100bc01sc00i00", Urgency::QuickDisks),
            ("pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02", Urgency::QuickDisks),
            ("virtio:d00000002v00001AF4", Urgency::QuickDisks),
            ("virtio:d00000003v00001AF4", Urgency::Later),
            ("usb:v46F4p0001d0000dc00dsc00dp00ic08isc06ip50in00", Urgency::Disks),
            ("scsi:t-0x00", Urgency::Disks),
            ("scsi:t-0x05", Urgency::Later),
            ("fs-ext4", Urgency::Contents),
            ("pci:v00008086d00002934sv00001AF4sd00001100bc0Csc03i00", Urgency::Later),
            ("cpu:type:x86,ven0002fam000Fmod006B:feature:,0000", Urgency::Later),
        ] {
            assert_eq!(urgency(what), expected, "{what}");
        }
    }

    #[test]
    fn every_device_on_a_bus_is_found() {
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
