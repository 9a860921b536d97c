//! The watch over a machine's QEMU: after an internal error of the accelerator it starts the
//! machine again, or ends every wait at once.

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

/// The pause between two reads of QEMU's standard error.
const PAUSE: Duration = Duration::from_millis(200);

/// The stream of a console or of the agent.
pub(crate) struct WatchedStream {
    /// The current stream. It is shut down when the machine has failed, so that nothing waits for
    /// it.
    pub(crate) stream: UnixStream,
    /// Sends the stream of another start of the machine.
    pub(crate) next: Sender<UnixStream>,
}

/// The watch. It runs in its own thread until QEMU ends.
pub(crate) struct Watch {
    pub(crate) launcher: Arc<Launcher>,
    pub(crate) status: Arc<Status>,
    pub(crate) running: Arc<Mutex<RunningQemu>>,
    /// The stream of the agent, then those of the consoles.
    pub(crate) lines: Vec<WatchedStream>,
    /// The choice that chose KVM, if it may still choose TCG.
    pub(crate) choice: Option<&'static AcceleratorChoice>,
}

impl Watch {
    /// Watches QEMU with a monitor that nothing else uses.
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
            // The other side may have closed the stream.
            let _ = line.stream.shutdown(Shutdown::Both);
        }
    }

    /// Starts the machine again under TCG, if it was not used yet and the accelerator was not
    /// forced. Returns the monitor of the new QEMU.
    fn start_again(&mut self, words: &str) -> crate::Result<Option<Qmp>> {
        let Some(choice) = self.choice.take() else { return Ok(None) };
        choice.give_up_kvm(&format!(
            "machine {} stopped under KVM ({})",
            self.status.machine(),
            summary(words)
        ));
        // Locked before the decision, so that a machine that is being dropped is not started again.
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
            // A console that was dropped does not need the stream.
            let _ = line.next.send(stream);
        }
        Ok(Some(launched.watch))
    }
}

/// Waits until QEMU reports an internal error, and returns its message; `None` if QEMU ended.
///
/// This checks both QEMU's status and its standard error. If KVM cannot emulate an instruction of
/// the guest's user space, QEMU prints a message but continues (`kvm_handle_internal_error`). If a
/// processor hangs in the kernel, QEMU may never set the status.
fn wait_for_internal_error(monitor: &mut Qmp, stderr: &Path) -> Option<String> {
    // An event before the monitor was connected was not reported, so the first check is without
    // one.
    let mut stopped = true;
    loop {
        if stopped && monitor.has_internal_error().ok()? || internal_error(&read(stderr)).is_some()
        {
            // QEMU prints the registers after the message.
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
