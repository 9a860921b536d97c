//! `be boot`: kernel, initramfs and command line of a BE, started now by kexec(2).

mod kernel;

use std::fs::File;
use std::io::Write;

pub use kernel::{Choice, choose};

use crate::discover;
use crate::environment::State;
use crate::environment::mounted::{Access, MountedEnvironment};
use crate::error::{Doing, Error, Result};
use crate::host::Host;
use crate::plan::{Plan, Report, go_on};
use crate::root_dir::RootDir;
use crate::session::lock::Lock;
use crate::storage::namespace;
use crate::tool::Tool;

/// Starts a BE. Returns only when the report stopped after the plan, or while systemd shuts the
/// running system down.
///
/// # Errors
/// When the BE has no kernel that can be started, or the kernel refuses to load it.
pub fn boot(host: &Host, reference: &str, report: &mut dyn Report) -> Result<()> {
    // Another operation must not be cut off in the middle.
    let _lock = Lock::acquire(host)?;
    let inventory = discover::discover(host)?;
    let environment = inventory.find(reference)?;
    namespace::enter_private_namespace()?;
    let mounted =
        MountedEnvironment::mount_system(host, &inventory, environment, Access::ReadOnly)?;
    let root = RootDir::open(mounted.root())?;
    let choice = choose(&root, environment)?;
    let mut plan = Plan {
        title: format!("Start '{}' now, without the firmware", environment.name()),
        steps: vec![
            format!("load /{} with {}", choice.kernel, choice.initrds_text()),
            format!("command line: {}", choice.command_line),
            "end the running system and start that kernel".into(),
        ],
        notes: choice.notes.clone(),
        ..Plan::default()
    };
    if environment.descriptor.as_ref().is_some_and(|d| d.state == State::Incomplete) {
        plan.notes.push(format!("'{}' is {}", environment.name(), environment.state_text()));
    }
    if !report.confirm(&plan)? {
        return Ok(());
    }
    report.part("loading the kernel");
    let kernel = open(&root, &choice.kernel)?;
    let initrd = initrd(&root, &choice.initrds)?;
    let loading =
        |e| Error::boot(format!("loading /{} of '{}'", choice.kernel, environment.name()), e);
    boot::kexec::load(&kernel, initrd.as_ref(), &choice.command_line).map_err(loading)?;
    drop((kernel, initrd, root, mounted));
    go_on()?;
    if host.run.join("systemd/system").exists() {
        report.part("ending the running system");
        Tool::new("systemctl").arg("kexec").run()?;
        return Ok(());
    }
    report.part("starting it");
    rustix::fs::sync();
    boot::kexec::execute().map_err(|e| Error::boot("starting the loaded kernel", e))
}

fn open(root: &RootDir, path: &str) -> Result<File> {
    root.file(path)?
        .ok_or_else(|| Error::Failed(format!("{}/{path} has gone", root.path().display())))
}

/// Several initramfs archives are one, one after the other.
fn initrd(root: &RootDir, paths: &[String]) -> Result<Option<File>> {
    match paths {
        [] => Ok(None),
        [one] => open(root, one).map(Some),
        several => {
            let memory = rustix::fs::memfd_create("initrd", rustix::fs::MemfdFlags::CLOEXEC)
                .doing(|| "making room for the initramfs".into())?;
            let mut all = File::from(memory);
            for path in several {
                std::io::copy(&mut open(root, path)?, &mut all)
                    .doing(|| format!("reading /{path}"))?;
                // The kernel finds the next archive at a multiple of four bytes.
                let length = all.metadata().doing(|| format!("reading /{path}"))?.len();
                let padding = length.next_multiple_of(4) - length;
                all.write_all(&[0; 4][..padding as usize]).doing(|| format!("reading /{path}"))?;
            }
            Ok(Some(all))
        }
    }
}
