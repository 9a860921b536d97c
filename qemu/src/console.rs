//! The serial consoles of a machine: reading their output, waiting for words in it, and typing.

use crate::host::last_lines;
use crate::status::Status;
use crate::transcript::PlainText;
use crate::{Error, Result};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::termios::{self, SetArg, Termios};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many lines of the console an error quotes.
const TAIL: usize = 40;

/// A serial console. Its output is kept in memory and in the file [`Console::log`].
pub struct Console {
    status: Arc<Status>,
    shared: Arc<Shared>,
    log: PathBuf,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// The stream to type on.
    stream: Arc<UnixStream>,
    /// The number of the machine's start that the output is from.
    start: u32,
    raw: Vec<u8>,
    text: Vec<u8>,
    /// The end of the text that `expect` has searched.
    seen: usize,
    closed: bool,
    /// A second destination of the output.
    screen: Option<Box<dyn Write + Send>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the output of one start of the machine, until it ends.
    fn read(&self, log: &mut File) {
        let stream = Arc::clone(&self.lock().stream);
        let mut plain = PlainText::default();
        let mut chunk = [0; 4096];
        loop {
            let count = match (&*stream).read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            // A full disk must not stop the test, since the output is in memory too.
            let _ = log.write_all(&chunk[..count]);
            let mut state = self.lock();
            if let Some(screen) = &mut state.screen {
                show(screen, &chunk[..count]);
            }
            state.raw.extend_from_slice(&chunk[..count]);
            plain.feed(&chunk[..count], &mut state.text);
            self.changed.notify_all();
        }
    }
}

impl Console {
    /// Reads from `stream` in a thread until the machine ends. When the machine is started again,
    /// `next` receives the new stream. The text in memory then begins again, while the log is
    /// continued.
    pub(crate) fn new(
        status: &Arc<Status>,
        stream: UnixStream,
        next: Receiver<UnixStream>,
        log: PathBuf,
    ) -> Result<Console> {
        let mut file =
            File::create(&log).map_err(Error::io(|| format!("making {}", log.display())))?;
        let state = State {
            stream: Arc::new(stream),
            start: 0,
            raw: Vec::new(),
            text: Vec::new(),
            seen: 0,
            closed: false,
            screen: None,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let reader = Arc::clone(&shared);
        std::thread::spawn(move || {
            reader.read(&mut file);
            for stream in next {
                let mut state = reader.lock();
                state.stream = Arc::new(stream);
                state.start += 1;
                state.raw.clear();
                state.text.clear();
                state.seen = 0;
                drop(state);
                reader.read(&mut file);
            }
            reader.lock().closed = true;
            reader.changed.notify_all();
        });
        Ok(Console { status: Arc::clone(status), shared, log })
    }

    /// The file with the output of the console.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Waits until `words` appear after what was last expected.
    ///
    /// # Errors
    /// They did not appear within `limit`, or the machine ended. The error quotes the console.
    pub fn expect(&self, words: &str, limit: Duration) -> Result<()> {
        self.expect_any(&[words], limit).map(drop)
    }

    /// Waits until one of several words appears after what was last expected. Returns the index of
    /// the word that appears first.
    ///
    /// # Errors
    /// As [`Console::expect`].
    pub fn expect_any(&self, words: &[&str], limit: Duration) -> Result<usize> {
        let start = Instant::now();
        let mut state = self.shared.lock();
        loop {
            let found = words.iter().enumerate().filter_map(|(which, word)| {
                let at = find(&state.text[state.seen..], word.as_bytes())?;
                Some((at, which, at + word.len()))
            });
            if let Some((_, which, end)) = found.min()
                && self.status.mark_start_used(state.start)
            {
                state.seen += end;
                return Ok(which);
            }
            let left = limit.saturating_sub(start.elapsed());
            if left.is_zero() || state.closed {
                if let Some(error) = self.status.error(|| tail(&state.text)) {
                    return Err(error);
                }
                let what = format!(
                    "{} on the console",
                    words.iter().map(|w| format!("{w:?}")).collect::<Vec<_>>().join(" or ")
                );
                let what = if state.closed { format!("{what} (the machine ended)") } else { what };
                return Err(Error::Deadline {
                    machine: self.status.machine().to_owned(),
                    what,
                    limit,
                    tail: tail(&state.text),
                });
            }
            state = self
                .shared
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Types bytes as they are; Enter is `\r`.
    ///
    /// # Errors
    /// The machine ended.
    pub fn send(&self, text: &str) -> Result<()> {
        self.write(text.as_bytes()).map_err(|source| {
            self.status.error(|| self.tail()).unwrap_or_else(|| Error::Io {
                doing: format!("typing on the console of {}", self.status.machine()),
                source,
            })
        })
    }

    fn write(&self, keys: &[u8]) -> std::io::Result<()> {
        self.status.mark_used();
        let stream = Arc::clone(&self.shared.lock().stream);
        (&*stream).write_all(keys)
    }

    /// Connects the terminal of this program with the console, as `cu` does. Shows the output so
    /// far and new output, and passes on what is typed, until Ctrl-] is typed or the machine ends.
    /// Returns whether the machine ended.
    ///
    /// # Errors
    /// Standard input is not a terminal, or the accelerator failed.
    pub fn interact(&self) -> Result<bool> {
        let ended = self.connect(&std::io::stdin(), Box::new(std::io::stdout()))?;
        self.status.error(|| self.tail()).map_or(Ok(ended), Err)
    }

    fn connect(&self, keyboard: &impl AsFd, mut screen: Box<dyn Write + Send>) -> Result<bool> {
        let _raw = RawTerminal::new(keyboard)
            .map_err(Error::io(|| "taking over the terminal".to_owned()))?;
        let mut state = self.shared.lock();
        show(&mut screen, &state.raw);
        state.screen = Some(screen);
        drop(state);
        let ended = self.pass_on_keys(keyboard);
        self.shared.lock().screen = None;
        ended
    }

    fn pass_on_keys(&self, keyboard: &impl AsFd) -> Result<bool> {
        const CTRL_BRACKET: u8 = 0x1d;
        let mut keys = [0; 256];
        while !self.shared.lock().closed {
            let mut ready = [PollFd::new(keyboard.as_fd(), PollFlags::POLLIN)];
            if !poll(&mut ready, 100u16).is_ok_and(|count| count > 0) {
                continue;
            }
            let count = nix::unistd::read(keyboard, &mut keys).map_err(|error| Error::Io {
                doing: "reading the terminal".to_owned(),
                source: error.into(),
            })?;
            if count == 0 || keys[..count].contains(&CTRL_BRACKET) {
                return Ok(false);
            }
            if self.write(&keys[..count]).is_err() {
                break;
            }
        }
        Ok(true)
    }

    /// The output so far, without escape sequences.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.shared.lock().text).into_owned()
    }

    /// The output after the words that were last expected, without escape sequences.
    pub fn unread(&self) -> String {
        let state = self.shared.lock();
        String::from_utf8_lossy(&state.text[state.seen..]).into_owned()
    }

    /// The output so far, byte for byte.
    pub fn raw(&self) -> Vec<u8> {
        self.shared.lock().raw.clone()
    }

    /// Makes `expect` ignore the output so far.
    pub fn skip(&self) {
        let mut state = self.shared.lock();
        state.seen = state.text.len();
    }

    pub(crate) fn tail(&self) -> String {
        tail(&self.shared.lock().text)
    }
}

/// Ignores errors, because closing the terminal must not end the machine.
fn show(screen: &mut impl Write, bytes: &[u8]) {
    let _ = screen.write_all(bytes).and_then(|()| screen.flush());
}

/// A terminal without line editing, echo and signals, until dropped.
struct RawTerminal<'a, T: AsFd> {
    terminal: &'a T,
    before: Termios,
}

impl<'a, T: AsFd> RawTerminal<'a, T> {
    fn new(terminal: &'a T) -> std::io::Result<Self> {
        let before = termios::tcgetattr(terminal)?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(terminal, SetArg::TCSANOW, &raw)?;
        Ok(RawTerminal { terminal, before })
    }
}

impl<T: AsFd> Drop for RawTerminal<'_, T> {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(self.terminal, SetArg::TCSADRAIN, &self.before);
    }
}

fn tail(text: &[u8]) -> String {
    last_lines(&String::from_utf8_lossy(&text[text.len().saturating_sub(16 << 10)..]), TAIL)
}

fn find(text: &[u8], word: &[u8]) -> Option<usize> {
    if word.is_empty() {
        return Some(0);
    }
    text.windows(word.len()).position(|window| window == word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Accelerator;
    use std::sync::mpsc::{Sender, channel};

    /// A console, its status, and a sender for the stream of another start.
    fn restartable(stream: UnixStream, log: PathBuf) -> (Console, Arc<Status>, Sender<UnixStream>) {
        let (sender, next) = channel();
        let status = Arc::new(Status::new("test", Accelerator::Kvm));
        (Console::new(&status, stream, next, log).unwrap(), status, sender)
    }

    fn console() -> (Console, UnixStream, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let (ours, guest) = UnixStream::pair().unwrap();
        let console = restartable(ours, directory.path().join("log")).0;
        (console, guest, directory)
    }

    #[test]
    fn words_are_found_once_and_in_order() {
        let (console, mut guest, _directory) = console();
        guest.write_all(b"login: \x1b[1mx\x1b[0m login: ").unwrap();
        console.expect("login:", Duration::from_secs(5)).unwrap();
        console.expect("x login:", Duration::from_secs(5)).unwrap();
        assert!(console.expect("login:", Duration::from_millis(50)).is_err());
    }

    #[test]
    fn of_several_words_the_first_on_the_console_wins() {
        let (console, mut guest, _directory) = console();
        guest.write_all(b"panic, then login:").unwrap();
        assert_eq!(console.expect_any(&["login:", "panic"], Duration::from_secs(5)).unwrap(), 1);
        assert_eq!(console.expect_any(&["login:", "panic"], Duration::from_secs(5)).unwrap(), 0);
    }

    #[test]
    fn a_failure_quotes_the_console_and_the_log_has_it_all() {
        let (console, mut guest, _directory) = console();
        for line in 0..100 {
            writeln!(guest, "line {line}").unwrap();
        }
        console.expect("line 99", Duration::from_secs(5)).unwrap();
        let error = console.expect("login:", Duration::from_millis(20)).unwrap_err().to_string();
        assert!(
            error.contains("\"login:\"") && error.contains("line 99") && error.contains("line 61"),
            "{error}"
        );
        assert!(!error.contains("line 50"), "{error}");
        assert!(std::fs::read_to_string(console.log()).unwrap().contains("line 50"));
    }

    #[test]
    fn a_machine_that_ends_does_not_keep_the_test_waiting() {
        let (console, guest, _directory) = console();
        drop(guest);
        let start = Instant::now();
        assert!(console.expect("login:", Duration::from_secs(30)).is_err());
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn words_of_a_start_that_failed_are_not_found() {
        let directory = tempfile::tempdir().unwrap();
        let (ours, mut guest) = UnixStream::pair().unwrap();
        let (console, status, starts) = restartable(ours, directory.path().join("log"));
        guest.write_all(b"first login:").unwrap();
        while !console.text().contains("login:") {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(status.start_again());
        let waiting = Instant::now();
        assert!(console.expect("login:", Duration::from_millis(50)).is_err());
        assert!(waiting.elapsed() >= Duration::from_millis(50));
        drop(guest);
        let (ours, mut guest) = UnixStream::pair().unwrap();
        starts.send(ours).unwrap();
        guest.write_all(b"second login:").unwrap();
        console.expect("second login:", Duration::from_secs(5)).unwrap();
        assert_eq!(console.text(), "second login:");
        console.send("root").unwrap();
        let mut typed = [0; 4];
        guest.read_exact(&mut typed).unwrap();
        assert_eq!(&typed, b"root");
        assert_eq!(std::fs::read(console.log()).unwrap(), b"first login:second login:");
    }

    #[test]
    fn a_terminal_is_connected_until_the_bracket() {
        let (console, mut guest, _directory) = console();
        guest.write_all(b"earlier ").unwrap();
        console.expect("earlier", Duration::from_secs(5)).unwrap();
        let pty = nix::pty::openpty(None, None).unwrap();
        let (mut user, terminal) = (File::from(pty.master), pty.slave);
        let screen = tempfile::NamedTempFile::new().unwrap();
        let shown = screen.reopen().unwrap();
        user.write_all(b"ls\r").unwrap();
        std::thread::scope(|scope| {
            let connected = scope.spawn(|| console.connect(&terminal, Box::new(shown)));
            let mut typed = [0; 3];
            guest.read_exact(&mut typed).unwrap();
            guest.write_all(b"later").unwrap();
            console.expect("later", Duration::from_secs(5)).unwrap();
            user.write_all(b"\x1d").unwrap();
            assert!(!connected.join().unwrap().unwrap(), "the machine is still there");
            assert_eq!(&typed[..2], b"ls");
        });
        assert_eq!(std::fs::read(screen.path()).unwrap(), b"earlier later");
    }
}
