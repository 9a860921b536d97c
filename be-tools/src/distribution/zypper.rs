//! zypper (zypper(8), zypper.conf(5)) in a BE: SUSE Linux Enterprise and openSUSE.
//!
//! The plan is made with metadata that is fetched into the work directory, and read as XML
//! (zypper's `xmlout.rnc`). What was planned is installed from the same metadata.
//!
//! zypper does not finish a change that was killed: a package's scripts may not have run. A BE with
//! such a one is made equal to its source again.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event as Xml};

use super::package_manager::{
    Change, Commands, Event, PackageCommand, PackageManager, PackagePlan, Wanted, Workplace,
    packages, with_names,
};
use super::rpm;
use crate::error::{Error, Result};
use crate::plan::{PackageChange, PackageChanges};
use crate::sandbox::WORK;

/// Where zypper keeps metadata and packages.
const CACHE: &str = "/var/cache/zypp";

/// Runs zypper with its arguments. What ends with 102 (a reboot is needed), 103 (zypper itself is new,
/// and the rest comes with the next call) or 107 (a script of a package failed) is done, and the
/// output says so.
const RUN: &str =
    "zypper \"$@\"; status=$?; case $status in 102|103|107) exit 0;; *) exit $status;; esac";

/// zypper.
#[derive(Clone, Copy, Debug)]
pub struct Zypper;

impl PackageManager for Zypper {
    fn name(&self) -> &'static str {
        "zypper"
    }

    fn plan(&self, place: &Workplace<'_>, wanted: &Wanted<'_>) -> Result<PackagePlan> {
        rpm::refuse_configuration(wanted.configuration)?;
        rpm::refuse_interrupted(wanted, "zypper")?;
        let action = Action::of(place, wanted.change)?;
        place.work.make_directory("zypp")?;
        let (cache, repositories) = (format!("{WORK}/zypp"), format!("{WORK}/zypp/repos.d"));
        let mut at_work = vec!["--cache-dir", cache.as_str()];
        if !action.files.is_empty() {
            // The files are one more repository.
            let own =
                format!("mkdir {repositories} && cp /etc/zypp/repos.d/*.repo {repositories}/");
            place.inside.run(&["sh", "-c", &own])?;
            place.work.write("zypp/repos.d/lifeboat.repo", repository().as_bytes(), 0o644)?;
            at_work.extend(["--reposd-dir", &repositories]);
        }
        if action.needs_metadata() {
            place.online.run(&action.call(&at_work, &["refresh"]))?;
        }
        let printed = [&at_work[..], &["--xmlout", "--no-refresh"]].concat();
        let summary = match place.inside.run(&action.words(&printed, &["--dry-run"])) {
            Ok(summary) => summary,
            // Why it cannot be done is for people.
            Err(why) => {
                let plain = [&at_work[..], &["--quiet", "--no-refresh"]].concat();
                place.inside.run(&action.words(&plain, &["--dry-run"]))?;
                return Err(why);
            }
        };
        if !summary.contains("<install-summary") && !summary.contains("Nothing to do.") {
            return Err(Error::Failed(format!(
                "zypper did not tell what it would do: {}",
                summary.lines().last().unwrap_or_default()
            )));
        }
        let mut plan = PackagePlan { changes: changes(&summary), ..PackagePlan::default() };
        let names = plan.changes.changes.iter();
        let changed = names.map(|c| format!("to {} {}\n", c.name, c.to.as_deref().unwrap_or("-")));
        rpm::refuse_no_release(wanted.change, &changed.collect::<String>())?;
        if *wanted.change == Change::All && action.verb == "update" {
            let newer = place.inside.run(&action.call(&printed, &["list-updates", "--all"]))?;
            plan.changes.kept_back = kept_back(&newer, &plan.changes);
        }
        plan.commands = commands(&action, &plan.changes);
        Ok(plan)
    }

    fn event<'a>(&self, line: &'a str) -> Option<Event<'a>> {
        event(line)
    }
}

/// What zypper is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Action {
    /// Options before the verb.
    global: Vec<String>,
    verb: &'static str,
    options: &'static [&'static str],
    names: Vec<String>,
    /// Files in the place of the names, once the BE can be written to: zypper copies them there.
    files: Vec<String>,
}

impl Action {
    fn of(place: &Workplace<'_>, change: &Change) -> Result<Self> {
        let action = |verb, options, names| Action {
            global: Vec::new(),
            verb,
            options,
            names,
            files: Vec::new(),
        };
        Ok(match change {
            // A distribution that is released every day has packages that become older, too.
            Change::All if is_rolling(place) => action("dist-upgrade", &[], Vec::new()),
            Change::All => action("update", &[], Vec::new()),
            Change::Security => action("patch", &["--category", "security"], Vec::new()),
            Change::Release(name) => {
                rpm::refuse_release(place.root, name)?;
                let global = vec![format!("--releasever={name}")];
                Action { global, ..action("dist-upgrade", &[], Vec::new()) }
            }
            Change::Install(names) => {
                rpm::refuse_addresses(names)?;
                action("install", &[], names.clone())
            }
            Change::Remove(names) => action("remove", &[], names.clone()),
            Change::Files(files) => {
                let files = rpm::hand_in(place, files)?;
                // As with other package managers, who names a file vouches for it.
                let options = &["--allow-unsigned-rpm"];
                Action { files: files.clone(), ..action("install", options, named(place, &files)?) }
            }
        })
    }

    fn needs_metadata(&self) -> bool {
        self.verb != "remove"
    }

    /// A call that asks nothing.
    fn call<'a>(&'a self, global: &[&'a str], words: &[&'a str]) -> Vec<&'a str> {
        let own = self.global.iter().map(String::as_str);
        let before = ["sh", "-c", RUN, "zypper", "--non-interactive", "--no-color"].into_iter();
        before.chain(own).chain(global.iter().copied()).chain(words.iter().copied()).collect()
    }

    fn words<'a>(&'a self, global: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
        let words = [&[self.verb], more, self.options].concat();
        with_names(self.call(global, &words), &self.names)
    }

    /// As [`Action::words`], where the BE can be written to.
    fn writing<'a>(&'a self, global: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
        let names = if self.files.is_empty() { &self.names } else { &self.files };
        let words = [&[self.verb], more, self.options].concat();
        with_names(self.call(global, &words), names)
    }
}

/// Whether a system has no releases.
fn is_rolling(place: &Workplace<'_>) -> bool {
    let rolling = ["opensuse-tumbleweed", "opensuse-slowroll", "opensuse-microos"];
    rpm::family(place.root).iter().any(|id| rolling.contains(&id.as_str()))
}

/// The files that were handed in, as a repository.
fn repository() -> String {
    format!(
        "[lifeboat]\nname=lifeboat\nenabled=1\nautorefresh=1\ntype=plaindir\ngpgcheck=0\n\
        baseurl=dir:{WORK}/packages\n"
    )
}

/// The packages in these files, as zypper names one of a certain version.
fn named(place: &Workplace<'_>, files: &[String]) -> Result<Vec<String>> {
    const FORM: &str = "%{NAME}=%|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE}\\n";
    let query = vec!["rpm", "--query", "--package", "--queryformat", FORM];
    let printed = place.inside.run(&with_names(query, files))?;
    Ok(printed.lines().map(str::to_owned).collect())
}

/// The tags of what zypper prints as XML. What is not XML among it is left out.
fn tags(printed: &str, mut each: impl FnMut(&BytesStart<'_>)) {
    // Its own tags begin lines. What programs print between them is no XML.
    let lines = printed.lines().filter(|line| line.trim_start().starts_with('<'));
    let printed = lines.map(|line| format!("{line}\n")).collect::<String>();
    let mut reader = Reader::from_str(&printed);
    let config = reader.config_mut();
    (config.check_end_names, config.allow_unmatched_ends) = (false, true);
    loop {
        match reader.read_event() {
            Ok(Xml::Start(tag) | Xml::Empty(tag)) => each(&tag),
            Ok(Xml::Eof) | Err(_) => break,
            Ok(_) => {}
        }
    }
}

fn attribute(tag: &BytesStart<'_>, name: &str) -> Option<String> {
    let attribute = tag.try_get_attribute(name).ok().flatten()?;
    let value = attribute.unescape_value().ok()?.into_owned();
    (!value.is_empty() && !value.contains(char::is_whitespace)).then_some(value)
}

/// What becomes of the packages, as the summary of a dry run says.
pub(crate) fn changes(summary: &str) -> PackageChanges {
    let (mut found, mut section) = (PackageChanges::default(), String::new());
    tags(summary, |tag| match tag.name().as_ref() {
        b"install-summary" => {
            let number = |name: &str| attribute(tag, name);
            found.download =
                number("download-size").and_then(|size| size.parse().ok()).unwrap_or(0);
            found.growth = number("space-usage-diff").and_then(|size| size.parse().ok());
        }
        name if name.starts_with(b"to-") => section = String::from_utf8_lossy(name).into_owned(),
        b"solvable" if attribute(tag, "type").as_deref() == Some("package") => {
            let (Some(name), Some(edition)) = (attribute(tag, "name"), attribute(tag, "edition"))
            else {
                return;
            };
            let is_removal = section == "to-remove";
            let from =
                if is_removal { Some(edition.clone()) } else { attribute(tag, "edition-old") };
            let to = (!is_removal).then_some(edition);
            found.changes.push(PackageChange { name, from, to });
        }
        _ => {}
    });
    found.changes.sort_by(|a, b| (&a.name, &a.from).cmp(&(&b.name, &b.from)));
    found
}

/// The packages that have a newer version which is not installed, in the list of all updates.
pub(crate) fn kept_back(updates: &str, changes: &PackageChanges) -> Vec<String> {
    let mut kept = Vec::new();
    tags(updates, |tag| {
        if tag.name().as_ref() == b"update"
            && attribute(tag, "kind").as_deref() == Some("package")
            && let Some(name) = attribute(tag, "name")
            && changes.changes.iter().all(|change| change.name != name)
        {
            kept.push(name);
        }
    });
    kept.sort();
    kept.dedup();
    kept
}

/// What is run inside the BE, in order. Only what downloads has the network; it changes nothing.
fn commands(action: &Action, changes: &PackageChanges) -> Vec<PackageCommand> {
    let mut commands = Commands::default();
    if changes.changes.is_empty() {
        return commands.list();
    }
    let count = changes.installed();
    let kept = ["--no-refresh"];
    let take_over = format!("mkdir -p {CACHE} && cp -a {WORK}/zypp/. {CACHE}/");
    let download = action.writing(&kept, &["--download-only"]);
    commands.take_over_and_download(changes, &take_over, &download);
    let line = match (action.verb, &action.names[..]) {
        ("patch", _) => format!("install the security fixes of {}", packages(count)),
        ("remove", _) => format!("remove {}", packages(changes.changes.len())),
        ("install", _) => format!("install {}", packages(count)),
        _ => "upgrade all packages".to_owned(),
    };
    commands.add(line, &action.writing(&kept, &[]));
    commands.list()
}

/// What a line says that zypper prints while it works.
fn event(line: &str) -> Option<Event<'_>> {
    let line = line.trim();
    if let Some(event) = rpm::event(line) {
        return Some(event);
    }
    // What is left to do is told as what failed is.
    if line.contains("affects the package manager itself") {
        return Some(Event::Failed);
    }
    // `Retrieving package tool-2-1.noarch (1/2),   6.1 KiB (    7   B unpacked)`
    if line.starts_with("Retrieving") {
        let (_, rest) = line.split_once(" (")?;
        let (done, total) = rest.split_once(')')?.0.split_once('/')?;
        let (done, total) = (done.parse::<u32>().ok()?, total.parse::<u32>().ok()?);
        let part = f64::from(done) / f64::from(total.max(1));
        return Some(Event::Downloaded(part.min(1.0)));
    }
    // `(1/2) Installing: tool-2-1.noarch [....done]`
    let (_, rest) = line.strip_prefix('(')?.split_once(") ")?;
    let (verb, rest) = rest.split_once(' ')?;
    let (package, end) = rest.split_once(' ')?;
    let name = rpm::name(package)?;
    match (verb.trim_end_matches(':'), end.ends_with("done]")) {
        ("Installing", true) => Some(Event::Done(name)),
        ("Removing", true) => Some(Event::Removed(name)),
        ("Installing" | "Removing", false) => Some(Event::Package(name)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::ChangeKind;

    #[test]
    fn the_plan_is_what_zypper_prints_as_xml() {
        let summary = "<?xml version='1.0'?>\n<stream>\n<message type=\"info\">A &amp; B</message>\n\
            not xml < at all\n<install-summary download-size=\"6280\" space-usage-diff=\"-14\" \
            packages-to-change=\"3\">\n<to-upgrade>\n<solvable type=\"package\" name=\"other\" \
            edition=\"5-1\" arch=\"noarch\" edition-old=\"4-1\" summary=\"x\">\n<description>x\
            </description></solvable>\n<solvable type=\"patch\" name=\"p\" edition=\"1\"/></to-upgrade>\
            <to-install><solvable type=\"package\" name=\"new\" edition=\"1-1\" arch=\"noarch\"/>\
            </to-install><to-remove><solvable type=\"package\" name=\"old\" edition=\"1-1\"/>\
            </to-remove></install-summary>\n<prompt id=\"0\"></prompt></stream>\n";
        let found = changes(summary);
        let kinds: Vec<_> =
            found.changes.iter().map(|change| (change.name.as_str(), change.kind())).collect();
        assert_eq!(
            kinds,
            [
                ("new", ChangeKind::New),
                ("old", ChangeKind::Removed),
                ("other", ChangeKind::Upgraded),
            ]
        );
        assert_eq!((found.download, found.growth), (6280, Some(-14)));
        assert_eq!(found.changes[2].from.as_deref(), Some("4-1"));
        let updates = "<stream><update-list><update kind=\"package\" name=\"other\" edition=\"5\"/>\
            <update kind=\"package\" name=\"held\" edition=\"2\"><summary>x</summary></update>\
            </update-list></stream>";
        assert_eq!(kept_back(updates, &found), ["held"]);
    }

    #[test]
    fn lines_of_zypper_are_understood() {
        for (line, expected) in [
            ("(1/2) Installing: tool-2-1.noarch [.......done]", Some(Event::Done("tool"))),
            ("(1/1) Removing big-1-1.noarch [..done]", Some(Event::Removed("big"))),
            ("(1/1) Removing: big-1-1.noarch [..done]", Some(Event::Removed("big"))),
            ("(1/1) Installing: other-5-1.noarch [...error]", Some(Event::Package("other"))),
            (
                "Retrieving package other-2-1.noarch (1/2),   6.1 KiB (    7   B unpacked)",
                Some(Event::Downloaded(0.5)),
            ),
            (
                "warning: %post(other-4-1.noarch) scriptlet failed, exit status 1",
                Some(Event::Failed),
            ),
            ("Reading installed packages...", None),
            ("2 packages to upgrade.", None),
            ("", None),
        ] {
            assert_eq!(event(line), expected, "{line:?}");
        }
    }

    #[test]
    fn a_name_is_never_an_option() {
        let names = vec!["--no-gpg-checks".to_owned()];
        let (global, files) = (Vec::new(), Vec::new());
        let action = Action { global, verb: "install", options: &[], names, files };
        let words = action.words(&[], &["--dry-run"]);
        let end = words.iter().position(|word| *word == "--").unwrap();
        assert_eq!(words[end + 1..], ["--no-gpg-checks"]);
    }
}
