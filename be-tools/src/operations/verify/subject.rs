//! The BE that is verified, and its manifest.

use crate::environment::mounted::MountedEnvironment;
use crate::environment::unclean::unclean;
use crate::environment::{BootEnvironment, Inventory, manifest};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::root_dir::RootDir;
use crate::tree::inspect::Inspected;
use crate::tree::listing::Tree;
use crate::tree::manifest::{Findings, Manifest, verify};

/// Refuses a BE that is not whole: its manifest is of another time.
pub(super) fn refuse_unfinished(environment: &BootEnvironment) -> Result<()> {
    environment.descriptor.as_ref().map_or(Ok(()), |d| Ok(d.refuse_incomplete()?))
}

/// Refuses a BE whose files are not known before its journals were replayed: a program may have
/// written what only a journal says it has.
///
/// # Errors
/// It was not cleanly shut down, or is hibernated. Call this before it is mounted.
pub(super) fn refuse_unclean(
    host: &Host,
    inventory: &Inventory,
    environment: &BootEnvironment,
) -> Result<()> {
    environment.refuse_hibernated()?;
    let unclean = unclean(host, inventory, environment)?;
    let Some(device) = unclean.first() else { return Ok(()) };
    let (name, reference) = (environment.name(), &environment.reference);
    Err(Error::Failed(format!(
        "'{name}' was not shut down cleanly: what the journal on {} says is not in its files yet, and \
        would look like damage. `be run {reference} -- true` replays it",
        device.node.display()
    )))
}

/// # Errors
/// It has none, or that cannot be read.
pub(super) fn manifest_of(environment: &BootEnvironment, root: &RootDir) -> Result<Manifest> {
    manifest::read(root)?.ok_or_else(|| {
        let (name, reference) = (environment.name(), &environment.reference);
        Error::Failed(format!(
            "'{name}' has no manifest to compare it with: `be verify --record {reference}` writes \
            one of what is there now"
        ))
    })
}

/// What of a mounted BE is not as its manifest says, except what matches `exclude`.
///
/// # Errors
/// It cannot be read, and [`Error::Interrupted`].
pub(super) fn findings(
    environment: &BootEnvironment,
    mounted: &MountedEnvironment,
    known: &Manifest,
    exclude: &[String],
    progress: &mut dyn FnMut(Inspected, u64),
) -> Result<Findings> {
    let rules = manifest::rules(environment.swap_files(), &[]);
    let rules = exclude.iter().fold(rules, |rules, glob| rules.exclude(glob.as_ref()));
    let total = known.len() as u64;
    verify(&Tree::open(mounted.root(), true)?, &rules, known, &mut |count| {
        progress(count, total);
        Ok(())
    })
}
