//! What a copy keeps. There is a test for each property, on each file system, by create and by
//! refresh, from an idle source and from one that is written to.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use be_tools::copy::{CopyRequest, copy_tree};
use be_tools::plan::Silent;

use super::loop_device::{Mounted, root, sh};
use super::{refresh, request, rsync_finds_no_difference};

/// Commands whose output must be equal in both trees.
const COMMANDS: &[&str] = &[
    r"find . -type d -printf '%P|%y|%m|%U|%G|%n|%T@|%A@\n' \
        -o -printf '%P|%y|%m|%U|%G|%n|%s|%T@|%A@|%l\n' | sort",
    "find . \\( -type b -o -type c \\) -exec stat -c '%n %t:%T' {} + | sort",
    "find . -print0 | sort -z | xargs -0 getfattr -d -h -m - -e hex",
    "find . \\( -type f -o -type d \\) -print0 | sort -z | xargs -0 lsattr -dp | \
        sed 's/e/-/; s/I/-/'",
    "find . -type f -size +2M -exec xfs_io -r -c 'seek -a -r 0' {} \\;",
    "find . -type f -size +2M -exec stat -c '%n %b' {} \\;",
];

/// A type of file system.
struct FileSystem {
    mkfs: &'static [&'static str],
    /// The properties that it does not support.
    lacks: &'static [&'static str],
    /// The source of all tests, of which one copies at a time.
    source: Mutex<Option<Mounted>>,
}

/// What the target holds before the copy.
#[derive(Clone, Copy, PartialEq)]
enum TargetState {
    Empty,
    /// Another entry under each name, most of them of another type.
    Unrelated,
    /// A copy whose owners, modes, times, attributes and flags were changed.
    Modified,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The properties that a type of file system supports.
fn supported(fs: &FileSystem) -> impl Iterator<Item = &'static (&'static str, &'static str)> {
    PROPERTIES.iter().filter(|(name, _)| !fs.lacks.contains(name))
}

/// Makes a directory for each property. With `shift`, each one has the content of another property.
fn fill(fs: &FileSystem, target: &Mounted, shift: usize) {
    let all: Vec<_> = supported(fs).collect();
    for (n, (name, _)) in all.iter().enumerate() {
        let directory = target.path().join(name);
        std::fs::create_dir(&directory).unwrap();
        sh(&directory, all[(n + shift) % all.len()].1);
    }
}

/// Changes the attributes of all files. Uses -execdir, because some paths are too long for a
/// program.
const MODIFY: &str = "chattr -R -ia . 2>/dev/null || true; \
    find . -depth -mindepth 1 -execdir chown -h 11:12 {} +; \
    find . -depth ! -type l -execdir chmod 700 {} +; \
    find . \\( -type f -o -type d \\) -execdir setfattr -n user.odd -v 1 {} +; \
    find . \\( -type f -o -type d \\) -execdir chattr +A {} +; \
    chattr -R +S hard_links; mkdir -p extra/deep; echo x >extra/deep/f; \
    find . -depth -execdir touch -h -d 2010-10-10 {} +; chattr +i extra/deep/f extra/deep extra";

/// A process that writes to other files of the source until it is dropped.
struct Writer(Child);

impl Writer {
    fn start(source: &Mounted) -> Self {
        let script = "mkdir -p busy; while :; do \
            echo x >>busy/log; echo y >busy/new; mv busy/new busy/moved; \
            ln -f busy/log busy/link; mkdir -p busy/d; rmdir busy/d; sleep 0.01; done";
        Writer(Command::new("sh").args(["-c", script]).current_dir(source.path()).spawn().unwrap())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Copies all properties at once. Returns what differs afterwards, by property.
fn copy(fs: &FileSystem, before: TargetState, busy: bool) -> BTreeMap<&'static str, String> {
    let mut source = lock(&fs.source);
    let source = source.get_or_insert_with(|| {
        let source = Mounted::new(fs.mkfs, "6G");
        fill(fs, &source, 0);
        source.cold().until_the_end()
    });
    let target = Mounted::new(fs.mkfs, "6G");
    match before {
        TargetState::Empty => {}
        TargetState::Unrelated => fill(fs, &target, 3),
        TargetState::Modified => {
            copy_tree(&request(source.path(), target.path()), &mut Silent).unwrap();
            sh(target.path(), MODIFY);
        }
    }
    let writer = busy.then(|| Writer::start(source));
    let request = match before {
        TargetState::Empty => request(source.path(), target.path()),
        _ => refresh(source.path(), target.path()),
    };
    let summary = copy_tree(&CopyRequest { two_pass: busy, ..request }, &mut Silent).unwrap();
    drop(writer);
    assert_eq!((&summary.lost, &summary.not_representable), (&vec![], &vec![]));

    let mut differences = BTreeMap::new();
    for (name, _) in supported(fs) {
        let mut difference = String::new();
        // Only find handles paths that are longer than PATH_MAX.
        let commands = if *name == "paths_of_10_kb" { &COMMANDS[..1] } else { COMMANDS };
        for command in commands {
            let [ours, theirs] =
                [source.path(), target.path()].map(|at| sh(&at.join(name), command));
            if ours != theirs {
                let (ours, theirs) = (only_in(&ours, &theirs), only_in(&theirs, &ours));
                let _ = writeln!(difference, "{command}\n{ours}--- has become\n{theirs}");
            }
        }
        differences.insert(*name, difference);
    }
    rsync_finds_no_difference(source.path(), target.path());
    sh(target.path(), "chattr -R -ia . 2>/dev/null || true");
    differences
}

fn only_in(text: &str, other: &str) -> String {
    let other: std::collections::BTreeSet<&str> = other.lines().collect();
    text.lines()
        .filter(|line| !other.contains(line))
        .take(20)
        .map(|line| format!("{line}\n"))
        .collect()
}

/// What differs, by property, or why the copy failed.
type Differences = OnceLock<Result<BTreeMap<&'static str, String>, String>>;

fn check(fs: &FileSystem, cell: &Differences, before: TargetState, busy: bool, property: &str) {
    if !root() || fs.lacks.contains(&property) {
        return;
    }
    let copy = || {
        std::panic::catch_unwind(|| copy(fs, before, busy)).map_err(|why| {
            let text = why.downcast_ref::<String>().cloned();
            text.unwrap_or_else(|| "the copy failed".into())
        })
    };
    let difference = match cell.get_or_init(copy) {
        Ok(differences) => &differences[property],
        Err(why) => panic!("{why}"),
    };
    assert!(difference.is_empty(), "{property}: {difference}");
}

macro_rules! properties {
    ($($name:ident: $script:expr;)*) => {
        /// What a copy must keep. Each property has a name, and a shell script that creates files
        /// with that property in an empty directory.
        const PROPERTIES: &[(&str, &str)] = &[$((stringify!($name), $script)),*];
        macro_rules! tests {
            ($fs:expr, $run:ident, $before:expr, $busy:expr, slow = $slow:literal) => {
                mod $run {
                    use super::super::*;
                    static DIFFERENCES: Differences = OnceLock::new();
                    $(#[test]
                    #[cfg_attr($slow, ignore = "slow: see `make test-all`")]
                    fn $name() {
                        check(&$fs, &DIFFERENCES, $before, $busy, stringify!($name));
                    })*
                }
            };
        }
    };
}

properties! {
    hard_links: "echo x >a; ln a b; mkdir d; ln a d/c";
    hard_linked_symlinks: "ln -s nowhere a; ln a b";
    hard_linked_devices: "mknod a b 7 200; ln a b";
    holes_in_a_100_mb_file:
        "truncate -s 100M f; printf x | dd of=f bs=1 seek=5000000 conv=notrunc status=none";
    holes_beyond_4_gib:
        "truncate -s 5G 4500000000; \
        printf x | dd of=4500000000 bs=1 seek=4500000000 conv=notrunc status=none";
    a_hole_at_the_end: "printf x >f; truncate -s 3M f";
    written_zeros_stay_allocated: "dd if=/dev/zero of=f bs=1M count=3 status=none; sync f";
    preallocation: "fallocate -l 3M f; printf x | dd of=f conv=notrunc status=none";
    preallocation_beyond_the_end:
        ": >f; fallocate -n -l 2M f; printf x | dd of=f conv=notrunc status=none";
    user_and_trusted_attributes:
        "echo x >f; mkdir d; ln -s f l; mknod n c 1 3; \
        setfattr -n user.a -v 1 f d; setfattr -hn trusted.b -v 2 f d l n";
    a_large_attribute: "echo x >f; setfattr -n user.a -v $(head -c 2000 /dev/zero | tr '\\0' a) f";
    capabilities: "echo x >f; setcap cap_net_raw+ep f";
    access_and_default_acls:
        "mkdir d; echo x >d/f; setfacl -m u:4:rwx d/f; setfacl -d -m u:5:rx d; echo y >d/g";
    setuid_setgid_sticky:
        "echo x >f; chown 3:4 f; chmod 6755 f; mkdir d; chown 3:4 d; chmod 3777 d";
    ids_above_2_to_the_31:
        "echo x >f; chown 4294967294:3000000000 f; ln -s x l; chown -h 3000000001:3000000002 l";
    mode_000_and_read_only_directories:
        "echo x >f; chmod 0 f; mkdir d; echo y >d/f; chmod 555 d; mkdir e; chmod 0 e";
    nanosecond_times_before_1970_and_after_2106:
        "echo x >f; mkdir d; ln -s f l; mknod n p; \
        touch -h -d '1931-04-05 06:07:08.123456789' l f; \
        touch -d '2207-01-02 03:04:05.987654321' d; \
        touch -h -d '2001-02-03 04:05:06.000000001' n";
    access_times:
        "echo x >f; touch -a -d '1999-01-01 01:01:01.5' f; mkdir d; touch -a -d '1998-02-02' d";
    immutable_and_append_only:
        "echo x >f; ln f g; mkdir d; echo y >d/h; echo z >k; chattr +a k; chattr +i f d";
    no_atime_and_no_dump: "echo x >f; mkdir d; chattr +Ad f d";
    names_of_any_bytes:
        "printf x >\"$(printf 'a\\377\\001\\nb')\"; printf x >' '; printf x >-rf; printf x >'*\\'";
    symlinks_of_4000_bytes: "ln -s $(head -c 4000 /dev/zero | tr '\\0' a) l";
    symlinks_that_are_not_utf_8: "ln -s \"$(printf 'b\\377')\" l";
    devices: "mknod b b 259 70000; mknod c c 240 1; chmod 640 b; chown 0:6 b";
    fifos_and_sockets:
        "mkfifo p; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"s\")'";
    empty_files_and_directories: ": >f; mkdir d";
    a_large_file: "head -c 9000001 /dev/urandom >f";
    paths_of_10_kb: "python3 -c 'import os
for n in range(40):
    os.mkdir(\"%0250d\" % n)
    os.chdir(\"%0250d\" % n)
open(\"f\", \"w\").write(\"x\")
os.symlink(\"bottom\", \"l\")'";
    a_directory_of_100_000_entries: "mkdir w; cd w; seq 100000 | xargs touch";
}

macro_rules! on {
    ($fs:ident, $mkfs:expr, $lacks:expr) => {
        mod $fs {
            static FS: super::FileSystem = super::FileSystem {
                mkfs: $mkfs,
                lacks: $lacks,
                source: std::sync::Mutex::new(None),
            };
            tests!(super::FS, create, TargetState::Empty, false, slow = false);
            tests!(super::FS, create_from_a_busy_source, TargetState::Empty, true, slow = true);
            tests!(
                super::FS,
                refresh_of_an_unrelated_target,
                TargetState::Unrelated,
                false,
                slow = true
            );
            tests!(
                super::FS,
                refresh_of_a_modified_target,
                TargetState::Modified,
                false,
                slow = true
            );
            tests!(
                super::FS,
                refresh_from_a_busy_source,
                TargetState::Unrelated,
                true,
                slow = false
            );
        }
    };
}

on!(ext4, &["mkfs.ext4", "-q", "-F", "-N", "300000"], &[]);
// Its symlinks have at most 1,024 bytes. With bigtime, times are from 1901 to 2486.
on!(xfs, &["mkfs.xfs", "-q", "-f", "-m", "bigtime=1"], &["symlinks_of_4000_bytes"]);
on!(btrfs, &["mkfs.btrfs", "-q", "-f"], &[]);
