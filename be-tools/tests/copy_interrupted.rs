//! A copy that a signal stops: a test program of its own, because the signal is noted for the whole process.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test")]

mod loop_device;

use std::path::Path;

use be_tools::Error;
use be_tools::copy::{Exclude, Mode, Request, copy_tree};
use be_tools::plan::{Plan, Progress, Report, Silent};
use loop_device::{Mounted, root, sh};

/// Sends the signal once: a second one would end the program at once.
struct Killer(bool);

impl Report for Killer {
    fn confirm(&mut self, _: &Plan) -> be_tools::Result<bool> {
        Ok(true)
    }
    fn step(&mut self, _: &str) {}
    fn progress(&mut self, _: &Progress) {
        if std::mem::replace(&mut self.0, true) {
            return;
        }
        let me = rustix::process::getpid();
        rustix::process::kill_process(me, rustix::process::Signal::TERM).unwrap();
    }
    fn warn(&mut self, _: &str) {}
}

#[test]
fn a_signal_stops_a_copy_soon() {
    if !root() {
        return;
    }
    let mkfs = ["mkfs.ext4", "-q", "-F"];
    let (source, target) = (Mounted::new(&mkfs, "256M"), Mounted::new(&mkfs, "256M"));
    sh(source.path(), "for i in $(seq 2000); do echo $i >f$i; done; head -c 100M /dev/urandom >large");
    be_tools::signals::watch();
    let request = Request {
        source: source.path(),
        target: target.path(),
        mountpoint: Path::new("/"),
        exclude: Exclude::nothing(),
        mode: Mode::Fresh,
        two_pass: false,
        totals: None,
    };
    assert!(matches!(copy_tree(&request, &mut Killer(false)), Err(Error::Interrupted)));
    // What is there is no obstacle for the next try, but the signal is still noted here.
    assert!(matches!(copy_tree(&request, &mut Silent), Err(Error::Interrupted)));
}
