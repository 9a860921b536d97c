//! The device from which a copy resumes after hibernation: a parameter of its kernel, and `RESUME`
//! in `conf.d` for the next initramfs that initramfs-tools(7) builds. Does no I/O.

use super::fstab_lines::Swap;

/// The file in which Debian's installer puts `RESUME`.
pub(super) const FILE: &str = "resume";

/// The parameter for the kernel's command line. Every initramfs obeys it, so that of the source
/// need not be rebuilt. The copy does not resume from shared swap, which may hold the hibernation
/// image of another BE.
pub(super) fn parameter(swap: &Swap) -> String {
    match swap {
        Swap::Own(uuid) => format!("resume=UUID={uuid}"),
        Swap::Shared | Swap::None => "noresume".to_owned(),
    }
}

/// The files of `/etc/initramfs-tools/conf.d` that must change, with their new texts. Any device
/// that they name now is the source's, and shared swap may hold the hibernation image of another
/// BE.
pub(super) fn settle(files: &[(String, String)], swap: &Swap) -> Vec<(String, String)> {
    let named = files.iter().flat_map(|(_, text)| text.lines().filter_map(value));
    let wanted = match swap {
        Swap::Own(uuid) => format!("UUID={uuid}"),
        Swap::Shared => "none".to_owned(),
        // `auto` and `none` do not name a device of the source.
        Swap::None if named.into_iter().any(|v| v != "none" && v != "auto") => "none".to_owned(),
        Swap::None => return Vec::new(),
    };
    let mut changed = Vec::new();
    for (name, text) in files.iter().filter(|(_, text)| text.lines().any(|l| value(l).is_some())) {
        let lines = text.lines().map(|line| match value(line) {
            Some(_) => format!("RESUME={wanted}\n"),
            None => format!("{line}\n"),
        });
        let new: String = lines.collect();
        if new != *text {
            changed.push((name.clone(), new));
        }
    }
    if !files.iter().any(|(_, text)| text.lines().any(|l| value(l).is_some())) {
        let old = files.iter().find(|(name, _)| name == FILE).map_or("", |(_, text)| text.as_str());
        changed.push((FILE.to_owned(), format!("{old}RESUME={wanted}\n")));
    }
    changed
}

/// The value of a line that sets `RESUME`.
fn value(line: &str) -> Option<&str> {
    let assigned = line.trim_start().trim_start_matches("export ").strip_prefix("RESUME=")?;
    Some(assigned.trim_end().trim_matches(['"', '\'']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resume_names_the_copys_own_swap_or_none() {
        let none: &[(&str, &str)] = &[];
        let installed: &[(&str, &str)] =
            &[("driver-policy", "MODULES=most\n"), ("resume", "RESUME=UUID=0d9f\n")];
        let off: &[(&str, &str)] = &[("resume", "RESUME=none\n")];
        let odd: &[(&str, &str)] =
            &[("zz", "# mine\nexport RESUME=\"/dev/sda3\"\n"), ("resume", "RESUME=auto\n")];
        let own = Swap::Own("77".into());
        let to_none = ("resume", "RESUME=none\n");
        type Files<'a> = &'a [(&'a str, &'a str)];
        let table: &[(Files, &Swap, Files)] = &[
            (none, &Swap::None, &[]),
            (none, &Swap::Shared, &[to_none]),
            (none, &own, &[("resume", "RESUME=UUID=77\n")]),
            (installed, &Swap::Shared, &[to_none]),
            (installed, &Swap::None, &[to_none]),
            (installed, &own, &[("resume", "RESUME=UUID=77\n")]),
            (off, &Swap::Shared, &[]),
            (off, &Swap::None, &[]),
            (odd, &Swap::Shared, &[("zz", "# mine\nRESUME=none\n"), to_none]),
        ];
        let owned = |files: Files| -> Vec<(String, String)> {
            files.iter().map(|(n, t)| ((*n).to_owned(), (*t).to_owned())).collect()
        };
        for (files, swap, expected) in table {
            assert_eq!(settle(&owned(files), swap), owned(expected), "{files:?} {swap:?}");
        }
    }
}
