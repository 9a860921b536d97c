//! A machine's QEMU: its start, its sockets, its end.

use crate::accel::{Accelerator, Chosen};
use crate::agent::Agent;
use crate::disk::Attached;
use crate::host::{last_lines, target_dir};
use crate::lock::MachineLock;
use crate::qmp::Qmp;
use crate::status::Status;
use crate::watch::{Line, Watch};
use crate::{Builder, Console, Error, Result};
use serde_json::json;
use std::cell::RefCell;
use std::fs::File;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A machine's QEMU and what is connected with it. It ends when it is dropped.
pub(crate) struct Process {
    pub(crate) agent: RefCell<Agent>,
    pub(crate) consoles: Vec<Console>,
    pub(crate) plugged: RefCell<Vec<Attached>>,
    pub(crate) status: Arc<Status>,
    launcher: Arc<Launcher>,
    running: Arc<Mutex<Running>>,
    watch: Option<JoinHandle<()>>,
    _lock: Option<MachineLock>,
}

/// What another start of the machine replaces.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) monitor: Qmp,
    /// Shuts the watch's monitor down.
    watch_end: UnixStream,
    killed: bool,
}

/// Starts QEMU, more than once.
pub(crate) struct Launcher {
    builder: Builder,
    sockets: TempDir,
    listeners: Vec<UnixListener>,
}

/// A QEMU that was started.
pub(crate) struct Launched {
    pub(crate) running: Running,
    /// The watch's monitor.
    pub(crate) watch: Qmp,
    /// The agent's, then the consoles'.
    pub(crate) streams: Vec<UnixStream>,
}

/// Every socket of a QEMU.
struct Connection {
    monitor: Qmp,
    watch: Qmp,
    watch_end: UnixStream,
    streams: Vec<UnixStream>,
}

impl Process {
    /// Starts QEMU, which must come up within `limit`.
    pub(crate) fn start(
        builder: &Builder,
        chosen: Chosen,
        lock: Option<MachineLock>,
        limit: Duration,
    ) -> Result<Process> {
        let name = &builder.name;
        let launcher = Arc::new(Launcher::new(builder.clone())?);
        let launched = launcher.launch(chosen.accelerator, limit)?;
        let Launched { running, watch: watch_monitor, streams } = launched;
        let running = Arc::new(Mutex::new(running));
        let status = Arc::new(Status::new(name, chosen.accelerator));
        let mut lines = Vec::new();
        let mut ends = Vec::new();
        for stream in streams {
            let (sender, next) = channel();
            let shared =
                stream.try_clone().map_err(Error::io(|| format!("sharing a console of {name}")))?;
            lines.push(Line { stream: shared, next: sender });
            ends.push((stream, next));
        }
        let mut ends = ends.into_iter();
        let Some((stream, next)) = ends.next() else {
            return Err(Error::Description("a machine has an agent".to_owned()));
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

    pub(crate) fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The directory of the sockets, which lives as long as QEMU.
    pub(crate) fn sockets(&self) -> &Path {
        self.launcher.sockets.path()
    }

    pub(crate) fn has_ended(&self) -> bool {
        !matches!(self.running().child.try_wait(), Ok(None))
    }

    /// The error of a machine that failed: its accelerator gave up, or QEMU ended while `doing`.
    pub(crate) fn failure(&self, doing: &str) -> Option<Error> {
        let tail = || self.consoles.first().map(Console::tail).unwrap_or_default();
        if let Some(error) = self.status.error(tail) {
            return Some(error);
        }
        // QEMU's sockets close a moment before the process is gone.
        std::thread::sleep(Duration::from_millis(200));
        let status = self.running().child.try_wait().ok()??;
        Some(self.launcher.ended(&status.to_string(), doing, tail()))
    }

    /// Ends QEMU without an orderly end of its disks. The guest of a host whose KVM hangs may stay
    /// in the kernel for ever; it must not take us along.
    pub(crate) fn kill(&self) {
        self.status.use_machine();
        self.running().kill();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.status.use_machine();
        let mut running = self.running();
        running.end();
        // QEMU closed its side if it has ended; it has not where it hangs in the kernel.
        let _ = running.watch_end.shutdown(Shutdown::Both);
        drop(running);
        if let Some(watch) = self.watch.take() {
            // A watch that panicked has said so.
            let _ = watch.join();
        }
    }
}

impl Running {
    /// Ends QEMU in order: `quit` lets it write the tables of its images; a killed one would lose
    /// what its guest had written.
    pub(crate) fn end(&mut self) {
        if !self.killed
            && matches!(self.child.try_wait(), Ok(None))
            && self.monitor.execute("quit", json!({})).is_ok()
        {
            ends_within(&mut self.child, Duration::from_secs(20));
        }
        self.kill();
    }

    fn kill(&mut self) {
        if !self.killed {
            self.killed = true;
            kill(&mut self.child);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Launcher {
    fn new(builder: Builder) -> Result<Launcher> {
        // The name of a socket is limited to 107 bytes, so it cannot lie below the checkout.
        let sockets = tempfile::Builder::new()
            .prefix("vm")
            .tempdir()
            .map_err(Error::io(|| "making a temporary directory".to_owned()))?;
        let consoles = (0..builder.console_count()).map(|n| format!("console{n}"));
        let listeners = ["qmp", "watch", "agent"]
            .map(str::to_owned)
            .into_iter()
            .chain(consoles)
            .map(|name| listen(&sockets.path().join(name)))
            .collect::<Result<_>>()?;
        Ok(Launcher { builder, sockets, listeners })
    }

    /// The file of QEMU's standard error.
    pub(crate) fn stderr(&self) -> PathBuf {
        self.sockets.path().join("stderr")
    }

    /// Starts QEMU, which must come up within `limit`.
    pub(crate) fn launch(&self, accelerator: Accelerator, limit: Duration) -> Result<Launched> {
        let words = self.stderr();
        let stderr =
            File::create(&words).map_err(Error::io(|| format!("making {}", words.display())))?;
        let qemu = self.builder.qemu(accelerator, self.sockets.path())?;
        let mut child = qemu.spawn(Stdio::null(), Stdio::from(stderr))?;
        let connected = self.connect(&mut child, limit);
        let Connection { monitor, watch, watch_end, streams } = connected.map_err(|error| {
            let ended = ends_within(&mut child, Duration::from_secs(1));
            kill(&mut child);
            ended.map_or(error, |status| self.ended(&status, "starting", String::new()))
        })?;
        let running = Running { child, monitor, watch_end, killed: false };
        Ok(Launched { running, watch, streams })
    }

    fn connect(&self, child: &mut Child, limit: Duration) -> Result<Connection> {
        let accepted = self.listeners.iter().map(|listener| {
            accept(listener, child, limit).ok_or_else(|| Error::Deadline {
                machine: self.builder.name.clone(),
                what: "the start of QEMU".to_owned(),
                limit,
                tail: self.words(),
            })
        });
        let mut streams = accepted.collect::<Result<Vec<_>>>()?.into_iter();
        let (Some(monitor), Some(watch)) = (streams.next(), streams.next()) else {
            return Err(Error::Description("a machine has two monitors".to_owned()));
        };
        let watch_end = watch
            .try_clone()
            .map_err(Error::io(|| format!("sharing a monitor of {}", self.builder.name)))?;
        Ok(Connection {
            monitor: Qmp::new(monitor, limit)?,
            watch: Qmp::new(watch, limit)?,
            watch_end,
            streams: streams.collect(),
        })
    }

    fn ended(&self, status: &str, doing: &str, tail: String) -> Error {
        Error::Ended {
            machine: self.builder.name.clone(),
            status: status.to_owned(),
            doing: doing.to_owned(),
            words: self.words(),
            tail,
        }
    }

    /// The last lines of QEMU's standard error.
    fn words(&self) -> String {
        let words = std::fs::read(self.stderr()).unwrap_or_default();
        last_lines(&String::from_utf8_lossy(&words), 20)
    }
}

/// A guest that hangs in the kernel may not die at once; it must not take us along.
fn kill(child: &mut Child) {
    // It may have ended already.
    let _ = child.kill();
    ends_within(child, Duration::from_secs(5));
}

/// The exit status of a process that ends in time.
fn ends_within(child: &mut Child, limit: Duration) -> Option<String> {
    let start = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status.to_string()),
            Ok(None) if start.elapsed() < limit => std::thread::sleep(Duration::from_millis(10)),
            _ => return None,
        }
    }
}

fn listen(path: &Path) -> Result<UnixListener> {
    let listener = UnixListener::bind(path).and_then(|l| l.set_nonblocking(true).map(|()| l));
    listener.map_err(Error::io(|| format!("listening on {}", path.display())))
}

/// QEMU connects to its sockets before the guest's first instruction; nothing if it ended instead.
fn accept(listener: &UnixListener, child: &mut Child, limit: Duration) -> Option<UnixStream> {
    let start = Instant::now();
    while start.elapsed() < limit {
        if let Ok((stream, _)) = listener.accept() {
            return stream.set_nonblocking(false).is_ok().then_some(stream);
        }
        if !matches!(child.try_wait(), Ok(None)) {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

fn log_path(name: &str, console: usize) -> Result<PathBuf> {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let directory = target_dir().join("vm-logs");
    std::fs::create_dir_all(&directory)
        .map_err(Error::io(|| format!("making {}", directory.display())))?;
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    Ok(directory.join(format!("{name}-{}-{number}-ttyS{console}.log", std::process::id())))
}
