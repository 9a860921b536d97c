//! What apt-get says that it would do: `--simulate` and `--print-uris` (apt-get(8)).

use std::collections::BTreeMap;

use crate::plan::{PackageChange, PackageChanges};

/// A file that apt would install from, downloaded or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Archive {
    /// Its name in the cache.
    pub(crate) name: String,
    /// Bytes.
    pub(crate) size: u64,
}

/// One line of a simulation: `Inst NAME [OLD] (NEW ORIGIN, ORIGIN [ARCH])`, `Remv NAME [OLD]`.
struct Line<'a> {
    is_removal: bool,
    name: &'a str,
    old: Option<&'a str>,
    /// What is in the parentheses.
    new: Option<&'a str>,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (word, rest) = line.split_once(' ')?;
        let is_removal = match word {
            "Inst" => false,
            "Remv" | "Purg" => true,
            _ => return None,
        };
        let (name, mut rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let old = rest.strip_prefix('[').and_then(|text| text.split_once(']'));
        rest = old.map_or(rest, |(_, rest)| rest.trim_start());
        let new = rest.strip_prefix('(').and_then(|text| text.split_once(')')).map(|(new, _)| new);
        let is_whole = !name.is_empty() && (is_removal || new.is_some());
        is_whole.then_some(Line { is_removal, name, old: old.map(|(old, _)| old), new })
    }

    fn version(&self) -> Option<&'a str> {
        self.new.and_then(|new| new.split_whitespace().next()).filter(|_| !self.is_removal)
    }

    /// Whether the new version comes from an archive of security fixes: `Debian-Security:12/…`, or
    /// a suite such as `jammy-security`.
    fn is_security_fix(&self) -> bool {
        let origins = self.new.unwrap_or_default().split([' ', ',']);
        origins
            .filter_map(|origin| origin.split_once(':'))
            .any(|(label, suite)| label.ends_with("-Security") || suite.ends_with("-security"))
    }
}

/// What a change would do: `simulated` is what `--simulate` prints, and `uris` what `--print-uris`
/// does. How much has to be downloaded is not known yet.
pub(crate) fn changes(simulated: &str, uris: &str) -> PackageChanges {
    PackageChanges {
        changes: changed(simulated),
        kept_back: kept_back(simulated),
        download: 0,
        growth: Some(growth(uris)),
    }
}

fn changed(printed: &str) -> Vec<PackageChange> {
    let mut changes: BTreeMap<&str, PackageChange> = BTreeMap::new();
    for line in printed.lines().filter_map(Line::parse) {
        let to = line.version().map(str::to_owned);
        let new = || PackageChange {
            name: line.name.to_owned(),
            from: line.old.map(str::to_owned),
            to: None,
        };
        // One that is removed first, so that another can be installed, comes back.
        changes.entry(line.name).or_insert_with(new).to = to;
    }
    changes.into_values().collect()
}

/// The names after `The following packages have been kept back:`.
fn kept_back(printed: &str) -> Vec<String> {
    let after = printed.lines().skip_while(|line| !line.contains("have been kept back"));
    let names = after.skip(1).take_while(|line| line.starts_with("  "));
    names.flat_map(str::split_whitespace).map(str::to_owned).collect()
}

/// The installed packages that an archive of security fixes has a newer version of, as
/// `NAME=VERSION`.
pub(crate) fn security_fixes(printed: &str) -> Vec<String> {
    let lines = printed.lines().filter_map(Line::parse);
    let fixes = lines.filter(|line| line.old.is_some() && line.is_security_fix());
    fixes.filter_map(|line| Some(format!("{}={}", line.name, line.version()?))).collect()
}

/// Lines such as `'http://…/libelf1_0.188-2.1_amd64.deb' libelf1_0.188-2.1_amd64.deb 173796 MD5Sum:…`.
pub(crate) fn archives(printed: &str) -> Vec<Archive> {
    let lines = printed.lines().filter_map(|line| line.strip_prefix('\'')?.split_once("' "));
    let found = lines.filter_map(|(_, rest)| {
        let mut words = rest.split_whitespace();
        let (name, size) = (words.next()?, words.next()?.parse().ok()?);
        let is_name = !name.contains('/') && name.ends_with(".deb");
        is_name.then(|| (name.to_owned(), size))
    });
    // Each once, whatever is printed.
    let by_name: BTreeMap<String, u64> = found.collect();
    by_name.into_iter().map(|(name, size)| Archive { name, size }).collect()
}

/// The bytes of `After this operation, 15.9 MB of additional disk space will be used.`, negative if
/// they will be freed.
fn growth(printed: &str) -> i64 {
    let line = printed.lines().find_map(|line| line.strip_prefix("After this operation, "));
    let Some((number, rest)) = line.and_then(|line| line.split_once(' ')) else { return 0 };
    let Ok(number) = number.replace(',', "").parse::<f64>() else { return 0 };
    let unit = match rest.split_whitespace().next() {
        Some("kB") => 1e3,
        Some("MB") => 1e6,
        Some("GB") => 1e9,
        Some("TB") => 1e12,
        _ => 1.0,
    };
    let bytes = (number * unit).round() as i64;
    if rest.contains("freed") { -bytes } else { bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of apt 2.6, shortened.
    const SIMULATION: &str = "\
Reading package lists...
Calculating upgrade...
The following packages have been kept back:
  linux-image-amd64
  nftables python3-nftables
The following packages will be upgraded:
  nginx
Inst nginx [1.22.1-9] (1.22.1-9+deb12u11 Debian-Security:12/oldstable-security [amd64]) []
Inst libelf1:i386 (0.188-2.1 Debian:12.15/oldstable [i386])
Remv exim4 [4.96-15] [bsd-mailx:amd64 ]
Inst exim4 [4.96-15] (4.96-16 Debian:12.15/oldstable, Debian-Security:12/oldstable-security [all])
Purg old [1.0]
Inst tzdata [2025a-0+deb12u1] (2025b-0+deb12u2 Debian:12.15/oldstable [all])
Conf nginx (1.22.1-9+deb12u11 Debian-Security:12/oldstable-security [amd64])
";

    #[test]
    fn a_simulation_says_what_changes_and_what_is_kept_back() {
        let found = changes(SIMULATION, "");
        let shown: Vec<_> =
            found.changes.iter().map(|c| (&*c.name, c.from.as_deref(), c.to.as_deref())).collect();
        assert_eq!(
            shown,
            [
                ("exim4", Some("4.96-15"), Some("4.96-16")),
                ("libelf1:i386", None, Some("0.188-2.1")),
                ("nginx", Some("1.22.1-9"), Some("1.22.1-9+deb12u11")),
                ("old", Some("1.0"), None),
                ("tzdata", Some("2025a-0+deb12u1"), Some("2025b-0+deb12u2")),
            ]
        );
        assert_eq!(found.kept_back, ["linux-image-amd64", "nftables", "python3-nftables"]);
        assert_eq!(found.summary(), "3 upgraded, 1 new, 1 removed, 3 kept back");
    }

    #[test]
    fn security_fixes_are_known_by_their_archive() {
        assert_eq!(security_fixes(SIMULATION), ["nginx=1.22.1-9+deb12u11", "exim4=4.96-16"]);
        let ubuntu = "Inst curl [7.81] (7.82 Ubuntu:22.04/jammy-security [amd64])";
        assert_eq!(security_fixes(ubuntu), ["curl=7.82"]);
    }

    #[test]
    fn archives_and_the_space_they_need_are_read() {
        let printed = "\
Need to get 5057 kB of archives.
After this operation, 15.9 MB of additional disk space will be used.
'http://mirror/pool/libb/libbpf1_1.1.2-0%2bdeb12u1_amd64.deb' libbpf1_1%3a1.1.2-0+deb12u1_amd64.deb 145032 MD5Sum:cc
'http://mirror/x' ../../x.deb 1 MD5Sum:cc
";
        let name = "libbpf1_1%3a1.1.2-0+deb12u1_amd64.deb".to_owned();
        assert_eq!(archives(printed), [Archive { name, size: 145_032 }]);
        for (line, bytes) in [
            ("After this operation, 15.9 MB of additional disk space will be used.", 15_900_000),
            ("After this operation, 1,024 kB disk space will be freed.", -1_024_000),
            ("After this operation, 0 B of additional disk space will be used.", 0),
            ("", 0),
            ("After this operation, many", 0),
        ] {
            assert_eq!(growth(line), bytes, "{line}");
        }
    }

    #[test]
    fn garbage_is_no_change() {
        let nothing = PackageChanges { growth: Some(0), ..PackageChanges::default() };
        for text in ["", "Inst", "Inst ", "Inst x", "Inst x [1", "Inst x (", "Remv ", "'", "' a"] {
            assert_eq!(changes(text, text), nothing, "{text:?}");
            assert!(archives(text).is_empty() && security_fixes(text).is_empty(), "{text:?}");
        }
    }
}
