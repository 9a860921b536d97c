use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::storage::testing::image;
use crate::tool::Tool;

fn probe_file(path: &Path) -> Content {
    probe(&std::fs::read(path).unwrap())
}

/// What `blkid` reports for the same bytes.
fn oracle(path: &Path) -> BTreeMap<String, String> {
    let text = Tool::new("blkid").args(["-p", "-o", "export"]).arg(path).run().unwrap_or_default();
    text.lines()
        .filter_map(|l| l.split_once('='))
        .map(|(k, v)| (k.into(), v.replace('\\', "")))
        .collect()
}

#[test]
fn what_mkfs_makes_is_recognised_as_by_blkid() {
    let table: &[(&str, &[&str], u64)] = &[
        ("mke2fs", &["-qFt", "ext4", "-L", "a root"], 64),
        ("mke2fs", &["-qFt", "ext4", "-O", "^metadata_csum,^64bit,^extents", "-b", "1024"], 64),
        ("mke2fs", &["-qFt", "ext3", "-L", "sixteen_letters_"], 64),
        ("mke2fs", &["-qFt", "ext2"], 64),
        ("mkfs.xfs", &["-q", "-L", "twelve_chars"], 320),
        ("mkfs.xfs", &["-q", "-b", "size=1024"], 320),
        ("mkfs.btrfs", &["-q", "-L", "b tree"], 128),
        ("mkfs.fat", &["-F", "32", "-n", "LIFEBOAT"], 64),
        ("mkfs.fat", &["-F", "16", "-n", "SIXTEEN"], 16),
        ("mkfs.fat", &["-F", "12"], 2),
        ("mkfs.fat", &["-F", "32", "-S", "4096"], 320),
        ("mkswap", &["-L", "pages"], 8),
        ("mkswap", &["-p", "65536"], 8),
        ("sgdisk", &["-n1:2048:+1M"], 8),
    ];
    for (program, arguments, mebibytes) in table {
        let file = image(mebibytes << 20);
        Tool::new(*program).args(*arguments).arg(file.path()).run().unwrap();
        let content = probe_file(file.path());
        let found =
            content.super_block().unwrap_or_else(|| panic!("{program} {arguments:?}: {content:?}"));
        let expected = oracle(file.path());
        let of = |key: &str| expected.get(key).cloned().unwrap_or_default();
        let (kind, uuid) =
            if found.kind.is_table() { ("PTTYPE", "PTUUID") } else { ("TYPE", "UUID") };
        assert_eq!(
            (found.kind.name().to_owned(), found.uuid.to_string(), found.label.clone()),
            (of(kind), of(uuid), of("LABEL")),
            "{program} {arguments:?}"
        );
        assert!(!found.dirty, "{program}");
        if found.kind.is_file_system() {
            let size = found.size.unwrap();
            assert!(
                size <= mebibytes << 20 && size >= (mebibytes << 20) * 9 / 10,
                "{program}: {size}"
            );
            assert!(found.used.is_none_or(|used| used < size / 2), "{program}: {:?}", found.used);
        }
    }
}

#[test]
fn an_mbr_is_told_from_a_blank_device() {
    let file = image(8 << 20);
    assert_eq!(probe_file(file.path()), Content::Blank);
    Tool::new("sfdisk").arg("--quiet").arg(file.path()).input("label: dos\n,\n").run().unwrap();
    let content = probe_file(file.path());
    assert_eq!(content.kind(), Some(Kind::Mbr));
    assert_eq!(content.super_block().unwrap().uuid.as_str(), oracle(file.path())["PTUUID"]);
    let mut bytes = vec![0_u8; 2 << 20];
    bytes[(1 << 20) - 1] = 1;
    assert_eq!(probe(&bytes), Content::Unknown);
    assert_eq!(probe(&Vec::new()), Content::Blank);
}

/// Headers with the fields that `cryptsetup` and `mdadm` write, because making real ones needs the
/// device mapper and md. `blkid` is the reference.
#[test]
fn containers_are_recognised_as_by_blkid() {
    let uuid = "5d7a1ad5-8a3c-4a52-9a7e-0c6f6e1f3b55";
    let raw = *uuid::Uuid::parse_str(uuid).unwrap().as_bytes();
    let put = |bytes: &mut Vec<u8>, at: usize, what: &[u8]| {
        bytes[at..at + what.len()].copy_from_slice(what)
    };
    let mut luks = vec![0; 1 << 20];
    put(&mut luks, 0, b"LUKS\xba\xbe\0\x01");
    put(&mut luks, 168, uuid.as_bytes());
    let mut md = vec![0; 4 << 20];
    put(&mut md, 4096, &[0xfc, 0x4e, 0x2b, 0xa9, 1]);
    put(&mut md, 4096 + 16, &raw);
    put(&mut md, 4096 + 32, b"host:root");
    put(&mut md, 4096 + 144, &[8]);
    let sum = (0..64).fold(0_u64, |sum, word| {
        let at = 4096 + 4 * word;
        sum + u64::from(u32::from_le_bytes([md[at], md[at + 1], md[at + 2], md[at + 3]]))
    });
    let sum = (sum & 0xffff_ffff) as u32 + (sum >> 32) as u32;
    put(&mut md, 4096 + 216, &sum.to_le_bytes());
    let mut old_md = vec![0; 4 << 20];
    let at = old_md.len() - 0x1_0000;
    put(&mut old_md, at, &[0xfc, 0x4e, 0x2b, 0xa9, 0, 0, 0, 0, 90]);
    // Four little-endian words, which are printed as big-endian ones.
    for (word, place) in raw.chunks_exact(4).zip([20, 52, 56, 60]) {
        put(&mut old_md, at + place, &[word[3], word[2], word[1], word[0]]);
    }
    let sum =
        (0..16).map(|w| u32::from_le_bytes(old_md[at + 4 * w..at + 4 * w + 4].try_into().unwrap()));
    let sum = sum.fold(0_u64, |sum, word| sum + u64::from(word));
    put(&mut old_md, at + 152, &((sum & 0xffff_ffff) as u32 + (sum >> 32) as u32).to_le_bytes());
    for (bytes, kind, label) in
        [(luks, Kind::Luks1, ""), (md, Kind::MdRaid, "host:root"), (old_md, Kind::MdRaid, "")]
    {
        let content = probe(&bytes);
        let found = content.super_block().unwrap_or_else(|| panic!("{kind:?}"));
        assert_eq!((found.kind, found.uuid.as_str(), found.label.as_str()), (kind, uuid, label));
        let file = image(0);
        std::fs::write(file.path(), &bytes).unwrap();
        let expected = oracle(file.path());
        assert_eq!(expected.get("TYPE").map(String::as_str), Some(kind.name()));
        assert_eq!(expected["UUID"], uuid);
    }
}

/// Skips what is made by programs that are not installed.
#[test]
fn what_rarer_programs_make_is_recognised() {
    let tree = tempfile::tempdir().unwrap();
    std::fs::write(tree.path().join("file"), "content").unwrap();
    let tree = tree.path().display();
    let luks = |version: &str| {
        format!(
            "echo pw | cryptsetup luksFormat -q --type {version} --pbkdf pbkdf2 \
            --pbkdf-force-iterations 1000 $0 -"
        )
    };
    let table = [
        (luks("luks1"), 32),
        (format!("{} --label mine", luks("luks2")), 32),
        (format!("mksquashfs {tree} $0 -noappend -quiet"), 1),
        (format!("mkfs.erofs $0 {tree}"), 1),
        ("mkfs.f2fs -q -l mine $0".to_owned(), 64),
        ("mkfs.exfat -L mine $0".to_owned(), 16),
        ("mkfs.ntfs -q -F -L mine $0".to_owned(), 16),
        (format!("xorriso -as mkisofs -quiet -V MINE -o $0 {tree}"), 1),
    ];
    for (script, mebibytes) in table {
        let file = image(mebibytes << 20);
        let made = Tool::new("sh").args(["-ec", &script]).arg(file.path()).run();
        if let Err(error) = made {
            eprintln!("skipped: {error}");
            continue;
        }
        let content = probe_file(file.path());
        let found = content.super_block().unwrap_or_else(|| panic!("{script}: {content:?}"));
        let expected = oracle(file.path());
        assert_eq!(expected.get("TYPE").map(String::as_str), Some(found.kind.name()), "{script}");
        // exFAT and NTFS keep their label in a file, which the probe does not read.
        if !matches!(found.kind, Kind::ExFat | Kind::Ntfs) {
            let of = |key: &str| expected.get(key).cloned().unwrap_or_default();
            assert_eq!(
                (found.uuid.to_string(), found.label.clone()),
                (of("UUID"), of("LABEL")),
                "{script}"
            );
        }
    }
}

#[test]
fn a_physical_volume_is_recognised() {
    if !crate::storage::testing::is_root() {
        return;
    }
    let file = image(64 << 20);
    let device = crate::storage::testing::LoopDevice::attach(file.path());
    if let Err(error) = Tool::new("pvcreate")
        .args(["-q", "--config", "devices{use_devicesfile=0}"])
        .arg(&device.node)
        .run()
    {
        eprintln!("skipped: {error}");
        return;
    }
    let content = probe_file(file.path());
    let found = content.super_block().unwrap();
    assert_eq!((found.kind, found.size), (Kind::Lvm, Some(64 << 20)));
    assert_eq!(found.uuid.as_str(), oracle(file.path())["UUID"]);
}

#[test]
fn the_uuid_of_a_foreign_header_is_hexadecimal_or_empty() {
    let headers = |text: &[u8]| {
        let mut luks = vec![0; 1 << 20];
        luks[..8].copy_from_slice(b"LUKS\xba\xbe\0\x01");
        luks[168..168 + text.len()].copy_from_slice(text);
        let mut lvm = vec![0; 1 << 20];
        lvm[512..520].copy_from_slice(b"LABELONE");
        lvm[520] = 1;
        lvm[532] = 32;
        lvm[536..544].copy_from_slice(b"LVM2 001");
        lvm[544..576].fill(b'x');
        // An id has no blanks.
        let id: Vec<u8> =
            text.iter().take(32).map(|b| if *b == b' ' { b'_' } else { *b }).collect();
        lvm[544..544 + id.len()].copy_from_slice(&id);
        [(luks, Kind::Luks1), (lvm, Kind::Lvm)]
    };
    for text in ["$(touch /PWNED;echo x)", "`reboot`", "a\";reboot;\"", "a\\nb c"] {
        for (bytes, kind) in headers(text.as_bytes()) {
            let content = probe(&bytes);
            let found = content.super_block().unwrap_or_else(|| panic!("{kind:?}"));
            assert_eq!((found.kind, found.uuid.as_str()), (kind, ""), "{text}");
        }
    }
    let [(luks, _), _] = headers(b"5d7a1ad5-8a3c-4a52-9a7e-0c6f6e1f3b55");
    assert_eq!(probe(&luks).super_block().unwrap().uuid.len(), 36);
}

#[test]
fn each_device_of_a_btrfs_has_its_own_number() {
    let files = [image(128 << 20), image(128 << 20)];
    let paths = files.each_ref().map(|file| file.path());
    Tool::new("mkfs.btrfs").args(["-q", "-m", "raid1"]).args(paths).run().unwrap();
    let found = paths.map(|path| probe_file(path).super_block().unwrap().clone());
    assert_eq!(found[0].uuid, found[1].uuid);
    assert_eq!(found.each_ref().map(|s| (s.device_id, s.devices)), [(Some(1), 2), (Some(2), 2)]);
}

#[test]
fn a_label_cannot_write_to_the_terminal() {
    let file = image(16 << 20);
    Tool::new("mke2fs").args(["-qFt", "ext4", "-L", "a\u{1b}[2Jb"]).arg(file.path()).run().unwrap();
    assert_eq!(probe_file(file.path()).super_block().unwrap().label, "a?[2Jb");
}

/// Real super blocks, so that mutations reach past the magic numbers.
fn seeds() -> Vec<Vec<u8>> {
    let make = |program: &str, arguments: &[&str], size: u64| {
        let file = image(size);
        Tool::new(program).args(arguments).arg(file.path()).run().unwrap();
        let mut bytes = std::fs::read(file.path()).unwrap();
        bytes.truncate(256 << 10);
        bytes
    };
    vec![
        make("mke2fs", &["-qFt", "ext4"], 16 << 20),
        make("mkfs.xfs", &["-q"], 320 << 20),
        make("mkfs.btrfs", &["-q"], 128 << 20),
        make("mkfs.fat", &["-F", "32", "-n", "LIFEBOAT"], 40 << 20),
        make("mkfs.fat", &["-F", "12", "-n", "LIFEBOAT"], 1 << 20),
        make("sgdisk", &["-n1:2048:+1M"], 8 << 20),
        vec![0; 128 << 10],
    ]
}

#[test]
fn damaged_super_blocks_cause_no_panic() {
    let seeds = seeds();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(2000));
    // The places where the formats keep their fields.
    let places = prop_oneof![
        0_usize..512,
        512_usize..2048,
        4086_usize..4352,
        16384_usize..16640,
        65536_usize..69632
    ];
    let damage = proptest::collection::vec((places, any::<u8>()), 0..24);
    runner
        .run(&(0..seeds.len(), damage, 0_usize..(256 << 10)), |(seed, damage, cut)| {
            let mut bytes = seeds[seed].clone();
            for (at, value) in damage {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            let _ = probe(&bytes).description();
            bytes.truncate(cut);
            let _ = probe(&bytes).description();
            Ok(())
        })
        .unwrap();
}
