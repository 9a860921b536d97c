//! The namespaces of a command. The process that is PID 1 in them sets them up.

use nix::sched::CloneFlags;
use rustix::process::{DumpableBehavior, Signal};

use super::arguments::{Arguments, NOT_PREPARED};
use super::devices::Devices;
use super::signals::{self, End};
use super::terminal::Relay;
use super::{capabilities, command, file_systems, seccomp};
use crate::error::{Doing, Error, Result};
use crate::escape::complain;
use crate::host::Host;
use crate::storage::mounts::Mounts;
use crate::sys;

/// What is added to the badness of every process inside (proc_pid_oom_score_adj(5), -1000 to 1000):
/// if memory runs out, a command in a BE ends before a service of the running system.
const BADNESS: &str = "500";

/// Creates the namespaces, runs the command in them and returns its exit status.
///
/// # Errors
/// When they cannot be created or set up.
pub(super) fn enter(arguments: &Arguments) -> Result<u8> {
    die_with_parent()?;
    if rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get()) != Some(arguments.parent) {
        return Err(Error::Interrupted);
    }
    signals::catch()?;
    if !arguments.interactive {
        nix::unistd::setsid().doing(|| "leaving the terminal".into())?;
    }
    std::fs::write("/proc/self/oom_score_adj", BADNESS)
        .doing(|| "saying what ends first if memory runs out".into())?;
    // The keyring of the caller holds passphrases.
    sys::join_new_session_keyring().doing(|| "making a session keyring".into())?;
    let mut flags = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    flags.set(CloneFlags::CLONE_NEWNET, !arguments.network);
    nix::sched::unshare(flags).doing(|| "making namespaces (this needs root)".into())?;
    if !arguments.network {
        sys::bring_up_loopback().doing(|| "setting up the loopback interface".into())?;
    }
    let devices = Devices::choose(arguments)?;
    let first = sys::fork_single_threaded().doing(|| "starting PID 1 of the namespaces".into())?;
    let Some(first) = first else {
        let status = first_process(arguments, &devices);
        // The kernel kills all other processes of the namespace when PID 1 exits.
        std::process::exit(match status {
            Ok(status) => i32::from(status),
            Err(error) => {
                complain(&error.to_string());
                i32::from(NOT_PREPARED)
            }
        })
    };
    let passed =
        if arguments.interactive { &signals::WITHOUT_TERMINALS[..] } else { &signals::ALL };
    let end = signals::pass_until_end(first, first, passed, || std::thread::sleep(signals::TICK));
    // Removes the control group.
    drop(devices);
    match end {
        End::Exited(status) => Ok(status),
        End::Killed(_) => {
            // PID 1 was killed, and the command with it. That is not a status of the command, so
            // the caller must not see one.
            let ours = rustix::process::getpid();
            rustix::process::kill_process(ours, Signal::KILL)
                .doing(|| "ending after the command was killed".into())?;
            Ok(NOT_PREPARED)
        }
    }
}

/// What PID 1 does.
fn first_process(arguments: &Arguments, devices: &Devices) -> Result<u8> {
    die_with_parent()?;
    file_systems::enter(arguments, devices)?;
    // After PID 1 has joined the control group, which is the root of the new namespace. A kernel
    // without such namespaces shows where the group is, no more.
    let _ = nix::sched::unshare(CloneFlags::CLONE_NEWCGROUP);
    // The command could reach everything that PID 1 has open by /proc/1/fd: the hierarchy of control
    // groups, and what the caller of `be` had open.
    sys::close_inherited_from(3).doing(|| "closing files".into())?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .doing(|| "shutting off PID 1".into())?;
    let relay = if arguments.interactive { Relay::open(arguments.foreground)? } else { None };
    if !arguments.privileged {
        let sys_admin = is_in_btrfs_subvolume()?;
        sys::set_filter(&mut seccomp::filter(sys_admin))
            .doing(|| "giving up system calls".into())?;
        capabilities::give_up(sys_admin)?;
    }
    command::run(arguments, relay)
}

fn die_with_parent() -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .doing(|| "asking to be killed with the caller".into())
}

/// Whether GRUB's tools need CAP_SYS_ADMIN: for the path of a kernel that lies in a subvolume of a
/// btrfs, grub-mkrelpath and grub-probe search the file system's tree of subvolumes.
fn is_in_btrfs_subvolume() -> Result<bool> {
    let table = Mounts::read(&Host::local())?;
    let mut kernels = ["/", "/boot"].iter().filter_map(|place| table.at(place.as_ref()));
    Ok(kernels.any(|mount| mount.fs_type == "btrfs" && mount.root.as_os_str() != "/"))
}
