//! The source of the menu's list: the file that every scan writes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::place::Place;
use super::state::Menu;
use crate::firmware::Firmware;
use crate::scan;

/// The file with the list, and the scan that updates it.
#[derive(Debug)]
pub struct ListSource {
    /// The directory of the file.
    pub directory: PathBuf,
    /// The program to run as `be`.
    pub be: String,
    /// Inode and modification time of the version that was read last.
    seen: Option<(u64, i64)>,
    scanner: Option<Child>,
}

impl ListSource {
    /// A source that has not been read yet.
    pub fn new(directory: PathBuf, be: String) -> Self {
        ListSource { directory, be, seen: None, scanner: None }
    }

    /// Updates the menu from the file and from the scan. Returns whether anything changed.
    pub fn refresh(&mut self, menu: &mut Menu) -> bool {
        if let Some(scanner) = &mut self.scanner
            && matches!(scanner.try_wait(), Ok(Some(_)) | Err(_))
        {
            self.scanner = None;
            menu.scanning = false;
        }
        // An installed system has better programs for it.
        let has_network = menu.place == Place::RescueImage && has_network(Path::new("/sys"));
        let is_new = std::mem::replace(&mut menu.has_network, has_network) != has_network;
        self.refresh_list(menu) || is_new
    }

    fn refresh_list(&mut self, menu: &mut Menu) -> bool {
        let Ok(file) = fs::metadata(self.directory.join("list.json")) else { return false };
        let now = Some((file.ino(), file.mtime_nsec()));
        if now == self.seen {
            return false;
        }
        let Some(scan) = scan::read(&self.directory) else { return false };
        self.seen = now;
        // Every scan begins after efivarfs was mounted, or in vain.
        menu.firmware = Firmware::read(Path::new("/sys"));
        menu.update(scan.result);
        menu.scanning = self.scanner.is_some();
        true
    }

    /// Starts a scan, unless one is running.
    pub fn scan(&mut self, menu: &mut Menu) {
        if self.scanner.is_some() {
            return;
        }
        match scan::start(&self.directory, &self.be) {
            Ok(scanner) => {
                self.scanner = Some(scanner);
                menu.scanning = true;
            }
            Err(error) => menu.show_failure(format!("the scan cannot be started: {error}")),
        }
    }

    /// Starts a scan and waits until it has ended.
    pub fn scan_and_wait(&mut self, menu: &mut Menu) {
        self.scan(menu);
        while self.scanner.is_some() {
            self.refresh(menu);
            sleep(Duration::from_millis(50));
        }
        self.refresh(menu);
    }

    /// Waits a while for the scan that runs during boot.
    pub fn wait_for_first_list(&mut self, menu: &mut Menu) {
        let started = Instant::now();
        while !self.refresh_list(menu) && started.elapsed() < Duration::from_secs(10) {
            sleep(Duration::from_millis(50));
        }
    }
}

/// Whether the machine has a network interface besides the loopback.
fn has_network(sys: &Path) -> bool {
    fs::read_dir(sys.join("class/net"))
        .is_ok_and(|interfaces| interfaces.flatten().any(|entry| entry.file_name() != "lo"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_not_a_network() {
        let sys = tempfile::tempdir().unwrap();
        for (interface, expected) in [("", false), ("lo", false), ("enp1s0", true)] {
            fs::create_dir_all(sys.path().join("class/net").join(interface)).unwrap();
            assert_eq!(has_network(sys.path()), expected, "{interface}");
        }
    }
}
