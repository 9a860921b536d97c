//! `be adopt`

use clap::Args;

use super::acting_options::ActingOptions;
use super::context::Context;
use crate::environment::Name;
use crate::error::Result;
use crate::operations::adopt;

/// Make the running system a boot environment (lucreate -c)
#[derive(Debug, Args)]
pub struct Adopt {
    /// Its name; the name of the host if none is given
    name: Option<Name>,
    #[command(flatten)]
    acting: ActingOptions,
}

impl Adopt {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        context.need_root("adopt")?;
        let mut report = context.report("adopt", &self.acting);
        if let Some(descriptor) = adopt::adopt(&context.host, self.name, &mut report)? {
            report
                .say(&format!("The running system is now boot environment '{}'.", descriptor.name));
        }
        Ok(0)
    }
}
