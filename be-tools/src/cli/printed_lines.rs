//! Every command line of `be` that a document, a help text or an error prints is one that `be`
//! takes, as it is printed. Only the definitions judge: nothing is run.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{Command, CommandFactory, Parser};

use super::Cli;

const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// What a command line follows where it is printed: a prompt, a substitution, a path, the quote of
/// `lifeboat.run="be …"`.
const BEFORE: [&str; 5] = ["# ", "$(", "/usr/lib/lifeboat/", "sudo ", "\""];

/// The documents in which command lines are printed. The changelog is not one: it speaks of what
/// was.
fn documents() -> Vec<PathBuf> {
    let root = Path::new(REPOSITORY);
    let mut all: Vec<PathBuf> =
        ["README.md", "CONTRIBUTING.md", "SECURITY.md"].map(|name| root.join(name)).into();
    for directory in ["docs", "docs/manual/src", "docs/manual/src/verbs"] {
        let entries = std::fs::read_dir(root.join(directory)).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        // The names of tools in the benchmark's tables are no command lines.
        let is_read = |path: &PathBuf| {
            path.extension().is_some_and(|end| end == "md") && !path.ends_with("PERFORMANCE.md")
        };
        all.extend(paths.filter(is_read));
    }
    all
}

/// The code of a Markdown text: the lines of its blocks, and what is between backticks.
fn code(markdown: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut prose = String::new();
    let mut is_block = false;
    for line in markdown.replace("\\\n", " ").lines() {
        if line.trim_start().starts_with("```") {
            is_block = !is_block;
        } else if is_block {
            found.push(line.to_owned());
        } else {
            prose.push_str(line.trim());
            // A span may be wrapped.
            prose.push(if line.trim().is_empty() { '\n' } else { ' ' });
        }
    }
    for paragraph in prose.lines() {
        found.extend(paragraph.split('`').skip(1).step_by(2).map(str::to_owned));
    }
    found
}

/// The command lines of `be` in a piece of code, without the name of the program.
fn command_lines(code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("be ") {
        let before = &code[..at];
        let is_quoted = before.ends_with('"');
        if !before.trim().is_empty() && !BEFORE.iter().any(|start| before.ends_with(start)) {
            continue;
        }
        let rest = &code[at + "be ".len()..];
        let rest = if is_quoted { rest.split('"').next().unwrap_or(rest) } else { rest };
        // A synopsis is not a command line.
        if !["[OPTIONS]", "<BE>", "…"].iter().any(|mark| rest.contains(mark)) {
            found.push(words(rest));
        }
    }
    found
}

/// The words of a shell, up to the end of the command.
fn words(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    let (mut word, mut is_word, mut quote, mut depth) = (String::new(), false, None, 0);
    let mut before = ' ';
    for c in text.chars() {
        match (c, quote) {
            ('(', _) if before == '$' => {
                depth += 1;
                word.push(c);
            }
            (')', _) if depth > 0 => {
                depth -= 1;
                word.push(c);
            }
            (c, Some(open)) if c == open && depth == 0 => quote = None,
            (c, Some(_)) => word.push(c),
            (c, None) if depth > 0 => word.push(c),
            ('"' | '\'', None) => (quote, is_word) = (Some(c), true),
            ('|' | '>' | ';' | '&' | ')' | '\n', None) => break,
            ('#', None) if !is_word => break,
            (' ', None) => {
                all.extend(std::mem::take(&mut is_word).then(|| std::mem::take(&mut word)));
            }
            (c, None) => {
                word.push(c);
                is_word = true;
            }
        }
        before = c;
    }
    all.extend(is_word.then_some(word));
    all
}

/// Why `be` does not take these words; `None` if it does, or if they only name a verb.
fn wrong(words: &[String]) -> Option<String> {
    let why = match Cli::try_parse_from(std::iter::once("be").chain(words.iter().map(|w| &**w))) {
        Ok(_) => return None,
        Err(why) => why,
    };
    let is_named = || {
        let mut here = Cli::command();
        words.iter().all(|word| match here.find_subcommand(word).cloned() {
            Some(verb) => {
                here = verb;
                true
            }
            None => false,
        })
    };
    match why.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => None,
        ErrorKind::MissingRequiredArgument if is_named() => None,
        ErrorKind::MissingRequiredArgument | ErrorKind::InvalidValue if is_option_named(words) => {
            None
        }
        _ if words == ["VERB"] => None,
        _ => Some(format!("be {}: {why}", words.join(" "))),
    }
}

/// Whether the words only name an option of a verb: `be mount --suid`.
fn is_option_named(words: &[String]) -> bool {
    matches!(words, [_, options @ ..] if options.iter().all(|word| word.starts_with("--")))
}

fn judge(place: &str, codes: impl IntoIterator<Item = String>) -> (usize, Vec<String>) {
    let lines: Vec<_> = codes.into_iter().flat_map(|code| command_lines(&code)).collect();
    let faults = lines.iter().filter_map(|words| wrong(words));
    (lines.len(), faults.map(|fault| format!("{place}: {fault}")).collect())
}

#[test]
fn every_command_line_of_the_documents_is_understood() {
    let (mut count, mut faults) = (0, Vec::new());
    for path in documents() {
        let text = std::fs::read_to_string(&path).unwrap();
        let (lines, wrong) = judge(&path.display().to_string(), code(&text));
        count += lines;
        faults.extend(wrong);
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(count > 100, "{count}");
}

#[test]
fn every_command_line_of_the_help_is_understood() {
    fn collect(command: &mut Command, into: &mut Vec<String>) {
        into.extend(command.render_long_help().to_string().lines().map(str::to_owned));
        command.get_subcommands_mut().for_each(|verb| collect(verb, into));
    }
    let mut lines = Vec::new();
    let mut command = Cli::command();
    command.build();
    collect(&mut command, &mut lines);
    let (count, faults) = judge("help", lines);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(count >= 6, "{count}");
}

#[test]
fn every_command_line_of_the_manual_pages_is_understood() {
    fn collect(command: &Command, into: &mut Vec<String>) {
        let mut page = Vec::new();
        clap_mangen::Man::new(command.clone()).render(&mut page).unwrap();
        let page = String::from_utf8(page).unwrap();
        let page = page.replace("\\-", "-").replace("\\&", "").replace("\\*(Aq", "'");
        // A macro of roff, and the line of the section NAME.
        let is_text = |line: &&str| !line.starts_with('.') && !line.starts_with("be - ");
        into.extend(page.lines().filter(is_text).map(str::to_owned));
        command.get_subcommands().for_each(|verb| collect(verb, into));
    }
    let mut lines = Vec::new();
    let mut command = Cli::command();
    command.build();
    collect(&command, &mut lines);
    let (count, faults) = judge("manual page", lines);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(count >= 6, "{count}");
}

#[test]
fn every_command_line_of_a_message_is_understood() {
    let (mut count, mut faults) = (0, Vec::new());
    let mut directories = vec![Path::new(REPOSITORY).join("be-tools/src")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                directories.push(entry);
            } else if entry.extension().is_some_and(|end| end == "rs") {
                let text = std::fs::read_to_string(&entry).unwrap();
                let (lines, wrong) = judge(&entry.display().to_string(), spans(&text));
                count += lines;
                faults.extend(wrong);
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(count > 30, "{count}");
}

/// What is between backticks in the strings and comments of a source file. A name that the program
/// puts in is one that can be a BE's, and the number of a boot entry.
fn spans(source: &str) -> Vec<String> {
    let mut text = String::new();
    let mut is_continued = false;
    for line in source.lines() {
        let line = if is_continued { line.trim_start() } else { line };
        let comment = line.trim_start().trim_start_matches("///").trim_start_matches("//");
        let line = comment.trim_start_matches('!');
        is_continued = line.ends_with('\\');
        text.push_str(line.trim_end_matches('\\'));
        text.push(if is_continued { ' ' } else { '\n' });
    }
    let mut plain = String::new();
    let mut depth = 0;
    for c in text.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => {
                depth -= 1;
                if depth == 0 {
                    plain.push_str("0001");
                }
            }
            // A block of code, and not a name in a string.
            '\n' => {
                depth = 0;
                plain.push(c);
            }
            c if depth == 0 => plain.push(c),
            _ => {}
        }
    }
    let of_line = |line: &str| -> Vec<String> {
        line.split('`').skip(1).step_by(2).map(|span| format!(" {span}")).collect()
    };
    plain.lines().flat_map(of_line).filter(|span| span.starts_with(" be ")).collect()
}

/// Whether one of these commands has an option of this name.
fn has_option(command: &Command, name: &str) -> bool {
    command.get_arguments().any(|arg| arg.get_long() == Some(name))
        || command.get_subcommands().any(|verb| has_option(verb, name))
}

/// Whether a verb takes these options, with as many names as it needs.
fn is_taken(options: &[String]) -> bool {
    if let [option] = options
        && let Some(name) = option.strip_prefix("--")
    {
        return name == "help" || has_option(&Cli::command(), name);
    }
    let verbs: Vec<String> =
        Cli::command().get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    verbs.into_iter().any(|verb| {
        [&[][..], &["x"], &["x", "x"]].into_iter().any(|names| {
            let words = ["be", &verb].into_iter().chain(names.iter().copied());
            Cli::try_parse_from(words.chain(options.iter().map(String::as_str))).is_ok()
        })
    })
}

#[test]
fn the_options_that_the_manual_names_are_options() {
    let manual = Path::new(REPOSITORY).join("docs/manual/src");
    let mut count = 0;
    // The options in solaris.md are those of other commands.
    let is_read = |path: &&PathBuf| path.parent() == Some(&manual) && !path.ends_with("solaris.md");
    for path in documents().iter().filter(is_read) {
        let text = std::fs::read_to_string(path).unwrap();
        for span in code(&text).iter().filter(|span| span.starts_with('-')) {
            let span = span.replace("MOUNTPOINT", "/x").replace("DEVICE", "/dev/x");
            let options = words(&span.replace("FSTYPE", "ext4"));
            assert!(is_taken(&options), "{}: {span}", path.display());
            count += 1;
        }
    }
    assert!(count > 10, "{count}");
}

/// A scenario runs the lines of the documents in a machine (tests/scenarios/printed.rs). What a table
/// prints with `BE`, `A`, `B` or `COMMAND` in the place of a name is not typed.
#[test]
fn every_command_line_of_the_documents_is_run_or_says_why_not() {
    let is_typed = |words: &[String]| {
        let is_placeholder =
            |word: &String| ["BE", "A", "B", "COMMAND", "VERB"].contains(&word.as_str());
        let arguments = std::iter::once("be").chain(words.iter().map(|w| &**w));
        !words.iter().any(is_placeholder) && Cli::try_parse_from(arguments).is_ok()
    };
    let mut printed = BTreeSet::new();
    for path in documents() {
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = code(&text).iter().flat_map(|code| command_lines(code)).collect::<Vec<_>>();
        printed.extend(lines.into_iter().filter(|words| is_typed(words)));
    }
    let list = Path::new(REPOSITORY).join("tests/scenarios/printed_lines.txt");
    let list = std::fs::read_to_string(list).unwrap();
    let run: BTreeSet<Vec<String>> = list
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(status, _)| *status == "-" || status.parse::<u8>().is_ok())
        .filter_map(|(_, line)| Some(words(line.strip_prefix("be ")?)))
        .collect();
    let texts = |all: &BTreeSet<Vec<String>>, others: &BTreeSet<Vec<String>>| {
        all.difference(others).map(|words| words.join(" ")).collect::<Vec<_>>()
    };
    assert_eq!(texts(&printed, &run), Vec::<String>::new(), "printed, and not in the list");
    assert_eq!(texts(&run, &printed), Vec::<String>::new(), "in the list, and not printed");
}
