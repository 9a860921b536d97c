//! `be refresh`

use clap::Args;

use super::acting_options::ActingOptions;
use super::context::Context;
use super::selection::Selection;
use crate::error::Result;
use crate::layout::MountPoint;
use crate::operations::refresh;

/// Bring a boot environment up to date with the one it was copied from, writing only what differs
/// (lumake)
#[derive(Debug, Args)]
#[command(
    after_help = "Changes that were made in BE itself are lost. Its identity, its boot entry and \
        its loader are kept. A refresh that was interrupted can be run again.\n\nExamples:\n  \
    be refresh nightly\n  \
    be refresh nightly --yes --unattended     # from a timer\n  \
    be refresh second --from third --checksum"
)]
pub struct Refresh {
    /// The boot environment to bring up to date
    be: String,
    /// Boot environment to copy, instead of the one that it was copied from
    #[arg(long, value_name = "BE")]
    from: Option<String>,
    /// Compare the content of all files, even if their sizes and times are equal
    #[arg(long)]
    checksum: bool,
    /// Fill this file system of BE's fstab too, although nothing shows that it was made for BE; from
    /// then on it counts as made for BE
    #[arg(long, value_name = "MOUNTPOINT")]
    take_over: Vec<MountPoint>,
    /// Leave this file system of BE's fstab as it is, now and from then on
    #[arg(long, value_name = "MOUNTPOINT")]
    keep: Vec<MountPoint>,
    /// Refresh a copy on another kind of storage than that of its source
    #[arg(long)]
    other_storage: bool,
    /// Refresh a boot environment that the machine starts by itself; with --unattended, also one
    /// that has run or was changed since it was last equal to its source
    #[arg(long)]
    force: bool,
    /// No one sees the plan, as when a timer runs it: refuse a boot environment that has run or was
    /// changed since it was last equal to its source, whose trial is pending, that is not on the
    /// devices for which it was scheduled, or that is on a removable disk; wait for another
    /// operation that is in progress
    #[arg(long)]
    unattended: bool,
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    acting: ActingOptions,
}

impl Refresh {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        context.need_root("refresh")?;
        let request = refresh::RefreshRequest {
            target: self.be,
            from: self.from,
            checksum: self.checksum,
            take_over: self.take_over,
            keep: self.keep,
            other_storage: self.other_storage,
            force: self.force,
            unattended: self.unattended,
            selection: self.selection.read()?,
        };
        let mut report = context.report("refresh", &self.acting);
        let Some(done) = refresh::refresh(&context.host, &request, &mut report)? else {
            return Ok(0);
        };
        let name = &done.descriptor.name;
        report.say(&format!(
            "'{name}' is complete: of {} files {} differed, {} were removed.",
            done.files, done.changed, done.removed
        ));
        Ok(report.lost(&done.descriptor, "keep their old content or are missing"))
    }
}
