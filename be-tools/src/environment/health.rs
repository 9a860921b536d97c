//! Finds out why a BE would not boot, from the facts that were read. Does no I/O.

use std::borrow::Cow;
use std::path::Path;

use super::boot_environment::{BootEnvironment, FileSystemUse};
use super::facts::{Facts, Menu, MenuEntry, MenuFile};
use super::operation::State;
use super::problem::{AMBIGUOUS_ROOT, FSTAB_AMBIGUOUS, HIBERNATED, NOT_MOUNTED, Problem};
use crate::fstab::Spec;
use crate::storage::device::{BlockDevice, Devices};
use crate::storage::probe::Kind;

fn problem(code: impl Into<Cow<'static, str>>, text: impl Into<String>) -> Problem {
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
    root(environment, devices, &mut all);
    file_systems(facts, environment, devices, &mut all);
    hibernated(facts, environment, devices, &mut all);
    all
}

/// "/dev/vda2 and /dev/vdb2"
fn nodes<'a>(devices: impl IntoIterator<Item = &'a &'a BlockDevice>) -> String {
    let nodes: Vec<_> = devices.into_iter().map(|d| d.node.display().to_string()).collect();
    nodes.join(" and ")
}

fn root(environment: &BootEnvironment, devices: &Devices, all: &mut Vec<Problem>) {
    let root = &environment.root;
    let found = devices.lookup(&format!("UUID={}", root.uuid));
    if found.len() > 1 {
        let others = nodes(found.iter().filter(|d| d.node != root.device));
        all.push(problem(
            AMBIGUOUS_ROOT,
            format!(
                "its root has the same UUID as {others}: which one starts is chance; disconnect \
                the other disk, or give one of them another UUID"
            ),
        ));
    }
    let members =
        devices.iter().filter_map(|d| d.super_block()).filter(|s| s.uuid.as_str() == root.uuid);
    let (mut present, mut needed) = (0, 1);
    for member in members {
        (present, needed) = (present + 1, member.devices);
    }
    if present > 0 && present < needed {
        all.push(problem(
            "disk-missing",
            format!("its root is on {needed} devices, and {present} of them can be found"),
        ));
    }
}

/// A hibernated system: whatever is written to its file systems before it is resumed destroys them.
fn hibernated(
    facts: &Facts,
    environment: &BootEnvironment,
    devices: &Devices,
    all: &mut Vec<Problem>,
) {
    if environment.running {
        return;
    }
    let way_out = "start it so that it resumes, then shut it down, or give that session up with";
    let lines = environment.file_systems.iter().filter(|f| f.fs_type == "swap").map(|f| &f.spec);
    let resume = facts.menu.default.iter().filter_map(|entry| entry.resume.as_ref());
    let found = lines.chain(resume).flat_map(|spec| devices.lookup(spec));
    for swap in found {
        if swap.content.kind() == Some(Kind::Hibernation) {
            let uuid = swap.super_block().map_or("", |s| s.uuid.as_str());
            let node = swap.node.display();
            let give_up = match uuid {
                "" => format!("`mkswap {node}`"),
                uuid => format!("`mkswap -U {uuid} {node}`"),
            };
            all.push(problem(
                HIBERNATED,
                format!("a hibernated system waits in its swap space {node}: {way_out} {give_up}"),
            ));
            return;
        }
    }
    if let Some(file) = &facts.hibernated_swap_file {
        let file = file.display();
        all.push(problem(
            HIBERNATED,
            format!(
                "a hibernated system waits in its swap file {file}: {way_out} `mkswap` on that file"
            ),
        ));
    }
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
    all.extend(facts.not_mounted.iter().map(|why| problem(NOT_MOUNTED, why.clone())));
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
    let Menu { is_expected, is_there, file, default } = &facts.menu;
    let MenuFile { form, name } = file;
    if !is_there {
        if *is_expected {
            all.push(problem(format!("no-{form}"), format!("its {name} is missing or empty")));
        }
        return;
    }
    let Some(entry) = default else {
        let text = format!("its {name} has no entry that starts a kernel");
        all.push(problem(format!("{form}-no-entry"), text));
        return;
    };
    let MenuFile { form, name } = &entry.file;
    if entry.image.is_none() {
        let text = format!("its {name} starts {}, which is not there", entry.kernel);
        all.push(problem(format!("{form}-kernel"), text));
    }
    for path in &entry.missing_initramfs {
        let text = format!("its {name} loads {path}, which is not there");
        all.push(problem(format!("{form}-initramfs"), text));
    }
    if let Some(root) = &entry.root
        && let found = devices.lookup(root)
        && found.len() > 1
        && !is_own_uuid(root, environment)
    {
        let found = nodes(&found);
        let text = format!("its {name} boots root={root}, which {found} have: which is chance");
        all.push(problem(AMBIGUOUS_ROOT, text));
    } else if let Some(root) = other_root(entry, environment, devices) {
        let text = format!("its {name} boots root={root}, which is not its own");
        all.push(problem(format!("{form}-root"), text));
    }
}

/// Returns `root=` of the menu entry if it does not name the root of this BE.
fn other_root(
    entry: &MenuEntry,
    environment: &BootEnvironment,
    devices: &Devices,
) -> Option<String> {
    let root = entry.root.as_ref()?;
    let node = &environment.root.device;
    let is_own = is_own_uuid(root, environment)
        || uuid_of(root).is_none()
            && match devices.lookup(root)[..] {
                // A kernel name may be that of another machine, or of another order of disks.
                [] => root.starts_with("/dev/"),
                ref found => found.iter().any(|d| d.node == *node),
            };
    (!is_own).then(|| root.clone())
}

/// The UUID that `root=` names.
fn uuid_of(root: &str) -> Option<&str> {
    let uuid = root.strip_prefix("UUID=").or_else(|| root.strip_prefix("/dev/disk/by-uuid/"))?;
    Some(uuid.trim_matches('"'))
}

fn is_own_uuid(root: &str, environment: &BootEnvironment) -> bool {
    uuid_of(root).is_some_and(|uuid| uuid.eq_ignore_ascii_case(&environment.root.uuid))
}

fn file_systems(
    facts: &Facts,
    environment: &BootEnvironment,
    devices: &Devices,
    all: &mut Vec<Problem>,
) {
    if facts.fstab.is_none() {
        all.push(problem("no-fstab", "it has no /etc/fstab"));
        return;
    }
    for file_system in &environment.file_systems {
        let shown = file_system.mountpoint.display();
        let spec = &file_system.spec;
        if !is_needed(file_system) {
            continue;
        }
        let found = devices.lookup(spec);
        // The running BE has one of them mounted, but which one the next boot takes is chance. The
        // root has a problem of its own.
        if found.len() > 1 && file_system.mountpoint != Path::new("/") {
            all.push(problem(
                FSTAB_AMBIGUOUS,
                format!(
                    "its fstab names {spec} for {shown}, which {} have: which one is mounted is \
                    chance; disconnect one, or give it another UUID, label or PARTUUID",
                    nodes(&found)
                ),
            ));
        } else if file_system.device.is_none() {
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
    let is_device = match Spec::parse(&file_system.spec) {
        Spec::Path(path) => path.starts_with("/dev"),
        Spec::Other(_) => false,
        _ => true,
    };
    // A missing swap space only delays the boot.
    let is_optional = ["nofail", "noauto"].iter().any(|name| file_system.has_option(name));
    is_device && file_system.fs_type != "swap" && !is_optional
}

#[cfg(test)]
mod tests;
