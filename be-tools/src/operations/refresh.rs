//! `be refresh`: an existing BE is brought up to date with its source, changing only what differs.

mod prepare;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::copy::{Mode, Trust};
use crate::environment::{BootEnvironment, Descriptor, Operation, State};
use crate::error::Result;
use crate::host::Host;
use crate::installed;
use crate::layout::{Layout, MountPoint};
use crate::loader;
use crate::plan::{Report, go_on};
use crate::populate::{self, Filling, source};
use crate::root_dir::RootDir;
use crate::session::Session;
use crate::session::hooks::Hooks;
use crate::storage::mounts::Mounted;
use crate::timestamp::Timestamp;
use crate::tree::exclude::Selection;
use crate::tree::measure::Totals;

/// What the user asked for.
#[derive(Debug, Default)]
pub struct Request {
    /// The BE to bring up to date.
    pub target: String,
    /// What to copy; the BE it was copied from if `None`.
    pub from: Option<String>,
    /// Compare the content of all files.
    pub checksum: bool,
    /// What is left as it is.
    pub selection: Selection,
}

/// What a refresh did.
#[derive(Clone, Debug)]
pub struct Refreshed {
    /// The BE as it is now.
    pub descriptor: Descriptor,
    /// Entries that are in it.
    pub files: u64,
    /// Those of them that differed.
    pub changed: u64,
    /// Entries that were removed.
    pub removed: u64,
}

/// Everything that was decided and checked before the first write.
struct Job<'a> {
    request: &'a Request,
    source: BootEnvironment,
    target: BootEnvironment,
    descriptor: Descriptor,
    layout: Layout,
    /// Of the layout's file systems.
    uuids: BTreeMap<MountPoint, String>,
    /// Of its own swap spaces.
    swap_uuids: Vec<String>,
    /// Devices of the source whose journal has to be replayed first.
    journals: Vec<PathBuf>,
    /// About how many entries there are.
    totals: Totals,
    /// What makes it another machine than the source, and stays.
    kept: Vec<PathBuf>,
    /// What is run around the copy.
    hooks: Hooks,
}

/// Settings that are made anew from the source's, so that the target never has those of the source.
const OWN_SETTINGS: [&str; 2] = ["/etc/fstab", "/etc/default/grub.d/lifeboat.cfg"];

/// Brings a BE up to date; `None` when the report stopped after the plan.
///
/// # Errors
/// A [`Refusal`](crate::Refusal) before anything is written; after any other error the BE says that
/// it is incomplete, and the command can be run again.
pub fn refresh(
    host: &Host,
    request: &Request,
    report: &mut dyn Report,
) -> Result<Option<Refreshed>> {
    let session = Session::new(host, "refresh")?;
    let job = Job::prepare(&session, request)?;
    if !report.confirm(&job.plan(&session.inventory)?)? {
        return Ok(None);
    }
    job.run(&session, report).map(Some)
}

impl Job<'_> {
    fn run(mut self, session: &Session, report: &mut dyn Report) -> Result<Refreshed> {
        let Session { host, inventory, work, outside, .. } = session;
        let (hooks, name) = (std::mem::take(&mut self.hooks), self.descriptor.name.clone());
        let target = name.as_str();
        let (mounted, mut done) = hooks
            .around("refresh", target, outside, report, |report| self.copy(session, report))?;
        self.localize(session, report)?;
        populate::sync(&mounted, report)?;
        self.descriptor.complete(&RootDir::open(&work.target)?)?;
        if self.target.boot_entry.is_some() {
            loader::for_environment(host, inventory, &self.target)?
                .set_active(self.descriptor.id, true)?;
        }
        done.descriptor = self.descriptor;
        Ok(done)
    }

    /// Marks the target as incomplete, and makes it equal to the source. Its file systems stay
    /// mounted.
    fn copy(
        &mut self,
        session: &Session,
        report: &mut dyn Report,
    ) -> Result<(Vec<Mounted>, Refreshed)> {
        let Session { host, inventory, work, .. } = session;
        source::replay_journals(inventory, &self.journals, &work.source, report)?;
        go_on()?;
        let mounted = populate::mount_target(&self.layout, &work.target)?;
        let trust = self.begin(&RootDir::open(&work.target)?)?;
        if self.target.boot_entry.is_some() {
            loader::for_environment(host, inventory, &self.target)?
                .set_active(self.descriptor.id, false)?;
        }
        let done = self.copy_trees(session, trust, report)?;
        Ok((mounted, done))
    }

    /// Marks the target as incomplete. What it says of itself before tells how far it is believed.
    fn begin(&mut self, root: &RootDir) -> Result<Trust> {
        let now = Timestamp::now();
        // Its times say nothing of another source, and nothing once the clock was set back.
        let same_source =
            self.source.descriptor.as_ref().is_some_and(|d| self.descriptor.source == Some(d.id));
        let complete = self.descriptor.completed.filter(|moment| same_source && *moment <= now);
        let checksum = self.request.checksum;
        if self.descriptor.state == State::Complete {
            self.descriptor.begin(Operation::Refresh, root)?;
            return Ok(Trust { checksum, complete, interrupted: None });
        }
        let began = self.descriptor.began.filter(|moment| *moment <= now);
        if began.is_none() {
            self.descriptor.begin(Operation::Refresh, root)?;
        }
        Ok(Trust {
            checksum: checksum || began.is_none(),
            complete,
            interrupted: began.map(Timestamp::earlier),
        })
    }

    fn copy_trees(
        &mut self,
        session: &Session,
        trust: Trust,
        report: &mut dyn Report,
    ) -> Result<Refreshed> {
        self.descriptor.source = self.source.descriptor.as_ref().map(|d| d.id);
        self.descriptor.shared =
            self.layout.shared.iter().map(|m| m.as_path().to_owned()).collect();
        (self.descriptor.lost, self.descriptor.lost_more) = (Vec::new(), 0);
        let mut done =
            Refreshed { descriptor: self.descriptor.clone(), files: 0, changed: 0, removed: 0 };
        for tree in self.layout.copies() {
            go_on()?;
            report.part(&format!("comparing {} with '{}'", tree.source, self.source.name()));
            let mut rules = populate::exclude(&self.source, &self.request.selection, &tree);
            let own = OWN_SETTINGS.into_iter().chain(installed::installed()).map(PathBuf::from);
            for kept in own.chain(self.kept.iter().cloned()) {
                rules = rules.never(&Path::new("/").join(kept));
            }
            let filling = self.filling(session);
            let summary =
                filling.copy(&tree, rules, (Mode::Refresh(trust), Some(self.totals)), report)?;
            populate::note(&summary, &mut self.descriptor, report);
            done.files += summary.files;
            done.changed += summary.changed;
            done.removed += summary.removed;
        }
        Ok(done)
    }

    fn localize(&self, session: &Session, report: &mut dyn Report) -> Result<()> {
        let Session { host, inventory, work, .. } = session;
        let fstab = {
            let root =
                source::mount(host, inventory, &self.source, &MountPoint::root(), &work.source)?;
            RootDir::open(root.dir())?.text("etc/fstab")?.unwrap_or_default()
        };
        let filling = self.filling(session);
        filling.localize(self.descriptor.id, None, Some(&fstab), report)
    }

    fn filling<'a>(&'a self, session: &'a Session) -> Filling<'a> {
        let (source, layout, uuids, swap_uuids) =
            (&self.source, &self.layout, &self.uuids, &self.swap_uuids);
        Filling { session, source, layout, uuids, swap_uuids }
    }
}
