//! The systemd units that every BE carries (systemd.unit(5)): `be create` and `be adopt` write
//! them.

/// A file that belongs to Lifeboat in every BE.
#[derive(Clone, Copy, Debug)]
pub struct InstalledFile {
    /// Path in the BE, without the leading slash.
    pub path: &'static str,
    /// Permission bits.
    pub mode: u32,
    /// What it holds.
    pub contents: &'static str,
}

/// A symbolic link that starts one of the units at boot, as `systemctl enable` makes it.
#[derive(Clone, Copy, Debug)]
pub struct InstalledLink {
    /// Path in the BE, without the leading slash.
    pub path: &'static str,
    /// Where it leads.
    pub target: &'static str,
}

/// The files, in the order in which they are written. `/etc` is always on the root file system.
pub fn installed_files() -> &'static [InstalledFile] {
    &[
        InstalledFile {
            path: "etc/systemd/system/lifeboat-confirm.service",
            mode: 0o644,
            contents: include_str!("../units/lifeboat-confirm.service"),
        },
        InstalledFile {
            path: "etc/systemd/system/lifeboat-deadline.service",
            mode: 0o644,
            contents: include_str!("../units/lifeboat-deadline.service"),
        },
    ]
}

/// The links, made after the files.
pub fn installed_links() -> &'static [InstalledLink] {
    &[
        InstalledLink {
            path: "etc/systemd/system/basic.target.wants/lifeboat-confirm.service",
            target: "/etc/systemd/system/lifeboat-confirm.service",
        },
        InstalledLink {
            path: "etc/systemd/system/sysinit.target.wants/lifeboat-deadline.service",
            target: "/etc/systemd/system/lifeboat-deadline.service",
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_unit_is_wanted_by_what_its_text_says() {
        for (file, link) in installed_files().iter().zip(installed_links()) {
            let wanted = file.contents.lines().find_map(|l| l.strip_prefix("WantedBy=")).unwrap();
            let name = file.path.rsplit('/').next().unwrap();
            assert_eq!(link.path, format!("etc/systemd/system/{wanted}.wants/{name}"));
            assert_eq!(link.target, format!("/{}", file.path));
        }
    }

    #[test]
    fn the_units_run_the_program_that_every_be_carries() {
        for file in installed_files() {
            assert!(file.contents.contains("\nExecStart=/usr/lib/lifeboat/be "), "{}", file.path);
        }
    }
}
