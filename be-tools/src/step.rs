//! The steps of an operation. [`run_all`] runs the list that the plan prints, so that the two
//! cannot differ.

use std::fmt::Display;

use crate::error::{Error, Result};
use crate::plan::{Report, go_on};

/// One step of an operation: `Display` is its line in the plan and in the log, in the imperative
/// (`make ext4 on /dev/vdb1`).
///
/// `S` is what the steps of one operation share: mounts, the descriptor, holds. Which steps are in
/// the list is decided when the plan is made. A step that then has nothing to do does nothing.
pub trait Step<S>: Display {
    /// Runs the step. It may report its progress to `report`, which has been told that it begins.
    ///
    /// # Errors
    /// What failed. The steps after it are not run.
    fn run(&self, state: &mut S, report: &mut dyn Report) -> Result<()>;

    /// Whether it is run even after a step before it failed or the operation was interrupted,
    /// because it resumes what an earlier step paused. If it fails itself, that is a warning.
    fn is_due_after_failure(&self, _: &S) -> bool {
        false
    }

    /// Whether it completes the step before it, so that an interruption that arrived during that
    /// step takes effect only afterwards: a complete BE gets its boot entry back.
    fn completes_previous(&self) -> bool {
        false
    }
}

/// The lines of a plan.
pub fn lines<S>(steps: &[impl Step<S>]) -> Vec<String> {
    steps.iter().map(ToString::to_string).collect()
}

/// Runs the steps in their order. An interruption ends the operation before the next step; one that
/// arrives during the last step changes nothing, since everything has been done. After a failure,
/// only the steps that are due after a failure are run.
///
/// The environment variable `LIFEBOAT_FAIL` names a step at which a test ends it instead:
/// `before:3` fails before the third step, `before:sync` before the first one whose line begins
/// with these words, and `kill-before:…` ends the process as SIGKILL or a power cut would. Only a
/// user who could send that signal can set the variable.
///
/// # Errors
/// [`Error::Interrupted`], and those of the steps.
pub fn run_all<S>(steps: &[impl Step<S>], state: &mut S, report: &mut dyn Report) -> Result<()> {
    let fail_point = FailPoint::of_environment()?;
    let done = run_until(steps, state, report, fail_point.as_ref(), &go_on);
    report.ended();
    done
}

fn run_until<S>(
    steps: &[impl Step<S>],
    state: &mut S,
    report: &mut dyn Report,
    fail_point: Option<&FailPoint>,
    go_on: &dyn Fn() -> Result<()>,
) -> Result<()> {
    let mut failure: Option<Error> = None;
    for (index, step) in steps.iter().enumerate() {
        let (number, line) = (index + 1, step.to_string());
        if failure.is_none() {
            let may_go_on = if step.completes_previous() { Ok(()) } else { go_on() };
            let reach = || fail_point.map_or(Ok(()), |point| point.reach(number, &line));
            failure = may_go_on.and_then(|()| reach()).err();
        }
        if failure.is_some() {
            if step.is_due_after_failure(state) {
                report.step(number, &line);
                if let Err(why) = step.run(state, report) {
                    report.warn(&why.to_string());
                }
            }
            continue;
        }
        report.step(number, &line);
        failure = step.run(state, report).err().map(|why| match interruption_or(why, go_on) {
            // The plan was confirmed, and this step or one before it may have written something.
            Error::Refused(refusal) => Error::Halted(refusal),
            why => why,
        });
    }
    failure.map_or(Ok(()), Err)
}

/// The failure of a step. A step whose program was ended by the Ctrl-C that this operation noticed
/// too was interrupted: what the program failed with would only alarm, and is in the log.
fn interruption_or(why: Error, go_on: &dyn Fn() -> Result<()>) -> Error {
    match go_on() {
        Err(interruption) if !matches!(why, Error::Interrupted) => {
            log::info!("interrupted: {why}");
            interruption
        }
        _ => why,
    }
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
                "{}={text:?} does not name a step: use before:NUMBER or before:WORDS",
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
        Err(Error::FailPoint { number, line: line.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Plan, Progress};

    /// A step with this line. `fail` fails, and `wake` is due after a failure if `quiet` was run.
    struct Line(&'static str);

    impl Display for Line {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Step<Vec<&'static str>> for Line {
        fn run(&self, log: &mut Vec<&'static str>, _: &mut dyn Report) -> Result<()> {
            log.push(self.0);
            if self.0 == "fail" { Err(Error::Failed("it failed".into())) } else { Ok(()) }
        }

        fn is_due_after_failure(&self, log: &Vec<&'static str>) -> bool {
            self.0 == "wake" && log.contains(&"quiet")
        }
    }

    /// `interrupt` is interrupted while it runs, `killed` fails by that, and `complete` completes the
    /// step before it.
    struct Interrupting<'a>(&'static str, &'a std::cell::Cell<bool>);

    impl Display for Interrupting<'_> {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Step<Vec<&'static str>> for Interrupting<'_> {
        fn run(&self, _: &mut Vec<&'static str>, _: &mut dyn Report) -> Result<()> {
            self.1.set(self.1.get() || ["interrupt", "killed"].contains(&self.0));
            if self.0 == "killed" { Err(Error::Failed("mke2fs failed".into())) } else { Ok(()) }
        }

        fn completes_previous(&self) -> bool {
            self.0 == "complete"
        }
    }

    #[derive(Default)]
    struct StepRecorder(Vec<String>);

    impl Report for StepRecorder {
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
    fn the_steps_of_the_plan_are_run_up_to_the_first_failure() {
        let steps = [Line("make"), Line("copy"), Line("fail"), Line("never")];
        assert_eq!(lines(&steps), ["make", "copy", "fail", "never"]);
        let (mut log, mut recorder) = (Vec::new(), StepRecorder::default());
        assert!(run_all(&steps, &mut log, &mut recorder).is_err());
        assert_eq!(log, ["make", "copy", "fail"]);
        assert_eq!(recorder.0, ["1 make", "2 copy", "3 fail"]);
    }

    #[test]
    fn a_step_that_is_due_after_a_failure_is_run_once_its_counterpart_was() {
        let point = FailPoint::parse("before:2").unwrap();
        for (steps, expected) in [
            (["quiet", "fail", "never", "wake"], vec!["1 quiet", "4 wake"]),
            (["first", "quiet", "fail", "wake"], vec!["1 first"]),
        ] {
            let (mut log, mut recorder) = (Vec::new(), StepRecorder::default());
            let steps = steps.map(Line);
            let done = run_until(&steps, &mut log, &mut recorder, Some(&point), &|| Ok(()));
            assert!(matches!(done, Err(Error::FailPoint { number: 2, .. })));
            assert_eq!(recorder.0, expected);
        }
    }

    #[test]
    fn a_step_that_is_due_after_a_failure_is_run_if_the_failure_is_noticed_at_it() {
        let point = FailPoint::parse("before:4").unwrap();
        let steps = ["quiet", "first", "second", "wake"].map(Line);
        let (mut log, mut recorder) = (Vec::new(), StepRecorder::default());
        let done = run_until(&steps, &mut log, &mut recorder, Some(&point), &|| Ok(()));
        assert!(matches!(done, Err(Error::FailPoint { number: 4, .. })));
        assert_eq!(recorder.0, ["1 quiet", "2 first", "3 second", "4 wake"]);
    }

    #[test]
    fn an_interruption_does_not_part_what_belongs_together_nor_undo_what_is_done() {
        for (steps, expected, is_interrupted) in [
            (["interrupt", "next", "last"], vec!["1 interrupt"], true),
            (["interrupt", "complete", "last"], vec!["1 interrupt", "2 complete"], true),
            (["first", "second", "interrupt"], vec!["1 first", "2 second", "3 interrupt"], false),
            (["first", "killed", "last"], vec!["1 first", "2 killed"], true),
        ] {
            let (mut log, mut recorder) = (Vec::new(), StepRecorder::default());
            let interrupted = std::cell::Cell::new(false);
            let go_on = || if interrupted.get() { Err(Error::Interrupted) } else { Ok(()) };
            let steps = steps.map(|line| Interrupting(line, &interrupted));
            let done = run_until(&steps, &mut log, &mut recorder, None, &go_on);
            assert_eq!(matches!(done, Err(Error::Interrupted)), is_interrupted);
            assert_eq!(recorder.0, expected);
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
        let reached = point("before:2").reach(2, "sync");
        assert!(matches!(reached, Err(Error::FailPoint { number: 2, line }) if line == "sync"));
    }
}
