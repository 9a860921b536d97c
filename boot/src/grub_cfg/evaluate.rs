//! Evaluates a script into a menu, without side effects.

use super::menu::{Action, Entry, Item, Menu};
use super::script::{Branch, Part, Statement, Word};
use crate::bls;
use crate::grubenv::EnvironmentBlock;
use std::collections::{BTreeMap, BTreeSet};

/// Limits the bytes that all variables may expand to: a few bytes of a hostile script could
/// otherwise expand without bound. No real menu comes close.
const MAX_EXPANDED: usize = 4 << 20;
/// The longest value of a variable.
const MAX_VALUE: usize = 4096;

/// The variables that GRUB sets on UEFI before it reads a configuration.
const BUILT_IN: &[(&str, &str)] = &[
    ("?", "0"),
    ("grub_cpu", "x86_64"),
    ("grub_platform", "efi"),
    ("prefix", "/boot/grub"),
    ("feature_all_video_module", "y"),
    ("feature_chainloader_bpb", "y"),
    ("feature_default_font_path", "y"),
    ("feature_menuentry_id", "y"),
    ("feature_menuentry_options", "y"),
    ("feature_nativedisk_cmd", "y"),
    ("feature_ntldr", "y"),
    ("feature_platform_search_hint", "y"),
    ("feature_timeout_style", "y"),
];

pub fn menu(script: &[Statement], environment: &EnvironmentBlock, entries: &[bls::Entry]) -> Menu {
    let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let mut evaluator = Evaluator {
        environment,
        boot_loader_entries: entries,
        variables: BUILT_IN.iter().copied().map(own).collect(),
        changes: Vec::new(),
        budget: MAX_EXPANDED,
        items: Vec::new(),
        entry: Entry::default(),
    };
    evaluator.run(script);
    Menu {
        default: evaluator.variables.get("default").cloned().unwrap_or_default(),
        items: evaluator.items,
        variables: evaluator.variables,
    }
}

struct Evaluator<'a> {
    environment: &'a EnvironmentBlock,
    /// What `blscfg` adds to the menu.
    boot_loader_entries: &'a [bls::Entry],
    variables: BTreeMap<String, String>,
    /// The old value of each assignment, so that assignments in a block can be undone.
    changes: Vec<(String, Option<String>)>,
    /// Bytes that variables may still expand to.
    budget: usize,
    /// The menu that is being built.
    items: Vec<Item>,
    /// The entry whose block is being evaluated.
    entry: Entry,
}

impl Evaluator<'_> {
    fn run(&mut self, script: &[Statement]) {
        for statement in script {
            match statement {
                Statement::If(branches) => self.choose(branches),
                Statement::Command { words, block } => {
                    let words = self.expand(words);
                    let succeeded = self.command(&words, block);
                    self.variables.insert("?".into(), u8::from(!succeeded).to_string());
                }
            }
        }
    }

    fn choose(&mut self, branches: &[Branch]) {
        for Branch { condition, body } in branches {
            self.variables.insert("?".into(), "0".into());
            self.run(condition);
            if self.variables.get("?").is_some_and(|status| status == "0") {
                return self.run(body);
            }
        }
    }

    /// Runs a command and returns whether it succeeds, as far as that is known.
    fn command(&mut self, words: &[String], block: &[Statement]) -> bool {
        let Negated { words, negated } = Negated::of(words, |word| word == "!");
        self.plain_command(words, block) != negated
    }

    fn plain_command(&mut self, words: &[String], block: &[Statement]) -> bool {
        let Some((name, arguments)) = words.split_first() else {
            return true;
        };
        match name.as_str() {
            "menuentry" | "submenu" => self.item(name == "submenu", arguments, block),
            "set" | "export" => arguments.iter().for_each(|word| self.assign(word)),
            "unset" => arguments.iter().for_each(|name| self.put(name, None)),
            "load_env" => self.load_environment(arguments),
            "linux" | "linuxefi" | "linux16" => self.linux(arguments),
            "initrd" | "initrdefi" | "initrd16" => self.entry.initrd = arguments.to_vec(),
            "blscfg" => self.add_boot_loader_entries(),
            "search" | "search.fs_uuid" => self.search(name, arguments),
            "[" | "test" => return self.test(arguments),
            "false" => return false,
            name if arguments.is_empty() && name.contains('=') => self.assign(name),
            _ => {}
        }
        true
    }

    fn item(&mut self, submenu: bool, arguments: &[String], block: &[Statement]) {
        let mut title = None;
        let mut id = None;
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--id" => id = words.next().cloned(),
                "--class" | "--users" | "--hotkey" | "--source" => drop(words.next()),
                option if option.starts_with("--") => {
                    id = option.strip_prefix("--id=").map(str::to_owned).or(id);
                }
                // More words are arguments for the block.
                _ => title = title.or_else(|| Some(word.clone())),
            }
        }
        let title = title.unwrap_or_default();
        let before = self.changes.len();
        let items = std::mem::take(&mut self.items);
        let entry = Entry { title: title.clone(), id: id.clone(), ..Entry::default() };
        let outer = std::mem::replace(&mut self.entry, entry);
        self.run(block);
        let below = std::mem::replace(&mut self.items, items);
        let entry = std::mem::replace(&mut self.entry, outer);
        self.undo(before);
        let action = match (submenu, entry.linux.is_empty()) {
            (true, _) => Action::Submenu(below),
            (false, false) => Action::Linux(entry),
            (false, true) => Action::Other,
        };
        self.items.push(Item { title, id, action });
    }

    fn assign(&mut self, word: &str) {
        if let Some((name, value)) = word.split_once('=')
            && value.len() <= MAX_VALUE
        {
            self.put(name, Some(value.to_owned()));
        }
    }

    fn put(&mut self, name: &str, value: Option<String>) {
        let old = match value {
            Some(value) => self.variables.insert(name.to_owned(), value),
            None => self.variables.remove(name),
        };
        self.changes.push((name.to_owned(), old));
    }

    fn undo(&mut self, to: usize) {
        for (name, old) in self.changes.drain(to..).rev() {
            match old {
                Some(value) => self.variables.insert(name, value),
                None => self.variables.remove(&name),
            };
        }
    }

    /// `blscfg` (Fedora's `grub-core/commands/blscfg.c`): the newest entry is the first, by the
    /// names of the files.
    fn add_boot_loader_entries(&mut self) {
        // A second `blscfg` would add them again.
        let entries = std::mem::take(&mut self.boot_loader_entries);
        let mut entries: Vec<&bls::Entry> = entries.iter().collect();
        entries.sort_by(|a, b| bls::compare_versions(&b.id, &a.id));
        for found in entries {
            let mut found = found.clone();
            if found.options.is_empty() {
                found.options = "$default_kernelopts".to_owned();
            }
            let found = found.with_variables(|name| self.value(name));
            let Some(linux) = found.linux.clone() else { continue };
            let entry = Entry {
                title: found.title.clone().unwrap_or_else(|| found.id.clone()),
                id: Some(found.id.clone()),
                linux,
                initrd: found.initrd.clone(),
                options: found.options.clone(),
                root_uuid: self.entry.root_uuid.clone(),
                entry_file: Some(found.file_name()),
            };
            self.items.push(Item {
                title: entry.title.clone(),
                id: entry.id.clone(),
                action: Action::Linux(entry),
            });
        }
    }

    /// `load_env`. With `--file` it may read another block than the menu's, which is not supported.
    fn load_environment(&mut self, arguments: &[String]) {
        let mut names = Vec::new();
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let file = match word.as_str() {
                "--skip-sig" | "-s" => continue,
                "--file" | "-f" => words.next().map(String::as_str),
                option if option.starts_with("--file=") => option.strip_prefix("--file="),
                option if option.starts_with('-') => None,
                name => {
                    names.push(name);
                    continue;
                }
            };
            if !file.is_some_and(|file| file.ends_with("/grubenv")) {
                return;
            }
        }
        let names: BTreeSet<&str> = names.into_iter().collect();
        for (name, value) in self.environment.variables() {
            if names.is_empty() || names.contains(name) {
                // A script may load the block as often as it has lines.
                let Some(left) = self.budget.checked_sub(name.len() + value.len()) else { return };
                self.budget = left;
                self.put(name, Some(value.to_owned()));
            }
        }
    }

    fn linux(&mut self, arguments: &[String]) {
        let Some((kernel, parameters)) = arguments.split_first() else {
            return;
        };
        let parameters: Vec<_> = parameters.iter().map(|word| requoted(word)).collect();
        self.entry.linux.clone_from(kernel);
        self.entry.options = parameters.join(" ");
    }

    /// `search --fs-uuid --set=root UUID`.
    fn search(&mut self, name: &str, arguments: &[String]) {
        let mut by_uuid = name == "search.fs_uuid";
        let mut to_root = by_uuid;
        let mut wanted = None;
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--fs-uuid" | "-u" => by_uuid = true,
                "--set" | "-s" | "--set=root" => to_root = true,
                "--hint" | "-h" => drop(words.next()),
                option if option.starts_with('-') => {}
                _ if by_uuid && wanted.is_none() => wanted = Some(word),
                _ => {}
            }
        }
        if let (true, true, Some(uuid)) = (by_uuid, to_root, wanted) {
            self.entry.root_uuid = Some(uuid.clone());
        }
    }

    fn test(&self, arguments: &[String]) -> bool {
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let words = match words.as_slice() {
            [inner @ .., "]"] => inner,
            all => all,
        };
        let any = |alternative: &[&str]| {
            alternative.split(|word| *word == "-a").all(|term| self.holds(term))
        };
        words.split(|word| *word == "-o").any(any)
    }

    fn holds(&self, term: &[&str]) -> bool {
        let number = |text: &str| text.trim().parse::<i64>().unwrap_or(0);
        let Negated { words, negated } = Negated::of(term, |word| *word == "!");
        let holds = match *words {
            [a, "=" | "==", b] => a == b,
            [a, "!=", b] => a != b,
            [a, "<", b] => a < b,
            [a, ">", b] => a > b,
            [a, "-eq", b] => number(a) == number(b),
            [a, "-ne", b] => number(a) != number(b),
            [a, "-lt", b] => number(a) < number(b),
            [a, "-le", b] => number(a) <= number(b),
            [a, "-gt", b] => number(a) > number(b),
            [a, "-ge", b] => number(a) >= number(b),
            ["-z", text] => text.is_empty(),
            ["-n", text] => !text.is_empty(),
            // Files are not checked, but the environment block is known to exist.
            ["-e" | "-f" | "-s" | "-d", path] => path.ends_with("/grubenv"),
            [text] => !text.is_empty(),
            _ => false,
        };
        holds != negated
    }

    fn expand(&mut self, words: &[Word]) -> Vec<String> {
        let mut expanded = Vec::new();
        for word in words {
            let mut text = String::new();
            let mut started = word.quoted;
            for part in &word.parts {
                let (value, splits) = match part {
                    Part::Text(text) => (text.clone(), false),
                    Part::Variable { name, quoted } => (self.value(name), !quoted),
                };
                for c in value.chars() {
                    if splits && matches!(c, ' ' | '\t' | '\n') {
                        expanded.extend(
                            std::mem::take(&mut started).then(|| std::mem::take(&mut text)),
                        );
                    } else {
                        text.push(c);
                        started = true;
                    }
                }
            }
            expanded.extend(started.then_some(text));
        }
        expanded
    }

    fn value(&mut self, name: &str) -> String {
        let value = self.variables.get(name).cloned().unwrap_or_default();
        match self.budget.checked_sub(value.len()) {
            Some(left) => {
                self.budget = left;
                value
            }
            None => String::new(),
        }
    }
}

/// What follows the `!` at the start of a command or a condition. They are counted, because a script
/// may have any number of them.
struct Negated<'a, T> {
    words: &'a [T],
    /// Their number is odd.
    negated: bool,
}

impl<'a, T> Negated<'a, T> {
    fn of(words: &'a [T], is_not: impl Fn(&T) -> bool) -> Self {
        let count = words.iter().take_while(|word| is_not(word)).count();
        Negated { words: &words[count..], negated: count % 2 == 1 }
    }
}

/// Quotes a word as GRUB does for the kernel (`grub-core/lib/cmdline.c`): a word with spaces is
/// quoted, and quotes and backslashes are escaped.
fn requoted(word: &str) -> String {
    let quote = if word.contains(' ') { "\"" } else { "" };
    let mut text = String::from(quote);
    for c in word.chars() {
        if matches!(c, '\\' | '\'' | '"') {
            text.push('\\');
        }
        text.push(c);
    }
    text + quote
}
