//! A running machine.

use crate::agent::{Agent, Failure};
use crate::host::{deadline, last_lines, target_dir};
use crate::lock::MachineLock;
use crate::qmp::Qmp;
use crate::{Accelerator, Builder, Console, Disk, Error, Output, ROOT_PASSWORD, Result};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::fs::File;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a command in a guest may take unless said, in seconds.
const COMMAND: u64 = 300;
/// How long a guest may take from power-on to a finished start, in seconds.
const BOOT: u64 = 240;

/// A running machine. It ends when it is dropped, and with the thread that started it.
pub struct Machine {
    process: Process,
    builder: Builder,
}

struct Process {
    child: RefCell<Child>,
    qmp: RefCell<Qmp>,
    agent: RefCell<Agent>,
    consoles: Vec<Console>,
    plugged: RefCell<usize>,
    sockets: TempDir,
    _lock: MachineLock,
}

impl Machine {
    pub(crate) fn start(builder: Builder) -> Result<Machine> {
        let lock = MachineLock::acquire()?;
        let accelerator = Accelerator::choose()?;
        // The name of a socket is limited to 107 bytes, so it cannot lie below the checkout.
        let sockets = tempfile::Builder::new()
            .prefix("vm")
            .tempdir()
            .map_err(Error::io(|| "making a temporary folder".to_owned()))?;
        let names = (0..builder.console_count()).map(|n| format!("console{n}"));
        let names: Vec<String> = ["qmp", "agent"].map(str::to_owned).into_iter().chain(names).collect();
        let listeners =
            names.iter().map(|name| listen(&sockets.path().join(name))).collect::<Result<Vec<_>>>()?;
        let words = sockets.path().join("stderr");
        let stderr = File::create(&words).map_err(Error::io(|| format!("making {}", words.display())))?;
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
            plugged: RefCell::new(0),
            sockets,
            _lock: lock,
        };
        log::info!("machine {} runs with {accelerator:?}", builder.name);
        Ok(Machine { process, builder })
    }

    /// The name in messages and logs.
    pub fn name(&self) -> &str {
        &self.builder.name
    }

    /// The first serial console.
    pub fn console(&self) -> &Console {
        &self.process.consoles[0]
    }

    /// A serial console by its number, from 0.
    pub fn console_number(&self, number: usize) -> &Console {
        &self.process.consoles[number]
    }

    /// Waits until Debian's start is finished and jobs can be run.
    ///
    /// # Errors
    /// That took more than four minutes, or the machine ended.
    pub fn ready(&self) -> Result<()> {
        self.ready_within(deadline(BOOT))
    }

    /// As [`Machine::ready`] with another limit.
    ///
    /// # Errors
    /// As [`Machine::ready`].
    pub fn ready_within(&self, limit: Duration) -> Result<()> {
        let start = Instant::now();
        self.answered(self.process.agent.borrow_mut().sync(limit), "the guest agent's answer", limit)?;
        // Its status says `degraded` as a failure; what that means is the test's to judge.
        let wait = "systemctl is-system-running --wait";
        let result = self.process.agent.borrow_mut().run(wait, limit.saturating_sub(start.elapsed()));
        self.answered(result, "the end of the guest's start", limit).map(drop)
    }

    /// Runs a shell command as root; gives back its output, whatever its status.
    ///
    /// # Errors
    /// It took longer than five minutes, or the guest is not there.
    pub fn try_run(&self, command: &str) -> Result<Output> {
        self.try_run_within(command, deadline(COMMAND))
    }

    /// As [`Machine::try_run`] with another limit.
    ///
    /// # Errors
    /// As [`Machine::try_run`].
    pub fn try_run_within(&self, command: &str, limit: Duration) -> Result<Output> {
        let result = self.process.agent.borrow_mut().run(command, limit);
        self.answered(result, &format!("the end of `{command}`"), limit)
    }

    /// Runs a shell command as root that must end with status 0.
    ///
    /// # Errors
    /// It ended with another status, took longer than five minutes, or the guest is not there.
    pub fn run(&self, command: &str) -> Result<Output> {
        self.run_within(command, deadline(COMMAND))
    }

    /// As [`Machine::run`] with another limit.
    ///
    /// # Errors
    /// As [`Machine::run`].
    pub fn run_within(&self, command: &str, limit: Duration) -> Result<Output> {
        let output = self.try_run_within(command, limit)?;
        if output.status != 0 {
            let Output { status, stdout, stderr } = output;
            return Err(Error::Command {
                machine: self.builder.name.clone(),
                command: command.to_owned(),
                status,
                stdout,
                stderr,
            });
        }
        Ok(output)
    }

    /// Starts a shell command as root and does not wait for it: for what takes the guest down.
    ///
    /// # Errors
    /// The guest is not there.
    pub fn run_detached(&self, command: &str) -> Result<()> {
        let result = self.process.agent.borrow_mut().start(command);
        self.answered(result, &format!("the start of `{command}`"), deadline(60)).map(drop)
    }

    /// Copies a file of the host into the running guest, mode 755.
    ///
    /// # Errors
    /// The file cannot be read here or written there.
    pub fn put(&self, from: &Path, to: &str) -> Result<()> {
        let content = std::fs::read(from).map_err(Error::io(|| format!("reading {}", from.display())))?;
        self.write(to, &content)?;
        self.run(&format!("chmod 755 '{to}'")).map(drop)
    }

    /// Writes a file in the running guest.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, path: &str, content: &[u8]) -> Result<()> {
        let result = self.process.agent.borrow_mut().write(path, content);
        self.answered(result, &format!("the writing of {path}"), deadline(COMMAND))
    }

    /// Reads a file of the running guest.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&self, path: &str) -> Result<Vec<u8>> {
        let result = self.process.agent.borrow_mut().read(path);
        self.answered(result, &format!("the reading of {path}"), deadline(COMMAND))
    }

    /// What tells one boot of the guest from the next (random(4), `boot_id`).
    ///
    /// # Errors
    /// The guest is not there.
    pub fn boot_id(&self) -> Result<String> {
        Ok(self.run("cat /proc/sys/kernel/random/boot_id")?.stdout.trim().to_owned())
    }

    /// Restarts the guest as its administrator does and waits until the next start is finished, whatever it is that starts.
    ///
    /// # Errors
    /// It was not up again within four minutes.
    pub fn reboot(&self) -> Result<()> {
        let before = self.boot_id()?;
        self.run_detached("systemctl reboot")?;
        self.next_boot(&before, deadline(BOOT))
    }

    /// Waits for a boot other than `before` to be finished.
    ///
    /// # Errors
    /// There was none within `limit`, or the machine ended.
    pub fn next_boot(&self, before: &str, limit: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            let left = limit.saturating_sub(start.elapsed());
            let answer = self.process.agent.borrow_mut().sync(left.min(Duration::from_secs(10)));
            if answer.is_ok() && self.boot_id().is_ok_and(|now| now != before) {
                return self.ready_within(left);
            }
            if left.is_zero() || self.has_ended() {
                return self.answered(Err(Failure::Silent), "the next boot", limit);
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Logs root in on the first console; gives back what was said between the password and the prompt.
    ///
    /// # Errors
    /// No login prompt, or root's password is not the fixtures'.
    pub fn login(&self) -> Result<String> {
        let console = self.console();
        console.expect("login: ", deadline(BOOT))?;
        console.send("root\r")?;
        console.expect("Password: ", deadline(60))?;
        console.send(&format!("{ROOT_PASSWORD}\r"))?;
        let before = console.text().len();
        console.expect(":~# ", deadline(60))?;
        Ok(console.text().split_off(before))
    }

    /// Presses the reset button.
    ///
    /// # Errors
    /// QEMU refused.
    pub fn reset(&self) -> Result<()> {
        self.qmp("system_reset", json!({})).map(drop)
    }

    /// Presses the power button, as ACPI tells it to the guest.
    ///
    /// # Errors
    /// QEMU refused.
    pub fn power_button(&self) -> Result<()> {
        self.qmp("system_powerdown", json!({})).map(drop)
    }

    /// Writes what the screen shows to a PNG file. Needs [`Builder::screen`].
    ///
    /// # Errors
    /// There is no screen.
    pub fn screenshot(&self, path: &Path) -> Result<()> {
        let path = std::path::absolute(path).map_err(Error::io(|| format!("finding {}", path.display())))?;
        self.qmp("screendump", json!({ "filename": path, "format": "png" })).map(drop)
    }

    /// Presses keys together on the USB keyboard, by QEMU's names (`ret`, `down`, `f12`, `ctrl`). Needs [`Builder::screen`].
    ///
    /// # Errors
    /// QEMU does not know a key.
    pub fn press(&self, keys: &[&str]) -> Result<()> {
        let keys: Vec<Value> = keys.iter().map(|key| json!({ "type": "qcode", "data": key })).collect();
        self.qmp("send-key", json!({ "keys": keys })).map(drop)
    }

    /// Plugs a disk in. virtio and NVMe need a free one of [`Builder::hot_plug_ports`], a stick needs [`Builder::usb`]. It is gone
    /// when the machine is stopped.
    ///
    /// # Errors
    /// There is no free port, or QEMU refused.
    pub fn plug(&self, disk: Disk) -> Result<()> {
        let mut plugged = self.process.plugged.borrow_mut();
        let disk = disk.attach(self.process.sockets.path(), self.builder.disk_count() + *plugged)?;
        let port = format!("port{plugged}");
        let port = disk.needs_port().then_some(port.as_str());
        if port.is_some() && *plugged >= self.builder.ports() {
            return Err(Error::Description(format!(
                "machine {} has no free port: Builder::hot_plug_ports",
                self.builder.name
            )));
        }
        self.qmp("blockdev-add", disk.node())?;
        self.qmp("device_add", disk.device(port))?;
        *plugged += 1;
        Ok(())
    }

    /// Any command of QEMU's monitor.
    ///
    /// # Errors
    /// QEMU refused.
    pub fn qmp(&self, command: &str, arguments: Value) -> Result<Value> {
        self.process.qmp.borrow_mut().execute(command, arguments)
    }

    /// Waits until the guest has switched the machine off.
    ///
    /// # Errors
    /// It did not within `limit`.
    pub fn off(&self, limit: Duration) -> Result<()> {
        let start = Instant::now();
        while !self.has_ended() {
            if start.elapsed() > limit {
                return self.answered(Err(Failure::Silent), "the power-off", limit);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Switches the guest off as its administrator does, and waits for it.
    ///
    /// # Errors
    /// It was not off within two minutes.
    pub fn power_off(self) -> Result<Builder> {
        self.run_detached("systemctl poweroff")?;
        self.off(deadline(120))?;
        Ok(self.stop())
    }

    /// Pulls the plug; what the guest wrote to its disks is kept. The description that is given back starts the same machine
    /// again, or with other disks.
    pub fn stop(self) -> Builder {
        self.builder
    }

    fn has_ended(&self) -> bool {
        !matches!(self.process.child.borrow_mut().try_wait(), Ok(None))
    }

    /// The agent's word as this machine's error.
    fn answered<T>(&self, result: Result<T, Failure>, what: &str, limit: Duration) -> Result<T> {
        match result {
            Ok(value) => Ok(value),
            Err(Failure::Refused(error)) => Err(error),
            Err(Failure::Silent) => {
                let tail = self.process.consoles.first().map(Console::tail).unwrap_or_default();
                let machine = self.builder.name.clone();
                // The agent's end of the wire closes a moment before the process is gone.
                std::thread::sleep(Duration::from_millis(200));
                Err(match self.process.child.borrow_mut().try_wait() {
                    Ok(Some(status)) => Error::Ended {
                        machine,
                        status: status.to_string(),
                        doing: what.to_owned(),
                        words: self.process.words(),
                        tail,
                    },
                    _ => Error::Deadline { machine, what: what.to_owned(), limit, tail },
                })
            }
        }
    }
}

impl Process {
    fn words(&self) -> String {
        last_lines(&std::fs::read_to_string(self.sockets.path().join("stderr")).unwrap_or_default(), 20)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let child = self.child.get_mut();
        // `quit` lets QEMU write the tables of its images; a killed one would lose what its guest had written.
        if matches!(child.try_wait(), Ok(None)) && self.qmp.get_mut().execute("quit", json!({})).is_ok() {
            let start = Instant::now();
            while matches!(child.try_wait(), Ok(None)) && start.elapsed() < Duration::from_secs(20) {
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
    let folder = target_dir().join("vm-logs");
    std::fs::create_dir_all(&folder).map_err(Error::io(|| format!("making {}", folder.display())))?;
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    Ok(folder.join(format!("{name}-{}-{number}-ttyS{console}.log", std::process::id())))
}
