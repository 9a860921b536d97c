//! The terminal: given to the menu, given over to a command, and taken back.

use std::io::{self, Stdout, Write, stdout};
use std::path::Path;
use std::process::{Command, ExitStatus};

use be_tools::cli::printable;
use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{self, Event};
use crossterm::execute;
use crossterm::style::{Attribute, ResetColor, SetAttribute};
use crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use ratatui::backend::CrosstermBackend;
use ratatui::layout::Rect;
use ratatui::{Terminal, TerminalOptions, Viewport};
use rustix::process::getpgrp;
use rustix::stdio::stdin;
use rustix::termios::{OptionalActions, QueueSelector, tcflush, tcgetattr, tcsetattr, tcsetpgrp};

use super::actions::Action;
use super::keys::Key;
use crate::scan;
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
        // One of a fixed size never asks the terminal for its cursor's position, as a change of size and
        // `Terminal::clear` otherwise do: a serial line may have nobody who answers.
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

    /// Lends the terminal to a command, and takes it back when somebody has read what it said. Returns how it
    /// ended and the key that was pressed then.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn lend(&mut self, action: &Action, be: &str, folder: &Path) -> io::Result<(String, Key)> {
        give_back()?;
        let ended = run(action, be, folder);
        println!("\n{}", printable(&ended.text));
        let key =
            if action.exclusive || !ended.success { self.wait_for_key(action, &ended)? } else { Key::Enter };
        self.forget()?;
        Ok((ended.text, key))
    }

    fn wait_for_key(&self, action: &Action, ended: &Ended) -> io::Result<Key> {
        let offers_reboot = action.then_reboot && ended.success;
        let reboot = if offers_reboot { ", R to restart the machine now" } else { "" };
        print!("Press Enter to return to the menu{reboot}: ");
        stdout().flush()?;
        enable_raw_mode()?;
        // What was typed while the command ran was not meant for this question.
        tcflush(stdin(), QueueSelector::IFlush)?;
        loop {
            let Event::Key(event) = event::read()? else { continue };
            match Key::from_event(event) {
                Some(Key::Character('R')) if offers_reboot => return Ok(Key::Character('R')),
                Some(Key::Enter | Key::Escape | Key::Character(' ' | 'q')) => return Ok(Key::Enter),
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

/// Prints a command and runs it on this terminal.
pub fn run(action: &Action, be: &str, folder: &Path) -> Ended {
    let line = action.command_line();
    println!("# {}\n", printable(&line));
    log::info!("running {line}");
    // Whoever looks at the disks now ends first.
    let held = action.exclusive.then(|| scan::hold_off(folder));
    if let Some(Err(why)) = &held {
        log::warn!("{}: the disks may be looked at while `{line}` runs: {why}", folder.display());
    }
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
    ended
}

fn start(action: &Action, be: &str) -> io::Result<ExitStatus> {
    let (program, arguments) =
        action.words.split_first().ok_or_else(|| io::Error::other("there is no program in it"))?;
    Command::new(if program == "be" { be } else { program }).args(arguments).status()
}

/// Keys that end or stop a command are not for the menu. Blocked and not ignored: the commands start without.
pub fn leave_signals_to_commands() {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTSTP, Signal::SIGTTOU, Signal::SIGTTIN] {
        set.add(signal);
    }
    if let Err(why) = sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None) {
        log::warn!("signals cannot be blocked: {why}");
    }
}
