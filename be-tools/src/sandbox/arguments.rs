//! The command line of the hidden verb `internal-inside`.

use std::ffi::OsString;
use std::path::PathBuf;

/// Exit status when the namespaces could not be prepared, as env(1).
pub const NOT_PREPARED: u8 = 125;

/// Where a command sees its work directory.
pub const WORK: &str = "/run/lifeboat/work";

/// The parsed arguments.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Arguments {
    pub(super) root: PathBuf,
    pub(super) parent: i32,
    pub(super) block_devices: Vec<(PathBuf, Option<String>)>,
    pub(super) shared: Vec<PathBuf>,
    /// The directory that is mounted on [`WORK`].
    pub(super) work: Option<PathBuf>,
    pub(super) privileged: bool,
    pub(super) interactive: bool,
    /// Whether the command is in the foreground of the user's terminal.
    pub(super) foreground: bool,
    /// Whether the command has the network of the running system.
    pub(super) network: bool,
    /// Whether an interruption is for the command's first process alone.
    pub(super) ends_by_itself: bool,
    pub(super) command: Vec<OsString>,
}

impl Arguments {
    /// Parses the words after the verb. Returns `None` if they are not what `be` passes.
    pub(super) fn parse(line: &[OsString]) -> Option<Self> {
        let mut arguments = Arguments::default();
        let mut words = line.iter();
        while let Some(word) = words.next() {
            match word.to_str()? {
                "--root" => arguments.root = words.next()?.into(),
                "--parent" => arguments.parent = words.next()?.to_str()?.parse().ok()?,
                "--block-device" => {
                    let node = words.next()?.into();
                    let uuid = words.next()?.to_str()?;
                    arguments
                        .block_devices
                        .push((node, (!uuid.is_empty()).then(|| uuid.to_owned())));
                }
                "--shared" => arguments.shared.push(words.next()?.into()),
                "--work" => arguments.work = Some(words.next()?.into()),
                "--privileged" => arguments.privileged = true,
                "--interactive" => arguments.interactive = true,
                "--foreground" => arguments.foreground = true,
                "--network" => arguments.network = true,
                "--ends-by-itself" => arguments.ends_by_itself = true,
                "--" => break,
                _ => return None,
            }
        }
        arguments.command = words.cloned().collect();
        (!arguments.command.is_empty() && arguments.root.is_absolute()).then_some(arguments)
    }
}
