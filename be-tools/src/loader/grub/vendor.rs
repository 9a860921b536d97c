//! A distribution's own directory on the ESP: which BE its loader starts.
//!
//! Debian's `\EFI\debian\grub.cfg`, written by grub-install, is three lines: `search.fs_uuid UUID
//! root hints`, `set prefix=($root)'/boot/grub'`, `configfile $prefix/grub.cfg`. It is parsed,
//! never executed.

use std::path::Path;

use boot::esp::Esp;

use super::stub::BootDirectory;
use crate::environment::BootEnvironment;
use crate::storage::device::Devices;

/// The boot directory that the loader `file` of a boot entry uses, from the grub.cfg in the
/// loader's directory.
pub fn boot_directory_of(esp: &Esp, file: &str) -> Option<BootDirectory> {
    let file = file.replace('\\', "/");
    let file = Path::new(file.trim_start_matches('/'));
    // If the loader does not exist, the firmware tries the next entry.
    esp.absolute(file).ok()?.is_file().then_some(())?;
    let configuration = esp.read(&file.parent()?.join("grub.cfg")).ok().flatten()?;
    parse_boot_directory(&String::from_utf8_lossy(&configuration))
}

/// Whether a boot directory is that of the BE.
pub fn is_of(
    devices: &Devices,
    environment: &BootEnvironment,
    boot_directory: &BootDirectory,
) -> bool {
    let boot = environment.file_systems.iter().find(|f| f.mountpoint == Path::new("/boot"));
    match boot {
        Some(boot) => {
            // A copy of its disk answers to the line as well, and has the same UUID.
            let named = boot.device.as_ref().and_then(|d| devices.by_node(d));
            let answering = match named {
                Some(device) => vec![device],
                None => devices.lookup(&boot.spec),
            };
            let uuids = answering.iter().filter_map(|device| device.super_block());
            uuids.into_iter().any(|s| s.uuid.eq_ignore_ascii_case(&boot_directory.uuid))
        }
        None => {
            let subvolume =
                environment.root.subvolume.as_deref().unwrap_or_default().trim_matches('/');
            environment.root.uuid.eq_ignore_ascii_case(&boot_directory.uuid)
                && boot_directory
                    .path
                    .trim_matches('/')
                    .strip_suffix("boot")
                    .map(|p| p.trim_matches('/'))
                    == Some(subvolume)
        }
    }
}

/// Parses the grub.cfg in a distribution's directory; `None` if it does not have the known form.
pub fn parse_boot_directory(text: &str) -> Option<BootDirectory> {
    let mut uuid = None;
    let mut path = None;
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["search.fs_uuid", value, ..] => uuid = Some((*value).to_owned()),
            ["search", options @ ..]
                if options.contains(&"--fs-uuid") || options.contains(&"-u") =>
            {
                uuid = options.iter().rfind(|w| !w.starts_with('-')).map(|w| (*w).to_owned());
            }
            ["set", assignment, ..] => {
                if let Some(value) = assignment.strip_prefix("prefix=") {
                    let value: String =
                        value.chars().filter(|c| !matches!(c, '\'' | '"')).collect();
                    path = value
                        .strip_prefix("($root)")
                        .and_then(|p| p.strip_suffix("/grub"))
                        .map(str::to_owned);
                }
            }
            _ => {}
        }
    }
    let path = path?;
    Some(BootDirectory { uuid: uuid?, path: if path.is_empty() { "/".into() } else { path } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::FileSystemUse;
    use crate::storage::device::BlockDevice;
    use crate::storage::probe::{Kind, SuperBlock};

    #[test]
    fn a_boot_directory_that_a_copy_of_the_disk_has_too_is_that_of_the_be() {
        let boot = |name: &str, uuid: &str| {
            let found = SuperBlock { uuid: uuid.into(), ..SuperBlock::new(Kind::Ext4) };
            BlockDevice::example(name, found)
        };
        let devices: Devices =
            [boot("sda1", "aaaa-01"), boot("sdb1", "aaaa-01"), boot("sdc1", "cccc-03")]
                .into_iter()
                .collect();
        let mut environment = BootEnvironment::empty(Path::new("/dev/sda2"));
        let line = FileSystemUse::example("/boot", "/dev/sda1");
        let spec = "UUID=aaaa-01".into();
        environment.file_systems.push(FileSystemUse { device: None, spec, ..line });
        let is_of = |uuid: &str| {
            let directory = BootDirectory { uuid: uuid.into(), path: "/grub".into() };
            is_of(&devices, &environment, &directory)
        };
        assert!(is_of("AAAA-01") && !is_of("cccc-03"));
    }

    #[test]
    fn the_grub_cfg_of_debian() {
        let text = "search.fs_uuid 8a4e39a8-be0a-4b8c-8a5e-5b9e0a5d3c11 root hd0,gpt2 \n\
                    set prefix=($root)'/boot/grub'\nconfigfile $prefix/grub.cfg\n";
        let boot_directory = parse_boot_directory(text).unwrap();
        assert_eq!(
            (boot_directory.uuid.as_str(), boot_directory.path.as_str()),
            ("8a4e39a8-be0a-4b8c-8a5e-5b9e0a5d3c11", "/boot")
        );
    }

    #[test]
    fn other_boot_directories() {
        let cases = [
            ("search.fs_uuid AB-CD root\nset prefix=($root)'/grub'\n", Some(("AB-CD", "/"))),
            (
                "search.fs_uuid u root hd0\nset prefix=($root)'/@rootfs/boot/grub'",
                Some(("u", "/@rootfs/boot")),
            ),
            (
                "search --no-floppy --fs-uuid --set=root u\nset prefix=($root)/boot/grub",
                Some(("u", "/boot")),
            ),
            ("configfile /grub.cfg", None),
            ("search.fs_uuid\nset prefix=", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let boot_directory = parse_boot_directory(text);
            assert_eq!(
                boot_directory.as_ref().map(|p| (p.uuid.as_str(), p.path.as_str())),
                expected,
                "{text}"
            );
        }
    }
}
