//! `be describe`

use clap::Args;

use super::{Acting, Context, print_line};
use crate::discover;
use crate::error::Result;
use crate::rename;

/// Set or print a boot environment's description (ludesc)
#[derive(Debug, Args)]
pub struct Describe {
    /// Which one
    be: String,
    /// The new description; without it, print the present one
    text: Option<String>,
    #[command(flatten)]
    acting: Acting,
}

impl Describe {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        context.need_root("describe")?;
        match self.text {
            Some(text) => {
                let mut report = context.unasked_report("describe", &self.acting);
                rename::describe(&context.system, &self.be, text, &mut report)?;
            }
            None => {
                let inventory = discover::discover(&context.system)?;
                let environment = inventory.find(&self.be)?;
                print_line(environment.descriptor.as_ref().map_or("", |d| d.description.as_str()))?;
            }
        }
        Ok(0)
    }
}
