//! The state that a machine's waits share with the watch over its QEMU.

use crate::{Accelerator, Error};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// The state of a machine that its consoles, its agent and its watch share.
///
/// A machine whose accelerator fails may be started again only if it was not used yet: no wait has
/// succeeded, no key was pressed, and QEMU was not given a command. Until then another start is the
/// same as a power cut during the boot, which every guest must tolerate. Afterwards the test has
/// seen results that another start would undo.
pub(crate) struct Status {
    machine: String,
    accelerator: Accelerator,
    progress: Mutex<Progress>,
    failure: OnceLock<String>,
}

#[derive(Default)]
struct Progress {
    used: bool,
    /// How many times the machine was started again.
    start: u32,
}

impl Status {
    /// The status of a machine that runs under `accelerator` at first.
    pub(crate) fn new(machine: &str, accelerator: Accelerator) -> Status {
        Status {
            machine: machine.to_owned(),
            accelerator,
            progress: Mutex::default(),
            failure: OnceLock::new(),
        }
    }

    pub(crate) fn machine(&self) -> &str {
        &self.machine
    }

    /// Marks the machine as used: from now on it is not started again.
    pub(crate) fn mark_used(&self) {
        self.progress().used = true;
    }

    /// Marks the machine as used by a result of its `start`. Returns false if the machine has been
    /// started again since that start.
    pub(crate) fn mark_start_used(&self, start: u32) -> bool {
        let mut progress = self.progress();
        let current = progress.start == start;
        progress.used |= current;
        current
    }

    /// Whether the machine may be started again. If so, results of its last start are ignored from
    /// now on.
    pub(crate) fn start_again(&self) -> bool {
        let mut progress = self.progress();
        let unused = !progress.used;
        progress.start += u32::from(unused);
        unused
    }

    /// Records that the accelerator failed with this message, and that the machine is not started
    /// again.
    pub(crate) fn fail(&self, words: String) {
        // The first failure is the cause.
        let _ = self.failure.set(words);
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failure.get().is_some()
    }

    /// The error of a machine whose accelerator has failed.
    pub(crate) fn error(&self, tail: impl FnOnce() -> String) -> Option<Error> {
        self.failure.get().map(|words| Error::Accelerator {
            machine: self.machine.clone(),
            accelerator: self.accelerator,
            words: words.clone(),
            tail: tail(),
        })
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_was_used_is_not_started_again() {
        let status = Status::new("test", Accelerator::Kvm);
        assert!(status.start_again());
        assert!(!status.mark_start_used(0), "a result of the start that failed");
        assert!(status.mark_start_used(1));
        assert!(!status.start_again());
    }

    #[test]
    fn the_first_failure_is_reported() {
        let status = Status::new("test", Accelerator::Kvm);
        assert!(status.error(String::new).is_none());
        status.fail("KVM internal error. Suberror: 1".to_owned());
        status.fail("later".to_owned());
        let error = status.error(|| "BdsDxe".to_owned()).unwrap().to_string();
        for words in ["machine test stopped under KVM: KVM internal error", "LIFEBOAT_ACCEL=tcg"] {
            assert!(error.contains(words), "{error}");
        }
    }
}
