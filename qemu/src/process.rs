//! The QEMU process of a machine: its start, its sockets, its end.

use crate::accel::ChosenAccelerator;
use crate::agent::Agent;
use crate::disk::AttachedDisk;
use crate::host::target_dir;
use crate::launcher::{LaunchedQemu, Launcher, RunningQemu};
use crate::lock::MachineLock;
use crate::status::Status;
use crate::watch::{Watch, WatchedStream};
use crate::{Builder, Console, Error, Result};
use std::cell::RefCell;
use std::net::Shutdown;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// The QEMU process of a machine, with its agent and consoles. It ends when it is dropped.
pub(crate) struct Process {
    pub(crate) agent: RefCell<Agent>,
    pub(crate) consoles: Vec<Console>,
    pub(crate) plugged: RefCell<Vec<AttachedDisk>>,
    pub(crate) status: Arc<Status>,
    launcher: Arc<Launcher>,
    running: Arc<Mutex<RunningQemu>>,
    watch: Option<JoinHandle<()>>,
    _lock: Option<MachineLock>,
}

impl Process {
    /// Starts QEMU, which must come up within `limit`.
    pub(crate) fn start(
        builder: &Builder,
        chosen: ChosenAccelerator,
        lock: Option<MachineLock>,
        limit: Duration,
    ) -> Result<Process> {
        let name = &builder.name;
        let launcher = Arc::new(Launcher::new(builder.clone())?);
        let launched = launcher.launch(chosen.accelerator, limit)?;
        let LaunchedQemu { running, watch: watch_monitor, streams } = launched;
        let running = Arc::new(Mutex::new(running));
        let status = Arc::new(Status::new(name, chosen.accelerator));
        let mut lines = Vec::new();
        let mut ends = Vec::new();
        for stream in streams {
            let (sender, next) = channel();
            let shared =
                stream.try_clone().map_err(Error::io(|| format!("sharing a console of {name}")))?;
            lines.push(WatchedStream { stream: shared, next: sender });
            ends.push((stream, next));
        }
        let mut ends = ends.into_iter();
        let Some((stream, next)) = ends.next() else {
            return Err(Error::Description("QEMU has no socket for the agent".to_owned()));
        };
        let agent = RefCell::new(Agent::new(&status, stream, next));
        let consoles = ends
            .enumerate()
            .map(|(n, (stream, next))| Console::new(&status, stream, next, log_path(name, n)?))
            .collect::<Result<_>>()?;
        let watch = Watch {
            launcher: Arc::clone(&launcher),
            status: Arc::clone(&status),
            running: Arc::clone(&running),
            lines,
            choice: chosen.choice,
        };
        let watch = Some(std::thread::spawn(move || watch.run(watch_monitor)));
        log::info!("machine {name} runs under {}", chosen.accelerator);
        let plugged = RefCell::default();
        Ok(Process { agent, consoles, plugged, status, launcher, running, watch, _lock: lock })
    }

    pub(crate) fn running(&self) -> MutexGuard<'_, RunningQemu> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The directory of the sockets, which lives as long as QEMU.
    pub(crate) fn sockets(&self) -> &Path {
        self.launcher.sockets.path()
    }

    pub(crate) fn has_ended(&self) -> bool {
        !matches!(self.running().child.try_wait(), Ok(None))
    }

    /// The error if the machine has failed: its accelerator failed, or QEMU ended while `doing`.
    pub(crate) fn failure(&self, doing: &str) -> Option<Error> {
        let tail = || self.consoles.first().map(Console::tail).unwrap_or_default();
        if let Some(error) = self.status.error(tail) {
            return Some(error);
        }
        // QEMU's sockets are closed a moment before the process ends.
        std::thread::sleep(Duration::from_millis(200));
        let status = self.running().child.try_wait().ok()??;
        Some(self.launcher.ended(&status.to_string(), doing, tail()))
    }

    /// Kills QEMU without flushing its disks. If KVM hangs on the host, the process may stay in the
    /// kernel for ever, so this does not wait for it without a limit.
    pub(crate) fn kill(&self) {
        self.status.mark_used();
        self.running().kill();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.status.mark_used();
        let mut running = self.running();
        running.end();
        // A QEMU that hangs in the kernel has not closed its side of the socket.
        let _ = running.watch_end.shutdown(Shutdown::Both);
        drop(running);
        if let Some(watch) = self.watch.take() {
            // A panic of the watch was printed already.
            let _ = watch.join();
        }
    }
}

fn log_path(name: &str, console: usize) -> Result<PathBuf> {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let directory = target_dir().join("vm-logs");
    std::fs::create_dir_all(&directory)
        .map_err(Error::io(|| format!("making {}", directory.display())))?;
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    Ok(directory.join(format!("{name}-{}-{number}-ttyS{console}.log", std::process::id())))
}
