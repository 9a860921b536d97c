//! The menu in lines, for a terminal that cannot place its cursor (`TERM=dumb`). The same state, the same keys:
//! a number chooses, a letter acts, an empty line is Enter.

use std::fmt::Write as _;
use std::io::{self, BufRead, Write};
use std::path::Path;

use super::keys::Key;
use super::list::Source;
use super::state::{Effect, Menu, Outcome, Screen};
use super::{terminal, text, view};

/// Shows the menu until the terminal ends.
///
/// # Errors
/// When the terminal is gone.
pub fn run(menu: &mut Menu, source: &mut Source) -> io::Result<()> {
    let (mut input, mut output) = (io::stdin().lock(), io::stdout());
    source.wait_for_first(menu);
    super::be_nice(false);
    loop {
        source.refresh(menu);
        write!(output, "{}", page(menu))?;
        output.flush()?;
        menu.message = None;
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Ok(());
        }
        for key in keys(menu, line.trim_end_matches(['\r', '\n'])) {
            let effect = menu.handle(key);
            act(menu, source, effect);
        }
    }
}

fn act(menu: &mut Menu, source: &mut Source, effect: Effect) {
    match effect {
        Effect::None | Effect::Redraw => {}
        Effect::Rescan => source.look_and_wait(menu),
        Effect::Power(power) => {
            if let Err(why) = power.request() {
                menu.fail(why);
            }
        }
        Effect::Run(action) => {
            let ended = terminal::run(&action, &source.be, Path::new(&source.folder));
            menu.tell(ended.text);
            if action.exclusive {
                source.look_and_wait(menu);
            }
        }
    }
}

/// What a line means, in keys. In the list a number moves the bar and a letter may follow it (`2 c`).
fn keys(menu: &mut Menu, line: &str) -> Vec<Key> {
    if matches!(menu.screen, Screen::Name(_)) {
        // What is typed replaces what was proposed; an empty line takes the proposal.
        if !line.trim().is_empty()
            && let Screen::Name(input) = &mut menu.screen
        {
            input.text = line.trim().to_owned();
        }
        return vec![Key::Enter];
    }
    if line.trim().is_empty() {
        // In the list an empty line only shows it again: nobody boots by accident.
        return if matches!(menu.screen, Screen::List) { Vec::new() } else { vec![Key::Enter] };
    }
    let mut rest = line.trim();
    if matches!(menu.screen, Screen::List) {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        if let Ok(number @ 1..) = rest[..digits].parse::<usize>() {
            menu.selected = (number - 1).min(menu.environments().len().saturating_sub(1));
        }
        rest = rest[digits..].trim();
    }
    rest.chars().next().map(Key::Character).into_iter().collect()
}

/// What is printed before a line is read.
fn page(menu: &Menu) -> String {
    let mut page = String::new();
    // Writing to a string does not fail.
    let _ = match &menu.screen {
        Screen::List => list(menu, &mut page),
        Screen::Help => writeln!(page, "\nEvery action runs the `be` command that it shows. Enter: back"),
        Screen::Name(input) => {
            let problem = input.problem.as_ref().map(|problem| format!("! {problem}\n")).unwrap_or_default();
            write!(page, "\n{problem}Name of the copy [{}]: ", input.text)
        }
        Screen::Dialog(dialog) => {
            let mut text = format!("\n{} {}\n", dialog.title, dialog.text);
            for (number, choice) in dialog.choices.iter().enumerate() {
                let command = match &choice.outcome {
                    Outcome::Run(action) => format!("   # {}", action.command_line()),
                    _ => String::new(),
                };
                let _ = writeln!(text, "  {}  {}{command}", number + 1, choice.label);
            }
            write!(page, "{text}Number, or q to go back: ")
        }
    };
    page
}

fn list(menu: &Menu, page: &mut String) -> std::fmt::Result {
    writeln!(page, "\nLifeboat rescue image {}\n", env!("CARGO_PKG_VERSION"))?;
    if menu.environments().is_empty() {
        writeln!(page, "No boot environment was found.")?;
    }
    for (number, be) in menu.environments().iter().enumerate() {
        let mark = if number == menu.selected { '>' } else { ' ' };
        let (health, _) = text::health(be);
        writeln!(
            page,
            "{mark}{:>2}  {:<16} {:<5} {:<13} {:<20} {:<10} {:>5}  {health}",
            number + 1,
            be.reference,
            text::next(be),
            text::os(&be.os),
            be.kernel.as_deref().unwrap_or("-"),
            text::created(be),
            text::size(be.used),
        )?;
    }
    if let Some(be) = menu.current() {
        writeln!(page)?;
        for problem in &be.problems {
            writeln!(page, "  ! {problem}")?;
        }
        for (about, what) in text::facts(be, menu.environments()) {
            writeln!(page, "  {about:<9}{what}")?;
        }
    }
    for warning in menu.listing.iter().flat_map(|listing| &listing.warnings) {
        writeln!(page, "  ! {warning}")?;
    }
    if let Some(message) = &menu.message {
        writeln!(page, "\n{}", message.text)?;
    }
    for keys in view::KEYS {
        let words: Vec<_> =
            keys.iter().map(|(key, what)| format!("{} {what}", key.replace("Enter", "b"))).collect();
        write!(page, "\n{}", words.join("  "))?;
    }
    write!(page, "\nNumber, letter or both: ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::menu::tests::menu;

    fn type_line(menu: &mut Menu, line: &str) -> Vec<Effect> {
        keys(menu, line).into_iter().map(|key| menu.handle(key)).collect()
    }

    #[test]
    fn a_number_and_a_letter_act_on_that_boot_environment() {
        let mut menu = menu();
        let effects = type_line(&mut menu, "2 c");
        let Some(Effect::Run(action)) = effects.last() else { panic!("{effects:?}") };
        assert_eq!(action.command_line(), "be check nightly");
    }

    #[test]
    fn a_clone_is_three_lines() {
        let mut menu = menu();
        type_line(&mut menu, "2l");
        type_line(&mut menu, "1");
        assert!(page(&menu).ends_with("Name of the copy [bookworm]: "));
        let effects = type_line(&mut menu, "");
        let Some(Effect::Run(action)) = effects.last() else { panic!("{effects:?}") };
        assert_eq!(action.command_line(), "be create bookworm --from nightly --replace bookworm");
    }

    #[test]
    fn an_empty_line_boots_nothing() {
        let mut menu = menu();
        assert!(type_line(&mut menu, "").is_empty());
        assert_eq!(menu.screen, Screen::List);
    }

    #[test]
    fn the_page_has_every_boot_environment_and_all_keys() {
        let page = page(&menu());
        for text in [
            "> 1  bookworm",
            "  4  @/dev/sdb1",
            "! /boot/initrd.img-6.1.0-50-amd64",
            "R restart",
            "trial failed",
        ] {
            assert!(page.contains(text), "{text} is not in {page}");
        }
    }
}
