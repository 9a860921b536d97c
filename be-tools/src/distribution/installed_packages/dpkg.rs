//! `/var/lib/dpkg/status` (deb822(5), dpkg-query(1)).

use super::package::{ConfigurationFile, Package, is_md5};

/// The packages that are at least unpacked.
pub(super) fn parse(status: &str) -> Vec<Package> {
    status.split("\n\n").filter_map(package).collect()
}

fn package(paragraph: &str) -> Option<Package> {
    let (mut name, mut version, mut architecture) = (None, None, "");
    let (mut is_installed, mut is_for_several) = (false, false);
    let (mut configuration, mut in_files) = (Vec::new(), false);
    for line in paragraph.lines() {
        if line.starts_with([' ', '\t']) {
            configuration.extend(in_files.then(|| file(line)).flatten());
            continue;
        }
        let Some((field, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        in_files = field.eq_ignore_ascii_case("Conffiles");
        match field.to_ascii_lowercase().as_str() {
            "package" => name = Some(value),
            "version" => version = Some(value),
            "architecture" => architecture = value,
            "multi-arch" => is_for_several = value == "same",
            // The third word; a package of which only the configuration is left is not installed.
            "status" => {
                let state = value.split_whitespace().nth(2);
                is_installed = !matches!(state, None | Some("not-installed" | "config-files"));
            }
            _ => {}
        }
    }
    let name = match name? {
        name if is_for_several => format!("{name}:{architecture}"),
        name => name.to_owned(),
    };
    let version = version.unwrap_or_default().to_owned();
    is_installed.then_some(Package { name, version, configuration })
}

/// ` /etc/issue 9d0d…`; one that a newer version no longer has ends in `obsolete`.
fn file(line: &str) -> Option<ConfigurationFile> {
    let mut words: Vec<&str> = line.trim().split(' ').collect();
    words.retain(|word| *word != "remove-on-upgrade");
    let (md5, path) = match *words.as_slice() {
        [.., "obsolete"] => return None,
        [ref path @ .., md5] => (md5, path.join(" ")),
        [] => return None,
    };
    // `newconffile` stands for one that is not configured yet.
    is_md5(md5).then(|| ConfigurationFile { path: path.into(), md5: md5.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From a Debian 12, shortened.
    const STATUS: &str = "\
Package: adduser
Status: install ok installed
Priority: important
Multi-Arch: foreign
Architecture: all
Version: 3.134
Conffiles:
 /etc/adduser.conf 3a16ccb4c3e0d6d4a5a8bd7a2f8a2b1c
 /etc/deluser.conf 99c3d5a6a8bd7a2f8a2b1c3a16ccb4c3 obsolete
 /etc/new.conf newconffile
Description: add and remove users
 Conffiles: /not/one 3a16ccb4c3e0d6d4a5a8bd7a2f8a2b1c

Package: libc6
Status: install ok installed
Architecture: amd64
Multi-Arch: same
Version: 2.36-9+deb12u9

Package: nginx
Status: deinstall ok config-files
Architecture: amd64
Version: 1.22.1-9

Package: half
Status: install reinstreq half-installed
Architecture: amd64
Version: 1.0
";

    #[test]
    fn installed_packages_and_their_configuration_files_are_read() {
        let found = parse(STATUS);
        let names: Vec<_> = found.iter().map(|p| (&*p.name, &*p.version)).collect();
        assert_eq!(
            names,
            [("adduser", "3.134"), ("libc6:amd64", "2.36-9+deb12u9"), ("half", "1.0")]
        );
        let md5 = "3a16ccb4c3e0d6d4a5a8bd7a2f8a2b1c".to_owned();
        let file = ConfigurationFile { path: "/etc/adduser.conf".into(), md5 };
        assert_eq!(found[0].configuration, [file]);
    }

    #[test]
    fn garbage_is_no_package() {
        for text in ["", "\n\n\n", "Package", "Package: x", ":", "Status: install ok installed"] {
            assert_eq!(parse(text), [], "{text:?}");
        }
    }
}
