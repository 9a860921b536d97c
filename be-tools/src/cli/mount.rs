//! `be mount` and `be umount`

use std::path::PathBuf;

use clap::Args;

use super::{Acting, Context, print_line};
use crate::error::Result;
use crate::mounted;

/// Mount a whole boot environment, its nested and shared file systems too (lumount)
#[derive(Debug, Args)]
pub struct Mount {
    /// Which one
    be: String,
    /// Where; /run/lifeboat/mnt/NAME if none is given
    dir: Option<PathBuf>,
    /// So that nothing can be written to it
    #[arg(long)]
    read_only: bool,
    #[command(flatten)]
    acting: Acting,
}

impl Mount {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        context.need_root("mount")?;
        let mut report = context.unasked_report("mount", &self.acting);
        let dir = self.dir.as_deref();
        if let Some(dir) = mounted::mount(&context.system, &self.be, dir, self.read_only, &mut report)? {
            // As JSON the plan is all that is printed; it has the folder, and `be list` says it too.
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
    /// Which one, or the folder where it is mounted
    be_or_dir: String,
    #[command(flatten)]
    acting: Acting,
}

impl Umount {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        context.need_root("umount")?;
        let mut report = context.unasked_report("umount", &self.acting);
        mounted::umount(&context.system, &self.be_or_dir, &mut report)?;
        Ok(0)
    }
}
