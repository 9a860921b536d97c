//! Which kernel, initramfs and command line a BE starts with: from its boot loader entries
//! (UAPI.1), else from the default entry of its grub.cfg, else the newest kernel that has an
//! initramfs and modules.

use boot::bls;
use boot::command_line::CommandLine;
use boot::grub_cfg;
use boot::grubenv::EnvironmentBlock;

use crate::environment::BootEnvironment;
use crate::error::{Error, Result};
use crate::root_dir::RootDir;

/// A kernel and what it is started with. Paths are relative to the BE's root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootChoice {
    /// The kernel.
    pub kernel: String,
    /// Its initramfs archives, in order; usually one.
    pub initrds: Vec<String>,
    /// The kernel command line; its `root=` names this BE.
    pub command_line: String,
    /// Where it was found, and what was corrected.
    pub notes: Vec<String>,
}

impl BootChoice {
    /// The initramfs archives, as a plan names them.
    pub fn initrds_text(&self) -> String {
        if self.initrds.is_empty() {
            return "no initramfs".into();
        }
        self.initrds.iter().map(|i| format!("/{i}")).collect::<Vec<_>>().join(" and ")
    }
}

/// Chooses for the BE mounted at `root`. Configuration is parsed, never run.
///
/// # Errors
/// [`Error::NoKernel`].
pub fn choose(root: &RootDir, environment: &BootEnvironment) -> Result<BootChoice> {
    let found = from_boot_loader_entries(root)?.or(from_grub_cfg(root)?).or(newest(root)?);
    let mut choice = found.ok_or_else(|| {
        let (name, reference) = (environment.name().into(), environment.reference.clone());
        Error::NoKernel { name, reference }
    })?;
    set_root(&mut choice, environment);
    Ok(choice)
}

fn from_boot_loader_entries(root: &RootDir) -> Result<Option<BootChoice>> {
    let mut entries = Vec::new();
    for directory in ["boot/loader/entries", "efi/loader/entries", "boot/efi/loader/entries"] {
        for name in root.names(directory)? {
            let Some(name) = name.to_str() else { continue };
            let text = root.text(format!("{directory}/{name}"))?.unwrap_or_default();
            entries.extend(bls::Entry::parse(name, &text).filter(|e| e.linux.is_some()));
        }
    }
    bls::sort(&mut entries);
    for entry in entries {
        let Some(kernel) = entry.linux.as_deref().and_then(|path| resolve(root, path)) else {
            continue;
        };
        let initrds: Option<Vec<_>> = entry.initrd.iter().map(|path| resolve(root, path)).collect();
        let Some(initrds) = initrds else { continue };
        return Ok(Some(BootChoice {
            kernel,
            initrds,
            command_line: entry.options.clone(),
            notes: vec![format!("from the boot loader entry {}", entry.file_name())],
        }));
    }
    Ok(None)
}

fn from_grub_cfg(root: &RootDir) -> Result<Option<BootChoice>> {
    for directory in ["boot/grub", "boot/grub2"] {
        let Some(text) = root.text(format!("{directory}/grub.cfg"))? else { continue };
        let block = root.read(format!("{directory}/grubenv"))?;
        let block = block.and_then(|b| EnvironmentBlock::parse(&b).ok()).unwrap_or_default();
        let Some(entry) = grub_cfg::default_entry(&text, &block) else { continue };
        let Some(kernel) = resolve(root, &entry.linux) else { continue };
        let initrds: Option<Vec<_>> = entry.initrd.iter().map(|path| resolve(root, path)).collect();
        let Some(initrds) = initrds else { continue };
        let notes = vec![format!("from /{directory}/grub.cfg: {}", entry.title)];
        return Ok(Some(BootChoice { kernel, initrds, command_line: entry.options, notes }));
    }
    Ok(None)
}

fn newest(root: &RootDir) -> Result<Option<BootChoice>> {
    let mut releases: Vec<String> = root
        .names("boot")?
        .into_iter()
        .filter_map(|name| Some(name.to_str()?.strip_prefix("vmlinuz-")?.to_owned()))
        .filter(|r| {
            root.exists(format!("boot/initrd.img-{r}")) && root.exists(format!("lib/modules/{r}"))
        })
        .collect();
    releases.sort_by(|a, b| bls::compare_versions(a, b));
    Ok(releases.pop().map(|release| BootChoice {
        kernel: format!("boot/vmlinuz-{release}"),
        initrds: vec![format!("boot/initrd.img-{release}")],
        command_line: "ro".into(),
        notes: vec![
            "no boot loader menu was found: this is the newest kernel that has an initramfs and \
            modules"
                .into(),
        ],
    }))
}

/// Turns a path in a loader's configuration, which begins at the top of the file system that holds
/// /boot, into a path in the BE. That is the same path, or one below /boot if /boot is a file
/// system of its own, or the path without the subvolume that it begins with.
fn resolve(root: &RootDir, path: &str) -> Option<String> {
    let path = path.trim_start_matches('/');
    let in_boot = format!("boot/{path}");
    let below_subvolume = path.find("boot/").map(|at| path[at..].to_owned());
    [Some(path.to_owned()), Some(in_boot), below_subvolume].into_iter().flatten().find(
        |candidate| root.metadata(candidate).is_ok_and(|found| found.is_some_and(|m| m.is_file())),
    )
}

/// Makes `root=` name this BE: a copy that another program made still names its source.
fn set_root(choice: &mut BootChoice, environment: &BootEnvironment) {
    let mut line = CommandLine::parse(&choice.command_line);
    let wanted = format!("UUID={}", environment.root.uuid);
    let named = line.get("root").unwrap_or_default().to_owned();
    let stale = named
        .strip_prefix("UUID=")
        .is_some_and(|uuid| !uuid.eq_ignore_ascii_case(&environment.root.uuid));
    if named.is_empty() || stale {
        if stale {
            choice.notes.push(format!(
                "its command line named another root ({named}), which {wanted} replaces"
            ));
        }
        // A UUID has no character that a command line cannot hold.
        let _ = line.set("root", &wanted);
        choice.command_line = line.to_string();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const UUID: &str = "11111111-2222-3333-4444-555555555555";

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, RootDir, BootEnvironment) {
        let directory = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = directory.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let root = RootDir::open(directory.path()).unwrap();
        let mut environment = BootEnvironment::empty(Path::new("/dev/vda2"));
        environment.root.uuid = UUID.into();
        (directory, root, environment)
    }

    const KERNEL: [(&str, &str); 3] = [
        ("boot/vmlinuz-6.1.0-9", "k"),
        ("boot/initrd.img-6.1.0-9", "i"),
        ("lib/modules/6.1.0-9/modules.dep", ""),
    ];

    fn grub_cfg(kernel: &str, uuid: &str) -> String {
        format!(
            "set default=\"0\"\nmenuentry 'Debian' {{\n linux {kernel} root=UUID={uuid} ro \
            quiet\n initrd {}\n}}\n",
            kernel.replace("vmlinuz", "initrd.img")
        )
    }

    #[test]
    fn the_default_entry_of_grub_cfg_is_taken() {
        let text = grub_cfg("/boot/vmlinuz-6.1.0-9", UUID);
        let mut files = KERNEL.to_vec();
        files.push(("boot/grub/grub.cfg", &text));
        let (_directory, root, environment) = tree(&files);
        let choice = choose(&root, &environment).unwrap();
        assert_eq!(choice.kernel, "boot/vmlinuz-6.1.0-9");
        assert_eq!(choice.initrds, ["boot/initrd.img-6.1.0-9"]);
        assert_eq!(choice.command_line, format!("root=UUID={UUID} ro quiet"));
    }

    #[test]
    fn a_separate_boot_and_a_subvolume_are_found() {
        for path in ["/vmlinuz-6.1.0-9", "/@/boot/vmlinuz-6.1.0-9"] {
            let text = grub_cfg(path, UUID);
            let mut files = KERNEL.to_vec();
            files.push(("boot/grub/grub.cfg", &text));
            let (_directory, root, environment) = tree(&files);
            assert_eq!(
                choose(&root, &environment).unwrap().kernel,
                "boot/vmlinuz-6.1.0-9",
                "{path}"
            );
        }
    }

    #[test]
    fn a_stale_root_is_corrected_and_noted() {
        let text = grub_cfg("/boot/vmlinuz-6.1.0-9", "99999999-2222-3333-4444-555555555555");
        let mut files = KERNEL.to_vec();
        files.push(("boot/grub/grub.cfg", &text));
        let (_directory, root, environment) = tree(&files);
        let choice = choose(&root, &environment).unwrap();
        assert!(
            choice.command_line.contains(&format!("root=UUID={UUID}")),
            "{}",
            choice.command_line
        );
        assert!(choice.notes.iter().any(|n| n.contains("another root")), "{:?}", choice.notes);
    }

    #[test]
    fn without_a_menu_the_newest_complete_kernel_is_taken() {
        let mut files = KERNEL.to_vec();
        files.extend([
            ("boot/vmlinuz-6.1.0-10", "k"),
            ("boot/initrd.img-6.1.0-10", "i"),
            ("lib/modules/6.1.0-10/modules.dep", ""),
            ("boot/vmlinuz-6.12.0-1", "no initramfs"),
        ]);
        let (_directory, root, environment) = tree(&files);
        let choice = choose(&root, &environment).unwrap();
        assert_eq!(choice.kernel, "boot/vmlinuz-6.1.0-10");
        assert_eq!(choice.command_line, format!("ro root=UUID={UUID}"));
    }

    #[test]
    fn no_kernel_is_an_error_that_says_what_to_do() {
        let (_directory, root, environment) = tree(&[("etc/fstab", "")]);
        let error = choose(&root, &environment).unwrap_err();
        assert!(matches!(error, Error::NoKernel { .. }), "{error}");
        assert!(error.to_string().contains("`be check @/dev/vda2`"), "{error}");
    }
}
