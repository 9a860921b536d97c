//! The terminal: given to the menu, given over to a command, and taken back.

use std::fs::File;
use std::io::{self, Stdout, Write, stdout};
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use be_tools::escape::printable;
use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{self, Event};
use crossterm::execute;
use crossterm::style::{Attribute, ResetColor, SetAttribute};
use crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use ratatui::backend::CrosstermBackend;
use ratatui::layout::Rect;
use ratatui::{Terminal, TerminalOptions, Viewport};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::getpgrp;
use rustix::stdio::stdin;
use rustix::termios::{OptionalActions, QueueSelector, tcflush, tcgetattr, tcsetattr, tcsetpgrp};

use super::actions::Action;
use super::keys::Key;
use crate::scan::Claim;
use crate::unattended::report;

/// The menu's hold on the terminal.
pub struct Screen {
    /// What is drawn on.
    pub terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// When it is none.
    pub fn take() -> io::Result<Self> {
        enable_raw_mode()?;
        execute!(stdout(), EnterAlternateScreen, Hide, Clear(ClearType::All))?;
        // One of a fixed size never asks the terminal for its cursor's position, as a change of
        // size and `Terminal::clear` otherwise do: a serial line may have nobody who answers.
        let (width, height) = crossterm::terminal::size()?;
        let viewport = Viewport::Fixed(Rect::new(0, 0, width.max(1), height.max(1)));
        let backend = CrosstermBackend::new(stdout());
        Ok(Screen { terminal: Terminal::with_options(backend, TerminalOptions { viewport })? })
    }

    /// Forgets what the terminal shows, so that all of it is drawn anew.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn forget(&mut self) -> io::Result<()> {
        *self = Self::take()?;
        Ok(())
    }

    /// Lends the terminal to a command, and takes it back when somebody has read what it said.
    /// Returns how it ended and the key that was pressed then; `None` when it was not run after
    /// all.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn lend(
        &mut self,
        action: &Action,
        be: &str,
        directory: &Path,
    ) -> io::Result<Option<(String, Key)>> {
        give_back()?;
        let Some(ended) = run(action, be, directory) else {
            self.forget()?;
            return Ok(None);
        };
        println!("\n{}", printable(&ended.text));
        let key = if action.exclusive || !ended.success {
            self.wait_for_key(action, &ended)?
        } else {
            Key::Enter
        };
        self.forget()?;
        Ok(Some((ended.text, key)))
    }

    fn wait_for_key(&self, action: &Action, ended: &Ended) -> io::Result<Key> {
        let offers_reboot = action.then_reboot && ended.success;
        let reboot = if offers_reboot { ", R to restart the machine now" } else { "" };
        enable_raw_mode()?;
        // What was typed while the command ran was not meant for this question; what comes after it
        // is.
        tcflush(stdin(), QueueSelector::IFlush)?;
        print!("Press Enter to return to the menu{reboot}: ");
        stdout().flush()?;
        loop {
            let Event::Key(event) = event::read()? else { continue };
            match Key::from_event(event) {
                Some(Key::Character('R')) if offers_reboot => return Ok(Key::Character('R')),
                Some(Key::Enter | Key::Escape | Key::Character(' ' | 'q')) => {
                    return Ok(Key::Enter);
                }
                _ => {}
            }
        }
    }
}

/// Leaves the terminal as it was, and empty.
///
/// # Errors
/// When the terminal is gone.
pub fn give_back() -> io::Result<()> {
    execute!(
        stdout(),
        ResetColor,
        SetAttribute(Attribute::Reset),
        LeaveAlternateScreen,
        Clear(ClearType::All),
        MoveTo(0, 0),
        Show
    )?;
    disable_raw_mode()
}

/// How a command ended.
pub struct Ended {
    /// In a line.
    pub text: String,
    /// With status 0.
    pub success: bool,
}

/// Prints a command and runs it on this terminal; `None` when somebody would not wait for the
/// disks.
pub fn run(action: &Action, be: &str, directory: &Path) -> Option<Ended> {
    let line = action.command_line();
    println!("# {}\n", printable(&line));
    // Whoever looks at the disks now ends first.
    let held = action.exclusive.then(|| have_disks(directory));
    match &held {
        Some(Ok(None)) => return None,
        Some(Err(why)) => {
            log::warn!(
                "{}: the disks may be looked at while `{line}` runs: {why}",
                directory.display()
            );
        }
        Some(Ok(Some(_))) | None => {}
    }
    log::info!("running {line}");
    let before = tcgetattr(stdin()).ok();
    let result = start(action, be);
    // A shell that was killed leaves the terminal to a group that is gone, and in any mode.
    let _ = tcsetpgrp(stdin(), getpgrp());
    if let Some(before) = before {
        let _ = tcsetattr(stdin(), OptionalActions::Drain, &before);
    }
    let ended = match result {
        Ok(status) => Ended { text: report(&line, status), success: status.success() },
        Err(why) => Ended { text: format!("\"{line}\" cannot be started: {why}"), success: false },
    };
    log::info!("{}", ended.text);
    Some(ended)
}

/// Waits until nobody looks at the disks; `None` when Ctrl-C came first.
fn have_disks(directory: &Path) -> io::Result<Option<File>> {
    let claim = Claim::new(directory)?;
    let interrupt = Interrupt::new()?;
    let mut patience = Duration::from_millis(20);
    let mut is_told = false;
    loop {
        if let Some(held) = claim.attempt()? {
            return Ok(Some(held));
        }
        if interrupt.comes_within(patience) {
            return Ok(None);
        }
        patience = (patience * 2).min(Duration::from_millis(320));
        if patience > Duration::from_millis(300) && !std::mem::replace(&mut is_told, true) {
            println!("Waiting for the disks: somebody looks at them. Ctrl-C goes back.");
        }
    }
}

/// Ctrl-C, as long as [`leave_signals_to_commands`] keeps it from us.
struct Interrupt(SignalFd);

impl Interrupt {
    fn new() -> io::Result<Self> {
        let mut set = SigSet::empty();
        set.add(Signal::SIGINT);
        let interrupt =
            Interrupt(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?);
        // One that ended an earlier command is still there.
        while interrupt.has_come() {}
        Ok(interrupt)
    }

    fn has_come(&self) -> bool {
        matches!(self.0.read_signal(), Ok(Some(_)))
    }

    fn comes_within(&self, patience: Duration) -> bool {
        let patience = Timespec { tv_sec: 0, tv_nsec: patience.subsec_nanos().into() };
        // What is not heard is waited for again.
        let _ = poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&patience));
        self.has_come()
    }
}

fn start(action: &Action, be: &str) -> io::Result<ExitStatus> {
    let (program, arguments) =
        action.words.split_first().ok_or_else(|| io::Error::other("there is no program in it"))?;
    Command::new(if program == "be" { be } else { program }).args(arguments).status()
}

/// Keys that end or stop a command are not for the menu. Blocked and not ignored: the commands
/// start without.
pub fn leave_signals_to_commands() {
    let mut set = SigSet::empty();
    for signal in
        [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTSTP, Signal::SIGTTOU, Signal::SIGTTIN]
    {
        set.add(signal);
    }
    if let Err(why) = sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None) {
        log::warn!("signals cannot be blocked: {why}");
    }
}
