use super::*;
use proptest::prelude::*;
use uuid::uuid;

/// The first node of `HD(1,GPT,…)/\EFI\debian\shimx64.efi`, written by the Debian installer's
/// efibootmgr.
const HARD_DRIVE_NODE: &[u8] = &[
    0x04, 0x01, 0x2a, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0xf8, 0x0f, 0x00, 0x00, 0x00, 0x00, 0x00, 0x2d, 0xdd, 0xd6, 0xd5, 0x2f, 0x9b, 0xf8, 0x4b,
    0x8c, 0x33, 0x8a, 0x4e, 0x39, 0xa8, 0xbe, 0x0a, 0x02, 0x02,
];

fn file_node(name: &str) -> Vec<u8> {
    let text = ucs2::encode_nul(name);
    let mut node = vec![4, 4, u8::try_from(text.len() + 4).unwrap(), 0];
    node.extend(text);
    node
}

fn path(nodes: &[&[u8]]) -> Vec<u8> {
    [nodes.concat().as_slice(), &[0x7f, 0xff, 4, 0]].concat()
}

#[test]
fn the_path_of_a_loader_on_a_gpt_disk_is_parsed() {
    let file = r"\EFI\debian\shimx64.efi";
    let bytes = path(&[HARD_DRIVE_NODE, &file_node(file)]);
    let partuuid = uuid!("d5d6dd2d-9b2f-4bf8-8c33-8a4e39a8be0a");
    let parsed = DevicePath::parse(&bytes).unwrap();
    assert_eq!(parsed, DevicePath::hard_drive_file(1, 2048, 0xff800, partuuid, file));
    assert_eq!(parsed.to_bytes().unwrap(), bytes);
    assert_eq!(parsed.file().as_deref(), Some(file));
    assert_eq!(parsed.partuuid(), Some(partuuid));
}

#[test]
fn nodes_that_we_cannot_interpret_are_kept() {
    let mut no_nul = file_node("x");
    no_nul.truncate(6);
    no_nul[2] = 6;
    let mut odd_disk = HARD_DRIVE_NODE.to_vec();
    odd_disk[41] = 7;
    // PciRoot(0x0)/Pci(0x1,0x1)/Ata(0,0,0), the start of OVMF's own entry for a disk.
    let pci =
        [2, 1, 12, 0, 0xd0, 0x41, 3, 0x0a, 0, 0, 0, 0, 1, 1, 6, 0, 1, 1, 3, 1, 8, 0, 0, 0, 0, 0];
    let second_path = path(&[HARD_DRIVE_NODE]);
    for node in [no_nul, odd_disk, pci.to_vec(), second_path, vec![4, 4, 4, 0]] {
        let bytes = path(&[&node, &file_node(r"\a")]);
        let parsed = DevicePath::parse(&bytes).unwrap();
        assert_eq!(parsed.to_bytes().unwrap(), bytes);
    }
}

#[test]
fn only_the_first_of_several_paths_names_the_file() {
    let first = path(&[&file_node(r"\EFI\a"), &file_node("b.efi")]);
    let bytes = path(&[&first, &file_node(r"\EFI\lifeboat\x")]);
    let parsed = DevicePath::parse(&bytes).unwrap();
    assert_eq!(parsed.file().as_deref(), Some(r"\EFI\a\b.efi"));
    assert_eq!(parsed.to_bytes().unwrap(), bytes);
}

#[test]
fn damaged_paths_are_refused() {
    let length = |offset, length, left| Error::NodeLength { offset, length, left };
    let cases: &[(&[u8], Error)] = &[
        (&[], Error::NoEnd),
        (&[4, 4], length(0, 4, 2)),
        (&[4, 4, 0, 0], length(0, 0, 4)),
        (&[4, 4, 3, 0, 0], length(0, 3, 5)),
        (&[4, 4, 9, 0, 0, 0], length(0, 9, 6)),
        (&[4, 4, 6, 0, 0, 0], Error::NoEnd),
        (&[0x7f, 0xff, 5, 0, 0], Error::NoEnd),
        (&[0x7f, 0xff, 4, 0, 1], length(4, 4, 1)),
    ];
    for (bytes, error) in cases {
        assert_eq!(DevicePath::parse(bytes).as_ref(), Err(error), "{bytes:x?}");
    }
    let long = DevicePath(vec![Node::FilePath("x".repeat(40_000))]);
    assert!(matches!(long.to_bytes(), Err(Error::TooLong(_))));
    let nul = DevicePath(vec![Node::FilePath("a\0b".into())]);
    assert!(matches!(nul.to_bytes(), Err(Error::Nul(_))));
}

pub(crate) fn any_path() -> impl Strategy<Value = DevicePath> {
    let signature = prop_oneof![
        Just(Signature::None),
        any::<u32>().prop_map(Signature::Mbr),
        any::<u128>().prop_map(|n| Signature::Gpt(Uuid::from_u128(n))),
    ];
    let disk = (any::<u32>(), any::<u64>(), any::<u64>(), signature).prop_map(
        |(partition, start_lba, size_lba, signature)| Node::HardDrive {
            partition,
            start_lba,
            size_lba,
            signature,
        },
    );
    let file = "[^\0]{0,40}".prop_map(Node::FilePath);
    let data = prop::collection::vec(any::<u8>(), 0..40);
    let other = (1u8..4, any::<u8>(), data).prop_map(|(kind, sub_kind, data)| Node::Other {
        kind,
        sub_kind,
        data,
    });
    prop::collection::vec(prop_oneof![disk, file, other], 0..5).prop_map(DevicePath)
}

proptest! {
    #[test]
    fn any_path_is_parsed_as_it_was_rendered(path in any_path()) {
        prop_assert_eq!(DevicePath::parse(&path.to_bytes().unwrap()).unwrap(), path);
    }

    #[test]
    fn any_bytes_are_refused_or_rendered_the_same(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let with_end = path(&[&bytes]);
        for bytes in [bytes, with_end] {
            if let Ok(path) = DevicePath::parse(&bytes) {
                prop_assert_eq!(path.to_bytes().unwrap(), bytes);
                let _ = (path.to_string(), path.file(), path.partuuid());
            }
        }
    }
}
