//! Files of a root, and tables of the kernel with foreign names in them.

use std::collections::BTreeMap;
use std::path::Path;

use be_tools::crypttab;
use be_tools::distribution::debian::apt::Apt;
use be_tools::distribution::dnf::Dnf;
use be_tools::distribution::installed_packages::{self, Database};
use be_tools::distribution::package_manager::{Event, PackageManager};
use be_tools::distribution::pacman::Pacman;
use be_tools::distribution::zypper::Zypper;
use be_tools::environment::OperatingSystem;
use be_tools::fstab::{Fstab, Spec};
use be_tools::fuzzing;
use be_tools::storage::mounts::Mounts;
use be_tools::storage::subvolume::Subvolume;
use be_tools::storage::swap;
use be_tools::tree::glob::Glob;

use super::text::{assert_printable, text};

pub fn fstab(bytes: &[u8]) {
    let text = text(bytes);
    let fstab = Fstab::parse(&text);
    assert_eq!(fstab.render(), text);
    for entry in fstab.entries() {
        let _ = (entry.mountpoint(), entry.fs_type(), entry.pass(), entry.has_option("ro"));
        let _ = Subvolume::of_options(&entry.options());
    }
    let mut changed = fstab.clone();
    for entry in changed.entries_mut() {
        entry.set_pass(2);
        entry.set_spec("UUID=a b");
        entry.set_options("ro,subvol=@");
    }
    let again = Fstab::parse(&changed.render());
    assert_eq!(again.entries().count(), fstab.entries().count());
    for (entry, old) in again.entries().zip(fstab.entries()) {
        assert_eq!(entry.device(), Spec::Uuid("a b".into()), "{entry:?}");
        assert_eq!((entry.options().as_str(), entry.pass()), ("ro,subvol=@", 2), "{entry:?}");
        assert_eq!(entry.mountpoint(), old.mountpoint());
        assert_eq!(entry.fs_type(), old.fs_type());
    }
}

pub fn crypttab(bytes: &[u8]) {
    let volumes = crypttab::parse(&text(bytes));
    // What was read is the same when it is written and read again.
    let mut written = String::new();
    for volume in &volumes {
        assert!(!volume.name.starts_with('#'), "{volume:?}");
        let _ = (volume.is_formatted(), volume.is_opened_at_boot());
        let options = volume.options.join(",");
        written += &format!("{} {} none {options}\n", volume.name, volume.device);
    }
    assert_eq!(crypttab::parse(&written), volumes);
}

pub fn os_release(bytes: &[u8]) {
    let text = text(bytes);
    let os = OperatingSystem::parse(&text);
    for value in [&os.id, &os.version_id, &os.pretty_name] {
        assert_printable(value);
        assert!(value.len() <= text.len().max("linux".len()));
    }
    let _ = os.short();
}

pub fn package_list(bytes: &[u8]) {
    let text = text(bytes);
    for database in [Database::Dpkg, Database::Pacman, Database::Apk, Database::Rpm] {
        for package in installed_packages::parse(database, &text) {
            for file in &package.configuration {
                assert_eq!(file.md5.len(), 32, "{file:?}");
            }
        }
    }
}

pub fn apt_output(bytes: &[u8]) {
    let text = text(bytes);
    let (names, files) = fuzzing::apt_simulation(&text);
    assert!(
        names.is_sorted() && files.iter().all(|file| !file.contains('/')),
        "{names:?} {files:?}"
    );
    for line in text.lines() {
        if let Some(Event::Downloaded(part)) = Apt.event(line) {
            assert!((0.0..=1.0).contains(&part), "{line}");
        }
    }
}

pub fn pacman_output(bytes: &[u8]) {
    let text = text(bytes);
    let names = fuzzing::pacman_plan(&text);
    let is_name = |name: &String| !name.is_empty() && !name.contains(char::is_whitespace);
    assert!(names.is_sorted() && names.iter().all(is_name), "{names:?}");
    for line in text.lines() {
        if let Some(Event::Done(name) | Event::Removed(name)) = Pacman.event(line) {
            assert!(!name.contains(' '), "{line}");
        }
    }
}

/// What dnf and zypper say of a plan, and while they work.
pub fn rpm_output(bytes: &[u8]) {
    let text = text(bytes);
    for name in fuzzing::rpm_plans(&text).iter().flatten() {
        assert!(!name.is_empty() && !name.contains(char::is_whitespace), "{name:?}");
    }
    for line in text.lines() {
        for event in [Dnf.event(line), Zypper.event(line)] {
            match event {
                Some(Event::Downloaded(part)) => assert!((0.0..=1.0).contains(&part), "{line}"),
                Some(Event::Done(name) | Event::Removed(name)) => {
                    assert!(!name.is_empty(), "{line}");
                }
                _ => {}
            }
        }
    }
}

pub fn archive(bytes: &[u8]) {
    let _ = fuzzing::archive(bytes);
}

pub fn package_sources(bytes: &[u8]) {
    // What is written once stays, as after an interruption.
    for (form, text) in fuzzing::package_sources(&text(bytes)).iter().enumerate() {
        assert_eq!(&fuzzing::package_sources(text)[form], text);
    }
}

pub fn mount_table(bytes: &[u8]) {
    let mounts = Mounts::parse(bytes);
    const LOOKED_AT: usize = 64;
    for mount in mounts.iter().take(LOOKED_AT) {
        assert!(mounts.by_id(mount.id).is_some() && mounts.at(&mount.mount_point).is_some());
        let _ = (mount.is_read_only(), mounts.under(Path::new("/")).count());
    }
}

pub fn swaps(bytes: &[u8]) {
    let lines = bytes.split(|byte| *byte == b'\n').count();
    assert!(swap::parse(bytes).len() < lines);
}

/// A pattern of `--exclude`, a line end, and the path of a file.
pub fn exclude_pattern(bytes: &[u8]) {
    const COMPARED: usize = 64;
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (pattern, path) = (&bytes[..end], &bytes[(end + 1).min(bytes.len())..]);
    let found = Glob::new(pattern).matches(path);
    let is_plain = !pattern.contains(&b'[') && !pattern.contains(&b'\\');
    let is_anchored = pattern.starts_with(b"/") && !pattern.ends_with(b"/");
    if is_plain && is_anchored && pattern.len().max(path.len()) <= COMPARED {
        let mut definition = Definition { pattern, path, known: BTreeMap::new() };
        assert_eq!(found, definition.holds(0, 0), "{}", bytes.escape_ascii());
    }
}

/// Matches by trying everything, each rest of the pattern on each rest of the path once.
struct Definition<'a> {
    pattern: &'a [u8],
    path: &'a [u8],
    known: BTreeMap<(usize, usize), bool>,
}

impl Definition<'_> {
    fn holds(&mut self, p: usize, t: usize) -> bool {
        if let Some(known) = self.known.get(&(p, t)) {
            return *known;
        }
        let holds = match self.pattern.get(p) {
            None => t == self.path.len(),
            Some(b'*') => self.star_holds(p, t),
            Some(b'?') => self.path.get(t).is_some_and(|b| *b != b'/') && self.holds(p + 1, t + 1),
            Some(byte) => self.path.get(t) == Some(byte) && self.holds(p + 1, t + 1),
        };
        self.known.insert((p, t), holds);
        holds
    }

    fn star_holds(&mut self, p: usize, t: usize) -> bool {
        let stars = self.pattern[p..].iter().take_while(|byte| **byte == b'*').count();
        let (after, crosses) = (p + stars, stars > 1);
        let begins_name = t > 0 && self.path[t - 1] == b'/';
        // `**/` also matches nothing.
        let is_directories = crosses && self.pattern.get(after) == Some(&b'/') && begins_name;
        if is_directories && self.holds(after + 1, t) {
            return true;
        }
        let rest = &self.path[t..];
        let length = rest.iter().take_while(|byte| crosses || **byte != b'/').count();
        (t..=t + length).any(|end| self.holds(after, end))
    }
}

/// The list of what is taken over, and files of accounts, which three systems may have.
pub fn sync_list(bytes: &[u8]) {
    use be_tools::operations::sync::{ACCOUNT_FILES, People, Texts, merge, parse};
    let text = text(bytes);
    let (items, _) = parse(&text);
    assert!(items.iter().all(|item| item.path.is_absolute()));
    let mut parts = text.split("\n\n");
    let mut texts = || -> Texts {
        let part = |file| (file, parts.next().unwrap_or_default().to_owned());
        ACCOUNT_FILES.map(part).into()
    };
    let (base, other, own) = (texts(), texts(), texts());
    let people = People::of(&text);
    let Ok(merged) = merge(&base, &other, &own, &people) else { return };
    let again = merge(&base, &other, &merged.texts, &people).map(|again| again.texts);
    assert_eq!(Ok(merged.texts), again, "doing it again changes nothing");
}
