//! A copy into a new file system.

use std::ffi::{CString, OsStr};
use std::path::{Path, PathBuf};
use std::process::Command;

use be_tools::copy::{CopyRequest, Summary, copy_tree};
use be_tools::plan::Silent;
use be_tools::tree::exclude::Exclude;

use super::loop_device::{Mounted, root, sh};
use super::{BetweenPasses, request, rsync_finds_no_difference, with_a_bad_file};

fn ext4(size: &str) -> Mounted {
    Mounted::new(&["mkfs.ext4", "-q", "-F"], size)
}

#[test]
fn project_ids_are_kept() {
    if !root() {
        return;
    }
    // Not ext4: a kernel without quota support does not mount it with project ids.
    let mkfs = ["mkfs.xfs", "-q", "-f"];
    let (source, target) = (Mounted::new(&mkfs, "320M"), Mounted::new(&mkfs, "320M"));
    sh(
        source.path(),
        "mkdir d; echo x >f; chattr -p 4711 f; chattr -p 99 d; chattr +P d; echo y >d/g",
    );
    copy_tree(&request(source.path(), target.path()), &mut Silent).unwrap();
    let [before, after] =
        [&source, &target].map(|at| sh(at.path(), "lsattr -p . d | sort; lsattr -dp d"));
    assert_eq!(before, after);
}

#[test]
fn very_deep_and_very_wide_trees_are_copied() {
    if !root() {
        return;
    }
    let mkfs = ["mkfs.ext4", "-q", "-F", "-N", "200000"];
    let (source, target) = (Mounted::new(&mkfs, "1G"), Mounted::new(&mkfs, "1G"));
    let wide = source.path().join("wide");
    std::fs::create_dir(&wide).unwrap();
    (0..100_000)
        .for_each(|n| drop(std::fs::File::create(wide.join(format!("entry-{n}"))).unwrap()));
    let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let enter =
        |at: &std::os::fd::OwnedFd| rustix::fs::openat(at, "d", flags, rustix::fs::Mode::empty());
    let open = |at: &Path| rustix::fs::open(at, flags, rustix::fs::Mode::empty()).unwrap();
    let mut at = open(source.path());
    for _ in 0..5_000 {
        rustix::fs::mkdirat(&at, "d", rustix::fs::Mode::from(0o755)).unwrap();
        at = enter(&at).unwrap();
    }
    rustix::fs::symlinkat("at the bottom", &at, "l").unwrap();

    let summary = copy_tree(&request(source.path(), target.path()), &mut Silent).unwrap();
    assert_eq!(summary.files, 1 + 1 + 100_000 + 5_000 + 1);
    assert_eq!(std::fs::read_dir(target.path().join("wide")).unwrap().count(), 100_000);
    let mut at = open(target.path());
    let mut depth = 0;
    while let Ok(next) = enter(&at) {
        at = next;
        depth += 1;
    }
    let link = rustix::fs::readlinkat(&at, "l", Vec::new()).unwrap();
    assert_eq!((depth, link), (5_000, CString::new("at the bottom").unwrap()));
}

#[test]
fn mount_points_are_empty_directories_unless_the_source_is_a_bind_mount() {
    if !root() {
        return;
    }
    let (source, target) = (ext4("64M"), ext4("64M"));
    let boot = ext4("64M");
    sh(source.path(), "mkdir boot; echo hidden >boot/hidden; echo x >f");
    sh(boot.path(), "echo kernel >vmlinuz; chown 7:8 .; chmod 2750 .");
    boot.bind_to(&source.path().join("boot"));
    copy_tree(&request(source.path(), target.path()), &mut Silent).unwrap();
    assert_eq!(std::fs::read_dir(target.path().join("boot")).unwrap().count(), 0);
    let bind = source.bind_alone();
    copy_tree(&request(bind.path(), target.path()), &mut Silent).unwrap();
    assert_eq!(sh(target.path(), "cat boot/hidden"), "hidden\n");

    // If /boot is merged into the root file system of the copy, its directory has the attributes of
    // the file system that was mounted there.
    let into = target.path().join("boot");
    let merge = CopyRequest { mountpoint: Path::new("/boot"), ..request(boot.path(), &into) };
    copy_tree(&merge, &mut Silent).unwrap();
    assert_eq!(sh(&into, "stat -c %u:%g:%a .; cat vmlinuz"), "7:8:2750\nkernel\n");
}

#[test]
fn excluded_files_are_not_copied() {
    if !root() {
        return;
    }
    let (source, target) = (ext4("64M"), ext4("64M"));
    sh(
        source.path(),
        "mkdir -p proc/1 tmp/x etc/lifeboat var/log/lifeboat var/log/apt var/cache boot/grub; \
        chmod 1777 tmp; \
        for f in proc/1/a tmp/x/y etc/lifeboat/environment.toml etc/lifeboat/sync.list \
            var/log/lifeboat/l var/log/syslog var/log/apt/term.log var/cache/c boot/grub/grubenv \
            swapfile etc/fstab; \
        do echo $f >$f; done",
    );
    let exclude = Exclude::standard()
        .never(Path::new("/swapfile"))
        .exclude(OsStr::new("/var/log"))
        .exclude(OsStr::new("/var/cache/*"))
        .include(OsStr::new("/var/log/apt"));
    copy_tree(&CopyRequest { exclude, ..request(source.path(), target.path()) }, &mut Silent)
        .unwrap();
    let found = sh(
        target.path(),
        "find . -mindepth 1 ! -name lost+found | sort | tr '\\n' ' '; stat -c %a tmp",
    );
    let expected = "./boot ./boot/grub ./etc ./etc/fstab ./etc/lifeboat ./etc/lifeboat/sync.list \
        ./proc ./tmp ./var ./var/cache ./var/log ./var/log/apt ./var/log/apt/term.log 1777\n";
    assert_eq!(found, expected);
}

#[test]
fn an_unreadable_file_is_reported_and_the_rest_is_copied() {
    if !root() {
        return;
    }
    let mkfs = ["mkfs.ext4", "-q", "-F", "-O", "^metadata_csum"];
    let (source, target) = (Mounted::new(&mkfs, "64M"), Mounted::new(&mkfs, "64M"));
    sh(
        source.path(),
        "head -c 50000 /dev/urandom >bad; ln bad worse; head -c 50000 /dev/urandom >good",
    );
    let source = with_a_bad_file(source);
    let summary = copy_tree(&request(source.path(), target.path()), &mut Silent).unwrap();
    assert_eq!(summary.lost, [PathBuf::from("/bad"), PathBuf::from("/worse")]);
    assert_eq!(sh(target.path(), "ls"), "good\nlost+found\n");
}

#[test]
fn a_full_target_is_an_error_that_says_what_to_do() {
    if !root() {
        return;
    }
    let (source, target) = (ext4("128M"), ext4("16M"));
    sh(source.path(), "head -c 60000000 /dev/urandom >large");
    let error =
        copy_tree(&request(source.path(), target.path()), &mut Silent).unwrap_err().to_string();
    assert!(
        error.contains("is full") && error.contains("/large") && error.contains("--exclude"),
        "{error}"
    );
}

#[test]
fn a_target_whose_device_fails_is_an_error() {
    if !root() {
        return;
    }
    let (source, behind) = (ext4("128M"), ext4("32M"));
    sh(source.path(), "for i in $(seq 60); do head -c 1000000 /dev/urandom >f$i; done");
    for refreshed in [false, true] {
        // The file behind the device is on a file system that is too small, so writes fail.
        sh(
            behind.path(),
            "truncate -s 200M image; mkfs.ext4 -q -F -O ^has_journal image; mkdir -p ../target; \
            mount -o loop,noatime,errors=continue image ../target",
        );
        let target = behind.path().with_file_name("target");
        let run = if refreshed { super::refresh } else { request };
        let result =
            copy_tree(&run(source.path(), &target), &mut Silent).map_err(|error| error.to_string());
        sh(behind.path(), "umount -l ../target; rm image");
        assert!(result.as_ref().is_err_and(|error| error.contains("writ")), "{result:?}");
    }
}

#[test]
fn what_the_target_cannot_hold_is_reported() {
    if !root() {
        return;
    }
    let source = Mounted::new(&["mkfs.ext4", "-q", "-F"], "64M");
    let target = Mounted::new(&["mkfs.ext4", "-q", "-F", "-I", "128"], "64M");
    sh(source.path(), "echo x >f; touch -d 2200-01-01 f; echo y >g");
    let summary = copy_tree(&request(source.path(), target.path()), &mut Silent).unwrap();
    let [(path, why)] = &summary.not_representable[..] else { panic!("{summary:?}") };
    assert!(path == Path::new("/f") && why.contains("times"), "{why}");
    assert_eq!(sh(target.path(), "cat f g"), "x\ny\n");
}

#[test]
fn the_second_pass_copies_what_changed_during_the_first() {
    if !root() {
        return;
    }
    let (source, target) = (ext4("64M"), ext4("64M"));
    sh(
        source.path(),
        "mkdir -p a/sub b/sub gone/deep locked; echo 1 >grows; echo 1 >removed; \
        echo 1 >becomes-directory; mkdir becomes-file; echo 1 >a/sub/of-a; echo 1 >b/sub/of-b; \
        echo 1 >gone/deep/f; echo 1 >same-size; echo 1 >mode; echo 1 >one; ln one two; \
        echo 1 >locked/f; chattr +i locked/f locked; sleep 0.1",
    );
    let script = "echo 2 >>grows; rm removed; \
        rm becomes-directory; mkdir becomes-directory; echo 2 >becomes-directory/f; \
        rmdir becomes-file; echo 2 >becomes-file; mv b old; mv a b; rm -r gone; \
        touch -r same-size stamp; echo 2 >same-size; touch -r stamp same-size; rm stamp; \
        chmod 600 mode; echo 2 >>one; rm two; ln one three; \
        chattr -i locked/f locked; echo 2 >locked/f; \
        setfattr -n user.a -v b mode; chattr +i locked/f; echo new >new; ln -s new link";
    let summary: Summary = copy_tree(
        &CopyRequest { two_pass: true, ..request(source.path(), target.path()) },
        &mut BetweenPasses { source: source.path(), script },
    )
    .unwrap();
    assert_eq!(summary.changed_during_copy, Vec::<PathBuf>::new());
    rsync_finds_no_difference(source.path(), target.path());
    let [before, after] =
        [&source, &target].map(|at| sh(at.path(), "lsattr -R . | grep -v lost | sort"));
    assert_eq!(before, after);
}

#[test]
fn hard_links_survive_a_rename_of_their_directory_between_the_passes() {
    if !root() {
        return;
    }
    let (source, target) = (ext4("64M"), ext4("64M"));
    sh(
        source.path(),
        "mkdir d1 other; for i in $(seq 300); do echo $i >d1/$i; ln d1/$i other/$i; done; \
        sleep 0.1",
    );
    let two_pass = CopyRequest { two_pass: true, ..request(source.path(), target.path()) };
    let mut report = BetweenPasses { source: source.path(), script: "mv d1 d2" };
    copy_tree(&two_pass, &mut report).unwrap();
    assert_eq!(sh(target.path(), "find d2 other -type f -links 2 | wc -l"), "600\n");
    rsync_finds_no_difference(source.path(), target.path());
}

#[test]
fn a_file_that_neither_pass_can_read_is_reported() {
    if !root() {
        return;
    }
    let mkfs = ["mkfs.ext4", "-q", "-F", "-O", "^metadata_csum"];
    let (source, target) = (Mounted::new(&mkfs, "64M"), Mounted::new(&mkfs, "64M"));
    sh(source.path(), "head -c 50000 /dev/urandom >bad; head -c 50000 /dev/urandom >good");
    // The target has an earlier copy of the file.
    copy_tree(&request(source.path(), target.path()), &mut Silent).unwrap();
    let source = with_a_bad_file(source);
    for made in
        [super::refresh(source.path(), target.path()), request(source.path(), target.path())]
    {
        let summary = copy_tree(&CopyRequest { two_pass: true, ..made }, &mut Silent).unwrap();
        assert_eq!(summary.lost, [PathBuf::from("/bad")]);
    }
}

#[test]
fn equal_inode_numbers_in_two_subvolumes_are_not_hard_links() {
    if !root() {
        return;
    }
    let mkfs = ["mkfs.btrfs", "-q", "-f"];
    let (source, target) = (Mounted::new(&mkfs, "300M"), Mounted::new(&mkfs, "300M"));
    sh(
        source.path(),
        "btrfs -q subvolume create a; \
        for i in $(seq 200); do echo $i >a/f$i; ln a/f$i a/g$i; done; \
        btrfs -q subvolume snapshot a b; \
        for i in $(seq 200); do echo other $i >b/f$i; done",
    );
    copy_tree(&request(source.path(), target.path()), &mut Silent).unwrap();
    rsync_finds_no_difference(source.path(), target.path());
}

#[test]
fn symlinks_and_dot_dot_below_the_roots_are_refused() {
    if !root() {
        return;
    }
    let (source, target) = (ext4("64M"), ext4("64M"));
    let outside = tempfile::tempdir().unwrap();
    sh(source.path(), "mkdir opt; echo evil >opt/victim");
    for at in [&source, &target] {
        std::os::unix::fs::symlink(outside.path(), at.path().join("link")).unwrap();
    }
    let whole = || request(source.path(), target.path());
    for wrong in [
        CopyRequest { to: Path::new("link"), ..whole() },
        CopyRequest { to: Path::new("link/deep"), ..whole() },
        CopyRequest { from: Path::new("link"), ..whole() },
        CopyRequest { to: Path::new("../x"), ..whole() },
    ] {
        assert!(copy_tree(&wrong, &mut Silent).is_err(), "{wrong:?}");
    }
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    let right = CopyRequest { from: Path::new("opt"), to: Path::new("a/b"), ..whole() };
    copy_tree(&right, &mut Silent).unwrap();
    assert_eq!(sh(target.path(), "cat a/b/victim"), "evil\n");
}

#[test]
fn small_files_keep_their_holes() {
    if !root() {
        return;
    }
    let (source, target) = (ext4("64M"), ext4("64M"));
    sh(
        source.path(),
        "fallocate -l 131072 unwritten; echo x >beyond; fallocate -n -o 4096 -l 8192 beyond; \
        truncate -s 8192 hole; printf x | dd of=hole conv=notrunc status=none; \
        setfattr -n user.a -v $(head -c 700 /dev/zero | tr '\\0' a) hole; sync -f .",
    );
    let source = source.cold();
    copy_tree(&request(source.path(), target.path()), &mut Silent).unwrap();
    let layout = |at: &Mounted| {
        sh(
            at.path(),
            "for f in unwritten beyond hole; \
            do stat -c '%n %s %b' $f; xfs_io -r -c 'seek -a -r 0' $f; done",
        )
    };
    assert_eq!(layout(&target), layout(&source));
}

#[test]
fn a_file_that_is_written_to_all_the_time_is_reported() {
    if !root() {
        return;
    }
    let (source, target) = (ext4("128M"), ext4("128M"));
    sh(source.path(), "echo x >quiet; head -c 20000000 /dev/urandom >busy");
    let mut writer = Command::new("sh")
        .args(["-c", "while :; do echo more >>busy; done"])
        .current_dir(source.path())
        .spawn()
        .unwrap();
    let copied = copy_tree(
        &CopyRequest { two_pass: true, ..request(source.path(), target.path()) },
        &mut Silent,
    );
    writer.kill().unwrap();
    writer.wait().unwrap();
    assert_eq!(copied.unwrap().changed_during_copy, [PathBuf::from("/busy")]);
}

#[test]
fn content_is_shared_within_one_btrfs() {
    if !root() {
        return;
    }
    let disk = Mounted::new(&["mkfs.btrfs", "-q", "-f"], "256M");
    sh(disk.path(), "mkdir from to; head -c 60000000 /dev/urandom >from/f; sync .");
    let [from, to] = ["from", "to"].map(|name| disk.path().join(name));
    copy_tree(&request(&from, &to), &mut Silent).unwrap();
    let exclusive = sh(disk.path(), "btrfs filesystem du --raw -s to | tail -1 | awk '{print $2}'");
    assert_eq!(exclusive, "0\n");
    rsync_finds_no_difference(&from, &to);
}
