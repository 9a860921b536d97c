//! GRUB's settings in a BE: `/etc/default/grub.d/lifeboat.cfg`, the names of root devices in other
//! settings, and a check of the grub.cfg that update-grub makes from them.
//!
//! grub-mkconfig of bookworm and trixie sources `/etc/default/grub`, then
//! `/etc/default/grub.d/*.cfg` in the shell's order. So do grub-install and the maintainer scripts.

use std::path::Path;

use boot::command_line::CommandLine;

use crate::environment::Id;
use crate::storage::subvolume::Subvolume;

/// The file of Lifeboat's own settings, as a path in the root.
pub const SETTINGS_PATH: &str = "etc/default/grub.d/lifeboat.cfg";

const PANIC: &str = r#"# Restart after a kernel panic, or if the initramfs finds no root.
case " $GRUB_CMDLINE_LINUX $GRUB_CMDLINE_LINUX_DEFAULT " in
*" panic="*) ;;
*) GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX panic=30" ;;
esac
"#;

/// The settings of an adopted system, which keeps its distribution's loader.
pub fn adopted_settings() -> String {
    format!("# Written by Lifeboat.\n{PANIC}")
}

/// The settings of a BE with this root. `resume` is its kernel parameter for hibernation. Debian's
/// grub-install and the maintainer scripts of grub-efi and shim use the lower-cased first word of
/// `GRUB_DISTRIBUTOR` as the directory on the ESP.
///
/// update-grub puts `root=` first, then these variables. A kernel obeys the last `root=`, so one
/// that another setting brings, such as a variable of its own, is followed by the right one.
pub fn settings(id: Id, os_name: &str, resume: &str, uuid: &str) -> String {
    let word = bootloader_id(id);
    let os: String =
        os_name.chars().filter(|c| c.is_ascii_alphanumeric() || " ._/+-".contains(*c)).collect();
    format!(
        r#"# Written by Lifeboat. This boot environment shares its machine with others.
# If grub-install runs here, the first word is its directory on the EFI system partition. It must
# not be the distribution's own.
GRUB_DISTRIBUTOR="{distributor}"
# The other boot environments have their own menu entries, so their disks need not be read.
GRUB_DISABLE_OS_PROBER=true
# Device names depend on which disks are connected.
unset GRUB_DISABLE_LINUX_UUID GRUB_FORCE_PARTUUID
# Shared swap may hold the hibernated memory of another boot environment.
GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX "{resume}
{PANIC}# The kernel obeys the last root=, which must be that of this boot environment.
case " $GRUB_CMDLINE_LINUX $GRUB_CMDLINE_LINUX_DEFAULT " in
*[!a-z]root=*)
	GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX "{root}
	GRUB_CMDLINE_LINUX_DEFAULT="$GRUB_CMDLINE_LINUX_DEFAULT "{root}
	;;
esac
"#,
        distributor = format!("{word} {}", os.trim()).trim_end(),
        resume = shell_quoted(resume),
        root = shell_quoted(&format!("root=UUID={uuid}")),
    )
}

/// A text as one word of a shell. Within single quotes only the quote itself is special.
fn shell_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The first word of a BE's `GRUB_DISTRIBUTOR`.
pub fn bootloader_id(id: Id) -> String {
    format!("lifeboat-{}", id.short())
}

/// The names in the source's settings that are others in the copy.
#[derive(Clone, Copy, Debug)]
pub struct Renaming<'a> {
    /// The UUID of the source's root.
    pub old_uuid: &'a str,
    /// The UUID of the copy's root.
    pub new_uuid: &'a str,
    /// Both have the same type.
    pub same_type: bool,
    /// The name of the system in the titles of the source's menu.
    pub os_name: &'a str,
    /// The copy.
    pub id: Id,
}

impl Renaming<'_> {
    /// The settings of the source with the copy's root: its UUID everywhere (`GRUB_DEFAULT` has it
    /// in the ids of menu entries), `root=` in kernel command lines, and the titles that
    /// `GRUB_DEFAULT` names. `resume=` is removed, because [`settings`] sets it, and so are the
    /// options of another type of file system.
    pub fn in_settings(&self, text: &str) -> String {
        let text = self.in_ids(text);
        let mut done = String::new();
        for assignment in assignments(&text) {
            let name = assignment.trim_start().trim_start_matches("export ");
            done.push_str(&match name {
                _ if name.starts_with("GRUB_CMDLINE_") => {
                    renamed_words(assignment, self.new_uuid, self.same_type)
                }
                _ if name.starts_with("GRUB_DEFAULT=") => self.in_titles(assignment),
                _ => assignment.to_owned(),
            });
        }
        done
    }

    /// The choice of a menu entry, by ids or titles, in the copy's menu.
    pub fn in_choice(&self, text: &str) -> String {
        self.in_titles(&self.in_ids(text))
    }

    fn in_ids(&self, text: &str) -> String {
        match self.old_uuid {
            "" => text.to_owned(),
            old => text.replace(old, self.new_uuid),
        }
    }

    /// Titles begin with `GRUB_DISTRIBUTOR`, or with its name after "Advanced options for".
    fn in_titles(&self, text: &str) -> String {
        let own = bootloader_id(self.id);
        if let Some(of_source) = of_a_copy(text) {
            return text.replace(&of_source, &own);
        }
        let os = self.os_name.trim();
        if os.is_empty() {
            return text.to_owned();
        }
        let mut done = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(os) {
            let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '-');
            let (before, after) = (&rest[..at], &rest[at + os.len()..]);
            done.push_str(before);
            if !is_part(before.chars().last()) && !is_part(after.chars().next()) {
                done.push_str(&own);
                done.push(' ');
            }
            done.push_str(os);
            rest = after;
        }
        done + rest
    }
}

/// The first word of the titles of a BE that Lifeboat made, if the text has one.
fn of_a_copy(text: &str) -> Option<String> {
    const START: &str = "lifeboat-";
    let at = text.find(START)?;
    let word = text.get(at..at + START.len() + 8)?;
    word[START.len()..].bytes().all(|b| b.is_ascii_hexdigit()).then(|| word.to_owned())
}

/// The lines of a shell file. A line that ends in a backslash, or within quotes, goes on in the
/// next one and is one with it.
fn assignments(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let (mut start, mut quote, mut escaped, mut comment) = (0, None, false, false);
    let mut before = '\n';
    for (at, c) in text.char_indices() {
        match c {
            _ if std::mem::take(&mut escaped) => {}
            '\n' if quote.is_none() => {
                found.push(&text[start..=at]);
                (start, comment) = (at + 1, false);
            }
            _ if comment => {}
            '\\' if quote != Some('\'') => escaped = true,
            '"' | '\'' if quote.is_none() => quote = Some(c),
            '"' | '\'' if quote == Some(c) => quote = None,
            '#' if quote.is_none() && before.is_whitespace() => comment = true,
            _ => {}
        }
        before = c;
    }
    found.extend((start < text.len()).then(|| &text[start..]));
    found
}

fn renamed_words(line: &str, uuid: &str, same_type: bool) -> String {
    let is_edge = |c: char| c.is_whitespace() || matches!(c, '"' | '\'');
    let mut renamed = String::new();
    let mut rest = line;
    while let Some(start) = rest.find(|c: char| !is_edge(c)) {
        let end = rest[start..].find(is_edge).map_or(rest.len(), |length| start + length);
        let word = &rest[start..end];
        // In `VARIABLE=root=…` without quotes, the variable's name is part of the first word.
        let (before, parameter) = match word.split_once('=') {
            Some((name, value)) if name.starts_with("GRUB_") => (&word[..=name.len()], value),
            _ => ("", word),
        };
        let name = parameter.split_once('=').map(|(name, _)| name);
        let flags = match parameter.strip_prefix("rootflags=") {
            // The root of a copy is not a subvolume.
            Some(flags) if same_type => {
                Subvolume::other_options(flags).collect::<Vec<_>>().join(",")
            }
            _ => String::new(),
        };
        let dropped = match name {
            Some("resume" | "resume_offset") => true,
            Some("rootfstype") => !same_type,
            Some("rootflags") => flags.is_empty(),
            _ => parameter == "noresume",
        };
        renamed.push_str(&rest[..start]);
        renamed.push_str(before);
        if name == Some("root") {
            renamed.push_str(&format!("root=UUID={uuid}"));
        } else if name == Some("rootflags") && !dropped {
            renamed.push_str(&format!("rootflags={flags}"));
        } else if !dropped {
            renamed.push_str(parameter);
        } else if renamed.ends_with(' ') {
            renamed.pop();
        }
        rest = &rest[end..];
    }
    renamed.push_str(rest);
    renamed
}

/// The grub.cfg with `panic=30` for each kernel, which restarts the machine after a kernel panic.
/// It is what update-grub will make from [`adopted_settings`]. update-grub is not run for it,
/// because it may read the disks of other systems and does not replace the file atomically.
pub fn with_panic(grub_cfg: &str) -> String {
    let line = |line: &str| {
        let has =
            |name: &str| kernel(line).is_some_and(|mut words| words.any(|w| w.starts_with(name)));
        if !has("root=") || has("panic=") {
            return line.to_owned();
        }
        let text = line.trim_end();
        format!("{text} panic=30{}", &line[text.len()..])
    };
    grub_cfg.split_inclusive('\n').map(line).collect()
}

/// The file and the parameters of the kernel that a line of a grub.cfg loads; `None` if it does not
/// load one.
fn kernel(line: &str) -> Option<std::str::SplitWhitespace<'_>> {
    let mut words = line.split_whitespace();
    matches!(words.next()?, "linux" | "linux16" | "linuxefi").then_some(words)
}

/// Why the command line of the default entry would not boot this root; `None` if it would. `device`
/// is the root's device, which Debian's scripts name if it is a logical volume.
pub fn wrong_root(options: Option<&str>, uuid: &str, device: &Path) -> Option<String> {
    let Some(options) = options else {
        return Some(
            "it has no menu entry that starts a kernel: is there a kernel in /boot?".into(),
        );
    };
    // The kernel obeys the last one.
    let line = CommandLine::parse(options);
    let root = line.get("root").unwrap_or("no device");
    let is_same_node = |root: &Path| root.canonicalize().ok() == device.canonicalize().ok();
    let is_volume = root.starts_with("/dev/mapper/")
        && Path::new(root).exists()
        && is_same_node(Path::new(root));
    if root.strip_prefix("UUID=") == Some(uuid) || is_volume {
        return None;
    }
    Some(format!("its default menu entry has {root} as root, not UUID={uuid}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::Tool;

    #[test]
    fn every_kernel_with_a_root_restarts_after_a_panic() {
        let grub_cfg = "menuentry 'Debian' {\n\tlinux\t/boot/vmlinuz-6.1 root=UUID=a ro  \
            quiet\n\tinitrd\t/boot/initrd.img-6.1\n}\n\
            linux16 /boot/memtest86+.bin\n  linux /vmlinuz root=UUID=a ro panic=5\n# linux root=\n";
        let changed = with_panic(grub_cfg);
        assert_eq!(changed, grub_cfg.replace("ro  quiet\n", "ro  quiet panic=30\n"));
        assert_eq!(with_panic(&changed), changed);
    }

    fn id() -> Id {
        "2f0c1a94-0000-4000-8000-000000000000".parse().unwrap()
    }

    /// The variables of a shell that sources the settings as grub-mkconfig does, under `set -e`.
    fn sourced(before: &str, settings: &str) -> String {
        let script = format!(
            "set -e\n{before}\n{settings}\necho \"$GRUB_DISTRIBUTOR|$GRUB_DISABLE_OS_PROBER|\
            $GRUB_CMDLINE_LINUX|$GRUB_DISABLE_LINUX_UUID\""
        );
        Tool::new("sh").args(["-c", &script]).run().unwrap().trim_end().to_owned()
    }

    #[test]
    fn the_shell_reads_the_settings() {
        let be = settings(id(), "Debian", "noresume", "new");
        let default = "GRUB_DISTRIBUTOR=Debian\nGRUB_CMDLINE_LINUX=\"console=ttyS0\"\n\
            GRUB_DISABLE_LINUX_UUID=true";
        assert_eq!(
            sourced(default, &be),
            "lifeboat-2f0c1a94 Debian|true|console=ttyS0 noresume panic=30|"
        );
        // The administrator's own panic= is kept.
        assert_eq!(
            sourced("GRUB_CMDLINE_LINUX=panic=-1", &be).split('|').nth(2),
            Some("panic=-1 noresume")
        );
        assert_eq!(sourced("GRUB_DISTRIBUTOR=Debian", &adopted_settings()), "Debian|| panic=30|");
        // A hostile os-release cannot end the quotes.
        assert!(
            sourced("", &settings(id(), "x\";reboot $(id) `id`", "noresume", "new"))
                .starts_with("lifeboat-2f0c1a94 xreboot id id|")
        );
    }

    #[test]
    fn no_text_of_a_disk_is_run_by_the_shell() {
        for text in ["$(touch /PWNED; echo x)", "`id`", "a'b", "a\"b", "a\\", "a b"] {
            let sourced = sourced("", &settings(id(), text, &format!("resume=UUID={text}"), text));
            let line = sourced.split('|').nth(2).unwrap().to_owned();
            assert_eq!(line, format!(" resume=UUID={text} panic=30"), "{text}");
        }
    }

    #[test]
    fn the_last_root_of_the_command_line_is_that_of_the_be() {
        let be = settings(id(), "Debian", "noresume", "new");
        let last = |default: &str| {
            let script = format!(
                "set -e\n{default}\n{be}\necho \"$GRUB_CMDLINE_LINUX $GRUB_CMDLINE_LINUX_DEFAULT\""
            );
            let printed = Tool::new("sh").args(["-c", &script]).run().unwrap();
            CommandLine::parse(&printed).get("root").map(str::to_owned)
        };
        for default in [
            "GRUB_CMDLINE_LINUX=\"net.ifnames=0 \\\n root=/dev/sda2\"",
            "more=root=/dev/sda2\nGRUB_CMDLINE_LINUX=\"$more quiet\"",
            "more=root=/dev/sda2\nGRUB_CMDLINE_LINUX_DEFAULT=$more",
            "GRUB_CMDLINE_LINUX=\"ro root=LABEL=x\"",
        ] {
            assert_eq!(last(default).as_deref(), Some("UUID=new"), "{default}");
        }
        for default in ["", "GRUB_CMDLINE_LINUX=\"chroot=x rootflags=a nfsroot=1\""] {
            assert_eq!(last(default), None, "{default}");
        }
    }

    fn renaming(old_uuid: &'static str, same_type: bool) -> Renaming<'static> {
        Renaming { old_uuid, new_uuid: "new", same_type, os_name: "Debian", id: id() }
    }

    #[test]
    fn settings_name_the_new_root() {
        let old = "5b0c7a52-ffff";
        let table = [
            ("GRUB_CMDLINE_LINUX=\"\"\n", "GRUB_CMDLINE_LINUX=\"\"\n"),
            (
                "GRUB_CMDLINE_LINUX=\"root=/dev/sda2 quiet\"\n",
                "GRUB_CMDLINE_LINUX=\"root=UUID=new quiet\"\n",
            ),
            ("GRUB_CMDLINE_LINUX=root=LABEL=x\n", "GRUB_CMDLINE_LINUX=root=UUID=new\n"),
            (
                "GRUB_CMDLINE_LINUX_DEFAULT='quiet resume=UUID=77 splash'",
                "GRUB_CMDLINE_LINUX_DEFAULT='quiet splash'",
            ),
            (
                "GRUB_CMDLINE_LINUX=\"rootflags=subvol=@ rootfstype=xfs ro\"",
                "GRUB_CMDLINE_LINUX=\" rootfstype=xfs ro\"",
            ),
            (
                "GRUB_DEFAULT=\"gnulinux-advanced-5b0c7a52-ffff>gnulinux-6.1-5b0c7a52-ffff\"",
                "GRUB_DEFAULT=\"gnulinux-advanced-new>gnulinux-6.1-new\"",
            ),
            (
                "GRUB_CMDLINE_LINUX=\"rootflags=subvol=@,noatime noresume ro\"",
                "GRUB_CMDLINE_LINUX=\"rootflags=noatime ro\"",
            ),
            ("# root=/dev/sda2 in a comment\n", "# root=/dev/sda2 in a comment\n"),
            (
                "GRUB_CMDLINE_LINUX=\"net.ifnames=0 \\\n    root=/dev/sda2\"\nGRUB_TIMEOUT=5\n",
                "GRUB_CMDLINE_LINUX=\"net.ifnames=0 \\\n    root=UUID=new\"\nGRUB_TIMEOUT=5\n",
            ),
            (
                "GRUB_CMDLINE_LINUX='a\nroot=/dev/sda2' # it's\nX=root=/dev/sda2\n",
                "GRUB_CMDLINE_LINUX='a\nroot=UUID=new' # it's\nX=root=/dev/sda2\n",
            ),
            (
                "# don't\nGRUB_CMDLINE_LINUX=root=/dev/sda2\n",
                "# don't\nGRUB_CMDLINE_LINUX=root=UUID=new\n",
            ),
        ];
        for (text, expected) in table {
            assert_eq!(renaming(old, true).in_settings(text), expected);
        }
        assert_eq!(
            renaming("", false).in_settings("GRUB_CMDLINE_LINUX=\"rootfstype=ext4 a\""),
            "GRUB_CMDLINE_LINUX=\" a\""
        );
    }

    #[test]
    fn a_pinned_kernel_is_pinned_in_the_copy() {
        let own = "lifeboat-2f0c1a94";
        let titles = "Advanced options for Debian GNU/Linux>Debian GNU/Linux, with Linux 6.1.0-18";
        let expected = format!(
            "Advanced options for {own} Debian GNU/Linux>{own} Debian GNU/Linux, with Linux \
            6.1.0-18"
        );
        let renaming = renaming("5b0c7a52-ffff", true);
        assert_eq!(renaming.in_choice(titles), expected);
        assert_eq!(
            renaming.in_settings(&format!("GRUB_DEFAULT=\"{titles}\"\n# Debian\n")),
            format!("GRUB_DEFAULT=\"{expected}\"\n# Debian\n")
        );
        // A copy of a copy, and one that is localized again.
        assert_eq!(renaming.in_choice(&expected.replace("2f0c1a94", "deadbeef")), expected);
        assert_eq!(renaming.in_choice(&expected), expected);
        for same in ["0", "1>2", "saved", "gnulinux-6.1-advanced-x", "MyDebian", "0123-4.18.el8"] {
            assert_eq!(renaming.in_choice(same), same);
        }
        assert_eq!(renaming.in_choice("gnulinux-5b0c7a52-ffff"), "gnulinux-new");
    }

    #[test]
    fn the_default_entry_is_checked_for_its_root() {
        let device = Path::new("/dev/vdb1");
        let options = Some("root=UUID=new ro quiet");
        assert_eq!(wrong_root(options, "new", device), None);
        assert!(
            wrong_root(options, "other", device)
                .unwrap()
                .contains("UUID=new as root, not UUID=other")
        );
        assert!(wrong_root(None, "new", device).unwrap().contains("no menu entry"));
        for wrong in ["root=/dev/vdb1", "ro", "root=UUID=new ro root=/dev/sda2"] {
            assert!(wrong_root(Some(wrong), "new", device).is_some(), "{wrong}");
        }
        assert_eq!(wrong_root(Some("root=/dev/sda2 root=UUID=new"), "new", device), None);
    }
}
