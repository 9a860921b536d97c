//! The options of each command, as its manual page has them, and the verb that they become.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Command, CommandFactory, FromArgMatches, Parser};

use super::placement;
use crate::error::{Doing, Error, Result};

/// What a command becomes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Deed {
    /// The words of a `be` command line, without the program.
    Verb(Vec<OsString>),
    /// The table of lustatus, of one BE or of all.
    Status(Option<String>),
    /// The description of a BE is in this file; `-` is standard input.
    Describe { be: String, file: String },
    /// The only thing that is scheduled is cancelled.
    CancelOnly,
}

/// All names.
pub(super) const NAMES: [&str; 15] = [
    "lu",
    "luactivate",
    "lucancel",
    "lucompare",
    "lucreate",
    "lucurr",
    "ludelete",
    "ludesc",
    "lufslist",
    "lumake",
    "lumount",
    "lurename",
    "lustatus",
    "luumount",
    "luupgrade",
];

/// The definitions of all commands, in the order of [`NAMES`].
pub(in crate::cli) fn commands() -> impl Iterator<Item = Command> {
    let commands = [
        Lu::command(),
        LuActivate::command(),
        LuCancel::command(),
        LuCompare::command(),
        LuCreate::command(),
        LuCurr::command(),
        LuDelete::command(),
        LuDesc::command(),
        LuFsList::command(),
        LuMake::command(),
        LuMount::command(),
        LuRename::command(),
        LuStatus::command(),
        LuUmount::command(),
        LuUpgrade::command(),
    ];
    NAMES.into_iter().zip(commands).map(|(name, command)| command.name(name))
}

/// The options of every command.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Common {
    /// Also write errors and warnings to this file
    #[arg(short = 'l', value_name = "FILE")]
    pub(super) error_log: Option<PathBuf>,
    /// Write what the command prints to this file
    #[arg(short = 'o', value_name = "FILE")]
    pub(super) out_file: Option<PathBuf>,
    /// XML, which be does not print
    #[arg(short = 'X')]
    pub(super) xml: bool,
}

/// A command with its options.
#[derive(Debug)]
pub(super) enum Request {
    Lu(Lu),
    Activate(LuActivate),
    Cancel(LuCancel),
    Compare(LuCompare),
    Create(LuCreate),
    Current(LuCurr),
    Delete(LuDelete),
    Describe(LuDesc),
    FileSystems(LuFsList),
    Make(LuMake),
    Mount(LuMount),
    Rename(LuRename),
    Status(LuStatus),
    Umount(LuUmount),
    Upgrade(LuUpgrade),
}

fn parsed<A: CommandFactory + FromArgMatches>(args: &[OsString]) -> Result<A, clap::Error> {
    let matches = A::command().max_term_width(100).try_get_matches_from(args)?;
    A::from_arg_matches(&matches)
}

impl Request {
    pub(super) fn parse(name: &str, args: &[OsString]) -> Result<Self, clap::Error> {
        Ok(match name {
            "luactivate" => Request::Activate(parsed(args)?),
            "lucancel" => Request::Cancel(parsed(args)?),
            "lucompare" => Request::Compare(parsed(args)?),
            "lucreate" => Request::Create(parsed(args)?),
            "lucurr" => Request::Current(parsed(args)?),
            "ludelete" => Request::Delete(parsed(args)?),
            "ludesc" => Request::Describe(parsed(args)?),
            "lufslist" => Request::FileSystems(parsed(args)?),
            "lumake" => Request::Make(parsed(args)?),
            "lumount" => Request::Mount(parsed(args)?),
            "lurename" => Request::Rename(parsed(args)?),
            "lustatus" => Request::Status(parsed(args)?),
            "luumount" => Request::Umount(parsed(args)?),
            "luupgrade" => Request::Upgrade(parsed(args)?),
            _ => Request::Lu(parsed(args)?),
        })
    }

    pub(super) fn common(&self) -> Common {
        match self {
            Request::Lu(command) => &command.common,
            Request::Activate(command) => &command.common,
            Request::Cancel(command) => &command.common,
            Request::Compare(command) => &command.common,
            Request::Create(command) => &command.common,
            Request::Current(command) => &command.common,
            Request::Delete(command) => &command.common,
            Request::Describe(command) => &command.common,
            Request::FileSystems(command) => &command.common,
            Request::Make(command) => &command.common,
            Request::Mount(command) => &command.common,
            Request::Rename(command) => &command.common,
            Request::Status(command) => &command.common,
            Request::Umount(command) => &command.common,
            Request::Upgrade(command) => &command.common,
        }
        .clone()
    }

    /// # Errors
    /// It asks for what Linux or `be` does not have.
    pub(super) fn deed(self) -> Result<Deed> {
        let words = match self {
            Request::Lu(_) => Words::new("menu"),
            Request::Activate(command) => command.words()?,
            Request::Cancel(LuCancel { name: None, .. }) => return Ok(Deed::CancelOnly),
            Request::Cancel(LuCancel { name: Some(name), .. }) => {
                Words::new("cancel").word(name).word("--yes")
            }
            Request::Compare(command) => command.words()?,
            Request::Create(command) => command.words()?,
            Request::Current(command) => command.words()?,
            Request::Delete(command) => command.words(),
            Request::Describe(command) => return command.deed(),
            Request::FileSystems(command) => {
                Words::new("filesystems").word(one("lufslist", command.option, command.name)?)
            }
            Request::Make(command) => command.words()?,
            Request::Mount(command) => command.words()?,
            Request::Rename(command) => Words::new("rename").word(command.old).word(command.new),
            Request::Status(command) => {
                return at_most_one("lustatus", command.option, command.name).map(Deed::Status);
            }
            Request::Umount(command) => command.words()?,
            Request::Upgrade(command) => command.words()?,
        };
        Ok(Deed::Verb(words.0))
    }
}

/// The words of a command line of `be`.
struct Words(Vec<OsString>);

impl Words {
    fn new(verb: &str) -> Self {
        Words(vec![verb.into()])
    }

    fn word(mut self, word: impl Into<OsString>) -> Self {
        self.0.push(word.into());
        self
    }

    fn option(self, name: &str, value: Option<impl Into<OsString>>) -> Self {
        match value {
            Some(value) => self.word(name).word(value),
            None => self,
        }
    }

    fn flag(self, name: &str, is_set: bool) -> Self {
        if is_set { self.word(name) } else { self }
    }
}

/// The BE of a command that takes it with `-n` or without.
fn one(command: &str, option: Option<String>, name: Option<String>) -> Result<String> {
    at_most_one(command, option, name)?
        .ok_or_else(|| Error::Usage(format!("{command}: name the boot environment with -n NAME")))
}

/// As [`one`], where the name may be left out.
fn at_most_one(
    command: &str,
    option: Option<String>,
    name: Option<String>,
) -> Result<Option<String>> {
    match (option, name) {
        (name, None) | (None, name) => Ok(name),
        (Some(_), Some(name)) => Err(Error::Usage(format!(
            "{command}: the boot environment is named by -n, so '{name}' is one word too many"
        ))),
    }
}

fn refuse<T>(option: &str, why: &str) -> Result<T> {
    Err(Error::Usage(format!("{option}: {why}")))
}

/// Show the boot environments, and act on them by keys: be menu
#[derive(Debug, Parser)]
pub(super) struct Lu {
    #[command(flatten)]
    common: Common,
}

/// Choose the boot environment that boots next: be activate
#[derive(Debug, Parser)]
pub(super) struct LuActivate {
    /// Synchronize files at the next boot
    #[arg(short = 's')]
    synchronize: bool,
    #[arg(short = 'n', value_name = "NAME")]
    option: Option<String>,
    /// The boot environment; without it, print the one that boots next
    name: Option<String>,
    #[command(flatten)]
    common: Common,
}

impl LuActivate {
    fn words(self) -> Result<Words> {
        Ok(match at_most_one("luactivate", self.option, self.name)? {
            Some(name) => {
                let words = Words::new("activate").word(name);
                (if self.synchronize { words.word("--sync") } else { words }).word("--yes")
            }
            None => Words::new("activate"),
        })
    }
}

/// Cancel what is scheduled: be cancel
#[derive(Debug, Parser)]
pub(super) struct LuCancel {
    /// The boot environment; without it, the only one for which something is scheduled
    name: Option<String>,
    #[command(flatten)]
    common: Common,
}

/// Compare boot environments: be compare --content
#[derive(Debug, Parser)]
pub(super) struct LuCompare {
    /// Compare only the files in this list
    #[arg(short = 'i', value_name = "FILE")]
    list: Option<PathBuf>,
    /// Compare only text files
    #[arg(short = 't')]
    text_only: bool,
    /// The boot environment
    name: String,
    /// Another one, instead of the running one
    other: Option<String>,
    #[command(flatten)]
    common: Common,
}

impl LuCompare {
    fn words(self) -> Result<Words> {
        if self.list.is_some() || self.text_only {
            return refuse("-i and -t", "be compares all files, but for those of --exclude");
        }
        let words = Words::new("compare").word(self.name);
        let words = match self.other {
            Some(other) => words.word(other),
            None => words,
        };
        Ok(words.word("--content"))
    }
}

/// Make a boot environment: be create
#[derive(Debug, Parser)]
pub(super) struct LuCreate {
    /// Its description
    #[arg(short = 'A', value_name = "TEXT")]
    description: Option<String>,
    /// Name under which the running system becomes a boot environment
    #[arg(short = 'c', value_name = "NAME")]
    current: Option<String>,
    /// The device that this system was booted from
    #[arg(short = 'C', value_name = "DEVICE")]
    boot_device: Option<String>,
    /// Leave out the files in this list
    #[arg(short = 'f', value_name = "FILE")]
    exclude_from: Option<PathBuf>,
    /// Ignore the check of the files that are left out
    #[arg(short = 'I')]
    ignore: bool,
    /// Put a file system on a device: MOUNTPOINT:DEVICE:FSTYPE; DEVICE may be merged or shared
    #[arg(short = 'm', value_name = "MOUNTPOINT:DEVICE:FSTYPE", allow_hyphen_values = true)]
    file_system: Vec<String>,
    /// The same, from the lines of this file
    #[arg(short = 'M', value_name = "FILE")]
    file_systems_from: Option<PathBuf>,
    /// Name of the new boot environment
    #[arg(short = 'n', value_name = "NAME")]
    name: String,
    /// Boot environment to copy, or - to make an empty one
    #[arg(short = 's', value_name = "SOURCE", allow_hyphen_values = true)]
    source: Option<String>,
    /// Leave out this file or directory
    #[arg(short = 'x', value_name = "PATH")]
    exclude: Vec<String>,
    /// Copy this file or directory, although it is left out
    #[arg(short = 'y', value_name = "PATH")]
    include: Vec<String>,
    /// Copy the files in this list, although they are left out
    #[arg(short = 'Y', value_name = "FILE")]
    include_from: Option<PathBuf>,
    /// A list of files, each with + or -
    #[arg(short = 'z', value_name = "FILE")]
    filter: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

impl LuCreate {
    fn words(self) -> Result<Words> {
        if self.boot_device.as_deref().is_some_and(|device| device != "-") {
            return refuse("-C", "the kernel says which device this system was booted from");
        }
        if self.filter.is_some() {
            return refuse("-z", "name the files with -x, -f, -y and -Y");
        }
        let mut words = Words::new("create").word(self.name).word("--yes");
        let mut file_systems = self.file_system;
        if let Some(file) = &self.file_systems_from {
            file_systems.extend(lines(file)?);
        }
        for text in &file_systems {
            words = words.word("-m").word(placement::translate(text)?);
        }
        words = match self.source.as_deref() {
            Some("-") => words.word("--empty"),
            source => words.option("--from", source),
        };
        words = words.option("--current", self.current).option("--description", self.description);
        for path in self.exclude {
            words = words.word("--exclude").word(path);
        }
        words = words.option("--exclude-from", self.exclude_from);
        let mut include = self.include;
        if let Some(file) = &self.include_from {
            include.extend(lines(file)?);
        }
        for path in include {
            words = words.word("--include").word(path);
        }
        Ok(words)
    }
}

fn lines(file: &PathBuf) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(file).at("reading", file)?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    Ok(lines.filter(|line| !line.starts_with('#')).map(str::to_owned).collect())
}

/// Print the name of the running boot environment: be current
#[derive(Debug, Parser)]
pub(super) struct LuCurr {
    /// The one that is mounted here
    #[arg(short = 'm', value_name = "DIRECTORY")]
    mounted_on: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

impl LuCurr {
    fn words(self) -> Result<Words> {
        if self.mounted_on.is_some() {
            return refuse("-m", "`be list --json` shows where each boot environment is mounted");
        }
        Ok(Words::new("current"))
    }
}

/// Delete a boot environment: be delete
#[derive(Debug, Parser)]
pub(super) struct LuDelete {
    /// Delete it even if it is not one that be made
    #[arg(short = 'f')]
    force: bool,
    /// The boot environment
    name: String,
    #[command(flatten)]
    common: Common,
}

impl LuDelete {
    fn words(self) -> Words {
        Words::new("delete").word(self.name).word("--yes").flag("--force", self.force)
    }
}

/// Describe a boot environment: be describe
#[derive(Debug, Parser)]
pub(super) struct LuDesc {
    /// Print the name of the one with this description
    #[arg(short = 'A', value_name = "TEXT")]
    find: Option<String>,
    /// Read the description from a file, or from standard input if it is -
    #[arg(short = 'f', value_name = "FILE", allow_hyphen_values = true)]
    file: Option<String>,
    /// The boot environment
    #[arg(short = 'n', value_name = "NAME")]
    name: Option<String>,
    /// The description
    text: Option<String>,
    #[command(flatten)]
    common: Common,
}

impl LuDesc {
    fn deed(self) -> Result<Deed> {
        if self.find.is_some() {
            return refuse("-A", "`be list --json` shows all descriptions");
        }
        let be = one("ludesc", self.name, None)?;
        if let Some(file) = self.file {
            return Ok(Deed::Describe { be, file });
        }
        let words = Words::new("describe").word(be);
        Ok(Deed::Verb(match self.text {
            Some(text) => words.word(text).0,
            None => words.0,
        }))
    }
}

/// Show the file systems of a boot environment: be filesystems
#[derive(Debug, Parser)]
pub(super) struct LuFsList {
    #[arg(short = 'n', value_name = "NAME")]
    option: Option<String>,
    /// The boot environment
    name: Option<String>,
    #[command(flatten)]
    common: Common,
}

/// Bring a boot environment up to date: be refresh, or be schedule
#[derive(Debug, Parser)]
pub(super) struct LuMake {
    /// The boot environment
    #[arg(short = 'n', value_name = "NAME")]
    name: String,
    /// Boot environment to copy, instead of the one that it was copied from
    #[arg(short = 's', value_name = "SOURCE")]
    source: Option<String>,
    /// When: a calendar event of systemd; again and again until it is cancelled
    #[arg(short = 't', value_name = "TIME")]
    time: Option<String>,
    /// Who gets a mail when it fails
    #[arg(short = 'm', value_name = "ADDRESS", requires = "time")]
    mail: Option<String>,
    #[command(flatten)]
    common: Common,
}

impl LuMake {
    fn words(self) -> Result<Words> {
        let Some(time) = self.time else {
            return Ok(Words::new("refresh")
                .word(self.name)
                .word("--yes")
                .option("--from", self.source));
        };
        if self.source.is_some() {
            return refuse(
                "-s",
                "what is scheduled is copied from the one that it was copied from",
            );
        }
        Ok(Words::new("schedule").word(self.name).word(time).option("--mail", self.mail))
    }
}

/// Mount a boot environment: be mount
#[derive(Debug, Parser)]
pub(super) struct LuMount {
    #[arg(short = 'n', value_name = "NAME")]
    option: Option<String>,
    #[arg(short = 'm', value_name = "DIRECTORY")]
    mountpoint: Option<String>,
    /// The boot environment, and the directory to mount it on
    #[arg(num_args = 0..=2)]
    names: Vec<String>,
    #[command(flatten)]
    common: Common,
}

impl LuMount {
    fn words(self) -> Result<Words> {
        let mut names = self.names.into_iter();
        let name = match self.option {
            Some(name) => name,
            None => one("lumount", None, names.next())?,
        };
        let words = Words::new("mount").word(name);
        let directory = match self.mountpoint {
            Some(directory) => Some(directory),
            None => names.next(),
        };
        if let Some(word) = names.next() {
            return Err(Error::Usage(format!("lumount: '{word}' is one word too many")));
        }
        Ok(match directory {
            Some(directory) => words.word(directory),
            None => words,
        })
    }
}

/// Rename a boot environment: be rename
#[derive(Debug, Parser)]
pub(super) struct LuRename {
    /// Its name
    #[arg(short = 'e', value_name = "NAME")]
    old: String,
    /// Its new name
    #[arg(short = 'n', value_name = "NAME")]
    new: String,
    #[command(flatten)]
    common: Common,
}

/// Show the state of the boot environments: be list
#[derive(Debug, Parser)]
pub(super) struct LuStatus {
    #[arg(short = 'n', value_name = "NAME")]
    option: Option<String>,
    /// Only this boot environment
    name: Option<String>,
    #[command(flatten)]
    common: Common,
}

/// Unmount a boot environment: be umount
#[derive(Debug, Parser)]
pub(super) struct LuUmount {
    /// Ignored: what is in use is named
    #[arg(short = 'f')]
    force: bool,
    #[arg(short = 'n', value_name = "NAME")]
    option: Option<String>,
    #[arg(short = 'm', value_name = "DIRECTORY")]
    mountpoint: Option<String>,
    /// The boot environment, or the directory on which it is mounted
    name: Option<String>,
    #[command(flatten)]
    common: Common,
}

impl LuUmount {
    fn words(self) -> Result<Words> {
        let option = at_most_one("luumount", self.option, self.mountpoint)?;
        let name = one("luumount", option, self.name)?;
        Ok(Words::new("umount").word(name))
    }
}

/// Change the packages of a boot environment: be upgrade
#[derive(Debug, Parser)]
pub(super) struct LuUpgrade {
    /// Upgrade all packages, or with -s to a release
    #[arg(short = 'u')]
    upgrade: bool,
    /// Install packages
    #[arg(short = 'p')]
    install: bool,
    /// Remove packages
    #[arg(short = 'P')]
    remove: bool,
    /// Install a flash archive
    #[arg(short = 'f')]
    flash: bool,
    /// Install patches
    #[arg(short = 't')]
    patch: bool,
    /// Remove patches
    #[arg(short = 'T')]
    unpatch: bool,
    /// Only print the plan
    #[arg(short = 'N')]
    dry_run: bool,
    /// The boot environment
    #[arg(short = 'n', value_name = "NAME")]
    name: String,
    /// The release
    #[arg(short = 's', value_name = "RELEASE")]
    source: Option<String>,
    /// The packages
    packages: Vec<String>,
    #[command(flatten)]
    common: Common,
}

impl LuUpgrade {
    fn words(self) -> Result<Words> {
        if self.flash {
            return refuse("-f", "be has no flash archives");
        }
        if self.patch || self.unpatch {
            return refuse("-t and -T", "a patch is a newer package here: -u upgrades all");
        }
        let is_named = !self.packages.is_empty();
        let words = Words::new("upgrade").word(self.name);
        let words = words.word(if self.dry_run { "--dry-run" } else { "--yes" });
        let words = match (self.upgrade, self.install, self.remove) {
            (true, false, false) => match self.source {
                Some(release) => words.word("--release").word(release),
                None => words.word("--dist"),
            },
            (false, true, false) | (false, false, true) if !is_named => {
                return refuse("-p and -P", "name the packages");
            }
            (false, true, false) => words.word("--install"),
            (false, false, true) => words.word("--remove"),
            _ => return refuse("luupgrade", "give one of -u, -p and -P"),
        };
        Ok(self.packages.into_iter().fold(words, Words::word))
    }
}
