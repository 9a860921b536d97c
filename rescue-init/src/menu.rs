//! The menu: a child on every console.

mod actions;
mod keys;
mod list;
mod plain;
mod state;
mod terminal;
mod text;
mod view;

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use crossterm::event::{self, Event};

use self::keys::Key;
use self::list::Source;
use self::state::{Effect, Menu};
use self::terminal::Screen;
use crate::log as kernel_log;

/// Shows the menu on this terminal.
pub fn run(console: &str, directory: &Path, be: &str) -> ExitCode {
    kernel_log::start("menu");
    std::panic::set_hook(Box::new(|info| log::error!("{info}")));
    terminal::leave_signals_to_commands();
    be_nice(true);
    let mut menu = Menu::new(console);
    let mut source = Source::new(directory.to_owned(), be.to_owned());
    if std::env::var_os(crate::supervisor::SUPERVISED).is_none() {
        source.look(&mut menu);
    }
    let dumb = std::env::var("TERM")
        .map_or(true, |terminal| matches!(terminal.as_str(), "" | "dumb" | "unknown"));
    let result = if dumb {
        plain::run(&mut menu, &mut source)
    } else {
        let result = on_screen(&mut menu, &mut source);
        // The first error is the one to tell.
        let _ = terminal::give_back();
        result
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            log::error!("the terminal {console} cannot be used: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Lets what finds the list go first, until there is one or somebody is here. Where that is not
/// allowed, nothing is lost.
fn be_nice(nice: bool) {
    let _ = rustix::process::setpriority_process(None, if nice { 10 } else { 0 });
}

fn on_screen(menu: &mut Menu, source: &mut Source) -> io::Result<()> {
    let mut screen = Screen::take()?;
    let mut changed = true;
    let mut nice = true;
    loop {
        changed |= source.refresh(menu);
        if nice && menu.listing.is_some() {
            nice = false;
            be_nice(false);
        }
        if changed {
            screen.terminal.draw(|frame| view::draw(frame, menu))?;
        }
        // Until the first list is there somebody waits for it.
        let patience = if menu.listing.is_none() { 30 } else { 250 };
        let was_looking = menu.looking;
        changed = false;
        if event::poll(Duration::from_millis(patience))? {
            changed = true;
            be_nice(false);
            match event::read()? {
                Event::Key(event) => {
                    if let Some(key) = Key::from_event(event) {
                        let effect = menu.handle(key);
                        carry_out(effect, menu, source, &mut screen)?;
                    }
                }
                Event::Resize(..) => screen.forget()?,
                _ => {}
            }
        }
        source.refresh(menu).then(|| changed = true);
        changed |= was_looking != menu.looking;
    }
}

fn carry_out(
    effect: Effect,
    menu: &mut Menu,
    source: &mut Source,
    screen: &mut Screen,
) -> io::Result<()> {
    match effect {
        Effect::None => {}
        Effect::Redraw => screen.forget()?,
        Effect::Rescan => {
            screen.forget()?;
            source.look(menu);
        }
        Effect::Power(power) => match power.request() {
            Ok(()) => menu.tell("the machine goes down"),
            Err(why) => menu.fail(why),
        },
        Effect::Run(action) => {
            let Some((ended, key)) = screen.lend(&action, &source.be, &source.directory)? else {
                menu.tell(format!("`{}` was not run", action.command_line()));
                return Ok(());
            };
            // How a shell ended is known to whoever left it.
            menu.message = None;
            if action.exclusive {
                menu.tell(ended);
            }
            if action.exclusive {
                source.look(menu);
            }
            if key == Key::Character('R') {
                return carry_out(Effect::Power(crate::power::Power::Reboot), menu, source, screen);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::state::Menu;
    use crate::scan::Listing;

    /// What `be list --json` prints of a machine with four BEs.
    pub fn listing() -> Listing {
        serde_json::from_str(include_str!("../fixtures/list.json")).unwrap()
    }

    /// The menu of that machine.
    pub fn menu() -> Menu {
        let mut menu = Menu::new("ttyS0");
        menu.has_network = true;
        menu.update(Ok(listing()));
        menu
    }
}
