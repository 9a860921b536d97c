//! What a BE takes over from the one that ran last when it starts for the first time: accounts,
//! mail and logs that were changed there while it waited (Live Upgrade's synclist(4)).

mod accounts;
pub(super) mod base;
mod grown;
mod list;
mod partner;
mod password_lock;
mod take_over;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::discover;
use crate::environment::mounted::MountedEnvironment;
use crate::environment::{BootEnvironment, Descriptor, Id, Inventory, SyncNote};
use crate::error::{Doing, Error, Refusal, Result};
use crate::escape::printable;
use crate::host::Host;
use crate::root_dir::RootDir;
use crate::session::lock::BootLock;
use crate::storage::namespace;
use crate::storage::retry::retry;
use base::Base;
use partner::Partner;
use take_over::Sides;

pub use accounts::{FILES as ACCOUNT_FILES, KeptLine, Merged, People, Texts, merge};
pub use list::{Item, Manner, parse};
pub use take_over::TakenOver;

/// How long the disks of the other BE are waited for, at the first start and at later ones.
const PATIENCE: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(10)];

/// How many starts try.
const MOST_TRIES: u32 = 3;

/// How long another program that writes the descriptor is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// The notice at login, relative to /run.
const NOTICE: &str = "motd.d/lifeboat-sync";

/// Whether a BE takes something over at its next start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncChoice {
    /// If it is a copy of the running BE that has not been started yet.
    #[default]
    FirstStart,
    /// Also if it has been started.
    Always,
    /// No.
    Never,
}

/// The BE from which `environment` takes something over at its next start. `None` if from none.
///
/// # Errors
/// It is asked for, and the running system is not a BE.
pub(super) fn source_of<'a>(
    inventory: &'a Inventory,
    environment: &BootEnvironment,
    descriptor: &Descriptor,
    choice: SyncChoice,
) -> Result<Option<&'a BootEnvironment>> {
    let running = inventory.environments.iter().find(|other| other.running && other.is_managed());
    let id = running.and_then(|running| running.descriptor.as_ref()).map(|running| running.id);
    match choice {
        SyncChoice::Always if environment.running => Err(Error::Usage(format!(
            "'{}' runs: it takes nothing over from itself",
            environment.name()
        ))),
        SyncChoice::Always if running.is_none() => Err(Error::Usage(
            "the running system is not a boot environment: without --sync nothing is taken over \
            from it"
                .into(),
        )),
        SyncChoice::Always => Ok(running),
        SyncChoice::FirstStart => {
            let is_copy = id.is_some() && descriptor.unstarted && descriptor.source == id;
            // What an earlier activation wanted has not been done.
            let is_pending = id.is_some() && descriptor.sync.as_ref().map(|note| note.from) == id;
            Ok(running.filter(|_| (is_copy || is_pending) && !environment.running))
        }
        SyncChoice::Never => Ok(None),
    }
}

/// Refuses to take something over where it is not known what both had: accounts that were removed
/// would come back, and logs would be there twice.
///
/// # Errors
/// [`Error::Usage`], and `environment` cannot be mounted.
pub(super) fn refuse_unknown(
    host: &Host,
    inventory: &Inventory,
    environment: &BootEnvironment,
    from: &BootEnvironment,
) -> Result<()> {
    let id = |of: &BootEnvironment| of.descriptor.as_ref().map(|descriptor| descriptor.id);
    let (Some(own), Some(other)) = (id(environment), id(from)) else { return Ok(()) };
    let base = namespace::in_private_namespace(|| {
        let mounted = MountedEnvironment::mount_system(host, inventory, environment)?;
        let root = RootDir::open(mounted.root())?;
        Base::of((&root, own), (&RootDir::open(&host.root)?, other))
    })?;
    if base.is_some() {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "'{}' cannot take anything over from '{}': what both had in common is not known. It is from \
        a creation or a refresh of the one from the other on",
        environment.name(),
        from.name()
    )))
}

/// Notes in the descriptor of a BE that it takes something over from the running one, whose id this
/// is, and leaves a mark in that.
///
/// # Errors
/// The mark cannot be written.
pub(super) fn note(host: &Host, from: Id) -> Result<SyncNote> {
    partner::leave_mark(&RootDir::open(&host.root)?, from)
}

/// What lifeboat-sync.service does: takes over what an activation has chosen. `None` if nothing was
/// chosen. If the power fails meanwhile, the next start goes on; after some starts that failed,
/// none does.
///
/// # Errors
/// The other BE is not found or cannot be read, or nothing can be written.
pub fn at_boot(host: &Host) -> Result<Option<TakenOver>> {
    let root = RootDir::open(&host.root)?;
    let Some(descriptor) = Descriptor::load(&root)? else { return Ok(None) };
    let Some(mut pending) = descriptor.sync else { return Ok(None) };
    let taken = if pending.tries < MOST_TRIES {
        let patience = PATIENCE[usize::from(pending.tries > 0)];
        pending.tries += 1;
        // Before anything that may end this: a system that cannot be written to does not wait.
        note_again(host, &root, Some(&pending))
            .and_then(|()| taken_over(host, &root, descriptor.id, &pending, patience))
    } else {
        Err(Error::Failed(format!("{MOST_TRIES} starts have tried; no further one does")))
    };
    notice(host, &taken)?;
    if taken.is_ok() || pending.tries >= MOST_TRIES {
        note_again(host, &root, None)?;
    }
    taken.map(Some)
}

/// Writes what is left to do to the descriptor of the running system.
fn note_again(host: &Host, root: &RootDir, note: Option<&SyncNote>) -> Result<()> {
    let is_busy = |error: &Error| matches!(error, Error::Refused(Refusal::Busy { .. }));
    let _lock = retry(LOCK_PATIENCE, is_busy, || BootLock::acquire(host))?;
    // Another service may have written it meanwhile.
    let Some(mut descriptor) = Descriptor::load(root)? else { return Ok(()) };
    descriptor.sync = note.cloned();
    root.sync()?;
    descriptor.store(root)
}

fn taken_over(
    host: &Host,
    root: &RootDir,
    id: Id,
    note: &SyncNote,
    patience: Duration,
) -> Result<TakenOver> {
    let end = Instant::now() + patience;
    let (items, _) = base::list(root)?;
    loop {
        let inventory = discover::discover(host)?;
        let done = namespace::in_private_namespace(|| {
            match Partner::find(host, &inventory, note, &items)? {
                Ok(partner) => from_partner(root, id, note.from, &partner).map(Ok),
                Err(why) => Ok(Err(why)),
            }
        });
        match done? {
            Ok(taken) => return Ok(taken),
            Err(why) if Instant::now() >= end => return Err(Error::Failed(why)),
            Err(_) => std::thread::sleep(Duration::from_secs(1)),
        }
    }
}

fn from_partner(root: &RootDir, id: Id, from: Id, partner: &Partner) -> Result<TakenOver> {
    let source = RootDir::open(partner.mounted.root())?;
    let base = Base::of((root, id), (&source, from))?.ok_or_else(|| {
        Error::Failed(format!("it is not known what '{}' and this one had in common", partner.name))
    })?;
    let is_shared = |path: &Path| partner.shares(path);
    let sides = Sides { source: &source, target: root, base: &base, is_shared: &is_shared };
    let (mut done, known) = take_over::take_over(&partner.name, &sides)?;
    // From now on, this is what both had.
    if done.is_whole
        && let Err(why) = base.renew(root, (&source, from), &known.accounts, &known.unknown)
    {
        done.warnings.push(format!("what both have now could not be kept: {why}"));
    }
    Ok(done)
}

/// Writes the notice at login of what was not taken over, or removes the old one.
fn notice(host: &Host, taken: &Result<TakenOver>) -> Result<()> {
    let text = match taken {
        Ok(taken) if taken.kept.is_empty() => String::new(),
        Ok(taken) => {
            let line = |(path, why): &(PathBuf, String)| {
                format!("  {}\n", printable(&format!("{}: {why}", path.display())))
            };
            format!(
                "Lifeboat: not taken over from boot environment '{}':\n{}",
                printable(&taken.from),
                taken.kept.iter().map(line).collect::<String>()
            )
        }
        Err(why) => format!(
            "Lifeboat: accounts, mail and logs were not taken over: {}\n",
            printable(&why.to_string())
        ),
    };
    let path = host.run.join(NOTICE);
    if text.is_empty() {
        return match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).at("removing", &path),
            _ => Ok(()),
        };
    }
    let directory = path.parent().unwrap_or(Path::new("/run"));
    std::fs::create_dir_all(directory).at("making the directory", directory)?;
    std::fs::write(&path, text).at("writing", &path)
}
