//! JSON over a Unix socket, one object per line: QEMU's machine protocol
//! (docs/interop/qmp-spec.rst), and the wire for the guest agent.

use crate::{Error, Result, deadline};
use serde_json::{Value, json};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// A socket for JSON, one object per line.
pub(crate) struct Wire {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Wire {
    pub(crate) fn new(stream: UnixStream) -> Wire {
        Wire { stream, buffer: Vec::new() }
    }

    pub(crate) fn send(&mut self, prefix: &[u8], message: &Value) -> std::io::Result<()> {
        let mut line = prefix.to_vec();
        line.extend_from_slice(message.to_string().as_bytes());
        line.push(b'\n');
        self.stream.set_write_timeout(Some(deadline(60)))?;
        self.stream.write_all(&line)
    }

    /// The next object; `None` if none arrives within `limit`. Bytes before a 0xff byte, which JSON
    /// never contains, are the rest of an interrupted message (qemu-ga's `guest-sync-delimited`).
    /// They are dropped, and so is a line that is not JSON.
    pub(crate) fn receive(&mut self, limit: Duration) -> std::io::Result<Option<Value>> {
        let start = Instant::now();
        loop {
            while let Some(end) = self.buffer.iter().position(|&b| b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                let object = line.rsplit(|&b| b == 0xff).next().unwrap_or_default();
                if let Ok(value) = serde_json::from_slice(object) {
                    return Ok(Some(value));
                }
            }
            let left = limit.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            self.stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            let mut chunk = [0; 65536];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// QEMU's monitor.
pub(crate) struct Qmp {
    wire: Wire,
}

impl Qmp {
    /// Connects to QEMU, which must answer within `limit`.
    pub(crate) fn new(stream: UnixStream, limit: Duration) -> Result<Qmp> {
        let mut qmp = Qmp { wire: Wire::new(stream) };
        qmp.execute_within("qmp_capabilities", json!({}), limit)?;
        Ok(qmp)
    }

    /// Runs a command and returns its result. Events before the result are skipped.
    pub(crate) fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        self.execute_within(command, arguments, deadline(60))
    }

    /// Whether QEMU has stopped the guest because its accelerator failed.
    pub(crate) fn has_internal_error(&mut self) -> Result<bool> {
        Ok(self.execute("query-status", json!({}))?["status"] == json!("internal-error"))
    }

    /// The name of the next event; `None` if none arrives within `limit`.
    pub(crate) fn event(&mut self, limit: Duration) -> std::io::Result<Option<String>> {
        let message = self.wire.receive(limit)?;
        Ok(message.and_then(|message| message["event"].as_str().map(str::to_owned)))
    }

    fn execute_within(
        &mut self,
        command: &str,
        arguments: Value,
        limit: Duration,
    ) -> Result<Value> {
        let failed = |reason: String| Error::Protocol { command: command.to_owned(), reason };
        log::debug!("QMP {command} {arguments}");
        self.wire
            .send(b"", &json!({ "execute": command, "arguments": arguments }))
            .map_err(|e| failed(format!("QEMU does not accept it: {e}")))?;
        let start = Instant::now();
        while let Some(answer) = self
            .wire
            .receive(limit.saturating_sub(start.elapsed()))
            .map_err(|e| failed(format!("QEMU does not answer: {e}")))?
        {
            if let Some(value) = answer.get("return") {
                return Ok(value.clone());
            }
            if let Some(error) = answer.get("error") {
                return Err(failed(error["desc"].as_str().unwrap_or("no reason given").to_owned()));
            }
        }
        Err(failed(format!("no answer within {} s", limit.as_secs())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_in_any_chunks() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut wire = Wire::new(ours);
        theirs.write_all(b"{\"half\": \xff{\"return\": 1}\nnot json\n{\"ret").unwrap();
        assert_eq!(wire.receive(Duration::from_secs(5)).unwrap(), Some(json!({ "return": 1 })));
        assert_eq!(wire.receive(Duration::from_millis(20)).unwrap(), None);
        theirs.write_all(b"urn\": 2}\n").unwrap();
        assert_eq!(wire.receive(Duration::from_secs(5)).unwrap(), Some(json!({ "return": 2 })));
    }

    #[test]
    fn an_event_is_not_an_answer_and_an_error_says_why() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs
            .write_all(
                b"{\"QMP\": {}}\n{\"return\": {}}\n{\"event\": \"RESET\"}\n{\"error\": \
                {\"desc\": \"no such node\"}}\n",
            )
            .unwrap();
        let mut qmp = Qmp::new(ours, Duration::from_secs(5)).unwrap();
        let error = qmp.execute("blockdev-del", json!({})).unwrap_err().to_string();
        assert_eq!(error, "blockdev-del was refused: no such node");
    }

    /// What QEMU 7.2 printed when KVM could not run OVMF.
    #[test]
    fn a_guest_that_was_stopped_by_an_internal_error_is_told_from_one_that_was_paused() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs
            .write_all(
                br#"{"QMP": {}}
{"return": {}}
{"timestamp": {"seconds": 1795993380, "microseconds": 866389}, "event": "STOP"}
{"return": {"status": "internal-error", "singlestep": false, "running": false}}
{"return": {"status": "paused", "singlestep": false, "running": false}}
"#,
            )
            .unwrap();
        let mut qmp = Qmp::new(ours, Duration::from_secs(5)).unwrap();
        assert_eq!(qmp.event(Duration::from_secs(5)).unwrap().as_deref(), Some("STOP"));
        assert!(qmp.has_internal_error().unwrap());
        assert!(!qmp.has_internal_error().unwrap());
        drop(theirs);
        assert!(qmp.event(Duration::from_secs(5)).is_err());
    }
}
