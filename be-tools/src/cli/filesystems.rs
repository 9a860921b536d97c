//! `be filesystems`

use clap::Args;
use indicatif::HumanBytes;

use super::context::Context;
use super::headings::OUTPUT;
use super::output::print_json;
use super::table;
use crate::discover;
use crate::error::Result;

/// List the file systems of a boot environment: device, type, size, copied or shared (lufslist)
#[derive(Debug, Args)]
pub struct FileSystems {
    /// The boot environment; the running one if none is given
    be: Option<String>,
    /// Print JSON
    #[arg(long, help_heading = OUTPUT, display_order = 100)]
    json: bool,
}

impl FileSystems {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        context.need_root("filesystems")?;
        let inventory = discover::discover(&context.host)?;
        let environment = inventory.find_or_running(self.be.as_deref())?;
        if self.json {
            print_json(&environment.file_systems)?;
            return Ok(0);
        }
        let mut rows =
            table::with_header(&["mount point", "device", "type", "size", "kind", "options"]);
        for f in &environment.file_systems {
            let row = [
                f.mountpoint.display().to_string(),
                f.device
                    .as_ref()
                    .map_or_else(|| format!("{} (not found)", f.spec), |d| d.display().to_string()),
                f.fs_type.clone(),
                f.size.map_or_else(|| "-".into(), |b| HumanBytes(b).to_string()),
                if f.shared { "shared" } else { "copied" }.into(),
                f.options.clone(),
            ];
            table::add(&mut rows, row);
        }
        table::print(&rows)?;
        Ok(0)
    }
}
