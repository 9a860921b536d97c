//! Runs external programs: the command line is logged, the output captured, and a failure is an
//! error that names the program.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::MemfdFlags;
use rustix::process::{Pid, Signal, kill_process};

/// How often signals are checked while a program runs that they are passed on to.
const TICK: Duration = Duration::from_millis(50);

/// How many bytes of a script's output are read.
const MAX_SCRIPT_OUTPUT: u64 = 1 << 20;

/// How many bytes of a program's output are kept, of each of its two streams.
const MAX_OUTPUT: u64 = 64 << 20;

/// The failure of an external program.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// The program could not be started.
    #[error("{program} could not be started ({source}): install the package that has it")]
    Start {
        /// The program.
        program: String,
        /// The error of execve(2).
        source: std::io::Error,
    },
    /// It failed after SIGINT or SIGTERM arrived, which a Ctrl-C sends to the program too.
    #[error(
        "`{command}` was interrupted: run the command again, or `be delete` what is incomplete"
    )]
    Interrupted {
        /// The whole command line.
        command: String,
    },
    /// The program did not exit with 0.
    #[error("`{command}` failed ({status}): {last_words}")]
    Failed {
        /// The whole command line.
        command: String,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// The last lines it printed.
        last_words: String,
    },
    /// The program was killed because it printed too much.
    #[error("`{command}` was killed: it printed more than {limit} bytes; see what it does")]
    TooMuchOutput {
        /// The whole command line.
        command: String,
        /// The most bytes that it may print.
        limit: u64,
    },
    /// The program was killed because it did not end.
    #[error("`{command}` was killed: it did not end within {seconds} seconds; see what it does")]
    TooLong {
        /// The whole command line.
        command: String,
        /// How long it may run.
        seconds: u64,
    },
    /// The program was killed together with the process that it runs in, so that its status is not
    /// known.
    #[error("`{command}` was killed from outside: run it again")]
    Killed {
        /// The whole command line.
        command: String,
    },
}

/// The program that runs now.
static RUNNING: Mutex<Option<String>> = Mutex::new(None);

/// The name of the program that runs now, for those who wait for it.
pub fn running() -> Option<String> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// A program counts as the one that runs until this is dropped.
pub(crate) struct RunningProgram {
    before: Option<String>,
}

impl RunningProgram {
    pub(crate) fn note(program: &OsStr) -> Self {
        let name = Path::new(program).file_name().unwrap_or(program);
        let name = Some(name.to_string_lossy().into_owned());
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        RunningProgram { before: std::mem::replace(&mut running, name) }
    }
}

impl Drop for RunningProgram {
    fn drop(&mut self) {
        *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) = self.before.take();
    }
}

/// A path and the name by which it is shown.
#[derive(Debug)]
struct Alias {
    path: String,
    name: String,
}

/// Reads a pipe to its end, and keeps as many bytes as `limit`. What comes after them is dropped,
/// so that the program does not wait for a reader, and sets `is_cut` at once.
pub(crate) fn read_bounded(pipe: OwnedFd, limit: u64, is_cut: &AtomicBool) -> Vec<u8> {
    let mut pipe = File::from(pipe);
    let mut bytes = Vec::new();
    // An error would not change anything: what was read until then is the output.
    let _ = (&mut pipe).take(limit).read_to_end(&mut bytes);
    let mut rest = vec![0; 64 << 10];
    while pipe.read(&mut rest).is_ok_and(|length| length > 0) {
        is_cut.store(true, Ordering::Relaxed);
    }
    bytes
}

/// An external program and its arguments.
#[derive(Debug)]
pub struct Tool {
    program: PathBuf,
    arguments: Vec<OsString>,
    /// Arguments that are shown by another name.
    shown_as: Vec<Alias>,
    environment: Vec<(OsString, OsString)>,
    input: Option<Vec<u8>>,
    is_script: bool,
    has_own_group: bool,
    is_interruptible: bool,
}

impl Tool {
    /// Makes a command from a program, which is a path, or a name to look up in `PATH`.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Tool {
            program: program.into(),
            arguments: Vec::new(),
            shown_as: Vec::new(),
            environment: Vec::new(),
            input: None,
            is_script: false,
            has_own_group: false,
            is_interruptible: false,
        }
    }

    /// Adds one argument.
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds a path that the command line and the last words show by another name: one such as
    /// `/proc/812/fd/7` says nothing to the user.
    pub fn arg_shown_as(mut self, path: PathBuf, name: &Path) -> Self {
        self.shown_as
            .push(Alias { path: path.display().to_string(), name: name.display().to_string() });
        self.arg(path)
    }

    /// Adds several arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable, in addition to those of `be`.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Sets the standard input, which is empty otherwise.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Some(bytes.into());
        self
    }

    /// Marks a script of the administrator. It runs in the caller's locale, processes that it
    /// leaves in the background are not waited for, and its output is kept for error messages only.
    pub fn script(mut self) -> Self {
        self.is_script = true;
        self
    }

    /// Runs the program in a process group of its own, which a Ctrl-C on the terminal does not
    /// reach.
    pub fn own_group(mut self) -> Self {
        self.has_own_group = true;
        self
    }

    /// Passes an interruption of `be` on to the program, once, as SIGTERM. It is the only one that
    /// the program gets: it runs in a process group of its own.
    pub fn interruptible(mut self) -> Self {
        (self.is_interruptible, self.has_own_group) = (true, true);
        self
    }

    /// The program and its arguments, as they would be typed in a shell.
    pub fn command_line(&self) -> String {
        let mut line = self.program.display().to_string();
        for argument in &self.arguments {
            let word = self.shown(&argument.to_string_lossy());
            let plain = !word.is_empty()
                && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_=./:,@+%".contains(&b));
            line.push(' ');
            if plain {
                line.push_str(&word);
            } else {
                line.push('\'');
                line.push_str(&word.replace('\'', r"'\''"));
                line.push('\'');
            }
        }
        line
    }

    /// Runs the program to its end, whatever its exit status.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn output(&self) -> Result<Output, ToolError> {
        log::info!("running {}", self.command_line());
        let _running = RunningProgram::note(self.program.as_os_str());
        let start =
            |source| ToolError::Start { program: self.program.display().to_string(), source };
        if self.is_script {
            return self.script_output().map_err(start);
        }
        let mut child = self
            .command()
            .env("LC_ALL", "C.UTF-8")
            .stdin(if self.input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(start)?;
        if let (Some(bytes), Some(mut pipe)) = (&self.input, child.stdin.take()) {
            // If the program does not read all its input, its exit status says why.
            let _ = pipe.write_all(bytes);
        }
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let is_cut = AtomicBool::new(false);
        let read = |pipe: Option<OwnedFd>| {
            pipe.map(|pipe| read_bounded(pipe, MAX_OUTPUT, &is_cut)).unwrap_or_default()
        };
        std::thread::scope(|scope| {
            let out = scope.spawn(|| read(out.map(OwnedFd::from)));
            let err = scope.spawn(|| read(err.map(OwnedFd::from)));
            let status = self.wait(&mut child).map_err(start)?;
            let read = |bytes: std::thread::Result<Vec<u8>>| bytes.unwrap_or_default();
            Ok(Output { status, stdout: read(out.join()), stderr: read(err.join()) })
        })
    }

    fn wait(&self, child: &mut Child) -> std::io::Result<ExitStatus> {
        let mut is_told = !self.is_interruptible;
        while !is_told {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if crate::signals::interrupted() {
                is_told = true;
                let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
                // This fails only if the child has just ended.
                let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
            }
            std::thread::sleep(TICK);
        }
        child.wait()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        if self.has_own_group {
            command.process_group(0);
        }
        command
    }

    /// Captures output in a memory file. A pipe would stay open until the last daemon that the
    /// script started has ended.
    fn script_output(&self) -> std::io::Result<Output> {
        let mut output = File::from(rustix::fs::memfd_create("output", MemfdFlags::CLOEXEC)?);
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output.try_clone()?);
        let status = command.status()?;
        let mut stderr = Vec::new();
        output.seek(SeekFrom::Start(0))?;
        output.take(MAX_SCRIPT_OUTPUT).read_to_end(&mut stderr)?;
        Ok(Output { status, stdout: Vec::new(), stderr })
    }

    /// Runs the program and returns what it printed.
    ///
    /// # Errors
    /// When it cannot be started or does not exit with 0.
    pub fn run(&self) -> Result<String, ToolError> {
        let output = self.output()?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(self.failure(&output))
    }

    /// A text with the names by which paths are shown.
    fn shown(&self, text: &str) -> String {
        self.shown_as
            .iter()
            .fold(text.to_owned(), |text, alias| text.replace(&alias.path, &alias.name))
    }

    /// The error for an output that counts as a failure.
    pub fn failure(&self, output: &Output) -> ToolError {
        if !self.has_own_group && crate::signals::interrupted() {
            return ToolError::Interrupted { command: self.command_line() };
        }
        // A few programs print their error messages on standard output.
        let printed = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
        let text = self.shown(&String::from_utf8_lossy(printed));
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
        let last = lines[lines.len().saturating_sub(5)..].join(" / ");
        ToolError::Failed {
            command: self.command_line(),
            status: output.status,
            last_words: if last.is_empty() { "it printed nothing".into() } else { last },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_program_arguments_and_last_words() {
        let tool = Tool::new("sh").args(["-c", "echo no room >&2; exit 7"]);
        let message = tool.run().unwrap_err().to_string();
        assert!(message.contains("sh -c 'echo no room >&2; exit 7'"), "{message}");
        assert!(message.contains("no room") && message.contains('7'), "{message}");
    }

    #[test]
    fn a_path_is_shown_by_the_name_that_the_user_knows() {
        let tool = Tool::new("sh").args(["-c", "echo $0 is full >&2; exit 1"]);
        let tool = tool.arg_shown_as("/proc/1/fd/7".into(), Path::new("/dev/sda1"));
        let message = tool.run().unwrap_err().to_string();
        assert!(message.contains("' /dev/sda1` failed"), "{message}");
        assert!(message.ends_with("/dev/sda1 is full"), "{message}");
    }

    #[test]
    fn a_program_that_prints_too_much_is_read_to_its_end_and_kept_in_part() {
        let mut child = Command::new("sh")
            .args(["-c", "head -c 300000 /dev/zero"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let is_cut = AtomicBool::new(false);
        let bytes = read_bounded(child.stdout.take().unwrap().into(), 1000, &is_cut);
        assert_eq!((bytes.len(), is_cut.into_inner()), (1000, true));
        assert!(child.wait().unwrap().success());
    }

    #[test]
    fn input_reaches_the_program() {
        assert_eq!(Tool::new("cat").input("a line").run().unwrap(), "a line");
    }

    #[test]
    fn background_processes_of_a_script_are_not_waited_for() {
        let start = std::time::Instant::now();
        let tool = Tool::new("sh").args(["-c", "sleep 5 & echo bad >&2; exit 3"]).script();
        let message = tool.run().unwrap_err().to_string();
        assert!(message.contains("bad") && start.elapsed().as_secs() < 4, "{message}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let message = Tool::new("no-such-program").run().unwrap_err().to_string();
        assert!(message.starts_with("no-such-program could not be started"), "{message}");
    }
}
