//! pacman (pacman(8), pacman.conf(5)) in a BE: Arch Linux and what is made of it.
//!
//! The plan is made with databases that are fetched into the work directory, beside a symlink to the
//! BE's own list of what is installed. What was planned is installed from the same databases.
//!
//! pacman cannot finish a transaction that was killed: a package may be half there, and hooks, which
//! make the initramfs, have not run. A BE with such a one is made equal to its source again.

use std::collections::BTreeMap;

use super::package_manager::{
    Change, Commands, ConfigurationPolicy, Event, PackageCommand, PackageManager, PackagePlan,
    Wanted, Workplace, hand_in, packages, with_names,
};
use crate::error::{Error, Result};
use crate::plan::{PackageChange, PackageChanges};
use crate::sandbox::WORK;

/// Where it keeps its own databases.
const DATABASES: &str = "/var/lib/pacman";

/// Every call asks nothing, and prints lines that can be read.
const QUIET: [&str; 4] = ["--noconfirm", "--noprogressbar", "--color", "never"];

/// Whether every package has what it needs, as far as the database says.
const CHECK: &str = "pacman --database --check --color never";

/// What it prints when a script or a hook failed. Other errors it survives, such as a mirror that
/// does not answer, or they are in its exit status.
const FAILED: [&str; 3] = [
    "error: command failed to execute correctly",
    "error: command terminated by signal",
    "error: could not change the root directory",
];

/// The format of what would be installed: name, version, bytes to download.
const FORMAT: &str = "%n %v %s";

/// pacman.
#[derive(Clone, Copy, Debug)]
pub struct Pacman;

impl PackageManager for Pacman {
    fn name(&self) -> &'static str {
        "pacman"
    }

    fn plan(&self, place: &Workplace<'_>, wanted: &Wanted<'_>) -> Result<PackagePlan> {
        if wanted.configuration == ConfigurationPolicy::Replace {
            return Err(Error::Usage(
                "pacman replaces no configuration file that was changed by hand: leave --conffiles \
                out, and merge the .pacnew files that the report names"
                    .into(),
            ));
        }
        if wanted.is_interrupted {
            return Err(Error::Usage(
                "pacman cannot finish a change that was interrupted: make the boot environment \
                equal to its source again with `be refresh BE`, then repeat the command"
                    .into(),
            ));
        }
        let action = Action::of(place, wanted.change)?;
        let work = format!("{WORK}/pacman");
        place.work.make_directory("pacman")?;
        // What is wrong before is not the fault of the change, which may put it right.
        let problems = place.inside.run(&["sh", "-c", &format!("{CHECK} 2>&1 || true")])?;
        place.work.write("pacman/problems", problems.as_bytes(), 0o644)?;
        place.work.symlink("pacman/local", &format!("{DATABASES}/local"))?;
        let at_work = ["--dbpath", &work, "--logfile", "/dev/null"];
        if action.needs_databases() {
            let words = pacman(&[&at_work[..], &QUIET, &["-Sy"]].concat());
            place.online.run(&words)?;
        } else {
            place.work.symlink("pacman/sync", &format!("{DATABASES}/sync"))?;
        }
        // It ends with 1 if nothing is installed.
        let installed = place.inside.run(&["sh", "-c", "pacman -Q || true"])?;
        let asked = [&at_work[..], &QUIET, &["--print", "--print-format", FORMAT]].concat();
        let printed = place.inside.run(&action.words(&asked))?;
        let mut plan = PackagePlan {
            changes: changes(&printed, &versions(&installed), action.operation == "-R"),
            ..PackagePlan::default()
        };
        if *wanted.change == Change::All {
            // It ends with 1 if nothing is older than in the databases.
            let older = format!("pacman --dbpath '{work}' -Qu || true");
            plan.changes.kept_back = kept_back(&place.inside.run(&["sh", "-c", &older])?);
        }
        plan.commands = commands(&action, &plan.changes);
        plan.notes.extend((action.operation != "-R" && !plan.commands.is_empty()).then(|| {
            "pacman tells beforehand only what it installs: what that replaces or is in conflict \
            with, and how much room it needs, shows during the change"
                .into()
        }));
        Ok(plan)
    }

    fn event<'a>(&self, line: &'a str) -> Option<Event<'a>> {
        event(line)
    }
}

/// An operation of pacman with its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Action {
    operation: &'static str,
    options: &'static [&'static str],
    names: Vec<String>,
}

impl Action {
    fn of(place: &Workplace<'_>, change: &Change) -> Result<Self> {
        let (operation, options, names): (_, &[&str], _) = match change {
            Change::All => ("-Su", &[], Vec::new()),
            // The libraries of what is newer are only in what is newer: nothing else stays behind.
            Change::Install(names) => ("-Su", &["--needed"], names.clone()),
            Change::Remove(names) => ("-R", &[], names.clone()),
            Change::Files(files) => ("-U", &[], hand_in(place, files, PACKAGE, is_package)?),
            Change::Security => {
                return Err(Error::Usage(
                    "pacman tells no security fixes from others: --dist upgrades all packages"
                        .into(),
                ));
            }
            Change::Release(_) => {
                return Err(Error::Usage(
                    "this distribution has no releases: --dist upgrades all packages".into(),
                ));
            }
        };
        Ok(Action { operation, options, names })
    }

    /// What is removed needs no list of what there is. What a file needs is taken from the databases
    /// that the BE has: what newer ones have is made for newer libraries.
    fn needs_databases(&self) -> bool {
        self.operation == "-Su"
    }

    fn words<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        with_names(pacman(&[more, &[self.operation], self.options].concat()), &self.names)
    }
}

fn pacman<'a>(words: &[&'a str]) -> Vec<&'a str> {
    [&["pacman"][..], words].concat()
}

const PACKAGE: &str = "a package of pacman: name a .pkg.tar file";

/// Whether a file is one: a tar, compressed as makepkg(8) does.
fn is_package(name: &str, _: &[u8]) -> bool {
    name.contains(".pkg.tar")
}

/// What `pacman -Q` prints: a name and a version in each line.
pub(crate) fn versions(printed: &str) -> BTreeMap<&str, &str> {
    printed.lines().filter_map(|line| line.trim().split_once(' ')).collect()
}

/// What becomes of the packages that pacman prints in [`FORMAT`].
pub(crate) fn changes(
    printed: &str,
    installed: &BTreeMap<&str, &str>,
    is_removal: bool,
) -> PackageChanges {
    let mut found = PackageChanges::default();
    for line in printed.lines() {
        let mut fields = line.split_whitespace();
        let (Some(name), Some(version), Some(size)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let Ok(size) = size.parse::<u64>() else { continue };
        let from = installed.get(name).map(|version| (*version).to_owned());
        let to = (!is_removal).then(|| version.to_owned());
        if !is_removal {
            found.download = found.download.saturating_add(size);
        }
        found.changes.push(PackageChange { name: name.to_owned(), from, to });
    }
    found.changes.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// The packages that pacman.conf(5) keeps back, in what `pacman -Qu` prints.
pub(crate) fn kept_back(printed: &str) -> Vec<String> {
    let ignored = printed.lines().filter(|line| line.trim_end().ends_with("[ignored]"));
    ignored.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// What is run inside the BE, in order. Only what downloads has the network; it changes nothing.
fn commands(action: &Action, changes: &PackageChanges) -> Vec<PackageCommand> {
    let mut commands = Commands::default();
    if changes.changes.is_empty() {
        return commands.list();
    }
    let count = changes.installed();
    let work = format!("{WORK}/pacman");
    let at_work = ["--dbpath", &work, "--logfile", "/dev/null", "--downloadonly"];
    commands.download(changes, &action.words(&[&at_work[..], &QUIET].concat()));
    if action.needs_databases() {
        let take_over =
            format!("mkdir -p {DATABASES}/sync && cp -a {WORK}/pacman/sync/. {DATABASES}/sync/");
        commands.take_over(&take_over);
    }
    let line = match (action.operation, &action.names[..]) {
        ("-Su", []) => "upgrade all packages".to_owned(),
        ("-R", _) => format!("remove {}", packages(changes.changes.len())),
        _ => format!("install {}", packages(count)),
    };
    commands.add(line, &action.words(&QUIET));
    // The last command of a pipe gives its status: 0 if grep(1) finds a new problem.
    let check = format!(
        "if {CHECK} 2>&1 | grep -vxF -f {WORK}/pacman/problems | grep '^error: '; then exit 1; fi"
    );
    commands.add("check that every package has what it needs", &["sh", "-c", &check]);
    commands.list()
}

/// What a line says that pacman prints while it works.
fn event(line: &str) -> Option<Event<'_>> {
    let line = line.trim();
    if let Some(rest) = line.strip_prefix("warning: ")
        && let Some((path, beside)) = rest.split_once(" installed as ")
        && beside.ends_with(".pacnew")
    {
        return Some(Event::KeptAt(path));
    }
    // It ends with 0 although a hook or a script failed: the kernel and the initramfs are made by
    // hooks.
    if FAILED.iter().any(|failed| line.starts_with(failed)) {
        return Some(Event::Failed);
    }
    // On a terminal the number comes first: `(1/3) upgrading tool`.
    let line = line.strip_prefix('(').and_then(|l| Some(l.split_once(") ")?.1)).unwrap_or(line);
    let (verb, name) = line.strip_suffix("...")?.split_once(' ')?;
    if name.contains(' ') {
        return None;
    }
    match verb {
        "installing" | "upgrading" | "reinstalling" | "downgrading" => Some(Event::Done(name)),
        "removing" => Some(Event::Removed(name)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::ChangeKind;

    #[test]
    fn the_plan_is_what_pacman_prints() {
        let installed = versions("other 1-1\ntool 1-1\n");
        let found = changes("tool 2-1 351\nnew 1-1 100\n:: a line\n", &installed, false);
        let kinds: Vec<_> =
            found.changes.iter().map(|change| (change.name.as_str(), change.kind())).collect();
        assert_eq!(kinds, [("new", ChangeKind::New), ("tool", ChangeKind::Upgraded)]);
        assert_eq!(found.download, 451);
        let removed = changes("other 1-1 0\n", &installed, true);
        assert_eq!(removed.changes[0].kind(), ChangeKind::Removed);
        assert_eq!(kept_back("tool 1-1 -> 2-1\nheld 1 -> 2 [ignored]\n"), ["held"]);
    }

    #[test]
    fn lines_of_pacman_are_understood() {
        for (line, expected) in [
            ("installing tool...", Some(Event::Done("tool"))),
            ("(1/3) upgrading tool...", Some(Event::Done("tool"))),
            ("removing other...", Some(Event::Removed("other"))),
            (
                "warning: /etc/tool.conf installed as /etc/tool.conf.pacnew",
                Some(Event::KeptAt("/etc/tool.conf")),
            ),
            ("warning: /etc/x saved as /etc/x.pacsave", None),
            ("error: command failed to execute correctly", Some(Event::Failed)),
            ("error: command terminated by signal 11: Segmentation fault", Some(Event::Failed)),
            ("error: failed retrieving file 'x' from mirror : 404", None),
            ("resolving dependencies...", None),
            ("checking package integrity...", None),
            (":: Processing package changes...", None),
            ("installing", None),
            ("", None),
        ] {
            assert_eq!(event(line), expected, "{line:?}");
        }
    }

    #[test]
    fn a_name_is_never_an_option() {
        let names = vec!["--overwrite=*".to_owned()];
        let action = Action { operation: "-S", options: &["--needed"], names };
        let words = action.words(&QUIET);
        let end = words.iter().position(|word| *word == "--").unwrap();
        assert_eq!(words[end + 1..], ["--overwrite=*"]);
    }
}
