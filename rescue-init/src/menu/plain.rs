//! The menu as plain lines, for a terminal that cannot position its cursor (`TERM=dumb`). It has
//! the same state and keys as on a screen: a number selects, a letter acts, an empty line is Enter.

use std::io::{self, BufRead, Write};
use std::path::Path;

use be_tools::escape::printable;

use super::keys::Key;
use super::list_source::ListSource;
use super::state::{Effect, Menu, Outcome, Overlay};
use super::text::Detail;
use super::{priority, terminal, text, view};

/// Shows the menu until the input ends.
///
/// # Errors
/// When the terminal no longer exists.
pub fn run(menu: &mut Menu, source: &mut ListSource) -> io::Result<()> {
    let (mut input, mut output) = (io::stdin().lock(), io::stdout());
    source.wait_for_first_list(menu);
    priority::lower(false);
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
            if effect == Effect::Quit {
                return Ok(());
            }
            act(menu, source, effect);
        }
    }
}

fn act(menu: &mut Menu, source: &mut ListSource, effect: Effect) {
    match effect {
        Effect::None | Effect::Redraw | Effect::Quit => {}
        Effect::Rescan => source.scan_and_wait(menu),
        Effect::Power(power) => {
            if let Err(error) = power.request() {
                menu.show_failure(error);
            }
        }
        Effect::Run(action) => {
            let Some(result) = terminal::run(&action, &source.be, Path::new(&source.directory))
            else {
                return menu.show_message(format!("`{}` was not run", action.command_line()));
            };
            menu.show_message(result.report);
            if action.exclusive {
                source.scan_and_wait(menu);
            }
        }
    }
}

/// Translates a line into keys. In the list, a number selects a BE and may be followed by a letter,
/// as in `2 c`.
fn keys(menu: &mut Menu, line: &str) -> Vec<Key> {
    if matches!(menu.overlay, Overlay::Name(_)) {
        // The typed name replaces the proposed one. An empty line accepts the proposal.
        if !line.trim().is_empty()
            && let Overlay::Name(input) = &mut menu.overlay
        {
            input.text = line.trim().to_owned();
        }
        return vec![Key::Enter];
    }
    if line.trim().is_empty() {
        // In the list, an empty line only shows the list again, so that nothing boots by accident.
        return if matches!(menu.overlay, Overlay::None) { Vec::new() } else { vec![Key::Enter] };
    }
    let mut rest = line.trim();
    if matches!(menu.overlay, Overlay::None) {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        if let Ok(number @ 1..) = rest[..digits].parse::<usize>() {
            menu.selected = (number - 1).min(menu.environments().len().saturating_sub(1));
        }
        rest = rest[digits..].trim();
    }
    rest.chars().next().map(Key::Character).into_iter().collect()
}

/// The text that is printed before a line is read. Its last line is the prompt.
fn page(menu: &Menu) -> String {
    let lines = match &menu.overlay {
        Overlay::None => list(menu),
        Overlay::Help => {
            let keys = view::help(menu).map(|help| format!("{:<13}{}", help.key, help.effect));
            let end = "Every action runs the `be` command that it shows. Press Enter to go back.";
            let mut lines = vec![String::new()];
            lines.extend(keys.chain([end.into(), String::new()]));
            lines
        }
        Overlay::Messages(_) => {
            let mut lines = vec![String::new()];
            lines.extend(menu.messages().iter().map(|message| format!("! {message}")));
            lines.push("Press Enter to go back: ".into());
            lines
        }
        Overlay::Name(input) => {
            let problem = input.problem.as_ref().map(|problem| format!("! {problem}"));
            let question = format!("Name of the copy [{}]: ", input.text);
            std::iter::once(String::new()).chain(problem).chain([question]).collect()
        }
        Overlay::Dialog(dialog) => {
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
    let title = format!("{} {}", menu.place.title(), env!("CARGO_PKG_VERSION"));
    let mut lines = vec![String::new(), title, String::new()];
    if menu.environments().is_empty() {
        lines.push("No boot environment was found.".into());
    }
    for (number, be) in menu.environments().iter().enumerate() {
        let mark = if number == menu.selected { '>' } else { ' ' };
        let health = text::health(be).text;
        lines.push(format!(
            "{mark}{:>2} {:<12} {:<5} {:<12} {:<14} {:<10} {:>5} {health}",
            number + 1,
            be.reference,
            text::next(be),
            be.os.short(),
            be.kernel.as_deref().unwrap_or("-"),
            text::created(be),
            text::size(be.used),
        ));
    }
    if let Some(be) = menu.current() {
        lines.push(String::new());
        let line = |detail| match detail {
            Detail::Fact(fact) => format!("  {:<9}{}", fact.label, fact.value),
            Detail::Problem(problem) => format!("  ! {problem}"),
        };
        lines.extend(text::details(be, menu.environments()).into_iter().map(line));
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
            .map(|help| format!("{} {}", help.key.replace("Enter", "b"), help.effect))
            .collect();
        lines.push(words.join("  "));
    }
    lines.push("Number, letter, or both: ".into());
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
    fn a_clone_takes_three_lines_of_input() {
        let mut menu = menu();
        type_line(&mut menu, "2l");
        type_line(&mut menu, "1");
        assert!(page(&menu).ends_with("Name of the copy [bookworm]: "));
        let effects = type_line(&mut menu, "");
        let Some(Effect::Run(action)) = effects.last() else { panic!("{effects:?}") };
        assert_eq!(action.command_line(), "be create bookworm --from nightly --replace bookworm");
    }

    #[test]
    fn the_list_fits_80_columns_and_help_names_every_key() {
        let mut menu = menu();
        let rows = page(&menu);
        let wide = rows.lines().filter(|line| line.contains("Debian 1") && line.len() > 80);
        assert_eq!(wide.count(), 0, "{rows}");
        type_line(&mut menu, "h");
        for text in ["clone it over another", "restart or power off"] {
            assert!(page(&menu).contains(text), "{}", page(&menu));
        }
    }

    #[test]
    fn an_empty_line_boots_nothing() {
        let mut menu = menu();
        assert!(type_line(&mut menu, "").is_empty());
        assert_eq!(menu.overlay, Overlay::None);
    }

    #[test]
    fn the_page_shows_every_boot_environment_and_all_keys() {
        let page = page(&menu());
        for text in [
            "> 1 bookworm",
            "  4 @/dev/sdb1",
            "! /boot/initrd.img-6.1.0-50-amd64",
            "R restart",
            "trial failed",
        ] {
            assert!(page.contains(text), "{text} is not in {page}");
        }
    }

    #[test]
    fn text_from_a_foreign_disk_cannot_forge_lines_or_control_the_terminal() {
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
