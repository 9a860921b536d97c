use super::*;
use crate::storage::probe::Image;
use crate::storage::probe::probe;
use crate::storage::testing::image;
use crate::tool::Tool;
use proptest::prelude::*;
use std::os::unix::fs::FileExt;

const IDENTITY: Identity = Identity { uuid: uuid::Uuid::from_u128(0x1234), label: String::new() };

/// The bytes of a new file system.
fn made(program: &str, arguments: &[&str], mebibytes: u64) -> Vec<u8> {
    let file = image(mebibytes << 20);
    Tool::new(program).args(arguments).arg(file.path()).run().unwrap();
    std::fs::read(file.path()).unwrap()
}

/// A copy made in memory, over garbage.
fn copied(source: &Vec<u8>, identity: &Identity) -> Result<Vec<u8>, Unfit> {
    let blueprint = FileSystem::inspect(source)?.blueprint(source, identity)?;
    let mut target = vec![0xa5; source.len()];
    let parts = blueprint.parts(&[]);
    let edits = blueprint.backups.into_iter().chain([blueprint.primary]).collect();
    let overlay = Overlay::new(edits, blueprint.log);
    for Part { range, origin } in parts {
        let range = range.start as usize..range.end as usize;
        match origin {
            Origin::Source => target[range.clone()].copy_from_slice(&source[range.clone()]),
            _ => target[range.clone()].fill(0),
        }
        overlay.apply(range.start as u64, &mut target[range]);
    }
    Ok(target)
}

const EXT: [&[&str]; 9] = [
    &["-qFt", "ext4"],
    &["-qFt", "ext4", "-O", "metadata_csum_seed,orphan_file"],
    &["-qFt", "ext4", "-O", "meta_bg,^resize_inode", "-b", "1024"],
    &["-qFt", "ext4", "-O", "bigalloc", "-C", "65536"],
    &["-qFt", "ext4", "-O", "bigalloc", "-b", "1024", "-C", "4096"],
    &["-qFt", "ext4", "-O", "sparse_super2,^64bit", "-b", "2048"],
    &["-qFt", "ext4", "-O", "^metadata_csum,^uninit_bg"],
    &["-qFt", "ext3", "-b", "1024", "-O", "^sparse_super,^resize_inode"],
    &["-qFt", "ext2", "-g", "256", "-b", "1024"],
];

/// Asserts that the checker finds nothing wrong with a copy. `arguments` are those of mkfs.
fn assert_sound(checker: &str, read_only: &str, copy: &[u8], arguments: &[&str]) {
    let file = image(0);
    file.as_file().write_all_at(copy, 0).unwrap();
    let checked = Tool::new(checker).arg(read_only).arg(file.path()).run();
    checked.unwrap_or_else(|e| panic!("{arguments:?}: {e}"));
}

#[test]
fn a_new_ext_file_system_is_copied_over_garbage() {
    for arguments in EXT {
        let source = made("mke2fs", arguments, 64);
        let target =
            copied(&source, &Identity { label: "sixteen_letters_".into(), ..IDENTITY }).unwrap();
        assert_sound("e2fsck", "-fn", &target, arguments);
        let found = probe(&target);
        let found = found.super_block().unwrap();
        assert_eq!(
            (found.uuid.as_str(), found.label.as_str()),
            ("00000000-0000-0000-0000-000000001234", "sixteen_letters_")
        );
    }
}

const XFS: [&[&str]; 4] = [
    &["-q"],
    &["-q", "-b", "size=1024"],
    &["-q", "-d", "agcount=7,su=32k,sw=1"],
    &["-q", "-s", "size=4096"],
];

#[test]
fn a_new_xfs_is_copied_over_garbage() {
    for arguments in XFS {
        let source = made("mkfs.xfs", arguments, 640);
        let target =
            copied(&source, &Identity { label: "twelve_chars".into(), ..IDENTITY }).unwrap();
        assert_sound("xfs_repair", "-n", &target, arguments);
        let found = probe(&target);
        let found = found.super_block().unwrap();
        assert_eq!(
            (found.uuid.as_str(), found.label.as_str(), found.dirty),
            ("00000000-0000-0000-0000-000000001234", "twelve_chars", false)
        );
    }
}

#[test]
fn a_file_system_that_cannot_be_copied_by_blocks_is_refused_with_the_reason() {
    let table: [(&str, &[&str], u64, &str); 7] = [
        ("mke2fs", &["-qFt", "ext4", "-O", "uninit_bg,^metadata_csum"], 64, "depend on its UUID"),
        ("mke2fs", &["-qFt", "ext4", "-O", "mmp"], 64, "incompat 0x100"),
        ("mke2fs", &["-qFt", "ext4", "-O", "stable_inodes,encrypt"], 64, "compat 0x800"),
        ("mke2fs", &["-qFO", "journal_dev"], 64, "not a file system"),
        ("mkfs.xfs", &["-q", "-m", "crc=0"], 320, "version 4"),
        ("mkfs.btrfs", &["-q"], 128, "btrfs"),
        ("mkswap", &[], 8, "swap space"),
    ];
    for (program, arguments, mebibytes, expected) in table {
        let why =
            FileSystem::inspect(&made(program, arguments, mebibytes)).unwrap_err().to_string();
        assert!(why.contains(expected), "{program} {arguments:?}: {why}");
    }
}

#[test]
fn a_file_system_that_was_not_cleanly_unmounted_is_refused() {
    let mut ext = made("mke2fs", &["-qFt", "ext4", "-O", "^metadata_csum,^uninit_bg"], 64);
    ext[1024 + 0x60] |= 4;
    let mut xfs = made("mkfs.xfs", &["-q"], 320);
    let log =
        crate::storage::probe::xfs::log(&Image::new(&xfs).unwrap(), 4096).unwrap().offset as usize;
    xfs[log + 512 + 9] = 0;
    for source in [ext, xfs] {
        let found = FileSystem::inspect(&source).unwrap();
        let why = found.blueprint(&source, &IDENTITY).unwrap_err().to_string();
        assert!(why.contains("cleanly unmounted"), "{why}");
    }
}

/// An ext2 of any size whose groups all have the same descriptor, so that it takes no memory.
struct Uniform {
    super_block: Vec<u8>,
    blocks: u32,
}

impl Source for Uniform {
    fn len(&self) -> u64 {
        u64::from(self.blocks) * 1024
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<()> {
        // The bitmaps and the inode table are in blocks 5, 6 and 7.
        const DESCRIPTOR: [u8; 12] = [5, 0, 0, 0, 6, 0, 0, 0, 7, 0, 0, 0];
        for (at, byte) in (offset..).zip(buffer) {
            let super_block = at.checked_sub(1024).and_then(|at| self.super_block.get(at as usize));
            let descriptor = DESCRIPTOR.get((at % 32) as usize);
            *byte = super_block.or(descriptor).copied().unwrap_or(0);
        }
        Ok(())
    }
}

#[test]
fn a_file_system_with_more_groups_than_fit_into_memory_is_refused() {
    let made = made("mke2fs", &["-qFt", "ext2", "-g", "256", "-b", "1024", "-O", "none"], 64);
    for (groups, expected) in [
        (1000, None),
        (40_000, Some("too many backup super blocks")),
        (1 << 19, Some("too many block groups")),
    ] {
        let blocks = 1_u32 + 256 * groups;
        let mut super_block = made[1024..2048].to_vec();
        super_block[4..8].copy_from_slice(&blocks.to_le_bytes());
        let why = measure_source(&Uniform { super_block, blocks }).err().map(|why| why.to_string());
        let matches = match (&why, expected) {
            (Some(why), Some(expected)) => why.contains(expected),
            (None, None) => true,
            _ => false,
        };
        assert!(matches, "{groups} groups: {why:?}");
    }
}

/// Overwrites single bytes.
fn damaged(source: &[u8], places: &[(usize, u8)]) -> Vec<u8> {
    let mut bytes = source.to_vec();
    for (place, value) in places {
        let length = bytes.len();
        bytes[place % length] = *value;
    }
    bytes
}

#[test]
fn damage_is_refused_or_copied_but_never_causes_a_panic() {
    // Without checksums, more of the damage is not detected.
    let plain = made(
        "mke2fs",
        &["-qFt", "ext4", "-O", "^metadata_csum,^uninit_bg,^64bit", "-b", "1024"],
        4,
    );
    let ext = made("mke2fs", &["-qFt", "ext4"], 8);
    let xfs = made("mkfs.xfs", &["-q", "-b", "size=1024"], 300);
    let byte = || (0_usize..3 << 10, any::<u8>());
    let config =
        ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(places in prop::collection::vec(byte(), 1..6))| {
        let _ = copied(&damaged(&plain, &places), &IDENTITY);
        let super_block: Vec<_> = places.iter().map(|(p, v)| (1024 + p % 1024, *v)).collect();
        let _ = copied(&damaged(&plain, &super_block), &IDENTITY);
        let mut sealed = damaged(&ext, &super_block);
        let sum = crc32c::crc32c(!0, &sealed[1024..1024 + 0x3fc]).to_le_bytes();
        sealed[1024 + 0x3fc..2048].copy_from_slice(&sum);
        let _ = copied(&sealed, &IDENTITY);
    });
    let config =
        ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(places in prop::collection::vec((0_usize..264, any::<u8>()), 1..3))| {
        let mut sealed = damaged(&xfs[..xfs.len().min(4 << 20)], &places);
        sealed[224..228].fill(0);
        let sum = (!crc32c::crc32c(!0, &sealed[..512])).to_le_bytes();
        sealed[224..228].copy_from_slice(&sum);
        if let Ok(found) = FileSystem::inspect(&sealed) {
            let _ = found.blueprint(&sealed, &IDENTITY);
        }
    });
}

#[test]
fn garbage_never_causes_a_panic() {
    proptest!(|(bytes in prop::collection::vec(any::<u8>(), 0..9000), kind in 0..3)| {
        let mut bytes = bytes;
        match kind {
            0 if bytes.len() > 1100 => {
                bytes[1024 + 0x38..1024 + 0x3a].copy_from_slice(&[0x53, 0xef]);
            }
            1 if bytes.len() > 4 => bytes[..4].copy_from_slice(b"XFSB"),
            _ => {}
        }
        if let Ok(found) = FileSystem::inspect(&bytes) {
            let _ = found.blueprint(&bytes, &IDENTITY);
        }
    });
}
