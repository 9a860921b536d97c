//! Commands in a guest, through Debian's own `qemu-guest-agent` (QEMU, docs/interop/qemu-ga-ref).
//! It is started at every boot of every copy of the system, and needs neither a console nor a
//! network.

use crate::qmp::Wire;
use crate::status::Status;
use crate::{Error, Result, base64, deadline};
use serde_json::{Value, json};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// The name of the virtio port that Debian's udev rule starts the agent for.
pub(crate) const PORT: &str = "org.qemu.guest_agent.0";
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The result of a command in a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its exit status; 128 + n if signal n ended it.
    pub status: i32,
    /// Its standard output, with invalid UTF-8 replaced.
    pub stdout: String,
    /// Its standard error, with invalid UTF-8 replaced.
    pub stderr: String,
}

/// A failure of the agent.
pub(crate) enum AgentFailure {
    /// No answer in time: the guest is not up, hangs, or was shut down.
    Silent,
    /// The agent refused the command.
    Refused(Error),
}

impl From<Error> for AgentFailure {
    fn from(error: Error) -> AgentFailure {
        AgentFailure::Refused(error)
    }
}

/// The connection to the agent, which continues after the guest has rebooted.
pub(crate) struct Agent {
    status: Arc<Status>,
    wire: Wire,
    /// Receives the stream of another start of the machine.
    next: Receiver<UnixStream>,
    /// The number of the machine's start that the wire is from.
    start: u32,
    number: u64,
}

impl Agent {
    pub(crate) fn new(
        status: &Arc<Status>,
        stream: UnixStream,
        next: Receiver<UnixStream>,
    ) -> Agent {
        Agent { status: Arc::clone(status), wire: Wire::new(stream), next, start: 0, number: 0 }
    }

    /// Waits until the agent answers, even if the machine is started again. Older answers on the
    /// wire are dropped.
    pub(crate) fn sync(&mut self, limit: Duration) -> Result<(), AgentFailure> {
        let start = Instant::now();
        while start.elapsed() < limit {
            match self.answers(limit) {
                Ok(true) if self.status.mark_start_used(self.start) => return Ok(()),
                Ok(_) => {}
                Err(_) => {
                    let left = limit.saturating_sub(start.elapsed());
                    let stream = self.next.recv_timeout(left).map_err(|_| AgentFailure::Silent)?;
                    self.wire = Wire::new(stream);
                    self.start += 1;
                }
            }
        }
        Err(AgentFailure::Silent)
    }

    /// Whether the agent answers within three seconds.
    fn answers(&mut self, limit: Duration) -> std::io::Result<bool> {
        self.number += 1;
        let number = self.number;
        let message = json!({ "execute": "guest-sync-delimited", "arguments": { "id": number } });
        self.wire.send(b"\xff", &message)?;
        let patience = Duration::from_secs(3);
        while let Some(answer) = self.wire.receive(patience.min(limit))? {
            // Answers arrive in order, so no older one follows this one.
            if answer.get("return").and_then(Value::as_u64) == Some(number) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn call(
        &mut self,
        command: &str,
        arguments: Value,
        limit: Duration,
    ) -> Result<Value, AgentFailure> {
        self.wire
            .send(b"", &json!({ "execute": command, "arguments": arguments }))
            .map_err(|_| AgentFailure::Silent)?;
        let answer = self
            .wire
            .receive(limit)
            .map_err(|_| AgentFailure::Silent)?
            .ok_or(AgentFailure::Silent)?;
        match answer.get("return") {
            Some(value) => Ok(value.clone()),
            None => {
                let reason =
                    answer["error"]["desc"].as_str().unwrap_or("no reason given").to_owned();
                Err(AgentFailure::Refused(Error::Protocol { command: command.to_owned(), reason }))
            }
        }
    }

    /// Starts a shell command as root and returns its process id.
    pub(crate) fn start(&mut self, command: &str) -> Result<u64, AgentFailure> {
        self.sync(deadline(60))?;
        let arguments = json!({
            "path": "/bin/sh", "arg": ["-c", command], "capture-output": true,
            "env": [PATH, "HOME=/root", "LANG=C.UTF-8", "TERM=dumb"],
        });
        let answer = self.call("guest-exec", arguments, deadline(30))?;
        answer["pid"].as_u64().ok_or_else(|| unexpected("guest-exec", &answer))
    }

    /// Runs a shell command as root and waits for its end.
    pub(crate) fn run(&mut self, command: &str, limit: Duration) -> Result<Output, AgentFailure> {
        let start = Instant::now();
        let pid = self.start(command)?;
        let mut pause = Duration::from_millis(20);
        loop {
            let answer = self.call("guest-exec-status", json!({ "pid": pid }), deadline(60))?;
            if answer["exited"] == json!(true) {
                return output(&answer).ok_or_else(|| unexpected("guest-exec-status", &answer));
            }
            if start.elapsed() > limit {
                return Err(AgentFailure::Silent);
            }
            std::thread::sleep(pause);
            pause = (pause * 3 / 2).min(Duration::from_millis(500));
        }
    }

    /// Writes a file in the guest.
    pub(crate) fn write(&mut self, path: &str, content: &[u8]) -> Result<(), AgentFailure> {
        self.sync(deadline(60))?;
        let handle =
            self.call("guest-file-open", json!({ "path": path, "mode": "w" }), deadline(30))?;
        for chunk in content.chunks(512 << 10) {
            let arguments = json!({ "handle": handle, "buf-b64": base64::encode(chunk) });
            let written = self.call("guest-file-write", arguments, deadline(60))?;
            if written["count"].as_u64() != Some(chunk.len() as u64) {
                let reason = format!("only {} bytes of {path} were written", written["count"]);
                return Err(AgentFailure::Refused(Error::Protocol {
                    command: "guest-file-write".to_owned(),
                    reason,
                }));
            }
        }
        self.call("guest-file-close", json!({ "handle": handle }), deadline(60)).map(drop)
    }

    /// Reads a file of the guest.
    pub(crate) fn read(&mut self, path: &str) -> Result<Vec<u8>, AgentFailure> {
        self.sync(deadline(60))?;
        let handle =
            self.call("guest-file-open", json!({ "path": path, "mode": "r" }), deadline(30))?;
        let mut content = Vec::new();
        loop {
            let answer = self.call(
                "guest-file-read",
                json!({ "handle": handle, "count": 512 << 10 }),
                deadline(60),
            )?;
            let chunk = answer["buf-b64"].as_str().and_then(base64::decode);
            content.extend(chunk.ok_or_else(|| unexpected("guest-file-read", &answer))?);
            if answer["eof"] == json!(true) {
                break;
            }
        }
        self.call("guest-file-close", json!({ "handle": handle }), deadline(60))?;
        Ok(content)
    }
}

fn output(answer: &Value) -> Option<Output> {
    let text = |name: &str| match answer.get(name) {
        Some(data) => {
            base64::decode(data.as_str()?).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        }
        None => Some(String::new()),
    };
    let number =
        |name: &str| answer.get(name).and_then(Value::as_i64).and_then(|n| i32::try_from(n).ok());
    let status = number("exitcode").or_else(|| number("signal").map(|n| 128 + n))?;
    Some(Output { status, stdout: text("out-data")?, stderr: text("err-data")? })
}

fn unexpected(command: &str, answer: &Value) -> AgentFailure {
    AgentFailure::Refused(Error::Protocol {
        command: command.to_owned(),
        reason: format!("unexpected answer {answer}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Accelerator;
    use std::io::{BufRead, BufReader, Write};
    use std::sync::mpsc::channel;

    /// An agent that answers each line with `answer`.
    fn agent(answer: impl FnMut(&Value) -> String + Send + 'static) -> Agent {
        let status = Arc::new(Status::new("test", Accelerator::Kvm));
        Agent::new(&status, wire(answer), channel().1)
    }

    fn wire(mut answer: impl FnMut(&Value) -> String + Send + 'static) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        std::thread::spawn(move || {
            let mut writer = theirs.try_clone().unwrap();
            for line in BufReader::new(theirs).split(b'\n') {
                let line = line.unwrap();
                let object: Value =
                    serde_json::from_slice(line.strip_prefix(b"\xff").unwrap_or(&line)).unwrap();
                writer.write_all(answer(&object).as_bytes()).unwrap();
            }
        });
        ours
    }

    fn unwrap<T>(result: Result<T, AgentFailure>) -> T {
        match result {
            Ok(value) => value,
            Err(AgentFailure::Silent) => panic!("silent"),
            Err(AgentFailure::Refused(error)) => panic!("{error}"),
        }
    }

    #[test]
    fn a_command_returns_its_status_and_output() {
        let mut polls = 0;
        let mut agent = agent(move |message| match message["execute"].as_str().unwrap() {
            "guest-sync-delimited" => format!("{{\"return\": {}}}\n", message["arguments"]["id"]),
            "guest-exec" => "{\"return\": {\"pid\": 7}}\n".to_owned(),
            _ if polls < 2 => {
                polls += 1;
                "{\"return\": {\"exited\": false}}\n".to_owned()
            }
            _ => "{\"return\": {\"exited\": true, \"exitcode\": 3, \"out-data\": \"aGkK\"}}\n"
                .to_owned(),
        });
        let output = unwrap(agent.run("echo hi; exit 3", Duration::from_secs(10)));
        assert_eq!(output, Output { status: 3, stdout: "hi\n".to_owned(), stderr: String::new() });
    }

    #[test]
    fn answers_to_older_commands_are_skipped() {
        let mut agent = agent(|message| {
            let id = &message["arguments"]["id"];
            format!(
                "{{\"return\": 999}}\n{{\"error\": {{\"desc\": \
                \"old\"}}}}\n\u{1}garbage\n{{\"return\": {id}}}\n"
            )
        });
        unwrap(agent.sync(Duration::from_secs(10)));
    }

    #[test]
    fn a_guest_that_is_not_up_is_silent() {
        let mut agent = agent(|_| String::new());
        assert!(matches!(agent.sync(Duration::from_millis(50)), Err(AgentFailure::Silent)));
    }

    #[test]
    fn the_agent_of_a_machine_that_is_started_again_answers() {
        let status = Arc::new(Status::new("test", Accelerator::Kvm));
        let (starts, next) = channel();
        let (first, _) = UnixStream::pair().unwrap();
        assert!(status.start_again());
        let answer = |message: &Value| format!("{{\"return\": {}}}\n", message["arguments"]["id"]);
        starts.send(wire(answer)).unwrap();
        unwrap(Agent::new(&status, first, next).sync(Duration::from_secs(10)));
    }

    #[test]
    fn a_signal_is_a_status() {
        assert_eq!(output(&json!({ "exited": true, "signal": 9 })).unwrap().status, 137);
    }
}
