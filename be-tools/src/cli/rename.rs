//! `be rename`

use clap::Args;

use super::acting_options::ActingOptions;
use super::context::Context;
use crate::environment::Name;
use crate::error::Result;
use crate::operations::rename;

/// Give a boot environment another name (lurename)
#[derive(Debug, Args)]
pub struct Rename {
    /// The boot environment to rename
    be: String,
    /// Its new name
    name: Name,
    #[command(flatten)]
    acting: ActingOptions,
}

impl Rename {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        context.need_root("rename")?;
        let mut report = context.unasked_report("rename", &self.acting);
        rename::rename(&context.host, &self.be, self.name, &mut report)?;
        Ok(0)
    }
}
