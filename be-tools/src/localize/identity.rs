//! What must differ between copies: UUIDs and labels of file systems, and with `--new-machine` the
//! identity of the machine.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::environment::{Id, Name, Purpose};
use crate::error::{Error, Result};
use crate::layout::{FsType, MountPoint};
use crate::lossless;
use crate::root_dir::RootDir;
use crate::sandbox::programs::Programs;

/// The UUID for a new file system of a BE, which marks it as made for that mount point. A FAT has
/// only the first 32 bits of it, which prove nothing.
pub fn uuid_for(id: Id, mountpoint: &MountPoint, fs_type: FsType) -> Option<String> {
    let purpose = Purpose::FileSystem(mountpoint.as_path().to_owned());
    let uuid = purpose.uuid(id)?;
    Some(match fs_type {
        FsType::Vfat => {
            let digits = uuid.simple().to_string().to_uppercase();
            format!("{}-{}", &digits[..4], &digits[4..8])
        }
        _ => uuid.to_string(),
    })
}

/// The label of a new file system whose source has one: the name of the BE, followed by the last
/// part of the mount point unless that is `/`. If this is too long for the file system, or taken,
/// the id of the BE is used instead of its name.
///
/// Maximum lengths: mke2fs(8) 16 bytes, mkfs.xfs(8) 12, mkfs.fat(8) 11, mkfs.btrfs(8) 255.
pub fn label(
    name: &Name,
    id: Id,
    mountpoint: &MountPoint,
    fs_type: FsType,
    taken: &BTreeSet<String>,
) -> Option<String> {
    let limit = match fs_type {
        FsType::Ext2 | FsType::Ext3 | FsType::Ext4 => 16,
        FsType::Xfs => 12,
        FsType::Vfat => 11,
        FsType::Btrfs => 255,
    };
    let part = mountpoint.as_path().file_name().map(|n| n.to_string_lossy().into_owned());
    let with =
        |first: &str| part.as_ref().map_or(first.to_owned(), |part| format!("{first}-{part}"));
    let fits = |label: &String| {
        let plain = label.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        plain && label.len() <= limit && !taken.iter().any(|t| t.eq_ignore_ascii_case(label))
    };
    let short = with(&id.short()).chars().take(limit).collect();
    [with(name.as_str()), with(&id.short()), short].into_iter().find(fits)
}

/// The identity that `--new-machine` gives to a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewMachine {
    /// The host name. If it is not given, that of the source is kept.
    pub hostname: Option<String>,
}

impl NewMachine {
    /// Gives the BE at `root` a machine identity of its own.
    ///
    /// # Errors
    /// When a file cannot be changed, or its ssh-keygen fails.
    pub fn apply(&self, root: &RootDir, inside: &dyn Programs) -> Result<Vec<String>> {
        let mut done = Vec::new();
        // Empty, not "uninitialized": then the boot makes a new id, but is not a first boot in the
        // sense of machine-id(5). A first boot applies presets, which would undo what the
        // administrator has enabled and disabled.
        root.write("etc/machine-id", b"", 0o444)?;
        done.push("/etc/machine-id is empty: the next boot makes a new one".into());
        root.remove("var/lib/systemd/random-seed")?;
        if root.exists("var/lib/dbus") {
            root.symlink("var/lib/dbus/machine-id", "/etc/machine-id")?;
        }
        done.extend(self.new_host_keys(root, inside)?);
        if let Some(hostname) = &self.hostname {
            done.push(rename_host(root, hostname)?);
        }
        Ok(done)
    }

    /// Makes new host keys right away. Debian makes them only when the package is installed, not at
    /// boot.
    fn new_host_keys(&self, root: &RootDir, inside: &dyn Programs) -> Result<Option<String>> {
        let names = root.names(SSH)?;
        let keys: Vec<&str> =
            names.iter().filter_map(|n| n.to_str()).filter(|n| is_host_key(n)).collect();
        for key in &keys {
            root.remove(format!("{SSH}/{key}"))?;
        }
        if !root.exists("usr/bin/ssh-keygen") {
            return Ok((!keys.is_empty()).then(|| "ssh host keys removed".into()));
        }
        inside.run(&["ssh-keygen", "-A"])?;
        Ok(Some("new ssh host keys".into()))
    }
}

/// The files that make `root` and `other` different machines, relative to the root. The list is
/// empty if both have the same machine-id.
///
/// # Errors
/// When a directory cannot be read.
pub(crate) fn of_another_machine(root: &RootDir, other: &RootDir) -> Result<Vec<PathBuf>> {
    const MACHINE_ID: &str = "etc/machine-id";
    if root.text(MACHINE_ID)? == other.text(MACHINE_ID)? {
        return Ok(Vec::new());
    }
    let mut own: BTreeSet<PathBuf> =
        [MACHINE_ID, "var/lib/dbus/machine-id", "var/lib/systemd/random-seed"]
            .into_iter()
            .map(PathBuf::from)
            .collect();
    for side in [root, other] {
        let keys =
            side.names(SSH)?.into_iter().filter(|name| name.to_str().is_some_and(is_host_key));
        own.extend(keys.map(|name| Path::new(SSH).join(name)));
    }
    Ok(own.into_iter().collect())
}

/// The directory of the ssh host keys.
const SSH: &str = "etc/ssh";

fn is_host_key(name: &str) -> bool {
    name.strip_prefix("ssh_host_")
        .is_some_and(|rest| rest.ends_with("_key") || rest.ends_with("_key.pub"))
}

/// `/etc/hostname`, and the name in `/etc/hosts`.
fn rename_host(root: &RootDir, new: &str) -> Result<String> {
    let legal = |part: &str| {
        (1..=63).contains(&part.len())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    if new.len() > 64 || !new.split('.').all(legal) {
        return Err(Error::Usage(format!(
            "'{}' is not a host name: use letters, digits and '-'",
            new.escape_default()
        )));
    }
    let old = root.text("etc/hostname")?.unwrap_or_default().trim().to_owned();
    root.write("etc/hostname", format!("{new}\n").as_bytes(), 0o644)?;
    if let Some(hosts) = root.read("etc/hosts")? {
        let hosts = renamed_hosts(&lossless::decode(&hosts), &old, new);
        root.write("etc/hosts", &lossless::encode(&hosts), 0o644)?;
    }
    Ok(format!("/etc/hostname: {new}"))
}

fn renamed_hosts(hosts: &str, old: &str, new: &str) -> String {
    let short = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
    let line = |line: &str| {
        let is_own = !old.is_empty() && line.starts_with("127.");
        let mut renamed = String::new();
        for word in line.split_inclusive([' ', '\t', '\n']) {
            let name = word.trim_end();
            let blank = &word[name.len()..];
            match name {
                _ if !is_own || name.is_empty() => renamed.push_str(name),
                _ if name == old => renamed.push_str(new),
                _ if name == short(old) => renamed.push_str(&short(new)),
                _ => renamed.push_str(name),
            }
            renamed.push_str(blank);
        }
        renamed
    };
    hosts.split_inclusive('\n').map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_short_enough_and_not_taken() {
        let id: Id = "2f0c1a94-0000-4000-8000-000000000000".parse().unwrap();
        let table = [
            ("second", "/", FsType::Ext4, &[][..], Some("second")),
            ("second", "/home", FsType::Ext4, &[], Some("second-home")),
            ("second", "/", FsType::Ext4, &["Second"], Some("2f0c1a94")),
            ("nightly-build-of-today", "/", FsType::Ext4, &[], Some("2f0c1a94")),
            ("nightly-build-of-today", "/var", FsType::Xfs, &[], Some("2f0c1a94-var")),
            ("second", "/home", FsType::Vfat, &[], Some("second-home")),
            ("second", "/srv/databases", FsType::Xfs, &[], Some("2f0c1a94-dat")),
            ("a", "/", FsType::Ext4, &["a", "2f0c1a94"], None),
        ];
        for (name, mountpoint, fs_type, taken, expected) in table {
            let taken = taken.iter().map(|t| (*t).to_owned()).collect();
            let found =
                label(&name.parse().unwrap(), id, &mountpoint.parse().unwrap(), fs_type, &taken);
            assert_eq!(found.as_deref(), expected, "{name} {mountpoint} {fs_type}");
        }
    }

    #[test]
    fn hosts_follow_the_host_name() {
        let hosts = "127.0.0.1\tlocalhost\n127.0.1.1\told.example.org\told\n10.0.0.1 old\n";
        assert_eq!(
            renamed_hosts(hosts, "old.example.org", "new"),
            "127.0.0.1\tlocalhost\n127.0.1.1\tnew\tnew\n10.0.0.1 old\n"
        );
        assert_eq!(renamed_hosts(hosts, "", "new"), hosts);
    }

    #[test]
    fn two_machines_are_distinguished_by_their_machine_ids() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (dir, id) in [(&first, "1"), (&second, "2")] {
            std::fs::create_dir_all(dir.path().join(SSH)).unwrap();
            std::fs::write(dir.path().join("etc/machine-id"), id).unwrap();
        }
        std::fs::write(second.path().join("etc/ssh/ssh_host_rsa_key"), "").unwrap();
        let [one, two] = [&first, &second].map(|dir| RootDir::open(dir.path()).unwrap());
        assert!(of_another_machine(&one, &one).unwrap().is_empty());
        let own = of_another_machine(&one, &two).unwrap();
        assert!(
            own.contains(&"etc/ssh/ssh_host_rsa_key".into())
                && own.contains(&"etc/machine-id".into())
        );
    }

    #[test]
    fn host_keys_are_distinguished_from_settings() {
        for (name, is_key) in
            [("ssh_host_ed25519_key", true), ("ssh_host_rsa_key.pub", true), ("sshd_config", false)]
        {
            assert_eq!(is_host_key(name), is_key, "{name}");
        }
    }
}
