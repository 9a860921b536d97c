//! What Lifeboat asks of a distribution's package manager. It is the one of the BE that is changed,
//! and runs inside it: the package manager of the running system never sees the BE.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::error::{Doing, Error, Result};
use crate::host::Host;
use crate::plan::PackageChanges;
use crate::root_dir::RootDir;
use crate::sandbox::WORK;
use crate::sandbox::programs::Programs;

/// The largest package file that is handed in, in bytes.
const MAX_PACKAGE_FILE: u64 = 2 << 30;

/// What is to become of the packages of a system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Every package becomes the newest that its sources have.
    All,
    /// Only packages with a security fix change.
    Security,
    /// The system becomes this release of its distribution.
    Release(String),
    /// These packages are installed, with what they need.
    Install(Vec<String>),
    /// These packages are removed. Their configuration stays.
    Remove(Vec<String>),
    /// The packages in these files of the running system are installed, with what they need.
    Files(Vec<PathBuf>),
}

/// What becomes of a configuration file that the administrator and the package have both changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConfigurationPolicy {
    /// The administrator's stays; the package's lies beside it.
    #[default]
    Keep,
    /// The package's is installed; the administrator's lies beside it.
    Replace,
}

/// What is wanted of a package manager.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The change.
    pub change: &'a Change,
    /// What becomes of changed configuration files.
    pub configuration: ConfigurationPolicy,
    /// Whether an earlier change was interrupted, and has to be finished first.
    pub is_interrupted: bool,
}

/// Where a package manager works out a plan.
#[derive(Clone, Copy)]
pub struct Workplace<'a> {
    /// The running system, whose proxy is used and whose downloads are not downloaded again.
    pub host: &'a Host,
    /// The BE, which is mounted read-only.
    pub root: &'a RootDir,
    /// The work directory, which the BE's programs see as [`crate::sandbox::WORK`] and can write to.
    pub work: &'a RootDir,
    /// The programs of the BE, without the network.
    pub inside: &'a dyn Programs,
    /// The programs of the BE, with the network: only for what downloads.
    pub online: &'a dyn Programs,
}

/// What a package manager will do.
#[derive(Clone, Debug, Default)]
pub struct PackagePlan {
    /// What happens to the packages.
    pub changes: PackageChanges,
    /// Files that are written in the BE first.
    pub files: Vec<NewFile>,
    /// Downloads of the running system that the BE needs too.
    pub reused: Vec<Reused>,
    /// What the administrator should know.
    pub notes: Vec<String>,
    /// What is run inside the BE, in this order.
    pub commands: Vec<PackageCommand>,
}

/// A file that is written in the BE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewFile {
    /// Its path from the BE's root.
    pub path: PathBuf,
    /// Its content.
    pub text: String,
}

/// A file of the running system that is copied into the BE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reused {
    /// Its path in the running system.
    pub from: PathBuf,
    /// Its path from the BE's root.
    pub to: PathBuf,
    /// Bytes.
    pub size: u64,
}

/// A command that is run inside the BE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageCommand {
    /// What it does, as a step of a plan.
    pub line: String,
    /// Its words.
    pub words: Vec<OsString>,
    /// Whether it downloads, and so needs the network. Then it changes nothing but what is cached.
    pub network: bool,
}

/// The commands of a plan, as they are put together.
#[derive(Debug, Default)]
pub(super) struct Commands(Vec<PackageCommand>);

impl Commands {
    /// Adds one that changes something.
    pub(super) fn add(&mut self, line: impl Into<String>, words: &[&str]) {
        self.push(line.into(), words, false);
    }

    /// Adds the one that downloads what is installed, if there is something.
    pub(super) fn download(&mut self, changes: &PackageChanges, words: &[&str]) {
        let count = changes.installed();
        if count > 0 {
            let size = indicatif::HumanBytes(changes.download);
            self.push(format!("download {} ({size})", packages(count)), words, true);
        }
    }

    /// Adds the one that downloads what is installed, after it has run this script, by which the BE
    /// has the lists with which the plan was made: both change only what is cached, so that a failure
    /// leaves the BE as it was. `words` are the words of a shell's arguments after the script.
    pub(super) fn take_over_and_download(
        &mut self,
        changes: &PackageChanges,
        script: &str,
        words: &[&str],
    ) {
        let script = format!("{script} && exec \"$0\" \"$@\"");
        self.download(changes, &[&["sh", "-c", &script], words].concat());
    }

    /// Adds the one that runs this script, by which the BE has the lists with which the plan was
    /// made.
    pub(super) fn take_over(&mut self, script: &str) {
        self.add("take over the lists of packages", &["sh", "-c", script]);
    }

    /// The commands.
    pub(super) fn list(self) -> Vec<PackageCommand> {
        self.0
    }

    fn push(&mut self, line: String, words: &[&str], network: bool) {
        let words = words.iter().map(OsString::from).collect();
        self.0.push(PackageCommand { line, words, network });
    }
}

/// What a line that a package manager prints says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event<'a> {
    /// This part of the download is done, from 0 to 1.
    Downloaded(f64),
    /// It works on this package.
    Package(&'a str),
    /// It has installed this package.
    Done(&'a str),
    /// It has removed this package.
    Removed(&'a str),
    /// What was decided about this configuration file comes next.
    Configuration(&'a str),
    /// The administrator's file stays.
    Kept,
    /// The administrator's file at this path stays.
    KeptAt(&'a str),
    /// The package's file was installed.
    Replaced,
    /// The package's file was installed at this path.
    ReplacedAt(&'a str),
    /// A package's script failed, although the program goes on and ends as if it had not.
    Failed,
    /// It is for programs only, and says nothing else.
    Noise,
}

/// Puts package files of the running system into the work directory. Returns their names inside.
/// `is_package` looks at the name and the content; `kind` is what it looks for.
///
/// # Errors
/// One of them is not a package, is too large, or cannot be read.
pub(super) fn hand_in(
    place: &Workplace<'_>,
    files: &[PathBuf],
    kind: &str,
    is_package: impl Fn(&str, &[u8]) -> bool,
) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for (number, file) in files.iter().enumerate() {
        let bytes = read_at_most(file, MAX_PACKAGE_FILE)?;
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = name.unwrap_or_default();
        if !is_package(&name, &bytes) {
            return Err(Error::Usage(format!("{} is not {kind}", file.display())));
        }
        // Two may have one name.
        let name = format!("packages/{number}/{name}");
        place.work.write(&name, &bytes, 0o644)?;
        names.push(format!("{WORK}/{name}"));
    }
    Ok(names)
}

fn read_at_most(file: &Path, limit: u64) -> Result<Vec<u8>> {
    let size = std::fs::metadata(file).at("reading", file)?.len();
    if size > limit {
        let why = format!("it is larger than {} MiB", limit >> 20);
        return Err(Error::Format { path: file.to_owned(), why });
    }
    std::fs::read(file).at("reading", file)
}

/// Adds names to the words of a command, so that none of them can be taken for an option.
pub(super) fn with_names<'a>(mut words: Vec<&'a str>, names: &'a [String]) -> Vec<&'a str> {
    if !names.is_empty() {
        words.push("--");
        words.extend(names.iter().map(String::as_str));
    }
    words
}

/// `1 package`, `2 packages`.
pub(super) fn packages(count: usize) -> String {
    format!("{count} {}", if count == 1 { "package" } else { "packages" })
}

/// A package manager.
pub trait PackageManager: std::fmt::Debug {
    /// The name of its program.
    fn name(&self) -> &'static str;

    /// Fetches the lists of packages into the work directory, and works out what a change would do.
    /// Nothing else is written to.
    ///
    /// # Errors
    /// The lists cannot be fetched, or the change cannot be made.
    fn plan(&self, workplace: &Workplace<'_>, wanted: &Wanted<'_>) -> Result<PackagePlan>;

    /// What a line says that one of the planned commands has printed.
    fn event<'a>(&self, line: &'a str) -> Option<Event<'a>>;
}
