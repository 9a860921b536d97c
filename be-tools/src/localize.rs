//! Makes a copy a system of its own (docs/design.md, "Localize"). The modules below this one
//! compute the edits, this one writes them.

mod fstab_lines;
pub mod identity;
mod kernel_parameters;
mod loader_settings;
mod localization;
mod localized;
mod resume;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::Path;

use boot::menu::ENTRIES;

pub use kernel_parameters::OwnParameters;
pub use loader_settings::LoaderSettings;
pub use localization::Localization;
pub use localized::Localized;

use crate::error::{Error, Result};
use crate::fstab::Fstab;
use crate::lossless;
use crate::own_files;
use crate::root_dir::RootDir;
use crate::sandbox::programs::Programs;

/// Localizes the copy whose whole tree is mounted at `root`.
///
/// # Errors
/// When a file cannot be written, a program inside the BE fails, or its loader's menu would not
/// boot the copy. Without a boot entry, a menu that cannot be made is a shortfall instead.
pub fn localize(
    root: &Path,
    change: &Localization,
    loader: &dyn LoaderSettings,
    inside: &dyn Programs,
) -> Result<Localized> {
    let root = &RootDir::open(root)?;
    let mut done = Vec::new();
    let there = read_editable(root, "etc/fstab")?.unwrap_or_default();
    let old_fstab = Fstab::parse(change.source_fstab.unwrap_or(&there));
    let mut fstab = old_fstab.clone();
    done.extend(fstab_lines::rewrite(&mut fstab, change));
    if change.source_fstab.is_some() {
        done.extend(fstab_lines::keep_own(&mut fstab, &Fstab::parse(&there), change));
    }
    write_changed(root, "etc/fstab", &there, &fstab.render())?;

    let swap = fstab_lines::swap(&fstab, change);
    let resume = resume(root, &swap)?;
    done.extend(resume.iter().cloned());
    let parameters = OwnParameters {
        uuid: change.root_uuid()?,
        resume: &resume::parameter(&swap),
        keeps_root_type: change.keeps_root_type(),
    };
    done.extend(command_lines(root, change, &parameters)?);
    done.extend(loader.localize(root, change, &parameters)?);
    done.extend(crate::distribution::debian::keep_off_the_esp(root, inside)?);
    if let Some(machine) = change.new_machine {
        done.extend(machine.apply(root, inside)?);
    }
    let resume_changed = !resume.is_empty() && !loader.passes_resume(root);
    let mut localized = Localized { done, ..Localized::default() };
    if let Some(why) = initramfs_reason(root, change, &old_fstab, resume_changed)? {
        localized.add(rebuild_initramfs(root, inside, why)?);
    }
    match loader.write_menu(root, change, &parameters, inside) {
        Ok(menu) => localized.add(menu),
        Err(Error::Interrupted) => return Err(Error::Interrupted),
        Err(why) if !change.is_bootable => localized.shortfalls.push(format!(
            "the copy has no boot menu of its own: {why}; make one before it is booted"
        )),
        Err(why) => return Err(why),
    }
    Ok(localized)
}

/// The files that [`adopt`] creates below this root, relative to it.
pub fn adopted_files(root: &RootDir, loader: &dyn LoaderSettings) -> Vec<&'static str> {
    let mut files: Vec<_> = own_files::installed().collect();
    files.extend(loader.adopted_files(root));
    files
}

/// Gives a running system what it needs to be a BE. Except for its menu, nothing else of it
/// changes. `program` is this program.
///
/// # Errors
/// When a file cannot be written.
pub fn adopt(root: &RootDir, loader: &dyn LoaderSettings, program: &Path) -> Result<Vec<String>> {
    let mut done = own_files::install(root, program)?;
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
    for path in files_in(root, DIRECTORY, "")? {
        let name = path.rsplit('/').next().unwrap_or(&path).to_owned();
        files.extend(read_editable(root, &path)?.map(|text| (name, text)));
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

/// The file of the whole kernel command line, which kernel-install and image builders use.
const COMMAND_LINE: &str = "etc/kernel/cmdline";

/// Makes the files of kernel command lines, and the boot loader entries in the copy's /boot, name
/// the copy's own root and swap.
fn command_lines(
    root: &RootDir,
    change: &Localization,
    parameters: &OwnParameters,
) -> Result<Vec<String>> {
    let mut files = vec![COMMAND_LINE.to_owned(), "etc/cmdline".to_owned()];
    files.extend(files_in(root, "etc/cmdline.d", ".conf")?);
    let entries = match change.layout.shared.iter().any(|m| m.as_path() == Path::new("/boot")) {
        true => Vec::new(),
        false => files_in(root, ENTRIES, ".conf")?,
    };
    let mut done = Vec::new();
    for path in files.iter().chain(&entries) {
        let Some(old) = read_editable(root, path)? else { continue };
        let new = match entries.contains(path) {
            true => parameters.in_entry(&old),
            false => parameters.in_file(&old, path == COMMAND_LINE),
        };
        let new = new.map_err(|e| Error::boot(format!("changing /{path}"), e))?;
        if write_changed(root, path, &old, &new)? || path == COMMAND_LINE {
            done.push(format!("/{path}: root=UUID={}", parameters.uuid));
        }
    }
    Ok(done)
}

/// The paths of the files in a directory whose names end so, sorted.
fn files_in(root: &RootDir, directory: &str, end: &str) -> Result<Vec<String>> {
    let mut paths = Vec::new();
    for name in root.names(directory)? {
        let Some(name) = name.to_str().filter(|name| name.ends_with(end)) else { continue };
        let path = format!("{directory}/{name}");
        if root.metadata(&path)?.is_some_and(|found| found.is_file()) {
            paths.push(path);
        }
    }
    Ok(paths)
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

/// A program that makes the initramfs of every kernel.
struct InitramfsProgram {
    /// Where it is, as a path in the root.
    path: &'static str,
    command: &'static [&'static str],
}

/// Those of initramfs-tools(7), dracut(8) and mkinitcpio(8). dracut would otherwise make one for the
/// machine that it finds in the sandbox.
const INITRAMFS_PROGRAMS: [InitramfsProgram; 3] = [
    InitramfsProgram {
        path: "usr/sbin/update-initramfs",
        command: &["update-initramfs", "-u", "-k", "all"],
    },
    InitramfsProgram {
        path: "usr/bin/dracut",
        command: &["dracut", "--no-hostonly", "--regenerate-all", "--force"],
    },
    InitramfsProgram { path: "usr/bin/mkinitcpio", command: &["mkinitcpio", "-P"] },
];

fn rebuild_initramfs(root: &RootDir, inside: &dyn Programs, why: &str) -> Result<Localized> {
    let mut localized = Localized::default();
    match INITRAMFS_PROGRAMS.iter().find(|program| root.exists(program.path)) {
        Some(program) => {
            inside.run(program.command)?;
            localized.done.push(format!("initramfs rebuilt: {why}"));
        }
        None => localized.warnings.push(format!(
            "the initramfs of the copy is not rebuilt, although {why}: there is no \
            update-initramfs, dracut or mkinitcpio in it; rebuild it before the copy is booted"
        )),
    }
    Ok(localized)
}
