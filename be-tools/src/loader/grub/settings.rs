//! GRUB's settings in a BE: `/etc/default/grub.d/lifeboat.cfg`, the names of root devices in other
//! settings, and a check of the grub.cfg that update-grub makes from them. Does no I/O.
//!
//! grub-mkconfig of bookworm and trixie sources `/etc/default/grub`, then
//! `/etc/default/grub.d/*.cfg` in the shell's order. So do grub-install and the maintainer scripts.

use std::path::Path;

use crate::environment::Id;

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

/// The settings of a BE. `resume` is its kernel parameter for hibernation. Debian's grub-install
/// and the maintainer scripts of grub-efi and shim use the lower-cased first word of
/// `GRUB_DISTRIBUTOR` as the directory on the ESP.
pub fn settings(id: Id, os_name: &str, resume: &str) -> String {
    let word = bootloader_id(id);
    let os: String =
        os_name.chars().filter(|c| c.is_ascii_alphanumeric() || " ._/+-".contains(*c)).collect();
    format!(
        r#"# Written by Lifeboat. This boot environment shares its machine with others.
# If grub-install runs here, the first word is its directory on the EFI system partition. It must
# not be the distribution's own.
GRUB_DISTRIBUTOR="{}"
# The other boot environments have their own menu entries, so their disks need not be read.
GRUB_DISABLE_OS_PROBER=true
# Device names depend on which disks are connected.
unset GRUB_DISABLE_LINUX_UUID GRUB_FORCE_PARTUUID
# Shared swap may hold the hibernated memory of another boot environment.
GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX {resume}"
{PANIC}"#,
        format!("{word} {}", os.trim()).trim_end()
    )
}

/// The first word of a BE's `GRUB_DISTRIBUTOR`.
pub fn bootloader_id(id: Id) -> String {
    format!("lifeboat-{}", id.short())
}

/// The settings of the source with the target's root: its UUID everywhere (`GRUB_DEFAULT` has it in
/// the ids of menu entries), and `root=` in kernel command lines. `resume=` is removed, because
/// [`settings`] sets it, and so are the options of another type of file system.
pub fn renamed_root(text: &str, old_uuid: &str, new_uuid: &str, same_type: bool) -> String {
    let text = if old_uuid.is_empty() { text.to_owned() } else { text.replace(old_uuid, new_uuid) };
    let line = |line: &str| {
        if !line.trim_start().trim_start_matches("export ").starts_with("GRUB_CMDLINE_") {
            return line.to_owned();
        }
        renamed_words(line, new_uuid, same_type)
    };
    text.split_inclusive('\n').map(line).collect()
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
        let dropped = match name {
            Some("resume" | "resume_offset") => true,
            Some("rootfstype") => !same_type,
            Some("rootflags") => !same_type || parameter.contains("subvol"),
            _ => false,
        };
        renamed.push_str(&rest[..start]);
        renamed.push_str(before);
        if name == Some("root") {
            renamed.push_str(&format!("root=UUID={uuid}"));
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

/// Why a grub.cfg would not boot this root; `None` if it would. `device` is the root's device,
/// which Debian's scripts name if it is a logical volume.
pub fn wrong_root(grub_cfg: &str, uuid: &str, device: &Path) -> Option<String> {
    let kernels = grub_cfg.lines().filter_map(kernel);
    let mut roots = kernels.map(|mut words| words.find_map(|w| w.strip_prefix("root=")));
    let Some(first) = roots.next() else {
        return Some(
            "it has no menu entry that starts a kernel: is there a kernel in /boot?".into(),
        );
    };
    let root = first.unwrap_or("no device");
    let is_same_node = |root: &Path| root.canonicalize().ok() == device.canonicalize().ok();
    let is_volume = root.starts_with("/dev/mapper/")
        && Path::new(root).exists()
        && is_same_node(Path::new(root));
    if root.strip_prefix("UUID=") == Some(uuid) || is_volume {
        return None;
    }
    Some(format!("its first menu entry has {root} as root, not UUID={uuid}"))
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
        let be = settings(id(), "Debian", "noresume");
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
            sourced("", &settings(id(), "x\";reboot $(id) `id`", "noresume"))
                .starts_with("lifeboat-2f0c1a94 xreboot id id|")
        );
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
            ("# root=/dev/sda2 in a comment\n", "# root=/dev/sda2 in a comment\n"),
        ];
        for (text, expected) in table {
            assert_eq!(renamed_root(text, old, "new", true), expected);
        }
        assert_eq!(
            renamed_root("GRUB_CMDLINE_LINUX=\"rootfstype=ext4 a\"", "", "new", false),
            "GRUB_CMDLINE_LINUX=\" a\""
        );
    }

    #[test]
    fn a_grub_cfg_is_checked_for_its_root() {
        let cfg = "menuentry 'x' {\n\tsearch --fs-uuid --set=root new\n\tlinux\t/boot/vmlinuz-6.1 \
            root=UUID=new ro quiet\n}\n";
        let device = Path::new("/dev/vdb1");
        assert_eq!(wrong_root(cfg, "new", device), None);
        assert!(
            wrong_root(cfg, "other", device).unwrap().contains("UUID=new as root, not UUID=other")
        );
        assert!(wrong_root("set timeout=5\n", "new", device).unwrap().contains("no menu entry"));
        assert!(wrong_root(" linux /vmlinuz root=/dev/vdb1\n", "new", device).is_some());
    }
}
