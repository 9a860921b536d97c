//! Runs a command in a boot environment, isolated from the running system (docs/design.md, "A
//! command in a BE").
//!
//! `be` starts itself again with a hidden verb. That process has only one thread, so it can call
//! unshare(2) and fork(2). Its child is PID 1 of the new namespaces: it sets them up, and starts
//! the command as its child. Each of them dies with its parent, and the kernel kills everything
//! that the command left behind when PID 1 ends.

mod arguments;
mod namespace;
mod policy;
pub mod programs;
mod seccomp;

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::error::{Doing, Error, Result};
use crate::escape::complain;
use crate::tool::RunningProgram;
use arguments::{Arguments, NOT_PREPARED};
use policy::Policy;

/// How long a command may take to end after it was interrupted.
const GRACE: Duration = Duration::from_secs(20);

/// How often signals are checked while a command runs.
const TICK: Duration = Duration::from_millis(50);

/// How commands are run inside a BE.
#[derive(Clone, Copy, Debug)]
pub struct Inside<'a> {
    /// Where the BE is mounted for writing, with its nested and shared file systems.
    pub root: &'a Path,
    /// The block devices that the command can see, each with its UUID for /dev/disk/by-uuid.
    /// grub-probe needs those of the BE's file systems. Commands that Lifeboat runs itself, and
    /// privileged ones, also see the whole disks of these devices.
    pub block_devices: &'a [(PathBuf, Option<String>)],
    /// A directory of the running system that is mounted on the BE's /boot/efi or /efi. If there is
    /// none, the ESP is hidden, even if the BE had it mounted.
    pub esp: Option<&'a Path>,
    /// Mount points in the BE that it shares with other BEs. They are read-only for the command.
    pub shared: &'a [PathBuf],
    /// Whether to keep all capabilities, and the device nodes on the BE's file systems.
    pub privileged: bool,
    /// Whether the command is the user's, with the terminal. A command of Lifeboat's own has no
    /// terminal and no input.
    pub interactive: bool,
}

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Sets the program that has the hidden verb. Tests need this, because they are not `be`.
#[doc(hidden)]
pub fn use_program(path: impl Into<PathBuf>) {
    let _ = PROGRAM.set(path.into());
}

impl Inside<'_> {
    /// Runs a command to its end and returns its exit status. That is 128 plus the number of the
    /// signal if one killed it, and 125 to 127 as for env(1).
    ///
    /// # Errors
    /// When nothing could be started, and [`Error::Interrupted`]. In that case the signal was
    /// passed on to the command, and it has ended.
    pub fn run(&self, command: &[OsString]) -> Result<i32> {
        let _policy = Policy::install(self.root)?;
        let mut child = self.start(command, Stdio::inherit, Stdio::inherit)?;
        let status = self.wait(&mut child)?;
        Ok(status.code().unwrap_or(i32::from(NOT_PREPARED)))
    }

    /// Runs a command and captures its output.
    ///
    /// # Errors
    /// As [`Inside::run`].
    pub fn capture(&self, command: &[OsString]) -> Result<Output> {
        let _running = command.first().map(|program| RunningProgram::note(program));
        let _policy = Policy::install(self.root)?;
        let mut child = self.start(command, Stdio::piped, Stdio::piped)?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        std::thread::scope(|scope| {
            let out = scope.spawn(|| read_all(out));
            let err = scope.spawn(|| read_all(err));
            let status = self.wait(&mut child)?;
            let joined = |bytes: std::thread::Result<Vec<u8>>| bytes.unwrap_or_default();
            Ok(Output { status, stdout: joined(out.join()), stderr: joined(err.join()) })
        })
    }

    fn start(&self, command: &[OsString], out: fn() -> Stdio, err: fn() -> Stdio) -> Result<Child> {
        log::info!(
            "running {} in {}",
            command.join(OsStr::new(" ")).display(),
            self.root.display()
        );
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
        line.extend(self.esp.iter().flat_map(|esp| ["--esp".into(), esp.into()]));
        line.extend(self.shared.iter().flat_map(|shared| ["--shared".into(), shared.into()]));
        line.extend(self.privileged.then(|| "--privileged".into()));
        line.extend(self.interactive.then(|| "--interactive".into()));
        line
    }

    fn wait(&self, child: &mut Child) -> Result<std::process::ExitStatus> {
        let waiting = || format!("waiting for a command in {}", self.root.display());
        let mut interrupted: Option<Instant> = None;
        loop {
            if let Some(status) = child.try_wait().doing(waiting)? {
                return if interrupted.is_some() { Err(Error::Interrupted) } else { Ok(status) };
            }
            match interrupted {
                // The terminal sends the signal to an interactive command itself.
                None if crate::signals::interrupted() && !self.interactive => {
                    interrupted = Some(Instant::now());
                    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
                    if let Some(pid) = pid {
                        // This fails only if the child has just ended.
                        let _ = rustix::process::kill_process(pid, Signal::INT);
                    }
                }
                Some(since) if since.elapsed() > GRACE => {
                    child.kill().doing(waiting)?;
                    interrupted = Some(Instant::now());
                }
                _ => {}
            }
            std::thread::sleep(TICK);
        }
    }
}

fn read_all(pipe: Option<impl std::io::Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    // An error would not change anything: what was read until then is the output.
    let _ = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
    bytes
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
            root: Path::new("/run/lifeboat/x"),
            block_devices: &devices,
            esp: Some(Path::new("/boot/efi")),
            shared: &shared,
            privileged: true,
            interactive: false,
        };
        let mut line = inside.arguments();
        line.extend(["--", "sh", "-c", "--root"].map(OsString::from));
        let arguments = Arguments::parse(&line).unwrap();
        let expected = Arguments {
            root: "/run/lifeboat/x".into(),
            parent: arguments.parent,
            block_devices: devices.to_vec(),
            esp: Some("/boot/efi".into()),
            shared: shared.to_vec(),
            privileged: true,
            interactive: false,
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
