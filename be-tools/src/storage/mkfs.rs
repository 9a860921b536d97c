//! Makes file systems with their own programs, erases signatures, and estimates capacity.

mod capacity;

use std::os::unix::fs::FileExt;
use std::path::Path;

use super::hold::Hold;
use super::probe::{self, OpenDevice};
use super::retry::{BUSY_TIMEOUT, retry};
use crate::error::{Doing, Error, Result};
use crate::tool::{Tool, ToolError};

pub use capacity::{Capacity, Need, capacity};

/// Erases a held device, then makes a file system (or `swap`) with this UUID and label on it.
///
/// Features that are newer than Debian 12 are turned off, so that its GRUB and its kernel can read
/// what a newer mkfs makes.
///
/// # Errors
/// The device is in use, the program is missing or fails, or the device does not hold the new file
/// system afterwards.
pub fn make(fs_type: &str, hold: &Hold, uuid: &str, label: Option<&str>) -> Result<()> {
    let node = &hold.device().node;
    let tool = hold.argument_of(tool(fs_type, uuid, label)?);
    erase_to_fill(&hold.exclusive()?, node)?;
    run_when_free(&tool)?;
    let made = probe::probe(&hold.read_again()?);
    match made.super_block() {
        Some(found) if found.kind.name() == fs_type && found.uuid.eq_ignore_ascii_case(uuid) => {
            Ok(())
        }
        _ => Err(Error::Failed(format!(
            "`{}` succeeded, but {} holds {}: the device does not keep what is written to it",
            tool.command_line(),
            node.display(),
            made.description()
        ))),
    }
}

/// Whether [`set_uuid`] can change the UUID of a file system of this type.
pub fn can_set_uuid(fs_type: &str) -> bool {
    matches!(fs_type, "ext2" | "ext3" | "ext4" | "xfs" | "btrfs")
}

/// Gives a held file system, which is not mounted, another UUID.
///
/// # Errors
/// It is damaged or in use, or the program is missing or fails.
pub fn set_uuid(fs_type: &str, hold: &Hold, uuid: &str) -> Result<()> {
    hold.release();
    hold.refuse_exchanged()?;
    let tool = match fs_type {
        "xfs" => Tool::new("xfs_admin").args(["-U", uuid]),
        "btrfs" => Tool::new("btrfstune").args(["-f", "-U", uuid]),
        _ => {
            // tune2fs changes only what was just checked.
            let check = hold.argument_of(Tool::new("e2fsck").args(["-f", "-p"]));
            let output = check.output()?;
            // e2fsck(8): 1 is "errors corrected".
            if !matches!(output.status.code(), Some(0 | 1)) {
                return Err(check.failure(&output).into());
            }
            Tool::new("tune2fs").args(["-U", uuid])
        }
    };
    run_when_free(&hold.argument_of(tool))?;
    match probe::probe(&hold.read_again()?).super_block() {
        Some(found) if found.uuid.eq_ignore_ascii_case(uuid) => Ok(()),
        _ => Err(Error::Failed(format!(
            "{} did not keep the UUID {uuid}: check that device",
            hold.device().node.display()
        ))),
    }
}

/// Runs a mkfs. After the device was written to, udev, LVM and md read it, and some of them claim
/// it for a moment.
fn run_when_free(tool: &Tool) -> Result<()> {
    retry(BUSY_TIMEOUT, is_busy, || tool.run())?;
    Ok(())
}

fn is_busy(error: &ToolError) -> bool {
    let says = |words: &str| {
        ["in use", "busy", "is mounted", "mounted filesystem"].iter().any(|w| words.contains(w))
    };
    matches!(error, ToolError::Failed { last_words, .. } if says(last_words))
}

fn tool(fs_type: &str, uuid: &str, label: Option<&str>) -> Result<Tool> {
    let (program, arguments): (&str, &[&str]) = match fs_type {
        "ext2" | "ext3" | "ext4" => ("mke2fs", &["-q", "-F", "-t", fs_type, "-U", uuid]),
        "xfs" => ("mkfs.xfs", &["-q", "-f", "-m", &format!("uuid={uuid}")]),
        "btrfs" => ("mkfs.btrfs", &["-q", "-f", "-U", uuid]),
        "vfat" => ("mkfs.fat", &["-i", &uuid.replace('-', "")]),
        "swap" => ("mkswap", &["-U", uuid]),
        _ => {
            return Err(Error::Usage(format!(
                "'{fs_type}' is not a file system type that be makes: use ext4, xfs, btrfs, \
                vfat or swap"
            )));
        }
    };
    let tool = Tool::new(program).args(arguments).args(old_features(fs_type, &version(program)));
    let flag = if fs_type == "vfat" { "-n" } else { "-L" };
    Ok(match label {
        Some(label) => tool.arg(flag).arg(label),
        None => tool,
    })
}

/// The arguments that turn off features that are newer than Debian 12 (GRUB 2.06, Linux 6.1), for
/// this version of a mkfs.
fn old_features(fs_type: &str, version: &[u32]) -> &'static [&'static str] {
    match fs_type {
        "ext4" if version >= &[1, 47] => &["-O", "^metadata_csum_seed,^orphan_file"],
        "xfs" if version >= &[6, 10] => &["-i", "nrext64=0,exchange=0", "-n", "parent=0"],
        "xfs" if version >= &[6, 0] => &["-i", "nrext64=0"],
        _ => &[],
    }
}

/// The version that a program prints with `-V`; empty if it prints none.
fn version(program: &str) -> Vec<u32> {
    let Ok(output) = Tool::new(program).arg("-V").output() else { return Vec::new() };
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    let text = String::from_utf8_lossy(&text);
    let is_version =
        |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
    let word = text.split_whitespace().find(is_version).unwrap_or_default();
    word.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse().ok()).collect()
}

/// Erases all signatures on a device, and marks it as erased, so that it counts as blank as long as
/// nothing else is written to it.
///
/// # Errors
/// The device is in use, or cannot be written.
pub fn wipe(hold: &Hold) -> Result<()> {
    let (opened, device) = (hold.exclusive()?, &hold.device().node);
    erase(&opened, device, &[])?;
    let mark = probe::mark_of_erased(&opened).at("reading", device)?;
    opened.file.write_all_at(&mark, 0).at("marking as erased", device)?;
    opened.file.sync_all().at("syncing", device)
}

/// Erases all signatures on a device that was claimed, and that is about to be filled. If that is
/// interrupted, what was written until then counts as nothing.
pub(crate) fn erase_to_fill(opened: &OpenDevice, device: &Path) -> Result<()> {
    erase(opened, device, &probe::mark_of_unfinished())
}

/// Erases the first 4 MiB of a device (VMFS, the second headers of LUKS2 and bcachefs), its last
/// 2 MiB (md, GPT, the labels 2 and 3 of ZFS, the last super block of bcachefs), and the other
/// super blocks of btrfs. `mark` is written to its first bytes.
fn erase(opened: &OpenDevice, device: &Path, mark: &[u8]) -> Result<()> {
    const START: u64 = 4 << 20;
    const END: u64 = 2 << 20;
    // btrfs on-disk format, "Superblock": mirrors at 64 MiB and 256 GiB.
    const MIRRORS: [u64; 2] = [64 << 20, 256 << 30];
    let OpenDevice { file, size } = opened;
    let zero = |from: u64, len: u64| {
        let len = len.min(size.saturating_sub(from));
        file.write_all_at(&vec![0; len as usize], from).at("erasing the signature on", device)
    };
    zero(size.saturating_sub(END), END)?;
    zero(0, START)?;
    file.write_all_at(mark, 0).at("marking as erased", device)?;
    for mirror in MIRRORS.into_iter().filter(|at| at + 4096 <= *size) {
        let mut magic = [0; 8];
        file.read_exact_at(&mut magic, mirror + 0x40).at("reading", device)?;
        if &magic == b"_BHRfS_M" {
            zero(mirror, 4096)?;
        }
    }
    file.sync_all().at("syncing", device)
}

#[cfg(test)]
mod tests;
