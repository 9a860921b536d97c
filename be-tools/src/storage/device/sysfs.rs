//! Reading `/sys/class/block` (Documentation/ABI/stable/sysfs-block).

use std::collections::HashMap;
use std::path::Path;

use super::attribute::{node, read};
use super::block_device::BlockDevice;
use super::contents;
use crate::error::{Doing, Result};
use crate::host::Host;
use crate::storage::device_number::DeviceNumber;
use crate::storage::partitions::PartitionInfo;
use crate::storage::probe::Content;
use crate::workers;

/// The major number of floppy drives. Opening one takes seconds, and it holds no boot environment.
const FLOPPY_MAJOR: u32 = 2;

pub(super) fn scan(host: &Host) -> Result<Vec<BlockDevice>> {
    let class = host.sys.join("class/block");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&class).at("listing", &class)? {
        let entry = entry.at("listing", &class)?;
        // A device may be removed during the scan.
        let Ok(dir) = entry.path().canonicalize() else { continue };
        let name = entry.file_name().to_string_lossy().into_owned();
        found.extend(describe(host, name, &dir));
    }
    found.sort_by_cached_key(|d| {
        let disk = (
            d.disk.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned(),
            d.disk.len(),
            d.disk.clone(),
        );
        (disk, d.partition.as_ref().map(|p| p.number))
    });
    let questions: Vec<_> =
        found.iter().map(|device| contents::ProbeRequest::of(device, &class)).collect();
    let groups = questions.chunk_by(contents::ProbeRequest::is_of_same_disk);
    let mut disks: HashMap<String, contents::DiskDetails> = HashMap::new();
    for (device, answer) in
        found.iter_mut().zip(workers::answer_all(host, groups, contents::DEADLINE))
    {
        match answer {
            Ok(found) => {
                device.content = found.content;
                disks.extend(found.disk.map(|disk| (device.name.clone(), disk)));
            }
            Err(why) => device.content = Content::Unreadable(why),
        }
    }
    for device in &mut found {
        let Some(disk) = disks.get(&device.disk) else { continue };
        device.serial.clone_from(&disk.serial);
        if let (Some(ours), Some(table)) = (&mut device.partition, &disk.table)
            && let Some(listed) = table
                .partitions
                .iter()
                .find(|p| p.number == ours.number && p.start_lba == ours.start_lba)
        {
            // The kernel shortens an extended partition; its length is the part that can be used.
            *ours = PartitionInfo { size_lba: ours.size_lba, ..listed.clone() };
        }
    }
    Ok(found)
}

fn describe(host: &Host, name: String, dir: &Path) -> Option<BlockDevice> {
    let text = |file: &str| read(&dir.join(file));
    let number = |file: &str| text(file)?.parse::<u64>().ok();
    let (major, minor) = text("dev")?.split_once(':').map(|(a, b)| (a.to_owned(), b.to_owned()))?;
    let device_number = DeviceNumber { major: major.parse().ok()?, minor: minor.parse().ok()? };
    let sectors = number("size")?;
    let idle_loop = name.starts_with("loop")
        && !dir.join("partition").exists()
        && !dir.join("loop/backing_file").exists();
    let hidden_volume =
        text("dm/uuid").is_some_and(|uuid| uuid.starts_with("LVM-") && uuid.len() > 68);
    // One path of a multipath NVMe disk has no device node.
    let hidden_path = number("hidden") == Some(1);
    if sectors == 0
        || device_number.major == FLOPPY_MAJOR
        || idle_loop
        || hidden_volume
        || hidden_path
    {
        return None;
    }
    let partition_number = number("partition").and_then(|n| u32::try_from(n).ok());
    // The directory of a partition is in that of its disk.
    let disk_dir =
        if partition_number.is_some() { dir.parent()?.to_owned() } else { dir.to_owned() };
    let disk = disk_dir.file_name()?.to_string_lossy().into_owned();
    let block = read(&disk_dir.join("queue/logical_block_size"))
        .and_then(|b| b.parse().ok())
        .unwrap_or(512_u32)
        .max(512);
    let partition = partition_number.map(|partition| PartitionInfo {
        number: partition,
        start_lba: number("start").unwrap_or(0) * 512 / u64::from(block),
        size_lba: sectors * 512 / u64::from(block),
        logical_block_size: block,
        kind: None,
        part_uuid: String::new(),
        name: String::new(),
    });
    let dm_name = text("dm/name");
    let transport = transport(&disk, &disk_dir);
    Some(BlockDevice {
        node: node(host, &name, dm_name.as_deref(), device_number),
        number: device_number,
        sequence: read(&disk_dir.join("diskseq")).and_then(|sequence| sequence.parse().ok()),
        size: sectors.saturating_mul(512),
        read_only: number("ro") == Some(1),
        removable: is_removable(&disk_dir),
        model: model(&disk_dir, transport),
        serial: String::new(),
        transport: transport.into(),
        logical_block_size: block,
        partition,
        holders: names(&dir.join("holders")),
        slaves: names(&dir.join("slaves")),
        dm_name,
        content: Content::Blank,
        // The kernel writes '!' for the '/' of names such as cciss/c0d0.
        name,
        disk,
    })
}

fn transport(disk: &str, dir: &Path) -> &'static str {
    let path = dir.to_string_lossy();
    if disk.starts_with("loop") {
        "loop"
    } else if disk.starts_with("dm-") {
        "dm"
    } else if dir.join("md").exists() {
        "md"
    } else if path.contains("/usb") {
        "usb"
    } else if path.contains("/nvme") {
        "nvme"
    } else if path.contains("/ata") {
        "ata"
    } else if path.contains("/mmc") {
        "mmc"
    } else if disk.starts_with("vd") {
        "virtio"
    } else if dir.join("device/vpd_pg80").exists() || disk.starts_with("sd") {
        "scsi"
    } else {
        ""
    }
}

/// Whether the disk, or its medium, is changed by hand. Linux does not say so of SD cards, whose
/// driver tells only cards from soldered memory.
fn is_removable(disk_dir: &Path) -> bool {
    read(&disk_dir.join("removable")).as_deref() == Some("1")
        || read(&disk_dir.join("device/type")).as_deref() == Some("SD")
}

fn model(disk_dir: &Path, transport: &str) -> String {
    let text = |file: &str| read(&disk_dir.join(file)).filter(|t| !t.is_empty());
    match transport {
        "loop" => {
            return text("loop/backing_file")
                .map_or_else(String::new, |file| format!("loop over {file}"));
        }
        "dm" => return text("dm/name").map_or_else(String::new, |name| format!("volume {name}")),
        "md" => return text("md/level").map_or_else(String::new, |level| format!("md {level}")),
        "virtio" => return "virtio disk".into(),
        _ => {}
    }
    let model = text("device/model").or_else(|| text("device/name")).unwrap_or_default();
    match text("device/vendor") {
        Some(vendor)
            if vendor != "ATA" && !vendor.starts_with("0x") && !model.starts_with(&vendor) =>
        {
            format!("{vendor} {model}")
        }
        _ => model,
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
