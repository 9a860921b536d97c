//! Child processes that read foreign devices and file systems: two at a time, each killed when it
//! is late (docs/design.md, invariant 7). A question and its answer are one line of JSON each.

use std::collections::VecDeque;
use std::io::{BufRead, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Resource, Rlimit, setrlimit};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::host::Host;

/// How many children work at a time. Mounting is mostly waiting, and a third child gains nothing on
/// the small machines that the rescue image runs on.
const WORKERS: usize = 2;

/// The most bytes of an answer. No honest disk needs more.
const LONGEST_ANSWER: usize = 32 << 20;

/// The most memory that a child may have, in bytes. A foreign disk decides how much it needs: a
/// directory with millions of names, a file of any size.
const MOST_MEMORY: u64 = 512 << 20;

/// How long each further question of a group may take after one of them was late.
const DEADLINE_AFTER_A_LATE_ANSWER: Duration = Duration::from_secs(1);

const TOO_LONG: &str = "the answer is longer than any honest disk can cause";

/// How the reason begins when a question was not answered in time.
pub(crate) const LATE: &str = "no answer within";

/// What a question asked for, or a sentence that says why it was not found out.
pub(crate) type Answer<T> = Result<T, String>;

/// A question that a worker can answer.
pub(crate) trait Question: Serialize + DeserializeOwned + Sync {
    /// The name of this kind of question in the line to a child.
    const KIND: &'static str;

    /// What a successful answer holds.
    type Finding: Serialize + DeserializeOwned + Send;

    /// Answers the question. This may block for ever.
    fn answer(&self) -> Answer<Self::Finding>;
}

/// A kind of question that a child can answer.
pub(crate) struct QuestionKind {
    name: &'static str,
    /// Answers a question in JSON with an answer in JSON.
    answer: fn(Value) -> Result<String, String>,
}

impl QuestionKind {
    /// The kind of `Q`.
    pub(crate) fn of<Q: Question>() -> Self {
        QuestionKind { name: Q::KIND, answer: answer_text::<Q> }
    }
}

fn answer_text<Q: Question>(question: Value) -> Result<String, String> {
    let question: Q = serde_json::from_value(question).map_err(|e| e.to_string())?;
    serde_json::to_string(&question.answer()).map_err(|e| e.to_string())
}

/// The line that asks a child one question.
#[derive(Debug, Serialize, Deserialize)]
struct QuestionLine<Q> {
    kind: String,
    question: Q,
}

impl<'a, Q: Question> QuestionLine<&'a Q> {
    fn of(question: &'a Q) -> Self {
        QuestionLine { kind: Q::KIND.into(), question }
    }
}

/// Answers all questions, in their order. The questions of a group concern the same disk and are
/// asked one after the other, so that a disk that never answers costs the deadline once, not once
/// for each of its partitions.
pub(crate) fn answer_all<'a, Q: Question + 'a>(
    host: &Host,
    groups: impl Iterator<Item = &'a [Q]>,
    deadline: Duration,
) -> Vec<Answer<Q::Finding>> {
    let groups: Vec<&[Q]> = groups.collect();
    let queue: Mutex<VecDeque<usize>> = Mutex::new((0..groups.len()).collect());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let start = || ChildProcess::start(host);
    let work = || {
        let mut answers = Vec::new();
        let mut worker = Worker::new(&start);
        while let Some(index) = next() {
            answers.push((index, worker.answer_group(groups[index], deadline)));
        }
        answers
    };
    let no_worker =
        |group: &&[Q]| group.iter().map(|_| Err("every worker has failed".into())).collect();
    let mut all: Vec<Vec<Answer<Q::Finding>>> = groups.iter().map(no_worker).collect();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS.min(groups.len())).map(|_| scope.spawn(work)).collect();
        for (index, answers) in
            workers.into_iter().filter_map(|worker| worker.join().ok()).flatten()
        {
            all[index] = answers;
        }
    });
    all.into_iter().flatten().collect()
}

/// Starts a child.
type Start<'a> = dyn Fn() -> std::io::Result<ChildProcess> + Sync + 'a;

enum Worker<'a> {
    /// A child process: this program, started again with its hidden verb.
    Child { start: &'a Start<'a>, running: Option<ChildProcess> },
    /// This thread. The program of a unit test does not have the hidden verb.
    Thread,
}

impl<'a> Worker<'a> {
    fn new(start: &'a Start<'a>) -> Self {
        if cfg!(test) { Worker::Thread } else { Worker::Child { start, running: None } }
    }

    fn answer_group<Q: Question>(
        &mut self,
        group: &[Q],
        mut deadline: Duration,
    ) -> Vec<Answer<Q::Finding>> {
        let ask = |question| {
            let start = Instant::now();
            let answer = self.answer(question, deadline);
            if start.elapsed() >= deadline {
                deadline = deadline.min(DEADLINE_AFTER_A_LATE_ANSWER);
            }
            answer
        };
        group.iter().map(ask).collect()
    }

    fn answer<Q: Question>(&mut self, question: &Q, deadline: Duration) -> Answer<Q::Finding> {
        let Worker::Child { start, running } = self else { return question.answer() };
        let mut child = match running.take() {
            Some(child) => child,
            None => start().map_err(|e| format!("starting a child process: {e}"))?,
        };
        // A child that fails is dropped, which kills it. The next question starts a new one.
        let answer = child.ask(question, deadline)?;
        *running = Some(child);
        answer
    }
}

/// A child process that answers one question after the other.
struct ChildProcess {
    process: Child,
    questions: Option<ChildStdin>,
    answers: ChildStdout,
}

impl ChildProcess {
    fn start(host: &Host) -> std::io::Result<Self> {
        Self::spawn(Command::new(host.program()).arg0("be").arg("internal-scan"))
    }

    fn spawn(program: &mut Command) -> std::io::Result<Self> {
        let mut process =
            program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        match (process.stdin.take(), process.stdout.take()) {
            (Some(questions), Some(answers)) => {
                Ok(ChildProcess { process, questions: Some(questions), answers })
            }
            _ => Err(std::io::Error::other("no pipes to the child process")),
        }
    }

    fn ask<Q: Question>(&mut self, question: &Q, deadline: Duration) -> Answer<Answer<Q::Finding>> {
        let end = Instant::now() + deadline;
        let line = serde_json::to_string(&QuestionLine::of(question)).map_err(|e| e.to_string())?;
        let questions = self.questions.as_mut().ok_or("the child process was told to end")?;
        writeln!(questions, "{line}").map_err(|e| format!("the child process has died ({e})"))?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\n") {
            let left = end.saturating_duration_since(Instant::now());
            let timeout =
                Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
            let mut waiting = [PollFd::new(&self.answers, PollFlags::IN)];
            match poll(&mut waiting, Some(&timeout)) {
                Ok(0) => return Err(format!("{LATE} {} seconds", deadline.as_secs_f32())),
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.to_string()),
            }
            let mut chunk = [0; 64 << 10];
            match self.answers.read(&mut chunk) {
                Ok(0) => return Err("the child process has died".into()),
                Ok(count) => answer.extend(&chunk[..count]),
                Err(error) => return Err(error.to_string()),
            }
            if answer.len() > LONGEST_ANSWER {
                return Err(TOO_LONG.into());
            }
        }
        parse_answer(&answer)
    }
}

/// Parses the line with which a child answers.
pub(crate) fn parse_answer<F: DeserializeOwned>(line: &[u8]) -> Answer<Answer<F>> {
    serde_json::from_slice(line).map_err(|e| format!("the answer does not parse ({e})"))
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        // An idle child exits at the end of its input. One that hangs is killed; it may stay in the
        // kernel for longer than is worth waiting for.
        self.questions = None;
        for _ in 0..20 {
            if matches!(self.process.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = self.process.kill();
        for _ in 0..100 {
            if matches!(self.process.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Runs in a child: answers each line of standard input, a question of one of `kinds`, until the
/// input ends.
pub(crate) fn serve(kinds: &[QuestionKind]) -> ExitCode {
    // This process is killed when its parent ends, whatever it waits for.
    let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
    let limit = Rlimit { current: Some(MOST_MEMORY), maximum: Some(MOST_MEMORY) };
    if let Err(why) = setrlimit(Resource::As, limit) {
        return report_failure(&format!("limiting the memory of a child process: {why}"));
    }
    for line in std::io::stdin().lock().lines() {
        let answer = line.map_err(|e| e.to_string()).and_then(|line| answer_line(kinds, &line));
        let mut answer = match answer {
            Ok(answer) => answer,
            Err(why) => return report_failure(&why),
        };
        answer.push('\n');
        if std::io::stdout().lock().write_all(answer.as_bytes()).is_err() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn answer_line(kinds: &[QuestionKind], line: &str) -> Result<String, String> {
    let line: QuestionLine<Value> = serde_json::from_str(line).map_err(|e| e.to_string())?;
    let kind = kinds.iter().find(|kind| kind.name == line.kind);
    let kind = kind.ok_or_else(|| format!("'{}' is not a question", line.kind.escape_debug()))?;
    bounded((kind.answer)(line.question)?)
}

/// The answer, or one that says that it is too long.
fn bounded(answer: String) -> Result<String, String> {
    if answer.len() < LONGEST_ANSWER {
        return Ok(answer);
    }
    let answer: Answer<()> = Err(TOO_LONG.into());
    serde_json::to_string(&answer).map_err(|e| e.to_string())
}

fn report_failure(why: &str) -> ExitCode {
    let answer: Answer<()> = Err(why.into());
    if let Ok(text) = serde_json::to_string(&answer) {
        let _ = writeln!(std::io::stdout().lock(), "{text}");
    }
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// A question that no child of these tests understands.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Word(String);

    impl Question for Word {
        const KIND: &'static str = "word";
        type Finding = Vec<String>;

        fn answer(&self) -> Answer<Vec<String>> {
            Ok(vec![self.0.clone()])
        }
    }

    fn question() -> Word {
        Word("x".into())
    }

    fn child(script: &str) -> ChildProcess {
        ChildProcess::spawn(Command::new("sh").args(["-c", script])).unwrap()
    }

    #[test]
    fn a_child_that_is_late_is_killed() {
        let start = Instant::now();
        let mut late = child("read line; exec sleep 600");
        let why = late.ask(&question(), Duration::from_millis(200)).unwrap_err();
        assert!(why.contains("no answer within 0.2 seconds"), "{why}");
        let pid = late.process.id();
        drop(late);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_child_that_dies_or_writes_garbage_is_an_error() {
        for (script, expected) in [
            ("read line", "has died"),
            ("read line; echo no json", "does not parse"),
            ("read line; exec yes", "does not parse"),
            ("read line; tr '\\0' x </dev/zero", "longer than"),
        ] {
            let why = child(script).ask(&question(), Duration::from_secs(20)).unwrap_err();
            assert!(why.contains(expected), "{script}: {why}");
        }
    }

    #[test]
    fn an_answer_in_pieces_is_one_answer() {
        let mut slow = child(
            "read line; printf '{\"Ok\"'; sleep 0.1; echo ':[]}'; \
            read line; echo '{\"Err\":\"x\"}'",
        );
        assert_eq!(slow.ask(&question(), Duration::from_secs(5)), Ok(Ok(vec![])));
        assert_eq!(slow.ask(&question(), Duration::from_secs(5)), Ok(Err("x".into())));
    }

    #[test]
    fn a_late_answer_delays_its_own_group_once_and_no_other() {
        // The first child never answers; those after it do.
        let start = || {
            static STARTED: std::sync::atomic::AtomicBool =
                std::sync::atomic::AtomicBool::new(false);
            let is_first = !STARTED.swap(true, std::sync::atomic::Ordering::Relaxed);
            let then = if is_first {
                "exec sleep 600"
            } else {
                "while :; do echo '{\"Ok\":[]}'; read line; done"
            };
            ChildProcess::spawn(Command::new("sh").args(["-c", &format!("read line; {then}")]))
        };
        let mut worker = Worker::Child { start: &start, running: None };
        let answers =
            worker.answer_group(&[question(), question(), question()], Duration::from_millis(300));
        assert!(answers[0].as_ref().is_err_and(|why| why.starts_with(LATE)), "{answers:?}");
        assert_eq!(answers[1..], [Ok(vec![]), Ok(vec![])]);
    }

    #[test]
    fn a_disk_that_never_answers_takes_the_deadline_once() {
        let start = || ChildProcess::spawn(Command::new("sh").args(["-c", "exec sleep 600"]));
        let began = Instant::now();
        let answers = Worker::Child { start: &start, running: None }
            .answer_group(&vec![question(); 3], Duration::from_secs(4));
        let whys: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
        assert_eq!(whys, [4, 1, 1].map(|seconds| format!("{LATE} {seconds} seconds")));
        assert!(began.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn an_answer_has_a_longest_length() {
        assert_eq!(bounded("x".repeat(100)).unwrap().len(), 100);
        let too_long = bounded("x".repeat(LONGEST_ANSWER)).unwrap();
        let why = serde_json::from_str::<Answer<Vec<String>>>(&too_long).unwrap().unwrap_err();
        assert_eq!(why, TOO_LONG);
    }

    #[test]
    fn a_child_understands_a_question() {
        let line = serde_json::to_string(&QuestionLine::of(&question())).unwrap();
        assert_eq!(answer_line(&[QuestionKind::of::<Word>()], &line).unwrap(), r#"{"Ok":["x"]}"#);
        assert!(answer_line(&[], &line).unwrap_err().contains("'word' is not a question"));
        assert!(answer_line(&[QuestionKind::of::<Word>()], "no json").is_err());
    }
}
