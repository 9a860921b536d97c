//! Finds out why a BE would not boot, from the facts that were read. Does no I/O.

use std::path::Path;

use super::boot_environment::{BootEnvironment, FileSystemUse};
use super::descriptor::State;
use super::facts::{Facts, GrubEntry};
use super::problem::Problem;
use crate::fstab::Spec;
use crate::storage::device::Devices;

fn problem(code: &'static str, text: impl Into<String>) -> Problem {
    Problem::new(code, text)
}

/// Everything that would keep a BE from booting, as far as its own files show. Problems of its
/// loader are added by the loader.
pub fn problems(facts: &Facts, environment: &BootEnvironment, devices: &Devices) -> Vec<Problem> {
    let mut all = Vec::new();
    descriptor(facts, &mut all);
    host(facts, &mut all);
    kernel(facts, &mut all);
    menu(facts, environment, devices, &mut all);
    file_systems(facts, environment, &mut all);
    all
}

fn descriptor(facts: &Facts, all: &mut Vec<Problem>) {
    if let Some(why) = &facts.descriptor_error {
        all.push(problem("descriptor-unreadable", format!("its descriptor cannot be read: {why}")));
    }
    let Some(descriptor) = &facts.descriptor else { return };
    if descriptor.state == State::Incomplete {
        let what = descriptor.operation.map_or_else(|| "an operation".into(), |o| o.to_string());
        all.push(problem("incomplete", format!("it is incomplete: {what} was interrupted")));
    }
}

fn host(facts: &Facts, all: &mut Vec<Problem>) {
    all.extend(facts.not_mounted.iter().map(|why| problem("not-mounted", why.clone())));
    if facts.os.is_none() {
        all.push(problem("no-os-release", "it has no os-release"));
    }
    if let Some(why) = &facts.init_problem {
        all.push(problem("init", why.clone()));
    }
}

fn kernel(facts: &Facts, all: &mut Vec<Problem>) {
    let Some(kernel) = facts.kernel() else {
        all.push(problem("no-kernel", "it has no kernel in /boot"));
        return;
    };
    let release = &kernel.release;
    if let Some(why) = &kernel.image_problem {
        all.push(problem("kernel-damaged", format!("its kernel /{} {why}", kernel.image)));
    }
    match (&kernel.initramfs, &kernel.initramfs_problem) {
        (None, _) if kernel.needs_no_initramfs => {}
        (None, _) => {
            all.push(problem("no-initramfs", format!("its kernel {release} has no initramfs")))
        }
        (Some(path), Some(why)) => {
            all.push(problem("initramfs-damaged", format!("its initramfs /{path} {why}")));
        }
        (Some(_), None) => {}
    }
    if !kernel.modules {
        all.push(problem(
            "no-modules",
            format!("its kernel {release} has no modules in /lib/modules"),
        ));
    }
}

fn menu(facts: &Facts, environment: &BootEnvironment, devices: &Devices, all: &mut Vec<Problem>) {
    if !facts.grub.installed && !facts.grub.configured {
        return;
    }
    if !facts.grub.configured {
        all.push(problem("no-grub-cfg", "its /boot/grub/grub.cfg is missing or empty"));
        return;
    }
    let Some(entry) = &facts.grub.default else {
        all.push(problem("grub-cfg-no-entry", "its grub.cfg has no entry that starts a kernel"));
        return;
    };
    let (codes, menu) = match &entry.entry_file {
        None => (["grub-cfg-kernel", "grub-cfg-initramfs", "grub-cfg-root"], "grub.cfg".into()),
        Some(file) => (
            ["loader-entry-kernel", "loader-entry-initramfs", "loader-entry-root"],
            format!("boot loader entry {file}"),
        ),
    };
    let [no_kernel, no_initramfs, wrong_root] = codes;
    if entry.image.is_none() {
        let text = format!("its {menu} starts {}, which is not there", entry.kernel);
        all.push(problem(no_kernel, text));
    }
    for path in &entry.missing_initramfs {
        all.push(problem(no_initramfs, format!("its {menu} loads {path}, which is not there")));
    }
    if let Some(root) = other_root(entry, environment, devices) {
        let text = format!("its {menu} boots root={root}, which is not its own");
        all.push(problem(wrong_root, text));
    }
}

/// Returns `root=` of the menu entry if it does not name the root of this BE.
fn other_root(
    entry: &GrubEntry,
    environment: &BootEnvironment,
    devices: &Devices,
) -> Option<String> {
    let root = entry.root.as_ref()?;
    let node = &environment.root.device;
    let tag = |tag: &str| Some(root.strip_prefix(tag)?.trim_matches('"'));
    let is_own = match (tag("UUID="), tag("/dev/disk/by-uuid/")) {
        (Some(uuid), _) | (_, Some(uuid)) => uuid.eq_ignore_ascii_case(&environment.root.uuid),
        _ => match devices.lookup(root)[..] {
            // A kernel name may be that of another machine, or of another order of disks.
            [] if root.starts_with("/dev/") => true,
            [] => false,
            ref found => found.iter().any(|d| d.node == *node),
        },
    };
    (!is_own).then(|| root.clone())
}

fn file_systems(facts: &Facts, environment: &BootEnvironment, all: &mut Vec<Problem>) {
    if facts.fstab.is_none() {
        all.push(problem("no-fstab", "it has no /etc/fstab"));
        return;
    }
    for file_system in &environment.file_systems {
        let shown = file_system.mountpoint.display();
        let spec = &file_system.spec;
        if file_system.device.is_none() && is_needed(file_system) {
            all.push(problem(
                "fstab-device",
                format!("its fstab names {spec} for {shown}, and there is no such device"),
            ));
        }
    }
    let root = environment.file_systems.iter().find(|f| f.mountpoint == Path::new("/"));
    if let Some(FileSystemUse { device: Some(device), spec, .. }) = root
        && *device != environment.root.device
    {
        all.push(problem(
            "fstab-root",
            format!(
                "its fstab names {spec} for /, which is {} and not its own {}",
                device.display(),
                environment.root.device.display()
            ),
        ));
    }
}

/// Whether the system does not boot if the device of this line is missing.
fn is_needed(file_system: &FileSystemUse) -> bool {
    let optional = |option: &str| matches!(option, "nofail" | "noauto");
    let is_device = match Spec::parse(&file_system.spec) {
        Spec::Path(path) => path.starts_with("/dev"),
        Spec::Other(_) => false,
        _ => true,
    };
    // A missing swap space only delays the boot.
    is_device && file_system.fs_type != "swap" && !file_system.options.split(',').any(optional)
}

#[cfg(test)]
mod tests;
