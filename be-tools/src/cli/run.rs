//! `be run`

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::acting_options::ActingOptions;
use super::context::Context;
use crate::error::Result;
use crate::operations::run::{self, RunRequest};

/// Run a command inside a boot environment, isolated from the running system
///
/// The boot environment is incomplete while the command changes it, and complete again when the
/// command has ended by itself, whatever its exit status. If the command, `be` or the machine was
/// killed, it stays incomplete: run a command in it that puts it right, such as `dpkg --configure
/// -a`.
#[derive(Debug, Args)]
pub struct Run {
    /// The boot environment to run it in
    be: String,
    /// Give the command the network of the running system, as a package manager needs; without
    /// this it has only a loopback interface
    #[arg(long)]
    network: bool,
    /// Let the command write to this file system of the boot environment's fstab, which is shared
    /// with other boot environments, or is on another disk than its root and was not made for it;
    /// without this it is read-only or not there
    #[arg(long, value_name = "MOUNTPOINT")]
    writable: Vec<PathBuf>,
    /// Let the command change the running system too: with all capabilities and system calls, so
    /// that it can mount, load kernel modules and set the clock, and write to the disks that the
    /// boot environment lies on
    #[arg(long)]
    privileged: bool,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

impl Run {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        context.need_root("run")?;
        let acting = ActingOptions { dry_run: false, yes: true, json: false };
        let mut report = context.unasked_report("run", &acting).handed_over();
        let request = RunRequest {
            reference: &self.be,
            privileged: self.privileged,
            network: self.network,
            writable: &self.writable,
            command: &self.command,
        };
        let status = run::in_environment(&context.host, request, &mut report)?;
        Ok(status.unwrap_or(0))
    }
}
