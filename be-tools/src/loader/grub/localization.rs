//! The files of GRUB in a BE: its settings, its environment block, and the grub.cfg that the BE's
//! own program makes from them.

use std::path::Path;

use boot::grubenv::EnvironmentBlock;
use boot::menu::{BootMenu, GRUB_DIRECTORIES, MenuEntry};
use rustix::fs::fstatfs;

use super::menu_program::MenuProgram;
use super::settings::{self, Renaming, SETTINGS_PATH};
use crate::error::{Error, Result};
use crate::layout::MountPoint;
use crate::localize::{
    LoaderSettings, Localization, Localized, OwnParameters, read_editable, write_changed,
};
use crate::root_dir::RootDir;
use crate::sandbox::programs::Programs;

/// The settings of the administrator, which every grub-mkconfig sources.
const DEFAULT_SETTINGS: &str = "etc/default/grub";

/// What the environment block of a copy has from that of its source: the choice of an entry, and
/// what boot loader entries have variables for. The rest is about one boot.
const CARRIED: [&str; 5] =
    ["saved_entry", "kernelopts", "default_kernelopts", "tuned_params", "tuned_initrd"];

/// The variables of [`CARRIED`] that are kernel command lines.
const COMMAND_LINES: [&str; 2] = ["kernelopts", "default_kernelopts"];

/// The files of GRUB in a BE. A BE without GRUB is left unchanged.
#[derive(Debug)]
pub struct GrubSettings;

fn has_grub(root: &RootDir) -> bool {
    root.exists("etc/grub.d/10_linux")
}

/// The menu of a running system, as a path in the root.
fn menu_of(root: &RootDir) -> &'static str {
    match GRUB_DIRECTORIES.iter().any(|d| root.exists(format!("{d}/grub.cfg"))) {
        true if !root.exists("boot/grub/grub.cfg") => "boot/grub2/grub.cfg",
        _ => "boot/grub/grub.cfg",
    }
}

/// Whether renaming over a file in this directory is atomic. It is not on a FAT, where a power cut
/// could leave the running system without a menu.
fn is_renamed_at_once(root: &RootDir, directory: &str) -> bool {
    let Ok(Some(directory)) = root.directory(directory) else { return true };
    fstatfs(&directory).is_ok_and(|found| !is_fat(found.f_type))
}

/// Whether this is the magic number of a FAT or exFAT (`linux/magic.h`).
fn is_fat(magic: i64) -> bool {
    const MSDOS: i64 = 0x4d44;
    const EXFAT: i64 = 0x2011_bab0;
    matches!(magic, MSDOS | EXFAT)
}

/// The name of the system as `GRUB_DISTRIBUTOR` has it. grub.d/10_linux appends " GNU/Linux" to it
/// in the title of a menu entry.
fn os_name(root: &RootDir) -> Result<String> {
    let os_release = root.text("etc/os-release")?.unwrap_or_default();
    let name = os_release.lines().find_map(|l| l.strip_prefix("NAME=")).unwrap_or("Linux");
    Ok(name.trim_matches(['"', '\'']).trim_end_matches(" GNU/Linux").to_owned())
}

/// Makes `/etc/default/grub` source the settings, where grub-mkconfig does not.
fn with_settings(text: &str) -> String {
    let line = format!("[ ! -r /{SETTINGS_PATH} ] || . /{SETTINGS_PATH}");
    if text.lines().any(|other| other == line) {
        return text.to_owned();
    }
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    format!("{text}{end}# The settings of this boot environment, written by Lifeboat.\n{line}\n")
}

/// The environment block of a copy.
fn carried_block(
    source: &EnvironmentBlock,
    renaming: &Renaming,
    parameters: &OwnParameters,
) -> Result<EnvironmentBlock> {
    let failed = |e| Error::boot("changing the command line in GRUB's environment block", e);
    let mut block = EnvironmentBlock::new();
    for (name, value) in source.variables().filter(|(name, _)| CARRIED.contains(name)) {
        let value = match name {
            "saved_entry" => renaming.in_choice(value),
            name if COMMAND_LINES.contains(&name) => parameters.in_line(value).map_err(failed)?,
            _ => value.to_owned(),
        };
        block.set(name, &value).map_err(|e| Error::boot("making GRUB's environment block", e))?;
    }
    Ok(block)
}

impl GrubSettings {
    fn renaming<'a>(
        change: &'a Localization,
        parameters: &OwnParameters<'a>,
        os_name: &'a str,
    ) -> Renaming<'a> {
        Renaming {
            old_uuid: &change.source_root.uuid,
            new_uuid: parameters.uuid,
            same_type: parameters.keeps_root_type,
            os_name,
            id: change.id,
        }
    }

    /// Why the menu would not boot the copy as its source is booted.
    fn judged(
        root: &RootDir,
        change: &Localization,
        program: &MenuProgram,
        uuid: &str,
    ) -> Result<Option<String>> {
        let menu = BootMenu::read(root);
        let root_file_system = change.layout.at(&MountPoint::root());
        let device = root_file_system.map_or(Path::new(""), |target| target.node());
        let default = menu.default.as_ref();
        let options = default.map(|entry| entry.options.as_str());
        if let Some(why) = settings::wrong_root(options, uuid, device) {
            return Err(Error::Format {
                path: Path::new("/").join(program.menu),
                why: format!("{why}; look at /etc/default/grub and /etc/grub.d of the copy"),
            });
        }
        let of_source = change.source_menu.default.as_ref().map(MenuEntry::kernel_name);
        let own = default.map(MenuEntry::kernel_name);
        Ok(match (own, of_source) {
            (Some(own), Some(of_source)) if own != of_source => Some(format!(
                "the default entry of the copy's boot menu starts {own}, that of its source \
                {of_source}: look at GRUB_DEFAULT in /etc/default/grub of the copy"
            )),
            _ => None,
        })
    }
}

impl LoaderSettings for GrubSettings {
    fn adopted_files(&self, root: &RootDir) -> &'static [&'static str] {
        if has_grub(root) { &[SETTINGS_PATH] } else { &[] }
    }

    fn adopted_menu(&self, root: &RootDir) -> Option<&'static str> {
        let menu = menu_of(root);
        let directory = menu.trim_end_matches("/grub.cfg");
        (has_grub(root) && is_renamed_at_once(root, directory)).then_some(menu)
    }

    fn adopt(&self, root: &RootDir) -> Result<Vec<String>> {
        if !has_grub(root) {
            return Ok(Vec::new());
        }
        root.write(SETTINGS_PATH, settings::adopted_settings().as_bytes(), 0o644)?;
        Ok(vec![format!("/{SETTINGS_PATH}: a kernel panic restarts the machine")])
    }

    fn own_files(&self) -> &'static [&'static str] {
        &[SETTINGS_PATH]
    }

    fn adopt_menu(&self, root: &RootDir) -> Result<()> {
        let menu_path = menu_of(root);
        match read_editable(root, menu_path) {
            Ok(menu) => {
                let menu = menu.unwrap_or_default();
                if write_changed(root, menu_path, &menu, &settings::with_panic(&menu))? {
                    log::info!("/{menu_path}: panic=30");
                }
            }
            Err(why) => log::warn!("panic=30 is missing until update-grub runs: {why}"),
        }
        Ok(())
    }

    fn passes_resume(&self, root: &RootDir) -> bool {
        has_grub(root)
    }

    fn missing_in(&self, source: &RootDir) -> Option<String> {
        let has_kernel = !BootMenu::read(source).entries.is_empty()
            || crate::environment::facts::newest_complete_kernel(source).is_some();
        match (has_grub(source), MenuProgram::find(source)) {
            (false, _) => Some("GRUB's scripts (/etc/grub.d/10_linux)".into()),
            (true, None) => Some(
                "the program that makes GRUB's menu (update-grub, grub-mkconfig or \
                grub2-mkconfig)"
                    .into(),
            ),
            (true, Some(_)) if !has_kernel => Some("a kernel in /boot".into()),
            (true, Some(_)) => None,
        }
    }

    fn localize(
        &self,
        root: &RootDir,
        change: &Localization,
        parameters: &OwnParameters,
    ) -> Result<Vec<String>> {
        if !has_grub(root) {
            return Ok(Vec::new());
        }
        let mut done = Vec::new();
        let name = os_name(root)?;
        let renaming = Self::renaming(change, parameters, &name);
        let reads_directory = MenuProgram::reads_directory(root);
        let names =
            root.names("etc/default/grub.d")?.into_iter().filter_map(|n| n.into_string().ok());
        let snippets =
            names.filter(|n| n.ends_with(".cfg")).map(|n| format!("etc/default/grub.d/{n}"));
        for path in std::iter::once(DEFAULT_SETTINGS.to_owned()).chain(snippets) {
            let is_default = path == DEFAULT_SETTINGS;
            let old = read_editable(root, &path)?;
            if old.is_none() && (reads_directory || !is_default) {
                continue;
            }
            let old = old.unwrap_or_default();
            let mut new = renaming.in_settings(&old);
            if is_default && !reads_directory {
                new = with_settings(&new);
            }
            if path != SETTINGS_PATH && write_changed(root, &path, &old, &new)? {
                done.push(format!("/{path}: names the new root"));
            }
        }
        let text = settings::settings(change.id, &name, parameters.resume, parameters.uuid);
        root.write(SETTINGS_PATH, text.as_bytes(), 0o644)?;
        done.push(format!(
            "/{}: GRUB_DISTRIBUTOR {}, no os-prober, panic=30",
            SETTINGS_PATH,
            settings::bootloader_id(change.id)
        ));
        Ok(done)
    }

    fn write_menu(
        &self,
        root: &RootDir,
        change: &Localization,
        parameters: &OwnParameters,
        inside: &dyn Programs,
    ) -> Result<Localized> {
        let mut localized = Localized::default();
        if !has_grub(root) {
            return Ok(localized);
        }
        let Some(program) = MenuProgram::find(root) else {
            return Err(Error::Failed(
                "it has GRUB's scripts, and no update-grub, grub-mkconfig or grub2-mkconfig".into(),
            ));
        };
        let name = os_name(root)?;
        let renaming = Self::renaming(change, parameters, &name);
        let block = carried_block(&change.source_menu.variables, &renaming, parameters)?;
        let failed = |e| Error::boot(format!("making /{}", program.block), e);
        root.write(program.block, &block.to_bytes().map_err(failed)?, 0o644)?;
        inside.run(program.command)?;
        localized.warnings.extend(Self::judged(root, change, &program, parameters.uuid)?);
        localized.done.push(format!(
            "{}: /{} boots root=UUID={}",
            program.command[0], program.menu, parameters.uuid
        ));
        let kept: Vec<&str> = block.variables().map(|(name, _)| name).collect();
        localized.done.push(match kept.is_empty() {
            true => format!("/{} is empty", program.block),
            false => format!("/{} has the source's {}", program.block, kept.join(", ")),
        });
        Ok(localized)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root_dir::testing;

    #[test]
    fn a_menu_on_a_fat_is_not_replaced() {
        // FAT, exFAT, ext4, xfs, btrfs, tmpfs.
        for (magic, expected) in [
            (0x4d44, true),
            (0x2011_bab0, true),
            (0xef53, false),
            (0x5846_5342, false),
            (0x9123_683e, false),
            (0x0102_1994, false),
        ] {
            assert_eq!(is_fat(magic), expected, "{magic:x}");
        }
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("boot/grub")).unwrap();
        let root = RootDir::open(directory.path()).unwrap();
        assert!(is_renamed_at_once(&root, "boot/grub") && is_renamed_at_once(&root, "boot/none"));
    }

    #[test]
    fn what_is_missing_is_named_before_anything_is_written() {
        let (directory, root) = testing::tree(&[]);
        let put = |path: &str, text: &str| testing::write(directory.path(), path, text);
        let missing = || GrubSettings.missing_in(&root).unwrap_or_default();
        assert!(missing().contains("10_linux"), "{}", missing());
        put("etc/grub.d/10_linux", "");
        assert!(missing().contains("grub2-mkconfig"), "{}", missing());
        put("usr/sbin/grub2-mkconfig", "");
        assert!(missing().contains("kernel"), "{}", missing());
        put("boot/grub2/grub.cfg", "menuentry x {\nlinux /vmlinuz root=UUID=1\n}\n");
        assert_eq!(missing(), "");
    }

    #[test]
    fn the_settings_are_sourced_once() {
        let once = with_settings("GRUB_TIMEOUT=5");
        assert!(
            once.starts_with("GRUB_TIMEOUT=5\n# ") && once.ends_with("lifeboat.cfg\n"),
            "{once}"
        );
        assert_eq!(with_settings(&once), once);
    }
}
