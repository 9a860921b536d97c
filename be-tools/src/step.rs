//! The steps of an operation. The list that a plan prints is the list that [`run_all`] runs, so that
//! plan and deed cannot differ.

use std::fmt::Display;

use crate::error::{Error, Result};
use crate::plan::{Report, go_on};

/// One step of an operation: `Display` is its line in the plan and in the log, in the imperative
/// (`make ext4 on /dev/vdb1`).
///
/// `S` is what the steps of one operation hand on to each other: mounts, the descriptor, holds.
/// A step that has nothing to do on this run does nothing; whether it is in the list was decided
/// when the plan was made.
pub trait Step<S>: Display {
    /// Does it. It may tell `report` how far it is; that it begins has been told.
    ///
    /// # Errors
    /// What failed; the steps after it are not run.
    fn run(&self, state: &mut S, report: &mut dyn Report) -> Result<()>;

    /// Whether it is run although a step before it failed or the operation was interrupted: it
    /// wakes what an earlier one quieted. Its own failure is then a warning.
    fn is_due_after_failure(&self, _: &S) -> bool {
        false
    }
}

/// The lines of a plan.
pub fn lines<S>(steps: &[impl Step<S>]) -> Vec<String> {
    steps.iter().map(ToString::to_string).collect()
}

/// Runs the steps in their order. Before each one, an interruption ends the operation. Of the steps
/// after a failure only those are run that are due all the same.
///
/// The environment variable `LIFEBOAT_FAIL` names a step at which a test ends it instead:
/// `before:3` fails before the third step, `before:sync` before the first one whose line begins
/// with these words, and `kill-before:…` ends the process as SIGKILL and a power cut do. Only who
/// could send those signals can set it.
///
/// # Errors
/// [`Error::Interrupted`], and those of the steps.
pub fn run_all<S>(steps: &[impl Step<S>], state: &mut S, report: &mut dyn Report) -> Result<()> {
    let fail_point = FailPoint::of_environment()?;
    let done = run_until(steps, state, report, fail_point.as_ref());
    report.ended();
    done
}

fn run_until<S>(
    steps: &[impl Step<S>],
    state: &mut S,
    report: &mut dyn Report,
    fail_point: Option<&FailPoint>,
) -> Result<()> {
    let mut failure = None;
    for (index, step) in steps.iter().enumerate() {
        let (number, line) = (index + 1, step.to_string());
        if failure.is_some() {
            if step.is_due_after_failure(state) {
                report.step(number, &line);
                if let Err(why) = step.run(state, report) {
                    report.warn(&why.to_string());
                }
            }
            continue;
        }
        let reached =
            go_on().and_then(|()| fail_point.map_or(Ok(()), |point| point.reach(number, &line)));
        failure = reached
            .and_then(|()| {
                report.step(number, &line);
                step.run(state, report)
            })
            .err();
    }
    failure.map_or_else(go_on, Err)
}

/// Where a test ends an operation.
#[derive(Debug, PartialEq, Eq)]
struct FailPoint {
    kill: bool,
    step: String,
}

impl FailPoint {
    const VARIABLE: &str = "LIFEBOAT_FAIL";

    fn of_environment() -> Result<Option<Self>> {
        match std::env::var(Self::VARIABLE) {
            Ok(text) => Self::parse(&text).map(Some),
            Err(_) => Ok(None),
        }
    }

    fn parse(text: &str) -> Result<Self> {
        let (kill, rest) = match text.strip_prefix("kill-") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        match rest.strip_prefix("before:").filter(|step| !step.is_empty()) {
            Some(step) => Ok(FailPoint { kill, step: step.to_owned() }),
            None => Err(Error::Usage(format!(
                "{}={text:?} names no step: use before:NUMBER or before:WORDS",
                Self::VARIABLE
            ))),
        }
    }

    fn is_before(&self, number: usize, line: &str) -> bool {
        match self.step.parse::<usize>() {
            Ok(wanted) => wanted == number,
            Err(_) => line.starts_with(&self.step),
        }
    }

    fn reach(&self, number: usize, line: &str) -> Result<()> {
        if !self.is_before(number, line) {
            return Ok(());
        }
        if self.kill {
            let _ = rustix::process::kill_process(
                rustix::process::getpid(),
                rustix::process::Signal::KILL,
            );
        }
        Err(Error::Failed(format!("{} ends it before step {number}, '{line}'", Self::VARIABLE)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Plan, Progress};

    /// What a step says, and does: `fail` fails, and `wake` is due after a failure too.
    struct Say(&'static str);

    impl Display for Say {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Step<Vec<&'static str>> for Say {
        fn run(&self, said: &mut Vec<&'static str>, _: &mut dyn Report) -> Result<()> {
            said.push(self.0);
            if self.0 == "fail" { Err(Error::Failed("it failed".into())) } else { Ok(()) }
        }

        fn is_due_after_failure(&self, said: &Vec<&'static str>) -> bool {
            self.0 == "wake" && said.contains(&"quiet")
        }
    }

    #[derive(Default)]
    struct Heard(Vec<String>);

    impl Report for Heard {
        fn confirm(&mut self, _: &Plan) -> Result<bool> {
            Ok(true)
        }
        fn step(&mut self, number: usize, line: &str) {
            self.0.push(format!("{number} {line}"));
        }
        fn progress(&mut self, _: &Progress) {}
        fn warn(&mut self, _: &str) {}
    }

    #[test]
    fn what_the_plan_prints_is_what_is_run_up_to_the_first_failure() {
        let steps = [Say("make"), Say("copy"), Say("fail"), Say("never")];
        assert_eq!(lines(&steps), ["make", "copy", "fail", "never"]);
        let (mut said, mut heard) = (Vec::new(), Heard::default());
        assert!(run_all(&steps, &mut said, &mut heard).is_err());
        assert_eq!(said, ["make", "copy", "fail"]);
        assert_eq!(heard.0, ["1 make", "2 copy", "3 fail"]);
    }

    #[test]
    fn what_was_quieted_is_woken_after_a_failure() {
        let point = FailPoint::parse("before:2").unwrap();
        for (steps, expected) in [
            (["quiet", "fail", "never", "wake"], vec!["1 quiet", "4 wake"]),
            (["first", "quiet", "fail", "wake"], vec!["1 first"]),
        ] {
            let (mut said, mut heard) = (Vec::new(), Heard::default());
            let done = run_until(&steps.map(Say), &mut said, &mut heard, Some(&point));
            assert!(done.unwrap_err().to_string().contains("before step 2"));
            assert_eq!(heard.0, expected);
        }
    }

    #[test]
    fn a_fail_point_names_a_step_by_number_or_first_words() {
        let point = |text| FailPoint::parse(text).unwrap();
        assert!(point("before:3").is_before(3, "copy the files"));
        assert!(!point("before:3").is_before(4, "3 is in the text"));
        assert!(point("before:copy the").is_before(7, "copy the files of /"));
        assert!(!point("before:files").is_before(7, "copy the files of /"));
        assert!(point("kill-before:1").kill && !point("before:1").kill);
        for wrong in ["", "before:", "after:3", "kill-", "3"] {
            assert!(FailPoint::parse(wrong).is_err(), "{wrong}");
        }
        assert!(point("before:2").reach(1, "make").is_ok());
        let why = point("before:2").reach(2, "sync").unwrap_err().to_string();
        assert!(why.contains("before step 2, 'sync'"), "{why}");
    }
}
