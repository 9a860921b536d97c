//! The stub: Lifeboat's small GRUB configuration on the ESP (GRUB manual, "Writing full
//! configuration files directly").
//!
//! It counts the attempt in the environment block beside it, finds the BE's `/boot` and hands over
//! to the BE's own grub.cfg, in the same menu, behind an entry of its own that a failed default
//! falls to. GRUB's language has no arithmetic, and an embedded configuration not even conditions:
//! hence a chain of `elif`, and `early.cfg`.

use std::fmt::Write;

use crate::loader::trial_record;

/// Where the stub looks for the rescue image: on its own ESP first, then on every partition.
pub const RESCUE_IMAGE: &str = "/EFI/lifeboat/rescue.efi";

const TEMPLATE: &str = include_str!("stub.cfg");
const EARLY: &str = include_str!("early.cfg");

/// Modules that are built into the image: GRUB's own needs, and what a distribution's grub.cfg
/// calls. Those that the BE's GRUB does not have are left out.
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

/// Without these the image would not find its way; a GRUB that lacks one cannot be used.
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
    "search_fs_file",
    "search_fs_uuid",
    "sleep",
    "test",
];

/// The configuration that is embedded in the image: it reads `stub`, a file beside the image.
///
/// The directory of the image is `$cmdpath`; Debian's GRUB 2.12 calls it `$fw_path` instead.
pub fn early_configuration(stub: &str) -> String {
    EARLY.replace("@stub@", stub)
}

/// A GRUB image as its stub knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its file name, in the same directory.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// BLAKE3, hex.
    pub hash: String,
}

impl Image {
    /// What `bytes`, to be written as `name`, are.
    pub fn of(name: &str, bytes: &[u8]) -> Self {
        Image {
            name: name.to_owned(),
            size: bytes.len() as u64,
            hash: blake3::hash(bytes).to_hex().to_string(),
        }
    }
}

/// Where GRUB finds a BE's `/boot`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootDirectory {
    /// UUID of its file system, as GRUB's `search --fs-uuid` takes it.
    pub uuid: String,
    /// Path of `/boot` from the root of that file system: `/boot`, `/` where it is a file system of
    /// its own, `/@/boot` in a subvolume.
    pub path: String,
}

/// What a stub says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stub {
    /// The image that reads it.
    pub image: Image,
    /// Where it leads.
    pub boot: BootDirectory,
}

impl Stub {
    /// The file's text.
    pub fn render(&self) -> String {
        let path = self.boot.path.trim_end_matches('/');
        let shown = if path.is_empty() { "the /boot file system" } else { path };
        let image = format!("{} {} {}", self.image.name, self.image.size, self.image.hash);
        let mut text = TEMPLATE
            .replace("@image@", &image)
            .replace("@rescue@", RESCUE_IMAGE)
            .replace("@environment@", trial_record::FILE)
            .replace("@uuid@", &quoted(&self.boot.uuid))
            .replace(
                "@missing@",
                &quoted(&format!("Lifeboat: {shown} of this boot environment was not found.")),
            )
            .replace("@boot@", &quoted(path));
        let hash = blake3::hash(text.as_bytes()).to_hex();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# end {hash}");
        text
    }

    /// Reads a stub that [`Stub::render`] wrote.
    ///
    /// # Errors
    /// A phrase that follows the file's name: what is wrong with it.
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
        let uuid = line("search --no-floppy --fs-uuid --set=lifeboat_boot ")?;
        let path = line("set prefix=\"($root)\"")?.strip_suffix("/grub").ok_or(DAMAGED)?;
        let path = unquoted(path);
        Ok(Stub {
            image: Image {
                name: name.into(),
                size: size.parse().map_err(|_| DAMAGED)?,
                hash: hash.into(),
            },
            boot: BootDirectory {
                uuid: unquoted(uuid),
                path: if path.is_empty() { "/".into() } else { path },
            },
        })
    }
}

/// In single quotes nothing has a meaning to GRUB but the quote itself.
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
    fn a_stub_says_what_was_written_into_it() {
        for path in ["/boot", "/", "/@rootfs/boot", "/it's a $place/boot"] {
            let stub = stub(path);
            assert_eq!(Stub::parse(&stub.render()).as_ref(), Ok(&stub), "{path}");
            assert!(!stub.render().contains('@') || path.contains('@'), "{}", stub.render());
        }
    }

    #[test]
    fn any_change_is_noticed() {
        let text = stub("/boot").render();
        for changed in [
            text.replace("0001", "0002"),
            text[..text.len() / 2].into(),
            text.replace("attempts=3", "attempts=9"),
        ] {
            assert!(Stub::parse(&changed).is_err());
        }
    }

    /// The oracle: GRUB's own parser.
    #[test]
    fn grub_can_parse_it() {
        for path in ["/boot", "/", "/it's a $place/boot"] {
            let tool = Tool::new("grub-script-check").input(stub(path).render());
            match tool.run() {
                Err(crate::tool::ToolError::Start { .. }) => {
                    eprintln!("grub-script-check is not installed: not judged")
                }
                judged => drop(judged.unwrap()),
            }
        }
    }

    #[test]
    fn the_embedded_configuration_has_no_condition() {
        let text = early_configuration("lifeboat-2.cfg");
        assert!(
            text.contains("/lifeboat-2.cfg") && !text.contains("if ") && !text.contains('@'),
            "{text}"
        );
    }

    #[test]
    fn what_is_required_is_built_in() {
        assert!(REQUIRED.iter().all(|m| MODULES.contains(m)));
    }
}
