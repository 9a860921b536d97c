//! What people's trees look like: more names than a file may have, files larger than the target
//! holds, snapshots, encrypted homes.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use be_tools::copy::{CopyRequest, copy_tree};
use be_tools::plan::Silent;
use be_tools::tree::exclude::Exclude;
use be_tools::tree::measure::measure;

use super::{loop_device, refresh, request, rsync_finds_no_difference};
use loop_device::{Mounted, root, sh};

const EXT4: [&str; 3] = ["mkfs.ext4", "-q", "-F"];
const BTRFS: [&str; 3] = ["mkfs.btrfs", "-q", "-f"];
const XFS: [&str; 3] = ["mkfs.xfs", "-q", "-f"];

/// The link counts of the inodes in a directory, each once, sorted.
fn link_counts(directory: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut inodes: Vec<_> = entries
        .map(|entry| entry.unwrap().metadata().unwrap())
        .map(|inode| (inode.nlink(), inode.ino()))
        .collect();
    inodes.sort_unstable();
    inodes.dedup();
    inodes.into_iter().map(|(count, _)| count).collect()
}

#[test]
fn a_file_with_more_names_than_the_target_allows_continues_in_a_further_inode() {
    if !root() {
        return;
    }
    let (source, target) = (Mounted::new(&XFS, "320M"), Mounted::new(&EXT4, "128M"));
    let pool = source.path().join("pool");
    std::fs::create_dir(&pool).unwrap();
    std::fs::write(pool.join("0"), "content").unwrap();
    for name in 1..65_100 {
        std::fs::hard_link(pool.join("0"), pool.join(name.to_string())).unwrap();
    }
    sh(source.path(), "echo other >other");
    let made = [request(source.path(), target.path()), refresh(source.path(), target.path())];
    for (is_refresh, request) in [false, true].into_iter().zip(made) {
        let summary = copy_tree(&request, &mut Silent).unwrap();
        assert_eq!(link_counts(&target.path().join("pool")), [100, 65_000]);
        let [(path, what)] = &summary.remarks[..] else { panic!("{:?}", summary.remarks) };
        assert!(path.starts_with("/pool") && what.contains("more names"), "{path:?} {what}");
        assert_eq!(summary.lost, Vec::<PathBuf>::new());
        assert!(!is_refresh || summary.changed == 0, "{} were changed", summary.changed);
    }
    // Names are found in another order, and are not where they were.
    sh(source.path(), "mkdir a; mv pool/1* a/; echo changed >pool/0");
    let again = CopyRequest { two_pass: true, ..refresh(source.path(), target.path()) };
    copy_tree(&again, &mut Silent).unwrap();
    let contents = sh(target.path(), "cat pool/* a/* | sort | uniq -c | sed 's/^ *//'");
    assert_eq!(contents, "65100 changed\n");
    let out = sh(
        target.path(),
        "ls pool a | wc -l; find pool a -type f -printf '%i\n' | sort -u | wc -l",
    );
    assert_eq!(out, "65103\n2\n");
}

#[test]
fn a_directory_for_which_there_is_no_link_left_is_lost_and_the_rest_is_copied() {
    if !root() {
        return;
    }
    let source = Mounted::new(&XFS, "320M");
    let few_links = ["mkfs.ext3", "-q", "-F", "-b", "1024", "-N", "80000"];
    let target = Mounted::new(&few_links, "192M");
    for name in 0..65_000 {
        std::fs::create_dir_all(source.path().join(format!("many/{name}"))).unwrap();
    }
    sh(source.path(), "echo x >f");
    let summary = copy_tree(&request(source.path(), target.path()), &mut Silent).unwrap();
    // Its own name and its `.` take two of 65,000.
    assert_eq!((summary.lost.len(), summary.remarks.len()), (2, 2), "{summary:?}");
    assert!(summary.lost.iter().all(|path| path.starts_with("/many")), "{summary:?}");
    assert_eq!(sh(target.path(), "cat f; ls many | wc -l"), "x\n64998\n");
}

#[test]
fn a_file_that_is_too_large_for_the_target_is_lost_and_the_rest_is_copied() {
    if !root() {
        return;
    }
    let (source, target) = (Mounted::new(&XFS, "320M"), Mounted::new(&EXT4, "128M"));
    sh(
        source.path(),
        "mkdir images; echo boot >images/thin; truncate -s 20T images/thin; echo x >f",
    );
    for request in [request(source.path(), target.path()), refresh(source.path(), target.path())] {
        let summary = copy_tree(&request, &mut Silent).unwrap();
        assert_eq!(summary.lost, [PathBuf::from("/images/thin")]);
        let [(path, why)] = &summary.remarks[..] else { panic!("{:?}", summary.remarks) };
        assert!(
            path == Path::new("/images/thin") && why.contains("is larger than any file"),
            "{why}"
        );
        assert_eq!(sh(target.path(), "ls images; cat f"), "x\n");
    }
}

#[test]
fn old_snapshots_are_left_out_and_other_subvolumes_are_copied() {
    if !root() {
        return;
    }
    let source = Mounted::new(&BTRFS, "256M");
    let quiet = "btrfs -q subvolume";
    sh(
        source.path(),
        &format!(
            "mkdir -p .snapshots/1 .snapshots/2 srv var/lib; echo x >var/f; \
            {quiet} create var/lib/machines; echo m >var/lib/machines/image; \
            {quiet} create var/lib/portable; echo p >var/lib/portable/image; \
            btrfs property set var/lib/portable ro true; \
            {quiet} snapshot -r . .snapshots/1/snapshot; echo 1 >.snapshots/1/info.xml; \
            {quiet} snapshot . .snapshots/2/snapshot; {quiet} snapshot -r . srv/before; \
            {quiet} create active; echo l >active/layer; {quiet} snapshot -r active layer; \
            {quiet} delete -c active; {quiet} snapshot . srv/work; head -c 20M /dev/urandom >srv/work/large"
        ),
    );
    let old = ["/.snapshots/1/snapshot", "/.snapshots/2/snapshot", "/srv/before"];
    let rules = Exclude::standard();
    let measured = measure(source.path(), Path::new(""), Path::new("/"), &rules).unwrap();
    assert_eq!(measured.snapshots, old.map(PathBuf::from));
    assert!(measured.totals.bytes < 30 << 20, "{measured:?}");

    let target = Mounted::new(&EXT4, "256M");
    copy_tree(&request(source.path(), target.path()), &mut Silent).unwrap();
    let files = |at: &Mounted| {
        sh(at.path(), "find . -type f ! -path './lost*' | LC_ALL=C sort | tr '\\n' ' '")
    };
    assert_eq!(
        files(&target),
        "./.snapshots/1/info.xml ./layer/layer ./srv/work/.snapshots/1/info.xml ./srv/work/large \
        ./srv/work/var/f ./var/f ./var/lib/machines/image ./var/lib/portable/image "
    );

    let exclude = Exclude::standard().include(OsStr::new("/srv/before"));
    let with = CopyRequest { exclude, ..refresh(source.path(), target.path()) };
    copy_tree(&with, &mut Silent).unwrap();
    assert!(files(&target).contains("./srv/before/var/f"));
}

#[test]
fn a_read_only_subvolume_in_the_target_does_not_stop_a_refresh() {
    if !root() {
        return;
    }
    let (source, target) = (Mounted::new(&EXT4, "64M"), Mounted::new(&BTRFS, "256M"));
    sh(source.path(), "mkdir srv var; echo s >srv/f; echo v >var/f");
    copy_tree(&request(source.path(), target.path()), &mut Silent).unwrap();
    let quiet = "btrfs -q subvolume";
    sh(
        target.path(),
        &format!(
            "{quiet} create var/gone; mkdir var/gone/deep; echo g >var/gone/deep/f; \
            {quiet} create var/gone/deep/er; echo h >var/gone/deep/er/f; \
            rm -r srv; {quiet} create srv; echo other >srv/f; mkdir -p .snapshots/1; \
            {quiet} snapshot -r . .snapshots/1/snapshot; {quiet} snapshot -r . var/snapshot; \
            for s in var/gone var/gone/deep/er srv; do btrfs property set $s ro true; done"
        ),
    );
    let summary = copy_tree(&refresh(source.path(), target.path()), &mut Silent).unwrap();
    // Snapshots are left out of a copy, and so they are of what is removed. They are named.
    let kept = ["/.snapshots/1/snapshot", "/var/snapshot"].map(PathBuf::from);
    let named: Vec<_> = summary.remarks.iter().map(|(path, _)| path.clone()).collect();
    assert_eq!(named, kept, "{:?}", summary.remarks);
    assert_eq!(sh(target.path(), "cat var/snapshot/var/f"), "v\n");
    sh(
        target.path(),
        &format!("{quiet} delete .snapshots/1/snapshot var/snapshot; rm -r .snapshots"),
    );
    copy_tree(&refresh(source.path(), target.path()), &mut Silent).unwrap();
    rsync_finds_no_difference(source.path(), target.path());
    // A file in the place of a snapshot has to be written, whatever becomes of that.
    sh(target.path(), &format!("rm srv/f; {quiet} snapshot -r . srv/f"));
    copy_tree(&refresh(source.path(), target.path()), &mut Silent).unwrap();
    rsync_finds_no_difference(source.path(), target.path());
}

#[test]
fn an_encrypted_tree_is_lost_as_a_whole_without_its_key_and_plain_with_it() {
    if !root() {
        return;
    }
    let source = Mounted::new(&["mkfs.ext4", "-q", "-F", "-b", "4096", "-O", "encrypt"], "64M");
    let key = "head -c 64 /dev/zero | xfs_io -c add_enckey . | sed 's/.* //'";
    let identifier = sh(source.path(), key).trim().to_owned();
    assert_eq!(identifier.len(), 32, "the kernel has no fscrypt: {identifier}");
    sh(
        source.path(),
        &format!(
            "mkdir -p home/anna home/bert; xfs_io -c 'set_encpolicy {identifier}' home/anna; \
            mkdir home/anna/mail; echo secret >home/anna/mail/f; ln -s f home/anna/mail/l; \
            echo open >home/bert/f"
        ),
    );
    let target = Mounted::new(&EXT4, "64M");
    let summary = copy_tree(&request(source.path(), target.path()), &mut Silent).unwrap();
    let [(path, what)] = &summary.remarks[..] else { panic!("{:?}", summary.remarks) };
    assert!(path == Path::new("/home/anna") && what.contains("plain text in the copy"), "{what}");
    rsync_finds_no_difference(source.path(), target.path());

    // A remount alone would not forget it while another program's scan has the device mounted.
    sh(source.path(), &format!("sync -f .; xfs_io -c 'rm_enckey {identifier}' ."));
    let source = source.cold();
    let target = Mounted::new(&EXT4, "64M");
    let summary = copy_tree(&request(source.path(), target.path()), &mut Silent).unwrap();
    assert_eq!(summary.lost, [PathBuf::from("/home/anna")]);
    let [(path, why)] = &summary.remarks[..] else { panic!("{:?}", summary.remarks) };
    assert!(path == Path::new("/home/anna") && why.contains("no key"), "{why}");
    assert_eq!(sh(target.path(), "ls home; cat home/bert/f"), "bert\nopen\n");
}
