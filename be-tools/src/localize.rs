//! Makes a copy a system of its own (DESIGN.md, "Localize"). The modules below this one compute the
//! edits, this one writes them.

mod grub;
pub mod identity;
mod localization;
mod mounts;
mod resume;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::Path;

use boot::command_line::CommandLine;
use boot::grubenv::EnvironmentBlock;

pub use grub::GRUB_SETTINGS_PATH;
pub use localization::Localization;

use crate::error::{Error, Result};
use crate::fstab::Fstab;
use crate::installed::{self, PROGRAM_PATH};
use crate::layout::MountPoint;
use crate::root_dir::RootDir;
use crate::sandbox::programs::Programs;

/// Localizes the copy whose whole tree is mounted at `root`. Returns a sentence for each thing that
/// was done.
///
/// # Errors
/// When a file cannot be written, a program inside the BE fails, or the resulting grub.cfg does not
/// name the copy's root.
pub fn localize(root: &Path, change: &Localization, inside: &dyn Programs) -> Result<Vec<String>> {
    let root = &RootDir::open(root)?;
    let mut done = Vec::new();
    let there = utf8(root, "etc/fstab")?.unwrap_or_default();
    let old_fstab = Fstab::parse(change.source_fstab.unwrap_or(&there));
    let mut fstab = old_fstab.clone();
    done.extend(mounts::rewrite(&mut fstab, change));
    write_changed(root, "etc/fstab", &there, &fstab.render())?;

    let swap = mounts::swap(&fstab, change);
    let resume = resume(root, &swap)?;
    done.extend(resume.iter().cloned());
    let parameter = resume::parameter(&swap);
    done.extend(command_line(root, change, &parameter)?);
    done.extend(grub_settings(root, change, &parameter)?);
    done.extend(crate::distribution::debian::keep_off_the_esp(root, inside)?);
    if let Some(machine) = change.new_machine {
        done.extend(machine.apply(root, inside)?);
    }
    if let Some(why) = initramfs_reason(root, change, &old_fstab, !resume.is_empty())? {
        done.push(rebuild_initramfs(root, inside, why)?);
    }
    done.extend(update_grub(root, change, inside)?);
    Ok(done)
}

/// The files that [`adopt`] creates, relative to the root.
pub const ADOPTED_FILES: [&str; 6] = [
    PROGRAM_PATH,
    "etc/systemd/system/lifeboat-confirm.service",
    "etc/systemd/system/lifeboat-deadline.service",
    "etc/systemd/system/basic.target.wants/lifeboat-confirm.service",
    "etc/systemd/system/sysinit.target.wants/lifeboat-deadline.service",
    GRUB_SETTINGS_PATH,
];

/// The only existing file that [`adopt`] changes, relative to the root.
pub const ADOPTED_MENU: &str = "boot/grub/grub.cfg";

/// Gives a running system what it needs to be a BE, and changes nothing else. If its kernel panics
/// during a trial, the machine must restart, so `panic=30` is also added to grub.cfg, as
/// update-grub will do later.
///
/// # Errors
/// When a file cannot be written.
pub fn adopt(root: &RootDir) -> Result<Vec<String>> {
    let mut done = installed::install(root, Path::new("/proc/self/exe"))?;
    if has_grub(root) {
        root.write(GRUB_SETTINGS_PATH, grub::adopted_settings().as_bytes(), 0o644)?;
        done.push(format!("/{GRUB_SETTINGS_PATH}: a kernel that panics restarts the machine"));
        match utf8(root, ADOPTED_MENU) {
            Ok(menu) => {
                let menu = menu.unwrap_or_default();
                if write_changed(root, ADOPTED_MENU, &menu, &grub::with_panic(&menu))? {
                    done.push(format!("/{ADOPTED_MENU}: panic=30"));
                }
            }
            Err(why) => log::warn!("no panic=30 until update-grub runs: {why}"),
        }
    }
    Ok(done)
}

fn has_grub(root: &RootDir) -> bool {
    root.exists("etc/grub.d/10_linux")
}

/// Reads a text that will be written back. Bytes that are not UTF-8 would be lost, so they are an
/// error.
fn utf8(root: &RootDir, path: &str) -> Result<Option<String>> {
    let not_text = |_| Error::Format {
        path: root.path().join(path),
        why: "not UTF-8 text: correct it by hand".into(),
    };
    root.read(path)?.map(|bytes| String::from_utf8(bytes).map_err(not_text)).transpose()
}

fn write_changed(root: &RootDir, path: &str, old: &str, new: &str) -> Result<bool> {
    if old == new {
        return Ok(false);
    }
    root.write(path, new.as_bytes(), 0o644)?;
    Ok(true)
}

fn resume(root: &RootDir, swap: &mounts::Swap) -> Result<Vec<String>> {
    const DIRECTORY: &str = "etc/initramfs-tools/conf.d";
    if !root.exists("etc/initramfs-tools") {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for name in root.names(DIRECTORY)? {
        let Some(name) = name.to_str() else { continue };
        let is_file = root.metadata(format!("{DIRECTORY}/{name}"))?.is_some_and(|m| m.is_file());
        if let Some(text) =
            is_file.then(|| utf8(root, &format!("{DIRECTORY}/{name}"))).transpose()?.flatten()
        {
            files.push((name.to_owned(), text));
        }
    }
    let mut done = Vec::new();
    for (name, text) in resume::settle(&files, swap) {
        root.write(format!("{DIRECTORY}/{name}"), text.as_bytes(), 0o644)?;
        done.push(match swap {
            mounts::Swap::Own(uuid) => format!("/{DIRECTORY}/{name}: resume from UUID={uuid}"),
            _ => {
                format!("/{DIRECTORY}/{name}: no resume from swap that other boot environments use")
            }
        });
    }
    Ok(done)
}

/// Edits `/etc/kernel/cmdline`, if it exists. kernel-install and image builders use it.
fn command_line(root: &RootDir, change: &Localization, resume: &str) -> Result<Option<String>> {
    const PATH: &str = "etc/kernel/cmdline";
    let Some(old) = utf8(root, PATH)? else { return Ok(None) };
    let failed = |e| Error::boot(format!("changing /{PATH}"), e);
    let mut line = CommandLine::parse(&old);
    let uuid = change.root_uuid()?;
    line.set("root", &format!("UUID={uuid}")).map_err(failed)?;
    if !line.has("panic") {
        line.set("panic", "30").map_err(failed)?;
    }
    for parameter in ["resume", "resume_offset", "noresume"] {
        line.remove(parameter);
    }
    match resume.split_once('=') {
        Some((name, value)) => line.set(name, value),
        None => line.set_flag(resume),
    }
    .map_err(failed)?;
    if !change.keeps_root_type() {
        line.remove("rootfstype");
        line.remove("rootflags");
    }
    write_changed(root, PATH, &old, &format!("{line}\n"))?;
    Ok(Some(format!("/{PATH}: root=UUID={uuid}")))
}

fn grub_settings(root: &RootDir, change: &Localization, resume: &str) -> Result<Vec<String>> {
    if !has_grub(root) {
        return Ok(Vec::new());
    }
    let mut done = Vec::new();
    let names = root.names("etc/default/grub.d")?.into_iter().filter_map(|n| n.into_string().ok());
    let snippets = names.filter(|n| n.ends_with(".cfg")).map(|n| format!("etc/default/grub.d/{n}"));
    for path in std::iter::once("etc/default/grub".to_owned()).chain(snippets) {
        let Some(old) = utf8(root, &path)? else { continue };
        let uuid = change.root_uuid()?;
        let new =
            grub::renamed_root(&old, &change.source_root.uuid, uuid, change.keeps_root_type());
        if path != GRUB_SETTINGS_PATH && write_changed(root, &path, &old, &new)? {
            done.push(format!("/{path}: root is now the copy's"));
        }
    }
    let os_release = root.text("etc/os-release")?.unwrap_or_default();
    let name = os_release.lines().find_map(|l| l.strip_prefix("NAME=")).unwrap_or("Linux");
    // grub.d/10_linux adds " GNU/Linux" to the title of the menu entry.
    let name = name.trim_matches(['"', '\'']).trim_end_matches(" GNU/Linux");
    let settings = grub::settings(change.id, name, resume);
    root.write(GRUB_SETTINGS_PATH, settings.as_bytes(), 0o644)?;
    done.push(format!(
        "/{}: GRUB_DISTRIBUTOR {}, no os-prober, panic=30",
        GRUB_SETTINGS_PATH,
        grub::bootloader_id(change.id)
    ));
    Ok(done)
}

/// Why the copy's initramfs must be rebuilt, or `None` if that is not necessary.
fn initramfs_reason(
    root: &RootDir,
    change: &Localization,
    old_fstab: &Fstab,
    resume_changed: bool,
) -> Result<Option<&'static str>> {
    // With GRUB, the device to resume from is on the kernel's command line.
    if resume_changed && !has_grub(root) {
        return Ok(Some("the swap to resume from changed"));
    }
    // The initramfs mounts / and /usr, and has the fsck programs for them.
    let early = |path: &Path| path == Path::new("/") || path == Path::new("/usr");
    let source = old_fstab.entries().filter(|e| early(&e.mountpoint())).map(|e| e.fs_type());
    let had: BTreeSet<String> = source.chain([change.source_root.fs_type.clone()]).collect();
    let mut own = change.layout.file_systems.iter().filter(|t| early(t.mountpoint.as_path()));
    if own.any(|t| !had.contains(t.fs_type.as_str())) {
        return Ok(Some("it mounts another type of file system"));
    }
    let mut configured = vec!["etc/initramfs-tools/initramfs.conf".to_owned()];
    let names = root.names("etc/initramfs-tools/conf.d")?;
    configured.extend(
        names.iter().map(|n| format!("etc/initramfs-tools/conf.d/{}", n.to_string_lossy())),
    );
    for path in configured {
        if root.text(&path)?.is_some_and(|t| t.lines().any(|l| l.trim() == "MODULES=dep")) {
            return Ok(Some("it has only the modules of the disk it was made for (MODULES=dep)"));
        }
    }
    Ok(None)
}

fn rebuild_initramfs(root: &RootDir, inside: &dyn Programs, why: &str) -> Result<String> {
    if !root.exists("usr/sbin/update-initramfs") {
        return Ok(format!(
            "the initramfs is not rebuilt, although {why}: there is no update-initramfs in the copy"
        ));
    }
    inside.run(&["update-initramfs", "-u", "-k", "all"])?;
    Ok(format!("initramfs rebuilt: {why}"))
}

fn update_grub(
    root: &RootDir,
    change: &Localization,
    inside: &dyn Programs,
) -> Result<Vec<String>> {
    const CONFIG: &str = "boot/grub/grub.cfg";
    const ENVIRONMENT: &str = "boot/grub/grubenv";
    if !has_grub(root) {
        return Ok(Vec::new());
    }
    let failed = |e| Error::boot(format!("making /{ENVIRONMENT}"), e);
    root.write(ENVIRONMENT, &EnvironmentBlock::new().to_bytes().map_err(failed)?, 0o644)?;
    if root.exists("usr/sbin/update-grub") {
        inside.run(&["update-grub"])?;
    } else {
        inside.run(&["grub-mkconfig", "-o", "/boot/grub/grub.cfg"])?;
    }
    let uuid = change.root_uuid()?;
    let device =
        change.layout.at(&MountPoint::root()).map(|t| t.device.as_path()).unwrap_or(Path::new(""));
    if let Some(why) = grub::wrong_root(&root.text(CONFIG)?.unwrap_or_default(), uuid, device) {
        return Err(Error::Format {
            path: root.path().join(CONFIG),
            why: format!("{why}; look at /etc/default/grub and /etc/grub.d of the copy"),
        });
    }
    Ok(vec![
        format!("update-grub: /{CONFIG} boots root=UUID={uuid}"),
        format!("/{ENVIRONMENT} is empty"),
    ])
}
