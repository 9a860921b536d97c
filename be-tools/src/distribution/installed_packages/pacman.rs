//! `/var/lib/pacman/local/*/{desc,files}` (libalpm).

use std::path::Path;

use super::package::{ConfigurationFile, MAX_DATABASE, Package, is_md5};
use crate::error::Result;
use crate::root_dir::RootDir;

/// The packages.
///
/// # Errors
/// A file cannot be read.
pub(super) fn read(root: &RootDir) -> Result<Vec<Package>> {
    let place = Path::new("var/lib/pacman/local");
    let mut packages = Vec::new();
    for name in root.names(place)? {
        let text = |file: &str| {
            let bytes = root.read_at_most(place.join(&name).join(file), MAX_DATABASE)?;
            Ok::<_, crate::Error>(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
        };
        let Some(desc) = text("desc").ok().flatten() else { continue };
        packages.extend(parse(&desc, &text("files")?.unwrap_or_default()));
    }
    Ok(packages)
}

/// A package, from the text of its two files.
pub(super) fn parse(desc: &str, files: &str) -> Option<Package> {
    let name = section(desc, "%NAME%").next()?.to_owned();
    let version = section(desc, "%VERSION%").next().unwrap_or_default().to_owned();
    let configuration = section(files, "%BACKUP%").filter_map(|line| {
        let (path, md5) = line.split_once('\t')?;
        let path = Path::new("/").join(path);
        is_md5(md5).then(|| ConfigurationFile { path, md5: md5.to_owned() })
    });
    Some(Package { name, version, configuration: configuration.collect() })
}

/// The lines after a heading, up to the next empty one.
pub(super) fn section<'a>(text: &'a str, heading: &'a str) -> impl Iterator<Item = &'a str> {
    let after = text.lines().skip_while(move |line| *line != heading).skip(1);
    after.take_while(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_read_from_its_two_files() {
        let desc = "%NAME%\nfilesystem\n\n%VERSION%\n2024.04.07-1\n\n%BASE%\nfilesystem\n";
        let files = "%FILES%\netc/\netc/fstab\n\n%BACKUP%\n\
            etc/fstab\t5e5f7a1e6c0e3b1b6f1f6d0f7d1c2b3a\netc/odd\tnot a sum\n";
        let found = parse(desc, files).unwrap();
        assert_eq!((&*found.name, &*found.version), ("filesystem", "2024.04.07-1"));
        let [file] = &found.configuration[..] else { panic!("{found:?}") };
        assert_eq!(file.path, Path::new("/etc/fstab"));
        assert_eq!(parse("%VERSION%\n1\n", files), None);
    }
}
