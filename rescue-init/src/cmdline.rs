//! The rescue image's options on the kernel command line.

use std::fs;
use std::time::Duration;

use be_tools::command_line::CommandLine;

/// What happens after the unattended commands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AfterCommands {
    /// Show the menu.
    #[default]
    Menu,
    /// Restart the machine.
    Reboot,
    /// Power it off.
    PowerOff,
}

impl AfterCommands {
    fn from_word(word: &str) -> Option<Self> {
        match word {
            "menu" => Some(AfterCommands::Menu),
            "reboot" => Some(AfterCommands::Reboot),
            "poweroff" => Some(AfterCommands::PowerOff),
            _ => None,
        }
    }
}

/// The options that the rescue image takes from the kernel command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `lifeboat.run="…"`: commands to run unattended, in order.
    pub run: Vec<String>,
    /// `lifeboat.then=menu|reboot|poweroff`
    pub then: AfterCommands,
    /// `lifeboat.then-on-failure=menu|reboot|poweroff`: the same, if a command failed.
    pub then_on_failure: Option<AfterCommands>,
    /// `lifeboat.wait=SECONDS`: how long disks and boot environments are waited for.
    pub wait: Option<Duration>,
    /// `lifeboat.countdown=SECONDS`: how long a key can keep the commands from running.
    pub countdown: Option<Duration>,
    /// `lifeboat.shell`: shells instead of menus.
    pub shell: bool,
    /// `lifeboat.debug`, `debug` or `ignore_loglevel`: the kernel's messages stay on the console.
    pub debug: bool,
    /// Unknown words that begin with `lifeboat.`.
    pub unknown: Vec<String>,
}

impl Options {
    /// Reads the running kernel's command line.
    pub fn read() -> Self {
        Self::parse(&fs::read_to_string("/proc/cmdline").unwrap_or_default())
    }

    /// Parses a command line. Words that are not for the rescue image are ignored.
    pub fn parse(line: &str) -> Self {
        let mut options = Options::default();
        for (name, value) in CommandLine::parse(line).parameters() {
            match (name, value.unwrap_or_default()) {
                ("lifeboat.run", command) if !command.trim().is_empty() => {
                    options.run.push(command.into())
                }
                ("lifeboat.then", word) if AfterCommands::from_word(word).is_some() => {
                    options.then = AfterCommands::from_word(word).unwrap_or_default();
                }
                ("lifeboat.then-on-failure", word) if AfterCommands::from_word(word).is_some() => {
                    options.then_on_failure = AfterCommands::from_word(word);
                }
                ("lifeboat.wait", word) if seconds(word).is_some() => options.wait = seconds(word),
                ("lifeboat.countdown", word) if seconds(word).is_some() => {
                    options.countdown = seconds(word);
                }
                ("lifeboat.shell", _) => options.shell = true,
                ("lifeboat.debug" | "debug" | "ignore_loglevel", _) => options.debug = true,
                (other, value) if other.starts_with("lifeboat.") => {
                    options.unknown.push(format!("{other}={value}"));
                }
                _ => {}
            }
        }
        options
    }
}

fn seconds(word: &str) -> Option<Duration> {
    Some(Duration::from_secs(word.parse::<u32>().ok()?.into()))
}

/// Splits a command into words like a shell. Only single quotes, double quotes and backslashes are
/// special.
pub fn command_words(command: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = command.chars();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some('\''), c) => word.get_or_insert_default().push(c),
            (_, '\\') => word.get_or_insert_default().extend(characters.next()),
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => all.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    all.extend(word);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unattended_command_may_contain_spaces() {
        let line = "console=ttyS0 lifeboat.run=\"be boot second\" lifeboat.then=poweroff quiet\n";
        let options = Options::parse(line);
        assert_eq!(options.run, ["be boot second"]);
        assert_eq!(options.then, AfterCommands::PowerOff);
        assert!(!options.shell && !options.debug && options.unknown.is_empty());
    }

    #[test]
    fn the_whole_word_may_be_quoted() {
        let options = Options::parse("\"lifeboat.run=be list\" lifeboat.shell");
        assert_eq!(options.run, ["be list"]);
        assert!(options.shell);
    }

    #[test]
    fn times_and_what_follows_a_failure_are_read() {
        let options = Options::parse(
            "lifeboat.wait=90 lifeboat.countdown=30 lifeboat.then=reboot \
             lifeboat.then-on-failure=menu",
        );
        assert_eq!(options.wait, Some(Duration::from_secs(90)));
        assert_eq!(options.countdown, Some(Duration::from_secs(30)));
        let ends = (options.then, options.then_on_failure);
        assert_eq!(ends, (AfterCommands::Reboot, Some(AfterCommands::Menu)));
        let options = Options::parse("lifeboat.wait=long lifeboat.then-on-failure=sleep");
        assert_eq!(options.unknown, ["lifeboat.wait=long", "lifeboat.then-on-failure=sleep"]);
    }

    #[test]
    fn unknown_lifeboat_words_are_kept_for_a_warning() {
        let options = Options::parse("lifeboat.then=sleep lifeboat.color=blue root=/dev/vda1");
        assert_eq!(options.unknown, ["lifeboat.then=sleep", "lifeboat.color=blue"]);
    }

    #[test]
    fn commands_are_split_as_a_shell_does() {
        for (command, expected) in [
            ("be list", vec!["be", "list"]),
            (
                "  be  create x -m '/:UUID=a b:ext4' ",
                vec!["be", "create", "x", "-m", "/:UUID=a b:ext4"],
            ),
            (r#"sh -c "echo \"a b\"" ''"#, vec!["sh", "-c", "echo \"a b\"", ""]),
            (r"a\ b", vec!["a b"]),
            ("", vec![]),
        ] {
            assert_eq!(command_words(command), expected, "{command}");
        }
    }
}
