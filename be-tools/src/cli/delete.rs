//! `be delete`

use clap::Args;

use super::acting_options::ActingOptions;
use super::context::Context;
use crate::error::Result;
use crate::operations::delete;

/// Delete a boot environment: its boot entry, its loader, and the content of its devices (ludelete)
#[derive(Debug, Args)]
pub struct Delete {
    /// The boot environment to delete
    be: String,
    /// Delete it even if it is unmanaged, a system that Lifeboat did not make
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    acting: ActingOptions,
}

impl Delete {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        context.need_root("delete")?;
        let mut report = context.report("delete", &self.acting);
        if delete::delete(&context.host, &self.be, self.force, &mut report)? {
            report.say(&format!("'{}' is deleted.", self.be));
        }
        Ok(0)
    }
}
