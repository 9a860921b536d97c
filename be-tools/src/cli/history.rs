//! `be history`

use std::time::Duration;

use clap::Args;
use indicatif::HumanDuration;

use super::context::Context;
use super::headings::OUTPUT;
use super::output::{print_json, print_line};
use crate::environment::history::Done;
use crate::error::Result;
use crate::operations::history;

/// Show what was done to a boot environment, when and by whom
#[derive(Debug, Args)]
#[command(
    after_help = "Each operation that changed it: when, how it ended, who gave the command on which \
        machine, and where its log is, on the system that ran there then. It is kept in the boot \
        environment itself, and begins anew with each copy."
)]
pub struct History {
    /// The boot environment; the running one if none is given
    be: Option<String>,
    /// Print JSON
    #[arg(long, help_heading = OUTPUT, display_order = 100)]
    json: bool,
}

impl History {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        context.need_root("history")?;
        let all = history::history(&context.host, self.be.as_deref())?;
        if self.json {
            print_json(&all)?;
            return Ok(0);
        }
        if all.is_empty() {
            print_line("Nothing is known of what was done to it.")?;
        }
        all.iter().flat_map(lines).try_for_each(|line| print_line(&line))?;
        Ok(0)
    }
}

fn lines(done: &Done) -> Vec<String> {
    let Done { operation, began, ended, deed } = done;
    let when = began.or(*ended).map(|time| time.to_string()).unwrap_or_default();
    let how = match (began, ended) {
        (Some(began), Some(ended)) => {
            let took = ended.since(*began).max(Duration::from_secs(1));
            format!("complete after {}", HumanDuration(took))
        }
        (None, Some(_)) => "complete".into(),
        _ => "did not end".into(),
    };
    let what = operation.to_string();
    let mut lines = vec![format!("{when}  {what:<8}  {how}, by {} on {}", deed.by, deed.host)];
    lines.extend((!deed.title.is_empty()).then(|| format!("    {}", deed.title)));
    lines.extend(deed.log.iter().map(|log| format!("    log: {}", log.display())));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Operation;
    use crate::environment::history::Deed;
    use crate::timestamp::Timestamp;

    #[test]
    fn a_line_says_when_how_and_by_whom() {
        let done = Done {
            operation: Operation::Upgrade,
            began: Some(Timestamp::new(1_000_000_000, 0)),
            ended: Some(Timestamp::new(1_000_000_120, 0)),
            deed: Deed {
                title: "Change the packages of boot environment 'second'".into(),
                by: "alice (sudo)".into(),
                host: "web1".into(),
                log: Some("/var/log/lifeboat/x-upgrade-7.log".into()),
            },
        };
        assert_eq!(
            lines(&done),
            [
                "2001-09-09T01:46:40Z  upgrade   complete after 2 minutes, by alice (sudo) on web1",
                "    Change the packages of boot environment 'second'",
                "    log: /var/log/lifeboat/x-upgrade-7.log"
            ]
        );
        let interrupted = Done { ended: None, ..done };
        assert!(lines(&interrupted)[0].contains("did not end"));
    }
}
