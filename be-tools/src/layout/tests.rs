use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::environment::FileSystemUse;
use crate::error::Result;
use crate::storage::provision::Provision;

fn line(spec: &str, mountpoint: &str, fs_type: &str, options: &str) -> FileSystemUse {
    FileSystemUse {
        device: spec.starts_with("/dev/").then(|| spec.into()),
        fs_type: fs_type.into(),
        options: options.into(),
        ..FileSystemUse::example(mountpoint, spec)
    }
}

/// The fstab of a Debian with most kinds of lines that an installer or an administrator writes.
fn debian() -> Vec<FileSystemUse> {
    vec![
        line("/dev/vda2", "/", "ext4", "errors=remount-ro,noatime"),
        line("/dev/vda3", "/boot", "ext2", "defaults"),
        line("/dev/vda1", "/boot/efi", "vfat", "umask=0077"),
        line("UUID=5b0c", "/usr", "ext4", "defaults"),
        line("LABEL=home", "/home", "xfs", "defaults,logbsize=256k"),
        line("/dev/vda5", "none", "swap", "sw"),
        line("/swapfile", "none", "swap", "sw"),
        line("tmpfs", "/tmp", "tmpfs", "nosuid,nodev"),
        line("nas:/export", "/srv/nas", "nfs", "defaults"),
        line("/dev/sr0", "/media/cdrom0", "udf,iso9660", "user,noauto"),
        line("/home/www", "/srv/www", "none", "bind"),
    ]
}

fn placement(text: &str) -> Placement<Provision> {
    text.parse::<Placement>().unwrap().resolve(|node| Ok(Provision::example(node))).unwrap()
}

fn placements(texts: &[&str]) -> Vec<Placement<Provision>> {
    texts.iter().map(|text| placement(text)).collect()
}

fn layout(texts: &[&str]) -> Result<Layout> {
    lay_out(&debian(), &["/dev/vda1".into()], &placements(texts))
}

fn names(mountpoints: &[MountPoint]) -> Vec<&str> {
    mountpoints.iter().map(|m| m.as_path().to_str().unwrap()).collect()
}

/// `MOUNTPOINT DEVICE TYPE OPTIONS < SOURCES` for each file system.
fn rendered(layout: &Layout) -> Vec<String> {
    let one = |t: &TargetFileSystem| {
        format!(
            "{} {} {} {} < {}",
            t.mountpoint,
            t.node().display(),
            t.fs_type,
            t.options,
            names(&t.sources).join(" ")
        )
    };
    layout.file_systems.iter().map(one).collect()
}

#[test]
fn with_a_root_alone_the_system_is_merged_and_the_rest_shared() {
    let l = layout(&["/:/dev/vdb1:ext4"]).unwrap();
    assert_eq!(rendered(&l), ["/ /dev/vdb1 ext4 errors=remount-ro,noatime < / /boot /usr"]);
    assert_eq!(names(&l.shared), ["/boot/efi", "/home"]);
    assert_eq!(names(&l.kept), ["/media/cdrom0", "/srv/nas", "/srv/www", "/tmp"]);
    assert!(l.swap.is_empty());
}

#[test]
fn placements_split_keep_and_copy() {
    let l = layout(&[
        "/var:/dev/vdb3:xfs:noatime",
        "/home:/dev/vdb5:ext4",
        "/:/dev/vdb2:btrfs",
        "/boot:/dev/vdb1:ext4",
        "/usr:merged",
        "-:/dev/vdb4:swap",
    ])
    .unwrap();
    assert_eq!(
        rendered(&l),
        [
            "/ /dev/vdb2 btrfs noatime < / /usr",
            "/boot /dev/vdb1 ext4 defaults < /boot",
            "/home /dev/vdb5 ext4 defaults < /home",
            "/var /dev/vdb3 xfs noatime < ",
        ]
    );
    assert_eq!(
        (names(&l.shared), l.swap.clone()),
        (vec!["/boot/efi"], vec![Provision::example("/dev/vdb4")])
    );
    assert_eq!(l.merged().map(MountPoint::to_string).collect::<Vec<_>>(), ["/usr"]);
    let holding = |path: &str| l.holding(&path.parse().unwrap()).unwrap().mountpoint.to_string();
    assert_eq!(
        [holding("/boot/grub"), holding("/usr/lib"), holding("/variety")],
        ["/boot", "/", "/"]
    );
}

#[test]
fn a_boot_that_is_the_esp_is_copied() {
    let source = [
        line("/dev/vda2", "/", "ext4", "defaults"),
        line("/dev/vda1", "/boot", "vfat", "umask=0077"),
    ];
    let l = lay_out(&source, &["/dev/vda1".into()], &placements(&["/:/dev/vdb1:ext4"])).unwrap();
    assert_eq!(names(&l.file_systems[0].sources), ["/", "/boot"]);
    assert!(l.shared.is_empty());
}

#[test]
fn a_boot_that_is_mounted_on_request_is_copied() {
    let source =
        [line("/dev/vda2", "/", "ext4", ""), line("/dev/vda1", "/boot", "ext4", "noauto,noatime")];
    let l = lay_out(&source, &[], &placements(&["/:/dev/vdb1:ext4"])).unwrap();
    assert_eq!(names(&l.file_systems[0].sources), ["/", "/boot"]);
}

#[test]
fn options_bound_to_the_old_file_system_are_left_out() {
    let source = [
        line("UUID=a", "/", "btrfs", "rw,subvol=@rootfs,compress=zstd,degraded"),
        line("UUID=b", "/var", "xfs", "logdev=/dev/sdc,noatime,nofail,x-systemd.device-timeout=5"),
    ];
    let l =
        lay_out(&source, &[], &placements(&["/:/dev/vdb1:btrfs", "/var:/dev/vdb2:xfs"])).unwrap();
    let options: Vec<&str> = l.file_systems.iter().map(|t| t.options.as_str()).collect();
    assert_eq!(options, ["rw,compress=zstd", "noatime,nofail,x-systemd.device-timeout=5"]);
}

#[test]
fn a_contradiction_is_refused_with_a_way_out() {
    let root = "/:/dev/vdb1:ext4";
    let table: &[(&[&str], u8, &str)] = &[
        (&[], 2, "the root file system needs a device"),
        (&["/var:/dev/vdb1:ext4"], 2, "the root file system needs a device"),
        (&[root, "/var:/dev/vdb1:xfs"], 2, "'-m /:/dev/vdb1:ext4' has the same device"),
        (&[root, "-:/dev/vdb1:swap"], 2, "has the same device"),
        (&[root, "/usr:merged", "/usr:/dev/vdb2:ext4"], 2, "'-m /usr:merged' is for /usr too"),
        (&[root, "/boot:shared"], 3, "/boot is never shared"),
        (&["/:shared"], 3, "/ is never shared"),
        (&[root, "/usr:shared"], 3, "/usr is never shared"),
        (&["/:merged"], 2, "/ cannot be merged into anything"),
        (&[root, "/var:merged"], 2, "/var is not a separate file system"),
        (&[root, "/opt:shared"], 2, "/opt is not a separate file system"),
        (&[root, "/boot/efi:/dev/vdb2:vfat"], 3, "stays shared"),
        (&[root, "/boot/efi:merged"], 3, "stays shared"),
        (&[root, "/tmp:/dev/vdb2:ext4"], 2, "/tmp is 'tmpfs' (tmpfs)"),
        (&[root, "/srv/nas:merged"], 2, "not copied"),
        (&[root, "/etc:/dev/vdb2:ext4"], 2, "must be on the root file system"),
        (&[root, "/lib/modules:/dev/vdb2:ext4"], 2, "must be on the root file system"),
        (&[root, "/var:/dev/vdb2:vfat"], 2, "vfat has no owners"),
        (&[root, "/home/www:/dev/vdb2:ext4"], 2, "/home/www is part of /home"),
    ];
    for (texts, status, part) in table {
        let error = layout(texts).unwrap_err();
        assert_eq!(error.exit_status(), *status, "{texts:?}: {error}");
        assert!(error.to_string().contains(part), "{texts:?}: {error}");
    }
}

#[test]
fn nothing_is_merged_into_a_shared_file_system() {
    let source = [
        line("UUID=a", "/", "ext4", ""),
        line("UUID=b", "/srv", "ext4", ""),
        line("UUID=c", "/srv/data", "ext4", ""),
    ];
    let layout = |texts: &[&str]| lay_out(&source, &[], &placements(texts));
    let error = layout(&["/:/dev/vdb1:ext4", "/srv/data:merged"]).unwrap_err().to_string();
    assert!(error.contains("/srv/data is part of /srv"), "{error}");
    // Its mount point exists already, so nothing of /srv is changed.
    assert!(layout(&["/:/dev/vdb1:ext4", "/srv/data:/dev/vdb2:ext4"]).is_ok());
    assert!(layout(&["/:/dev/vdb1:ext4", "/srv:/dev/vdb2:ext4", "/srv/data:merged"]).is_ok());
}

#[test]
fn each_part_of_the_source_is_copied_once() {
    let l = layout(&[
        "/:/dev/vdb2:ext4",
        "/var:/dev/vdb3:xfs",
        "/usr/share:/dev/vdb4:ext4",
        "/boot:/dev/vdb5:ext4",
    ])
    .unwrap();
    let all: Vec<String> = l
        .copies()
        .iter()
        .map(|c| {
            let without: Vec<_> = c.without.iter().map(|p| p.display().to_string()).collect();
            format!(
                "{}+{} -> {}+{} - {}",
                c.source,
                c.from.display(),
                c.target,
                c.to.display(),
                without.join(" ")
            )
        })
        .collect();
    assert_eq!(
        all,
        [
            "/+ -> /+ - usr var",
            "/boot+ -> /boot+ - ",
            "/usr+ -> /+usr - share",
            "/usr+share -> /usr/share+ - ",
            "/+var -> /var+ - ",
        ]
    );
}

/// A source whose file systems are each on their own device.
fn any_source() -> impl Strategy<Value = Vec<FileSystemUse>> {
    let places = [
        "/usr",
        "/var",
        "/var/log",
        "/opt",
        "/boot",
        "/home",
        "/srv",
        "/srv/data",
        "/tmp",
        "/mnt/nfs",
    ];
    proptest::sample::subsequence(places.to_vec(), 0..places.len()).prop_map(|places| {
        let one = |(n, place): (usize, &str)| match place {
            "/tmp" => line("tmpfs", place, "tmpfs", ""),
            "/mnt/nfs" => line("nas:/x", place, "nfs", ""),
            _ => line(&format!("/dev/vda{}", n + 2), place, "ext4", ""),
        };
        std::iter::once(line("/dev/vda1", "/", "ext4", ""))
            .chain(places.into_iter().enumerate().map(one))
            .collect()
    })
}

fn any_placements() -> impl Strategy<Value = Vec<Placement<Provision>>> {
    let places = [
        "/usr",
        "/usr/share",
        "/var",
        "/var/log",
        "/var/lib",
        "/opt",
        "/boot",
        "/home",
        "/srv",
        "/srv/data",
    ];
    proptest::collection::btree_map(proptest::sample::select(places.to_vec()), 0..3usize, 0..6)
        .prop_map(|chosen| {
            let one = |(n, (place, kind)): (usize, (&str, usize))| match kind {
                0 => format!("{place}:/dev/vdb{}:xfs", n + 2),
                1 => format!("{place}:merged"),
                _ => format!("{place}:shared"),
            };
            let rest = chosen.into_iter().enumerate().map(one);
            std::iter::once("/:/dev/vdb1:ext4".to_owned())
                .chain(rest)
                .map(|text| placement(&text))
                .collect()
        })
}

proptest! {
    #[test]
    fn every_mount_point_of_the_source_is_in_the_layout_once(
        source in any_source(),
        placements in any_placements(),
    ) {
        let Ok(layout) = lay_out(&source, &[], &placements) else { return Ok(()) };
        let copied = layout.file_systems.iter().flat_map(|t| &t.sources);
        let mut found: Vec<&MountPoint> =
            copied.chain(&layout.shared).chain(&layout.kept).collect();
        found.sort();
        let mut expected: Vec<MountPoint> =
            source.iter().map(|l| l.mountpoint.as_path().try_into().unwrap()).collect();
        expected.sort();
        prop_assert_eq!(found, expected.iter().collect::<Vec<_>>());
        prop_assert!(layout.file_systems.is_sorted_by(|a, b| a.mountpoint < b.mountpoint));
    }

    /// Each path of the source is copied at most once, to the file system where the target will
    /// have it.
    #[test]
    fn a_path_is_copied_to_the_file_system_that_will_hold_it(
        source in any_source(), placements in any_placements(),
        path in proptest::sample::select(vec![
            "/x",
            "/usr/x",
            "/usr/share/x",
            "/var/x",
            "/var/log/x",
            "/var/lib/x",
            "/boot/x",
            "/srv/x",
            "/srv/data/x",
        ]),
    ) {
        let Ok(layout) = lay_out(&source, &[], &placements) else { return Ok(()) };
        let path: MountPoint = path.parse().unwrap();
        let mounts: Vec<MountPoint> =
            source.iter().map(|l| l.mountpoint.as_path().try_into().unwrap()).collect();
        let shown_by = path.nearest(&mounts).unwrap();
        let taken: Vec<TreeCopy> = layout.copies().into_iter().filter(|c| {
            let inside = path.below(&c.source).and_then(|p| p.strip_prefix(&c.from).ok());
            c.source == *shown_by
                && inside.is_some_and(|p| !c.without.iter().any(|w| p.starts_with(w)))
        }).collect();
        if layout.shared.contains(shown_by) || layout.kept.contains(shown_by) {
            prop_assert!(taken.is_empty());
        } else {
            prop_assert_eq!(taken.len(), 1, "{:?}", taken);
            prop_assert_eq!(&taken[0].target, &layout.holding(&path).unwrap().mountpoint);
            let to = taken[0].target.as_path().join(&taken[0].to);
            let from = taken[0].source.as_path().join(&taken[0].from);
            prop_assert_eq!(Path::new(&to), Path::new(&from));
        }
    }
}

#[test]
fn a_line_is_treated_as_a_layout_without_placements_treats_it() {
    let layout = layout(&["/:/dev/vdb1:ext4"]).unwrap();
    for line in debian().iter().filter(|line| line.fs_type != "swap") {
        let in_list = |list: &[MountPoint]| list.iter().any(|m| m.as_path() == line.mountpoint);
        let expected = match (in_list(&layout.shared), in_list(&layout.kept)) {
            (true, _) => Treatment::Shared,
            (_, true) => Treatment::Kept,
            _ => Treatment::Copied,
        };
        assert_eq!(Treatment::of(line), expected, "{line:?}");
    }
    assert_eq!(Treatment::of(&line("/swapfile", "none", "swap", "sw")), Treatment::Shared);
}
