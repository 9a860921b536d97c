//! The manual's pages on every verb, made from the same definitions as `--help`.
//!
//! They are committed (`docs/manual/src/verbs`), so that the book can be read in the repository.
//! Only this test makes them, so that the program does not contain what it never uses. `make
//! manual` writes them. Without `LIFEBOAT_MANUAL=write` the test names those that are out of date.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use clap::builder::PossibleValue;
use clap::{Arg, Command, CommandFactory};

use super::Cli;

/// The book's directory in the repository.
const BOOK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/manual/src");
/// The longest line of a Markdown file.
const WIDTH: usize = 100;
/// The options of every verb. They are described once, on the first page.
const EVERYWHERE: [&str; 3] = ["quiet", "verbose", "help"];
const INTRODUCTION: &str = "Made from the definitions behind `be --help`. Each verb also takes \
    `-q`, `--quiet` (print only errors and the output that was asked for), `-v`, `--verbose` \
    (print which programs are run, and why) and `-h`, `--help`.";

/// The pages by their file names.
fn pages() -> BTreeMap<String, String> {
    let mut command = Cli::command();
    command.build();
    let about = paragraph("", &escaped(&about(&command)));
    let introduction = paragraph("", INTRODUCTION);
    let mut first = format!("# Every verb\n\n{about}\n{introduction}\n");
    first += "| verb | what it does |\n| --- | --- |\n";
    let exit_status = after_help(&command);
    let mut pages = BTreeMap::new();
    for verb in verbs(&mut command) {
        let name = verb.get_name().to_owned();
        first += &format!("| [`{name}`]({name}.md) | {} |\n", escaped(&self::about(verb)));
        pages.insert(format!("{name}.md"), page(verb, "#"));
    }
    pages.insert("index.md".into(), first + &exit_status);
    pages
}

fn verbs(command: &mut Command) -> impl Iterator<Item = &mut Command> {
    command.get_subcommands_mut().filter(|verb| verb.get_name() != "help" && !verb.is_hide_set())
}

fn about(command: &Command) -> String {
    command.get_about().map(ToString::to_string).unwrap_or_default()
}

/// The page of a verb: its arguments, and its own verbs with a heading of the next lower level.
fn page(command: &mut Command, heading: &str) -> String {
    let usage = command.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").lines().map(str::trim);
    let name = command.get_bin_name().unwrap_or_default();
    let mut text = format!("{heading} {name}\n\n{}\n", paragraph("", &escaped(&about(command))));
    text += &format!("```\n{}\n```\n", usage.collect::<Vec<_>>().join("\n"));
    let wanted = |arg: &&Arg| !arg.is_hide_set() && !EVERYWHERE.contains(&arg.get_id().as_str());
    let (positional, options): (Vec<&Arg>, Vec<&Arg>) =
        command.get_arguments().filter(wanted).partition(|arg| arg.is_positional());
    let list: String = positional.iter().chain(&options).map(|arg| argument(arg)).collect();
    if !list.is_empty() {
        text += &format!("\n{list}");
    }
    text += &after_help(command);
    for verb in verbs(command) {
        text += "\n";
        text += &page(verb, &format!("{heading}#"));
    }
    text
}

fn argument(arg: &Arg) -> String {
    let short = arg.get_short().filter(|_| arg.get_long().is_some());
    let short = short.map(|short| format!("`-{short}`, ")).unwrap_or_default();
    let help = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
    // The possible values of a flag are true and false.
    let values = if arg.get_action().takes_values() { arg.get_possible_values() } else { vec![] };
    let explained = values.iter().any(|value| value.get_help().is_some());
    let names: Vec<&str> = values.iter().map(PossibleValue::get_name).collect();
    let names = match names[..] {
        [_, ..] if !explained => format!(" ({})", names.join(", ")),
        _ => String::new(),
    };
    let mut item = paragraph("- ", &format!("{short}`{arg}`: {}{names}", escaped(&help)));
    for value in values.iter().filter(|_| explained) {
        let help = value.get_help().map(ToString::to_string).unwrap_or_default();
        item += &paragraph("  - ", &format!("`{}`: {}", value.get_name(), escaped(&help)));
    }
    item
}

/// The text below the options: paragraphs, and examples as they would be typed.
fn after_help(command: &Command) -> String {
    let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let block = |block: &str| match block.strip_prefix("Examples:\n") {
        Some(examples) => {
            let lines: Vec<&str> = examples.lines().map(str::trim).collect();
            format!("\nExamples:\n\n```\n{}\n```\n", lines.join("\n"))
        }
        None => format!("\n{}", paragraph("", &escaped(block))),
    };
    text.split("\n\n").filter(|text| !text.trim().is_empty()).map(block).collect()
}

/// Escapes a text for Markdown. What is between backticks needs no escaping.
fn escaped(text: &str) -> String {
    let mut is_code = false;
    let mut escaped = String::new();
    for c in text.chars() {
        is_code ^= c == '`';
        if !is_code && matches!(c, '*' | '_' | '<' | '[' | '|') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// Wraps a text. `first` begins the first line, and the other lines are indented by its length.
fn paragraph(first: &str, text: &str) -> String {
    let mut lines = vec![first.to_owned()];
    for word in text.split_whitespace() {
        let last = lines.last().map_or(0, |line| line.chars().count());
        if last > first.len() && last + 1 + word.chars().count() > WIDTH {
            lines.push(" ".repeat(first.len()));
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(if line.len() > first.len() { " " } else { "" });
            line.push_str(word);
        }
    }
    lines.join("\n") + "\n"
}

#[test]
fn the_pages_of_the_manual_are_up_to_date() {
    let directory = Path::new(BOOK).join("verbs");
    let pages = pages();
    if std::env::var_os("LIFEBOAT_MANUAL").is_some_and(|wish| wish == "write") {
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).unwrap();
        for (name, text) in &pages {
            std::fs::write(directory.join(name), text).unwrap();
        }
    }
    let files = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
    let committed: BTreeMap<String, String> = files
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(&path).unwrap())
        })
        .collect();
    let all: BTreeSet<&String> = pages.keys().chain(committed.keys()).collect();
    let differs = |name: &&&String| pages.get(**name) != committed.get(**name);
    let stale: Vec<_> = all.iter().filter(differs).collect();
    assert!(stale.is_empty(), "out of date, write them by `make manual`: {stale:?}");
    let summary = std::fs::read_to_string(Path::new(BOOK).join("SUMMARY.md")).unwrap();
    for name in pages.keys() {
        assert!(summary.contains(&format!("(verbs/{name})")), "{name} is not in SUMMARY.md");
    }
}

#[test]
fn text_is_wrapped_and_escaped() {
    assert_eq!(escaped("a * b `c * d` <e>"), r"a \* b `c * d` \<e>");
    let text = paragraph("- ", &"word ".repeat(25));
    assert_eq!(text.lines().count(), 2);
    assert!(text.starts_with("- word word") && text.contains("\n  word"), "{text}");
    assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
}
