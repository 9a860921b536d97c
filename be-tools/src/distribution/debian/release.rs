//! The sources of another release of Debian: sources.list(5), in both of its forms.
//!
//! Lines of Debian's own archives get the new release's name. Everything else is switched off, as
//! the release notes ask: packages of third parties are made for one release.

mod deb822;
mod one_line;
mod rewriting;

use std::path::{Path, PathBuf};

use crate::distribution::package_manager::NewFile;
use crate::environment::OperatingSystem;
use crate::error::{Error, Result};
use crate::root_dir::RootDir;
use rewriting::{Rewriting, Rewritten};

/// The form of a file of sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    OneLine,
    Deb822,
}

impl Form {
    fn rewrite(self, text: &str, rewriting: &Rewriting) -> Rewritten {
        match self {
            Form::OneLine => one_line::rewrite(text, rewriting),
            Form::Deb822 => deb822::rewrite(text, rewriting),
        }
    }
}

/// For `fuzz/`: a file of sources of bookworm as it is for trixie, in both forms.
pub(crate) fn for_trixie(text: &str) -> Result<[String; 2]> {
    let rewriting = Rewriting::between("bookworm", "trixie")?;
    Ok([Form::OneLine, Form::Deb822].map(|form| form.rewrite(text, &rewriting).text))
}

/// How the sources change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ReleaseChange {
    /// All files of sources as they will be.
    pub(super) sources: Vec<NewFile>,
    /// Those that differ from what is there.
    pub(super) files: Vec<NewFile>,
    /// What was switched off or added.
    pub(super) notes: Vec<String>,
}

/// Works out the sources of a release.
///
/// # Errors
/// The system is not a Debian, the release is not the next one (or, after an interruption, the same),
/// or none of the sources is Debian's.
pub(super) fn change(root: &RootDir, release: &str, is_interrupted: bool) -> Result<ReleaseChange> {
    let os_release = root.text("etc/os-release")?.unwrap_or_default();
    let field = |name: &str| OperatingSystem::value(&os_release, name).unwrap_or_default();
    let (os, codename) = (field("ID"), field("VERSION_CODENAME"));
    if os != "debian" {
        return Err(Error::Usage(format!(
            "--release is for Debian, and this is '{os}': use its own way with `be run --network`"
        )));
    }
    let rewriting = Rewriting::between(&codename, release)?;
    if codename == rewriting.to && !is_interrupted {
        return Err(Error::Usage(format!(
            "it is {codename} already: --dist upgrades its packages"
        )));
    }
    let mut change = ReleaseChange::default();
    let mut is_found = false;
    for path in files(root)? {
        let text = root.text(&path)?.unwrap_or_default();
        let form = path.extension().is_some_and(|e| e == "sources");
        let form = if form { Form::Deb822 } else { Form::OneLine };
        let edited = form.rewrite(&text, &rewriting);
        is_found |= edited.has_debian;
        let of = |note: &String| format!("/{}: {note}", path.display());
        change.notes.extend(edited.notes.iter().map(of));
        let file = NewFile { path, text: edited.text };
        if file.text != text {
            change.files.push(file.clone());
        }
        change.sources.push(file);
    }
    // An interrupted upgrade has already written them.
    let is_there = codename == rewriting.to || is_written(&change.sources, rewriting.to);
    if !is_found && !is_there {
        return Err(Error::Usage(format!(
            "none of its package sources in /etc/apt is one of Debian {codename}: add one"
        )));
    }
    Ok(change)
}

fn is_written(sources: &[NewFile], release: &str) -> bool {
    sources.iter().any(|file| file.text.split_whitespace().any(|word| word == release))
}

/// The files that apt reads.
fn files(root: &RootDir) -> Result<Vec<PathBuf>> {
    let directory = Path::new("etc/apt/sources.list.d");
    let mut files: Vec<PathBuf> = Vec::new();
    files.extend(root.exists("etc/apt/sources.list").then(|| "etc/apt/sources.list".into()));
    let names = root.names(directory)?.into_iter().map(|name| directory.join(name));
    files.extend(names.filter(|p| p.extension().is_some_and(|e| e == "list" || e == "sources")));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root_dir::testing::tree;

    #[test]
    fn sources_of_third_parties_are_switched_off_and_named() {
        let os = "ID=debian\nVERSION_CODENAME=bookworm\n";
        let list = "# comment\n\
            deb http://mirror.example/debian bookworm main contrib # base\n\
            deb [arch=amd64 signed-by=/k.gpg] https://docker.example/linux/debian bookworm stable\n\
            deb http://mirror.example/debian bookworm-backports main\n";
        let sources = "Types: deb\nURIs: https://php.example/php\nSuites: bookworm\n\
            Components: main\n";
        let (_directory, root) = tree(&[
            ("etc/os-release", os),
            ("etc/apt/sources.list", list),
            ("etc/apt/sources.list.d/php.sources", sources),
            ("etc/apt/sources.list.d/notes.txt", "deb nothing"),
        ]);
        let change = change(&root, "trixie", false).unwrap();
        assert_eq!(
            change.files[0].text,
            "# comment\n\
            deb http://mirror.example/debian trixie main contrib # base\n\
            # Switched off for trixie: deb [arch=amd64 signed-by=/k.gpg] \
            https://docker.example/linux/debian bookworm stable\n\
            # Switched off for trixie: deb http://mirror.example/debian bookworm-backports main\n"
        );
        assert_eq!(
            change.files[1].text,
            "Types: deb\nURIs: https://php.example/php\nSuites: bookworm\n\
            Components: main\nEnabled: no\n"
        );
        assert_eq!(change.notes.len(), 3, "{:?}", change.notes);
        assert!(change.notes[2].contains("php.sources: https://php.example/php bookworm"));
        let refused = super::change(&root, "forky", false).unwrap_err().to_string();
        assert!(refused.contains("from bookworm to trixie"), "{refused}");
    }

    #[test]
    fn a_system_without_sources_of_debian_or_another_one_is_refused() {
        for (os, list, why) in [
            ("ID=debian\nVERSION_CODENAME=bookworm\n", "", "none of its package sources"),
            ("ID=debian\nVERSION_CODENAME=trixie\n", "", "it is trixie already"),
            ("ID=ubuntu\nVERSION_CODENAME=jammy\n", "", "this is 'ubuntu'"),
        ] {
            let (_directory, root) =
                tree(&[("etc/os-release", os), ("etc/apt/sources.list", list)]);
            let error = change(&root, "trixie", false).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
