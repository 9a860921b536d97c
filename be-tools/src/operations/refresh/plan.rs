//! The steps of `be refresh`, in order, and its plan.

use super::job::Job;
use super::step::{Step, TreeStep};
use crate::plan::{Plan, PlannedDevice};
use crate::populate::source::ReplayJournal;
use crate::step::lines;

impl Job<'_> {
    /// The steps.
    pub(super) fn steps(&self) -> Vec<Step<'_>> {
        let name = &self.descriptor.name;
        let mut steps: Vec<Step> = self.hooks.before().map(Step::Hook).collect();
        steps.extend(self.journals.iter().map(|j| Step::ReplayJournal(ReplayJournal(j))));
        steps.push(Step::Begin(name));
        steps.extend(self.target.boot_entry.map(|_| Step::MakeInactive));
        let taken = self.taken_over.iter().filter_map(|m| self.layout.at(m));
        steps.extend(taken.map(Step::TakeOver));
        steps.push(Step::Mount(name));
        for tree in self.layout.copies() {
            let Some(target) = self.layout.at(&tree.target) else { continue };
            steps.push(Step::Compare(TreeStep {
                tree,
                source: self.source.name(),
                target,
                checksum: self.request.checksum,
            }));
        }
        steps.extend(self.hooks.after().map(Step::Hook));
        steps.push(Step::Localize);
        steps.extend([
            Step::Record(name),
            Step::Sync(name),
            Step::Complete(name),
            Step::Unmount(name),
        ]);
        steps.extend(self.target.boot_entry.map(|_| Step::MakeActive));
        steps
    }

    /// The plan with these steps.
    pub(super) fn plan(&self, steps: &[Step]) -> Plan {
        let (name, source) = (&self.descriptor.name, self.source.name());
        let mut plan = Plan {
            title: format!("Refresh boot environment '{name}' from '{source}'"),
            steps: lines(steps),
            ..Plan::default()
        };
        for file_system in &self.layout.file_systems {
            let becomes =
                format!("{} of '{name}', equal to that of '{source}'", file_system.mountpoint);
            let planned = file_system.provision.planned(becomes).of(name.as_str());
            plan.devices.push(PlannedDevice { erased: false, ..planned });
        }
        for mountpoint in &self.layout.left {
            plan.notes.push(format!("{mountpoint} of '{name}' stays as it is, in its fstab too"));
        }
        plan.notes.extend(self.target.trial_called_off());
        if !self.kept.is_empty() {
            plan.notes.push(format!(
                "'{name}' is another machine than '{source}': its machine-id and ssh host keys are \
                kept"
            ));
        }
        if let Some(since) = self.descriptor.changed {
            plan.notes.push(format!(
                "'{name}' has run or was changed since {since}: what is only in it is lost"
            ));
        }
        plan.notes.push(format!(
            "changes that were made in '{name}' itself are lost, except to its own {} and to what \
            is never copied",
            self.own_settings.join(", ")
        ));
        plan.notes.extend(self.notes.iter().cloned());
        plan
    }
}
