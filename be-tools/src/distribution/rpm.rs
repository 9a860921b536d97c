//! What the package managers that use rpm(8) have in common.

use std::path::PathBuf;

use super::package_manager::{
    Change, ConfigurationPolicy, Event, Wanted, Workplace, hand_in as hand_in_files,
};
use crate::environment::OperatingSystem;
use crate::error::{Error, Result};
use crate::root_dir::RootDir;

/// Where the database of what is installed is, in old and in new systems.
pub(super) const DATABASES: [&str; 2] = ["usr/lib/sysimage/rpm", "var/lib/rpm"];

/// Refuses what rpm cannot do: it decides about changed configuration files by what the package
/// says of them.
///
/// # Errors
/// [`Error::Usage`].
pub(super) fn refuse_configuration(policy: ConfigurationPolicy) -> Result<()> {
    match policy {
        ConfigurationPolicy::Keep => Ok(()),
        ConfigurationPolicy::Replace => Err(Error::Usage(
            "with rpm, the package says what becomes of a configuration file that was changed by \
            hand: leave --conffiles out, and merge the .rpmnew and .rpmsave files that the report \
            names"
                .into(),
        )),
    }
}

/// Refuses a system in which a change was interrupted.
///
/// # Errors
/// [`Error::Usage`].
pub(super) fn refuse_interrupted(wanted: &Wanted<'_>, program: &str) -> Result<()> {
    match wanted.is_interrupted {
        false => Ok(()),
        true => Err(Error::Usage(format!(
            "{program} cannot finish a change that was interrupted: make the boot environment equal \
            to its source again with `be refresh BE`, then repeat the command"
        ))),
    }
}

/// Refuses names that are addresses: what they lead to is downloaded while the BE changes.
///
/// # Errors
/// [`Error::Usage`].
pub(super) fn refuse_addresses(names: &[String]) -> Result<()> {
    match names.iter().find(|name| name.contains("://")) {
        None => Ok(()),
        Some(name) => Err(Error::Usage(format!(
            "{name} is an address: download it, and name the file with --package"
        ))),
    }
}

/// The `ID` of a system and those in its `ID_LIKE` (os-release(5)).
pub(super) fn family(root: &RootDir) -> Vec<String> {
    let text = OperatingSystem::text(root).unwrap_or_default();
    let value = |key: &str| OperatingSystem::value(&text, key).unwrap_or_default();
    let (id, like) = (value("ID"), value("ID_LIKE"));
    std::iter::once(id.as_str()).chain(like.split_whitespace()).map(str::to_owned).collect()
}

/// Puts package files of the running system into the work directory.
///
/// # Errors
/// One of them is not a package, is too large, or cannot be read.
pub(super) fn hand_in(place: &Workplace<'_>, files: &[PathBuf]) -> Result<Vec<String>> {
    let is_package = |_: &str, bytes: &[u8]| bytes.starts_with(&[0xed, 0xab, 0xee, 0xdb]);
    hand_in_files(place, files, "a package of rpm: name a .rpm file", is_package)
}

/// The name in `NAME-[EPOCH:]VERSION-RELEASE.ARCHITECTURE`.
pub(super) fn name(package: &str) -> Option<&str> {
    let (rest, _release) = package.rsplit_once('-')?;
    let (name, _version) = rest.rsplit_once('-')?;
    (!name.is_empty()).then_some(name)
}

/// What a line says that rpm prints.
pub(super) fn event(line: &str) -> Option<Event<'_>> {
    if let Some((path, _)) =
        line.strip_prefix("warning: ").and_then(|l| l.split_once(" created as "))
    {
        return Some(Event::KeptAt(path));
    }
    if let Some((path, _)) = line.strip_prefix("warning: ").and_then(|l| l.split_once(" saved as "))
    {
        return Some(Event::ReplacedAt(path));
    }
    // `warning: %post(tool-3-1.noarch) scriptlet failed, exit status 1`
    let is_script = line.starts_with("warning: %") || line.starts_with("error: %");
    (is_script && line.contains(") scriptlet failed, ")).then_some(Event::Failed)
}

/// Whether a change can be made by a package manager that uses rpm: a release has a number.
///
/// # Errors
/// [`Error::Usage`].
pub(super) fn refuse_release(root: &RootDir, release: &str) -> Result<()> {
    let is_number = release.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && release.bytes().next().is_some_and(|b| b.is_ascii_digit());
    if !is_number {
        return Err(Error::Usage(format!(
            "'{release}' is not the number of a release, such as 41 or 15.6"
        )));
    }
    let family = family(root);
    let is = |id: &str| family.iter().any(|found| found == id);
    if is("rhel") || is("centos") || is("ol") {
        return Err(Error::Usage(
            "the next release of this distribution is installed by its own tool, leapp: --dist \
            upgrades all packages within this one"
                .into(),
        ));
    }
    if is("opensuse-tumbleweed") || is("opensuse-slowroll") {
        return Err(Error::Usage(
            "this distribution has no releases: --dist upgrades all packages".into(),
        ));
    }
    if is("sles") || is("sled") {
        return Err(Error::Usage(
            "the next release of this distribution is installed by its own tool, `zypper \
            migration`: --dist upgrades all packages within this one"
                .into(),
        ));
    }
    let now = OperatingSystem::of(root).map(|os| os.version_id).unwrap_or_default();
    let numbers =
        |text: &str| -> Vec<u32> { text.split('.').map(|n| n.parse().unwrap_or(0)).collect() };
    if numbers(release) <= numbers(&now) {
        return Err(Error::Usage(format!(
            "this system has release {now} already: name a later one"
        )));
    }
    Ok(())
}

/// Refuses a release that the repositories do not have: of what changes, as dnf's plugin writes it,
/// nothing says that it is that release.
///
/// # Errors
/// [`Error::Failed`].
pub(super) fn refuse_no_release(change: &Change, changed: &str) -> Result<()> {
    let Change::Release(release) = change else { return Ok(()) };
    let is_it = |line: &str| {
        let fields: Vec<&str> = line.split(' ').collect();
        let [word, name, version, ..] = fields[..] else { return false };
        let version = version.split_once(':').map_or(version, |(_, version)| version);
        let version = version.split('-').next().unwrap_or_default();
        ["new", "to"].contains(&word) && name.contains("release") && version == release
    };
    match changed.lines().any(is_it) {
        true => Ok(()),
        false => Err(Error::Failed(format!(
            "the repositories have no release {release}: their addresses must have $releasever in the \
            place of its number"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root_dir::testing::tree;

    #[test]
    fn a_package_has_a_name() {
        for (package, expected) in [
            ("tool-2-1.noarch", Some("tool")),
            ("lib-x-1:2.0-1.el9.x86_64", Some("lib-x")),
            ("tool-1", None),
            ("-1-1.noarch", None),
            ("tool", None),
        ] {
            assert_eq!(name(package), expected, "{package}");
        }
    }

    #[test]
    fn lines_of_rpm_are_understood() {
        for (line, expected) in [
            ("warning: /etc/x created as /etc/x.rpmnew", Some(Event::KeptAt("/etc/x"))),
            ("warning: /etc/x saved as /etc/x.rpmsave", Some(Event::ReplacedAt("/etc/x"))),
            ("warning: %post(a-1-1.noarch) scriptlet failed, exit status 1", Some(Event::Failed)),
            ("error: %prein(a-1-1.noarch) scriptlet failed, signal 9", Some(Event::Failed)),
            ("warning: something else", None),
        ] {
            assert_eq!(event(line), expected, "{line}");
        }
    }

    #[test]
    fn a_release_of_a_distribution_with_a_tool_of_its_own_is_refused_with_its_name() {
        for (release, id, way_out) in [
            ("41", "ID=fedora\n", None),
            ("15.6", "ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\n", None),
            ("10", "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", Some("leapp")),
            ("1", "ID=opensuse-tumbleweed\n", Some("no releases")),
            ("15.7", "ID=sles\n", Some("migration")),
            ("next", "ID=fedora\n", Some("number")),
            ("39", "ID=fedora\nVERSION_ID=40\n", Some("already")),
            ("15.6", "ID=opensuse-leap\nVERSION_ID=\"15.5\"\n", None),
            ("--x", "ID=fedora\n", Some("number")),
        ] {
            let (_directory, root) = tree(&[("etc/os-release", id)]);
            let refused = refuse_release(&root, release).err().map(|why| why.to_string());
            match way_out {
                None => assert_eq!(refused, None, "{id}"),
                Some(words) => assert!(refused.unwrap().contains(words), "{id}"),
            }
        }
    }
}
