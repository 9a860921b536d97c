//! What people's trees look like: more names than a file may have, files larger than the target
//! holds, snapshots, encrypted homes.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use be_tools::copy::{CopyRequest, copy_tree};
use be_tools::plan::Silent;
use be_tools::tree::exclude::Exclude;
use be_tools::tree::measure::measure;

use super::{loop_device, refresh, request};
use loop_device::{Mounted, root, sh};

const EXT4: [&str; 3] = ["mkfs.ext4", "-q", "-F"];
const BTRFS: [&str; 3] = ["mkfs.btrfs", "-q", "-f"];

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
