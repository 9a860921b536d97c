//! A terminal of the command's own (pty(7)), relayed to and from the user's. On the user's own
//! terminal a command could read what is typed after it, leave its settings changed, or with
//! TIOCSTI type into the shell that started it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::stdio::{stderr, stdin, stdout};
use rustix::termios::{OptionalActions, OutputModes, Termios, isatty};

use crate::error::{Doing, Result};
use crate::sys;

/// The bytes that are moved at once.
const BUFFER: usize = 64 << 10;

/// The settings of the terminal on standard input, which are set again when this is dropped.
#[derive(Debug)]
pub(super) struct Settings(Termios);

impl Settings {
    /// Notes the present settings. `None` if standard input is not a terminal, or is that of a
    /// command in the background, which may not change it.
    pub(super) fn note() -> Option<Self> {
        if !is_foreground() {
            return None;
        }
        rustix::termios::tcgetattr(stdin()).ok().map(Settings)
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        // Somebody may have put this process into the background, where it would be stopped.
        if is_foreground() {
            let _ = rustix::termios::tcsetattr(stdin(), OptionalActions::Now, &self.0);
        }
    }
}

/// Whether standard input is a terminal, and this process belongs to its foreground. A terminal
/// that controls no session, as a console may be, has no background.
pub(super) fn is_foreground() -> bool {
    match rustix::termios::tcgetpgrp(stdin()) {
        Ok(group) => group == rustix::process::getpgrp(),
        Err(Errno::NOTTY) => isatty(stdin()),
        Err(_) => false,
    }
}

/// A relay between the terminal of a command and the standard streams of this process.
#[derive(Debug)]
pub(super) struct Relay {
    ours: OwnedFd,
    /// Kept open, so that the end of one program on it does not end the relay.
    theirs: OwnedFd,
    /// Whether standard input is read.
    has_input: bool,
    output: BorrowedFd<'static>,
    /// What was read and is not written to the command's terminal yet.
    pending: Vec<u8>,
    resized: Arc<AtomicBool>,
}

impl Relay {
    /// Makes a terminal, if one of the standard streams is one. `foreground` says that standard
    /// input may be read.
    ///
    /// # Errors
    /// There is no devpts.
    pub(super) fn open(foreground: bool) -> Result<Option<Self>> {
        let making = || "making a terminal for the command".to_owned();
        let streams = [stdin(), stdout(), stderr()];
        let output = streams.iter().rev().copied().find(|stream| isatty(*stream));
        let Some(output) = output else { return Ok(None) };
        let has_input = foreground && isatty(stdin());
        let mut settings = rustix::termios::tcgetattr(output).doing(making)?;
        if !has_input {
            // The user's terminal stays in its mode and does this itself.
            settings.output_modes.remove(OutputModes::OPOST);
        }
        let pair = nix::pty::openpty(None, None).doing(making)?;
        let (ours, theirs) = (pair.master, pair.slave);
        rustix::termios::tcsetattr(&theirs, OptionalActions::Now, &settings).doing(making)?;
        rustix::fs::fcntl_setfl(&ours, OFlags::RDWR | OFlags::NONBLOCK).doing(making)?;
        let resized = Arc::new(AtomicBool::new(true));
        signal_hook::flag::register(signal_hook::consts::SIGWINCH, Arc::clone(&resized))
            .doing(making)?;
        sys::ignore_background_reads();
        let pending = Vec::new();
        let relay = Relay { ours, theirs, has_input, output, pending, resized };
        relay.resize();
        Ok(Some(relay))
    }

    /// Gives the terminal to a command, in place of those standard streams that are one.
    ///
    /// # Errors
    /// As dup(2).
    pub(super) fn give_to(&self, command: &mut Command) -> Result<()> {
        let stream = || -> Result<Stdio> {
            let stream = self.theirs.try_clone().doing(|| "opening the command's terminal".into());
            stream.map(Stdio::from)
        };
        if isatty(stdin()) {
            command.stdin(stream()?);
        }
        if isatty(stdout()) {
            command.stdout(stream()?);
        }
        if isatty(stderr()) {
            command.stderr(stream()?);
        }
        sys::lead_session(command, Some(self.theirs.as_raw_fd()));
        Ok(())
    }

    /// Puts the user's terminal into raw mode, in which it hands on every key. `be`, which outlives
    /// this process, has noted its settings.
    pub(super) fn begin(&self) {
        if !self.has_input {
            return;
        }
        if let Ok(mut settings) = rustix::termios::tcgetattr(stdin()) {
            settings.make_raw();
            // If this fails, the command works all the same, line by line.
            let _ = rustix::termios::tcsetattr(stdin(), OptionalActions::Now, &settings);
        }
    }

    /// Moves what there is to move, and waits for it at most for this time.
    pub(super) fn turn(&mut self, time: Duration) {
        if self.resized.swap(false, Ordering::Relaxed) {
            self.resize();
        }
        let mut wanted = PollFlags::IN;
        wanted.set(PollFlags::OUT, !self.pending.is_empty());
        let (ours, input) = (self.ours.as_fd(), stdin());
        let mut streams = vec![PollFd::from_borrowed_fd(ours, wanted)];
        // No more is read than the command takes.
        if self.has_input && self.pending.is_empty() {
            streams.push(PollFd::from_borrowed_fd(input, PollFlags::IN));
        }
        let time = Timespec::try_from(time).ok();
        if rustix::event::poll(&mut streams, time.as_ref()).is_err() {
            return;
        }
        let printed = streams[0].revents();
        let typed = streams.get(1).map_or(PollFlags::empty(), |stream| stream.revents());
        if printed.intersects(PollFlags::IN | PollFlags::HUP) {
            self.show();
        }
        if !typed.is_empty() {
            self.read_input(typed);
        }
        self.hand_on();
    }

    /// Shows what the command left in its terminal when it ended.
    pub(super) fn finish(&self) {
        while self.show() {}
    }

    /// Writes what the command printed to the user's terminal. Returns whether there was anything.
    fn show(&self) -> bool {
        let mut buffer = vec![0; BUFFER];
        match rustix::io::read(&self.ours, &mut buffer) {
            Ok(0) | Err(_) => false,
            Ok(length) => {
                write_all(self.output, &buffer[..length]);
                true
            }
        }
    }

    fn read_input(&mut self, events: PollFlags) {
        let mut buffer = vec![0; BUFFER];
        match rustix::io::read(stdin(), &mut buffer) {
            Ok(0) => self.has_input = false,
            Ok(length) => self.pending.extend_from_slice(&buffer[..length]),
            Err(Errno::AGAIN | Errno::INTR) => {}
            // In the background nothing can be read, until the user brings it back.
            Err(Errno::IO) if !events.intersects(PollFlags::HUP) => {
                std::thread::sleep(Duration::from_millis(100));
            }
            Err(_) => self.has_input = false,
        }
    }

    fn hand_on(&mut self) {
        while !self.pending.is_empty() {
            match rustix::io::write(&self.ours, &self.pending) {
                Ok(length) => {
                    self.pending.drain(..length);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => self.pending.clear(),
            }
        }
    }

    fn resize(&self) {
        if let Ok(size) = rustix::termios::tcgetwinsize(self.output) {
            let _ = rustix::termios::tcsetwinsize(&self.ours, size);
        }
    }
}

/// Writes to the user's terminal. If it is gone, nobody misses what is lost.
fn write_all(stream: BorrowedFd<'_>, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match rustix::io::write(stream, bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => std::thread::sleep(Duration::from_millis(5)),
            Err(_) => return,
        }
    }
}
