//! The files of GRUB in a BE: its settings, its environment block, and the grub.cfg that the BE's
//! own update-grub makes from them.

use std::path::Path;

use boot::grubenv::EnvironmentBlock;

use super::settings::{self, SETTINGS_PATH};
use crate::error::{Error, Result};
use crate::layout::MountPoint;
use crate::localize::{LoaderSettings, Localization, read_editable, write_changed};
use crate::root_dir::RootDir;
use crate::sandbox::programs::Programs;

/// The menu, as a path in the root.
const MENU: &str = "boot/grub/grub.cfg";

/// The files of GRUB in a BE. A BE without GRUB is left unchanged.
#[derive(Debug)]
pub struct GrubSettings;

fn has_grub(root: &RootDir) -> bool {
    root.exists("etc/grub.d/10_linux")
}

impl LoaderSettings for GrubSettings {
    fn adopted_files(&self, root: &RootDir) -> &'static [&'static str] {
        if has_grub(root) { &[SETTINGS_PATH] } else { &[] }
    }

    fn adopted_menu(&self, root: &RootDir) -> Option<&'static str> {
        has_grub(root).then_some(MENU)
    }

    fn adopt(&self, root: &RootDir) -> Result<Vec<String>> {
        if !has_grub(root) {
            return Ok(Vec::new());
        }
        root.write(SETTINGS_PATH, settings::adopted_settings().as_bytes(), 0o644)?;
        Ok(vec![format!("/{SETTINGS_PATH}: a kernel panic restarts the machine")])
    }

    fn adopt_menu(&self, root: &RootDir) -> Result<()> {
        match read_editable(root, MENU) {
            Ok(menu) => {
                let menu = menu.unwrap_or_default();
                if write_changed(root, MENU, &menu, &settings::with_panic(&menu))? {
                    log::info!("/{MENU}: panic=30");
                }
            }
            Err(why) => log::warn!("panic=30 is missing until update-grub runs: {why}"),
        }
        Ok(())
    }

    fn passes_resume(&self, root: &RootDir) -> bool {
        has_grub(root)
    }

    fn localize(&self, root: &RootDir, change: &Localization, resume: &str) -> Result<Vec<String>> {
        if !has_grub(root) {
            return Ok(Vec::new());
        }
        let mut done = Vec::new();
        let names =
            root.names("etc/default/grub.d")?.into_iter().filter_map(|n| n.into_string().ok());
        let snippets =
            names.filter(|n| n.ends_with(".cfg")).map(|n| format!("etc/default/grub.d/{n}"));
        for path in std::iter::once("etc/default/grub".to_owned()).chain(snippets) {
            let Some(old) = read_editable(root, &path)? else { continue };
            let uuid = change.root_uuid()?;
            let new = settings::renamed_root(
                &old,
                &change.source_root.uuid,
                uuid,
                change.keeps_root_type(),
            );
            if path != SETTINGS_PATH && write_changed(root, &path, &old, &new)? {
                done.push(format!("/{path}: names the new root"));
            }
        }
        let os_release = root.text("etc/os-release")?.unwrap_or_default();
        let name = os_release.lines().find_map(|l| l.strip_prefix("NAME=")).unwrap_or("Linux");
        // grub.d/10_linux appends " GNU/Linux" to the title of a menu entry.
        let name = name.trim_matches(['"', '\'']).trim_end_matches(" GNU/Linux");
        let text = settings::settings(change.id, name, resume);
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
        inside: &dyn Programs,
    ) -> Result<Vec<String>> {
        const ENVIRONMENT_BLOCK: &str = "boot/grub/grubenv";
        if !has_grub(root) {
            return Ok(Vec::new());
        }
        let failed = |e| Error::boot(format!("making /{ENVIRONMENT_BLOCK}"), e);
        root.write(ENVIRONMENT_BLOCK, &EnvironmentBlock::new().to_bytes().map_err(failed)?, 0o644)?;
        if root.exists("usr/sbin/update-grub") {
            inside.run(&["update-grub"])?;
        } else {
            inside.run(&["grub-mkconfig", "-o", "/boot/grub/grub.cfg"])?;
        }
        let uuid = change.root_uuid()?;
        let root_file_system = change.layout.at(&MountPoint::root());
        let device = root_file_system.map_or(Path::new(""), |target| target.node());
        if let Some(why) = settings::wrong_root(&root.text(MENU)?.unwrap_or_default(), uuid, device)
        {
            return Err(Error::Format {
                path: root.path().join(MENU),
                why: format!("{why}; look at /etc/default/grub and /etc/grub.d of the copy"),
            });
        }
        Ok(vec![
            format!("update-grub: /{MENU} boots root=UUID={uuid}"),
            format!("/{ENVIRONMENT_BLOCK} is empty"),
        ])
    }
}
