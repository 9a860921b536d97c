//! A boot environment: its name, its descriptor (`/etc/lifeboat/environment.toml`) and its state.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Error, Refusal, Result};
use crate::rooted::Rooted;

/// Where a BE keeps its descriptor, relative to its root.
pub const DESCRIPTOR_PATH: &str = "etc/lifeboat/environment.toml";

/// The descriptor format this program writes.
pub const FORMAT: u32 = 1;

/// A BE's name: `[A-Za-z0-9][A-Za-z0-9._-]{0,62}`. Two names that differ only by case are one name.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// The name as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}
impl Eq for Name {}

impl FromStr for Name {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let legal = text.len() <= 63
            && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if legal {
            return Ok(Name(text.into()));
        }
        Err(Error::Usage(format!(
            "'{}' is not a name for a boot environment: use 1 to 63 letters, digits, '.', '_' or '-', beginning with a letter or digit",
            text.escape_default()
        )))
    }
}

impl TryFrom<String> for Name {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}
impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0
    }
}
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A BE's identity, for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Id(Uuid);

impl Id {
    /// A fresh one.
    pub fn random() -> Self {
        Id(Uuid::new_v4())
    }

    /// Its first eight hex digits: the name of its folder on the ESP.
    pub fn short(&self) -> String {
        self.0.simple().to_string()[..8].to_owned()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Id {
    type Err = uuid::Error;
    fn from_str(text: &str) -> std::result::Result<Self, uuid::Error> {
        Uuid::parse_str(text).map(Id)
    }
}

/// What was under way when a BE became incomplete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "each is the verb of that name")]
pub enum Operation {
    Adopt,
    Create,
    Refresh,
    Upgrade,
    Repair,
    Import,
    Migrate,
    Delete,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::Adopt => "adopt",
            Operation::Create => "create",
            Operation::Refresh => "refresh",
            Operation::Upgrade => "upgrade",
            Operation::Repair => "repair",
            Operation::Import => "import",
            Operation::Migrate => "migrate",
            Operation::Delete => "delete",
        })
    }
}

/// Whether a BE may be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// All of it is there and synced.
    Complete,
    /// An operation was interrupted.
    Incomplete,
}

/// What nothing else on the disk can say about a BE.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// Version of this format.
    pub format: u32,
    /// Identity, for ever.
    pub id: Id,
    /// Unique among what is found, ignoring case.
    pub name: Name,
    /// Free text.
    #[serde(default)]
    pub description: String,
    /// RFC 3339, UTC, whole seconds.
    pub created: String,
    /// The BE it was copied from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Id>,
    /// Complete or not.
    pub state: State,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
    /// Mount points of its fstab that it does not own.
    #[serde(default)]
    pub shared: Vec<PathBuf>,
    /// Files that could not be read when it was copied.
    #[serde(default)]
    pub lost: Vec<PathBuf>,
}

impl Descriptor {
    /// A new BE, incomplete until `create` ends.
    pub fn new(name: Name, source: Option<Id>) -> Self {
        Descriptor {
            format: FORMAT,
            id: Id::random(),
            name,
            description: String::new(),
            created: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
            source,
            state: State::Incomplete,
            operation: Some(Operation::Create),
            shared: Vec::new(),
            lost: Vec::new(),
        }
    }

    /// Parses `environment.toml`. Hostile text is an error, never a panic.
    ///
    /// # Errors
    /// A sentence saying what is wrong, without the path.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let version: Version = toml::from_str(text).map_err(|e| e.message().to_owned())?;
        if version.format > FORMAT {
            return Err(format!(
                "descriptor format {} is newer than this program knows ({FORMAT}): use a newer be",
                version.format
            ));
        }
        toml::from_str(text).map_err(|e| e.message().to_owned())
    }

    /// The text of `environment.toml`.
    ///
    /// # Errors
    /// A path that is not UTF-8, which TOML cannot hold.
    pub fn render(&self) -> Result<String> {
        toml::to_string(self)
            .map_err(|e| Error::Failed(format!("writing the descriptor of '{}': {e}", self.name)))
    }

    /// Notes a file that could not be read. Names of any bytes are kept as text, the odd ones escaped.
    pub fn lose(&mut self, path: &Path) {
        let plain = path.to_str().is_some_and(|text| !text.chars().any(char::is_control));
        let escaped = || PathBuf::from(path.as_os_str().as_bytes().escape_ascii().to_string());
        self.lost.push(if plain { path.to_owned() } else { escaped() });
    }

    /// Reads the descriptor of the BE mounted at `root`; `None` where it is unmanaged.
    ///
    /// # Errors
    /// When there is one that cannot be read or does not parse.
    pub fn load(root: &Rooted) -> Result<Option<Self>> {
        let Some(text) = root.text(DESCRIPTOR_PATH)? else { return Ok(None) };
        let parsed = Self::parse(&text);
        parsed.map(Some).map_err(|why| Error::Format { path: root.path().join(DESCRIPTOR_PATH), why })
    }

    /// Writes the descriptor of the BE mounted at `root`, to last.
    ///
    /// # Errors
    /// When it cannot be written; the old one is then still there.
    pub fn store(&self, root: &Rooted) -> Result<()> {
        root.write(DESCRIPTOR_PATH, self.render()?.as_bytes(), 0o644)
    }

    /// Everything of the BE mounted at `root` is flushed, then it is said to be complete, then that is flushed.
    ///
    /// # Errors
    /// When the device reports a write error; the BE stays incomplete.
    pub fn complete(&mut self, root: &Rooted) -> Result<()> {
        root.sync()?;
        self.state = State::Complete;
        self.operation = None;
        self.store(root)?;
        root.sync()
    }

    /// Says that the BE is incomplete, before the first write of an operation.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn begin(&mut self, operation: Operation, root: &Rooted) -> Result<()> {
        self.state = State::Incomplete;
        self.operation = Some(operation);
        self.store(root)?;
        root.sync()
    }

    /// Refuses a BE that an interrupted operation left incomplete.
    ///
    /// # Errors
    /// [`Refusal::Incomplete`], naming the operation.
    pub fn refuse_incomplete(&self) -> Result<(), Refusal> {
        if self.state == State::Complete {
            return Ok(());
        }
        let operation = self.operation.map_or_else(|| "operation".into(), |o| o.to_string());
        Err(Refusal::Incomplete { name: self.name.to_string(), operation })
    }

    /// `complete`, or `incomplete` with the operation.
    pub fn state_text(&self) -> String {
        match (self.state, self.operation) {
            (State::Complete, _) => "complete".into(),
            (State::Incomplete, Some(operation)) => format!("incomplete ({operation})"),
            (State::Incomplete, None) => "incomplete".into(),
        }
    }
}

/// The operating system of a BE, from os-release(5).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatingSystem {
    /// `ID`, such as `debian`.
    pub id: String,
    /// `VERSION_ID`, such as `12`; empty where there is none.
    pub version_id: String,
    /// `PRETTY_NAME`.
    pub pretty_name: String,
}

impl OperatingSystem {
    /// For a column: `Debian 12`, else the pretty name, else `unknown`.
    pub fn short(&self) -> String {
        let mut letters = self.id.chars();
        match (letters.next(), self.version_id.as_str()) {
            (Some(first), version) if !version.is_empty() => {
                format!("{}{} {version}", first.to_uppercase(), letters.as_str())
            }
            _ if !self.pretty_name.is_empty() => self.pretty_name.clone(),
            _ => "unknown".into(),
        }
    }
}

/// Where a BE's root file system lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// Device node, such as `/dev/vda2`.
    pub device: PathBuf,
    /// File system type.
    pub fs_type: String,
    /// UUID of the file system.
    pub uuid: String,
    /// btrfs subvolume path, where it is one.
    pub subvolume: Option<String>,
    /// The disk, such as `/dev/vda`.
    pub disk: PathBuf,
}

/// One line of a BE's fstab, resolved against the devices found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSystemUse {
    /// Mount point, or `none` for swap.
    pub mountpoint: PathBuf,
    /// As fstab names it.
    pub spec: String,
    /// The device found, if any.
    pub device: Option<PathBuf>,
    /// Type as fstab says.
    pub fs_type: String,
    /// Options as fstab says.
    pub options: String,
    /// Bytes, if the device was found.
    pub size: Option<u64>,
    /// Shared with other BEs.
    pub shared: bool,
}

/// How a trial of a BE stands (DESIGN.md, "Trial, confirm, fallback").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trial {
    /// Will be tried at the next boot.
    Pending,
    /// Runs now, not confirmed yet.
    Running,
    /// Was tried, and another BE runs.
    Failed,
    /// Was activated, but never tried.
    Interrupted,
}

/// A BE as found on a disk, managed or not. This is what `be list --json` prints.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BootEnvironment {
    /// What to call it on a command line: unique among what was found.
    pub reference: String,
    /// Its descriptor, when it is managed and the descriptor can be read.
    pub descriptor: Option<Descriptor>,
    /// Its operating system.
    pub os: OperatingSystem,
    /// Release of the kernel it would boot, if it has one.
    pub kernel: Option<String>,
    /// Where its root lies.
    pub root: Root,
    /// Its fstab, resolved.
    pub file_systems: Vec<FileSystemUse>,
    /// It is the system that runs.
    pub running: bool,
    /// The firmware will start it next.
    pub next_boot: bool,
    /// Number of its `Boot####` variable.
    pub boot_entry: Option<u16>,
    /// A trial of it that is not confirmed.
    pub trial: Option<Trial>,
    /// Bytes in use on its root file system.
    pub used: Option<u64>,
    /// Why it would not boot; empty means healthy.
    pub problems: Vec<String>,
    /// Where it is mounted now.
    pub mounted_at: Vec<PathBuf>,
}

impl BootEnvironment {
    /// Nothing but a root device: what an empty BE is before anything is put into it.
    pub fn empty(device: &Path) -> Self {
        BootEnvironment {
            reference: format!("@{}", device.display()),
            descriptor: None,
            os: OperatingSystem::default(),
            kernel: None,
            root: Root {
                device: device.to_owned(),
                fs_type: String::new(),
                uuid: String::new(),
                subvolume: None,
                disk: device.to_owned(),
            },
            file_systems: Vec::new(),
            running: false,
            next_boot: false,
            boot_entry: None,
            trial: None,
            used: None,
            problems: Vec::new(),
            mounted_at: Vec::new(),
        }
    }

    /// It has a descriptor.
    pub fn is_managed(&self) -> bool {
        self.descriptor.is_some()
    }

    /// The descriptor's name, else the reference.
    pub fn name(&self) -> &str {
        self.descriptor.as_ref().map_or(self.reference.as_str(), |d| d.name.as_str())
    }

    /// `complete`, `incomplete (create)` or `unmanaged`.
    pub fn state_text(&self) -> String {
        self.descriptor.as_ref().map_or_else(|| "unmanaged".into(), Descriptor::state_text)
    }

    /// Every device that belongs to it alone: root and copied file systems. Until a copy is complete, its fstab may
    /// still be the source's: then only its root is known to be its own.
    pub fn own_devices(&self) -> Vec<&PathBuf> {
        let is_unfinished = self
            .descriptor
            .as_ref()
            .is_some_and(|d| d.state == State::Incomplete && d.operation == Some(Operation::Create));
        let own = self.file_systems.iter().filter(|f| !f.shared && !is_unfinished);
        let copied = own.filter_map(|f| f.device.as_ref()).filter(|device| **device != self.root.device);
        let mut all: Vec<_> = std::iter::once(&self.root.device).chain(copied).collect();
        all.dedup();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rule() {
        for good in ["a", "9", "nightly", "deb-12.5_x", &"a".repeat(63)] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in ["", "-a", ".a", "a b", "a/b", "ä", "a\n", &"a".repeat(64)] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }

    #[test]
    fn names_that_differ_by_case_are_one() {
        assert_eq!("Second".parse::<Name>().unwrap(), "second".parse::<Name>().unwrap());
    }

    #[test]
    fn a_descriptor_survives_its_own_text() {
        let mut d = Descriptor::new("nightly".parse().unwrap(), Some(Id::random()));
        d.shared = vec!["/home".into()];
        d.description = "before \"the\" upgrade\n".into();
        assert_eq!(Descriptor::parse(&d.render().unwrap()).unwrap(), d);
    }

    #[test]
    fn a_lost_file_of_any_name_leaves_the_descriptor_whole() {
        let mut d = Descriptor::new("nightly".parse().unwrap(), None);
        for name in [&b"/\xff\xfe"[..], b"/\x1b[2J", "/ä b".as_bytes()] {
            d.lose(Path::new(std::ffi::OsStr::from_bytes(name)));
        }
        let found = Descriptor::parse(&d.render().unwrap()).unwrap();
        assert_eq!(found.lost, [r"/\xff\xfe", r"/\x1b[2J", "/ä b"].map(PathBuf::from));
        d.lost.push(Path::new(std::ffi::OsStr::from_bytes(b"/\xff")).into());
        assert!(d.render().is_err(), "an empty descriptor would be written");
    }

    #[test]
    fn the_fstab_of_an_unfinished_copy_names_devices_of_its_source() {
        let mut copy = BootEnvironment::empty(Path::new("/dev/vdb1"));
        copy.file_systems.push(FileSystemUse {
            mountpoint: "/var".into(),
            spec: "UUID=1".into(),
            device: Some("/dev/vda3".into()),
            fs_type: "ext4".into(),
            options: "defaults".into(),
            size: None,
            shared: false,
        });
        let mut descriptor = Descriptor::new("copy".parse().unwrap(), None);
        copy.descriptor = Some(descriptor.clone());
        assert_eq!(copy.own_devices(), [Path::new("/dev/vdb1")]);
        (descriptor.state, descriptor.operation) = (State::Complete, None);
        copy.descriptor = Some(descriptor);
        assert_eq!(copy.own_devices(), [Path::new("/dev/vdb1"), Path::new("/dev/vda3")]);
    }

    #[test]
    fn a_newer_format_is_refused_by_number() {
        let why = Descriptor::parse("format = 2\nwhatever = true\n").unwrap_err();
        assert!(why.contains("format 2 is newer"), "{why}");
    }

    /// Golden: format 1 as first released must parse for ever.
    #[test]
    fn format_1_parses() {
        let text = include_str!("../fixtures/environment-1.toml");
        let d = Descriptor::parse(text).unwrap();
        assert_eq!((d.name.as_str(), d.id.short().as_str()), ("nightly", "2f0c1a94"));
        assert_eq!(d.state_text(), "complete");
    }
}
