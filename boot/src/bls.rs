//! Boot loader entries of type 1: UAPI.1, the Boot Loader Specification; version
//! comparison: UAPI.10, the Version Format Specification.

use std::cmp::{Ordering, Reverse};

/// The boot counters in the name of an entry's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tries {
    /// Attempts that are left.
    pub left: u32,
    /// Attempts that were made.
    pub done: u32,
}

/// A file in `\loader\entries`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    /// The file's name without counters and `.conf`, as in `LoaderEntryDefault`.
    pub id: String,
    /// The counters; `None` once the entry is known to be good.
    pub tries: Option<Tries>,
    /// What the menu shows.
    pub title: Option<String>,
    /// The version. Newer entries sort first.
    pub version: Option<String>,
    /// The machine-id of the system that the entry belongs to.
    pub machine_id: Option<String>,
    /// Entries are sorted by this key before their version.
    pub sort_key: Option<String>,
    /// The kernel's path, from the root of the file system that holds the entry.
    pub linux: Option<String>,
    /// The initramfs images, in order. One line may name several, as GRUB reads it.
    pub initrd: Vec<String>,
    /// An EFI program, instead of a kernel.
    pub efi: Option<String>,
    /// A unified kernel image, instead of a kernel.
    pub uki: Option<String>,
    /// The kernel command line. Repeated `options` lines are joined.
    pub options: String,
    /// The device tree file.
    pub devicetree: Option<String>,
    /// The processor architecture that the entry is for.
    pub architecture: Option<String>,
}

impl Entry {
    /// Parses an entry; `file` is the name of its file. Returns `None` if that is not the name of
    /// an entry, or if the entry names nothing to boot. Unknown keys are ignored.
    pub fn parse(file: &str, text: &str) -> Option<Self> {
        let (id, tries) = parse_name(file)?;
        let mut entry = Self { id, tries, ..Self::default() };
        for line in text.lines().map(str::trim) {
            let Some((key, value)) = line.split_once([' ', '\t']) else {
                continue;
            };
            entry.set(key, value.trim());
        }
        let bootable = entry.linux.is_some() || entry.efi.is_some() || entry.uki.is_some();
        bootable.then_some(entry)
    }

    fn set(&mut self, key: &str, value: &str) {
        let field = match key {
            "title" => &mut self.title,
            "version" => &mut self.version,
            "machine-id" => &mut self.machine_id,
            "sort-key" => &mut self.sort_key,
            "linux" => &mut self.linux,
            "efi" => &mut self.efi,
            "uki" => &mut self.uki,
            "devicetree" => &mut self.devicetree,
            "architecture" => &mut self.architecture,
            "initrd" => {
                return self.initrd.extend(value.split_whitespace().map(str::to_owned));
            }
            "options" => {
                if !self.options.is_empty() {
                    self.options.push(' ');
                }
                return self.options.push_str(value);
            }
            _ => return,
        };
        *field = Some(value.to_owned());
    }

    /// The entry with its variables replaced, as GRUB's `blscfg` command does it: `$name` and
    /// `${name}` in the kernel, the initramfs images and the options. `value` returns the value of
    /// a variable, empty if it has none. An image whose name is then empty is left out.
    pub fn with_variables(&self, mut value: impl FnMut(&str) -> String) -> Self {
        let mut words = |text: &str| expanded(text, &mut value);
        let linux = self.linux.as_deref().map(|text| words(text).trim().to_owned());
        let initrd = self.initrd.iter().map(|text| words(text)).collect::<Vec<_>>().join(" ");
        let options = words(&self.options).split_whitespace().collect::<Vec<_>>().join(" ");
        Self {
            linux: linux.filter(|kernel| !kernel.is_empty()),
            initrd: initrd.split_whitespace().map(str::to_owned).collect(),
            options,
            ..self.clone()
        }
    }

    /// Whether no attempts are left.
    pub fn is_bad(&self) -> bool {
        self.tries.is_some_and(|tries| tries.left == 0)
    }

    /// The name of its file.
    pub fn file_name(&self) -> String {
        match self.tries {
            None => format!("{}.conf", self.id),
            Some(Tries { left, done: 0 }) => format!("{}+{left}.conf", self.id),
            Some(Tries { left, done }) => format!("{}+{left}-{done}.conf", self.id),
        }
    }
}

/// Sorts entries into the order of a boot menu. The first one is the default.
pub fn sort(entries: &mut [Entry]) {
    entries.sort_by(|a, b| {
        let keyless = |entry: &Entry| entry.sort_key.is_none();
        let version = |entry: &Entry| entry.version.clone().unwrap_or_default();
        let by_key = match (&a.sort_key, &b.sort_key) {
            (Some(x), Some(y)) => x
                .cmp(y)
                .then_with(|| a.machine_id.cmp(&b.machine_id))
                .then_with(|| compare_versions(&version(b), &version(a))),
            _ => Ordering::Equal,
        };
        let tries = |entry: &Entry| entry.tries.map(|tries| (Reverse(tries.left), tries.done));
        a.is_bad()
            .cmp(&b.is_bad())
            .then_with(|| keyless(a).cmp(&keyless(b)))
            .then(by_key)
            .then_with(|| compare_versions(&b.id, &a.id))
            .then_with(|| tries(a).cmp(&tries(b)))
    });
}

/// The longest text that variables may expand to: that of a kernel command line is shorter.
const MAX_EXPANDED: usize = 1 << 16;

fn expanded(text: &str, value: &mut impl FnMut(&str) -> String) -> String {
    let mut done = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        done.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let braced = after.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let (name, left) = match braced {
            Some((name, left)) => (name, left),
            None => {
                let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
                after.split_at(after.find(|c| !is_name(c)).unwrap_or(after.len()))
            }
        };
        if done.len() <= MAX_EXPANDED {
            done.push_str(&value(name));
        }
        rest = left;
    }
    done.push_str(rest);
    done
}

/// `NAME.conf`, `NAME+LEFT.conf` or `NAME+LEFT-DONE.conf`.
fn parse_name(file: &str) -> Option<(String, Option<Tries>)> {
    let stem = file.strip_suffix(".conf")?;
    let counted = stem.rsplit_once('+').and_then(|(id, counters)| {
        let (left, done) = counters.split_once('-').unwrap_or((counters, "0"));
        let tries = Tries { left: counter(left)?, done: counter(done)? };
        Some((id, tries))
    });
    let (id, tries) = match counted {
        Some((id, tries)) => (id, Some(tries)),
        None => (stem, None),
    };
    (!id.is_empty()).then(|| (id.to_owned(), tries))
}

fn counter(digits: &str) -> Option<u32> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| plain)
}

/// Compares versions: `6.1.0-9` is less than `6.1.0-10`, `1~rc1` less than `1`.
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    uapi_version::strverscmp(a, b)
}

#[cfg(test)]
mod tests;
