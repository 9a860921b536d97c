//! Tricks with the bytes of an image.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::Result;
use fastrand::Rng;

use super::aims::Aims;
use crate::programs::run;

/// Where the super block of a file system begins.
fn super_block(kind: &str) -> u64 {
    match kind {
        "btrfs" => 65_536,
        "xfs" => 0,
        _ => 1024,
    }
}

/// Plays a trick on an image. Returns its name for messages.
pub(super) fn trick(
    random: &mut Rng,
    kind: &str,
    aims: &Aims,
    image: &Path,
) -> Result<&'static str> {
    let mut file = File::options().read(true).write(true).open(image)?;
    let start = super_block(kind);
    match random.u8(..8) {
        0 => {
            for _ in 0..random.u8(1..20) {
                file.write_all_at(&[random.u8(..)], start + random.u64(..1024))?;
            }
            Ok("its super block has other bytes")
        }
        1 => {
            let bytes: Vec<u8> = (0..2048).map(|_| random.u8(..)).collect();
            file.write_all_at(&bytes, start)?;
            Ok("its super block is noise")
        }
        2 => {
            let uuid = if random.bool() { &aims.victim_uuid } else { &aims.good_uuid };
            if kind.starts_with("ext") {
                let image = image.to_string_lossy();
                // It refuses what the tricks with files have damaged.
                let _ = run(&["tune2fs", "-f", "-U", uuid, &image]);
            }
            Ok("it has the UUID of another")
        }
        3 => {
            let len = file.metadata()?.len();
            file.set_len(random.u64(1 << 20..len))?;
            Ok("its end is cut off")
        }
        4 => {
            let magic: &[&[u8]] =
                &[b"LUKS\xba\xbe\x00\x02", b"hsqs", b"XFSB", b"\xeb\x3c\x90mkfs.fat"];
            file.write_all_at(magic[random.usize(..magic.len())], 0)?;
            Ok("it begins like something else")
        }
        5 => {
            file.write_all_at(b"LABELONE\x01\0\0\0\0\0\0\0\0\0\0\0\x20\0\0\0LVM2 001", 512)?;
            Ok("it says that it is a physical volume")
        }
        6 => {
            let image = image.to_string_lossy();
            let _ = run(&["sgdisk", "-n1:2048:+1M", "-t1:ef00", &image]);
            file.seek(SeekFrom::Start(512 + 80))?;
            file.write_all(&random.u32(..).to_le_bytes())?;
            Ok("it has a partition table of any number of entries")
        }
        _ => {
            let len = file.metadata()?.len();
            for _ in 0..40 {
                let block = random.u64(..len / 4096);
                file.write_all_at(&[random.u8(..); 64], block * 4096)?;
            }
            Ok("it has noise in forty blocks")
        }
    }
}
