//! `be verify`: whether a BE is as it was when it was last complete, file by file, and its damaged
//! files put back from another BE.

mod record;
mod repair;
mod subject;

use std::collections::HashMap;
use std::path::PathBuf;

use serde::Serialize;

use crate::discover;
use crate::distribution::installed_packages::{installed, owners};
use crate::environment::mounted::MountedEnvironment;
use crate::error::Result;
use crate::escape;
use crate::host::Host;
use crate::root_dir::RootDir;
use crate::storage::namespace;
use crate::tree::inspect::Inspected;
use crate::tree::manifest::{Finding, Status};
use subject::{findings, manifest_of, refuse_unclean, refuse_unfinished};

pub use record::record;
pub use repair::{RepairRequest, Repaired, repair};

/// What to verify.
#[derive(Clone, Debug)]
pub struct VerifyRequest {
    /// What names the BE; `None` is the running one.
    pub reference: Option<String>,
    /// Globs on paths as the BE sees them: what is left out.
    pub exclude: Vec<String>,
}

/// What was found in a BE.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verification {
    /// The name of the BE.
    pub name: String,
    /// What names it on a command line.
    pub reference: String,
    /// Whether it is the running one, in which changes are expected.
    pub running: bool,
    /// Files that are not as they were, although no program has written to them, by path.
    pub damaged: Vec<FileFinding>,
    /// What was changed, removed or added since, by path.
    pub changed: Vec<FileFinding>,
    /// Files whose content was never recorded, and so is not proved.
    pub unproved: u64,
    /// How many entries `damaged` and `changed` have, also where they are left out.
    pub counts: Counts,
    /// How many entries were looked at.
    pub entries: u64,
    /// How many bytes were read.
    pub bytes: u64,
    /// Whether all its file systems were there.
    pub whole: bool,
    /// What was left out, as sentences.
    pub warnings: Vec<String>,
}

/// How many entries are not as they were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Damaged ones.
    pub damaged: usize,
    /// Changed ones.
    pub changed: usize,
}

/// An entry that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileFinding {
    /// Its path, as the BE sees it. In JSON, bytes that are not UTF-8 are `\\x` and two digits.
    #[serde(serialize_with = "escape::serialize_path")]
    pub path: PathBuf,
    /// The package that it belongs to, if any.
    pub package: Option<String>,
    /// How it differs.
    #[serde(flatten)]
    pub status: FileStatus,
}

/// How an entry differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "kebab-case")]
pub enum FileStatus {
    /// It has other attributes or other content: `type`, `mode`, `owner`, `size`, `target`,
    /// `device`, `xattrs`, `content`.
    Different {
        /// What differs; at least one.
        attributes: Vec<&'static str>,
    },
    /// It cannot be read.
    Unreadable {
        /// Why.
        reason: String,
    },
    /// It is not there any more.
    Missing {
        /// Its type.
        kind: &'static str,
    },
    /// It was not there.
    Added {
        /// Its type.
        kind: &'static str,
    },
}

/// Verifies a BE. Nothing is written. `progress` is called with the count so far, and the number of
/// entries in all.
///
/// # Errors
/// The BE is not found, is incomplete, has no manifest or cannot be mounted, and
/// [`Error::Interrupted`](crate::Error::Interrupted).
pub fn verify(
    host: &Host,
    request: &VerifyRequest,
    progress: &mut dyn FnMut(Inspected, u64),
) -> Result<Verification> {
    let inventory = discover::discover(host)?;
    let environment = inventory.find_or_running(request.reference.as_deref())?;
    refuse_unfinished(environment)?;
    if !environment.running {
        refuse_unclean(host, &inventory, environment)?;
    }
    namespace::enter_private_namespace()?;
    let mounted = MountedEnvironment::mount_system(host, &inventory, environment)?;
    let root = RootDir::open(mounted.root())?;
    let manifest = manifest_of(environment, &root)?;
    let found = findings(environment, &mounted, &manifest, &request.exclude, progress)?;
    let mut verification = Verification {
        name: environment.name().to_owned(),
        reference: environment.reference.clone(),
        running: environment.running,
        unproved: found.unproved,
        entries: found.inspected.entries,
        bytes: found.inspected.bytes,
        whole: mounted.warnings().is_empty(),
        warnings: mounted.warnings().to_vec(),
        ..Verification::default()
    };
    let paths: Vec<PathBuf> = found.findings.iter().map(|finding| finding.path.clone()).collect();
    // Without the lists of the packages, the files are still named.
    let owners = installed(&root).and_then(|installed| owners(&root, &installed, &paths));
    let owners = owners.unwrap_or_else(|why| {
        verification.warnings.push(format!("the packages of the files are not known: {why}"));
        HashMap::new()
    });
    for Finding { path, status } in found.findings {
        let is_damage = status.is_damage();
        let package = owners.get(&path).cloned();
        let finding = FileFinding { path, package, status: status.into() };
        match is_damage {
            true => verification.damaged.push(finding),
            false => verification.changed.push(finding),
        }
    }
    let Verification { damaged, changed, counts, .. } = &mut verification;
    *counts = Counts { damaged: damaged.len(), changed: changed.len() };
    Ok(verification)
}

impl From<Status> for FileStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Damaged(attributes) | Status::Changed(attributes) => {
                FileStatus::Different { attributes }
            }
            Status::Unreadable(reason) => FileStatus::Unreadable { reason },
            Status::Missing(kind) | Status::Vanished(kind) => FileStatus::Missing { kind },
            Status::Added(kind) => FileStatus::Added { kind },
        }
    }
}
