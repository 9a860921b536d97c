//! What the kernel command line asks of the rescue image.

use std::fs;

use be_tools::command_line::CommandLine;

/// What comes after an unattended command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Then {
    /// The menu.
    #[default]
    Menu,
    /// Restart the machine.
    Reboot,
    /// Switch it off.
    PowerOff,
}

/// The words of a kernel command line that the rescue image knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// `lifeboat.run="…"`, each in its order.
    pub run: Vec<String>,
    /// `lifeboat.then=menu|reboot|poweroff`
    pub then: Then,
    /// `lifeboat.shell`: shells instead of menus.
    pub shell: bool,
    /// `lifeboat.debug`, `debug` or `ignore_loglevel`: the kernel's messages stay on the console.
    pub debug: bool,
    /// Words that begin with `lifeboat.` and mean nothing.
    pub unknown: Vec<String>,
}

impl Request {
    /// Reads the running kernel's command line.
    pub fn read() -> Self {
        Self::parse(&fs::read_to_string("/proc/cmdline").unwrap_or_default())
    }

    /// Understands a command line; what is for others is passed over.
    pub fn parse(line: &str) -> Self {
        let mut request = Request::default();
        for (name, value) in CommandLine::parse(line).parameters() {
            match (name, value.unwrap_or_default()) {
                ("lifeboat.run", command) if !command.trim().is_empty() => {
                    request.run.push(command.into())
                }
                ("lifeboat.then", "menu") => request.then = Then::Menu,
                ("lifeboat.then", "reboot") => request.then = Then::Reboot,
                ("lifeboat.then", "poweroff") => request.then = Then::PowerOff,
                ("lifeboat.shell", _) => request.shell = true,
                ("lifeboat.debug" | "debug" | "ignore_loglevel", _) => request.debug = true,
                (other, value) if other.starts_with("lifeboat.") => {
                    request.unknown.push(format!("{other}={value}"));
                }
                _ => {}
            }
        }
        request
    }
}

/// The words of a command as a shell would part them: single and double quotes and backslash,
/// nothing else.
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
    fn an_unattended_command_keeps_its_spaces() {
        let line = "console=ttyS0 lifeboat.run=\"be boot second\" lifeboat.then=poweroff quiet\n";
        let request = Request::parse(line);
        assert_eq!(request.run, ["be boot second"]);
        assert_eq!(request.then, Then::PowerOff);
        assert!(!request.shell && !request.debug && request.unknown.is_empty());
    }

    #[test]
    fn the_whole_word_may_be_quoted() {
        let request = Request::parse("\"lifeboat.run=be list\" lifeboat.shell");
        assert_eq!(request.run, ["be list"]);
        assert!(request.shell);
    }

    #[test]
    fn a_word_of_ours_that_means_nothing_is_kept_to_be_told() {
        let request = Request::parse("lifeboat.then=sleep lifeboat.color=blue root=/dev/vda1");
        assert_eq!(request.unknown, ["lifeboat.then=sleep", "lifeboat.color=blue"]);
    }

    #[test]
    fn commands_are_parted_like_a_shell_does() {
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
