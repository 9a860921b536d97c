//! The watch over a machine's QEMU: an internal error of the accelerator ends every wait at once,
//! or has the machine started again.

use crate::accel::{Accelerator, AcceleratorChoice, internal_error, summary};
use crate::host::deadline;
use crate::launcher::{Launcher, RunningQemu};
use crate::qmp::Qmp;
use crate::status::Status;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often QEMU's standard error is looked at.
const PAUSE: Duration = Duration::from_millis(200);

/// A console's or the agent's side of the watch.
pub(crate) struct WatchedStream {
    /// The stream in use; shut down when the machine has failed, so that nothing waits on it.
    pub(crate) stream: UnixStream,
    /// Takes the stream of another start.
    pub(crate) next: Sender<UnixStream>,
}

/// Runs in a thread of its own until QEMU ends.
pub(crate) struct Watch {
    pub(crate) launcher: Arc<Launcher>,
    pub(crate) status: Arc<Status>,
    pub(crate) running: Arc<Mutex<RunningQemu>>,
    /// The agent's, then the consoles'.
    pub(crate) lines: Vec<WatchedStream>,
    /// What chose KVM, if it may choose TCG now.
    pub(crate) choice: Option<&'static AcceleratorChoice>,
}

impl Watch {
    /// Watches over QEMU by a monitor that nothing else uses.
    pub(crate) fn run(mut self, mut monitor: Qmp) {
        while let Some(words) = wait_for_internal_error(&mut monitor, &self.launcher.stderr()) {
            log::info!("machine {}: {words}", self.status.machine());
            match self.start_again(&words) {
                Ok(Some(next)) => monitor = next,
                Ok(None) => return self.fail(words),
                Err(error) => {
                    return self.fail(format!("{words}\nIt was not started again: {error}"));
                }
            }
        }
    }

    /// Ends every wait.
    fn fail(&self, words: String) {
        self.status.fail(words);
        for line in &self.lines {
            // The other side may have closed it.
            let _ = line.stream.shutdown(Shutdown::Both);
        }
    }

    /// Starts the machine again under TCG, if nothing was done with it yet and the accelerator was
    /// not forced; gives back the new QEMU's monitor.
    fn start_again(&mut self, words: &str) -> crate::Result<Option<Qmp>> {
        let Some(choice) = self.choice.take() else { return Ok(None) };
        choice.give_up_kvm(&format!(
            "machine {} stopped under KVM ({})",
            self.status.machine(),
            summary(words)
        ));
        // Held from before the decision: a machine that is dropped is not started again.
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.status.start_again() {
            return Ok(None);
        }
        running.end();
        let launched = self.launcher.launch(Accelerator::Tcg, deadline(60))?;
        *running = launched.running;
        for (line, stream) in self.lines.iter_mut().zip(launched.streams) {
            line.stream = stream.try_clone().map_err(crate::Error::io(|| {
                format!("sharing a console of {}", self.status.machine())
            }))?;
            // A console that is gone needs no stream.
            let _ = line.next.send(stream);
        }
        Ok(Some(launched.watch))
    }
}

/// Waits until QEMU reports an internal error and gives back its words; nothing when QEMU ended.
///
/// Its status and its standard error are both looked at: where the guest's user space met what KVM
/// cannot emulate QEMU writes the words and goes on (`kvm_handle_internal_error`), and where a
/// processor hangs in the kernel QEMU may never get as far as the status.
fn wait_for_internal_error(monitor: &mut Qmp, stderr: &Path) -> Option<String> {
    // What happened before the monitor was there was told to nothing.
    let mut stopped = true;
    loop {
        if stopped && monitor.has_internal_error().ok()? || internal_error(&read(stderr)).is_some()
        {
            // The registers follow the words.
            std::thread::sleep(Duration::from_millis(100));
            let all = read(stderr);
            let words: Vec<&str> = internal_error(&all).unwrap_or(&all).lines().take(50).collect();
            return Some(match words.as_slice() {
                [] => "QEMU's status is internal-error".to_owned(),
                words => words.join("\n"),
            });
        }
        stopped = monitor.event(PAUSE).ok()?.is_some_and(|event| event == "STOP");
    }
}

fn read(stderr: &Path) -> String {
    std::fs::read(stderr)
        .map(|words| String::from_utf8_lossy(&words).into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
