//! `be describe`

use clap::Args;
use serde::Serialize;

use super::acting_options::ActingOptions;
use super::context::Context;
use super::output::{print_json, print_line};
use crate::discover;
use crate::error::Result;
use crate::operations::describe;

/// Set or print the description of a boot environment (ludesc)
#[derive(Debug, Args)]
pub struct Describe {
    /// The boot environment
    be: String,
    /// The new description; without it, print the present one
    text: Option<String>,
    #[command(flatten)]
    acting: ActingOptions,
}

#[derive(Serialize)]
struct Description<'a> {
    name: &'a str,
    description: &'a str,
}

impl Describe {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        context.need_root("describe")?;
        match self.text {
            Some(text) => {
                let mut report = context.unasked_report("describe", &self.acting);
                describe::describe(&context.host, &self.be, text, &mut report)?;
            }
            None => {
                let inventory = discover::discover(&context.host)?;
                let environment = inventory.find(&self.be)?;
                let description =
                    environment.descriptor.as_ref().map_or("", |d| d.description.as_str());
                if self.acting.json {
                    print_json(&Description { name: environment.name(), description })?;
                } else {
                    print_line(description)?;
                }
            }
        }
        Ok(0)
    }
}
