//! `be create`

use clap::{Args, ValueEnum};

use super::acting_options::ActingOptions;
use super::context::Context;
use super::headings::SPECIAL_CASES;
use super::selection::Selection;
use super::upgrade::ConfFiles;
use super::{activate, upgrade};
use crate::distribution::package_manager::Change;
use crate::environment::Name;
use crate::error::{Error, Result};
use crate::layout::Placement;
use crate::operations::create;
use crate::operations::successor::{self, Succeeded, Successor};
use crate::operations::upgrade::UpgradeRequest;

/// Make a new boot environment, a copy of the running one or of another (lucreate)
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    be create second -m /:/dev/vda3:ext4\n  \
    be create second -m /:/dev/sdb2:xfs -m /var:/dev/sdb3:ext4 -m /home:shared\n  \
    be create next -m /:/dev/vda3:ext4 --release trixie --activate\n  \
    be create good --from second --replace broken")]
pub struct Create {
    /// Name of the new boot environment: letters, digits, '.', '_' and '-'
    name: Name,
    /// Boot environment to copy, instead of the running one
    #[arg(long, value_name = "BE")]
    from: Option<String>,
    /// Put a file system on a device: MOUNTPOINT:DEVICE:FSTYPE[:OPTIONS], or -:DEVICE:swap for swap
    /// space. MOUNTPOINT:merged copies its content to the file system above it, and
    /// MOUNTPOINT:shared mounts the file system of the source. Repeat the option for each file
    /// system
    #[arg(
        short = 'm',
        long = "filesystem",
        value_name = "MOUNTPOINT:DEVICE:FSTYPE",
        allow_hyphen_values = true
    )]
    filesystem: Vec<Placement>,
    /// Erase the devices of this boot environment, and make the new one on them
    #[arg(long, value_name = "BE", conflicts_with = "filesystem")]
    replace: Option<String>,
    /// Upgrade all packages of the copy, as `be upgrade --dist` does
    #[arg(long, conflicts_with_all = ["release", "empty"])]
    upgrade: bool,
    /// Upgrade the copy to this release of Debian, as `be upgrade --release` does
    #[arg(long, conflicts_with = "empty")]
    release: Option<String>,
    /// What becomes of a configuration file that was changed by hand and that a package changes too
    #[arg(long, value_name = "WHICH", default_value = "keep")]
    conffiles: ConfFiles,
    /// Try the new boot environment at the next boot, as `be activate` does
    #[arg(long, conflicts_with_all = ["no_boot_entry", "empty"])]
    activate: bool,
    /// How the content is copied
    #[arg(long, value_enum, default_value_t, conflicts_with = "empty")]
    method: Method,
    /// What the new boot environment is for
    #[arg(long, default_value = "", hide_default_value = true)]
    description: String,
    #[command(flatten)]
    selection: Selection,
    /// Name under which the running system is adopted, if it is not a boot environment yet; the
    /// name of the host if none is given
    #[arg(long, value_name = "NAME", help_heading = SPECIAL_CASES)]
    current: Option<Name>,
    /// Give the copy a machine identity of its own: machine-id and ssh host keys
    #[arg(long, help_heading = SPECIAL_CASES)]
    new_machine: bool,
    /// Write nothing to the firmware or the ESP, for a copy that another machine will boot
    #[arg(long, help_heading = SPECIAL_CASES)]
    no_boot_entry: bool,
    /// Make the file systems without copying anything to them
    #[arg(
        long,
        help_heading = SPECIAL_CASES,
        conflicts_with_all = ["from", "exclude", "exclude_from", "include"]
    )]
    empty: bool,
    /// Copy to another kind of storage than the source's, such as from LVM to a partition; what the
    /// copy then needs to start is for you to finish
    #[arg(long, help_heading = SPECIAL_CASES)]
    other_storage: bool,
    /// Erase devices even if they hold data or an unmanaged system
    #[arg(long, help_heading = SPECIAL_CASES)]
    force: bool,
    #[command(flatten)]
    acting: ActingOptions,
}

/// The library's methods, with their help.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Method {
    /// Blocks if nothing writes to the source and the target has the same type, files otherwise
    #[default]
    Auto,
    /// A snapshot in the pool of the source; not supported yet
    Snapshot,
    /// The used blocks of ext2, ext3, ext4 or xfs
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
        let then = Successor { upgrade: self.upgrade_request(), activate: self.activate };
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
            other_storage: self.other_storage,
            force: self.force,
        };
        let mut report = context.report("create", &self.acting);
        let created = successor::create(&context.host, &request, &then, &mut report);
        if matches!(created, Err(Error::Interrupted))
            && let Ok(remains) = create::remains(&context.host, &request.name)
        {
            report.say(&remains);
        }
        let Some(Succeeded { descriptor: created, upgraded, activated, not_followed }) = created?
        else {
            return Ok(0);
        };
        let name = &created.name;
        let mut status = upgraded.map_or(0, |done| upgrade::say(&report, &done));
        if let Some(why) = not_followed {
            report.lost(&created, "are missing");
            return Err(why);
        }
        if let Some(activation) = activated {
            report.say(&activate::said(name.as_str(), activation));
        } else if status == 0 && request.boot_entry && !request.empty {
            report.say(&format!(
                "'{name}' is complete and in the firmware's boot menu. To try it, run `be activate \
                {name}` and reboot."
            ));
        } else {
            report.say(&format!("'{name}' is complete."));
        }
        status = status.max(report.lost(&created, "are missing"));
        Ok(status)
    }

    fn upgrade_request(&self) -> Option<UpgradeRequest> {
        let change = match &self.release {
            Some(release) => Change::Release(release.clone()),
            None if self.upgrade => Change::All,
            None => return None,
        };
        Some(UpgradeRequest {
            reference: self.name.to_string(),
            change,
            configuration: self.conffiles.into(),
            writable: Vec::new(),
            network: false,
            // --force is the consent to erase, not the one to run programs from elsewhere.
            force: false,
            unattended: false,
        })
    }
}
