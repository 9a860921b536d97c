//! Starting a machine's QEMU: its command line, its sockets, and its end.

use crate::accel::Accelerator;
use crate::host::last_lines;
use crate::qmp::Qmp;
use crate::{Builder, Error, Result};
use serde_json::json;
use std::fs::File;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A running QEMU, which another start of the machine replaces.
pub(crate) struct RunningQemu {
    pub(crate) child: Child,
    pub(crate) monitor: Qmp,
    /// A second handle of the watch's monitor, for shutting it down.
    pub(crate) watch_end: UnixStream,
    pub(crate) killed: bool,
}

/// Starts QEMU, more than once if needed.
pub(crate) struct Launcher {
    pub(crate) builder: Builder,
    pub(crate) sockets: TempDir,
    pub(crate) listeners: Vec<UnixListener>,
}

/// A QEMU that was just started.
pub(crate) struct LaunchedQemu {
    pub(crate) running: RunningQemu,
    /// The monitor of the watch.
    pub(crate) watch: Qmp,
    /// The stream of the agent, then those of the consoles.
    pub(crate) streams: Vec<UnixStream>,
}

/// The sockets of a QEMU.
struct Connections {
    monitor: Qmp,
    watch: Qmp,
    watch_end: UnixStream,
    streams: Vec<UnixStream>,
}

impl RunningQemu {
    /// Ends QEMU with `quit`, so that it writes the tables of its images. If it were killed, data
    /// that the guest had written would be lost.
    pub(crate) fn end(&mut self) {
        if !self.killed
            && matches!(self.child.try_wait(), Ok(None))
            && self.monitor.execute("quit", json!({})).is_ok()
        {
            ends_within(&mut self.child, Duration::from_secs(20));
        }
        self.kill();
    }

    pub(crate) fn kill(&mut self) {
        if !self.killed {
            self.killed = true;
            kill(&mut self.child);
        }
    }
}

impl Drop for RunningQemu {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Launcher {
    pub(crate) fn new(builder: Builder) -> Result<Launcher> {
        // The path of a socket is limited to 107 bytes, so it cannot be below the checkout.
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

    /// The file with QEMU's standard error.
    pub(crate) fn stderr(&self) -> PathBuf {
        self.sockets.path().join("stderr")
    }

    /// Starts QEMU, which must open its sockets within `limit`.
    pub(crate) fn launch(&self, accelerator: Accelerator, limit: Duration) -> Result<LaunchedQemu> {
        let words = self.stderr();
        let stderr =
            File::create(&words).map_err(Error::io(|| format!("making {}", words.display())))?;
        let qemu = self.builder.qemu(accelerator, self.sockets.path())?;
        let mut child = qemu.spawn(Stdio::null(), Stdio::from(stderr))?;
        let connected = self.connect(&mut child, limit);
        let Connections { monitor, watch, watch_end, streams } = connected.map_err(|error| {
            let ended = ends_within(&mut child, Duration::from_secs(1));
            kill(&mut child);
            ended.map_or(error, |status| self.ended(&status, "starting", String::new()))
        })?;
        let running = RunningQemu { child, monitor, watch_end, killed: false };
        Ok(LaunchedQemu { running, watch, streams })
    }

    fn connect(&self, child: &mut Child, limit: Duration) -> Result<Connections> {
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
            return Err(Error::Description("QEMU has no sockets for its monitors".to_owned()));
        };
        let watch_end = watch
            .try_clone()
            .map_err(Error::io(|| format!("sharing a monitor of {}", self.builder.name)))?;
        Ok(Connections {
            monitor: Qmp::new(monitor, limit)?,
            watch: Qmp::new(watch, limit)?,
            watch_end,
            streams: streams.collect(),
        })
    }

    pub(crate) fn ended(&self, status: &str, doing: &str, tail: String) -> Error {
        Error::Ended {
            machine: self.builder.name.clone(),
            status: status.to_owned(),
            doing: doing.to_owned(),
            words: self.words(),
            tail,
        }
    }

    /// The last lines of QEMU's standard error.
    pub(crate) fn words(&self) -> String {
        let words = std::fs::read(self.stderr()).unwrap_or_default();
        last_lines(&String::from_utf8_lossy(&words), 20)
    }
}

/// Kills a QEMU, but does not wait without a limit, because its guest may hang in the kernel.
fn kill(child: &mut Child) {
    // Killing fails if it has ended already.
    let _ = child.kill();
    ends_within(child, Duration::from_secs(5));
}

/// The exit status of a process; `None` if it does not end within `limit`.
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

/// Accepts QEMU's connection to a socket, which it makes before the guest's first instruction;
/// `None` if QEMU ended instead.
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
