//! Which kernel, initramfs and command line a BE starts with: the default entry of its menu, else
//! the newest kernel that has an initramfs and modules.

mod root_parameter;

use boot::menu::{BootMenu, MenuEntry, resolve};

use crate::distribution;
use crate::environment::BootEnvironment;
use crate::environment::facts::newest_complete_kernel;
use crate::error::{Error, Result};
use crate::root_dir::RootDir;
use crate::storage::device::Devices;

/// The most menu entries of which a note says why they were not taken.
const MOST_NOTES: usize = 3;

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
pub fn choose(
    root: &RootDir,
    environment: &BootEnvironment,
    devices: &Devices,
) -> Result<BootChoice> {
    let menu = BootMenu::read(root);
    let mut passed_over = Vec::new();
    let found = menu.entries.iter().find_map(|entry| {
        of_entry(root, entry).map_err(|missing| passed_over.push((entry, missing))).ok()
    });
    let mut choice = found.or_else(|| newest(root)).ok_or_else(|| {
        let (name, reference) = (environment.name().into(), environment.reference.clone());
        let install = distribution::kernel_installation(&environment.os.id);
        Error::NoKernel { name, reference, install }
    })?;
    if menu.entries.is_empty() {
        choice.notes.push("no boot menu was found in it".into());
    }
    // The first ones are those that the system would start.
    choice.notes.extend(passed_over.iter().take(MOST_NOTES).map(|(entry, missing)| {
        format!("skipped {entry}: {missing}, which it names, does not exist")
    }));
    let has_initramfs = !choice.initrds.is_empty();
    let corrected =
        root_parameter::correct(&choice.command_line, has_initramfs, environment, devices);
    choice.command_line = corrected.command_line;
    choice.notes.extend(corrected.notes);
    Ok(choice)
}

/// What an entry starts, or which of its files is missing, as the entry names it.
fn of_entry<'a>(root: &RootDir, entry: &'a MenuEntry) -> Result<BootChoice, &'a str> {
    let file = |path: &'a String| resolve(root, path).ok_or(path.as_str());
    Ok(BootChoice {
        kernel: file(&entry.kernel)?,
        initrds: entry.initrds.iter().map(file).collect::<Result<_, _>>()?,
        command_line: entry.options.clone(),
        notes: vec![format!("from {entry}")],
    })
}

fn newest(root: &RootDir) -> Option<BootChoice> {
    let kernel = newest_complete_kernel(root)?;
    Some(BootChoice {
        kernel: kernel.image,
        initrds: kernel.initramfs.into_iter().collect(),
        command_line: "ro".into(),
        notes: vec!["the newest kernel that has an initramfs and modules".into()],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root_dir::testing;
    use std::path::Path;

    const UUID: &str = "11111111-2222-3333-4444-555555555555";

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, RootDir, BootEnvironment) {
        let (directory, root) = testing::tree(files);
        let mut environment = BootEnvironment::empty(Path::new("/dev/vda2"));
        environment.root.uuid = UUID.into();
        (directory, root, environment)
    }

    /// The beginning of a compressed initramfs.
    const INITRAMFS: &str = "BZh and the rest of it";

    const KERNEL: [(&str, &str); 3] = [
        ("boot/vmlinuz-6.1.0-9", "k"),
        ("boot/initrd.img-6.1.0-9", INITRAMFS),
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
        let choice = choose(&root, &environment, &Devices::default()).unwrap();
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
                choose(&root, &environment, &Devices::default()).unwrap().kernel,
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
        let choice = choose(&root, &environment, &Devices::default()).unwrap();
        assert!(
            choice.command_line.contains(&format!("root=UUID={UUID}")),
            "{}",
            choice.command_line
        );
        assert!(choice.notes.iter().any(|n| n.contains("replaces it")), "{:?}", choice.notes);
    }

    #[test]
    fn without_a_menu_the_newest_complete_kernel_is_taken() {
        let mut files = KERNEL.to_vec();
        files.extend([
            ("boot/vmlinuz-6.1.0-10", "k"),
            ("boot/initrd.img-6.1.0-10", INITRAMFS),
            ("lib/modules/6.1.0-10/modules.dep", ""),
            ("boot/vmlinuz-6.12.0-1", "no initramfs"),
        ]);
        let (_directory, root, environment) = tree(&files);
        let choice = choose(&root, &environment, &Devices::default()).unwrap();
        assert_eq!(choice.kernel, "boot/vmlinuz-6.1.0-10");
        assert_eq!(choice.command_line, format!("ro root=UUID={UUID}"));
    }

    #[test]
    fn an_entry_is_named_that_was_not_taken_and_what_it_lacks() {
        let text = grub_cfg("/boot/vmlinuz-6.1.0-8", UUID);
        let mut files = KERNEL.to_vec();
        files.push(("boot/grub/grub.cfg", &text));
        let (_directory, root, environment) = tree(&files);
        let choice = choose(&root, &environment, &Devices::default()).unwrap();
        assert_eq!(choice.kernel, "boot/vmlinuz-6.1.0-9");
        assert_eq!(
            choice.notes[..2],
            [
                "the newest kernel that has an initramfs and modules",
                "skipped /boot/grub/grub.cfg: Debian: /boot/vmlinuz-6.1.0-8, which it names, does \
                not exist"
            ]
        );
        let (_directory, root, environment) = tree(&KERNEL);
        let choice = choose(&root, &environment, &Devices::default()).unwrap();
        assert_eq!(choice.notes[1], "no boot menu was found in it");
    }

    #[test]
    fn no_kernel_is_an_error_that_says_what_to_do() {
        let (_directory, root, environment) = tree(&[("etc/fstab", "")]);
        let error = choose(&root, &environment, &Devices::default()).unwrap_err();
        assert!(matches!(error, Error::NoKernel { .. }), "{error}");
        assert!(error.to_string().contains("`be check @/dev/vda2`"), "{error}");
    }

    #[test]
    fn the_newest_kernel_is_found_whatever_the_distribution_calls_it() {
        for (kernel, initramfs, release) in [
            ("vmlinuz-linux", "initramfs-linux.img", "linux"),
            ("vmlinuz-6.4-default", "initrd-6.4-default", "6.4-default"),
            ("kernel-6.6-gentoo-dist", "initramfs-6.6-gentoo-dist.img", "6.6-gentoo-dist"),
            ("vmlinuz-6.12_1", "initramfs-6.12_1.img", "6.12_1"),
        ] {
            let paths = [
                format!("boot/{kernel}"),
                format!("boot/{initramfs}"),
                format!("lib/modules/{release}/modules.dep"),
            ];
            let texts = ["k", INITRAMFS, ""];
            let files: Vec<(&str, &str)> = paths.iter().map(String::as_str).zip(texts).collect();
            let (_directory, root, environment) = tree(&files);
            let choice = choose(&root, &environment, &Devices::default()).unwrap();
            assert_eq!((choice.kernel, choice.initrds), (paths[0].clone(), vec![paths[1].clone()]));
        }
    }

    #[test]
    fn the_advice_for_a_kernel_is_that_of_the_distribution() {
        let (_directory, root, mut environment) = tree(&[("etc/fstab", "")]);
        for (id, words) in [
            ("debian", "apt-get install"),
            ("fedora", "dnf"),
            ("arch", "pacman -S"),
            ("opensuse-tumbleweed", "zypper"),
            ("lfs", "bash"),
        ] {
            environment.os.id = id.into();
            let error = choose(&root, &environment, &Devices::default()).unwrap_err().to_string();
            assert!(error.contains(words), "{id}: {error}");
            assert_eq!(error.contains("apt-get"), id == "debian", "{id}: {error}");
        }
    }

    #[test]
    fn an_entry_of_tuned_starts_its_kernel_and_not_the_rescue_kernel() {
        let entry = "linux /vmlinuz-6.1.0-9\ninitrd /initrd.img-6.1.0-9 $tuned_initrd\noptions \
            $kernelopts $tuned_params\n";
        let rescue = "linux /vmlinuz-0-rescue\ninitrd /initramfs-0-rescue.img\noptions x\n";
        let cfg = format!(
            "load_env -f ${{config_directory}}/grubenv\nset default=\"${{saved_entry}}\"\nif [ -z \
            \"${{kernelopts}}\" ]; then\n set kernelopts=\"root=UUID={UUID} ro\"\nfi\nblscfg\n"
        );
        let mut files = KERNEL.to_vec();
        files.extend([
            ("boot/vmlinuz-0-rescue", "k"),
            ("boot/initramfs-0-rescue.img", INITRAMFS),
            ("boot/loader/entries/0123-6.1.0-9.conf", entry),
            ("boot/loader/entries/0123-0-rescue.conf", rescue),
            ("boot/grub2/grub.cfg", &cfg),
        ]);
        let (_directory, root, environment) = tree(&files);
        let choice = choose(&root, &environment, &Devices::default()).unwrap();
        assert_eq!(choice.kernel, "boot/vmlinuz-6.1.0-9");
        assert_eq!(choice.initrds, ["boot/initrd.img-6.1.0-9"]);
        assert_eq!(choice.command_line, format!("root=UUID={UUID} ro"));
    }
}
