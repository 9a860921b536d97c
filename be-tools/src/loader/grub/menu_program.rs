//! The program of a BE that makes its grub.cfg: grub-mkconfig(8), which Debian also calls
//! update-grub, and Fedora and openSUSE call grub2-mkconfig.

use crate::root_dir::RootDir;

/// The program that makes the menu, and where the menu is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MenuProgram {
    /// Where the program may be, as paths in the root.
    paths: &'static [&'static str],
    /// The command.
    pub(super) command: &'static [&'static str],
    /// The menu, as a path in the root.
    pub(super) menu: &'static str,
    /// The environment block, as a path in the root.
    pub(super) block: &'static str,
}

const GRUB: &str = "boot/grub/grub.cfg";
const GRUB_BLOCK: &str = "boot/grub/grubenv";

const PROGRAMS: [MenuProgram; 3] = [
    MenuProgram {
        paths: &["usr/sbin/update-grub", "usr/bin/update-grub"],
        command: &["update-grub"],
        menu: GRUB,
        block: GRUB_BLOCK,
    },
    MenuProgram {
        paths: &["usr/sbin/grub-mkconfig", "usr/bin/grub-mkconfig"],
        command: &["grub-mkconfig", "-o", "/boot/grub/grub.cfg"],
        menu: GRUB,
        block: GRUB_BLOCK,
    },
    MenuProgram {
        paths: &["usr/sbin/grub2-mkconfig", "usr/bin/grub2-mkconfig"],
        command: &["grub2-mkconfig", "-o", "/boot/grub2/grub.cfg"],
        menu: "boot/grub2/grub.cfg",
        block: "boot/grub2/grubenv",
    },
];

impl MenuProgram {
    /// The program of the BE at `root`; `None` if it has none.
    pub(super) fn find(root: &RootDir) -> Option<Self> {
        PROGRAMS.into_iter().find(|program| program.paths.iter().any(|path| root.exists(path)))
    }

    /// Whether its mkconfig sources `/etc/default/grub.d`, as that of Debian does. Others source
    /// `/etc/default/grub` alone.
    pub(super) fn reads_directory(root: &RootDir) -> bool {
        let scripts = ["grub-mkconfig", "grub2-mkconfig"].into_iter();
        let mut paths = scripts.flat_map(|n| [format!("usr/sbin/{n}"), format!("usr/bin/{n}")]);
        let text = paths.find_map(|path| root.text(path).ok().flatten());
        // Without its text, Debian's habit is assumed.
        text.is_none_or(|text| text.contains("/default/grub.d"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root_dir::testing::tree;

    #[test]
    fn the_program_of_each_distribution_is_found() {
        let table = [
            (&["usr/sbin/update-grub", "usr/sbin/grub-mkconfig"][..], Some("update-grub")),
            (&["usr/bin/grub-mkconfig"], Some("grub-mkconfig")),
            (&["usr/sbin/grub2-mkconfig"], Some("grub2-mkconfig")),
            (&["usr/bin/grub2-mkconfig"], Some("grub2-mkconfig")),
            (&["usr/bin/true"], None),
        ];
        for (files, expected) in table {
            let script = |path: &&'static str| (*path, "#!/bin/sh\n. ${sysconfdir}/default/grub\n");
            let (_directory, root) = tree(&files.iter().map(script).collect::<Vec<_>>());
            let found = MenuProgram::find(&root);
            assert_eq!(found.map(|program| program.command[0]), expected, "{files:?}");
            let has_script = files.iter().any(|path| path.ends_with("mkconfig"));
            assert_eq!(MenuProgram::reads_directory(&root), !has_script, "{files:?}");
        }
    }
}
