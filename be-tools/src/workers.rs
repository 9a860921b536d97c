//! The children that read foreign devices and file systems: two at a time, each killed when it is
//! late (DESIGN.md, invariant 7). A request and its answer are one line of JSON each.

use std::collections::VecDeque;
use std::io::{BufRead, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Two: mounting is mostly waiting, and a third gains nothing on the small machines that rescue
/// runs on.
const WORKERS: usize = 2;

/// An answer beyond this comes from no honest disk.
const LONGEST_ANSWER: usize = 32 << 20;

/// How long each further question of a group may take once one of it was late.
const AFTER_A_LATE_ONE: Duration = Duration::from_secs(1);

/// How the reason begins when a question was not answered in time.
pub(crate) const LATE: &str = "no answer within";

/// What was found, or a sentence saying why nothing was.
pub(crate) type Answer<T> = Result<T, String>;

/// Something that a worker is asked.
pub(crate) trait Question: Serialize + DeserializeOwned + Sync {
    /// The word that names this kind of question in the line to a child.
    const KIND: &'static str;

    /// What the answer holds.
    type Found: Serialize + DeserializeOwned + Send;

    /// Finds it out. This may take for ever.
    fn answer(&self) -> Answer<Self::Found>;
}

/// A kind of question that a child can answer.
pub(crate) struct Kind {
    name: &'static str,
    /// From the question to its answer, both as JSON.
    answer: fn(Value) -> Result<String, String>,
}

impl Kind {
    /// The kind of `Q`.
    pub(crate) fn of<Q: Question>() -> Self {
        Kind { name: Q::KIND, answer: answer_text::<Q> }
    }
}

fn answer_text<Q: Question>(question: Value) -> Result<String, String> {
    let question: Q = serde_json::from_value(question).map_err(|e| e.to_string())?;
    serde_json::to_string(&question.answer()).map_err(|e| e.to_string())
}

/// The line to a child.
#[derive(Debug, Serialize, Deserialize)]
struct Line<Q> {
    kind: String,
    question: Q,
}

impl<'a, Q: Question> Line<&'a Q> {
    fn of(question: &'a Q) -> Self {
        Line { kind: Q::KIND.into(), question }
    }
}

/// Has all questions answered, in their order. Those of one group ask the same disk, one after the
/// other: a disk that never answers takes the deadline once, and not once for each of its
/// partitions.
pub(crate) fn answer_all<'a, Q: Question + 'a>(
    groups: impl Iterator<Item = &'a [Q]>,
    deadline: Duration,
) -> Vec<Answer<Q::Found>> {
    let groups: Vec<&[Q]> = groups.collect();
    let queue: Mutex<VecDeque<usize>> = Mutex::new((0..groups.len()).collect());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let work = || {
        let mut answers = Vec::new();
        let mut worker = Worker::new();
        while let Some(index) = next() {
            answers.push((index, worker.answer_group(groups[index], deadline)));
        }
        answers
    };
    let nobody = |group: &&[Q]| group.iter().map(|_| Err("nobody looked".into())).collect();
    let mut all: Vec<Vec<Answer<Q::Found>>> = groups.iter().map(nobody).collect();
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

enum Worker {
    /// A child process, this program again with its hidden verb.
    Child { start: fn() -> std::io::Result<Looker>, running: Option<Looker> },
    /// This thread: a test's program does not have that verb.
    Thread,
}

impl Worker {
    fn new() -> Self {
        if cfg!(test) {
            Worker::Thread
        } else {
            Worker::Child { start: Looker::start, running: None }
        }
    }

    fn answer_group<Q: Question>(
        &mut self,
        group: &[Q],
        deadline: Duration,
    ) -> Vec<Answer<Q::Found>> {
        let mut patience = deadline;
        let ask = |question| {
            let start = Instant::now();
            let answer = self.answer(question, patience);
            if start.elapsed() >= patience {
                patience = patience.min(AFTER_A_LATE_ONE);
            }
            answer
        };
        group.iter().map(ask).collect()
    }

    fn answer<Q: Question>(&mut self, question: &Q, deadline: Duration) -> Answer<Q::Found> {
        let Worker::Child { start, running } = self else { return question.answer() };
        let mut looker = match running.take() {
            Some(looker) => looker,
            None => start().map_err(|e| format!("starting a child to look: {e}"))?,
        };
        // One that fails is dropped, and killed with that; the next question gets a new one.
        let answer = looker.ask(question, deadline)?;
        *running = Some(looker);
        answer
    }
}

/// A child that answers one request after the other.
struct Looker {
    child: Child,
    requests: Option<ChildStdin>,
    answers: ChildStdout,
}

impl Looker {
    fn start() -> std::io::Result<Self> {
        Self::of(Command::new("/proc/self/exe").arg0("be").arg("internal-scan"))
    }

    fn of(program: &mut Command) -> std::io::Result<Self> {
        let mut child =
            program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(requests), Some(answers)) => {
                Ok(Looker { child, requests: Some(requests), answers })
            }
            _ => Err(std::io::Error::other("no pipes to the child")),
        }
    }

    fn ask<Q: Question>(&mut self, question: &Q, deadline: Duration) -> Answer<Answer<Q::Found>> {
        let end = Instant::now() + deadline;
        let line = serde_json::to_string(&Line::of(question)).map_err(|e| e.to_string())?;
        let requests = self.requests.as_mut().ok_or("the child was told to end")?;
        writeln!(requests, "{line}")
            .map_err(|e| format!("the child that looked has died ({e})"))?;
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
            let mut some = [0; 64 << 10];
            match self.answers.read(&mut some) {
                Ok(0) => return Err("the child that looked has died".into()),
                Ok(count) => answer.extend(&some[..count]),
                Err(error) => return Err(error.to_string()),
            }
            if answer.len() > LONGEST_ANSWER {
                return Err("more was found than any honest disk holds".into());
            }
        }
        serde_json::from_slice(&answer).map_err(|e| format!("the answer makes no sense ({e})"))
    }
}

impl Drop for Looker {
    fn drop(&mut self) {
        // The end of its input ends an idle child; one that hangs is killed, and may stay in the
        // kernel for longer than anyone waits.
        self.requests = None;
        for _ in 0..20 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = self.child.kill();
        for _ in 0..100 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// What a child does: it answers the lines of standard input until that ends, each as one of
/// `kinds`.
pub(crate) fn serve(kinds: &[Kind]) -> ExitCode {
    // The end of the one who asked is the end of this child, whatever it waits for.
    let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
    for line in std::io::stdin().lock().lines() {
        let answer = line.map_err(|e| e.to_string()).and_then(|line| answer_line(kinds, &line));
        let mut answer = match answer {
            Ok(answer) => answer,
            Err(why) => return complain(&why),
        };
        answer.push('\n');
        if std::io::stdout().lock().write_all(answer.as_bytes()).is_err() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn answer_line(kinds: &[Kind], line: &str) -> Result<String, String> {
    let line: Line<Value> = serde_json::from_str(line).map_err(|e| e.to_string())?;
    let kind = kinds.iter().find(|kind| kind.name == line.kind);
    let kind = kind.ok_or_else(|| format!("'{}' is not a question", line.kind.escape_debug()))?;
    (kind.answer)(line.question)
}

fn complain(why: &str) -> ExitCode {
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

    /// What is asked of a child that never understands it.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Word(String);

    impl Question for Word {
        const KIND: &'static str = "word";
        type Found = Vec<String>;

        fn answer(&self) -> Answer<Vec<String>> {
            Ok(vec![self.0.clone()])
        }
    }

    fn question() -> Word {
        Word("x".into())
    }

    fn looker(script: &str) -> Looker {
        Looker::of(Command::new("sh").args(["-c", script])).unwrap()
    }

    #[test]
    fn a_child_that_is_late_is_given_up_and_killed() {
        let start = Instant::now();
        let mut late = looker("read line; exec sleep 600");
        let why = late.ask(&question(), Duration::from_millis(200)).unwrap_err();
        assert!(why.contains("no answer within 0.2 seconds"), "{why}");
        let pid = late.child.id();
        drop(late);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_child_that_dies_or_babbles_is_an_error_and_not_an_answer() {
        for (script, expected) in [
            ("read line", "has died"),
            ("read line; echo no json", "makes no sense"),
            ("read line; exec yes", "makes no sense"),
            ("read line; tr '\\0' x </dev/zero", "more was found"),
        ] {
            let why = looker(script).ask(&question(), Duration::from_secs(20)).unwrap_err();
            assert!(why.contains(expected), "{script}: {why}");
        }
    }

    #[test]
    fn an_answer_in_pieces_is_one_answer() {
        let mut slow = looker(
            "read line; printf '{\"Ok\"'; sleep 0.1; echo ':[]}'; read line; echo '{\"Err\":\"x\"}'",
        );
        assert_eq!(slow.ask(&question(), Duration::from_secs(5)), Ok(Ok(vec![])));
        assert_eq!(slow.ask(&question(), Duration::from_secs(5)), Ok(Err("x".into())));
    }

    #[test]
    fn a_late_one_delays_its_own_group_once_and_no_other() {
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
            Looker::of(Command::new("sh").args(["-c", &format!("read line; {then}")]))
        };
        let mut worker = Worker::Child { start, running: None };
        let answers =
            worker.answer_group(&[question(), question(), question()], Duration::from_millis(300));
        assert!(answers[0].as_ref().is_err_and(|why| why.starts_with(LATE)), "{answers:?}");
        assert_eq!(answers[1..], [Ok(vec![]), Ok(vec![])]);
    }

    #[test]
    fn a_disk_that_never_answers_takes_the_deadline_once() {
        let start = || Looker::of(Command::new("sh").args(["-c", "exec sleep 600"]));
        let began = Instant::now();
        let answers = Worker::Child { start, running: None }
            .answer_group(&vec![question(); 3], Duration::from_secs(4));
        let whys: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
        assert_eq!(whys, [4, 1, 1].map(|seconds| format!("{LATE} {seconds} seconds")));
        assert!(began.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_request_is_understood_by_the_child() {
        let line = serde_json::to_string(&Line::of(&question())).unwrap();
        assert_eq!(answer_line(&[Kind::of::<Word>()], &line).unwrap(), r#"{"Ok":["x"]}"#);
        assert!(answer_line(&[], &line).unwrap_err().contains("'word' is not a question"));
        assert!(answer_line(&[Kind::of::<Word>()], "no json").is_err());
    }
}
