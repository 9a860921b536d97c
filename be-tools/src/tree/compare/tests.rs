use std::path::Path;
use std::process::Command;

use super::*;

fn sh(directory: &Path, script: &str) -> String {
    let output = Command::new("sh").args(["-euc", script]).current_dir(directory).output().unwrap();
    assert!(
        output.status.success() || output.status.code() == Some(1),
        "{script}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn compared(directory: &Path, with_content: bool) -> Findings {
    let tree = |name| Tree::open(&directory.join(name), false).unwrap();
    compare([&tree("a"), &tree("b")], &Exclude::nothing(), with_content, &|_| {}).unwrap()
}

/// `PATH only in first`, or `PATH` and the names of the attributes that differ.
fn lines(findings: &Findings) -> Vec<String> {
    let line = |difference: &Difference| {
        let path = difference.path.display();
        match &difference.how {
            How::OnlyIn(Which::First, _) => format!("{path} only in first"),
            How::OnlyIn(Which::Second, _) => format!("{path} only in second"),
            How::Changed(changed) => {
                let names: Vec<&str> = changed.iter().map(|a| a.name.as_str()).collect();
                format!("{path} {}", names.join(", "))
            }
        }
    };
    findings.differences.iter().map(line).collect()
}

/// Two equal trees with an entry of every kind, then one difference of each kind.
const CHANGES: &str = "
    rm -r b/gone; mkdir -p b/new/below; echo x >b/new/below/file
    chmod 600 b/mode; echo longer >>b/size; echo ONE >b/content
    ln -sfn elsewhere b/symlink; rm b/type; mkdir b/type
    rm b/fifo; mkfifo -m 600 b/fifo
";

#[test]
fn every_kind_of_difference_is_found_and_rsync_finds_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    sh(
        at,
        "mkdir -p a/gone/below a/same; touch a/gone/below/file; for f in mode size content type \
        equal; do echo one >a/$f; done; ln a/equal a/same/name; ln -s there a/symlink; mkfifo -m \
        644 a/fifo; mkdir a/'with space'; printf x >a/'with space/new\nline'; cp -a a b",
    );
    assert_eq!(lines(&compared(at, true)), Vec::<String>::new());
    sh(at, CHANGES);
    let found = compared(at, true);
    assert_eq!(
        lines(&found),
        [
            "/content content",
            "/fifo mode",
            "/gone only in first",
            "/gone/below only in first",
            "/gone/below/file only in first",
            "/mode mode",
            "/new only in second",
            "/new/below only in second",
            "/new/below/file only in second",
            "/size size",
            "/symlink target",
            "/type type"
        ]
    );
    assert_eq!(found.unread, Vec::<String>::new());
    // Without their times, rsync sees the same paths.
    let rsync = sh(
        at,
        "rsync -aHAXn --no-times --omit-dir-times --checksum --delete -i --out-format='%i %n' b/ a/ \
        | grep -v '^\\.d\\.\\.t\\?\\.* \\./$' | sed 's/^\\*deleting */x /' | awk '{print \"/\" $2}' | \
        sed 's:/$::' | sort -u",
    );
    let ours: Vec<String> =
        found.differences.iter().map(|d| d.path.display().to_string()).collect();
    let theirs: Vec<&str> = rsync.lines().filter(|line| !line.is_empty()).collect();
    assert_eq!(ours, theirs, "{rsync}");
    // Only --content reads files of the same size.
    let quick = lines(&compared(at, false));
    assert!(!quick.contains(&"/content content".to_owned()), "{quick:?}");
}

#[test]
fn extended_attributes_owners_and_devices_are_compared() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    sh(
        at,
        "mkdir a b; for side in a b; do touch $side/x $side/owner; mknod $side/node c 1 3; done; \
        setfattr -n user.kept -v same a/x; setfattr -n user.kept -v same b/x; setfattr -n user.one \
        -v 1 a/x; setfattr -n user.two -v 0x00ff b/x; chown 1:2 b/owner; rm b/node; mknod b/node c \
        1 5",
    );
    let found = compared(at, false);
    assert_eq!(
        lines(&found),
        ["/node device", "/owner owner", "/x xattr user.one, xattr user.two"]
    );
    let How::Changed(changed) = &found.differences[2].how else { panic!() };
    assert_eq!([&*changed[0].first, &*changed[0].second], ["\"1\"", ""]);
    assert_eq!([&*changed[1].first, &*changed[1].second], ["", "\"00ff\""]);
}

#[test]
fn what_the_rules_leave_out_is_no_difference() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    sh(at, "mkdir -p a/tmp a/var/cache b/tmp b/var/cache; touch a/tmp/x b/var/cache/y a/var/z");
    let tree = |name| Tree::open(&at.join(name), false).unwrap();
    let rules = Exclude::standard().exclude("/var/cache/*".as_ref());
    let found = compare([&tree("a"), &tree("b")], &rules, false, &|_| {}).unwrap();
    assert_eq!(lines(&found), ["/var/z only in first"]);
}

#[test]
fn long_values_that_differ_look_different() {
    let (one, two) = ([b'a'; 100], [&[b'a'; 99][..], b"b"].concat());
    assert_ne!(shown(&one), shown(&two));
    assert!(shown(&one).len() < 200);
}
