//! The capabilities of a command (capabilities(7)).

use rustix::thread::CapabilitySet;

use crate::error::{Doing, Result};

/// The capabilities that a command keeps: those over files, which package management needs, and
/// those over its own processes. Container engines keep these too, except LINUX_IMMUTABLE, which
/// chattr(1) needs. MKNOD, NET_RAW and AUDIT_WRITE, which they also keep, reach beyond the boot
/// environment here.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::LINUX_IMMUTABLE)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SYS_CHROOT);

/// Gives up all capabilities except [`KEPT`], for this process and its descendants, whatever they
/// execute. With `sys_admin` it keeps CAP_SYS_ADMIN too.
///
/// # Errors
/// As prctl(2) and capset(2).
pub(super) fn give_up(sys_admin: bool) -> Result<()> {
    let kept = if sys_admin { KEPT.union(CapabilitySet::SYS_ADMIN) } else { KEPT };
    // Also those that only a later kernel has.
    let all = (0..u64::BITS).map(|number| CapabilitySet::from_bits_retain(1 << number));
    for capability in all.filter(|capability| !kept.contains(*capability)) {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // The kernel has no capability with this number.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(why) => return Err(why).doing(|| "giving up capabilities".into()),
        }
    }
    let mut sets = rustix::thread::capabilities(None).doing(|| "reading capabilities".into())?;
    sets.effective &= kept;
    sets.permitted &= kept;
    sets.inheritable = CapabilitySet::empty();
    rustix::thread::set_capabilities(None, sets).doing(|| "giving up capabilities".into())
}
