//! fstab(5), parsed and rendered. Lines that are not changed are kept byte for byte. That of a copy
//! is computed in `localize/fstab_lines.rs` and written by `localize.rs`.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::octal;

/// The lines of an fstab.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Fstab {
    lines: Vec<Line>,
    /// Whether the last line has no line end.
    ends_open: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Line {
    Entry(Entry),
    /// Comments, empty lines, and any other lines that mount(8) ignores, as far as they follow one
    /// another.
    Other(String),
}

/// The line of a file system or swap space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    raw: String,
}

/// What the first field names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spec {
    /// `UUID=`
    Uuid(String),
    /// `LABEL=`
    Label(String),
    /// `PARTUUID=`
    PartUuid(String),
    /// `PARTLABEL=`
    PartLabel(String),
    /// An absolute path: a device, a swap file or the source of a bind mount.
    Path(PathBuf),
    /// Anything else, such as `tmpfs` or `server:/export`.
    Other(String),
}

/// What separates fields. Other white space is part of a field, as for mount(8).
const BLANKS: [char; 3] = [' ', '\t', '\r'];

const SPEC: usize = 0;
const MOUNT_POINT: usize = 1;
const FS_TYPE: usize = 2;
const OPTIONS: usize = 3;
const FREQUENCY: usize = 4;
const PASS: usize = 5;

impl Fstab {
    /// Parses a text. Every text is accepted: what is no line of a file system is kept as it is.
    pub fn parse(text: &str) -> Self {
        let mut lines = Vec::new();
        for line in text.split_terminator('\n') {
            match (Entry::parse(line), lines.last_mut()) {
                (Some(entry), _) => lines.push(Line::Entry(entry)),
                (None, Some(Line::Other(text))) => {
                    text.push('\n');
                    text.push_str(line);
                }
                (None, _) => lines.push(Line::Other(line.to_owned())),
            }
        }
        Fstab { lines, ends_open: !text.is_empty() && !text.ends_with('\n') }
    }

    /// The file systems and swap spaces, in order.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.lines.iter().filter_map(|line| match line {
            Line::Entry(entry) => Some(entry),
            Line::Other(_) => None,
        })
    }

    /// As [`Fstab::entries`], but mutable.
    pub fn entries_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.lines.iter_mut().filter_map(|line| match line {
            Line::Entry(entry) => Some(entry),
            Line::Other(_) => None,
        })
    }

    /// Keeps only the entries for which `keep` returns true. Lines that are not entries are kept.
    pub fn retain(&mut self, mut keep: impl FnMut(&Entry) -> bool) {
        self.lines.retain(|line| match line {
            Line::Entry(entry) => keep(entry),
            Line::Other(_) => true,
        });
    }

    /// Turns the entries for which `pick` returns true into comments, each below a comment that
    /// says `why`.
    pub fn comment_out(&mut self, why: &str, mut pick: impl FnMut(&Entry) -> bool) {
        let lines = std::mem::take(&mut self.lines);
        for line in lines {
            match line {
                Line::Entry(entry) if pick(&entry) => {
                    self.lines.push(Line::Other(format!("# {why}")));
                    self.lines.push(Line::Other(format!("#{}", entry.raw)));
                }
                other => self.lines.push(other),
            }
        }
    }

    /// Appends an entry.
    pub fn push(&mut self, entry: Entry) {
        self.lines.push(Line::Entry(entry));
        self.ends_open = false;
    }

    /// The text of the file.
    pub fn render(&self) -> String {
        let lines: Vec<&str> = self
            .lines
            .iter()
            .map(|line| match line {
                Line::Entry(entry) => entry.raw.as_str(),
                Line::Other(text) => text.as_str(),
            })
            .collect();
        let mut text = lines.join("\n");
        if !lines.is_empty() && !self.ends_open {
            text.push('\n');
        }
        text
    }
}

impl Entry {
    /// Makes a new line. The fields are as mount(8) shows them, without escapes.
    pub fn new(spec: &str, mountpoint: &Path, fs_type: &str, options: &str, pass: u32) -> Self {
        let mountpoint = mountpoint.to_string_lossy();
        let [spec, mountpoint] = [spec, &mountpoint].map(octal::escape);
        Entry { raw: format!("{spec} {mountpoint} {fs_type} {options} 0 {pass}") }
    }

    /// Parses a line. Returns `None` for a comment, an empty line, and a line with fewer than three
    /// fields.
    fn parse(line: &str) -> Option<Self> {
        let entry = Entry { raw: line.to_owned() };
        let is_comment = line.trim_start_matches(BLANKS).starts_with('#');
        let is_entry = !is_comment && entry.range(FS_TYPE).is_some();
        is_entry.then_some(entry)
    }

    /// The position of a field in the line.
    fn range(&self, field: usize) -> Option<std::ops::Range<usize>> {
        let is_blank = |b: u8| BLANKS.contains(&char::from(b));
        let bytes = self.raw.as_bytes();
        let mut at = 0;
        for n in 0.. {
            at += bytes[at..].iter().take_while(|b| is_blank(**b)).count();
            let length = bytes[at..].iter().take_while(|b| !is_blank(**b)).count();
            if length == 0 {
                return None;
            }
            if n == field {
                return Some(at..at + length);
            }
            at += length;
        }
        None
    }

    fn field(&self, field: usize) -> Option<String> {
        self.range(field).map(|range| octal::unescape_text(&self.raw[range]))
    }

    fn set(&mut self, field: usize, value: &str) {
        match self.range(field) {
            Some(range) => self.raw.replace_range(range, &octal::escape(value)),
            None => {
                self.raw.truncate(self.raw.trim_end_matches(BLANKS).len());
                self.raw.push(' ');
                self.raw.push_str(&octal::escape(value));
            }
        }
    }

    /// The first field, without escapes.
    pub fn spec(&self) -> String {
        self.field(SPEC).unwrap_or_default()
    }

    /// What the first field names.
    pub fn device(&self) -> Spec {
        Spec::parse(&self.spec())
    }

    /// The second field, which is `none` for swap.
    pub fn mountpoint(&self) -> PathBuf {
        self.field(MOUNT_POINT).unwrap_or_default().into()
    }

    /// The third field.
    pub fn fs_type(&self) -> String {
        self.field(FS_TYPE).unwrap_or_default()
    }

    /// The fourth field, or `defaults` if it is missing.
    pub fn options(&self) -> String {
        self.field(OPTIONS).unwrap_or_else(|| "defaults".into())
    }

    /// Whether an option is set, with or without a value.
    pub fn has_option(&self, name: &str) -> bool {
        self.options()
            .split(',')
            .any(|o| o == name || o.strip_prefix(name).is_some_and(|v| v.starts_with('=')))
    }

    /// The sixth field, which is the order for fsck(8), or 0 for no check.
    pub fn pass(&self) -> u32 {
        self.field(PASS).and_then(|p| p.parse().ok()).unwrap_or(0)
    }

    /// Whether the line is that of a swap space.
    pub fn is_swap(&self) -> bool {
        self.fs_type() == "swap"
    }

    /// Replaces the first field.
    pub fn set_spec(&mut self, spec: &str) {
        self.set(SPEC, spec);
    }

    /// Replaces the third field.
    pub fn set_fs_type(&mut self, fs_type: &str) {
        self.set(FS_TYPE, fs_type);
    }

    /// Replaces the fourth field.
    pub fn set_options(&mut self, options: &str) {
        self.set(OPTIONS, options);
    }

    /// Replaces the sixth field.
    pub fn set_pass(&mut self, pass: u32) {
        for (field, default) in [(OPTIONS, "defaults"), (FREQUENCY, "0")] {
            if self.range(field).is_none() {
                self.set(field, default);
            }
        }
        self.set(PASS, &pass.to_string());
    }
}

impl Spec {
    /// Parses the first field. The value of a tag may be quoted.
    pub fn parse(text: &str) -> Self {
        let value = |tag: &str| Some(text.strip_prefix(tag)?.trim_matches(['"', '\'']).to_owned());
        if let Some(uuid) = value("UUID=") {
            Spec::Uuid(uuid)
        } else if let Some(label) = value("LABEL=") {
            Spec::Label(label)
        } else if let Some(uuid) = value("PARTUUID=") {
            Spec::PartUuid(uuid)
        } else if let Some(label) = value("PARTLABEL=") {
            Spec::PartLabel(label)
        } else if text.starts_with('/') {
            Spec::Path(text.into())
        } else {
            Spec::Other(text.to_owned())
        }
    }
}

impl fmt::Display for Fstab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fstab of Debian's installer, with an administrator's lines below.
    const DEBIAN: &str = "\
# /etc/fstab: static file system information.
#
# <file system> <mount point>   <type>  <options>       <dump>  <pass>
UUID=9a2b8c1e-5c5f-4b5e-8d5e-0f6f2d1c7a11 /               ext4    errors=remount-ro 0       1
# /boot/efi was on /dev/sda1 during installation
UUID=7A1B-22C3  /boot/efi       vfat    umask=0077      0       1
UUID=0d9f0f4e-1111-4c8e-a1fd-0123456789ab none            swap    sw              0       0
/dev/sr0        /media/cdrom0   udf,iso9660 user,noauto     0       0

LABEL=home\t/home\txfs\tnoatime
  tmpfs /tmp tmpfs nosuid,size=1G 0 0
/srv/with\\040blank /mnt/a\\011b none bind 0 0
broken line
";

    #[test]
    fn an_unchanged_text_is_rendered_byte_for_byte() {
        for text in
            [DEBIAN, "", "\n", "# no line end", "/dev/vda1 / ext4", "\n\n/dev/vda1 / ext4 ro\r\n"]
        {
            assert_eq!(Fstab::parse(text).render(), text);
        }
    }

    #[test]
    fn fields_are_read() {
        let fstab = Fstab::parse(DEBIAN);
        let all: Vec<Entry> = fstab.entries().cloned().collect();
        assert_eq!(all.len(), 7);
        assert_eq!(all[0].device(), Spec::Uuid("9a2b8c1e-5c5f-4b5e-8d5e-0f6f2d1c7a11".into()));
        assert_eq!(
            (all[0].mountpoint(), all[0].fs_type(), all[0].pass()),
            ("/".into(), "ext4".into(), 1)
        );
        assert!(all[2].is_swap());
        assert!(all[3].has_option("noauto") && !all[3].has_option("auto"));
        assert_eq!(
            (all[4].device(), all[4].options()),
            (Spec::Label("home".into()), "noatime".into())
        );
        assert!(all[5].has_option("size"));
        assert_eq!(all[6].device(), Spec::Path("/srv/with blank".into()));
        assert_eq!(all[6].mountpoint(), Path::new("/mnt/a\tb"));
    }

    #[test]
    fn tags_are_read() {
        let table = [
            ("UUID=\"ab\"", Spec::Uuid("ab".into())),
            ("PARTUUID=ab-01", Spec::PartUuid("ab-01".into())),
            ("PARTLABEL=root", Spec::PartLabel("root".into())),
            ("/dev/mapper/vg-root", Spec::Path("/dev/mapper/vg-root".into())),
            ("nas:/export", Spec::Other("nas:/export".into())),
        ];
        for (text, spec) in table {
            assert_eq!(Spec::parse(text), spec, "{text}");
        }
    }

    #[test]
    fn changing_a_field_keeps_the_columns_of_the_others() {
        let mut fstab = Fstab::parse(
            "# c\nUUID=a /               ext4    errors=remount-ro 0       1\nb /x ext4\n",
        );
        let mut entries = fstab.entries_mut();
        let root = entries.next().unwrap();
        root.set_spec("UUID=new");
        root.set_options("noatime");
        entries.next().unwrap().set_pass(2);
        drop(entries);
        fstab.push(Entry::new("UUID=c", Path::new("/with blank"), "xfs", "defaults", 0));
        assert_eq!(
            fstab.render(),
            "# c\nUUID=new /               ext4    noatime 0       1\nb /x ext4 defaults 0 2\n\
            UUID=c /with\\040blank xfs defaults 0 0\n"
        );
    }

    #[test]
    fn a_field_of_other_white_space_is_kept_when_one_is_added() {
        let mut fstab = Fstab::parse("a /b \u{3000}\n");
        fstab.entries_mut().next().unwrap().set_options("ro");
        assert_eq!(fstab.render(), "a /b \u{3000} ro\n");
    }

    #[test]
    fn entries_are_removed_or_become_comments() {
        let mut fstab =
            Fstab::parse("# keep\na / ext4 ro 0 1\n/swapfile none swap sw 0 0\nb /usr ext4");
        fstab.retain(|e| e.mountpoint() != Path::new("/usr"));
        fstab.comment_out("not here", Entry::is_swap);
        assert_eq!(
            fstab.render(),
            "# keep\na / ext4 ro 0 1\n# not here\n#/swapfile none swap sw 0 0"
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_rendered_as_it_was_parsed(text in "[ \t\n\\\\#/=a-z0-7]{0,200}") {
            proptest::prop_assert_eq!(Fstab::parse(&text).render(), text);
        }

        #[test]
        fn any_field_is_parsed_as_it_was_rendered(spec in "[^\0]{1,20}", place in "/[^\0]{0,20}") {
            proptest::prop_assume!(!spec.trim().is_empty());
            let entry = Entry::new(&spec, Path::new(&place), "ext4", "defaults", 1);
            let mut fstab = Fstab::default();
            fstab.push(entry);
            let again = Fstab::parse(&fstab.render());
            let entry = again.entries().next().unwrap();
            proptest::prop_assert_eq!(entry.spec(), spec);
            proptest::prop_assert_eq!(entry.mountpoint(), PathBuf::from(place));
        }
    }
}
