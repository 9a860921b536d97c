//! `be upgrade`

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::acting_options::ActingOptions;
use super::context::Context;
use super::report::Terminal;
use crate::distribution::package_manager::{Change, ConfigurationPolicy};
use crate::error::Result;
use crate::operations::run::{self, RunRequest};
use crate::operations::upgrade::{self, UpgradeRequest, Upgraded};

/// Upgrade, install or remove packages of a boot environment while this one serves (luupgrade)
#[derive(Debug, Args)]
#[command(
    override_usage = "be upgrade <BE> <--dist|--security|--release <RELEASE>|--install \
        <PACKAGE>...|--remove <PACKAGE>...|--package <FILE>...> [OPTIONS]\n       \
    be upgrade <BE> -- <COMMAND>...",
    after_help = "The boot environment's own package manager does it, inside the boot environment: \
        its services are not started, file systems that are shared with other boot environments \
        are read-only, and only what downloads has the network of the running system. The boot \
        environment is incomplete meanwhile. If it is interrupted or fails, the same command goes \
        on. The exit status is 4 if packages' scripts were refused something.\n\nExamples:\n  \
    be upgrade second --dist\n  \
    be upgrade second --release trixie\n  \
    be upgrade second --install nginx postgresql\n  \
    be upgrade second --package ./tool_1.2_amd64.deb\n  \
    be upgrade second --security --yes --unattended    # from a timer"
)]
pub struct Upgrade {
    /// The boot environment to change
    be: String,
    #[command(flatten)]
    change: Changes,
    /// What becomes of a configuration file that was changed by hand and that the package changes
    /// too
    #[arg(long, value_name = "WHICH", default_value = "keep")]
    conffiles: ConfFiles,
    /// Let the packages' scripts write to this file system, which is shared with other boot
    /// environments or on another disk than the root
    #[arg(long, value_name = "MOUNTPOINT")]
    writable: Vec<PathBuf>,
    /// Give the packages' scripts the network of the running system, too; without this only the
    /// downloads have it
    #[arg(long)]
    network: bool,
    /// Upgrade a system that Lifeboat did not make, or one on a portable disk: its package manager
    /// runs with the network before the plan is shown
    #[arg(long)]
    force: bool,
    /// No one sees the plan, as when a timer runs it: refuse a boot environment that is not on the
    /// device for which it was scheduled, or that is on a removable disk; wait for another operation
    /// that is in progress
    #[arg(long, conflicts_with = "command")]
    unattended: bool,
    #[command(flatten)]
    acting: ActingOptions,
}

/// What is changed: one of these.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Changes {
    /// Upgrade all packages
    #[arg(long)]
    dist: bool,
    /// Install only what the distribution's security team has fixed
    #[arg(long)]
    security: bool,
    /// Upgrade Debian to its next release; package sources of third parties are switched off
    #[arg(long)]
    release: Option<String>,
    /// Install packages
    #[arg(long, value_name = "PACKAGE", num_args = 1..)]
    install: Vec<String>,
    /// Remove packages, and keep their configuration
    #[arg(long, value_name = "PACKAGE", num_args = 1..)]
    remove: Vec<String>,
    /// Install packages from files of the running system
    #[arg(long, value_name = "FILE", num_args = 1..)]
    package: Vec<PathBuf>,
    /// Run this command instead, as `be run --network` does
    #[arg(last = true)]
    command: Vec<OsString>,
}

/// Which configuration file stays.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum ConfFiles {
    /// The one that was changed by hand; the package's lies beside it
    Keep,
    /// The package's; the one that was changed by hand lies beside it
    New,
}

impl From<ConfFiles> for ConfigurationPolicy {
    fn from(which: ConfFiles) -> Self {
        match which {
            ConfFiles::Keep => ConfigurationPolicy::Keep,
            ConfFiles::New => ConfigurationPolicy::Replace,
        }
    }
}

impl Changes {
    fn change(self) -> Change {
        if self.security {
            Change::Security
        } else if let Some(release) = self.release {
            Change::Release(release)
        } else if !self.install.is_empty() {
            Change::Install(self.install)
        } else if !self.remove.is_empty() {
            Change::Remove(self.remove)
        } else if !self.package.is_empty() {
            Change::Files(self.package)
        } else {
            Change::All
        }
    }
}

impl Upgrade {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        context.need_root("upgrade")?;
        if !self.change.command.is_empty() {
            let mut report = context.unasked_report("upgrade", &self.acting).handed_over();
            let request = RunRequest {
                reference: &self.be,
                privileged: false,
                network: true,
                writable: &self.writable,
                command: &self.change.command,
            };
            let status = run::in_environment(&context.host, request, &mut report)?;
            return Ok(status.unwrap_or(0));
        }
        let request = UpgradeRequest {
            reference: self.be,
            change: self.change.change(),
            configuration: self.conffiles.into(),
            writable: self.writable,
            network: self.network,
            force: self.force,
            unattended: self.unattended,
        };
        let mut report = context.report("upgrade", &self.acting);
        let done = upgrade::upgrade(&context.host, &request, &mut report)?;
        let Some(done) = done else { return Ok(0) };
        let status = say(&report, &done);
        if !done.changes.changes.is_empty() {
            report.say(&format!("`be activate {}` boots it next.", done.reference));
        }
        Ok(status)
    }
}

/// Prints what was done. Returns the exit status.
pub(super) fn say(report: &Terminal, done: &Upgraded) -> u8 {
    let Upgraded { name, changes, transcript, .. } = done;
    let unplanned = done.removed_unplanned();
    for package in &unplanned {
        report.say(&format!("removed: {package}, which was not in the plan"));
    }
    for path in &transcript.kept {
        report.say(&format!("kept: {path}, which was changed by hand; the package's is beside it"));
    }
    for path in &transcript.replaced {
        report.say(&format!("replaced: {path}, which was changed by hand; that is beside it"));
    }
    for line in &transcript.failed {
        report.say(&format!("failed: {line}"));
    }
    for line in &transcript.refused {
        report.say(&format!("refused: {line}"));
    }
    if transcript.refused_more > 0 {
        report.say(&format!("refused: {} more; see the log", transcript.refused_more));
    }
    report.say(&format!("'{name}' is complete: {}.", changes.summary()));
    let is_clean = [&transcript.refused, &transcript.failed].iter().all(|lines| lines.is_empty());
    if is_clean && unplanned.is_empty() { 0 } else { 4 }
}
