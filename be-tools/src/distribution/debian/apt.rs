//! apt (apt-get(8), apt.conf(5)) in a BE.
//!
//! The plan is made with lists that are fetched into the work directory, and what was planned is
//! installed from the same lists: what they say cannot change between the question and the answer.

mod output;
mod settings;
pub(crate) mod simulation;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;

use super::release;
use crate::distribution::package_manager::{
    Change, Commands, Event, PackageCommand, PackageManager, PackagePlan, Reused, Wanted,
    Workplace, hand_in, packages, with_names,
};
use crate::error::Result;
use crate::plan::PackageChanges;
use crate::sandbox::WORK;
use simulation::Archive;

/// Where apt keeps what it downloads.
const ARCHIVES: &str = "var/cache/apt/archives";

/// A download of the running system that is larger than this is downloaded again, in bytes: it is
/// read as a whole. No package of Debian is.
const MAX_REUSED: u64 = 1 << 30;

/// apt.
#[derive(Clone, Copy, Debug)]
pub struct Apt;

impl PackageManager for Apt {
    fn name(&self) -> &'static str {
        "apt-get"
    }

    fn plan(&self, place: &Workplace<'_>, wanted: &Wanted<'_>) -> Result<PackagePlan> {
        let release = match wanted.change {
            Change::Release(name) => {
                Some(release::change(place.root, name, wanted.is_interrupted)?)
            }
            _ => None,
        };
        let mut plan = PackagePlan::default();
        settings::write(place, wanted, release.as_ref())?;
        if needs_lists(wanted) {
            place.online.run(&apt_get(&["update"]))?;
        }
        let change = match wanted.change {
            Change::Security => security(place)?,
            Change::Files(files) => Action::new("install", hand_in(place, files, DEB, is_package)?),
            Change::All | Change::Release(_) => Action::new("dist-upgrade", []),
            Change::Install(names) => Action::new("install", names.iter().cloned()),
            Change::Remove(names) => Action::new("remove", names.iter().cloned()),
        };
        if let Some(release) = release {
            plan.files = release.files;
            plan.notes = release.notes;
        }
        // Without a name, apt-get only repairs what an interrupted change left.
        let is_empty =
            *wanted.change == Change::Security && change.names.is_empty() && !wanted.is_interrupted;
        if !is_empty {
            let simulated = place.inside.run(&change.words(&["--simulate", "--fix-broken"]))?;
            let uris = place.inside.run(&change.words(&["--print-uris", "--fix-broken"]))?;
            plan.changes = simulation::changes(&simulated, &uris);
            let archives = simulation::archives(&uris);
            plan.reused = reused(place, &archives);
            plan.changes.download = missing(place, &archives, &plan.reused);
        }
        plan.commands = commands(wanted, &change, &plan.changes, !plan.files.is_empty());
        Ok(plan)
    }

    fn event<'a>(&self, line: &'a str) -> Option<Event<'a>> {
        output::event(line)
    }
}

/// An action of apt-get with its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Action {
    verb: &'static str,
    options: &'static [&'static str],
    names: Vec<String>,
}

impl Action {
    fn new(verb: &'static str, names: impl IntoIterator<Item = String>) -> Self {
        Action { verb, options: &[], names: names.into_iter().collect() }
    }

    fn words<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        with_names(apt_get(&[more, &[self.verb], self.options].concat()), &self.names)
    }
}

/// A call of apt-get that asks nothing, with the settings of the work directory.
fn apt_get<'a>(words: &[&'a str]) -> Vec<&'a str> {
    [&["apt-get", "--config-file", settings::PATH, "--quiet", "--assume-yes"][..], words].concat()
}

/// What unattended-upgrades takes by default that is a fix of the security team: the packages whose
/// newest version comes from its archive.
fn security(place: &Workplace<'_>) -> Result<Action> {
    let printed = place.inside.run(&apt_get(&["--simulate", "--fix-broken", "dist-upgrade"]))?;
    let options = &["--only-upgrade"];
    Ok(Action { options, ..Action::new("install", simulation::security_fixes(&printed)) })
}

const DEB: &str = "a Debian package: name a .deb file";

/// Whether a file is one (deb(5)).
fn is_package(_: &str, bytes: &[u8]) -> bool {
    bytes.starts_with(b"!<arch>\ndebian-binary")
}

/// The archives that the running system has downloaded, and the BE has not.
fn reused(place: &Workplace<'_>, archives: &[Archive]) -> Vec<Reused> {
    let missing = archives.iter().filter(|archive| !is_in_cache(place, archive));
    missing
        .filter_map(|archive| {
            let to = Path::new(ARCHIVES).join(&archive.name);
            let from = place.host.root.join(&to);
            let found = std::fs::symlink_metadata(&from).ok()?;
            let is_same = found.is_file() && found.len() == archive.size;
            let size = archive.size;
            (is_same && size <= MAX_REUSED).then_some(Reused { from, to, size })
        })
        .collect()
}

fn is_in_cache(place: &Workplace<'_>, archive: &Archive) -> bool {
    let path = Path::new(ARCHIVES).join(&archive.name);
    let found = place.root.symlink_metadata(path).ok().flatten();
    found.is_some_and(|found| found.is_file() && found.len() == archive.size)
}

/// The bytes that neither system has.
fn missing(place: &Workplace<'_>, archives: &[Archive], reused: &[Reused]) -> u64 {
    let reused: BTreeSet<_> = reused.iter().filter_map(|r| r.to.file_name()).collect();
    let is_reused = |archive: &Archive| reused.contains(OsStr::new(&archive.name));
    let fetched = archives.iter().filter(|a| !is_reused(a) && !is_in_cache(place, a));
    fetched.fold(0, |sum: u64, archive| sum.saturating_add(archive.size))
}

/// What is run inside the BE, in order. The notes of each release ask for a minimal upgrade before
/// the full one. Only what downloads has the network.
fn commands(
    wanted: &Wanted<'_>,
    change: &Action,
    changes: &PackageChanges,
    has_new_sources: bool,
) -> Vec<PackageCommand> {
    let mut commands = Commands::default();
    if changes.changes.is_empty() && !has_new_sources && !wanted.is_interrupted {
        return commands.list();
    }
    if wanted.is_interrupted {
        // It fails if a package needs one that was not unpacked any more; then apt-get goes on.
        let configure = settings::configuring(wanted.configuration);
        let line = "configure what an interrupted change has unpacked";
        commands.add(line, &["sh", "-c", &configure]);
    }
    if needs_lists(wanted) {
        let take_over = format!(
            "rm -rf /var/lib/apt/lists/* && mkdir -p /var/lib/apt/lists && \
             cp -a {WORK}/lists/. /var/lib/apt/lists/"
        );
        commands.take_over(&take_over);
    }
    let count = changes.installed();
    let download = change.words(&["--download-only", "--fix-broken"]);
    commands.download(changes, &settings::reporting(wanted, &download));
    if matches!(wanted.change, Change::Release(_)) {
        let words = apt_get(&["--fix-broken", "upgrade", "--without-new-pkgs"]);
        let line = "upgrade the packages that need no new ones";
        commands.add(line, &settings::reporting(wanted, &words));
    }
    let line = match wanted.change {
        Change::Release(name) => format!("upgrade all packages to {name}"),
        Change::All => "upgrade all packages".into(),
        Change::Security => format!("install the security fixes of {}", packages(count)),
        Change::Install(_) | Change::Files(_) => format!("install {}", packages(count)),
        Change::Remove(_) => format!("remove {}", packages(changes.changes.len())),
    };
    commands.add(line, &settings::reporting(wanted, &change.words(&["--fix-broken"])));
    let check = "left=$(dpkg --audit) && printf '%s\n' \"$left\" && test -z \"$left\" && \
        apt-get --quiet check";
    commands.add("check that every package is whole", &["sh", "-c", check]);
    commands.list()
}

/// What is removed needs no list of what there is, and no network.
fn needs_lists(wanted: &Wanted<'_>) -> bool {
    wanted.is_interrupted || !matches!(wanted.change, Change::Remove(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distribution::package_manager::ConfigurationPolicy;
    use crate::plan::PackageChange;

    fn lines(change: &Change, is_interrupted: bool, changes: &[(&str, bool)]) -> Vec<String> {
        let wanted = Wanted { change, configuration: ConfigurationPolicy::Keep, is_interrupted };
        let changes = PackageChanges {
            changes: changes
                .iter()
                .map(|(name, stays)| PackageChange {
                    name: (*name).into(),
                    from: Some("1".into()),
                    to: stays.then(|| "2".into()),
                })
                .collect(),
            ..PackageChanges::default()
        };
        let new_sources = matches!(change, Change::Release(_));
        let action = Action::new("dist-upgrade", []);
        let commands = commands(&wanted, &action, &changes, new_sources);
        commands.into_iter().map(|command| command.line).collect()
    }

    #[test]
    fn a_release_is_upgraded_in_two_steps_after_everything_was_downloaded() {
        let release = Change::Release("trixie".into());
        assert_eq!(
            lines(&release, false, &[("libc6", true), ("old", false)]),
            [
                "take over the lists of packages",
                "download 1 package (0 B)",
                "upgrade the packages that need no new ones",
                "upgrade all packages to trixie",
                "check that every package is whole",
            ]
        );
        assert_eq!(lines(&Change::All, false, &[]), Vec::<String>::new());
        assert_eq!(
            lines(&Change::All, true, &[]),
            [
                "configure what an interrupted change has unpacked",
                "take over the lists of packages",
                "upgrade all packages",
                "check that every package is whole",
            ]
        );
        let remove = Change::Remove(vec!["old".into()]);
        assert_eq!(
            lines(&remove, false, &[("old", false)]),
            ["remove 1 package", "check that every package is whole"]
        );
    }

    #[test]
    fn a_name_is_never_an_option() {
        let action = Action::new("install", ["--allow-unauthenticated".to_owned()]);
        let words = action.words(&["--simulate"]);
        let end = words.iter().position(|word| *word == "--").unwrap();
        assert_eq!(words[end + 1..], ["--allow-unauthenticated"]);
    }
}
