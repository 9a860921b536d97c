//! Runs a command in a boot environment, isolated from the running system (docs/design.md, "A
//! command in a BE").
//!
//! `be` starts itself again with a hidden verb. That process has only one thread, so it can call
//! unshare(2) and fork(2). Its child is PID 1 of the new namespaces: it sets them up, and starts
//! the command as its child. Each of them dies with its parent, and the kernel kills everything
//! that the command left behind when PID 1 ends.

mod arguments;
mod capabilities;
mod command;
mod control_group;
mod device_rules;
mod devices;
mod file_systems;
mod namespace;
mod policy;
pub mod programs;
mod seccomp;
mod signals;
mod system_calls;
mod terminal;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::error::{Doing, Error, Result};
use crate::escape::complain;
use crate::tool::{self, RunningProgram, ToolError};
use arguments::Arguments;
pub use arguments::{NOT_PREPARED, WORK};
use policy::Policy;

/// The longest line that is handed over in one piece, in bytes.
const MAX_LINE: u64 = 64 << 10;

/// How often signals are checked while a command runs.
const TICK: Duration = Duration::from_millis(50);

/// The bounds of a command whose output is captured.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most bytes that it may print, on each of its two streams.
    pub output: u64,
    /// How long it may run.
    pub time: Duration,
    /// How long it may take to end after it was interrupted, before it is killed.
    pub grace: Duration,
}

impl Default for Limits {
    /// Enough to make the initramfs of every kernel on a slow machine, and for the largest GRUB
    /// image.
    fn default() -> Self {
        Limits { output: 16 << 20, time: Duration::from_secs(3600), grace: Duration::from_secs(20) }
    }
}

/// How commands are run inside a BE.
#[derive(Clone, Copy, Debug)]
pub struct Inside<'a> {
    /// Where the BE is mounted for writing, with its nested and shared file systems.
    pub root: &'a Path,
    /// The block devices that the command can see, each with its UUID for /dev/disk/by-uuid.
    /// grub-probe needs those of the BE's file systems. One that is not mounted below `root` is
    /// left out. They are read-only, unless the command is privileged.
    pub block_devices: &'a [(PathBuf, Option<String>)],
    /// Mount points in the BE that it shares with other BEs. They are read-only for the command.
    pub shared: &'a [PathBuf],
    /// A directory of the running system that the command sees as [`WORK`] and can write to.
    pub work: Option<&'a Path>,
    /// Whether to keep all capabilities and system calls, the device nodes on the BE's file
    /// systems, and to be able to write to its block devices and their whole disks.
    pub privileged: bool,
    /// Whether the command is the user's, with the terminal. A command of Lifeboat's own has no
    /// terminal and no input.
    pub interactive: bool,
    /// Whether the command has the network of the running system, else only a loopback interface.
    pub network: bool,
    /// Whether an interruption is told to the first process of the command alone, and not to those
    /// that it has started: a package manager ends by itself what it has begun.
    pub ends_by_itself: bool,
    /// The bounds of a command whose output is captured. An interactive one has none.
    pub limits: Limits,
}

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Sets the program that has the hidden verb. Tests need this, because they are not `be`.
#[doc(hidden)]
pub fn use_program(path: impl Into<PathBuf>) {
    let _ = PROGRAM.set(path.into());
}

impl<'a> Inside<'a> {
    /// How Lifeboat runs programs of a BE itself: with no terminal, network, ESP or privilege.
    pub fn new(root: &'a Path, block_devices: &'a [(PathBuf, Option<String>)]) -> Self {
        Inside {
            root,
            block_devices,
            shared: &[],
            work: None,
            privileged: false,
            interactive: false,
            network: false,
            ends_by_itself: false,
            limits: Limits::default(),
        }
    }

    /// Runs a command to its end and returns its exit status. That is 128 plus the number of the
    /// signal if one killed it, and 125 to 127 as for env(1).
    ///
    /// # Errors
    /// When nothing could be started, [`ToolError::Killed`], and [`Error::Interrupted`]. In that
    /// case the signal was passed on to the command, and it has ended.
    pub fn run(&self, command: &[OsString]) -> Result<u8> {
        let _policy = Policy::install(self.root)?;
        let _settings = self.interactive.then(terminal::Settings::note);
        let mut child = self.start(command, Stdio::inherit, Stdio::inherit)?;
        let status = self.wait(&mut child, command, None, || std::thread::sleep(TICK))?;
        let killed = || ToolError::Killed { command: shown(command) };
        let status = status.code().ok_or_else(killed)?;
        Ok(u8::try_from(status).unwrap_or(NOT_PREPARED))
    }

    /// Runs a command and captures its output, which is bounded by its limits.
    ///
    /// # Errors
    /// As [`Inside::run`], and the command goes beyond its limits. It is then killed.
    pub fn capture(&self, command: &[OsString]) -> Result<Output> {
        let _running = command.first().map(|program| RunningProgram::note(program));
        let _policy = Policy::install(self.root)?;
        let mut child = self.start(command, Stdio::piped, Stdio::piped)?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let is_flooded = AtomicBool::new(false);
        let read = |pipe: Option<OwnedFd>| {
            let bytes = |pipe| tool::read_bounded(pipe, self.limits.output, &is_flooded);
            pipe.map(bytes).unwrap_or_default()
        };
        std::thread::scope(|scope| {
            let out = scope.spawn(|| read(out.map(OwnedFd::from)));
            let err = scope.spawn(|| read(err.map(OwnedFd::from)));
            let idle = || std::thread::sleep(TICK);
            let status = self.wait(&mut child, command, Some(&is_flooded), idle)?;
            let joined = |bytes: std::thread::Result<Vec<u8>>| bytes.unwrap_or_default();
            Ok(Output { status, stdout: joined(out.join()), stderr: joined(err.join()) })
        })
    }

    /// Runs a command, and hands over each line that it prints on its two streams at once. What it
    /// prints is bounded by its limits. `program` is its name for those who wait for it.
    ///
    /// # Errors
    /// As [`Inside::capture`].
    pub fn stream(
        &self,
        command: &[OsString],
        program: &str,
        line: &mut dyn FnMut(&str),
    ) -> Result<ExitStatus> {
        let _running = RunningProgram::note(OsStr::new(program));
        let _policy = Policy::install(self.root)?;
        let mut child = self.start(command, Stdio::piped, Stdio::piped)?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let is_flooded = AtomicBool::new(false);
        let (sender, lines) = mpsc::sync_channel::<String>(1024);
        std::thread::scope(|scope| {
            for pipe in [out.map(OwnedFd::from), err.map(OwnedFd::from)].into_iter().flatten() {
                let (sender, is_flooded) = (sender.clone(), &is_flooded);
                scope.spawn(move || read_lines(pipe, self.limits.output, is_flooded, &sender));
            }
            drop(sender);
            let status = self.wait(&mut child, command, Some(&is_flooded), || {
                match lines.recv_timeout(TICK) {
                    Ok(text) => line(&text),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => std::thread::sleep(TICK),
                }
            });
            // Both streams have ended: nothing of the command is left.
            lines.iter().for_each(|text| line(&text));
            status
        })
    }

    fn start(&self, command: &[OsString], out: fn() -> Stdio, err: fn() -> Stdio) -> Result<Child> {
        log::info!("running {} in {}", shown(command), self.root.display());
        let program = PROGRAM.get().map_or_else(|| Path::new("/proc/self/exe"), PathBuf::as_path);
        Command::new(program)
            // The only program of the rescue image chooses what to do by its name.
            .arg0("be")
            .arg("internal-inside")
            .args(self.arguments())
            .arg("--")
            .args(command)
            .stdin(if self.interactive { Stdio::inherit() } else { Stdio::null() })
            .stdout(out())
            .stderr(err())
            .spawn()
            .doing(|| {
                format!("starting {} for a command in {}", program.display(), self.root.display())
            })
    }

    fn arguments(&self) -> Vec<OsString> {
        let mut line: Vec<OsString> = vec!["--root".into(), self.root.into()];
        let parent = rustix::process::getpid().as_raw_nonzero().to_string();
        line.extend(["--parent".into(), parent.into()]);
        for (node, uuid) in self.block_devices {
            line.extend([
                "--block-device".into(),
                node.into(),
                uuid.as_deref().unwrap_or_default().into(),
            ]);
        }
        line.extend(self.shared.iter().flat_map(|shared| ["--shared".into(), shared.into()]));
        line.extend(self.work.iter().flat_map(|work| ["--work".into(), work.into()]));
        let foreground = self.interactive && terminal::is_foreground();
        for (option, is_set) in [
            ("--privileged", self.privileged),
            ("--interactive", self.interactive),
            ("--foreground", foreground),
            ("--network", self.network),
            ("--ends-by-itself", self.ends_by_itself),
        ] {
            line.extend(is_set.then(|| option.into()));
        }
        line
    }

    /// Waits for a command. With `is_flooded`, which says that it printed too much, it has limits.
    /// `idle` is called again and again, and takes up to [`TICK`].
    fn wait(
        &self,
        child: &mut Child,
        command: &[OsString],
        is_flooded: Option<&AtomicBool>,
        mut idle: impl FnMut(),
    ) -> Result<ExitStatus> {
        let waiting = || format!("waiting for a command in {}", self.root.display());
        let send = |child: &Child, signal| {
            if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                // This fails only if the child has just ended.
                let _ = rustix::process::kill_process(pid, signal);
            }
        };
        let start = Instant::now();
        let mut interrupted: Option<Instant> = None;
        let mut beyond: Option<ToolError> = None;
        loop {
            if let Some(status) = child.try_wait().doing(waiting)? {
                return match (interrupted, beyond) {
                    // It went on, and was not interrupted after all.
                    (Some(_), _) if self.interactive && status.success() => Ok(status),
                    (Some(_), _) => Err(Error::Interrupted),
                    (None, Some(why)) => Err(why.into()),
                    (None, None) => Ok(status),
                };
            }
            if let (Some(is_flooded), None) = (is_flooded, &beyond) {
                beyond = self.limit_reached(command, start, is_flooded);
                if beyond.is_some() {
                    send(child, Signal::QUIT);
                }
            }
            match interrupted {
                None if self.is_interrupted() => {
                    interrupted = Some(Instant::now());
                    // What the user runs may have a reason to go on, and is not killed.
                    send(child, if self.interactive { Signal::TERM } else { Signal::INT });
                }
                Some(since) if since.elapsed() > self.limits.grace && !self.interactive => {
                    send(child, Signal::QUIT);
                    interrupted = Some(Instant::now());
                }
                _ => {}
            }
            idle();
        }
    }

    /// A key that the user of an interactive command presses is for the command.
    fn is_interrupted(&self) -> bool {
        if self.interactive { crate::signals::terminated() } else { crate::signals::interrupted() }
    }

    fn limit_reached(
        &self,
        command: &[OsString],
        start: Instant,
        is_flooded: &AtomicBool,
    ) -> Option<ToolError> {
        let Limits { output, time, .. } = self.limits;
        if is_flooded.load(Ordering::Relaxed) {
            return Some(ToolError::TooMuchOutput { command: shown(command), limit: output });
        }
        let too_long = || ToolError::TooLong { command: shown(command), seconds: time.as_secs() };
        (start.elapsed() > time).then(too_long)
    }
}

/// Sends the lines of a pipe, up to `limit` bytes of them. What comes after them is read too, so
/// that the program does not wait for a reader, and sets `is_flooded`.
fn read_lines(pipe: OwnedFd, limit: u64, is_flooded: &AtomicBool, sender: &SyncSender<String>) {
    let mut pipe = BufReader::new(File::from(pipe));
    let (mut line, mut total) = (Vec::new(), 0);
    // An error would not change anything: what was read until then is the output.
    while let Ok(length) = (&mut pipe).take(MAX_LINE).read_until(b'\n', &mut line) {
        if length == 0 {
            break;
        }
        total += length as u64;
        if total > limit {
            is_flooded.store(true, Ordering::Relaxed);
        } else if sender.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
            break;
        }
        line.clear();
    }
}

fn shown(command: &[OsString]) -> String {
    command.join(OsStr::new(" ")).to_string_lossy().into_owned()
}

/// The hidden verb `internal-inside`. It prints its errors itself, because it is a process of its
/// own.
pub(crate) fn helper(arguments: &[OsString]) -> ExitCode {
    let Some(arguments) = Arguments::parse(arguments) else {
        complain("internal-inside is a part of `be run`: use that instead");
        return ExitCode::from(2);
    };
    match namespace::enter(&arguments) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(NOT_PREPARED)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_survive_the_command_line() {
        let devices =
            [(PathBuf::from("/dev/vda2"), Some("ab-cd".to_owned())), ("/dev/vdb".into(), None)];
        let shared = [PathBuf::from("/home")];
        let inside = Inside {
            shared: &shared,
            work: Some(Path::new("/run/lifeboat/work-1")),
            privileged: true,
            network: true,
            ends_by_itself: true,
            ..Inside::new(Path::new("/run/lifeboat/x"), &devices)
        };
        let mut line = inside.arguments();
        line.extend(["--", "sh", "-c", "--root"].map(OsString::from));
        let arguments = Arguments::parse(&line).unwrap();
        let expected = Arguments {
            root: "/run/lifeboat/x".into(),
            parent: arguments.parent,
            block_devices: devices.to_vec(),
            shared: shared.to_vec(),
            work: Some("/run/lifeboat/work-1".into()),
            privileged: true,
            interactive: false,
            foreground: false,
            network: true,
            ends_by_itself: true,
            command: ["sh", "-c", "--root"].map(OsString::from).to_vec(),
        };
        assert_eq!(arguments, expected);
    }

    #[test]
    fn arguments_without_root_or_command_are_refused() {
        for line in
            [&["--root", "/x"][..], &["--root", "x", "--", "true"], &["--", "true"], &["--what"]]
        {
            let line: Vec<OsString> = line.iter().map(OsString::from).collect();
            assert_eq!(Arguments::parse(&line), None);
        }
    }
}
