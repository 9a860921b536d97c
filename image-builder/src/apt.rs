//! A private APT (apt.conf(5)) with its own lists, status and archives in one directory. It does
//! not change the host's package system and does not depend on what is installed there.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::tool::{self, Tool};

/// The keyring that verifies Debian's archives. Any other key that the host trusts, such as a third
/// party's, must not sign the kernel of the rescue image.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Why packages could not be downloaded or unpacked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program of APT failed.
    #[error(transparent)]
    Tool(#[from] tool::Error),
    /// A file of the private state cannot be written or read.
    #[error("{path}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The host cannot verify Debian's archives.
    #[error(
        "{KEYRING} is missing, so Debian's archives cannot be verified: install \
         debian-archive-keyring, or give sources with their keys (signed-by) with --sources FILE \
         (sources.list(5))"
    )]
    NoKeyring,
    /// The host has no source for the release.
    #[error(
        "this host's APT has no sources for Debian {release}; give some with --sources FILE \
         (sources.list(5))"
    )]
    NoSource {
        /// The release that was asked for.
        release: String,
    },
    /// Something is wrong with a package.
    #[error("package {package}: {problem}")]
    Package {
        /// The package.
        package: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// A package to download.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its full version.
    pub version: String,
}

/// APT with private state.
#[derive(Debug)]
pub struct Apt {
    directory: PathBuf,
}

impl Apt {
    /// Sets up private state for `release` in `directory`. The sources are those in the file
    /// `sources`, or else the host's sources, changed to that release.
    ///
    /// # Errors
    /// When the host has no sources for Debian, or `directory` cannot be written.
    pub fn prepare(directory: &Path, release: &str, sources: Option<&Path>) -> Result<Self, Error> {
        let sources = match sources {
            Some(path) => fs::read_to_string(path).map_err(|source| file_error(path, source))?,
            None => host_sources(release)?,
        };
        for part in ["lists/partial", "archives/partial", "empty/partial"] {
            let path = directory.join(part);
            fs::create_dir_all(&path).map_err(|source| file_error(&path, source))?;
        }
        warn_of_old_lists();
        let apt = Self { directory: directory.into() };
        apt.write("sources.list", &sources)?;
        apt.write("status", "")?;
        apt.write("apt.conf", &configuration(directory))?;
        Ok(apt)
    }

    fn write(&self, name: &str, content: &str) -> Result<(), Error> {
        let path = self.directory.join(name);
        fs::write(&path, content).map_err(|source| file_error(&path, source))
    }

    fn call(&self, program: &str) -> Tool {
        Tool::new(program).arg("-c").arg(self.directory.join("apt.conf"))
    }

    /// Directory of the downloaded archives.
    pub fn archives(&self) -> PathBuf {
        self.directory.join("archives")
    }

    /// Downloads the lists of packages.
    ///
    /// # Errors
    /// When a source cannot be reached or its signature is invalid.
    pub fn update(&self) -> Result<(), Error> {
        self.call("apt-get").args(["-q", "-o", "APT::Update::Error-Mode=any", "update"]).run()?;
        Ok(())
    }

    /// The package `name`, in its newest version.
    ///
    /// # Errors
    /// When the release has no such package.
    pub fn package(&self, name: &str) -> Result<Package, Error> {
        Ok(Package { name: name.into(), version: self.field(name, "Version")? })
    }

    /// The first dependency of the package `name`. A kernel's metapackage has only one.
    ///
    /// # Errors
    /// When the release does not have both packages.
    pub fn first_dependency(&self, name: &str) -> Result<Package, Error> {
        let depends = self.field(name, "Depends")?;
        let first = depends.split([',', ' ', '(']).next().unwrap_or_default();
        self.package(first)
    }

    fn field(&self, package: &str, field: &str) -> Result<String, Error> {
        let text = self.call("apt-cache").args(["show", "--no-all-versions", package]).run()?;
        let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(": "));
        value.map(str::to_owned).ok_or_else(|| Error::Package {
            package: package.into(),
            problem: format!("has no field {field}"),
        })
    }

    /// The packages `names` and all their dependencies.
    ///
    /// # Errors
    /// When a package or a dependency of it is not in the release.
    pub fn with_dependencies(&self, names: &[&str]) -> Result<Vec<Package>, Error> {
        let text = self
            .call("apt-get")
            // Packages that are already in the archives would not be listed.
            .arg("-o")
            .arg(option("Dir::Cache::archives", &self.directory.join("empty")))
            .args(["-q", "-y", "--print-uris", "--no-install-recommends"])
            .arg("install")
            .args(names)
            .run()?;
        Ok(text.lines().filter_map(package_of_uri_line).collect())
    }

    /// Downloads `packages` into [`Apt::archives`]. Those that are already there are only verified.
    ///
    /// # Errors
    /// When a download fails or has a wrong checksum.
    pub fn download(&self, packages: &[Package]) -> Result<(), Error> {
        self.call("apt-get")
            .args(["-q", "download"])
            .args(packages.iter().map(|p| format!("{}={}", p.name, p.version)))
            .directory(&self.archives())
            .run()?;
        Ok(())
    }
}

fn file_error(path: &Path, source: io::Error) -> Error {
    Error::File { path: path.into(), source }
}

fn option(name: &str, path: &Path) -> String {
    format!("{name}={}/", path.display())
}

/// What authenticates packages, with the values that no configuration of the host may lower.
const AUTHENTICATION: [(&str, &str); 6] = [
    ("APT::Get::AllowUnauthenticated", "false"),
    ("APT::Get::Force-Yes", "false"),
    ("APT::Get::allow-downgrades", "false"),
    ("Acquire::AllowInsecureRepositories", "false"),
    ("Acquire::AllowWeakRepositories", "false"),
    ("Acquire::AllowDowngradeToInsecureRepositories", "false"),
];

/// Warns if the host's APT accepts lists of packages that are past their date. A host with a mirror
/// that keeps old states needs that; on any other, somebody can give it old packages.
fn warn_of_old_lists() {
    for setting in ["Acquire::Check-Valid-Until", "Acquire::Check-Date"] {
        // If it cannot be read, APT itself says why in a moment.
        let dump = Tool::new("apt-config").args(["dump", setting]).run().unwrap_or_default();
        if dump.lines().any(|line| line.ends_with("\"false\";") || line.ends_with("\"0\";")) {
            log::warn!("{setting} is off on this host: the packages may be older than the newest");
        }
    }
}

/// Clears the hooks of the host's configuration, which would act on the host, and requires that
/// packages are authenticated. Everything else in it, such as a proxy, still applies.
fn configuration(directory: &Path) -> String {
    let mut text = String::new();
    for hooks in [
        "APT::Update::Pre-Invoke",
        "APT::Update::Post-Invoke",
        "APT::Update::Post-Invoke-Success",
        "DPkg::Pre-Invoke",
        "DPkg::Post-Invoke",
        "DPkg::Pre-Install-Pkgs",
        "APT::Architectures",
        "APT::Default-Release",
    ] {
        text.push_str(&format!("#clear {hooks};\n"));
    }
    for (setting, value) in AUTHENTICATION {
        text.push_str(&format!("{setting} \"{value}\";\n"));
    }
    let directory = directory.display();
    text.push_str(&format!(
        r#"APT::Architecture "amd64";
APT::Architectures {{ "amd64"; }};
APT::Sandbox::User "";
APT::Install-Recommends "false";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Dir::State "{directory}";
Dir::State::lists "{directory}/lists/";
Dir::State::status "{directory}/status";
Dir::Cache "{directory}";
Dir::Cache::archives "{directory}/archives/";
Dir::Etc::sourcelist "{directory}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
"#
    ));
    text
}

/// The host's sources for Debian, changed to `release`.
fn host_sources(release: &str) -> Result<String, Error> {
    let targets = Tool::new("apt-get")
        .args(["indextargets", "--format"])
        .arg("$(REPO_URI) $(RELEASE) $(COMPONENT)")
        .arg("Created-By: Packages")
        .run()?;
    let os_release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    if !Path::new(KEYRING).exists() {
        return Err(Error::NoKeyring);
    }
    let text = sources_of(&targets, debian_codename(&os_release), release);
    if text.is_empty() {
        return Err(Error::NoSource { release: release.into() });
    }
    Ok(text)
}

/// The code name of the Debian release that `os_release` describes.
fn debian_codename(os_release: &str) -> Option<&str> {
    let value = |key: &str| {
        os_release
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .map(|value| value.trim_matches('"'))
    };
    (value("ID") == Some("debian")).then(|| value("VERSION_CODENAME")).flatten()
}

/// Renders a sources.list(5) for `release` from lines of "URI SUITE COMPONENT". Suites of the
/// host's own release, `codename`, are changed to those of `release`.
fn sources_of(targets: &str, codename: Option<&str>, release: &str) -> String {
    let mut lines = BTreeSet::new();
    for line in targets.lines() {
        let mut words = line.split_whitespace();
        let (Some(uri), Some(suite), Some("main")) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let (base, pocket) = suite.find('-').map_or((suite, ""), |at| suite.split_at(at));
        let known = base == release || Some(base) == codename;
        if known && matches!(pocket, "" | "-updates" | "-security") {
            lines.insert(format!(
                "deb [arch=amd64 signed-by={KEYRING}] {uri} {release}{pocket} main\n"
            ));
        }
    }
    lines.into_iter().collect()
}

/// Parses a line of `apt-get --print-uris`: `'URI' NAME_VERSION_ARCH.deb SIZE CHECKSUM`.
fn package_of_uri_line(line: &str) -> Option<Package> {
    let file = line.strip_prefix('\'')?.split_whitespace().nth(1)?;
    let mut parts = file.strip_suffix(".deb")?.split('_');
    Some(Package { name: parts.next()?.into(), version: parts.next()?.replace("%3a", ":") })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGETS: &str = "\
http://mirror.example/debian/ bookworm main
http://mirror.example/debian/ bookworm contrib
http://mirror.example/debian/ bookworm-updates main
http://mirror.example/debian-security/ bookworm-security main
http://mirror.example/debian/ bookworm-backports main
http://other.example/ nodistro main
";

    #[test]
    fn the_hosts_sources_are_changed_to_another_release() {
        assert_eq!(
            sources_of(TARGETS, Some("bookworm"), "trixie").replace(KEYRING, "KEYS"),
            "\
deb [arch=amd64 signed-by=KEYS] http://mirror.example/debian-security/ trixie-security main
deb [arch=amd64 signed-by=KEYS] http://mirror.example/debian/ trixie main
deb [arch=amd64 signed-by=KEYS] http://mirror.example/debian/ trixie-updates main
"
        );
    }

    #[test]
    fn no_setting_of_the_host_lets_unauthenticated_packages_in() {
        let directory = tempfile::tempdir().unwrap();
        let careless = directory.path().join("careless.conf");
        let lowered = AUTHENTICATION.map(|(setting, _)| format!("{setting} \"true\";\n")).concat();
        fs::write(&careless, lowered).unwrap();
        let ours = directory.path().join("ours.conf");
        fs::write(&ours, configuration(directory.path())).unwrap();
        // APT_CONFIG is read before the files of -c, as the host's own files are.
        let script = "APT_CONFIG=$1 exec apt-config -c \"$2\" dump";
        let dump = Tool::new("sh").args(["-c", script, "sh"]).arg(careless).arg(ours).run();
        let dump = dump.unwrap();
        for (setting, value) in AUTHENTICATION {
            assert!(dump.contains(&format!("{setting} \"{value}\";\n")), "{setting}\n{dump}");
        }
    }

    #[test]
    fn a_host_of_another_distribution_has_no_source() {
        assert_eq!(sources_of(TARGETS, None, "trixie"), "");
        assert_eq!(debian_codename("ID=ubuntu\nVERSION_CODENAME=noble\n"), None);
        assert_eq!(debian_codename("ID=debian\nVERSION_CODENAME=\"trixie\"\n"), Some("trixie"));
    }

    #[test]
    fn versions_with_an_epoch_are_read_from_uris() {
        let line = "'http://mirror.example/pool/main/z/zlib/zlib1g_1.2.13.dfsg-1_amd64.deb' \
                    zlib1g_1%3a1.2.13.dfsg-1_amd64.deb 86684 MD5Sum:0f";
        assert_eq!(
            package_of_uri_line(line),
            Some(Package { name: "zlib1g".into(), version: "1:1.2.13.dfsg-1".into() })
        );
        assert_eq!(package_of_uri_line("Reading package lists..."), None);
    }
}
