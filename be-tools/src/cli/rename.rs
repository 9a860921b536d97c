//! `be rename`

use clap::Args;

use super::Context;
use crate::environment::Name;
use crate::error::Result;
use crate::rename;

/// Give a boot environment another name (lurename)
#[derive(Debug, Args)]
pub struct Rename {
    /// Which one
    be: String,
    /// Its new name
    name: Name,
}

impl Rename {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        context.need_root("rename")?;
        rename::rename(&context.system, &self.be, self.name)?;
        Ok(0)
    }
}
