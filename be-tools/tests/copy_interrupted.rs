//! A copy that is interrupted by a signal. This is a test program of its own, because the signal
//! affects the whole process.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test")]

mod killer;
mod loop_device;

use std::path::Path;

use be_tools::Error;
use be_tools::copy::{CopyRequest, Mode, copy_tree};
use be_tools::plan::Silent;
use be_tools::tree::exclude::Exclude;
use killer::Killer;
use loop_device::{Mounted, root, sh};

#[test]
fn a_signal_interrupts_a_copy() {
    if !root() {
        return;
    }
    let mkfs = ["mkfs.ext4", "-q", "-F"];
    let (source, target) = (Mounted::new(&mkfs, "256M"), Mounted::new(&mkfs, "256M"));
    sh(
        source.path(),
        "for i in $(seq 2000); do echo $i >f$i; done; head -c 100M /dev/urandom >large",
    );
    be_tools::signals::watch();
    let request = CopyRequest {
        source: source.path(),
        from: Path::new(""),
        to: Path::new(""),
        target: target.path(),
        mountpoint: Path::new("/"),
        exclude: Exclude::nothing(),
        mode: Mode::Fresh,
        two_pass: false,
        totals: None,
    };
    assert!(matches!(copy_tree(&request, &mut Killer::when(|_| true)), Err(Error::Interrupted)));
    // What the first attempt left is not in the way of the second, which is interrupted only
    // because the flag of the signal is still set.
    assert!(matches!(copy_tree(&request, &mut Silent), Err(Error::Interrupted)));
}
