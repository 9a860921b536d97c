//! `be filesystems`

use clap::Args;
use indicatif::HumanBytes;

use super::context::Context;
use super::headings::OUTPUT;
use super::output::print_json;
use super::table;
use crate::discover;
use crate::environment::FileSystemUse;
use crate::error::Result;
use crate::layout::Treatment;

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
                kind(f, environment.is_managed()).into(),
                f.options.clone(),
            ];
            table::add(&mut rows, row);
        }
        table::print(&rows)?;
        Ok(0)
    }
}

/// What a file system is to a BE; of an unmanaged one, what `be create` would make of it.
fn kind(line: &FileSystemUse, is_managed: bool) -> &'static str {
    match Treatment::of(line) {
        Treatment::Kept => "kept",
        _ if line.shared => "shared",
        Treatment::Shared if !is_managed => "shared",
        Treatment::Copied | Treatment::Shared => "copied",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_unmanaged_system_only_what_create_would_copy_is_copied() {
        let line = |mountpoint: &str, spec: &str, shared: bool| FileSystemUse {
            device: None,
            fs_type: if spec.contains(':') { "nfs" } else { "ext4" }.into(),
            shared,
            ..FileSystemUse::example(mountpoint, spec)
        };
        for (mountpoint, spec, shared, unmanaged, managed) in [
            ("/", "UUID=1", false, "copied", "copied"),
            ("/var", "UUID=1", false, "copied", "copied"),
            ("/srv", "UUID=1", false, "shared", "copied"),
            ("/home", "UUID=1", true, "shared", "shared"),
            ("/nas", "nas:/export", false, "kept", "kept"),
        ] {
            let line = line(mountpoint, spec, shared);
            assert_eq!(kind(&line, false), unmanaged, "{mountpoint}");
            assert_eq!(kind(&line, true), managed, "{mountpoint}");
        }
    }
}
