//! The descriptor `/etc/lifeboat/environment.toml`: the facts about a boot environment that cannot
//! be found anywhere else.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::history;
use super::loader_name::LoaderName;
use super::mark::Purpose;
use super::name::{Id, Name};
use super::operation::{Operation, State};
use crate::error::{Error, Refusal, Result};
use crate::own_files::DESCRIPTOR_PATH;
use crate::root_dir::RootDir;
use crate::timestamp::Timestamp;

/// The descriptor format this program writes.
pub const FORMAT: u32 = 1;

/// The most bytes of names of lost files that a descriptor has, without TOML's escapes, so that it
/// never becomes too large to be read.
const MAX_LOST_BYTES: usize = 128 << 10;

/// The longest descriptor. The parser of TOML takes up to a hundred times as much memory.
const MAX_BYTES: usize = 512 << 10;

/// The descriptor of a BE.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// Version of this format.
    pub format: u32,
    /// The id, which never changes.
    pub id: Id,
    /// The name, unique among the BEs of the machine, ignoring case.
    pub name: Name,
    /// The user's description.
    #[serde(default)]
    pub description: String,
    /// When the BE was created: RFC 3339, UTC, whole seconds.
    pub created: String,
    /// The BE it was copied from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Id>,
    /// Whether the BE is complete.
    pub state: State,
    /// The operation that left it incomplete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
    /// When the BE was last complete. What that operation wrote has not been changed by it since.
    /// An incomplete BE keeps this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed: Option<Timestamp>,
    /// When the operation that left it incomplete began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<Timestamp>,
    /// When it first ran, or was first changed other than by a refresh, after it was made equal to
    /// its source: what changed in it since then is only in it. `None` if nothing is known of that.
    #[serde(default, alias = "ran", skip_serializing_if = "Option::is_none")]
    pub changed: Option<Timestamp>,
    /// Whether no start of it has been confirmed since it was last equal to its source.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unstarted: bool,
    /// The BE from which it takes accounts, mail and logs over when it starts next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync: Option<SyncNote>,
    /// The file systems and swap spaces that were made for the BE, which are refreshed and deleted
    /// with it. Others that its fstab names are left alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub made: Vec<Purpose>,
    /// Only while it is being created: the BEs whose devices become its own, of which the later ones
    /// were replaced by an interrupted creation. What was made for one of them and the same purpose
    /// is taken over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaces: Vec<Id>,
    /// What loads its kernel.
    #[serde(default, skip_serializing_if = "LoaderName::is_default")]
    pub loader: LoaderName,
    /// Mount points in its fstab that the BE shares with others.
    #[serde(default)]
    pub shared: Vec<PathBuf>,
    /// The first of the files that could not be read when the BE was copied.
    #[serde(default)]
    pub lost: Vec<PathBuf>,
    /// How many more files were lost than `lost` names.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost_more: usize,
}

/// From which BE accounts, mail and logs are taken over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncNote {
    /// Its id.
    pub from: Id,
    /// What proves its mark: the BLAKE3 of it, in hexadecimal digits.
    pub mark: String,
    /// How many starts have tried.
    #[serde(default)]
    pub tries: u32,
}

impl Descriptor {
    /// Makes the descriptor of a new BE, which is incomplete until `create` ends.
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
            completed: None,
            began: None,
            changed: None,
            unstarted: false,
            sync: None,
            made: Vec::new(),
            replaces: Vec::new(),
            loader: LoaderName::default(),
            shared: Vec::new(),
            lost: Vec::new(),
            lost_more: 0,
        }
    }

    /// Parses `environment.toml`. Hostile text is an error, never a panic.
    ///
    /// # Errors
    /// A sentence that says what is wrong, without the path.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        if text.len() > MAX_BYTES {
            return Err(format!("it has {} bytes, more than any descriptor", text.len()));
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
    /// When a path is not UTF-8, which TOML cannot hold.
    pub fn render(&self) -> Result<String> {
        toml::to_string(self)
            .map_err(|e| Error::Failed(format!("writing the descriptor of '{}': {e}", self.name)))
    }

    /// Adds a file that could not be read. Names that are not UTF-8, or that have control
    /// characters, are escaped. After [`MAX_LOST_BYTES`] of names, files are only counted.
    pub fn lose(&mut self, path: &Path) {
        let plain = path.to_str().is_some_and(|text| !text.chars().any(char::is_control));
        let escaped = || PathBuf::from(path.as_os_str().as_bytes().escape_ascii().to_string());
        let path = if plain { path.to_owned() } else { escaped() };
        let named: usize = self.lost.iter().map(|path| path.as_os_str().len()).sum();
        if self.lost_more > 0 || named + path.as_os_str().len() > MAX_LOST_BYTES {
            self.lost_more += 1;
        } else {
            self.lost.push(path);
        }
    }

    /// How many files could not be read when it was copied.
    pub fn lost_count(&self) -> usize {
        self.lost.len() + self.lost_more
    }

    /// Reads the descriptor of the BE mounted at `root`. Returns `None` if it has none.
    ///
    /// # Errors
    /// When the descriptor cannot be read or does not parse.
    pub fn load(root: &RootDir) -> Result<Option<Self>> {
        let Some(text) = root.text(DESCRIPTOR_PATH)? else { return Ok(None) };
        let parsed = Self::parse(&text);
        parsed
            .map(Some)
            .map_err(|why| Error::Format { path: root.path().join(DESCRIPTOR_PATH), why })
    }

    /// Refuses to write to the BE at `root`, which was mounted from `device`, if it is another one
    /// than this descriptor's.
    ///
    /// # Errors
    /// [`Refusal::DeviceChanged`], and its descriptor cannot be read.
    pub fn refuse_other(&self, root: &RootDir, device: &Path) -> Result<()> {
        if Self::load(root)?.is_some_and(|found| found.id == self.id) {
            return Ok(());
        }
        let (device, how) = (device.display().to_string(), "it holds another boot environment");
        Err(Refusal::DeviceChanged { device, how }.into())
    }

    /// Writes the descriptor of the BE mounted at `root` durably.
    ///
    /// # Errors
    /// When it cannot be written, or would be too large to be read. The old descriptor is then
    /// still there.
    pub fn store(&self, root: &RootDir) -> Result<()> {
        let text = self.render()?;
        if text.len() > MAX_BYTES {
            let (name, size) = (&self.name, text.len());
            return Err(Error::Failed(format!(
                "the descriptor of '{name}' would have {size} bytes, and at most {MAX_BYTES} are \
                read: shorten its description"
            )));
        }
        root.write(DESCRIPTOR_PATH, text.as_bytes(), 0o644)
    }

    /// Syncs the BE mounted at `root`, marks it as complete, and syncs it again. It has no changes of
    /// its own.
    ///
    /// # Errors
    /// When the device reports a write error; the BE stays incomplete.
    pub fn complete(&mut self, root: &RootDir) -> Result<()> {
        self.replaces.clear();
        self.changed = None;
        (self.unstarted, self.sync) = (self.source.is_some(), None);
        self.completed = Some(Timestamp::now().earlier());
        self.complete_as_it_is(root)
    }

    /// As [`Descriptor::complete`], after an operation that did not make it equal to its source.
    /// The time when it last was is kept, so that the next refresh looks at what has changed since.
    ///
    /// # Errors
    /// As [`Descriptor::complete`].
    pub fn complete_as_it_is(&mut self, root: &RootDir) -> Result<()> {
        let operation = self.operation.unwrap_or(Operation::Create);
        self.end(root, Some(operation))
    }

    /// As [`Descriptor::complete_as_it_is`], where the operation that began has changed nothing. In the
    /// history it has no end.
    ///
    /// # Errors
    /// As [`Descriptor::complete`].
    pub fn withdraw(&mut self, root: &RootDir) -> Result<()> {
        self.end(root, None)
    }

    /// Marks the BE as complete. The history says that `done` ended.
    fn end(&mut self, root: &RootDir, done: Option<Operation>) -> Result<()> {
        root.sync()?;
        self.state = State::Complete;
        self.operation = None;
        self.began = None;
        self.store(root)?;
        if let Some(operation) = done {
            history::add(root, operation, State::Complete);
        }
        root.sync()
    }

    /// Marks the BE as incomplete, before the first write of an operation.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn begin(&mut self, operation: Operation, root: &RootDir) -> Result<()> {
        if matches!(operation, Operation::Run | Operation::Upgrade) {
            self.changed.get_or_insert_with(Timestamp::now);
        }
        self.state = State::Incomplete;
        self.operation = Some(operation);
        self.began = Some(Timestamp::now());
        self.store(root)?;
        history::add(root, operation, State::Incomplete);
        root.sync()
    }

    /// Goes on with the operation that left the BE incomplete. It began when it first did.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn go_on(&self, root: &RootDir) -> Result<()> {
        self.store(root)?;
        if let Some(operation) = self.operation {
            history::add(root, operation, State::Incomplete);
        }
        root.sync()
    }

    /// Notes that the BE mounted at `root` runs, or is changed, if that is not known yet.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note_changed(&mut self, root: &RootDir) -> Result<()> {
        if self.changed.is_some() {
            return Ok(());
        }
        self.changed = Some(Timestamp::now());
        self.store(root)
    }

    /// As [`Descriptor::note_changed`], for a BE whose start has been confirmed.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note_confirmed(&mut self, root: &RootDir) -> Result<()> {
        if !std::mem::take(&mut self.unstarted) {
            return self.note_changed(root);
        }
        self.changed.get_or_insert_with(Timestamp::now);
        self.store(root)
    }

    /// Refuses a BE that an interrupted operation left incomplete.
    ///
    /// # Errors
    /// [`Refusal::Incomplete`] with the operation.
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

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_is_parsed_as_it_was_rendered() {
        let mut d = Descriptor::new("nightly".parse().unwrap(), Some(Id::random()));
        d.shared = vec!["/home".into()];
        d.description = "before \"the\" upgrade\n".into();
        d.sync = Some(SyncNote { from: Id::random(), mark: "ab12".into(), tries: 1 });
        assert_eq!(Descriptor::parse(&d.render().unwrap()).unwrap(), d);
    }

    #[test]
    fn a_lost_file_of_any_name_can_be_rendered() {
        let mut d = Descriptor::new("nightly".parse().unwrap(), None);
        for name in [&b"/\xff\xfe"[..], b"/\x1b[2J", "/ä b".as_bytes()] {
            d.lose(Path::new(std::ffi::OsStr::from_bytes(name)));
        }
        let found = Descriptor::parse(&d.render().unwrap()).unwrap();
        assert_eq!(found.lost, [r"/\xff\xfe", r"/\x1b[2J", "/ä b"].map(PathBuf::from));
        d.lost.push(Path::new(std::ffi::OsStr::from_bytes(b"/\xff")).into());
        assert!(d.render().is_err(), "this must not write an empty descriptor");
    }

    #[test]
    fn very_many_lost_files_leave_the_descriptor_small_enough_to_read() {
        let mut d = Descriptor::new("nightly".parse().unwrap(), None);
        for n in 0..100_000 {
            d.lose(Path::new(&format!("/a/\"b\"/{n}")));
        }
        let text = d.render().unwrap();
        assert!(d.lost.len() > 1000 && text.len() < MAX_BYTES, "{} {}", d.lost.len(), text.len());
        assert_eq!(Descriptor::parse(&text).unwrap().lost_count(), 100_000);
    }

    #[test]
    fn a_text_that_is_longer_than_any_descriptor_is_refused() {
        let why = Descriptor::parse(&"a.".repeat(MAX_BYTES)).unwrap_err();
        assert!(why.contains("more than any descriptor"), "{why}");
    }

    #[test]
    fn a_newer_format_is_refused_by_number() {
        let why = Descriptor::parse("format = 2\nwhatever = true\n").unwrap_err();
        assert!(why.contains("format 2 is newer"), "{why}");
    }

    #[test]
    fn a_command_leaves_the_time_when_it_was_equal_to_its_source() {
        let directory = tempfile::tempdir().unwrap();
        let root = RootDir::open(directory.path()).unwrap();
        let mut d = Descriptor::new("nightly".parse().unwrap(), None);
        d.complete(&root).unwrap();
        let completed = d.completed.unwrap();
        d.begin(Operation::Run, &root).unwrap();
        assert_eq!(Descriptor::load(&root).unwrap().unwrap().state_text(), "incomplete (run)");
        d.complete_as_it_is(&root).unwrap();
        let found = Descriptor::load(&root).unwrap().unwrap();
        assert_eq!((found.state, found.operation), (State::Complete, None));
        assert_eq!((found.completed, found.began), (Some(completed), None));
    }

    #[test]
    fn that_it_has_changes_is_known_until_it_is_equal_to_its_source_again() {
        let directory = tempfile::tempdir().unwrap();
        let root = RootDir::open(directory.path()).unwrap();
        let mut d = Descriptor::new("nightly".parse().unwrap(), None);
        d.complete(&root).unwrap();
        assert_eq!(d.changed, None);
        d.note_changed(&root).unwrap();
        let ran = Descriptor::load(&root).unwrap().unwrap().changed;
        assert!(ran.is_some());
        d.note_changed(&root).unwrap();
        assert_eq!(d.changed, ran, "the first time counts");
        for operation in [Operation::Run, Operation::Upgrade] {
            d.begin(operation, &root).unwrap();
            d.complete_as_it_is(&root).unwrap();
            assert_eq!(Descriptor::load(&root).unwrap().unwrap().changed, ran, "{operation}");
        }
        let mut other = Descriptor::new("other".parse().unwrap(), None);
        other.complete(&root).unwrap();
        other.begin(Operation::Upgrade, &root).unwrap();
        assert!(Descriptor::load(&root).unwrap().unwrap().changed.is_some(), "by a person");
        d.begin(Operation::Refresh, &root).unwrap();
        assert_eq!(Descriptor::load(&root).unwrap().unwrap().changed, ran, "it is not equal yet");
        d.complete(&root).unwrap();
        assert_eq!(Descriptor::load(&root).unwrap().unwrap().changed, None);
    }

    /// Format 1 as it was first released must always parse.
    #[test]
    fn format_1_parses() {
        let text = include_str!("../../fixtures/environment-1.toml");
        let d = Descriptor::parse(text).unwrap();
        assert_eq!((d.name.as_str(), d.id.short().as_str()), ("nightly", "2f0c1a94"));
        assert_eq!(d.state_text(), "complete");
        assert_eq!(d.loader.as_str(), "grub");
        assert_eq!(d.changed, None, "nothing is known of it");
    }

    #[test]
    fn only_another_loader_than_the_first_is_named() {
        let mut d = Descriptor::new("nightly".parse().unwrap(), None);
        assert!(!d.render().unwrap().contains("loader"));
        d.loader = "of-the-future".parse().unwrap();
        let text = d.render().unwrap();
        assert!(text.contains("loader = \"of-the-future\"\n"), "{text}");
        assert_eq!(Descriptor::parse(&text).unwrap(), d);
        let why = Descriptor::parse(&text.replace("of-the", "of the")).unwrap_err();
        assert!(why.contains("is not the name of a loader"), "{why}");
    }
}
