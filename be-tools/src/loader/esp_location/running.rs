//! The ESP from which the running BE was started, where several have the PARTUUID that its boot
//! entry names: a copy of the disk is attached.
//!
//! What the firmware started is not known from the PARTUUID then, and no trial would ever be
//! confirmed, nor a count of attempts cleared. But the running BE is on this machine's own disk.

use uuid::Uuid;

use super::EspLocation;
use crate::environment::Id;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::loader::trial_record::TrialRecord;
use crate::storage::device::{BlockDevice, Devices};
use crate::storage::mounts::Mounts;

/// The ESP with this PARTUUID that has the trial record of the running BE: the only one, else the
/// one on the disk of the mounted root file system, else the only one whose record counts a start of
/// the BE, else the one that is mounted. `None` if no ESP has it.
///
/// # Errors
/// [`Refusal::AmbiguousEsp`](crate::Refusal::AmbiguousEsp) if several of these are found,
/// and what kept an ESP from being read.
pub fn esp(host: &Host, devices: &Devices, partuuid: Uuid, id: Id) -> Result<Option<EspLocation>> {
    let mut found = EspLocation::all_with(devices, partuuid);
    let mounts = Mounts::read(host)?;
    let disks = root_disks(host, devices, &mounts);
    prefer(&mut found, |esp| disks.iter().any(|disk| disk.node == esp.disk));
    if found.len() < 2 {
        return Ok(found.pop());
    }
    // Which one is mounted is the word of fstab, whose UUID the copy has too.
    let counted = Counted::find(host, devices, &found, id);
    prefer(&mut found, |esp| esp.is_mounted(host, devices, &mounts));
    match (counted, &found[..]) {
        // Those that count nothing all say the same: that there is nothing to confirm or to clear.
        (Counted::By(esp) | Counted::ByNone(Some(esp)), _) => Ok(Some(esp)),
        (_, [one]) => Ok(Some(one.clone())),
        (Counted::ByNone(None), _) => Ok(found.pop()),
        (Counted::Unreadable(why), _) => Err(why),
        (Counted::BySeveral, _) => EspLocation::by_partuuid(devices, partuuid),
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

/// Whose record counts a start of the BE.
enum Counted {
    /// That of this ESP alone.
    By(EspLocation),
    /// That of none. The first ESP that has one.
    ByNone(Option<EspLocation>),
    BySeveral,
    /// That of none that could be read.
    Unreadable(Error),
}

impl Counted {
    fn find(host: &Host, devices: &Devices, found: &[EspLocation], id: Id) -> Self {
        let (mut counting, mut others, mut unreadable) = (Vec::new(), Vec::new(), None);
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
                Ok(record) if record.attempts > 0 => counting.push(esp.clone()),
                Ok(_) => others.push(esp.clone()),
                Err(why) => log::info!("{why}"),
            }
        }
        match (counting.pop(), unreadable) {
            (Some(one), _) if counting.is_empty() => Counted::By(one),
            (Some(_), _) => Counted::BySeveral,
            (None, Some(why)) => Counted::Unreadable(why),
            (None, None) => Counted::ByNone(others.into_iter().next()),
        }
    }
}
