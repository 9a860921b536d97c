//! What a timer runs: the operation, its record, and a mail if it failed.

use std::time::{SystemTime, UNIX_EPOCH};

use super::entry::Schedule;
use super::record::{self, Record};
use crate::environment::{Descriptor, Id};
use crate::error::{Error, Result};
use crate::escape::say;
use crate::host::Host;
use crate::root_dir::RootDir;
use crate::session::lock::{PATIENCE, holder_of_operation};
use crate::tool::Tool;

/// How much of what the operation printed is in a mail, in bytes.
const MAX_MAIL: usize = 64 << 10;

/// Runs what is scheduled for the BE with this id. Returns the exit status of the operation. A BE
/// that runs is left alone.
///
/// # Errors
/// Nothing is scheduled for it, or how it went cannot be recorded.
pub fn run(host: &Host, id: &str) -> Result<u8> {
    let root = RootDir::open(&host.root)?;
    let nothing = || Error::Usage(format!("nothing is scheduled for '{id}': see `be schedule`"));
    let id: Id = id.parse().map_err(|_| nothing())?;
    let schedule = match Schedule::known(&root, id) {
        Ok(found) => found.ok_or_else(nothing)?,
        Err(why) => {
            record(&root, id, why.exit_status())?;
            return Err(why);
        }
    };
    let (status, printed) = match operate(host, &schedule) {
        Ok(None) => {
            say(&format!("'{}' is running, and is left alone", schedule.name));
            return Ok(0);
        }
        Ok(Some((status, printed))) => (status, printed),
        Err(why) => (why.exit_status(), why.to_string()),
    };
    printed.lines().for_each(say);
    // The mail comes first: the disk may be full.
    let told = tell(host, &schedule, status, &printed);
    record(&root, id, status)?;
    told.map(|()| status)
}

/// The exit status of the operation and what it printed; `None` if the BE runs.
fn operate(host: &Host, schedule: &Schedule) -> Result<Option<(u8, String)>> {
    // No disk is read: another operation may be working.
    let running = Descriptor::load(&RootDir::open(&host.root)?)?;
    if running.is_some_and(|descriptor| descriptor.id == schedule.id) {
        return Ok(None);
    }
    // The operation waits for another one by itself. What it says is seen only when it has ended.
    if let Some(other) = holder_of_operation(host)? {
        let hours = PATIENCE.as_secs() / 3600;
        say(&format!("process {} is working: it is waited for, at most {hours} hours", other.pid));
    }
    // `systemctl stop` tells only this process.
    let operation = Tool::new(host.program()).args(schedule.arguments()).interruptible();
    let output = operation.output()?;
    let printed = [output.stdout, output.stderr].concat();
    let status = output.status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(Some((status, String::from_utf8_lossy(&printed).into_owned())))
}

fn tell(host: &Host, schedule: &Schedule, status: u8, printed: &str) -> Result<()> {
    let Some(address) = schedule.mail.as_ref().filter(|_| status != 0) else { return Ok(()) };
    let host_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let text = mail(schedule, address, &host_name, status, printed);
    Tool::new(host.root.join("usr/sbin/sendmail")).args(["-t", "-oi"]).input(text).run()?;
    Ok(())
}

fn record(root: &RootDir, id: Id, status: u8) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let is_done = matches!(status, 0 | 4);
    let before = Record::load(root, id)?;
    let record = Record {
        last_run: Some(now),
        last_success: if is_done { Some(now) } else { before.last_success },
        last_status: Some(status),
    };
    record.store(root, id)?;
    record::write_metrics(root)
}

/// A mail (RFC 5322) with the end of what was printed.
fn mail(schedule: &Schedule, address: &str, host: &str, status: u8, printed: &str) -> String {
    let Schedule { name, action, calendar, .. } = schedule;
    let became = if status == 4 { "was done, but not all of it" } else { "failed" };
    let from = printed.len().saturating_sub(MAX_MAIL);
    let text = String::from_utf8_lossy(&printed.as_bytes()[from..]);
    format!(
        "To: {address}\nSubject: [{host}] be {action} {name} {became} (status {status})\n\
        MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\
        Content-Transfer-Encoding: 8bit\nAuto-Submitted: auto-generated\n\n\
        be {action} {name}, scheduled at '{calendar}' on {host}, {became} with exit status \
        {status}.\nWhat it printed:\n\n{text}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::schedule::entry::Action;

    #[test]
    fn a_mail_says_what_failed_where_and_why() {
        let schedule = Schedule {
            id: Id::random(),
            name: "nightly".parse().unwrap(),
            calendar: "02:30".into(),
            action: Action::Refresh,
            force: false,
            mail: Some("root".into()),
            root: None,
            others: None,
            source: None,
        };
        let printed = "x".repeat(MAX_MAIL) + "be: no room";
        let text = mail(&schedule, "root", "web1", 1, &printed);
        let subject = "To: root\nSubject: [web1] be refresh nightly failed (status 1)\n";
        assert!(text.starts_with(subject), "{text}");
        assert!(text.ends_with("be: no room\n") && text.len() < MAX_MAIL + 1000);
        let text = mail(&schedule, "root", "web1", 4, "");
        assert!(text.contains("was done, but not all of it"), "{text}");
    }
}
