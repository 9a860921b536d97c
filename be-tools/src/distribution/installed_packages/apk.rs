//! `/lib/apk/db/installed` (apk-tools). Its sums are of the packed files, so that configuration
//! files cannot be judged by them.

use super::package::Package;

/// The packages.
pub(super) fn parse(installed: &str) -> Vec<Package> {
    installed.split("\n\n").filter_map(package).collect()
}

fn package(paragraph: &str) -> Option<Package> {
    let field = |name| paragraph.lines().find_map(|line| line.strip_prefix(name));
    Some(Package {
        name: field("P:")?.to_owned(),
        version: field("V:").unwrap_or_default().to_owned(),
        configuration: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_read() {
        let found = parse("C:Q1abc=\nP:musl\nV:1.2.4-r2\nA:x86_64\nF:lib\n\nP:zlib\nV:1.3-r0\n\n");
        let names: Vec<_> = found.iter().map(|p| (&*p.name, &*p.version)).collect();
        assert_eq!(names, [("musl", "1.2.4-r2"), ("zlib", "1.3-r0")]);
        assert_eq!(parse("A:x86_64\n"), []);
    }
}
