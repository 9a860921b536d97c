//! The record of a trial: variables of the environment block in a BE's directory on the ESP. The
//! stub counts its starts in the same block.
//!
//! | variable | written by | meaning |
//! | --- | --- | --- |
//! | `trial` | `be activate` | `1`: the next start is a trial |
//! | `tried` | the stub | `1`: the trial was started |
//! | `attempts` | the stub | starts since the last confirm, up to 3 |
//! | `previous` | `be activate` | the entry that was first in `BootOrder`, four hex digits |

use std::path::PathBuf;

use boot::esp::Esp;
use boot::grubenv::{self, EnvironmentBlock};

use crate::environment::Trial;
use crate::error::{Error, Result};

/// The environment block, in a BE's directory. It is never replaced, only written in place.
pub const FILE: &str = "lifeboat.env";

/// The number of attempts after which the stub starts the rescue image.
pub const MAX_ATTEMPTS: u8 = 3;

/// The variables in a BE's environment block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrialRecord {
    /// The BE was activated for one boot, and not confirmed.
    pub trial: bool,
    /// That boot has started.
    pub tried: bool,
    /// The number of starts since the last confirm.
    pub attempts: u8,
    /// The entry that was first in `BootOrder` before the trial.
    pub previous: Option<u16>,
}

impl TrialRecord {
    /// The record at the beginning of a trial.
    pub fn begin(previous: Option<u16>) -> Self {
        TrialRecord { trial: true, tried: false, attempts: 0, previous }
    }

    /// Reads the record from a BE's directory on the ESP.
    ///
    /// # Errors
    /// The environment block is missing or damaged.
    pub fn load(esp: &Esp, directory: &str) -> Result<Self> {
        let path = path(esp, directory);
        let block = grubenv::read(&path).map_err(|e| {
            Error::boot(format!("reading {}; `be activate` writes it again", path.display()), e)
        })?;
        Ok(Self::read(&block))
    }

    /// Writes the record in place, unless the block already has these values.
    ///
    /// # Errors
    /// As [`TrialRecord::load`], and the block cannot be written.
    pub fn store(&self, esp: &Esp, directory: &str) -> Result<()> {
        let path = path(esp, directory);
        let failed = |e| Error::boot(format!("writing the trial record {}", path.display()), e);
        let mut block = grubenv::read(&path).map_err(failed)?;
        if Self::read(&block) == *self {
            return Ok(());
        }
        self.write(&mut block).map_err(failed)?;
        grubenv::write_in_place(&path, &block).map_err(failed)
    }

    /// Reads the variables. An invalid value counts as absent.
    pub fn read(block: &EnvironmentBlock) -> Self {
        let is_set = |name| block.get(name) == Some("1");
        TrialRecord {
            trial: is_set("trial"),
            tried: is_set("tried"),
            attempts: block
                .get("attempts")
                .and_then(|n| n.parse().ok())
                .unwrap_or(0)
                .min(MAX_ATTEMPTS),
            previous: block.get("previous").and_then(|n| u16::from_str_radix(n, 16).ok()),
        }
    }

    /// Sets the variables in `block`. Other variables are kept.
    ///
    /// # Errors
    /// The block is full.
    pub fn write(&self, block: &mut EnvironmentBlock) -> std::result::Result<(), grubenv::Error> {
        let flag = |set: bool| set.then(|| "1".to_owned());
        let values = [
            ("trial", flag(self.trial)),
            ("tried", flag(self.tried)),
            ("attempts", (self.attempts > 0).then(|| self.attempts.to_string())),
            ("previous", self.previous.map(|n| format!("{n:04X}"))),
        ];
        for (name, value) in values {
            match value {
                Some(value) => block.set(name, &value)?,
                None => block.unset(name),
            }
        }
        Ok(())
    }

    /// The state of the trial. `running`: the BE is running. `next`: `BootNext` is its entry.
    pub fn trial_state(&self, running: bool, next: bool) -> Option<Trial> {
        match (self.trial, self.tried) {
            (false, _) => None,
            (true, true) if running => Some(Trial::Running),
            (true, true) => Some(Trial::Failed),
            (true, false) if next => Some(Trial::Pending),
            (true, false) => Some(Trial::Interrupted),
        }
    }
}

fn path(esp: &Esp, directory: &str) -> PathBuf {
    esp.root().join(Esp::directory_of(directory)).join(FILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_was_written_is_read_back() {
        let mut block = EnvironmentBlock::new();
        block.set("other", "kept").unwrap();
        let record = TrialRecord { trial: true, tried: true, attempts: 2, previous: Some(0x1a) };
        for record in [record, TrialRecord::begin(None), TrialRecord::default()] {
            record.write(&mut block).unwrap();
            assert_eq!(TrialRecord::read(&block), record);
        }
        assert_eq!(block.variables().collect::<Vec<_>>(), [("other", "kept")]);
    }

    #[test]
    fn an_invalid_value_counts_as_absent() {
        let mut block = EnvironmentBlock::new();
        for (name, value) in [("trial", "yes"), ("attempts", "-1"), ("previous", "boot")] {
            block.set(name, value).unwrap();
        }
        assert_eq!(TrialRecord::read(&block), TrialRecord::default());
        block.set("attempts", "200").unwrap();
        assert_eq!(TrialRecord::read(&block).attempts, MAX_ATTEMPTS);
    }

    #[test]
    fn the_state_of_a_trial() {
        let begun = TrialRecord::begin(Some(1));
        let tried = TrialRecord { tried: true, ..begun };
        let cases = [
            (TrialRecord::default(), true, true, None),
            (begun, false, true, Some(Trial::Pending)),
            (begun, false, false, Some(Trial::Interrupted)),
            (tried, true, false, Some(Trial::Running)),
            (tried, false, false, Some(Trial::Failed)),
        ];
        for (record, running, next, expected) in cases {
            assert_eq!(record.trial_state(running, next), expected, "{record:?}");
        }
    }

    /// GRUB's own tool reads what was written.
    #[test]
    fn grub_editenv_reads_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lifeboat.env");
        let mut block = EnvironmentBlock::new();
        TrialRecord { trial: true, tried: false, attempts: 1, previous: Some(3) }
            .write(&mut block)
            .unwrap();
        std::fs::write(&path, block.to_bytes().unwrap()).unwrap();
        let Ok(text) = crate::tool::Tool::new("grub-editenv").arg(path).arg("list").run() else {
            return eprintln!("skipped: grub-editenv is not installed");
        };
        assert_eq!(text, "trial=1\nattempts=1\nprevious=0003\n");
    }
}
