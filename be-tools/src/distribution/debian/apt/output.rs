//! The lines that apt-get and dpkg print while they work: those of `APT::Status-Fd` (apt's
//! README.progress-reporting), and dpkg's on configuration files.

use crate::distribution::package_manager::Event;

/// What a line says.
pub(super) fn event(line: &str) -> Option<Event<'_>> {
    if let Some(rest) = line.strip_prefix("dlstatus:") {
        let percent = rest.split(':').nth(1).and_then(|number| number.parse::<f64>().ok());
        let done = percent.filter(|percent| percent.is_finite()).map(|percent| percent / 100.0);
        return Some(done.map_or(Event::Noise, |done| Event::Downloaded(done.clamp(0.0, 1.0))));
    }
    if let Some(rest) = line.strip_prefix("pmstatus:") {
        return Some(package(rest).unwrap_or(Event::Noise));
    }
    if line.starts_with("pmerror:") || line.starts_with("pmconffile:") {
        return Some(Event::Noise);
    }
    let line = line.trim();
    if let Some(rest) = line.strip_prefix("Configuration file '") {
        return rest.split('\'').next().map(Event::Configuration);
    }
    match line {
        "==> Keeping old config file as default."
        | "==> Using current old file as you requested." => Some(Event::Kept),
        "==> Using new config file as default." | "==> Using new file as you requested." => {
            Some(Event::Replaced)
        }
        _ => None,
    }
}

/// `NAME:PERCENT:MESSAGE`; a name may have an architecture, `libc6:i386`.
fn package(rest: &str) -> Option<Event<'_>> {
    // The percentage is the last field before the message that is a number.
    let mut end = 0;
    let name = rest.split(':').find_map(|field| {
        let start = end;
        end += field.len() + 1;
        (start > 0 && field.parse::<f64>().is_ok()).then(|| &rest[..start - 1])
    })?;
    let message = rest.get(end..)?;
    let is_package = !name.is_empty() && name != "dpkg-exec";
    if !is_package {
        return None;
    }
    Some(if message.starts_with("Installed ") {
        Event::Done(name)
    } else if message.starts_with("Removed ") {
        Event::Removed(name)
    } else {
        Event::Package(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_apt_and_dpkg_are_understood() {
        for (line, expected) in [
            ("dlstatus:3:12.5:Retrieving file 3 of 20", Some(Event::Downloaded(0.125))),
            ("dlstatus:3:nan:x", Some(Event::Noise)),
            ("dlstatus:", Some(Event::Noise)),
            ("pmstatus:nginx:45.5:Unpacking nginx (amd64)", Some(Event::Package("nginx"))),
            ("pmstatus:libc6:i386:50.0:Preparing", Some(Event::Package("libc6:i386"))),
            ("pmstatus:nginx:100:Installed nginx (amd64)", Some(Event::Done("nginx"))),
            ("pmstatus:old:60:Removed old (amd64)", Some(Event::Removed("old"))),
            ("pmstatus:dpkg-exec:0:Running dpkg", Some(Event::Noise)),
            ("pmstatus:", Some(Event::Noise)),
            ("pmerror:nginx:45.5:it failed", Some(Event::Noise)),
            ("Configuration file '/etc/issue'", Some(Event::Configuration("/etc/issue"))),
            (" ==> Keeping old config file as default.", Some(Event::Kept)),
            (" ==> Using new config file as default.", Some(Event::Replaced)),
            (" ==> Using current old file as you requested.", Some(Event::Kept)),
            (" ==> Using new file as you requested.", Some(Event::Replaced)),
            ("Setting up nginx (1.22) ...", None),
            ("", None),
        ] {
            assert_eq!(event(line), expected, "{line:?}");
        }
    }
}
