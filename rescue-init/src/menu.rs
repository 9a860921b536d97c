//! The menu, which runs as a child on every console.

mod actions;
mod keys;
mod list_source;
mod place;
mod plain;
mod priority;
mod state;
mod terminal;
mod text;
mod view;
mod wrapped_text;

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use crossterm::event::{self, Event};

use self::keys::Key;
use self::list_source::ListSource;
use self::place::Place;
use self::state::{Effect, Menu};
use self::terminal::Screen;
use crate::firmware::Firmware;
use crate::log as kernel_log;

/// Shows the menu on this terminal.
pub fn run(console: &str, directory: &Path, be: &str) -> ExitCode {
    let place = Place::here();
    if place == Place::RescueImage {
        kernel_log::start("menu");
    }
    std::panic::set_hook(Box::new(|info| log::error!("{info}")));
    terminal::leave_signals_to_commands();
    priority::lower(true);
    let mut menu = Menu::new(console, place);
    menu.firmware = Firmware::read(Path::new("/sys"));
    let mut source = ListSource::new(directory.to_owned(), be.to_owned());
    if menu.place != Place::RescueImage {
        source.scan(&mut menu);
    }
    let dumb = std::env::var("TERM")
        .map_or(true, |terminal| matches!(terminal.as_str(), "" | "dumb" | "unknown"));
    let result = if dumb {
        plain::run(&mut menu, &mut source)
    } else {
        let result = on_screen(&mut menu, &mut source);
        // The first error is the one to report.
        let _ = terminal::leave();
        result
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("the terminal {console} cannot be used: {error}");
            ExitCode::FAILURE
        }
    }
}

fn on_screen(menu: &mut Menu, source: &mut ListSource) -> io::Result<()> {
    let mut screen = Screen::enter()?;
    let mut changed = true;
    let mut is_lowered = true;
    loop {
        changed |= source.refresh(menu);
        if is_lowered && menu.listing.is_some() {
            is_lowered = false;
            priority::lower(false);
        }
        if changed {
            screen.terminal.draw(|frame| view::draw(frame, menu))?;
        }
        // The user waits for the first list, so it is shown soon.
        let timeout = if menu.listing.is_none() { 30 } else { 250 };
        let was_scanning = menu.scanning;
        changed = false;
        if event::poll(Duration::from_millis(timeout))? {
            changed = true;
            priority::lower(false);
            match event::read()? {
                Event::Key(event) => {
                    if let Some(key) = Key::from_event(event) {
                        let effect = menu.handle(key);
                        if effect == Effect::Quit {
                            return Ok(());
                        }
                        carry_out(effect, menu, source, &mut screen)?;
                    }
                }
                Event::Resize(..) => screen.redraw()?,
                _ => {}
            }
        }
        source.refresh(menu).then(|| changed = true);
        changed |= was_scanning != menu.scanning;
    }
}

fn carry_out(
    effect: Effect,
    menu: &mut Menu,
    source: &mut ListSource,
    screen: &mut Screen,
) -> io::Result<()> {
    match effect {
        Effect::None | Effect::Quit => {}
        Effect::Redraw => screen.redraw()?,
        Effect::Rescan => {
            screen.redraw()?;
            source.scan(menu);
        }
        Effect::Power(power) => match power.request() {
            Ok(()) => menu.show_message("shutting down"),
            Err(error) => menu.show_failure(error),
        },
        Effect::Run(action) => {
            let Some((report, key)) = screen.run(&action, &source.be, &source.directory)? else {
                menu.show_message(format!("`{}` was not run", action.command_line()));
                return Ok(());
            };
            // The exit status of a shell is of no interest to the user who left it.
            menu.message = None;
            if action.exclusive {
                menu.show_message(report);
                source.scan(menu);
            }
            if key == Key::Character('R') {
                return carry_out(Effect::Power(crate::power::Power::Reboot), menu, source, screen);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
pub mod tests {
    use super::place::Place;
    use super::state::Menu;
    use crate::scan::Listing;

    /// The output of `be list --json` on a machine with four BEs.
    pub fn listing() -> Listing {
        serde_json::from_str(include_str!("../fixtures/list.json")).unwrap()
    }

    /// The menu of that machine.
    pub fn menu() -> Menu {
        menu_on(Place::RescueImage)
    }

    /// The same, shown by an installed system.
    pub fn menu_on(place: Place) -> Menu {
        let has_network = place == Place::RescueImage;
        let mut menu = Menu::new("ttyS0", place);
        menu.has_network = has_network;
        menu.update(Ok(listing()));
        menu
    }
}
