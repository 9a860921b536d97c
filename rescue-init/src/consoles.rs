//! The consoles that show a menu: those of the kernel (`/proc/consoles`, fs/proc/consoles.c) and
//! the first virtual terminal.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use rustix::termios::{
    ControlModes, InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Winsize,
    tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};

/// A terminal for user interaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Console {
    /// Its name in `/dev`.
    pub name: String,
}

impl Console {
    /// Its device node.
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/dev").join(&self.name)
    }

    /// Whether it is a virtual terminal on a screen, not a serial line.
    pub fn is_screen(&self) -> bool {
        self.name.strip_prefix("tty").is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
    }

    /// The value of `TERM` for this console. `given` is `TERM` from the kernel command line, which
    /// applies to serial lines.
    pub fn terminal(&self, given: Option<&str>) -> String {
        match given {
            _ if self.is_screen() => "linux".into(),
            Some(given) if !given.is_empty() && given != "linux" => given.into(),
            _ => "vt220".into(),
        }
    }

    /// Opens it and resets its modes and size, whatever ran on it before.
    ///
    /// # Errors
    /// When the terminal does not exist.
    pub fn open(&self) -> io::Result<File> {
        let flags = libc::O_NOCTTY | libc::O_CLOEXEC;
        let mut file =
            OpenOptions::new().read(true).write(true).custom_flags(flags).open(self.path())?;
        make_sane(&file)?;
        if self.is_screen() {
            // Reset the terminal and select UTF-8.
            file.write_all(b"\x1bc\x1b%G")?;
        }
        Ok(file)
    }
}

/// Finds the consoles of this machine.
pub fn find() -> Vec<Console> {
    let mut all = parse(&fs::read_to_string("/proc/consoles").unwrap_or_default());
    let screen = Console { name: "tty1".into() };
    if !all.contains(&screen) && screen.path().exists() {
        all.push(screen);
    }
    all
}

/// All consoles at once.
pub struct Consoles(Vec<File>);

impl Consoles {
    /// Opens all consoles that can be opened.
    pub fn open() -> Self {
        let open = |console: Console| match console.open() {
            Ok(file) => Some(file),
            Err(error) => {
                log::warn!("{}: {error}", console.path().display());
                None
            }
        };
        Consoles(find().into_iter().filter_map(open).collect())
    }

    /// Prints text on all consoles.
    pub fn say(&mut self, text: &str) {
        self.write(text.as_bytes());
    }

    /// Writes the output of a command to all consoles.
    pub fn write(&mut self, bytes: &[u8]) {
        for console in &mut self.0 {
            // A console that no longer exists must not stop the command.
            let _ = console.write_all(bytes);
        }
    }
}

/// Parses `/proc/consoles`. Consoles that are terminals can be written to (`W`) and have a device
/// number.
pub fn parse(text: &str) -> Vec<Console> {
    let mut all: Vec<Console> = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some(name), Some(operations)) = (words.next(), words.next()) else { continue };
        let has_device = words.last().is_some_and(|word| word.contains(':'));
        if !operations.contains('W') || !has_device || name.starts_with("ttynull") {
            continue;
        }
        // tty0 is the foreground virtual terminal. The menu needs a fixed one.
        let console = Console { name: if name == "tty0" { "tty1".into() } else { name.into() } };
        if !all.contains(&console) {
            all.push(console);
        }
    }
    all
}

/// Sets canonical mode with echo, and a size if the terminal has none: a serial line reports 0x0.
fn make_sane(terminal: &File) -> io::Result<()> {
    let mut line = tcgetattr(terminal)?;
    line.input_modes = InputModes::ICRNL | InputModes::IXON | InputModes::IUTF8;
    line.output_modes = OutputModes::OPOST | OutputModes::ONLCR;
    line.local_modes = LocalModes::ISIG
        | LocalModes::ICANON
        | LocalModes::ECHO
        | LocalModes::ECHOE
        | LocalModes::ECHOK
        | LocalModes::ECHOCTL
        | LocalModes::ECHOKE
        | LocalModes::IEXTEN;
    line.control_modes |= ControlModes::CREAD | ControlModes::CLOCAL;
    line.control_modes &= !ControlModes::HUPCL;
    for (index, code) in [
        (SpecialCodeIndex::VINTR, 3),
        (SpecialCodeIndex::VQUIT, 28),
        (SpecialCodeIndex::VERASE, 127),
        (SpecialCodeIndex::VKILL, 21),
        (SpecialCodeIndex::VEOF, 4),
        (SpecialCodeIndex::VSUSP, 26),
        (SpecialCodeIndex::VMIN, 1),
        (SpecialCodeIndex::VTIME, 0),
    ] {
        line.special_codes[index] = code;
    }
    tcsetattr(terminal, OptionalActions::Now, &line)?;
    let size = tcgetwinsize(terminal)?;
    if size.ws_row == 0 || size.ws_col == 0 {
        tcsetwinsize(terminal, Winsize { ws_row: 24, ws_col: 80, ..size })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_consoles_that_are_terminals_are_found() {
        let text = "ttyS0                -W- (EC   p a)    4:64\n\
                    tty0                 -WU (E      )    4:1\n\
                    netcon0              -W- (E   p  )\n\
                    ttynull0             --- (       )  241:0\n\
                    pstore-1             -W- (E     )\n";
        let names: Vec<String> = parse(text).into_iter().map(|console| console.name).collect();
        assert_eq!(names, ["ttyS0", "tty1"]);
    }

    #[test]
    fn term_fits_the_console() {
        for (name, given, expected) in [
            ("tty1", Some("dumb"), "linux"),
            ("ttyS0", None, "vt220"),
            ("ttyS0", Some("linux"), "vt220"),
            ("ttyS0", Some("dumb"), "dumb"),
            ("hvc0", Some("xterm-256color"), "xterm-256color"),
        ] {
            assert_eq!(Console { name: name.into() }.terminal(given), expected, "{name} {given:?}");
        }
    }
}
