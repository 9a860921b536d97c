//! A refresh of an earlier copy.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use be_tools::copy::{CopyRequest, Mode, Summary, Trust, copy_tree};
use be_tools::plan::Silent;
use be_tools::timestamp::Timestamp;
use be_tools::tree::exclude::Exclude;

use super::loop_device::{Mounted, root, sh};
use super::{BetweenPasses, refresh, request, rsync_finds_no_difference, with_a_bad_file};

/// Without lazy initialization, which the kernel would continue in the background.
const EXT4: [&str; 5] = ["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"];
const XFS: [&str; 3] = ["mkfs.xfs", "-q", "-f"];
const BTRFS: [&str; 3] = ["mkfs.btrfs", "-q", "-f"];

/// A source, and a target that is a copy of it.
fn pair(fill: &str) -> (Mounted, Mounted) {
    pair_of(&EXT4, &EXT4, "128M", fill)
}

fn pair_of(source: &[&str], target: &[&str], size: &str, fill: &str) -> (Mounted, Mounted) {
    let (source, target) = (Mounted::new(source, size), Mounted::new(target, size));
    sh(source.path(), fill);
    sh(source.path(), "sleep 0.05");
    copy_tree(&request(source.path(), target.path()), &mut Silent).unwrap();
    (source, target)
}

fn trust() -> Trust {
    Trust { complete: Some(Timestamp::now()), ..Trust::default() }
}

fn refresh_with(source: &Mounted, target: &Mounted, trust: Trust) -> Summary {
    let request =
        CopyRequest { mode: Mode::Refresh(trust), ..request(source.path(), target.path()) };
    copy_tree(&request, &mut Silent).unwrap()
}

fn inode(target: &Mounted, name: &str) -> u64 {
    std::fs::symlink_metadata(target.path().join(name)).unwrap().ino()
}

fn leftovers(target: &Mounted) -> String {
    sh(target.path(), "find . -name '.lifeboat-*.new'")
}

#[test]
fn if_nothing_changed_nothing_is_written() {
    if !root() {
        return;
    }
    let (source, target) = pair(
        "mkdir -p a/b; for i in $(seq 300); do echo $i >a/f$i; done; ln a/f1 a/b/g; ln -s f1 a/l; \
        mknod n c 1 3; chattr +i a/f2; setfattr -n user.a -v 1 a/f3; truncate -s 1M a/b/h; \
        chmod 2755 a/b",
    );
    // The remount empties the journal. When the first file is opened, ext4 writes the mount point
    // to the super block.
    let target = target.cold();
    sh(target.path(), "cat a/f1");
    for trust in [trust(), Trust::default(), Trust { checksum: true, ..trust() }] {
        let ctimes = || sh(target.path(), "find . -printf '%P %C@\\n' | sort");
        let (before, written) = (ctimes(), target.sectors_written());
        let summary = refresh_with(&source, &target, trust);
        assert_eq!((summary.changed, summary.removed, summary.bytes), (0, 0, 0));
        assert!(ctimes() == before, "{trust:?}: an inode was changed");
        assert_eq!(target.sectors_written(), written, "{trust:?}");
        assert_eq!(summary.files, 1 + 2 + 300 + 4, "{summary:?}");
    }
}

#[test]
fn a_copy_on_another_type_of_file_system_is_equal() {
    if !root() {
        return;
    }
    let fill = "mkdir d; echo x >d/f; setfacl -m u:4:rwx d/f; setfacl -d -m u:5:rx d; \
        echo y >d/g; ln d/g d/h; ln -s g l; mknod n c 1 3; setfattr -n user.a -v 1 d/f; \
        setfattr -hn trusted.b -v 2 l n d; chattr +i d/g; chattr +A d/f; \
        fallocate -l 3M p; truncate -s 3M s; mkfifo q; chmod 6755 d/f";
    let kinds: [&[&str]; 3] = [&EXT4, &XFS, &BTRFS];
    for (from, to) in kinds.iter().flat_map(|from| kinds.iter().map(move |to| (from, to))) {
        let (source, target) = pair_of(from, to, "320M", fill);
        rsync_finds_no_difference(source.path(), target.path());
        let attributes = "find . | sort | xargs getfattr -dhe hex -m '^[^t]|^trusted.b'";
        // The flags for extents and indexed directories depend on the file system.
        let flags = "lsattr -d d d/f d/g | sed 's/[eI]/-/g'";
        let [ours, theirs] =
            [&source, &target].map(|at| sh(at.path(), &format!("{attributes}; {flags}")));
        assert_eq!(ours, theirs, "{} to {}", from[0], to[0]);
        let summary = refresh_with(&source, &target, trust());
        assert_eq!(
            (summary.changed, summary.removed),
            (0, 0),
            "{} to {}: {summary:?}",
            from[0],
            to[0]
        );
    }
}

#[test]
fn if_only_metadata_differs_the_inode_is_kept() {
    if !root() {
        return;
    }
    let (source, target) = pair(
        "for f in mode owner times xattr flags both acl; do head -c 9000 /dev/urandom >$f; done; \
        ln both too; ln -s x link; mkdir d; echo x >d/f; mknod dev b 7 1",
    );
    let names = [
        "mode", "owner", "times", "xattr", "flags", "both", "too", "acl", "link", "d", "d/f", "dev",
    ];
    let before = names.map(|name| inode(&target, name));
    sh(
        source.path(),
        "chmod 4711 mode; chown 7:8 owner; touch -d 2001-01-01 times; \
        setfattr -n user.a -v 1 xattr; chattr +iA flags; chmod 600 both; setfacl -m u:4:r acl; \
        chown -h 5:5 link; touch -h -d 2002-02-02 link; chmod 700 d; \
        setfattr -n trusted.x -v y d; chmod 640 dev",
    );
    let summary = refresh_with(&source, &target, trust());
    assert_eq!(names.map(|name| inode(&target, name)), before);
    assert_eq!((summary.bytes, summary.changed), (0, 10), "{summary:?}");
    rsync_finds_no_difference(source.path(), target.path());
    let [ours, theirs] = [&source, &target].map(|at| sh(at.path(), "lsattr -d * | sort"));
    assert_eq!(ours, theirs);

    // And back again: flags are cleared, attributes are removed.
    sh(
        source.path(),
        "chattr -iA flags; setfattr -x user.a xattr; setfacl -b acl; setfattr -x trusted.x d",
    );
    refresh_with(&source, &target, trust());
    assert_eq!(names.map(|name| inode(&target, name)), before);
    rsync_finds_no_difference(source.path(), target.path());
    let [ours, theirs] = [&source, &target].map(|at| sh(at.path(), "lsattr -d * | sort"));
    assert_eq!(ours, theirs);
}

#[test]
fn a_change_in_the_target_alone_is_found() {
    if !root() {
        return;
    }
    let (source, target) = pair(
        "for f in content mode xattr flags removed; do head -c 9000 /dev/urandom >$f; done; \
        chattr +i flags; mkdir d; echo x >d/f; ln -s x link; sleep 0.05",
    );
    let before = trust();
    sh(
        target.path(),
        "sleep 0.05; echo y >content; chmod 0 mode; setfattr -n user.a -v 1 xattr; \
        chattr -i flags; chattr +A flags; rm removed; chattr +A d; ln -sf y link; \
        echo more >d/more; chattr +i d/more d",
    );
    refresh_with(&source, &target, before);
    rsync_finds_no_difference(source.path(), target.path());
    let [ours, theirs] = [&source, &target].map(|at| sh(at.path(), "lsattr -d * | sort"));
    assert_eq!(ours, theirs);
}

#[test]
fn every_type_of_entry_becomes_every_other() {
    if !root() {
        return;
    }
    let kinds = [
        ("file", "echo x >N"),
        ("locked", "echo x >N; chattr +i N"),
        ("directory", "mkdir -p N/in; echo x >N/in/f; chattr +i N/in/f N/in"),
        ("link", "ln -s nowhere N"),
        ("device", "mknod N c 1 3"),
        ("fifo", "mkfifo N"),
    ];
    let (mut ours, mut theirs) = (String::new(), String::new());
    for (from, make_from) in kinds {
        for (to, make_to) in kinds {
            let name = format!("{from}-{to}");
            theirs += &format!("{};", make_from.replace('N', &name));
            ours += &format!("{};", make_to.replace('N', &name));
        }
    }
    let (source, target) = (Mounted::new(&EXT4, "64M"), Mounted::new(&EXT4, "64M"));
    sh(source.path(), &ours);
    sh(target.path(), &theirs);
    copy_tree(&refresh(source.path(), target.path()), &mut Silent).unwrap();
    rsync_finds_no_difference(source.path(), target.path());
    let [ours, theirs] =
        [&source, &target].map(|at| sh(at.path(), "lsattr -R . 2>/dev/null | grep -v lost | sort"));
    assert_eq!(ours, theirs);
    assert_eq!(leftovers(&target), "");
}

#[test]
fn hard_links_become_those_of_the_source() {
    if !root() {
        return;
    }
    // All have the same size and time, so that they differ only in their hard links.
    let make = |groups: &str| {
        let mut script = String::new();
        for group in groups.split(' ') {
            let mut names = group.chars();
            let first = names.next().unwrap();
            script += &format!("echo x >{first}; touch -d 2020-01-01 {first};");
            names.for_each(|name| script += &format!("ln {first} {name};"));
        }
        script
    };
    let cases = [
        ("ab c", "a b c"),
        ("a b c", "ab c"),
        ("ab cd", "ac bd"),
        ("abc def", "ad be cf"),
        ("ab c", "abc"),
        ("abcd", "ab cd"),
        ("ab", "abz"),
        ("ab cd ef", "abcdef"),
        ("abcdef", "ab cd ef"),
    ];
    for (wanted, found) in cases {
        let (source, target) = (Mounted::new(&EXT4, "16M"), Mounted::new(&EXT4, "16M"));
        sh(source.path(), &make(wanted));
        sh(target.path(), &make(found));
        sh(target.path(), "chattr +i a");
        copy_tree(&refresh(source.path(), target.path()), &mut Silent).unwrap();
        rsync_finds_no_difference(source.path(), target.path());
        let groups = "for f in ?; \
            do echo $f $(stat -c %h $f) $(find . -samefile $f | sort | tr '\\n' ' '); done";
        let [ours, theirs] = [&source, &target].map(|at| sh(at.path(), groups));
        assert_eq!(ours, theirs, "{found} should have become {wanted}");
        assert_eq!(leftovers(&target), "");
        let again = copy_tree(&refresh(source.path(), target.path()), &mut Silent).unwrap();
        assert_eq!(again.changed, 0, "{found} has become {wanted}");
    }
}

#[test]
fn what_is_gone_is_removed_and_what_is_excluded_is_kept() {
    if !root() {
        return;
    }
    let (source, target) = pair("mkdir -p etc keep var; echo x >etc/fstab");
    sh(
        target.path(),
        "mkdir -p etc/lifeboat gone/deep/er var/log/lifeboat var/cache/x tmp/y gone2; \
        echo d >etc/lifeboat/environment.toml; echo l >var/log/lifeboat/l; echo c >var/cache/x/c; \
        echo t >tmp/y/t; echo g >gone/deep/er/g; echo h >gone/h; \
        chattr +i gone/deep/er/g gone/deep gone; chattr +a gone/h; echo z >etc/z; \
        : >.lifeboat-0123abcd.new; mkdir var/spool; : >var/spool/.lifeboat-0123abcd.new",
    );
    sh(source.path(), "mkdir -p var/spool; echo s >var/spool/s");
    let exclude = Exclude::standard()
        .exclude(OsStr::new("/var/cache/*"))
        .exclude(OsStr::new("/var/spool"))
        .include(OsStr::new("/var/spool/s"));
    let summary =
        copy_tree(&CopyRequest { exclude, ..refresh(source.path(), target.path()) }, &mut Silent)
            .unwrap();
    let found = sh(target.path(), "find . -mindepth 1 ! -path '*lost*' | sort | tr '\\n' ' '");
    assert_eq!(
        found,
        "./etc ./etc/fstab ./etc/lifeboat ./etc/lifeboat/environment.toml ./keep ./tmp ./tmp/y \
        ./tmp/y/t ./var ./var/cache ./var/cache/x ./var/cache/x/c ./var/log ./var/log/lifeboat \
        ./var/log/lifeboat/l ./var/spool ./var/spool/s "
    );
    assert!(summary.removed >= 7, "{summary:?}");
}

#[test]
fn a_very_deep_tree_is_removed() {
    if !root() {
        return;
    }
    let (source, target) = pair("mkdir keep");
    let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let mut at = rustix::fs::open(target.path(), flags, rustix::fs::Mode::empty()).unwrap();
    for _ in 0..5_000 {
        rustix::fs::mkdirat(&at, "d", rustix::fs::Mode::from(0o755)).unwrap();
        at = rustix::fs::openat(&at, "d", flags, rustix::fs::Mode::empty()).unwrap();
    }
    drop(at);
    assert_eq!(refresh_with(&source, &target, trust()).removed, 5_000);
    assert_eq!(sh(target.path(), "ls"), "keep\nlost+found\n");
}

#[test]
fn a_change_of_content_without_a_change_of_time_is_found_with_checksum() {
    if !root() {
        return;
    }
    let (source, target) = pair("echo one >f; echo one >g; sleep 0.05");
    sh(
        target.path(),
        "sleep 0.05; touch -r f stamp; echo two >f; touch -r stamp f; rm stamp; sleep 0.05",
    );
    refresh_with(&source, &target, trust());
    assert_eq!(sh(target.path(), "cat f"), "two\n", "size and time are equal");
    let summary = refresh_with(&source, &target, Trust { checksum: true, ..trust() });
    assert_eq!((sh(target.path(), "cat f"), summary.changed), ("one\n".into(), 1));

    // In the source it is found without, because the ctime of the inode has changed.
    sh(source.path(), "sleep 0.05; touch -r g stamp; echo two >g; touch -r stamp g; rm stamp");
    refresh_with(&source, &target, trust());
    rsync_finds_no_difference(source.path(), target.path());
}

#[test]
fn files_that_an_interrupted_refresh_wrote_are_compared() {
    if !root() {
        return;
    }
    let (source, target) = pair("echo one >f; sleep 0.05");
    let session = Timestamp::now();
    // The state after a power cut: size and time of the file were written, but not its content.
    sh(
        target.path(),
        "touch -r f stamp; printf '\\0\\0\\0\\0' >f; touch -r stamp f; rm stamp; sleep 0.05",
    );
    refresh_with(
        &source,
        &target,
        Trust { interrupted: Some(session), complete: None, checksum: false },
    );
    rsync_finds_no_difference(source.path(), target.path());
}

#[test]
fn a_refresh_of_a_full_target_fails_and_keeps_each_old_file() {
    if !root() {
        return;
    }
    let source = Mounted::new(&EXT4, "128M");
    let target = Mounted::new(&EXT4, "32M");
    sh(source.path(), "for i in $(seq 20); do head -c 500000 /dev/urandom >f$i; done");
    copy_tree(&request(source.path(), target.path()), &mut Silent).unwrap();
    let old = sh(target.path(), "cat f7 | sha256sum");
    sh(source.path(), "for i in $(seq 20); do head -c 3000000 /dev/urandom >f$i; done");
    let error =
        copy_tree(&refresh(source.path(), target.path()), &mut Silent).unwrap_err().to_string();
    assert!(error.contains("is full"), "{error}");
    let new = sh(source.path(), "cat f7 | sha256sum");
    assert!([old, new].contains(&sh(target.path(), "cat f7 | sha256sum")));
    sh(source.path(), "for i in $(seq 20); do head -c 700000 /dev/urandom >f$i; done");
    copy_tree(&refresh(source.path(), target.path()), &mut Silent).unwrap();
    rsync_finds_no_difference(source.path(), target.path());
    assert_eq!(leftovers(&target), "");
}

#[test]
fn an_unreadable_file_is_reported_and_keeps_its_old_content() {
    if !root() {
        return;
    }
    let mkfs = ["mkfs.ext4", "-q", "-F", "-O", "^metadata_csum"];
    let (source, target) = (Mounted::new(&mkfs, "64M"), Mounted::new(&mkfs, "64M"));
    sh(source.path(), "head -c 50000 /dev/urandom >bad; echo 1 >good");
    copy_tree(&request(source.path(), target.path()), &mut Silent).unwrap();
    sh(source.path(), "echo 2 >good; touch -d 2001-01-01 bad");
    let source = with_a_bad_file(source);
    let summary = refresh_with(&source, &target, trust());
    assert_eq!(summary.lost, [PathBuf::from("/bad")]);
    assert_eq!(sh(target.path(), "cat good; stat -c %s bad"), "2\n50000\n");
}

#[test]
fn the_second_pass_of_a_refresh_copies_what_changed_during_the_first() {
    if !root() {
        return;
    }
    let (source, target) = pair(
        "mkdir -p a/sub b/sub gone/deep; echo 1 >grows; echo 1 >removed; echo 1 >a/sub/f; \
        echo 1 >gone/deep/f; echo 1 >same-size; echo 1 >one; ln one two",
    );
    let script = "sleep 0.05; echo 2 >>grows; rm removed; mkdir removed; \
        mv b old; mv a b; rm -r gone; \
        touch -r same-size stamp; echo 2 >same-size; touch -r stamp same-size; rm stamp; \
        rm two; ln one three";
    let summary = copy_tree(
        &CopyRequest {
            two_pass: true,
            mode: Mode::Refresh(trust()),
            ..request(source.path(), target.path())
        },
        &mut BetweenPasses { source: source.path(), script },
    )
    .unwrap();
    assert_eq!(summary.changed_during_copy, Vec::<PathBuf>::new());
    rsync_finds_no_difference(source.path(), target.path());
}
