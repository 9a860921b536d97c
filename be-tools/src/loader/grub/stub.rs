//! The stub: Lifeboat's small GRUB configuration on the ESP (GRUB manual, "Writing full
//! configuration files directly").
//!
//! It counts the attempt in the environment block in its directory, finds the BE's `/boot` and
//! reads the BE's own grub.cfg. A file system on the disk of the stub comes before others with its
//! UUID, also where the grub.cfg searches it again: GRUB remembers what it found for a UUID
//! (grub-core/commands/search.c; `try` is the same in 2.06 and 2.12). The first entry of the menu
//! is the stub's own: GRUB falls back to it when the default entry fails. GRUB's language has no
//! arithmetic, hence the chain of `elif`. An embedded configuration does not even have conditions,
//! hence `early.cfg`.

use std::fmt::Write;

use crate::loader::trial_record;

/// The path at which the stub looks for the rescue image, on its own ESP only.
pub const RESCUE_IMAGE: &str = "/EFI/lifeboat/rescue.efi";

const TEMPLATE: &str = include_str!("stub.cfg");
/// How the stub prefers its own disk.
pub(super) const HINT: &str = "--hint=\"$lifeboat_hint\" ";

const EARLY: &str = include_str!("early.cfg");

/// The modules for the image: those that GRUB itself needs, and those that the grub.cfg of a
/// distribution uses. Modules that the BE's GRUB does not have are left out.
pub const MODULES: &[&str] = &[
    "all_video",
    "boot",
    "btrfs",
    "cat",
    "chain",
    "configfile",
    "echo",
    "efi_gop",
    "efi_uga",
    "efifwsetup",
    "ext2",
    "fat",
    "font",
    "gettext",
    "gfxterm",
    "gfxterm_background",
    "gzio",
    "halt",
    "jpeg",
    "keystatus",
    "linux",
    "loadenv",
    "ls",
    "minicmd",
    "normal",
    "part_gpt",
    "part_msdos",
    "png",
    "probe",
    "read",
    "reboot",
    "regexp",
    "search",
    "search_fs_file",
    "search_fs_uuid",
    "search_label",
    "serial",
    "sleep",
    "smbios",
    "terminal",
    "test",
    "true",
    "video_bochs",
    "video_cirrus",
    "xfs",
    "zstd",
];

/// The modules without which the image cannot start a BE. A GRUB that lacks one cannot be used.
pub const REQUIRED: &[&str] = &[
    "chain",
    "configfile",
    "echo",
    "fat",
    "linux",
    "loadenv",
    "minicmd",
    "normal",
    "part_gpt",
    "reboot",
    "regexp",
    "search",
    "search_fs_uuid",
    "sleep",
    "test",
];

/// The configuration that is embedded in the image. It reads `stub`, a file in the image's
/// directory.
///
/// The directory of the image is `$cmdpath`; Debian's GRUB 2.12 calls it `$fw_path` instead.
pub fn early_configuration(stub: &str) -> String {
    EARLY.replace("@stub@", stub)
}

/// The length of a BLAKE3 hash in hex.
const HASH_LENGTH: usize = 64;

/// The GRUB image of a stub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its file name, in the same directory.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its BLAKE3 hash in hex.
    pub hash: String,
}

impl Image {
    /// The image with this file name and content.
    pub fn of(name: &str, bytes: &[u8]) -> Self {
        Image {
            name: name.to_owned(),
            size: bytes.len() as u64,
            hash: blake3::hash(bytes).to_hex().to_string(),
        }
    }
}

/// The `/boot` directory of a BE, as GRUB finds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootDirectory {
    /// The UUID of its file system, for GRUB's `search --fs-uuid`.
    pub uuid: String,
    /// The path of `/boot` in that file system: `/boot`, `/` on a separate file system, `/@/boot`
    /// in a subvolume.
    pub path: String,
}

/// The content of a stub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stub {
    /// The image that reads it.
    pub image: Image,
    /// The boot directory whose grub.cfg it reads.
    pub boot: BootDirectory,
}

impl Stub {
    /// The file's text.
    pub fn render(&self) -> String {
        let path = self.boot.path.trim_end_matches('/');
        let shown = if path.is_empty() { "the /boot file system" } else { path };
        let image = format!("{} {} {}", self.image.name, self.image.size, self.image.hash);
        let missing = format!("Lifeboat: {shown} of this boot environment was not found.");
        let mut text = filled(TEMPLATE, |name| match name {
            "image" => image.clone(),
            "rescue" => RESCUE_IMAGE.into(),
            "environment" => trial_record::FILE.into(),
            "uuid" => quoted(&self.boot.uuid),
            "missing" => quoted(&missing),
            "boot" => quoted(path),
            unknown => format!("@{unknown}@"),
        });
        let hash = blake3::hash(text.as_bytes()).to_hex();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# end {hash}");
        text
    }

    /// Whether a stub that can be read is of an earlier version.
    pub fn is_outdated(text: &str) -> bool {
        !text.contains(HINT)
    }

    /// Reads a stub that [`Stub::render`] wrote.
    ///
    /// # Errors
    /// A phrase that follows the file's name and says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const DAMAGED: &str = "is damaged or was edited";
        let (body, hash) = text.trim_end().rsplit_once("\n# end ").ok_or(DAMAGED)?;
        let body = format!("{body}\n");
        if blake3::hash(body.as_bytes()).to_hex().as_str() != hash {
            return Err(DAMAGED);
        }
        let line = |start: &str| {
            body.lines().find_map(|l| l.trim_start().strip_prefix(start)).ok_or(DAMAGED)
        };
        let mut words = line("# image ")?.split(' ');
        let (Some(name), Some(size), Some(hash)) = (words.next(), words.next(), words.next())
        else {
            return Err(DAMAGED);
        };
        let found = line("search --no-floppy --fs-uuid --set=lifeboat_boot ")?;
        // The first version had no hint.
        let uuid = found.strip_prefix(HINT).unwrap_or(found);
        let path = line("set prefix=\"($root)\"")?.strip_suffix("/grub").ok_or(DAMAGED)?;
        let (uuid, path) = (unquoted(uuid), unquoted(path));
        let is_file = |b: u8| b.is_ascii_graphic() && !matches!(b, b'/' | b'\\');
        let is_hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
        let sound = name.bytes().all(is_file)
            && hash.len() == HASH_LENGTH
            && is_hex(hash)
            && is_hex(&uuid.replace('-', ""))
            && !path.chars().any(char::is_control);
        if !sound {
            return Err(DAMAGED);
        }
        Ok(Stub {
            image: Image {
                name: name.into(),
                size: size.parse().map_err(|_| DAMAGED)?,
                hash: hash.into(),
            },
            boot: BootDirectory { uuid, path: if path.is_empty() { "/".into() } else { path } },
        })
    }
}

/// A template with a value for each `@name@` in it. What a value contains is never replaced: a
/// subvolume may be called `@boot@`.
fn filled(template: &str, value: impl Fn(&str) -> String) -> String {
    let parts = template.split('@').enumerate();
    parts.map(|(n, part)| if n % 2 == 1 { value(part) } else { part.to_owned() }).collect()
}

/// Quotes a string for GRUB. Within single quotes only the quote itself is special.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn unquoted(text: &str) -> String {
    let inner = text.strip_prefix('\'').and_then(|t| t.strip_suffix('\'')).unwrap_or(text);
    inner.replace(r"'\''", "'")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::Tool;

    fn stub(path: &str) -> Stub {
        let boot = BootDirectory {
            uuid: "5a1f6d9e-0001-4a52-9a7e-0c6f6e1f3b55".into(),
            path: path.into(),
        };
        Stub { image: Image::of("grubx64.efi", b"MZ"), boot }
    }

    #[test]
    fn a_stub_that_was_written_is_read_back() {
        for path in ["/boot", "/", "/@rootfs/boot", "/it's a $place/boot"] {
            let stub = stub(path);
            assert_eq!(Stub::parse(&stub.render()).as_ref(), Ok(&stub), "{path}");
            assert!(!stub.render().contains('@') || path.contains('@'), "{}", stub.render());
        }
    }

    #[test]
    fn a_stub_of_the_first_version_is_read() {
        let text = include_str!("../../../fixtures/stub-1.cfg");
        let boot = Stub::parse(text).unwrap().boot;
        assert_eq!(boot, stub("/boot").boot);
        assert!(Stub::is_outdated(text) && !Stub::is_outdated(&stub("/boot").render()));
    }

    #[test]
    fn the_disk_of_the_stub_comes_first_and_nothing_else_is_searched() {
        let text = stub("/boot").render();
        let searches: Vec<_> = text.lines().filter(|l| l.contains("search --")).collect();
        assert_eq!(searches.len(), 1, "{text}");
        assert!(searches[0].contains(HINT), "{text}");
    }

    #[test]
    fn a_path_like_a_place_of_the_template_stays_in_its_quotes() {
        for path in ["/@boot@;reboot;/boot", "/@missing@/boot", "/@uuid@ @image@"] {
            let stub = stub(path);
            let text = stub.render();
            assert_eq!(Stub::parse(&text).as_ref(), Ok(&stub), "{path}");
            assert!(text.contains(&format!("'Lifeboat: {path} of this")), "{text}");
        }
    }

    #[test]
    fn any_change_is_detected() {
        let text = stub("/boot").render();
        for changed in [
            text.replace("0001", "0002"),
            text[..text.len() / 2].into(),
            text.replace("attempts=3", "attempts=9"),
        ] {
            assert!(Stub::parse(&changed).is_err());
        }
    }

    /// GRUB's own parser accepts it.
    #[test]
    fn grub_can_parse_it() {
        for path in ["/boot", "/", "/it's a $place/boot"] {
            let tool = Tool::new("grub-script-check").input(stub(path).render());
            match tool.run() {
                Err(crate::tool::ToolError::Start { .. }) => {
                    eprintln!("skipped: grub-script-check is not installed")
                }
                judged => drop(judged.unwrap()),
            }
        }
    }

    #[test]
    fn the_embedded_configuration_has_no_conditions() {
        let text = early_configuration("lifeboat-2.cfg");
        assert!(
            text.contains("/lifeboat-2.cfg") && !text.contains("if ") && !text.contains('@'),
            "{text}"
        );
    }

    #[test]
    fn required_modules_are_built_in() {
        assert!(REQUIRED.iter().all(|m| MODULES.contains(m)));
    }
}
