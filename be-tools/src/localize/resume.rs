//! Where a copy resumes from hibernation: a parameter of its kernel, and `RESUME` in `conf.d` for
//! the initramfs that initramfs-tools(7) makes next. Pure.

use super::mounts::Swap;

/// The file that Debian's installer and administrators keep it in.
pub(super) const FILE: &str = "resume";

/// The parameter of the kernel's command line, which every initramfs obeys whatever it was made
/// with: so the source's need not be made anew. Swap that is not the copy's alone may hold another
/// one's hibernation image.
pub(super) fn parameter(swap: &Swap) -> String {
    match swap {
        Swap::Own(uuid) => format!("resume=UUID={uuid}"),
        Swap::Shared | Swap::None => "noresume".to_owned(),
    }
}

/// The files of `/etc/initramfs-tools/conf.d` that must change, with their new text. Swap that
/// another BE uses may hold that one's hibernation image, and a device named here is the source's.
pub(super) fn settle(files: &[(String, String)], swap: &Swap) -> Vec<(String, String)> {
    let named = files.iter().flat_map(|(_, text)| text.lines().filter_map(value));
    let wanted = match swap {
        Swap::Own(uuid) => format!("UUID={uuid}"),
        Swap::Shared => "none".to_owned(),
        // `auto` and `none` name no device of the source.
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
    fn resume_follows_the_swap() {
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
