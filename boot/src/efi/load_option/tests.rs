use super::*;
use crate::efi::device_path::tests::any_path;
use proptest::prelude::*;
use uuid::uuid;

const PARTUUID: uuid::Uuid = uuid!("d5d6dd2d-9b2f-4bf8-8c33-8a4e39a8be0a");

fn with_file(file: &str) -> LoadOption {
    LoadOption::new("x", DevicePath::hard_drive_file(1, 2048, 4096, PARTUUID, file))
}

#[test]
fn an_entry_with_a_command_line_is_rendered_and_parsed() {
    let mut option = with_file(r"\EFI\lifeboat\2f0c1a94\vmlinuz.efi");
    option.optional_data = ucs2::encode("root=UUID=1 ro panic=5");
    let bytes = option.to_bytes().unwrap();
    assert_eq!(bytes[..4], [1, 0, 0, 0]);
    assert_eq!(bytes[4..10], [0x78, 0, b'x', 0, 0, 0]);
    assert_eq!(LoadOption::parse(&bytes).unwrap(), option);
}

#[test]
fn lifeboats_own_entries_are_recognised_by_their_file() {
    let cases = [
        (r"\EFI\lifeboat\2f0c1a94\grubx64.efi", true),
        (r"\efi\LIFEBOAT\lifeboat.efi", true),
        ("/EFI/lifeboat/x/y.efi", true),
        (r"EFI\lifeboat\x", true),
        (r"\EFI\lifeboat", false),
        (r"\EFI\lifeboat\..\debian\grubx64.efi", false),
        (r"\EFI\lifeboats\x", false),
        (r"\EFI\debian\shimx64.efi", false),
        ("", false),
    ];
    for (file, ours) in cases {
        assert_eq!(with_file(file).is_lifeboat(), ours, "{file}");
    }
    assert!(!LoadOption::new("x", DevicePath::default()).is_lifeboat());
}

#[test]
fn set_active_changes_no_other_attribute() {
    let mut option = with_file(r"\x");
    option.attributes = ACTIVE | HIDDEN;
    option.set_active(false);
    assert_eq!((option.is_active(), option.attributes), (false, HIDDEN));
    option.set_active(true);
    assert_eq!(option.attributes, ACTIVE | HIDDEN);
}

#[test]
fn damaged_options_are_refused() {
    let whole = with_file(r"\x").to_bytes().unwrap();
    for length in 0..whole.len() {
        assert!(LoadOption::parse(&whole[..length]).is_err(), "{length}");
    }
    let nul = LoadOption::new("a\0b", DevicePath::default());
    assert!(matches!(nul.to_bytes(), Err(Error::Nul(_))));
}

proptest! {
    #[test]
    fn any_option_is_parsed_as_it_was_rendered(
        attributes in any::<u32>(),
        description in "[^\0]{0,30}",
        path in any_path(),
        optional_data in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let option = LoadOption { attributes, description, path, optional_data };
        prop_assert_eq!(LoadOption::parse(&option.to_bytes().unwrap()).unwrap(), option);
    }

    #[test]
    fn any_bytes_are_parsed_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(option) = LoadOption::parse(&bytes) {
            let _ = (option.to_bytes(), option.is_lifeboat());
        }
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digits).collect()
}

/// Made by OVMF 2022.11 in a machine with a CD drive and a virtio disk.
#[test]
fn the_firmwares_own_entries_are_rendered_byte_for_byte() {
    let cases = [
        (
            "090100002c0055006900410070007000000004071400c9bdb87cebf8344faaea3ee4af6516a10406\
             140021aa2c4614760345836e8ab6f46623317fff0400",
            "UiApp",
            "Path(4,7,c9bdb87cebf8344faaea3ee4af6516a1)/Path(4,6,21aa2c4614760345836e8ab6f4662331)",
        ),
        (
            "01000000200055004500460049002000510045004d00550020004400560044002d0052004f004d00\
             200051004d00300030003000300035002000000002010c00d041030a0000000001010600021f0312\
             0a000200ffff00007fff04004eac0881119f594d850ee21a522c59b2",
            "UEFI QEMU DVD-ROM QM00005 ",
            "Path(2,1,d041030a00000000)/Path(1,1,021f)/Path(3,18,0200ffff0000)",
        ),
        (
            "010000001600550045004600490020004d0069007300630020004400650076006900630065000000\
             02010c00d041030a000000000101060000027fff04004eac0881119f594d850ee21a522c59b2",
            "UEFI Misc Device",
            "Path(2,1,d041030a00000000)/Path(1,1,0002)",
        ),
    ];
    for (hex, description, path) in cases {
        let bytes = bytes(hex);
        let option = LoadOption::parse(&bytes).unwrap();
        assert_eq!(option.description, description);
        assert_eq!(option.path.to_string(), path);
        assert!(option.is_active());
        assert_eq!(option.to_bytes().unwrap(), bytes);
    }
}
