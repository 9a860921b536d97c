//! A running Debian: waiting for its start, commands, files, restarts, the login prompt.

use crate::agent::AgentFailure;
use crate::host::deadline;
use crate::{Builder, Console, Error, Machine, Output, ROOT_PASSWORD, Result};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a command in a guest may take by default, in seconds.
const COMMAND: u64 = 300;
/// How long a guest may take from power-on until it is ready, in seconds.
const BOOT: u64 = 240;

impl Machine {
    /// Waits until Debian has started and can run commands.
    ///
    /// # Errors
    /// It took more than four minutes, or the machine ended.
    pub fn ready(&self) -> Result<()> {
        self.ready_within(deadline(BOOT))
    }

    /// As [`Machine::ready`] with another limit.
    ///
    /// # Errors
    /// As [`Machine::ready`].
    pub fn ready_within(&self, limit: Duration) -> Result<()> {
        let start = Instant::now();
        self.answered(
            self.process.agent.borrow_mut().sync(limit),
            "the guest agent's answer",
            limit,
        )?;
        // The status of this command is not checked: it fails for `degraded`, which a test may
        // allow.
        let wait = "systemctl is-system-running --wait";
        let result =
            self.process.agent.borrow_mut().run(wait, limit.saturating_sub(start.elapsed()));
        self.answered(result, "the end of the guest's start", limit).map(drop)
    }

    /// Runs a shell command as root and returns its output, whatever its status.
    ///
    /// # Errors
    /// It took longer than five minutes, or the guest does not answer.
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

    /// Runs a shell command as root, which must succeed.
    ///
    /// # Errors
    /// It failed, took longer than five minutes, or the guest does not answer.
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

    /// Starts a shell command as root without waiting for its end, such as one that shuts down the
    /// guest.
    ///
    /// # Errors
    /// The guest does not answer.
    pub fn run_detached(&self, command: &str) -> Result<()> {
        let result = self.process.agent.borrow_mut().start(command);
        self.answered(result, &format!("the start of `{command}`"), deadline(60)).map(drop)
    }

    /// Copies a file of the host into the running guest, mode 755.
    ///
    /// # Errors
    /// The file cannot be read on the host, or written in the guest.
    pub fn put(&self, from: &Path, to: &str) -> Result<()> {
        let content =
            std::fs::read(from).map_err(Error::io(|| format!("reading {}", from.display())))?;
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

    /// The id of this boot of the guest (random(4), `boot_id`).
    ///
    /// # Errors
    /// The guest does not answer.
    pub fn boot_id(&self) -> Result<String> {
        Ok(self.run("cat /proc/sys/kernel/random/boot_id")?.stdout.trim().to_owned())
    }

    /// Restarts the guest with `systemctl reboot`, and waits until the system that boots next is
    /// ready.
    ///
    /// # Errors
    /// It was not ready within four minutes.
    pub fn reboot(&self) -> Result<()> {
        self.restarted_by("systemctl reboot")
    }

    /// Runs a command that restarts the guest, and waits until the system that boots next is ready.
    ///
    /// # Errors
    /// As [`Machine::reboot`].
    pub fn restarted_by(&self, command: &str) -> Result<()> {
        let before = self.boot_id()?;
        self.run_detached(command)?;
        self.next_boot(&before, deadline(BOOT))
    }

    /// Waits until the guest is ready in another boot than `before`.
    ///
    /// # Errors
    /// It was not ready within `limit`, or the machine ended.
    pub fn next_boot(&self, before: &str, limit: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            let left = limit.saturating_sub(start.elapsed());
            let answer = self.process.agent.borrow_mut().sync(left.min(Duration::from_secs(10)));
            if answer.is_ok() && self.boot_id().is_ok_and(|now| now != before) {
                return self.ready_within(left);
            }
            if left.is_zero() || self.has_ended() || self.process.status.has_failed() {
                return self.answered(Err(AgentFailure::Silent), "the next boot", limit);
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Logs in as root on the first console, and returns the output between the password and the
    /// prompt.
    ///
    /// # Errors
    /// There is no login prompt, or root does not have the password of the fixtures.
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

    /// Shuts the guest down with `systemctl poweroff`, and waits until it is off.
    ///
    /// # Errors
    /// It was not off within two minutes.
    pub fn power_off(self) -> Result<Builder> {
        self.run_detached("systemctl poweroff")?;
        self.off(deadline(120))?;
        Ok(self.stop())
    }

    /// Makes a failure of the agent an error of this machine.
    fn answered<T>(
        &self,
        result: Result<T, AgentFailure>,
        what: &str,
        limit: Duration,
    ) -> Result<T> {
        match result {
            Ok(value) => Ok(value),
            Err(AgentFailure::Refused(error)) => Err(error),
            Err(AgentFailure::Silent) => Err(self.process.failure(what).unwrap_or_else(|| {
                let tail = self.process.consoles.first().map(Console::tail).unwrap_or_default();
                let tail = format!("{tail}\n{}", self.processors());
                let machine = self.builder.name.clone();
                Error::Deadline { machine, what: what.to_owned(), limit, tail }
            })),
        }
    }
}
