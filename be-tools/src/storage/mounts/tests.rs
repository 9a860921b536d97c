use std::path::Path;

use super::*;

const MOUNTINFO: &[u8] = b"22 27 0:21 / /proc rw,relatime - proc proc rw\n\
    27 1 254:2 / / rw,relatime shared:1 - ext4 /dev/vda2 rw,errors=remount-ro\n\
    40 27 0:35 /@home /home rw,relatime shared:2 master:1 - btrfs /dev/vdb \
    rw,space_cache=v2,subvol=/@home\n\
    41 27 254:3 / /mnt/with\\040space ro,noatime - xfs /dev/vda3 rw,attr2\n\
    41 27 254:4 / /mnt/with\\040space rw - xfs /dev/vda4 rw\n\
    broken line\n";

#[test]
fn mountinfo_is_parsed() {
    let mounts = Mounts::parse(MOUNTINFO);
    assert_eq!(mounts.iter().count(), 5);
    let home = mounts.at(Path::new("/home")).unwrap();
    assert_eq!(
        (home.root.to_str(), home.fs_type.as_str(), home.number),
        (Some("/@home"), "btrfs", (0, 35).into())
    );
    assert_eq!(mounts.at(Path::new("/mnt/with space")).unwrap().number, (254, 4).into());
    assert!(mounts.iter().any(|m| m.number == (254, 3).into() && m.is_read_only()));
    assert_eq!(mounts.under(Path::new("/mnt")).count(), 2);
    assert_eq!((home.id, home.parent), (40, 27));
    assert_eq!(mounts.by_id(22).unwrap().mount_point, Path::new("/proc"));
}

#[test]
fn what_hides_a_mount_is_told_from_its_parents() {
    let mounts = Mounts::parse(
        b"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
        2 1 8:2 / /srv rw - ext4 /dev/sda2 rw\n\
        3 2 8:3 / /srv/data rw - ext4 /dev/sda3 rw\n\
        4 3 0:9 / /srv/data rw - tmpfs tmpfs rw\n\
        5 2 0:8 / /srv rw - tmpfs tmpfs rw\n\
        6 1 8:4 / /home rw - ext4 /dev/sda4 rw\n",
    );
    let covering = |id| {
        let all = mounts.covering(mounts.by_id(id).unwrap());
        all.map(|mount| mount.id).collect::<Vec<_>>()
    };
    assert_eq!(covering(3), [5, 4]);
    assert_eq!(covering(2), [5]);
    assert!(covering(6).is_empty());
}

proptest::proptest! {
    #[test]
    fn no_text_causes_a_panic(text in "[0-9a-z:/ \\\\\n-]{0,200}") {
        let _ = Mounts::parse(text.as_bytes()).iter().count();
        let _ = crate::storage::swap::parse(text.as_bytes());
    }
}
