//! `be refresh`

use clap::Args;

use super::acting_options::ActingOptions;
use super::context::Context;
use super::selection::Selection;
use crate::error::Result;
use crate::operations::refresh;

/// Bring a boot environment up to date with the one it was copied from, writing only what differs
/// (lumake)
#[derive(Debug, Args)]
#[command(
    after_help = "What was changed in BE itself is lost. Its identity, its boot entry and its \
        loader stay. An \
    interrupted refresh is run again.\n\nExamples:\n  \
    be refresh nightly\n  \
    be refresh nightly --yes --quiet          from a timer\n  \
    be refresh second --from third --checksum"
)]
pub struct Refresh {
    /// Which one
    be: String,
    /// Bring it up to date with this one instead of the one it was copied from
    #[arg(long, value_name = "BE")]
    from: Option<String>,
    /// Compare contents byte for byte, whatever sizes and times say
    #[arg(long)]
    checksum: bool,
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
        Ok(report.lost(&done.descriptor, "keep what they held before, or are missing"))
    }
}
