//! A machine's QEMU: its start, its sockets, its end.

use crate::agent::Agent;
use crate::disk::Attached;
use crate::host::{deadline, last_lines, target_dir};
use crate::lock::MachineLock;
use crate::qmp::Qmp;
use crate::{Accelerator, Builder, Console, Error, Result};
use serde_json::json;
use std::cell::RefCell;
use std::fs::File;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A machine's QEMU and what is connected with it. It ends when it is dropped.
pub(crate) struct Process {
    pub(crate) child: RefCell<Child>,
    pub(crate) qmp: RefCell<Qmp>,
    pub(crate) agent: RefCell<Agent>,
    pub(crate) consoles: Vec<Console>,
    pub(crate) plugged: RefCell<Vec<Attached>>,
    pub(crate) sockets: TempDir,
    _lock: MachineLock,
}

impl Process {
    pub(crate) fn start(builder: &Builder) -> Result<Process> {
        let lock = MachineLock::acquire()?;
        let accelerator = Accelerator::choose()?;
        // The name of a socket is limited to 107 bytes, so it cannot lie below the checkout.
        let sockets = tempfile::Builder::new()
            .prefix("vm")
            .tempdir()
            .map_err(Error::io(|| "making a temporary directory".to_owned()))?;
        let names = (0..builder.console_count()).map(|n| format!("console{n}"));
        let names: Vec<String> =
            ["qmp", "agent"].map(str::to_owned).into_iter().chain(names).collect();
        let listeners = names
            .iter()
            .map(|name| listen(&sockets.path().join(name)))
            .collect::<Result<Vec<_>>>()?;
        let words = sockets.path().join("stderr");
        let stderr =
            File::create(&words).map_err(Error::io(|| format!("making {}", words.display())))?;
        let mut child =
            builder.qemu(accelerator, sockets.path())?.spawn(Stdio::null(), Stdio::from(stderr))?;
        let mut streams = Vec::new();
        for listener in &listeners {
            match accept(listener, &mut child) {
                Some(stream) => streams.push(stream),
                None => {
                    let _ = child.kill();
                    let status = child.wait().map(|s| s.to_string()).unwrap_or_default();
                    return Err(Error::Ended {
                        machine: builder.name.clone(),
                        status,
                        doing: "starting".to_owned(),
                        words: std::fs::read_to_string(&words).unwrap_or_default(),
                        tail: String::new(),
                    });
                }
            }
        }
        let mut streams = streams.into_iter();
        let (Some(qmp), Some(agent)) = (streams.next(), streams.next()) else {
            return Err(Error::Description("a machine has a monitor and an agent".to_owned()));
        };
        let consoles = streams
            .enumerate()
            .map(|(n, s)| Console::new(&builder.name, s, log_path(&builder.name, n)?))
            .collect::<Result<_>>()?;
        let process = Process {
            child: RefCell::new(child),
            qmp: RefCell::new(Qmp::new(qmp)?),
            agent: RefCell::new(Agent::new(agent)),
            consoles,
            plugged: RefCell::default(),
            sockets,
            _lock: lock,
        };
        log::info!("machine {} runs with {accelerator:?}", builder.name);
        Ok(process)
    }

    pub(crate) fn words(&self) -> String {
        last_lines(
            &std::fs::read_to_string(self.sockets.path().join("stderr")).unwrap_or_default(),
            20,
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let child = self.child.get_mut();
        // `quit` lets QEMU write the tables of its images; a killed one would lose what its guest
        // had written.
        if matches!(child.try_wait(), Ok(None))
            && self.qmp.get_mut().execute("quit", json!({})).is_ok()
        {
            let start = Instant::now();
            while matches!(child.try_wait(), Ok(None)) && start.elapsed() < Duration::from_secs(20)
            {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn listen(path: &Path) -> Result<UnixListener> {
    let listener = UnixListener::bind(path).and_then(|l| l.set_nonblocking(true).map(|()| l));
    listener.map_err(Error::io(|| format!("listening on {}", path.display())))
}

/// QEMU connects to its sockets before the guest's first instruction; nothing if it ended instead.
fn accept(listener: &UnixListener, child: &mut Child) -> Option<UnixStream> {
    let limit = deadline(60);
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
