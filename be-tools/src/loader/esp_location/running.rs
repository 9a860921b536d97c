//! The ESP from which the running BE was started, where several have the PARTUUID that its boot
//! entry names: a copy of the disk is attached.
//!
//! What the firmware started is not known from the PARTUUID then, and no trial would ever be
//! confirmed, nor a count of attempts cleared. But the running BE is on this machine's own disk.

use uuid::Uuid;

use super::EspLocation;
use crate::environment::Id;
use crate::error::Result;
use crate::host::Host;
use crate::loader::trial_record::TrialRecord;
use crate::storage::device::{BlockDevice, Devices};
use crate::storage::mounts::Mounts;

/// The ESP with this PARTUUID that has the trial record of the running BE: the only one, else the
/// one on the disk of the mounted root file system, else the one that is mounted, else the only one
/// whose record counts a start of the BE. `None` if no ESP has it.
///
/// # Errors
/// [`Refusal::AmbiguousEsp`](crate::Refusal::AmbiguousEsp) if several of these are found,
/// and what kept an ESP from being read.
pub fn esp(host: &Host, devices: &Devices, partuuid: Uuid, id: Id) -> Result<Option<EspLocation>> {
    let mut found = EspLocation::all_with(devices, partuuid);
    if found.len() < 2 {
        return Ok(found.pop());
    }
    let mounts = Mounts::read(host)?;
    let disks = root_disks(host, devices, &mounts);
    prefer(&mut found, |esp| disks.iter().any(|disk| disk.node == esp.disk));
    prefer(&mut found, |esp| esp.is_mounted(host, devices, &mounts));
    if found.len() > 1
        && let Some(started) = by_record(host, devices, &found, id)?
    {
        return Ok(Some(started));
    }
    match found.len() {
        1 => Ok(found.pop()),
        _ => EspLocation::by_partuuid(devices, partuuid),
    }
}

/// Leaves those that are preferred, unless none is.
fn prefer(found: &mut Vec<EspLocation>, is_preferred: impl Fn(&EspLocation) -> bool) {
    if found.iter().any(&is_preferred) {
        found.retain(is_preferred);
    }
}

/// The disks under the mounted root file system.
fn root_disks<'d>(host: &Host, devices: &'d Devices, mounts: &Mounts) -> Vec<&'d BlockDevice> {
    let mount = mounts.at(&host.root);
    let root = mount.and_then(|mount| devices.iter().find(|device| mount.is_of(device)));
    root.map(|root| devices.disks_of(root)).unwrap_or_default()
}

/// The only ESP whose record counts a start of the BE. If no record does, they all say the
/// same: that there is nothing to confirm and nothing to clear.
fn by_record(
    host: &Host,
    devices: &Devices,
    found: &[EspLocation],
    id: Id,
) -> Result<Option<EspLocation>> {
    let (mut started, mut others, mut unreadable) = (Vec::new(), Vec::new(), None);
    for esp in found {
        let mounted = match esp.mount_read_only(host, devices) {
            Ok(mounted) => mounted,
            Err(why) => {
                log::warn!("{why}");
                unreadable = Some(why);
                continue;
            }
        };
        match TrialRecord::load(mounted.esp(), &id.short()) {
            Ok(record) if record.attempts > 0 => started.push(esp.clone()),
            Ok(_) => others.push(esp.clone()),
            Err(why) => log::info!("{why}"),
        }
    }
    match (&started[..], unreadable) {
        ([one], _) => Ok(Some(one.clone())),
        ([], Some(why)) => Err(why),
        ([], None) => Ok(others.into_iter().next()),
        (_, _) => Ok(None),
    }
}
