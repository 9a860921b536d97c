//! The menu in lines, for a terminal that cannot place its cursor (`TERM=dumb`). The same state,
//! the same keys: a number chooses, a letter acts, an empty line is Enter.

use std::io::{self, BufRead, Write};
use std::path::Path;

use be_tools::escape::printable;

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
            let Some(ended) = terminal::run(&action, &source.be, Path::new(&source.directory))
            else {
                return menu.tell(format!("`{}` was not run", action.command_line()));
            };
            menu.tell(ended.text);
            if action.exclusive {
                source.look_and_wait(menu);
            }
        }
    }
}

/// What a line means, in keys. In the list a number moves the bar and a letter may follow it (`2
/// c`).
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

/// What is printed before a line is read. The last line is the question.
fn page(menu: &Menu) -> String {
    let lines = match &menu.screen {
        Screen::List => list(menu),
        Screen::Help => {
            vec![
                String::new(),
                "Every action runs the `be` command that it shows. Enter: back".into(),
                String::new(),
            ]
        }
        Screen::Name(input) => {
            let problem = input.problem.as_ref().map(|problem| format!("! {problem}"));
            let question = format!("Name of the copy [{}]: ", input.text);
            std::iter::once(String::new()).chain(problem).chain([question]).collect()
        }
        Screen::Dialog(dialog) => {
            let mut lines = vec![String::new(), format!("{} {}", dialog.title, dialog.text)];
            for (number, choice) in dialog.choices.iter().enumerate() {
                let command = match &choice.outcome {
                    Outcome::Run(action) => format!("   # {}", action.command_line()),
                    _ => String::new(),
                };
                lines.push(format!("  {}  {}{command}", number + 1, choice.label));
            }
            lines.push("Number, or q to go back: ".into());
            lines
        }
    };
    lines.iter().map(|line| printable(line)).collect::<Vec<_>>().join("\n")
}

fn list(menu: &Menu) -> Vec<String> {
    let title = format!("Lifeboat rescue image {}", env!("CARGO_PKG_VERSION"));
    let mut lines = vec![String::new(), title, String::new()];
    if menu.environments().is_empty() {
        lines.push("No boot environment was found.".into());
    }
    for (number, be) in menu.environments().iter().enumerate() {
        let mark = if number == menu.selected { '>' } else { ' ' };
        let (health, _) = text::health(be);
        lines.push(format!(
            "{mark}{:>2}  {:<16} {:<5} {:<13} {:<20} {:<10} {:>5}  {health}",
            number + 1,
            be.reference,
            text::next(be),
            text::os(&be.os),
            be.kernel.as_deref().unwrap_or("-"),
            text::created(be),
            text::size(be.used),
        ));
    }
    if let Some(be) = menu.current() {
        lines.push(String::new());
        lines.extend(be.problems.iter().map(|problem| format!("  ! {problem}")));
        let facts = text::facts(be, menu.environments());
        lines.extend(facts.into_iter().map(|(about, what)| format!("  {about:<9}{what}")));
    }
    let warnings = menu.listing.iter().flat_map(|listing| &listing.warnings);
    lines.extend(warnings.map(|warning| format!("  ! {warning}")));
    if let Some(message) = &menu.message {
        lines.extend([String::new(), message.text.clone()]);
    }
    lines.push(String::new());
    for keys in view::footer(menu) {
        let words: Vec<_> = keys
            .iter()
            .map(|(key, what)| format!("{} {what}", key.replace("Enter", "b")))
            .collect();
        lines.push(words.join("  "));
    }
    lines.push("Number, letter or both: ".into());
    lines
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
    #[test]
    fn a_foreign_disk_forges_no_line_and_steers_no_terminal() {
        let mut menu = menu();
        let usual = page(&menu).lines().count();
        let listing = menu.listing.as_mut().unwrap();
        listing.environments[0].kernel = Some("6.1\n> 9  forged".into());
        listing.environments[0].os.pretty_name = "\x1b[2J".into();
        let page = page(&menu);
        assert_eq!(page.lines().count(), usual);
        assert!(page.contains(r"6.1\n> 9  forged") && !page.contains('\x1b'), "{page}");
    }
}
