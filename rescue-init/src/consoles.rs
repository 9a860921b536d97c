//! The consoles that show a menu: those of the kernel (`/proc/consoles`, fs/proc/consoles.c), the
//! first virtual terminal, and the serial port of the firmware.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{
    ControlModes, InputModes, LocalModes, OptionalActions, OutputModes, QueueSelector,
    SpecialCodeIndex, Winsize, tcflush, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};

use crate::spcr::{self, SerialPort};
use crate::sys;

/// How many seconds output waits for a console that takes nothing.
const PATIENCE: i64 = 1;

/// A terminal for user interaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Console {
    /// Its name in `/dev`.
    pub name: String,
    /// Bits per second, where nothing else has set the port up.
    pub speed: Option<u32>,
}

/// What a console is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// A person types there.
    Interaction,
    /// Only output. A keystroke is seen at once, and no XOFF stops it.
    Output,
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
        let mut file = self.open_for(Purpose::Interaction)?;
        file.write_all(self.reset())?;
        Ok(file)
    }

    fn open_for(&self, purpose: Purpose) -> io::Result<File> {
        let flags = libc::O_NOCTTY | libc::O_CLOEXEC;
        let flags = if purpose == Purpose::Output { flags | libc::O_NONBLOCK } else { flags };
        let file =
            OpenOptions::new().read(true).write(true).custom_flags(flags).open(self.path())?;
        make_sane(&file, purpose, self.speed)?;
        Ok(file)
    }

    /// What resets a screen and selects UTF-8.
    fn reset(&self) -> &'static [u8] {
        if self.is_screen() { b"\x1bc\x1b%G" } else { b"" }
    }
}

/// Finds the consoles of this machine.
pub fn find() -> Vec<Console> {
    let mut all = parse(&fs::read_to_string("/proc/consoles").unwrap_or_default());
    let screen = Console { name: "tty1".into(), speed: None };
    let named =
        spcr::find(Path::new("/sys")).map(|SerialPort { name, speed }| Console { name, speed });
    for more in std::iter::once(screen).chain(named) {
        if all.iter().all(|known| known.name != more.name) && more.path().exists() {
            all.push(more);
        }
    }
    all
}

/// All consoles at once, for output that waits for none of them.
pub struct Consoles(Vec<Output>);

impl Consoles {
    /// Opens all consoles that can be opened.
    pub fn open() -> Self {
        let open = |console: Console| match console.open_for(Purpose::Output) {
            Ok(file) => {
                let mut output = Output { file, is_stopped: false };
                output.write(console.reset());
                Some(output)
            }
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
        self.0.iter_mut().for_each(|console| console.write(bytes));
    }

    /// Whether a key was pressed on any of the consoles.
    pub fn key_was_pressed(&mut self) -> bool {
        self.0.iter_mut().any(|console| matches!(console.file.read(&mut [0; 64]), Ok(1..)))
    }

    /// Forgets the keys that were pressed so far.
    pub fn forget_keys(&self) {
        for console in &self.0 {
            // A console that is gone has no keys.
            let _ = tcflush(&console.file, QueueSelector::IFlush);
        }
    }
}

/// A console that is only written to. One that takes nothing, because of an XOFF or because nobody
/// reads what is at its end, must not stop the machine's work: what it does not take is lost on it.
/// The kernel's log has it too.
struct Output {
    file: File,
    /// It took nothing for [`PATIENCE`]. Until it takes something again, it is not waited for.
    is_stopped: bool,
}

impl Output {
    fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.file.write(bytes) {
                Ok(written @ 1..) => {
                    self.is_stopped = false;
                    bytes = &bytes[written..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !self.is_stopped => {
                    self.is_stopped = !self.takes_more();
                }
                // It is stopped, or no longer exists.
                Ok(0) | Err(_) => return,
            }
        }
    }
}

impl Output {
    /// Waits until it takes more. Returns whether it does: a serial line is ready only once its
    /// buffer is nearly empty, which at 38,400 bits a second takes longer than [`PATIENCE`].
    fn takes_more(&self) -> bool {
        let mut ready = [PollFd::new(&self.file, PollFlags::OUT)];
        let patience = Timespec { tv_sec: PATIENCE, tv_nsec: 0 };
        let mut unsent = sys::unsent(&self.file);
        loop {
            if matches!(poll(&mut ready, Some(&patience)), Ok(1..)) {
                return true;
            }
            let now = sys::unsent(&self.file);
            if !is_sending(unsent, now) {
                return false;
            }
            unsent = now;
        }
    }
}

/// Whether a terminal sends, by what it has not sent before and after a while.
fn is_sending(before: Option<i32>, after: Option<i32>) -> bool {
    before.zip(after).is_some_and(|(before, after)| after < before)
}

impl Drop for Output {
    fn drop(&mut self) {
        if self.is_stopped {
            // To close the terminal would wait until it has taken what is in its buffer.
            let _ = tcflush(&self.file, QueueSelector::OFlush);
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
        let name = if name == "tty0" { "tty1" } else { name };
        let console = Console { name: name.into(), speed: None };
        if !all.contains(&console) {
            all.push(console);
        }
    }
    all
}

/// Sets canonical mode with echo for a person, and a size if the terminal has none: a serial line
/// reports 0x0. XOFF (Ctrl-S) stops the output for a person until any key is pressed, so that noise
/// on the line does not stop a command for ever.
fn make_sane(terminal: &File, purpose: Purpose, speed: Option<u32>) -> io::Result<()> {
    let mut line = tcgetattr(terminal)?;
    line.input_modes = InputModes::ICRNL | InputModes::IUTF8;
    if purpose == Purpose::Interaction {
        line.input_modes |= InputModes::IXON | InputModes::IXANY;
    }
    if let Some(speed) = speed {
        line.set_speed(speed)?;
    }
    line.output_modes = OutputModes::OPOST | OutputModes::ONLCR;
    line.local_modes = LocalModes::ISIG
        | LocalModes::ICANON
        | LocalModes::ECHO
        | LocalModes::ECHOE
        | LocalModes::ECHOK
        | LocalModes::ECHOCTL
        | LocalModes::ECHOKE
        | LocalModes::IEXTEN;
    if purpose == Purpose::Output {
        line.local_modes = LocalModes::empty();
    }
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
            let console = Console { name: name.into(), speed: None };
            assert_eq!(console.terminal(given), expected, "{name} {given:?}");
        }
    }

    #[test]
    fn a_slow_line_is_not_a_stopped_one() {
        for (before, after, expected) in [
            (Some(4095), Some(3100), true),
            (Some(4095), Some(4095), false),
            (Some(0), Some(0), false),
            (None, None, false),
        ] {
            assert_eq!(is_sending(before, after), expected, "{before:?} {after:?}");
        }
    }

    #[test]
    fn a_stopped_console_stops_nobody_and_comes_back() {
        // A pipe that is not read takes 64 KiB, as a terminal takes its buffer after XOFF.
        let (mut reader, writer) = io::pipe().unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let stopped = Output { file: std::os::fd::OwnedFd::from(writer).into(), is_stopped: false };
        let mut consoles = Consoles(vec![stopped]);
        let started = std::time::Instant::now();
        for _ in 0..100 {
            consoles.write(&[b'x'; 4096]);
        }
        assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
        reader.read_exact(&mut [0; 65536]).unwrap();
        consoles.say("back");
        drop(consoles);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "back");
    }
}
