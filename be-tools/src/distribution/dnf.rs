//! dnf 4 (dnf(8), dnf.conf(5)) in a BE: Fedora, Red Hat Enterprise Linux and what is made of them.
//!
//! What dnf works out is learned from a plugin (dnf's documentation, "DNF Plugin Interface"), not
//! from the table that it prints for people. The plan is made with metadata that is fetched into
//! the work directory, and what was planned is installed from the same.
//!
//! dnf cannot finish a transaction that was killed: rpm has run only some of the packages' scripts,
//! and old versions remain beside the new ones. A BE with such a one is made equal to its source
//! again.

use std::collections::BTreeMap;

use super::package_manager::{
    Change, Commands, Event, PackageCommand, PackageManager, PackagePlan, Wanted, Workplace,
    packages, with_names,
};
use super::rpm;
use crate::error::{Error, Result};
use crate::plan::{PackageChange, PackageChanges};
use crate::sandbox::WORK;

/// The plugin that writes down what dnf has worked out.
const PLUGIN: &str = include_str!("dnf/plugin.py");

/// Where the plugin writes, in the work directory.
const TRANSACTION: &str = "dnf/plugins/transaction";

/// The longest that the plugin may have written, in bytes: a line for each package.
const MAX_TRANSACTION: u64 = 16 << 20;

/// dnf 4, also where `dnf` is dnf 5.
const PROGRAM: &str = "dnf-3";

/// The last line that the plugin writes.
const END: &str = "end";

/// Where dnf keeps metadata and packages.
const CACHE: &str = "/var/cache/dnf";

/// Every call asks nothing, and prints no colours.
const QUIET: [&str; 2] = ["--assumeyes", "--color=never"];

/// dnf 4.
#[derive(Clone, Copy, Debug)]
pub struct Dnf;

impl PackageManager for Dnf {
    fn name(&self) -> &'static str {
        "dnf"
    }

    fn plan(&self, place: &Workplace<'_>, wanted: &Wanted<'_>) -> Result<PackagePlan> {
        rpm::refuse_configuration(wanted.configuration)?;
        rpm::refuse_interrupted(wanted, "dnf")?;
        let action = Action::of(place, wanted.change)?;
        place.work.make_directory("dnf")?;
        place.work.make_directory("dnf/plugins")?;
        // Why a package was installed decides what is removed with it.
        let history =
            format!("cp -a /var/lib/dnf {WORK}/dnf/persist || mkdir -p {WORK}/dnf/persist");
        place.inside.run(&["sh", "-c", &history])?;
        place.work.write("dnf/plugins/lifeboat.py", PLUGIN.as_bytes(), 0o644)?;
        let inside = if action.needs_metadata() { place.online } else { place.inside };
        let script = asking();
        let words = [&["sh", "-c", &script][..], &action.words(&["--assumeno"])].concat();
        inside.run(&words)?;
        let written = place.work.read_at_most(TRANSACTION, MAX_TRANSACTION)?.unwrap_or_default();
        let written = String::from_utf8_lossy(&written);
        if written.lines().last() != Some(END) {
            return Err(Error::Failed(format!(
                "{PROGRAM} did not tell what it would do: its plugins may be switched off, or one of \
                them fails"
            )));
        }
        rpm::refuse_no_release(wanted.change, &written)?;
        let mut plan = PackagePlan { changes: changes(&written), ..PackagePlan::default() };
        if *wanted.change != Change::All {
            plan.changes.kept_back.clear();
        }
        plan.commands = commands(&action, &plan.changes);
        Ok(plan)
    }

    fn event<'a>(&self, line: &'a str) -> Option<Event<'a>> {
        event(line)
    }
}

/// The script that has dnf work out what it would do: its arguments are the words of the action. It
/// ends with 1 because it may not go on; only then has the plugin written anything.
fn asking() -> String {
    let mut settings = String::from(" --setopt=plugins=1");
    for (name, value) in [
        ("cachedir", format!("{WORK}/dnf/cache")),
        ("persistdir", format!("{WORK}/dnf/persist")),
        ("logdir", format!("{WORK}/dnf")),
        ("system_cachedir", format!("{WORK}/dnf/cache")),
    ] {
        settings.push_str(&format!(" --setopt={name}={value}"));
    }
    // The plugins that the system has stay: they lock versions, and add repositories.
    format!(
        "own={WORK}/dnf/plugins; \
         for place in /usr/lib/python3*/*-packages/dnf-plugins; do own=\"$own,$place\"; done; \
         \"$0\" --setopt=pluginpath=\"$own\"{settings} \"$@\" || test -e {WORK}/{TRANSACTION}"
    )
}

/// What dnf is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Action {
    verb: &'static str,
    options: Vec<String>,
    names: Vec<String>,
}

impl Action {
    fn of(place: &Workplace<'_>, change: &Change) -> Result<Self> {
        let action = |verb, options: &[&str], names| Action {
            verb,
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            names,
        };
        Ok(match change {
            Change::All => action("upgrade", &[], Vec::new()),
            Change::Security => action("upgrade", &["--security"], Vec::new()),
            Change::Release(name) => {
                rpm::refuse_release(place.root, name)?;
                // What stands in the way of the new release is removed. The plan names it.
                action("distro-sync", &[&format!("--releasever={name}"), "--allowerasing"], vec![])
            }
            Change::Install(names) => {
                rpm::refuse_addresses(names)?;
                action("install", &[], names.clone())
            }
            // No repository is needed.
            Change::Remove(names) => action("remove", &["--disablerepo=*"], names.clone()),
            Change::Files(files) => action("install", &[], rpm::hand_in(place, files)?),
        })
    }

    fn needs_metadata(&self) -> bool {
        self.verb != "remove"
    }

    fn words<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let options = self.options.iter().map(String::as_str);
        let words = [PROGRAM].into_iter().chain(more.iter().copied()).chain(options);
        with_names(words.chain([self.verb]).collect(), &self.names)
    }
}

/// What becomes of the packages, as the plugin has written it.
pub(crate) fn changes(written: &str) -> PackageChanges {
    let (mut found, mut before) = (PackageChanges::default(), BTreeMap::new());
    let mut growth = 0i64;
    for line in written.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (word, name, version, download, size) = match fields[..] {
            ["kept", name] => {
                found.kept_back.push(name.to_owned());
                continue;
            }
            [word, name, version, download, size] => (word, name, version, download, size),
            _ => continue,
        };
        let (Ok(download), Ok(size)) = (download.parse::<u64>(), size.parse::<i64>()) else {
            continue;
        };
        let is_new = matches!(word, "new" | "to");
        growth = growth.saturating_add(if is_new { size } else { size.saturating_neg() });
        let (name, version) = (name.to_owned(), version.to_owned());
        match word {
            "new" | "to" => {
                found.download = found.download.saturating_add(download);
                found.changes.push(PackageChange { name, from: None, to: Some(version) });
            }
            "from" => {
                before.insert(name, version);
            }
            "gone" => found.changes.push(PackageChange { name, from: Some(version), to: None }),
            _ => {}
        }
    }
    for change in found.changes.iter_mut().filter(|change| change.from.is_none()) {
        change.from = before.remove(&change.name);
    }
    found.growth = Some(growth);
    found.changes.sort_by(|a, b| (&a.name, &a.from).cmp(&(&b.name, &b.from)));
    found.kept_back.sort();
    found.kept_back.dedup();
    found
}

/// What is run inside the BE, in order. Only what downloads has the network; it changes nothing.
fn commands(action: &Action, changes: &PackageChanges) -> Vec<PackageCommand> {
    let mut commands = Commands::default();
    if changes.changes.is_empty() {
        return commands.list();
    }
    let count = changes.installed();
    let cache = format!("--setopt=cachedir={CACHE}");
    // The metadata of the plan counts, however old it is by now.
    let download = [cache.as_str(), "--setopt=*.metadata_expire=-1", "--downloadonly"];
    let take_over = format!("mkdir -p {CACHE} && cp -a {WORK}/dnf/cache/. {CACHE}/");
    let words = action.words(&[&QUIET[..], &download].concat());
    commands.take_over_and_download(changes, &take_over, &words);
    let line = match (action.verb, &action.names[..]) {
        ("upgrade", _) if action.options.is_empty() => "upgrade all packages".to_owned(),
        ("upgrade", _) => format!("install the security fixes of {}", packages(count)),
        ("distro-sync", _) => "upgrade all packages to the release".to_owned(),
        ("remove", _) => format!("remove {}", packages(changes.changes.len())),
        _ => format!("install {}", packages(count)),
    };
    commands.add(line, &action.words(&[&QUIET[..], &[&cache, "--cacheonly"]].concat()));
    commands.list()
}

/// What a line says that dnf prints while it works.
fn event(line: &str) -> Option<Event<'_>> {
    let line = line.trim();
    if let Some(event) = rpm::event(line) {
        return Some(event);
    }
    // `(2/3): tool-1-1.noarch.rpm    100 kB/s | 6.1 kB     00:00`
    if let Some((of, rest)) = line.strip_prefix('(').and_then(|line| line.split_once("): "))
        && rest.contains(".rpm ")
        && let Some((done, total)) = of.split_once('/')
        && let (Ok(done), Ok(total)) = (done.parse::<u32>(), total.parse::<u32>())
        && total > 0
    {
        return Some(Event::Downloaded((f64::from(done) / f64::from(total)).min(1.0)));
    }
    // `Upgrading        : tool-2-1.noarch       1/2`
    let (verb, rest) = line.split_once(':')?;
    let package = rpm::name(rest.split_whitespace().next()?)?;
    match verb.trim_end() {
        "Installing" | "Upgrading" | "Reinstalling" | "Downgrading" => Some(Event::Done(package)),
        "Erasing" | "Removing" | "Obsoleting" => Some(Event::Removed(package)),
        "Running scriptlet" => Some(Event::Package(package)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::ChangeKind;

    #[test]
    fn the_plan_is_what_the_plugin_writes() {
        let found = changes(
            "to tool 2-1 100 50\nfrom tool 1-1 0 40\nnew kernel 6-1 7 9\ngone kernel 4-1 0 8\n\
            gone old 1-1 0 5\nkept held\nnew\nnew x y z z\n",
        );
        let kinds: Vec<_> =
            found.changes.iter().map(|change| (change.name.as_str(), change.kind())).collect();
        assert_eq!(
            kinds,
            [
                // A kernel is installed beside the others.
                ("kernel", ChangeKind::New),
                ("kernel", ChangeKind::Removed),
                ("old", ChangeKind::Removed),
                ("tool", ChangeKind::Upgraded),
            ]
        );
        assert_eq!((found.download, found.growth), (107, Some(6)));
        assert_eq!(found.kept_back, ["held"]);
    }

    #[test]
    fn lines_of_dnf_are_understood() {
        for (line, expected) in [
            ("  Upgrading        : tool-2-1.noarch      1/2 ", Some(Event::Done("tool"))),
            ("  Installing       : lib-x-1:2-1.x86_64   2/2", Some(Event::Done("lib-x"))),
            ("  Erasing          : other-1-1.noarch     1/1", Some(Event::Removed("other"))),
            ("  Running scriptlet: tool-2-1.noarch      1/2", Some(Event::Package("tool"))),
            ("  Cleanup          : tool-1-1.noarch      2/2", None),
            ("  Verifying        : tool-1-1.noarch      2/2", None),
            ("(1/4): tool-1-1.noarch.rpm  100 kB/s | 6.1 kB  00:00", Some(Event::Downloaded(0.25))),
            (
                "warning: /etc/tool.conf created as /etc/tool.conf.rpmnew",
                Some(Event::KeptAt("/etc/tool.conf")),
            ),
            ("Error in POSTIN scriptlet in rpm package tool", None),
            ("Dependencies resolved.", None),
            ("", None),
        ] {
            assert_eq!(event(line), expected, "{line:?}");
        }
    }

    #[test]
    fn a_name_is_never_an_option() {
        let names = vec!["--nogpgcheck".to_owned()];
        let action = Action { verb: "install", options: Vec::new(), names };
        let words = action.words(&QUIET);
        let end = words.iter().position(|word| *word == "--").unwrap();
        assert_eq!(words[end + 1..], ["--nogpgcheck"]);
    }
}
