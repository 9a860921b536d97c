//! Where the menu has its list from: the file that every look at the disks leaves behind.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::state::Menu;
use crate::scan;

/// The file, and what is known of it.
#[derive(Debug)]
pub struct Source {
    /// Where the file lies.
    pub directory: PathBuf,
    /// The program that lists.
    pub be: String,
    /// Inode and time of what was read last.
    seen: Option<(u64, i64)>,
    scanner: Option<Child>,
}

impl Source {
    /// Nothing read yet.
    pub fn new(directory: PathBuf, be: String) -> Self {
        Source { directory, be, seen: None, scanner: None }
    }

    /// Takes over what is new. True if there was something.
    pub fn refresh(&mut self, menu: &mut Menu) -> bool {
        if let Some(scanner) = &mut self.scanner
            && matches!(scanner.try_wait(), Ok(Some(_)) | Err(_))
        {
            self.scanner = None;
            menu.looking = false;
        }
        let has_network = has_network(Path::new("/sys"));
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
        menu.update(scan.result);
        menu.looking = self.scanner.is_some();
        true
    }

    /// Has the disks looked at, unless that is under way.
    pub fn look(&mut self, menu: &mut Menu) {
        if self.scanner.is_some() {
            return;
        }
        match scan::start(&self.directory, &self.be) {
            Ok(scanner) => {
                self.scanner = Some(scanner);
                menu.looking = true;
            }
            Err(why) => menu.fail(format!("the disks cannot be looked at: {why}")),
        }
    }

    /// Has the disks looked at and waits for it.
    pub fn look_and_wait(&mut self, menu: &mut Menu) {
        self.look(menu);
        while self.scanner.is_some() {
            self.refresh(menu);
            sleep(Duration::from_millis(50));
        }
        self.refresh(menu);
    }

    /// Waits a while for the look that is under way while the machine starts.
    pub fn wait_for_first(&mut self, menu: &mut Menu) {
        let started = Instant::now();
        while !self.refresh_list(menu) && started.elapsed() < Duration::from_secs(10) {
            sleep(Duration::from_millis(50));
        }
    }
}

/// An interface besides the loopback.
fn has_network(sys: &Path) -> bool {
    fs::read_dir(sys.join("class/net"))
        .is_ok_and(|interfaces| interfaces.flatten().any(|entry| entry.file_name() != "lo"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_no_network() {
        let sys = tempfile::tempdir().unwrap();
        for (interface, expected) in [("", false), ("lo", false), ("enp1s0", true)] {
            fs::create_dir_all(sys.path().join("class/net").join(interface)).unwrap();
            assert_eq!(has_network(sys.path()), expected, "{interface}");
        }
    }
}
