//! `be mount` and `be umount`

use std::path::{Path, PathBuf};

use clap::Args;

use super::acting_options::ActingOptions;
use super::context::Context;
use super::output::print_line;
use crate::discover;
use crate::environment::Inventory;
use crate::environment::mounted::MountMode;
use crate::error::{Error, Result};
use crate::operations::mount;

/// Mount a boot environment with its file systems, also the shared ones, but without the ESP
/// (lumount)
#[derive(Debug, Args)]
pub struct Mount {
    /// The boot environment to mount
    be: String,
    /// The directory to mount it on; /run/lifeboat/mnt/NAME if none is given
    dir: Option<PathBuf>,
    /// Mount it read-only
    #[arg(long)]
    read_only: bool,
    /// Mount this file system of its fstab for writing although it is on another disk; may be given
    /// several times
    #[arg(long, value_name = "MOUNTPOINT", conflicts_with = "read_only")]
    writable: Vec<PathBuf>,
    /// Let its set-user-ID programs and device nodes work, which is safe only for systems that you
    /// trust
    #[arg(long, conflicts_with = "read_only")]
    suid: bool,
    #[command(flatten)]
    acting: ActingOptions,
}

impl Mount {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        context.need_root("mount")?;
        let mut report = context.unasked_report("mount", &self.acting);
        let dir = self.dir.as_deref();
        let mode = match (self.read_only, self.suid) {
            (true, _) => MountMode::ReadOnly,
            (false, true) => MountMode::ForCommands,
            (false, false) => MountMode::ReadWrite,
        };
        let mounted =
            mount::mount(&context.host, &self.be, dir, mode, &self.writable, &mut report)?;
        if let Some(dir) = mounted {
            // With --json only the plan is printed. It contains the directory, as `be list` does.
            if !self.acting.json {
                print_line(&dir.display().to_string())?;
            }
        }
        Ok(0)
    }
}

/// Unmount a boot environment (luumount)
#[derive(Debug, Args)]
pub struct Umount {
    /// The boot environment, or the directory on which it is mounted
    be_or_dir: String,
    #[command(flatten)]
    acting: ActingOptions,
}

impl Umount {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        context.need_root("umount")?;
        let mut report = context.unasked_report("umount", &self.acting);
        // The library treats an argument without a slash as a name.
        let is_directory = !self.be_or_dir.contains('/')
            && Path::new(&self.be_or_dir).is_dir()
            && is_mounted_on(&discover::discover(&context.host)?, &self.be_or_dir);
        let be_or_dir = if is_directory { format!("./{}", self.be_or_dir) } else { self.be_or_dir };
        mount::umount(&context.host, &be_or_dir, &mut report)?;
        Ok(0)
    }
}

/// Whether no BE has this name, and one is mounted on the directory of this name.
fn is_mounted_on(inventory: &Inventory, dir: &str) -> bool {
    let is_mount_point =
        |place: PathBuf| inventory.environments.iter().any(|e| e.mounted_at.contains(&place));
    matches!(inventory.find(dir), Err(Error::Usage(_)))
        && Path::new(dir).canonicalize().is_ok_and(is_mount_point)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::testing::debian_root;

    #[test]
    fn an_argument_is_a_directory_if_no_boot_environment_has_its_name() {
        let root = tempfile::tempdir().unwrap();
        let uuid = "2f0c1a94-0000-4000-8000-000000000001";
        debian_root(root.path(), "", uuid);
        let (_, mut environment, devices) = discover::environment_in(root.path(), uuid);
        // Tests run in the crate's directory.
        environment.mounted_at = vec![Path::new("src").canonicalize().unwrap()];
        let inventory =
            Inventory { environments: vec![environment], devices, warnings: Vec::new() };
        for (dir, expected) in
            [("src", true), ("tests", false), ("nowhere", false), ("@/dev/vdy1", false)]
        {
            assert_eq!(is_mounted_on(&inventory, dir), expected, "{dir}");
        }
    }
}
