//! A command in a boot environment, shut off from the running system (DESIGN.md, "A command in a
//! BE").
//!
//! `be` starts itself once more as a hidden verb: that process has one thread, so it may unshare
//! and fork. Its child is PID 1 of the new namespaces and prepares them; the command is that one's
//! child. Each dies with its parent, and with PID 1 dies everything that the command left behind.

mod namespace;
mod order;
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
use order::{NOT_PREPARED, Order};
use policy::Policy;

/// How long a command may take to end after it was interrupted.
const GRACE: Duration = Duration::from_secs(20);

/// How often an interruption is looked for while a command runs.
const TICK: Duration = Duration::from_millis(50);

/// A place to run commands in.
#[derive(Clone, Copy, Debug)]
pub struct Inside<'a> {
    /// The BE, mounted here for writing, with its nested and shared file systems.
    pub root: &'a Path,
    /// Block devices that it may see: their nodes, with the UUID under which /dev/disk/by-uuid has
    /// them. grub-probe needs those of its file systems; their whole disks are added for what
    /// Lifeboat runs itself, and for the privileged.
    pub block_devices: &'a [(PathBuf, Option<String>)],
    /// A directory of the running system that is bound to the BE's /boot/efi, or /efi. Without one
    /// the ESP is not to be seen, even where the BE's own mounts had it.
    pub esp: Option<&'a Path>,
    /// Mount points in the BE that belong to all BEs: read-only inside.
    pub shared: &'a [PathBuf],
    /// Keep all capabilities, and device nodes of the BE's own.
    pub privileged: bool,
    /// The command is the user's and talks to the terminal; one of Lifeboat's has none, and reads
    /// nothing.
    pub interactive: bool,
}

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Names the program that has the hidden verb, where that is not this one: in tests.
#[doc(hidden)]
pub fn use_program(path: impl Into<PathBuf>) {
    let _ = PROGRAM.set(path.into());
}

impl Inside<'_> {
    /// Runs a command to its end and returns its exit status: its own, 128 and the signal's number
    /// when one killed it, 125 to 127 as env(1).
    ///
    /// # Errors
    /// When nothing could be started, and [`Error::Interrupted`]; the command has then been told
    /// and has ended.
    pub fn run(&self, command: &[OsString]) -> Result<i32> {
        let _policy = Policy::put(self.root)?;
        let mut child = self.start(command, Stdio::inherit, Stdio::inherit)?;
        let status = self.wait(&mut child)?;
        Ok(status.code().unwrap_or(i32::from(NOT_PREPARED)))
    }

    /// Runs a command that says nothing to the user.
    ///
    /// # Errors
    /// As [`Inside::run`].
    pub fn capture(&self, command: &[OsString]) -> Result<Output> {
        let _running = command.first().map(|program| RunningProgram::note(program));
        let _policy = Policy::put(self.root)?;
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
            // The rescue image's one program looks at its name.
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
        let mut told: Option<Instant> = None;
        loop {
            if let Some(status) = child.try_wait().doing(waiting)? {
                return if told.is_some() { Err(Error::Interrupted) } else { Ok(status) };
            }
            match told {
                // On a terminal the command hears of it by itself, and decides.
                None if crate::signals::interrupted() && !self.interactive => {
                    told = Some(Instant::now());
                    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
                    if let Some(pid) = pid {
                        // It has just ended: the next look says so.
                        let _ = rustix::process::kill_process(pid, Signal::INT);
                    }
                }
                Some(since) if since.elapsed() > GRACE => {
                    child.kill().doing(waiting)?;
                    told = Some(Instant::now());
                }
                _ => {}
            }
            std::thread::sleep(TICK);
        }
    }
}

fn read_all(pipe: Option<impl std::io::Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A pipe ends when the last writer does; there is no other error to act on.
    let _ = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
    bytes
}

/// The hidden verb `internal-inside`. It prints, because only the terminal is left to hear it.
pub(crate) fn helper(arguments: &[OsString]) -> ExitCode {
    let Some(order) = Order::parse(arguments) else {
        complain("internal-inside is a part of `be run`, which is what you want");
        return ExitCode::from(2);
    };
    match namespace::enter(&order) {
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
    fn the_hidden_verb_gets_what_was_asked_for() {
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
        let order = Order::parse(&line).unwrap();
        let expected = Order {
            root: "/run/lifeboat/x".into(),
            parent: order.parent,
            block_devices: devices.to_vec(),
            esp: Some("/boot/efi".into()),
            shared: shared.to_vec(),
            privileged: true,
            interactive: false,
            command: ["sh", "-c", "--root"].map(OsString::from).to_vec(),
        };
        assert_eq!(order, expected);
    }

    #[test]
    fn an_order_without_root_or_command_is_none() {
        for line in
            [&["--root", "/x"][..], &["--root", "x", "--", "true"], &["--", "true"], &["--what"]]
        {
            let line: Vec<OsString> = line.iter().map(OsString::from).collect();
            assert_eq!(Order::parse(&line), None);
        }
    }
}
