//! Making the running trial permanent, its deadline, and the notice at login (DESIGN.md, "Trial,
//! confirm, fallback").

mod deadline;
mod notice;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use boot::efi::{BootEntries, BootEntry, Position};
use boot::grubenv;

use crate::environment::{DESCRIPTOR_PATH, Descriptor, State, Trial};
use crate::error::{Doing, Error, Result};
use crate::host::Host;
use crate::loader::environment_path;
use crate::loader::esp_location::{EspLocation, MountedEsp};
use crate::loader::firmware::{self, reading, writing};
use crate::loader::trial_record::Record;
use crate::plan::go_on;
use crate::root_dir::RootDir;
use crate::session::hooks;
use crate::session::lock::Lock;
use crate::storage::device::Devices;
use crate::storage::namespace;

pub use deadline::deadline;

/// Executables that must all exit with 0 before a trial is confirmed.
const HEALTH_CHECKS: &str = "etc/lifeboat/health.d";

/// How long a confirmation at boot is tried: less than the deadline of the trial.
const PATIENCE: Duration = Duration::from_secs(240);

/// How long one of them may take.
const HEALTH_CHECK_TIME: Duration = Duration::from_secs(60);

/// What a confirmation did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confirmed {
    /// The BE of this name was on trial and boots from now on.
    Permanent(String),
    /// No trial of the running BE was under way; its count of attempts is cleared.
    NoTrial,
}

/// Makes the running trial permanent.
///
/// # Errors
/// An ESP or a variable cannot be read or written; nothing is lost by running it again.
pub fn confirm(host: &Host) -> Result<Confirmed> {
    let _lock = Lock::acquire(host)?;
    namespace::in_private_namespace(|| {
        let running = Running::find(host, &system_root()?, EspLocation::mount)?;
        running.map_or(Ok(Confirmed::NoTrial), |running| running.confirm())
    })
}

/// What lifeboat-confirm.service does: the health checks, then as [`confirm`]; and the notice of
/// trials that failed.
///
/// # Errors
/// As [`confirm`], after [`PATIENCE`], and when a health check fails: then the trial stays
/// unconfirmed.
pub fn confirm_at_boot(host: &Host) -> Result<Confirmed> {
    if let Err(e) = notice::write(host) {
        log::warn!("{e}");
    }
    if patiently(|| standing(host))? == Some(Trial::Running) {
        run_health_checks(Path::new("/"), HEALTH_CHECK_TIME)?;
    }
    patiently(|| confirm(host))
}

/// At boot an ESP may appear late or be looked at by somebody else, and another operation may hold
/// the lock.
fn patiently<T>(attempt: impl Fn() -> Result<T>) -> Result<T> {
    let end = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Err(why) if Instant::now() < end => log::info!("{why}"),
            other => return other,
        }
        go_on()?;
        std::thread::sleep(Duration::from_secs(2));
    }
}

/// How the trial of the running BE stands.
///
/// # Errors
/// As [`confirm`].
pub(super) fn standing(host: &Host) -> Result<Option<Trial>> {
    namespace::in_private_namespace(|| {
        let running = Running::find(host, &system_root()?, EspLocation::mount_read_only)?;
        running.map_or(Ok(None), |running| running.standing())
    })
}

/// The firmware would start the running BE again.
///
/// # Errors
/// When the descriptor or the variables cannot be read.
pub(super) fn boots_first(host: &Host) -> Result<bool> {
    OwnEntry::find(host, &system_root()?)?.map_or(Ok(false), |own| own.is_first())
}

fn system_root() -> Result<RootDir> {
    RootDir::open(Path::new("/"))
}

/// What runs, and its entry in the firmware.
struct OwnEntry {
    descriptor: Descriptor,
    entries: BootEntries,
    entry: BootEntry,
}

impl OwnEntry {
    /// `None` where what runs is no BE with a boot entry of its own.
    fn find(host: &Host, root: &RootDir) -> Result<Option<Self>> {
        let Some(text) = root.text(DESCRIPTOR_PATH)? else { return Ok(None) };
        let descriptor = Descriptor::parse(&text)
            .map_err(|why| Error::Format { path: root.path().join(DESCRIPTOR_PATH), why })?;
        let Ok(entries) = firmware::boot_entries(host) else { return Ok(None) };
        Self::of(descriptor, entries)
    }

    fn of(descriptor: Descriptor, entries: BootEntries) -> Result<Option<Self>> {
        let entry = firmware::entries_of(&entries, descriptor.id)?.into_iter().next();
        Ok(entry.map(|entry| OwnEntry { descriptor, entries, entry }))
    }

    /// This boot came by it.
    fn is_current(&self) -> Result<bool> {
        Ok(self.entries.current().map_err(reading)? == Some(self.entry.number))
    }

    fn is_first(&self) -> Result<bool> {
        Ok(self.entries.order().map_err(reading)?.first() == Some(&self.entry.number))
    }
}

/// The running BE, and the environment block beside its stub.
struct Running {
    own: OwnEntry,
    environment: PathBuf,
    /// Keeps the ESP mounted.
    _esp: MountedEsp,
}

impl Running {
    /// `None` where what runs is no BE with a boot entry of its own.
    fn find(
        host: &Host,
        root: &RootDir,
        mount: fn(&EspLocation, &Host, &Devices) -> Result<MountedEsp>,
    ) -> Result<Option<Self>> {
        let Some(own) = OwnEntry::find(host, root)? else { return Ok(None) };
        let Some(partuuid) = own.entry.option.path.partuuid() else { return Ok(None) };
        let devices = Devices::scan(host)?;
        let Some(location) = EspLocation::by_partuuid(&devices, partuuid)? else {
            return Err(Error::Failed(format!(
                "the EFI system partition {partuuid} of Boot{:04X} is not there (yet)",
                own.entry.number
            )));
        };
        Ok(Some(Self::with(own, mount(&location, host, &devices)?)))
    }

    fn with(own: OwnEntry, esp: MountedEsp) -> Self {
        let environment = environment_path(esp.esp(), &own.descriptor.id.short());
        Running { own, environment, _esp: esp }
    }

    fn read(&self) -> Result<grubenv::EnvironmentBlock> {
        grubenv::read(&self.environment).map_err(|e| {
            Error::boot(
                format!("reading {}; `be activate` makes it anew", self.environment.display()),
                e,
            )
        })
    }

    /// How the trial stands, for this boot: one that came by another entry, such as a kexec from
    /// the rescue image, is none.
    fn standing(&self) -> Result<Option<Trial>> {
        let by_own_entry = self.own.is_current()?;
        let standing = Record::read(&self.read()?).standing(true, false);
        Ok(standing.filter(|s| by_own_entry || *s != Trial::Running))
    }

    fn confirm(&self) -> Result<Confirmed> {
        let OwnEntry { descriptor, entries, entry } = &self.own;
        let mut block = self.read()?;
        let record = Record::read(&block);
        let (cleared, confirmed) = match self.standing()? {
            Some(Trial::Running) if descriptor.state == State::Incomplete => {
                return Err(Error::Failed(format!(
                    "'{}' is {}: its trial is not confirmed",
                    descriptor.name,
                    descriptor.state_text()
                )));
            }
            Some(Trial::Running) => {
                entries.set_active(entry.number, true).map_err(writing)?;
                entries.place(entry.number, Position::First).map_err(writing)?;
                if !self.own.is_first()? {
                    return Err(Error::Failed(format!(
                        "the firmware did not keep Boot{:04X} first in BootOrder: set the order \
                        in its setup",
                        entry.number
                    )));
                }
                (Record::default(), Confirmed::Permanent(descriptor.name.to_string()))
            }
            // Activated, and this boot is not the trial: only the count goes.
            _ => (Record { attempts: 0, ..record }, Confirmed::NoTrial),
        };
        if cleared != record {
            let failed = |e| Error::boot(format!("writing {}", self.environment.display()), e);
            cleared.write(&mut block).map_err(failed)?;
            grubenv::write_in_place(&self.environment, &block).map_err(failed)?;
        }
        Ok(confirmed)
    }
}

/// Runs every executable of the directory, in the order of their names.
fn run_health_checks(root: &Path, limit: Duration) -> Result<()> {
    hooks::executables(&root.join(HEALTH_CHECKS))?
        .iter()
        .try_for_each(|check| run_health_check(check, limit))
}

fn run_health_check(check: &Path, limit: Duration) -> Result<()> {
    log::info!("running the health check {}", check.display());
    let mut child =
        Command::new(check).stdin(Stdio::null()).spawn().at("starting the health check", check)?;
    let start = Instant::now();
    loop {
        match child.try_wait().at("waiting for the health check", check)? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => {
                return Err(Error::Failed(format!(
                    "the health check {} failed ({status}): the trial is not confirmed; `be \
                    confirm` confirms it all the same",
                    check.display()
                )));
            }
            None if start.elapsed() > limit => {
                // Whether it could be killed or has just ended, it has failed.
                let _ = child.kill();
                let _ = child.wait();
                return Err(Error::Failed(format!(
                    "the health check {} did not end within {} seconds: the trial is not \
                    confirmed; `be confirm` confirms it all the same",
                    check.display(),
                    limit.as_secs()
                )));
            }
            None => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

#[cfg(test)]
mod tests;
