//! The children that look into file systems: two at a time, each killed when it is late.

use std::collections::VecDeque;
use std::io::{BufRead, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::scan::{self, Answer, Request};
use crate::error::Result;
use crate::storage::mounts::enter_private_namespace;

/// Two: mounting is mostly waiting, and a third gains nothing on the small machines that rescue runs on.
const WORKERS: usize = 2;

/// An answer beyond this comes from no honest disk.
const LONGEST_ANSWER: usize = 32 << 20;

/// How long one file system may take.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);

/// Who looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// A child process, this program again with its hidden verb.
    Child,
    /// A thread of this process: a test's program does not have that verb.
    #[cfg_attr(not(test), allow(dead_code, reason = "tests only"))]
    Thread,
}

/// Has all requests answered, in their order.
pub(super) fn answer_all(requests: &[Request], who: Who, deadline: Duration) -> Vec<Answer> {
    let queue: Mutex<VecDeque<usize>> = Mutex::new((0..requests.len()).collect());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let work = || {
        let mut answers = Vec::new();
        let mut worker = Worker::new(who, deadline);
        while let Some(index) = next() {
            answers.push((index, worker.answer(&requests[index])));
        }
        answers
    };
    let mut all: Vec<Answer> = requests.iter().map(|_| Err("nobody looked".into())).collect();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS.min(requests.len())).map(|_| scope.spawn(work)).collect();
        for (index, answer) in workers.into_iter().filter_map(|worker| worker.join().ok()).flatten() {
            all[index] = answer;
        }
    });
    all
}

enum Worker {
    Child { running: Option<Looker>, deadline: Duration },
    Thread { namespace: Result<()> },
}

impl Worker {
    fn new(who: Who, deadline: Duration) -> Self {
        match who {
            Who::Child => Worker::Child { running: None, deadline },
            Who::Thread => Worker::Thread { namespace: enter_private_namespace() },
        }
    }

    fn answer(&mut self, request: &Request) -> Answer {
        match self {
            Worker::Thread { namespace: Err(error) } => Err(error.to_string()),
            Worker::Thread { namespace: Ok(()) } => scan::answer(request),
            Worker::Child { running, deadline } => {
                let mut looker = match running.take() {
                    Some(looker) => looker,
                    None => Looker::start().map_err(|e| format!("starting a child to look: {e}"))?,
                };
                match looker.ask(request, *deadline) {
                    Ok(answer) => {
                        *running = Some(looker);
                        answer
                    }
                    // It is dropped, and killed with that; the next request gets a new one.
                    Err(why) => Err(why),
                }
            }
        }
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
        let mut child = program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(requests), Some(answers)) => Ok(Looker { child, requests: Some(requests), answers }),
            _ => Err(std::io::Error::other("no pipes to the child")),
        }
    }

    fn ask(&mut self, request: &Request, deadline: Duration) -> Result<Answer, String> {
        let end = Instant::now() + deadline;
        let line = serde_json::to_string(request).map_err(|e| e.to_string())?;
        let requests = self.requests.as_mut().ok_or("the child was told to end")?;
        writeln!(requests, "{line}").map_err(|e| format!("the child that looked has died ({e})"))?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\n") {
            let left = end.saturating_duration_since(Instant::now());
            let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
            let mut waiting = [PollFd::new(&self.answers, PollFlags::IN)];
            match poll(&mut waiting, Some(&timeout)) {
                Ok(0) => return Err(format!("no answer within {} seconds", deadline.as_secs_f32())),
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
        // The end of its input ends an idle child; one that hangs is killed, and may stay in the kernel for longer
        // than anyone waits.
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

/// The hidden verb `internal-scan`: answers requests from standard input until it ends.
pub(crate) fn serve() -> ExitCode {
    // The end of the one who asked is the end of this child, whatever it waits for.
    let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
    if let Err(error) = enter_private_namespace() {
        return complain(&error.to_string());
    }
    for line in std::io::stdin().lock().lines() {
        let request: Request = match line.map_err(|e| e.to_string()).and_then(|line| parse(&line)) {
            Ok(request) => request,
            Err(why) => return complain(&why),
        };
        let Ok(mut answer) = serde_json::to_string(&scan::answer(&request)) else { return ExitCode::FAILURE };
        answer.push('\n');
        if std::io::stdout().lock().write_all(answer.as_bytes()).is_err() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn parse(line: &str) -> Result<Request, String> {
    serde_json::from_str(line).map_err(|e| e.to_string())
}

fn complain(why: &str) -> ExitCode {
    let answer: Answer = Err(why.into());
    if let Ok(text) = serde_json::to_string(&answer) {
        let _ = writeln!(std::io::stdout().lock(), "{text}");
    }
    ExitCode::FAILURE
}

/// Where a worker mounts; each has its own namespace, so one folder serves all.
pub(super) fn folder(run: &Path) -> std::path::PathBuf {
    run.join("lifeboat/scan")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        let place = scan::Place {
            device: "/dev/none".into(),
            number: (0, 0),
            fs_type: "ext4".into(),
            subvolume: None,
            mounted_at: None,
        };
        Request { dir: "/nowhere".into(), place, subvolume: None, nested: Vec::new() }
    }

    fn looker(script: &str) -> Looker {
        Looker::of(Command::new("sh").args(["-c", script])).unwrap()
    }

    #[test]
    fn a_child_that_is_late_is_given_up_and_killed() {
        let start = Instant::now();
        let mut late = looker("read line; exec sleep 600");
        let why = late.ask(&request(), Duration::from_millis(200)).unwrap_err();
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
            let why = looker(script).ask(&request(), Duration::from_secs(20)).unwrap_err();
            assert!(why.contains(expected), "{script}: {why}");
        }
    }

    #[test]
    fn an_answer_in_pieces_is_one_answer() {
        let mut slow =
            looker("read line; printf '{\"Ok\"'; sleep 0.1; echo ':[]}'; read line; echo '{\"Err\":\"x\"}'");
        assert_eq!(slow.ask(&request(), Duration::from_secs(5)), Ok(Ok(vec![])));
        assert_eq!(slow.ask(&request(), Duration::from_secs(5)), Ok(Err("x".into())));
    }
}
