//! Makes a copy a system of its own (docs/design.md, "Localize"). The modules below this one
//! compute the edits, this one writes them.

mod fstab_lines;
pub mod identity;
mod loader_settings;
mod localization;
mod resume;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::Path;

use boot::command_line::CommandLine;
pub use loader_settings::LoaderSettings;
pub use localization::Localization;

use crate::error::{Error, Result};
use crate::fstab::Fstab;
use crate::installed::{self, PROGRAM_PATH};
use crate::lossless;
use crate::root_dir::RootDir;
use crate::sandbox::programs::Programs;

/// Localizes the copy whose whole tree is mounted at `root`. Returns a sentence for each thing that
/// was done.
///
/// # Errors
/// When a file cannot be written, a program inside the BE fails, or its loader's menu would not
/// boot the copy.
pub fn localize(
    root: &Path,
    change: &Localization,
    loader: &dyn LoaderSettings,
    inside: &dyn Programs,
) -> Result<Vec<String>> {
    let root = &RootDir::open(root)?;
    let mut done = Vec::new();
    let there = read_editable(root, "etc/fstab")?.unwrap_or_default();
    let old_fstab = Fstab::parse(change.source_fstab.unwrap_or(&there));
    let mut fstab = old_fstab.clone();
    done.extend(fstab_lines::rewrite(&mut fstab, change));
    write_changed(root, "etc/fstab", &there, &fstab.render())?;

    let swap = fstab_lines::swap(&fstab, change);
    let resume = resume(root, &swap)?;
    done.extend(resume.iter().cloned());
    let parameter = resume::parameter(&swap);
    done.extend(command_line(root, change, &parameter)?);
    done.extend(loader.localize(root, change, &parameter)?);
    done.extend(crate::distribution::debian::keep_off_the_esp(root, inside)?);
    if let Some(machine) = change.new_machine {
        done.extend(machine.apply(root, inside)?);
    }
    let resume_changed = !resume.is_empty() && !loader.passes_resume(root);
    if let Some(why) = initramfs_reason(root, change, &old_fstab, resume_changed)? {
        done.push(rebuild_initramfs(root, inside, why)?);
    }
    done.extend(loader.write_menu(root, change, inside)?);
    Ok(done)
}

/// The files that [`adopt`] creates below this root, relative to it.
pub fn adopted_files(root: &RootDir, loader: &dyn LoaderSettings) -> Vec<&'static str> {
    let mut files = vec![
        PROGRAM_PATH,
        "etc/systemd/system/lifeboat-confirm.service",
        "etc/systemd/system/lifeboat-deadline.service",
        "etc/systemd/system/basic.target.wants/lifeboat-confirm.service",
        "etc/systemd/system/sysinit.target.wants/lifeboat-deadline.service",
    ];
    files.extend(loader.adopted_files(root));
    files
}

/// Gives a running system what it needs to be a BE. Except for its menu, nothing else of it
/// changes.
///
/// # Errors
/// When a file cannot be written.
pub fn adopt(root: &RootDir, loader: &dyn LoaderSettings) -> Result<Vec<String>> {
    let mut done = installed::install(root, Path::new("/proc/self/exe"))?;
    done.extend(loader.adopt(root)?);
    Ok(done)
}

/// Reads a text that will be written back. Bytes that are not UTF-8 stay as they are.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn read_editable(root: &RootDir, path: &str) -> Result<Option<String>> {
    Ok(root.read(path)?.map(|bytes| lossless::decode(&bytes)))
}

/// Whether it differed, and was written.
pub(crate) fn write_changed(root: &RootDir, path: &str, old: &str, new: &str) -> Result<bool> {
    if old == new {
        return Ok(false);
    }
    root.write(path, &lossless::encode(new), 0o644)?;
    Ok(true)
}

fn resume(root: &RootDir, swap: &fstab_lines::Swap) -> Result<Vec<String>> {
    const DIRECTORY: &str = "etc/initramfs-tools/conf.d";
    if !root.exists("etc/initramfs-tools") {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for name in root.names(DIRECTORY)? {
        let Some(name) = name.to_str() else { continue };
        let is_file = root.metadata(format!("{DIRECTORY}/{name}"))?.is_some_and(|m| m.is_file());
        if let Some(text) =
            is_file.then(|| read_editable(root, &format!("{DIRECTORY}/{name}"))).transpose()?.flatten()
        {
            files.push((name.to_owned(), text));
        }
    }
    let mut done = Vec::new();
    for (name, text) in resume::settle(&files, swap) {
        root.write(format!("{DIRECTORY}/{name}"), &lossless::encode(&text), 0o644)?;
        done.push(match swap {
            fstab_lines::Swap::Own(uuid) => format!("/{DIRECTORY}/{name}: resume from UUID={uuid}"),
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
    let Some(old) = read_editable(root, PATH)? else { return Ok(None) };
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

/// Why the copy's initramfs must be rebuilt, or `None` if that is not necessary.
fn initramfs_reason(
    root: &RootDir,
    change: &Localization,
    old_fstab: &Fstab,
    resume_changed: bool,
) -> Result<Option<&'static str>> {
    if resume_changed {
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
