use super::*;
use crate::environment::Id;
use crate::root_dir::testing::tree;

const LIST: &str = "/etc/passwd OVERWRITE\n/etc/group OVERWRITE\n/etc/note OVERWRITE\n\
    /var/mail OVERWRITE\n/var/log/syslog APPEND\n/var/log/news PREPEND\n";
const PEOPLE: &str = "root:x:0:0::/:/bin/sh\n";
const GROUPS: &str = "root:x:0:\nusers:x:100:\n";
const BEFORE: [(&str, &str); 7] = [
    ("etc/lifeboat/sync.list", LIST),
    ("etc/passwd", PEOPLE),
    ("etc/group", GROUPS),
    ("etc/note", "old\n"),
    ("var/log/syslog", "one\n"),
    ("var/log/news", "one\n"),
    ("var/mail/alice", "hello\n"),
];

/// The system that ran last and the one that starts, which were equal.
struct Systems {
    source: (tempfile::TempDir, RootDir, Id),
    target: (tempfile::TempDir, RootDir, Id),
}

impl Systems {
    fn new() -> Self {
        let system = || {
            let (directory, root) = tree(&BEFORE);
            (directory, root, Id::random())
        };
        let systems = Systems { source: system(), target: system() };
        systems.keep(systems.target(), systems.source.2, 0);
        systems
    }

    fn source(&self) -> &RootDir {
        &self.source.1
    }

    fn target(&self) -> &RootDir {
        &self.target.1
    }

    fn base(&self) -> Base {
        let (own, other) = ((self.target(), self.target.2), (self.source(), self.source.2));
        Base::of(own, other).unwrap().unwrap()
    }

    /// Keeps in a system what it has now, as what it had in common with another one.
    fn keep(&self, root: &RootDir, partner: Id, number: u64) {
        let accounts = base::texts(root).unwrap();
        let kept = base::Kept { accounts: &accounts, old: None, paths: &[] };
        base::keep(root, root, partner, number, &kept).unwrap();
    }

    fn taken(&self) -> (TakenOver, Known) {
        let (source, target, base) = (self.source(), self.target(), &self.base());
        let sides = Sides { source, target, base, is_shared: &|_| false };
        take_over("first", &sides).unwrap()
    }

    fn take(&self) -> TakenOver {
        self.taken().0
    }

    /// As at a start that comes to its end.
    fn take_and_renew(&self) -> TakenOver {
        let (done, known) = self.taken();
        let other = (self.source(), self.source.2);
        self.base().renew(self.target(), other, &known.accounts, &known.unknown).unwrap();
        done
    }

    /// The other one starts next.
    fn turned(self) -> Self {
        Systems { source: self.target, target: self.source }
    }
}

fn write(system: &RootDir, path: &str, text: &str) {
    std::fs::write(system.path().join(path), text).unwrap();
}

fn content(system: &RootDir, path: &str) -> String {
    system.text(path).unwrap().unwrap()
}

fn paths(found: &[(PathBuf, String)]) -> Vec<&str> {
    found.iter().map(|(path, _)| path.to_str().unwrap()).collect()
}

#[test]
fn what_changed_in_the_other_one_alone_is_taken_over() {
    let systems = Systems::new();
    assert_eq!(systems.take().taken, Vec::<PathBuf>::new());
    let (source, target) = (systems.source(), systems.target());
    write(source, "etc/note", "new\n");
    write(source, "var/mail/bob", "hi\n");
    write(source, "var/log/syslog", "one\ntwo\n");
    write(source, "var/log/news", "two\none\n");
    write(target, "var/log/syslog", "one\nhere\n");
    write(target, "var/mail/alice", "read\n");
    let done = systems.take();
    assert_eq!(done.kept, []);
    let taken = ["/etc/note", "/var/mail/bob", "/var/log/syslog", "/var/log/news"];
    assert_eq!(done.taken, taken.map(PathBuf::from));
    for (path, expected) in [
        ("etc/note", "new\n"),
        ("var/mail/bob", "hi\n"),
        ("var/mail/alice", "read\n"),
        ("var/log/syslog", "one\nhere\ntwo\n"),
        ("var/log/news", "two\none\n"),
    ] {
        assert_eq!(content(target, path), expected, "{path}");
    }
    // The power may fail before it is noted that this was done, and a program log something.
    write(target, "var/log/syslog", "one\nhere\ntwo\nmore\n");
    assert_eq!(systems.take().taken, Vec::<PathBuf>::new());
}

#[test]
fn what_was_changed_in_both_is_kept_and_named() {
    let systems = Systems::new();
    let (source, target) = (systems.source(), systems.target());
    write(source, "etc/note", "there\n");
    write(target, "etc/note", "here\n");
    write(source, "var/mail/alice", "more\n");
    std::fs::remove_file(target.path().join("var/mail/alice")).unwrap();
    write(source, "etc/passwd", &format!("{PEOPLE}alice:x:1000:100::/:/bin/sh\n"));
    write(target, "etc/passwd", &format!("{PEOPLE}ntp:x:1000:100::/:/bin/sh\n"));
    assert_eq!(paths(&systems.take().kept), ["/etc/passwd", "/etc/note", "/var/mail/alice"]);
    assert_eq!(content(target, "etc/note"), "here\n");
    // An account with a number of its own is no conflict.
    write(source, "etc/passwd", &format!("{PEOPLE}alice:x:1001:100::/:/bin/sh\n"));
    assert_eq!(systems.take().taken, [PathBuf::from("/etc/passwd")]);
    let both = "ntp:x:1000:100::/:/bin/sh\nalice:x:1001:100::/:/bin/sh\n";
    assert_eq!(content(target, "etc/passwd"), format!("{PEOPLE}{both}"));
    // What was there before can be got back.
    let before = content(target, "var/lib/lifeboat/sync-replaced/passwd");
    assert_eq!(before, format!("{PEOPLE}ntp:x:1000:100::/:/bin/sh\n"));
}

#[test]
fn what_was_taken_over_once_is_not_taken_over_again_in_either_direction() {
    let systems = Systems::new();
    write(systems.source(), "etc/passwd", &format!("{PEOPLE}bob:x:1001:100::/:/bin/sh\n"));
    write(systems.source(), "var/log/syslog", "one\ntwo\n");
    write(systems.source(), "var/mail/bob", "hi\n");
    assert_eq!(systems.take_and_renew().taken.len(), 3);
    // What is removed here since then does not come back.
    write(systems.target(), "etc/passwd", PEOPLE);
    std::fs::remove_file(systems.target().path().join("var/mail/bob")).unwrap();
    write(systems.target(), "var/log/syslog", "one\ntwo\nthree\n");
    assert_eq!(systems.take_and_renew().taken, Vec::<PathBuf>::new());
    // Back: what was removed is removed there, and the log is not there twice.
    let systems = systems.turned();
    let done = systems.take_and_renew();
    let taken = ["/etc/passwd", "/var/mail/bob", "/var/log/syslog"];
    assert_eq!(done.taken, taken.map(PathBuf::from), "{done:?}");
    assert_eq!(content(systems.target(), "etc/passwd"), PEOPLE);
    assert_eq!(content(systems.target(), "var/log/syslog"), "one\ntwo\nthree\n");
    assert_eq!(systems.turned().take().taken, Vec::<PathBuf>::new());
}

#[test]
fn what_both_had_is_of_these_two_and_newest_where_both_keep_it() {
    let systems = Systems::new();
    let stranger = Id::random();
    let of = |own, other| {
        Base::of((systems.target(), own), (systems.source(), other)).unwrap().is_some()
    };
    assert!(of(systems.target.2, systems.source.2));
    assert!(!of(systems.target.2, stranger));
    // A later one lies in the other.
    write(systems.source(), "etc/note", "later\n");
    systems.keep(systems.source(), systems.target.2, 5);
    write(systems.target(), "etc/note", "later\n");
    write(systems.source(), "etc/note", "new\n");
    assert_eq!(systems.take().taken, [PathBuf::from("/etc/note")]);
}

#[test]
fn what_came_to_the_list_later_overwrites_nothing() {
    let systems = Systems::new();
    write(systems.target(), "etc/lifeboat/sync.list", &format!("{LIST}/var/log/late APPEND\n"));
    write(systems.source(), "var/log/late", "one\ntwo\n");
    write(systems.target(), "var/log/late", "one\n");
    assert_eq!(paths(&systems.take().kept), ["/var/log/late"]);
    assert_eq!(content(systems.target(), "var/log/late"), "one\n");
}

#[test]
fn one_file_that_cannot_be_taken_over_stops_no_other() {
    let systems = Systems::new();
    let (source, target) = (systems.source(), systems.target());
    write(source, "var/mail/alice", "an mbox\n");
    std::fs::remove_file(target.path().join("var/mail/alice")).unwrap();
    std::fs::create_dir(target.path().join("var/mail/alice")).unwrap();
    write(source, "etc/note", "new\n");
    std::fs::remove_file(target.path().join("etc/note")).unwrap();
    std::os::unix::fs::symlink("other", target.path().join("etc/note")).unwrap();
    std::fs::write(source.path().join("etc/passwd"), b"root:x:0:0:\xe9:/:/bin/sh\n").unwrap();
    write(source, "var/log/syslog", "one\ntwo\n");
    let done = systems.take();
    assert_eq!(paths(&done.kept), ["/etc/note", "/var/mail/alice"]);
    assert_eq!(done.taken, ["/etc/passwd", "/var/log/syslog"].map(PathBuf::from));
    let bytes = std::fs::read(target.path().join("etc/passwd")).unwrap();
    assert_eq!(bytes, b"root:x:0:0:\xe9:/:/bin/sh\n");
}

#[test]
fn a_directory_that_both_have_as_the_same_symlink_is_followed() {
    let systems = Systems::new();
    for system in [systems.source(), systems.target()] {
        std::fs::create_dir_all(system.path().join("var/spool")).unwrap();
        std::fs::rename(system.path().join("var/mail"), system.path().join("var/spool/mail"))
            .unwrap();
        std::os::unix::fs::symlink("spool/mail", system.path().join("var/mail")).unwrap();
    }
    write(systems.target(), "etc/lifeboat/sync.list", "/var/mail\n/var/spool/mail\n");
    systems.keep(systems.target(), systems.source.2, 1);
    write(systems.target(), "etc/lifeboat/sync.list", "/var/mail\n");
    write(systems.source(), "var/spool/mail/alice", "new\n");
    assert_eq!(systems.take().taken, [PathBuf::from("/var/spool/mail/alice")]);
}

#[test]
fn nothing_leads_out_of_either_system() {
    let systems = Systems::new();
    let (source, target) = (systems.source(), systems.target());
    let secret = tempfile::tempdir().unwrap();
    std::fs::write(secret.path().join("x"), "secret").unwrap();
    std::os::unix::fs::symlink(secret.path(), source.path().join("var/mail/out")).unwrap();
    std::os::unix::fs::symlink(secret.path().join("x"), source.path().join("var/mail/x")).unwrap();
    std::fs::remove_file(target.path().join("etc/note")).unwrap();
    std::os::unix::fs::symlink(secret.path().join("x"), target.path().join("etc/note")).unwrap();
    write(source, "etc/note", "new\n");
    let done = systems.take();
    assert_eq!(done.taken, Vec::<PathBuf>::new());
    assert_eq!(done.kept.len(), 1, "{done:?}");
    assert_eq!(std::fs::read_to_string(secret.path().join("x")).unwrap(), "secret");
}

#[test]
fn what_both_systems_share_is_not_taken_over() {
    let systems = Systems::new();
    write(systems.source(), "var/mail/alice", "hidden by the mount\n");
    let (source, target, base) = (systems.source(), systems.target(), &systems.base());
    let is_shared = |path: &Path| path.starts_with("/var/mail");
    let sides = Sides { source, target, base, is_shared: &is_shared };
    let (done, _) = take_over("first", &sides).unwrap();
    assert_eq!((done.taken, done.kept), (Vec::new(), Vec::new()));
}

#[test]
fn what_was_kept_is_not_overwritten_or_removed_on_the_way_back() {
    let systems = Systems::new();
    let (source, target) = (systems.source(), systems.target());
    write(source, "var/mail/alice", "there\n");
    write(target, "var/mail/alice", "here\n");
    write(source, "etc/note", "there\n");
    std::fs::remove_file(target.path().join("etc/note")).unwrap();
    assert_eq!(paths(&systems.take_and_renew().kept), ["/etc/note", "/var/mail/alice"]);
    let systems = systems.turned();
    let done = systems.take();
    assert_eq!(done.taken, Vec::<PathBuf>::new());
    assert_eq!(content(systems.target(), "var/mail/alice"), "there\n");
    assert_eq!(content(systems.target(), "etc/note"), "there\n");
}

#[test]
fn a_file_does_not_become_that_of_somebody_else() {
    let systems = Systems::new();
    let (source, target) = (systems.source(), systems.target());
    write(source, "etc/passwd", &format!("{PEOPLE}bob:x:1002:100::/:/bin/sh\n"));
    write(target, "etc/passwd", &format!("{PEOPLE}carl:x:1002:100::/:/bin/sh\n"));
    write(source, "var/mail/bob", "secret\n");
    if std::os::unix::fs::chown(source.path().join("var/mail/bob"), Some(1002), Some(100)).is_err()
    {
        return;
    }
    let done = systems.take();
    assert_eq!(paths(&done.kept), ["/etc/passwd", "/var/mail/bob"]);
    assert!(!target.exists("var/mail/bob"));
}
