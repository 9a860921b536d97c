//! What a BE takes over from the one that ran last when it starts for the first time: accounts,
//! mail and logs that were changed there while it waited (Live Upgrade's synclist(4)).

mod accounts;
pub(super) mod base;
mod grown;
mod list;
mod take_over;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::discover;
use crate::environment::mounted::MountedEnvironment;
use crate::environment::{BootEnvironment, Descriptor, Id, Inventory};
use crate::error::{Doing, Error, Result};
use crate::escape::printable;
use crate::host::Host;
use crate::root_dir::RootDir;
use crate::session::lock::BootLock;
use crate::storage::namespace;

pub use accounts::{Merged, merge};
pub use list::{Item, Manner, parse};
pub use take_over::TakenOver;

/// How long the disk of the other BE is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

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
            let is_copy = id.is_some() && descriptor.source == id;
            Ok(running.filter(|_| descriptor.unstarted && is_copy && !environment.running))
        }
        SyncChoice::Never => Ok(None),
    }
}

/// What lifeboat-sync.service does: takes over what an activation has chosen. `None` if nothing was
/// chosen. If the power fails meanwhile, the next start goes on.
///
/// # Errors
/// The other BE is not found or cannot be read, or a file cannot be written.
pub fn at_boot(host: &Host) -> Result<Option<TakenOver>> {
    let root = RootDir::open(&host.root)?;
    let Some(from) = Descriptor::load(&root)?.and_then(|descriptor| descriptor.sync) else {
        return Ok(None);
    };
    let taken = taken_over(host, &root, from);
    notice(host, &taken)?;
    let taken = taken?;
    let _lock = BootLock::acquire(host)?;
    // Another service may have written it meanwhile.
    if let Some(mut descriptor) = Descriptor::load(&root)? {
        descriptor.sync = None;
        root.sync()?;
        descriptor.store(&root)?;
    }
    Ok(Some(taken))
}

fn taken_over(host: &Host, root: &RootDir, from: Id) -> Result<TakenOver> {
    let end = Instant::now() + PATIENCE;
    let inventory = loop {
        let inventory = discover::discover(host)?;
        if find(&inventory, from).is_some() || Instant::now() > end {
            break inventory;
        }
        std::thread::sleep(Duration::from_secs(1));
    };
    let other = find(&inventory, from).ok_or_else(|| {
        Error::Failed(format!("the boot environment {from}, which ran last, is on no disk"))
    })?;
    namespace::in_private_namespace(|| {
        let mounted = MountedEnvironment::mount_system(host, &inventory, other)?;
        let source = RootDir::open(mounted.root())?;
        take_over::take_over(other.name(), &source, root)
    })
}

fn find(inventory: &Inventory, id: Id) -> Option<&BootEnvironment> {
    let is_it = |other: &&BootEnvironment| {
        !other.running && other.descriptor.as_ref().is_some_and(|descriptor| descriptor.id == id)
    };
    inventory.environments.iter().find(is_it)
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
