//! A device that an operation will write to, held from the plan to the last write: what was
//! confirmed is what is written.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{Advice, OFlags, fadvise};

use super::device::BlockDevice;
use super::device_number::DeviceNumber;
use super::mounts::Mounts;
use super::probe::{Content, OpenDevice, Source, SuperBlock, probe};
use super::retry::{self, BUSY_TIMEOUT, retry};
use crate::error::{Doing, Error, Refusal, Result};
use crate::sys;
use crate::tool::Tool;

/// The parts of a device by which a change of its content is noticed: the start, which has the super
/// block of nearly every format, and the end, which has that of the others.
const START: u64 = 1 << 20;
const END: u64 = 1 << 20;

/// A device that will be written to or erased. It is opened when the plan is made and stays open
/// until the operation ends, so that the kernel cannot give its number to another device.
///
/// Everything that writes to a device takes a `Hold`: a name alone may have passed to another
/// device while the user read the plan.
#[derive(Debug)]
pub struct Hold {
    device: BlockDevice,
    opened: OpenDevice,
    digest: blake3::Hash,
    /// From [`Holds::claim`] until the first writer takes it.
    claimed: Mutex<Option<OpenDevice>>,
}

impl Hold {
    /// Opens a device that a scan found.
    ///
    /// # Errors
    /// [`Refusal::DeviceChanged`] if it is another one by now or holds something else, and as
    /// open(2).
    pub fn take(device: &BlockDevice) -> Result<Self> {
        let opened = open_as_found(device)?;
        if !holds_the_same(&probe(&opened), &device.content) {
            return Err(changed(device, "its content has changed"));
        }
        let digest = digest(&opened, device)?;
        Ok(Hold { device: device.clone(), opened, digest, claimed: Mutex::default() })
    }

    /// The device as the plan shows it.
    pub fn device(&self) -> &BlockDevice {
        &self.device
    }

    /// Adds the device as an argument of a program, which opens what is held here. The command line
    /// in errors and in the log has the name of the device.
    pub fn argument_of(&self, tool: Tool) -> Tool {
        tool.arg_shown_as(self.path(), &self.device.node)
    }

    /// A path for a program that opens what is held here.
    fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.opened.file.as_raw_fd()).into()
    }

    /// Opens the device for writing, so that no other program can mount or claim it meanwhile.
    /// Waits for one that is busy for a moment, because udev, LVM, md or a scan reads it.
    ///
    /// # Errors
    /// [`Refusal::DeviceBusy`] and [`Refusal::DeviceChanged`].
    pub fn exclusive(&self) -> Result<OpenDevice> {
        let claimed = self.claimed().take();
        let opened = claimed.map_or_else(|| self.open_exclusively(), Ok)?;
        self.refuse_exchanged()?;
        Ok(opened)
    }

    /// Lets a program, or a mount, claim the device itself.
    pub fn release(&self) {
        self.claimed().take();
    }

    /// The device opened again, to see what a program wrote to it.
    ///
    /// # Errors
    /// Those of [`Hold::refuse_exchanged`].
    pub(super) fn read_again(&self) -> Result<OpenDevice> {
        open_as_found(&self.device)
    }

    /// Refuses a device that is another one than in the plan, whatever it holds.
    ///
    /// # Errors
    /// [`Refusal::DeviceChanged`], and as open(2).
    pub fn refuse_exchanged(&self) -> Result<()> {
        self.read_again().map(drop)
    }

    /// Refuses a device that is not as it was in the plan.
    fn refuse_changed(&self) -> Result<()> {
        self.refuse_exchanged()?;
        if digest(&self.opened, &self.device)? != self.digest {
            return Err(changed(&self.device, "its content has changed"));
        }
        Ok(())
    }

    /// The claim, if there is one now.
    fn claimed(&self) -> MutexGuard<'_, Option<OpenDevice>> {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_exclusively(&self) -> Result<OpenDevice> {
        let mut options = File::options();
        options.read(true).write(true).custom_flags(nix::libc::O_EXCL);
        let opened = retry(BUSY_TIMEOUT, retry::is_busy, || options.open(self.path()));
        opened.and_then(OpenDevice::new).map_err(|error| match error.raw_os_error() {
            Some(nix::libc::EBUSY) => {
                Refusal::DeviceBusy { device: self.device.node.display().to_string() }.into()
            }
            _ => Error::Io {
                doing: format!("opening {} for writing", self.device.node.display()),
                source: error,
            },
        })
    }
}

/// The devices of an operation.
#[derive(Debug, Default)]
pub struct Holds(Vec<Hold>);

impl Holds {
    /// Holds these devices, each once.
    ///
    /// # Errors
    /// Those of [`Hold::take`].
    pub fn take<'a>(devices: impl IntoIterator<Item = &'a BlockDevice>) -> Result<Self> {
        let mut holds = Holds::default();
        for device in devices {
            if holds.find(device).is_none() {
                holds.0.push(Hold::take(device)?);
            }
        }
        Ok(holds)
    }

    /// Holds those of these devices that are not mounted. What is mounted already stays the same
    /// device as long as it is, and its content changes.
    ///
    /// # Errors
    /// Those of [`Hold::take`].
    pub fn take_unmounted<'a>(
        devices: impl IntoIterator<Item = &'a BlockDevice>,
        mounts: &Mounts,
    ) -> Result<Self> {
        Self::take(devices.into_iter().filter(|device| mounts.of(device).next().is_none()))
    }

    /// Refuses devices that are not as they were in the plan. For those that are only mounted, by
    /// other programs too.
    ///
    /// # Errors
    /// [`Refusal::DeviceChanged`].
    pub fn refuse_changed(&self) -> Result<()> {
        self.0.iter().try_for_each(Hold::refuse_changed)
    }

    /// Claims all devices, just before the first write. Each of them is then as it was in the plan,
    /// and no program has one of them mounted or claimed, in whichever mount namespace.
    ///
    /// # Errors
    /// [`Refusal::DeviceChanged`] and [`Refusal::DeviceBusy`].
    pub fn claim(&self) -> Result<()> {
        for hold in &self.0 {
            let opened = hold.open_exclusively()?;
            hold.refuse_changed()?;
            *hold.claimed() = Some(opened);
        }
        Ok(())
    }

    /// The hold of a device.
    ///
    /// # Errors
    /// [`Error::NotHeld`] if the plan does not name the device.
    pub fn of(&self, device: &BlockDevice) -> Result<&Hold> {
        self.find(device).ok_or_else(|| Error::NotHeld { device: device.node.clone() })
    }

    /// The hold of a device, if the plan names it.
    pub fn find(&self, device: &BlockDevice) -> Option<&Hold> {
        self.0.iter().find(|hold| hold.device.number == device.number)
    }
}

/// Opens the device if its name still leads to the one that a scan found, whatever it holds by now.
/// As long as it is open, the kernel gives its number to no other device.
///
/// # Errors
/// [`Refusal::DeviceChanged`], and as open(2).
pub(super) fn open_as_found(device: &BlockDevice) -> Result<OpenDevice> {
    let flags = OFlags::NONBLOCK.bits() as i32;
    let file = File::options().read(true).custom_flags(flags).open(&device.node);
    let opened = file.and_then(OpenDevice::new).at("opening", &device.node)?;
    let stat = rustix::fs::fstat(&opened.file).at("reading the device number of", &device.node)?;
    if DeviceNumber::from_raw(stat.st_rdev) != device.number {
        return Err(changed(device, "its name belongs to another device"));
    }
    if device.sequence.is_some() && sys::disk_sequence(&opened.file) != device.sequence {
        return Err(changed(device, "it is another disk or medium"));
    }
    if opened.size != device.size {
        return Err(changed(device, "its size has changed"));
    }
    Ok(opened)
}

/// Whether two looks at a device found the same. Whether a file system is clean and how much of it
/// is used may differ: a mount that has just been removed is written back.
fn holds_the_same(now: &Content, before: &Content) -> bool {
    match (now.super_block(), before.super_block()) {
        (Some(now), Some(before)) => {
            let (at_rest, SuperBlock { dirty, used, .. }) = (before.at_rest.clone(), before);
            SuperBlock { dirty: *dirty, used: *used, at_rest, ..now.clone() } == *before
        }
        _ => now == before,
    }
}

fn changed(device: &BlockDevice, how: &'static str) -> Error {
    Refusal::DeviceChanged { device: device.node.display().to_string(), how }.into()
}

/// The digest of what a device holds at its start and its end.
fn digest(opened: &OpenDevice, device: &BlockDevice) -> Result<blake3::Hash> {
    let OpenDevice { file, size } = opened;
    let mut hasher = blake3::Hasher::new();
    for (from, len) in [(0, START), (size.saturating_sub(END).max(START), END)] {
        let len = len.min(size.saturating_sub(from));
        // Another program may have written past the page cache, as mounted file systems do.
        let _ = fadvise(file, from, std::num::NonZeroU64::new(len), Advice::DontNeed);
        let mut bytes = vec![0; len as usize];
        opened.read_at(from, &mut bytes).at("reading", &device.node)?;
        hasher.update(&bytes);
    }
    Ok(hasher.finalize())
}

#[cfg(test)]
mod tests;
