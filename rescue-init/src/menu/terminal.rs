//! The terminal, which the menu and its commands use in turn.

use std::fs::File;
use std::io::{self, Stdout, Write, stdout};
use std::path::Path;
use std::process::ExitStatus;
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
use crate::child::command;
use crate::scan::Claim;
use crate::unattended::report;

/// The terminal while the menu uses it.
pub struct Screen {
    /// What the menu is drawn on.
    pub terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    /// Sets up the terminal for the menu.
    ///
    /// # Errors
    /// When standard input or output is not a terminal.
    pub fn enter() -> io::Result<Self> {
        enable_raw_mode()?;
        execute!(stdout(), EnterAlternateScreen, Hide, Clear(ClearType::All))?;
        // With a fixed size, ratatui never queries the cursor position, as it would on a resize and
        // in `Terminal::clear`: on a serial line there may be no terminal that answers.
        let (width, height) = crossterm::terminal::size()?;
        let viewport = Viewport::Fixed(Rect::new(0, 0, width.max(1), height.max(1)));
        let backend = CrosstermBackend::new(stdout());
        Ok(Screen { terminal: Terminal::with_options(backend, TerminalOptions { viewport })? })
    }

    /// Clears the terminal, so that everything is drawn again.
    ///
    /// # Errors
    /// When the terminal no longer exists.
    pub fn redraw(&mut self) -> io::Result<()> {
        *self = Self::enter()?;
        Ok(())
    }

    /// Runs a command on the terminal, and returns to the menu when the user has read the output.
    /// Returns the command's report and the key that was pressed, or `None` if it was not run.
    ///
    /// # Errors
    /// When the terminal no longer exists.
    pub fn run(
        &mut self,
        action: &Action,
        be: &str,
        directory: &Path,
    ) -> io::Result<Option<(String, Key)>> {
        leave()?;
        let Some(result) = run(action, be, directory) else {
            self.redraw()?;
            return Ok(None);
        };
        println!("\n{}", printable(&result.report));
        let key = if action.exclusive || !result.success {
            self.wait_for_key(action, &result)?
        } else {
            Key::Enter
        };
        self.redraw()?;
        Ok(Some((result.report, key)))
    }

    fn wait_for_key(&self, action: &Action, result: &CommandResult) -> io::Result<Key> {
        let offers_reboot = action.offers_reboot && result.success;
        let reboot = if offers_reboot { ", R to restart the machine now" } else { "" };
        enable_raw_mode()?;
        // Keys that were pressed while the command ran are not answers to this question.
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

/// Restores the terminal's modes and clears it.
///
/// # Errors
/// When the terminal no longer exists.
pub fn leave() -> io::Result<()> {
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

/// The result of a command.
pub struct CommandResult {
    /// A line that reports the exit status.
    pub report: String,
    /// Whether the exit status was 0.
    pub success: bool,
}

/// Prints a command and runs it on this terminal. Returns `None` if the user did not wait for the
/// disks.
pub fn run(action: &Action, be: &str, directory: &Path) -> Option<CommandResult> {
    let line = action.command_line();
    println!("# {}\n", printable(&line));
    if !action.greeting.is_empty() {
        println!("{}\n", action.greeting.join("\n"));
    }
    // A running scan is abandoned first.
    let held = action.exclusive.then(|| claim_disks(directory));
    match &held {
        Some(Ok(None)) => return None,
        Some(Err(error)) => {
            log::warn!(
                "{}: a scan may run at the same time as `{line}`: {error}",
                directory.display()
            );
        }
        Some(Ok(Some(_))) | None => {}
    }
    log::info!("running {line}");
    let before = tcgetattr(stdin()).ok();
    let result = start(action, be);
    // A shell that was killed leaves the terminal in any mode, with a process group that no longer
    // exists.
    let _ = tcsetpgrp(stdin(), getpgrp());
    if let Some(before) = before {
        let _ = tcsetattr(stdin(), OptionalActions::Drain, &before);
    }
    let result = match result {
        Ok(status) => CommandResult { report: report(&line, status), success: status.success() },
        Err(error) => {
            let report = format!("\"{line}\" cannot be started: {error}");
            CommandResult { report, success: false }
        }
    };
    log::info!("{}", result.report);
    Some(result)
}

/// Waits until no scan is running. Returns `None` if the user pressed Ctrl-C before that.
fn claim_disks(directory: &Path) -> io::Result<Option<File>> {
    let claim = Claim::new(directory)?;
    let interrupt = Interrupt::new()?;
    let mut timeout = Duration::from_millis(20);
    let mut is_announced = false;
    loop {
        if let Some(held) = claim.attempt()? {
            return Ok(Some(held));
        }
        if interrupt.arrives_within(timeout) {
            return Ok(None);
        }
        timeout = (timeout * 2).min(Duration::from_millis(320));
        if timeout > Duration::from_millis(300) && !std::mem::replace(&mut is_announced, true) {
            println!("Waiting for a scan of the disks to end. Press Ctrl-C to go back.");
        }
    }
}

/// Receives Ctrl-C, which [`leave_signals_to_commands`] blocks.
struct Interrupt(SignalFd);

impl Interrupt {
    fn new() -> io::Result<Self> {
        let mut set = SigSet::empty();
        set.add(Signal::SIGINT);
        let interrupt =
            Interrupt(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?);
        // Discard a signal that ended an earlier command.
        while interrupt.has_arrived() {}
        Ok(interrupt)
    }

    fn has_arrived(&self) -> bool {
        matches!(self.0.read_signal(), Ok(Some(_)))
    }

    fn arrives_within(&self, timeout: Duration) -> bool {
        let timeout = Timespec { tv_sec: 0, tv_nsec: timeout.subsec_nanos().into() };
        // If poll fails, the caller waits again.
        let _ = poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&timeout));
        self.has_arrived()
    }
}

fn start(action: &Action, be: &str) -> io::Result<ExitStatus> {
    let (program, arguments) =
        action.words.split_first().ok_or_else(|| io::Error::other("the command is empty"))?;
    command(if program == "be" { be } else { program }).args(arguments).status()
}

/// Makes the keys that end or stop a command have no effect on the menu. The signals are blocked
/// rather than ignored: what starts a command unblocks them there ([`command`]), and Ctrl-C can be
/// read while the menu waits.
pub fn leave_signals_to_commands() {
    let mut set = SigSet::empty();
    for signal in
        [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTSTP, Signal::SIGTTOU, Signal::SIGTTIN]
    {
        set.add(signal);
    }
    if let Err(error) = sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None) {
        log::warn!("signals cannot be blocked: {error}");
    }
}
