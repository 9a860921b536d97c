use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use rustix::fs::FileType;

use super::content::Hash;
use super::entry::Content;
use super::*;
use crate::timestamp::Timestamp;
use crate::tree::exclude::Exclude;
use crate::tree::inspect::Inspected;
use crate::tree::listing::Tree;

fn sh(directory: &Path, script: &str) -> String {
    let output = Command::new("sh").args(["-euc", script]).current_dir(directory).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// A tree with an entry of every kind that needs no device, and a name with every kind of character.
const TREE: &str = "
    mkdir -p t/dir/empty t/etc; echo one >t/dir/one; echo two >t/etc/two; ln t/dir/one t/dir/linked
    ln -s 'over there' t/symlink; mkfifo t/fifo; chmod 4711 t/etc/two; : >t/nothing
    printf x >\"t/a b#\\\\=[*?$(printf '\\303\\244\\n\\377')\"
";

fn manifest_of(at: &Path, known: &Manifest) -> (Manifest, Inspected) {
    let tree = Tree::open(at, false).unwrap();
    let mut last = Inspected::default();
    let recorded = record(&tree, &Exclude::nothing(), known, Unknown::Read, &mut |count| {
        last = count;
        Ok(())
    });
    let recorded = recorded.unwrap();
    assert_eq!(recorded.unread, Vec::<String>::new());
    (recorded.manifest, last)
}

fn verified(at: &Path, manifest: &Manifest, rules: &Exclude) -> Vec<(String, Status)> {
    let tree = Tree::open(at, false).unwrap();
    let found = verify(&tree, rules, manifest, &mut |_| Ok(())).unwrap();
    let line = |finding: Finding| (finding.path.display().to_string(), finding.status);
    found.findings.into_iter().map(line).collect()
}

fn text(manifest: &Manifest) -> String {
    let mut text = Vec::new();
    write(manifest, &mut text).unwrap();
    String::from_utf8(text).unwrap()
}

#[test]
fn a_tree_is_as_its_manifest_says_until_it_is_changed() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().join("t");
    sh(directory.path(), TREE);
    let (manifest, _) = manifest_of(&at, &Manifest::default());
    assert_eq!(manifest.len(), 10);
    assert_eq!(parse(text(&manifest).as_bytes()).unwrap(), manifest);
    assert_eq!(verified(&at, &manifest, &Exclude::nothing()), []);
    // A later time alone is no difference, as for `be compare`.
    sh(
        &at,
        "touch nothing; echo TWO >etc/two; rm -r dir/empty fifo; mkfifo new; chmod 750 etc; \
        ln -sfn elsewhere symlink; setfattr -n user.note -v x dir/one",
    );
    let changed = |names: &[&'static str]| Status::Changed(names.to_vec());
    let expected = [
        ("/dir/empty", Status::Missing("directory")),
        ("/dir/linked", changed(&["xattrs"])),
        ("/dir/one", changed(&["xattrs"])),
        ("/etc", changed(&["mode"])),
        ("/etc/two", changed(&["content"])),
        ("/fifo", Status::Missing("fifo")),
        ("/new", Status::Added("fifo")),
        ("/symlink", changed(&["target"])),
    ];
    let expected = expected.map(|(path, status)| (path.to_owned(), status));
    assert_eq!(verified(&at, &manifest, &Exclude::nothing()), expected);
    let rules = Exclude::nothing().exclude(OsStr::new("/etc")).exclude(OsStr::new("/f*"));
    let left = verified(&at, &manifest, &rules);
    assert!(left.iter().all(|(path, _)| !path.starts_with("/etc") && path != "/fifo"), "{left:?}");
}

#[test]
fn what_differs_although_nothing_wrote_to_it_is_damage() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().join("t");
    sh(directory.path(), TREE);
    let (mut manifest, _) = manifest_of(&at, &Manifest::default());
    for entry in &mut manifest.entries {
        match &mut entry.content {
            Content::Hash(Hash::Whole(hash)) if &*entry.path == b"/etc/two" => hash[0] ^= 1,
            Content::Target(target) => target[0] ^= 1,
            _ => {}
        }
    }
    let damaged = |names: &[&'static str]| Status::Damaged(names.to_vec());
    assert_eq!(
        verified(&at, &manifest, &Exclude::nothing()),
        [
            ("/etc/two".to_owned(), damaged(&["content"])),
            ("/symlink".to_owned(), damaged(&["target"]))
        ]
    );
    sh(&at, "echo two >etc/two");
    let found = verified(&at, &manifest, &Exclude::nothing());
    assert_eq!(found[0].1, Status::Changed(vec!["content"]), "somebody wrote to it");
}

#[test]
fn what_is_gone_from_a_directory_that_nobody_wrote_to_is_damage() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().join("t");
    sh(directory.path(), TREE);
    let (manifest, _) = manifest_of(&at, &Manifest::default());
    let ghost = "./dir/ghost type=file uid=0 gid=0 mode=0644 size=1 time=1.000000000 \
        ctime=1.000000000 inode=1\n";
    let with_ghost = parse((text(&manifest) + ghost).as_bytes()).unwrap();
    let found = verified(&at, &with_ghost, &Exclude::nothing());
    assert_eq!(found, [("/dir/ghost".into(), Status::Vanished("file"))]);
    assert!(found[0].1.is_damage());
    sh(&at, "rm dir/linked");
    let found = verified(&at, &with_ghost, &Exclude::nothing());
    assert!(found.contains(&("/dir/ghost".into(), Status::Missing("file"))), "{found:?}");
}

#[test]
fn a_path_that_no_program_can_name_does_not_spoil_the_manifest() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().join("t");
    let name = "x".repeat(250);
    let deep = format!(
        "mkdir t; cd t; echo 1 >one; i=0; while [ $i -lt 30 ]; do mkdir {name}; cd -P {name}; \
        i=$((i+1)); done"
    );
    sh(directory.path(), &deep);
    let tree = Tree::open(&at, false).unwrap();
    let nothing = Manifest::default();
    let recorded =
        record(&tree, &Exclude::nothing(), &nothing, Unknown::Read, &mut |_| Ok(())).unwrap();
    assert!(!recorded.unread.is_empty());
    let manifest = parse(text(&recorded.manifest).as_bytes()).unwrap();
    let found = verify(&tree, &Exclude::nothing(), &manifest, &mut |_| Ok(())).unwrap();
    assert_eq!(found.findings, []);
    assert!(found.unproved > 0);
}

#[test]
fn only_what_was_changed_is_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().join("t");
    sh(directory.path(), "mkdir t; for n in 1 2 3; do head -c 100000 /dev/urandom >t/$n; done");
    let (first, _) = manifest_of(&at, &Manifest::default());
    // The clock of inodes advances in steps.
    std::thread::sleep(std::time::Duration::from_millis(30));
    sh(&at, "cp -p 2 x; mv x 2; echo more >>3");
    let (second, _) = manifest_of(&at, &first);
    assert_eq!(verified(&at, &second, &Exclude::nothing()), []);
    // What has not been changed keeps the hash that it had, also if its content was damaged since:
    // otherwise the next manifest would take the damage for what is right.
    let mut doubted = first.clone();
    for entry in &mut doubted.entries {
        entry.content = Content::Hash(Hash::Whole([7; 32]));
    }
    let (third, _) = manifest_of(&at, &doubted);
    let kept = |manifest: &Manifest, path: &str| manifest.entry(Path::new(path)).unwrap().hash();
    assert_eq!(kept(&third, "/1"), Some(Hash::Whole([7; 32])));
    assert_eq!(kept(&third, "/2"), kept(&second, "/2"));
    assert_eq!(kept(&third, "/3"), kept(&second, "/3"));
}

#[test]
fn what_was_not_read_is_not_proved_and_stays_so_until_it_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().join("t");
    sh(directory.path(), TREE);
    let tree = Tree::open(&at, false).unwrap();
    let recorded = |known: &Manifest, unknown| {
        record(&tree, &Exclude::nothing(), known, unknown, &mut |_| Ok(())).unwrap().manifest
    };
    let unproved = |manifest: &Manifest| {
        verify(&tree, &Exclude::nothing(), manifest, &mut |_| Ok(())).unwrap().unproved
    };
    let unread = recorded(&Manifest::default(), Unknown::ReadSince(Timestamp::new(i64::MAX, 0)));
    assert_eq!(unproved(&unread), 4, "one file of two names, and two others");
    assert_eq!(parse(text(&unread).as_bytes()).unwrap(), unread);
    std::thread::sleep(std::time::Duration::from_millis(30));
    sh(&at, "echo TWO >etc/two");
    assert_eq!(unproved(&recorded(&unread, Unknown::Read)), 3, "what was written is read");
    assert_eq!(unproved(&recorded(&Manifest::default(), Unknown::Read)), 0);
}

#[test]
fn holes_are_not_read_and_what_is_between_them_is_proved() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().join("t");
    let script = "mkdir t; cd t; truncate -s 4T log; for n in 0 5000 70000000; do printf x$n | dd \
        of=log conv=notrunc seek=$n oflag=seek_bytes status=none; done; cp --sparse=always log other";
    sh(directory.path(), script);
    let (manifest, inspected) = manifest_of(&at, &Manifest::default());
    assert!(inspected.bytes < 1 << 20, "{inspected:?}");
    assert_eq!(verified(&at, &manifest, &Exclude::nothing()), []);
    let entry = |name: &str| manifest.entry(Path::new(name)).unwrap();
    assert_eq!(entry("/log").hash(), entry("/other").hash());
    let file = |name: &str| std::fs::File::open(at.join(name)).unwrap();
    assert_eq!(entry("/log").proves(&file("other")), Ok(true));
    sh(&at, "printf y | dd of=other conv=notrunc seek=70000000 oflag=seek_bytes status=none");
    assert_eq!(entry("/log").proves(&file("other")), Ok(false));
    // Written zeros are as good as a hole.
    sh(&at, "dd if=/dev/zero of=log conv=notrunc seek=1 bs=1M count=1 status=none");
    assert_eq!(entry("/log").proves(&file("log")), Ok(true));
    sh(&at, "truncate -s +1 log");
    assert_eq!(entry("/log").proves(&file("log")), Ok(false));
}

/// mtree(8) of NetBSD reads the text, and agrees. It does not know the keywords of ours.
#[test]
fn mtree_agrees_with_the_manifest() {
    let directory = tempfile::tempdir().unwrap();
    sh(directory.path(), TREE);
    let (manifest, _) = manifest_of(&directory.path().join("t"), &Manifest::default());
    let known = |line: &str| {
        let is_known = |word: &&str| {
            !["blake3=", "ctime=", "inode=", "sparse=", "xattrs="]
                .iter()
                .any(|own| word.starts_with(own))
        };
        line.split(' ').filter(is_known).collect::<Vec<_>>().join(" ") + "\n"
    };
    let lines: String = text(&manifest).lines().map(known).collect();
    std::fs::write(directory.path().join("manifest"), lines).unwrap();
    assert_eq!(sh(directory.path(), "mtree -f manifest -p t"), "");
    sh(directory.path(), "echo x >>t/etc/two; rm t/fifo; touch t/new");
    let found = sh(directory.path(), "mtree -f manifest -p t || true");
    for path in ["etc/two", "fifo", "new"] {
        assert!(found.contains(path), "{found}");
    }
}

#[test]
fn what_is_no_manifest_is_refused_with_the_line() {
    let good = "#mtree\n./x type=file size=3 time=1.000000000\n";
    parse(good.as_bytes()).unwrap();
    for (text, why) in [
        ("", "it is empty"),
        ("#mtree", "line 1: it has no end"),
        ("mtree\n", "line 1: it is not #mtree"),
        ("#mtree\n./x type=file", "line 2: it has no end"),
        ("#mtree\n./x\n", "line 2: it has no type"),
        ("#mtree\n./x type=files\n", "line 2: a value is not one of its keyword"),
        ("#mtree\n./x type=file mode=77777\n", "line 2: a value is not one of its keyword"),
        ("#mtree\n./x type=file time=1.5\n", "line 2: a value is not one of its keyword"),
        ("#mtree\n./x type=file blake3=00\n", "line 2: a value is not one of its keyword"),
        ("#mtree\n./x type=file nochange\n", "line 2: a keyword has no value"),
        ("#mtree\n./../x type=file\n", "line 2: its path is not one below the root"),
        ("#mtree\n./x/ type=dir\n", "line 2: its path is not one below the root"),
        ("#mtree\n.//x type=dir\n", "line 2: its path is not one below the root"),
        ("#mtree\n. type=file\n", "line 2: its path is not one below the root"),
        ("#mtree\n./a\\000b type=file\n", "line 2: its path is not one below the root"),
        ("#mtree\n/set type=file\n", "line 2: it has no path"),
    ] {
        assert_eq!(parse(text.as_bytes()).unwrap_err(), why, "{text:?}");
    }
    let long = format!("#mtree\n./{} type=file\n", "x".repeat(40_000));
    assert_eq!(parse(long.as_bytes()).unwrap_err(), "line 2: it has no end");
}

prop_compose! {
    fn any_entry()(
        path in proptest::collection::vec("[^/\0]{1,12}", 1..4),
        kind in 0usize..7,
        numbers: (u32, u32, u32, u64, i64, i64),
        nanoseconds in (0u32..1_000_000_000, 0u32..1_000_000_000),
        hash: [u8; 32],
        xattrs: Option<[u8; 16]>,
        target in proptest::collection::vec(1u8.., 1..40),
    ) -> Entry {
        let kinds = [
            FileType::RegularFile,
            FileType::Directory,
            FileType::Symlink,
            FileType::Fifo,
            FileType::Socket,
            FileType::CharacterDevice,
            FileType::BlockDevice,
        ];
        let (mode, uid, gid, size, modified, changed) = numbers;
        let kind = kinds[kind];
        let content = match kind {
            FileType::RegularFile if numbers.0 % 2 == 0 => Content::Hash(Hash::Sparse(hash)),
            FileType::RegularFile => Content::Hash(Hash::Whole(hash)),
            FileType::Symlink => Content::Target(target.clone().into()),
            FileType::CharacterDevice | FileType::BlockDevice => Content::Device(uid, gid),
            _ => Content::Unknown,
        };
        let size = match kind {
            FileType::RegularFile => size,
            FileType::Symlink => target.len() as u64,
            _ => 0,
        };
        let plain = path.iter().map(|name| if [".", ".."].contains(&&**name) { "x" } else { name });
        Entry {
            path: format!("/{}", plain.collect::<Vec<_>>().join("/")).into_bytes().into(),
            kind,
            mode: mode & 0o7777,
            owner: (uid, gid),
            size,
            modified: Timestamp::new(modified, nanoseconds.0),
            changed: Timestamp::new(changed, nanoseconds.1),
            inode: size,
            content,
            xattrs,
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(entries in proptest::collection::vec(any_entry(), 0..20)) {
        let manifest = Manifest::new(entries);
        prop_assert_eq!(parse(text(&manifest).as_bytes()), Ok(manifest));
    }
}
