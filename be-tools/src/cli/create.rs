//! `be create`

use clap::{Args, ValueEnum};

use super::acting_options::ActingOptions;
use super::context::Context;
use super::selection::Selection;
use crate::environment::Name;
use crate::error::Result;
use crate::layout::Placement;
use crate::operations::create;

/// Make a new boot environment, a copy of the running one or of another (lucreate)
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    be create second -m /:/dev/vda3:ext4\n  \
    be create second -m /:/dev/sdb2:xfs -m /var:/dev/sdb3:ext4 -m /home:shared\n  \
    be create good --from second --replace broken")]
pub struct Create {
    /// Its name: letters, digits, '.', '_' and '-'
    name: Name,
    /// Copy this one instead of the running one
    #[arg(long, value_name = "BE")]
    from: Option<String>,
    /// Make the file systems and copy nothing into them
    #[arg(long, conflicts_with_all = ["from", "exclude", "exclude_from", "include"])]
    empty: bool,
    /// Where a file system of the new one lies: MOUNTPOINT:DEVICE:FSTYPE[:OPTIONS], -:DEVICE:swap,
    /// MOUNTPOINT:merged or MOUNTPOINT:shared; repeat it for each
    #[arg(
        short = 'm',
        long = "filesystem",
        value_name = "MOUNTPOINT:DEVICE:FSTYPE",
        allow_hyphen_values = true
    )]
    filesystem: Vec<Placement>,
    /// Put the new one in the place of this one, whose devices are erased
    #[arg(long, value_name = "BE", conflicts_with = "filesystem")]
    replace: Option<String>,
    /// How the content is copied
    #[arg(long, value_enum, default_value_t, conflicts_with = "empty")]
    method: Method,
    #[command(flatten)]
    selection: Selection,
    /// What it is for
    #[arg(long, default_value = "")]
    description: String,
    /// Name the running system, if it is not a boot environment yet
    #[arg(long, value_name = "NAME")]
    current: Option<Name>,
    /// Give it a machine identity of its own: machine-id, ssh host keys
    #[arg(long)]
    new_machine: bool,
    /// A copy that another machine will boot: write nothing to firmware or ESP
    #[arg(long)]
    no_boot_entry: bool,
    /// Erase devices that hold data
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    acting: ActingOptions,
}

/// The library's methods, with their help.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Method {
    /// Blocks where nobody writes to the source and the target takes the same type, files otherwise
    #[default]
    Auto,
    /// A snapshot in the pool of the source
    Snapshot,
    /// Used blocks of ext4 or xfs
    Block,
    /// Files
    Copy,
}

impl From<Method> for create::Method {
    fn from(method: Method) -> Self {
        match method {
            Method::Auto => create::Method::Auto,
            Method::Snapshot => create::Method::Snapshot,
            Method::Block => create::Method::Block,
            Method::Copy => create::Method::Copy,
        }
    }
}

impl Create {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        context.need_root("create")?;
        let request = create::CreateRequest {
            name: self.name,
            from: self.from,
            empty: self.empty,
            placements: self.filesystem,
            replace: self.replace,
            method: self.method.into(),
            selection: self.selection.read()?,
            description: self.description,
            current: self.current,
            new_machine: self.new_machine,
            boot_entry: !self.no_boot_entry,
            force: self.force,
        };
        let mut report = context.report("create", &self.acting);
        let Some(created) = create::create(&context.host, &request, &mut report)? else {
            return Ok(0);
        };
        let name = &created.name;
        if request.boot_entry && !request.empty {
            report.say(&format!(
                "'{name}' is complete and in the firmware's boot menu. `be activate {name}` and a \
                reboot try it."
            ));
        } else {
            report.say(&format!("'{name}' is complete."));
        }
        Ok(report.lost(&created, "are missing"))
    }
}
