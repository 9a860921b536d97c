//! What the hidden verb `internal-inside` is told on its command line.

use std::ffi::OsString;
use std::path::PathBuf;

/// Exit status when the namespaces could not be prepared, as env(1).
pub(super) const NOT_PREPARED: u8 = 125;

/// The request as the hidden verb gets it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) root: PathBuf,
    pub(super) parent: i32,
    pub(super) block_devices: Vec<(PathBuf, Option<String>)>,
    pub(super) esp: Option<PathBuf>,
    pub(super) shared: Vec<PathBuf>,
    pub(super) privileged: bool,
    pub(super) interactive: bool,
    pub(super) command: Vec<OsString>,
}

impl Order {
    pub(super) fn parse(arguments: &[OsString]) -> Option<Self> {
        let mut order = Order::default();
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            match word.to_str()? {
                "--root" => order.root = words.next()?.into(),
                "--parent" => order.parent = words.next()?.to_str()?.parse().ok()?,
                "--block-device" => {
                    let node = words.next()?.into();
                    let uuid = words.next()?.to_str()?;
                    order.block_devices.push((node, (!uuid.is_empty()).then(|| uuid.to_owned())));
                }
                "--esp" => order.esp = Some(words.next()?.into()),
                "--shared" => order.shared.push(words.next()?.into()),
                "--privileged" => order.privileged = true,
                "--interactive" => order.interactive = true,
                "--" => break,
                _ => return None,
            }
        }
        order.command = words.cloned().collect();
        (!order.command.is_empty() && order.root.is_absolute()).then_some(order)
    }
}
