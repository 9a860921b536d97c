//! Facts about a BE as text, for the table and for the details.

use be_tools::environment::{BootEnvironment, Trial};

/// How severe the state of a BE is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The BE would boot.
    Good,
    /// The user should have a look at it.
    Warning,
    /// The BE would not boot.
    Bad,
}

/// The health of a BE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// A word or two.
    pub text: String,
    /// How severe it is.
    pub severity: Severity,
}

/// A line of the details.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// What it is about; empty where it continues the line above.
    pub label: &'static str,
    /// Its text.
    pub value: String,
}

/// `1.2G`, as printed by `ls -h`.
pub fn size(bytes: Option<u64>) -> String {
    let Some(bytes) = bytes else { return "-".into() };
    // Precise enough for a column of five characters.
    #[allow(clippy::cast_precision_loss, reason = "rounded to two digits")]
    let mut value = bytes as f64;
    for unit in ["", "K", "M", "G", "T", "P"] {
        if value < 9.95 && !unit.is_empty() {
            return format!("{value:.1}{unit}");
        }
        if value < 999.5 {
            return format!("{value:.0}{unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.0}E")
}

/// The health of a BE.
pub fn health(be: &BootEnvironment) -> Health {
    let incomplete = be.state_text().starts_with("incomplete");
    let (text, severity) = match (be.problems.len(), incomplete, be.trial) {
        (_, true, _) => ("incomplete".into(), Severity::Bad),
        (0, _, Some(Trial::Failed)) => ("trial failed".into(), Severity::Warning),
        (0, ..) => ("ok".into(), Severity::Good),
        (1, ..) => ("1 problem".into(), Severity::Bad),
        (n, ..) => (format!("{n} problems"), Severity::Bad),
    };
    Health { text, severity }
}

/// What the firmware will do with the BE at the next boot.
pub fn next(be: &BootEnvironment) -> &'static str {
    match (be.next_boot, be.trial) {
        (true, Some(Trial::Pending)) => "trial",
        (true, _) => "next",
        (false, _) => "",
    }
}

/// The date on which it was created.
pub fn created(be: &BootEnvironment) -> String {
    let day = be.descriptor.as_ref().and_then(|descriptor| descriptor.created.split('T').next());
    day.unwrap_or("-").to_owned()
}

/// A part of the details of a BE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detail {
    /// A line with a label.
    Fact(Fact),
    /// Why it would not boot.
    Problem(String),
}

/// The details of a BE. Its root comes first: that is what one must see before it is erased. Then
/// come its problems.
pub fn details(be: &BootEnvironment, all: &[BootEnvironment]) -> Vec<Detail> {
    let problems = be.problems.iter().map(|problem| Detail::Problem(problem.to_string()));
    let root = root(be).into_iter().map(Detail::Fact);
    root.chain(problems).chain(facts(be, all).into_iter().map(Detail::Fact)).collect()
}

fn root(be: &BootEnvironment) -> [Fact; 2] {
    let subvolume =
        be.root.subvolume.as_ref().map(|path| format!(" subvolume {path}")).unwrap_or_default();
    let used = be.used.map(|used| format!(", {} used", size(Some(used)))).unwrap_or_default();
    let place = format!("{} {}{subvolume}{used}", be.root.device.display(), be.root.fs_type);
    [
        Fact { label: "root", value: place },
        Fact { label: "", value: format!("UUID {}", be.root.uuid) },
    ]
}

/// The other facts about a BE.
fn facts(be: &BootEnvironment, all: &[BootEnvironment]) -> Vec<Fact> {
    let mut facts = Vec::new();
    let mut add = |label, value| facts.push(Fact { label, value });
    let kernel = be.kernel.as_deref().unwrap_or("none found");
    add("system", format!("{}, kernel {kernel}", be.os.pretty_name));
    let mut state = be.state_text();
    if let Some(descriptor) = &be.descriptor {
        let is_source = |other: &&BootEnvironment| {
            descriptor.source.is_some()
                && other.descriptor.as_ref().map(|d| d.id) == descriptor.source
        };
        let source =
            all.iter().find(is_source).map(|other| format!(", a copy of {}", other.reference));
        let created = descriptor.created.trim_end_matches('Z').replace('T', " ");
        state = format!("{state}, created {created} UTC{}", source.unwrap_or_default());
        if !descriptor.description.is_empty() {
            add("about", descriptor.description.clone());
        }
    }
    add("state", state);
    add("boot", boot(be));
    if !be.mounted_at.is_empty() {
        let paths: Vec<_> = be.mounted_at.iter().map(|path| path.display().to_string()).collect();
        add("mounted", format!("at {}", paths.join(", ")));
    }
    facts
}

fn boot(be: &BootEnvironment) -> String {
    let entry =
        be.boot_entry.map_or("no boot entry".into(), |number| format!("entry Boot{number:04X}"));
    let next = if be.next_boot { ", boots next" } else { "" };
    let trial = match be.trial {
        None => "",
        Some(Trial::Pending) => ", for a trial",
        Some(Trial::Running) => ", trial not confirmed yet",
        Some(Trial::Failed) => ", its trial failed",
        Some(Trial::Interrupted) => ", its activation was interrupted",
    };
    format!("{entry}{next}{trial}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::menu::tests::listing;

    #[test]
    fn sizes_fit_their_column() {
        for (bytes, expected) in [
            (Some(0), "0"),
            (Some(999), "999"),
            (Some(1000), "1.0K"),
            (Some(1_288_490_188), "1.2G"),
            (Some(150_994_944), "144M"),
            (Some(10_737_418_240), "10G"),
            (Some(1_098_437_885_952), "1.0T"),
            (None, "-"),
        ] {
            assert_eq!(size(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn each_column_shows_its_property() {
        let all = listing().environments;
        let row = |be: &BootEnvironment| (be.os.short(), health(be), next(be), created(be));
        for (be, expected) in all.iter().zip([
            ("Debian 12", ("2 problems", Severity::Bad), "next", "2026-11-02"),
            ("Debian 12", ("trial failed", Severity::Warning), "", "2026-11-23"),
            ("Debian 13", ("incomplete", Severity::Bad), "", "2026-11-22"),
            ("Alpine 3.20.3", ("ok", Severity::Good), "", "-"),
        ]) {
            let (system, health, next, created) = row(be);
            let health = (health.text.as_str(), health.severity);
            assert_eq!((system.as_str(), health, next, created.as_str()), expected);
        }
    }

    #[test]
    fn the_state_of_a_copy_names_its_source() {
        let all = listing().environments;
        let facts = facts(&all[1], &all);
        let state = facts.iter().find(|fact| fact.label == "state").unwrap();
        assert_eq!(state.value, "complete, created 2026-11-23 06:12:00 UTC, a copy of bookworm");
    }
}
