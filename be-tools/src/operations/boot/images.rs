//! The kernel and the initramfs archives of a BE, opened for kexec(2).
//!
//! They are read into memory as a whole, and a BE on a foreign disk may name files of any size:
//! sparse ones cost it nothing.

use std::fs::File;
use std::io::{Read, Write};

use super::kernel::BootChoice;
use crate::error::{Doing, Error, Refusal, Result};
use crate::host::Host;
use crate::root_dir::RootDir;

/// The most bytes that a kernel and its initramfs archives may have together.
const MOST_BYTES: u64 = 1 << 30;

/// A file, with the size that it had when it was opened.
struct SizedFile {
    file: File,
    size: u64,
}

/// The files that a BE is started with. Together they fit into the memory that is available.
pub struct BootImages {
    kernel: File,
    initrds: Vec<SizedFile>,
}

impl BootImages {
    /// Opens the files of the BE called `name`, which is mounted at `root`.
    ///
    /// # Errors
    /// [`Refusal::ImagesTooLarge`], and a file cannot be opened.
    pub fn open(host: &Host, root: &RootDir, name: &str, choice: &BootChoice) -> Result<Self> {
        let kernel = open(root, &choice.kernel)?;
        let initrds: Vec<SizedFile> =
            choice.initrds.iter().map(|path| open(root, path)).collect::<Result<_>>()?;
        let sizes = initrds.iter().map(|initrd| initrd.size);
        let size = sizes.fold(kernel.size, u64::saturating_add);
        let limit = available(host).map_or(MOST_BYTES, |bytes| MOST_BYTES.min(bytes / 2));
        if size > limit {
            return Err(Refusal::ImagesTooLarge { name: name.into(), size, limit }.into());
        }
        Ok(BootImages { kernel: kernel.file, initrds })
    }

    /// The kernel, and the initramfs archives as one file: the kernel unpacks archives that follow
    /// each other.
    ///
    /// # Errors
    /// A file cannot be read, or memory runs out.
    pub fn into_files(mut self) -> Result<(File, Option<File>)> {
        let initrd = match self.initrds.len() {
            0 | 1 => self.initrds.pop().map(|initrd| initrd.file),
            _ => Some(joined(&self.initrds)?),
        };
        Ok((self.kernel, initrd))
    }
}

/// Opens a file that was there when it was chosen.
fn open(root: &RootDir, path: &str) -> Result<SizedFile> {
    let shown = || format!("{}/{path}", root.path().display());
    let file = root.file(path)?.ok_or_else(|| Error::Io {
        doing: format!("opening {}", shown()),
        source: std::io::ErrorKind::NotFound.into(),
    })?;
    let size = file.metadata().doing(|| format!("reading the size of {}", shown()))?.len();
    Ok(SizedFile { file, size })
}

/// A file in memory with the content of all.
fn joined(initrds: &[SizedFile]) -> Result<File> {
    let doing = || "joining the initramfs archives in memory".to_owned();
    let memory = rustix::fs::memfd_create("initrd", rustix::fs::MemfdFlags::CLOEXEC);
    let mut all = File::from(memory.doing(doing)?);
    for initrd in initrds {
        std::io::copy(&mut (&initrd.file).take(initrd.size), &mut all).doing(doing)?;
        // The kernel finds the next archive at a multiple of four bytes.
        let length = all.metadata().doing(doing)?.len();
        let padding = length.next_multiple_of(4) - length;
        all.write_all(&[0; 4][..padding as usize]).doing(doing)?;
    }
    Ok(all)
}

/// `MemAvailable` of `/proc/meminfo` (proc(5)) in bytes; `None` if the kernel does not say.
fn available(host: &Host) -> Option<u64> {
    let text = std::fs::read_to_string(host.proc.join("meminfo")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use std::io::Seek;
    use std::path::Path;

    use super::*;

    fn choice(initrds: &[&str]) -> BootChoice {
        BootChoice {
            kernel: "vmlinuz".into(),
            initrds: initrds.iter().map(|path| (*path).to_owned()).collect(),
            command_line: String::new(),
            notes: Vec::new(),
        }
    }

    /// A root with a small kernel and two archives, on a machine with so much memory.
    fn machine(available_kib: u64) -> (tempfile::TempDir, Host) {
        let directory = tempfile::tempdir().unwrap();
        let host = Host::below(directory.path());
        std::fs::create_dir_all(&host.proc).unwrap();
        let text = format!("MemTotal: 9999999 kB\nMemAvailable:   {available_kib} kB\n");
        std::fs::write(host.proc.join("meminfo"), text).unwrap();
        for (name, text) in [("vmlinuz", "MZ"), ("a", "first"), ("b", "second")] {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        (directory, host)
    }

    fn open_all(root: &Path, host: &Host, initrds: &[&str]) -> Result<BootImages> {
        BootImages::open(host, &RootDir::open(root).unwrap(), "second", &choice(initrds))
    }

    #[test]
    fn archives_follow_each_other_at_multiples_of_four_bytes() {
        let (directory, host) = machine(1 << 20);
        let images = open_all(directory.path(), &host, &["a", "b"]).unwrap();
        let (_, initrd) = images.into_files().unwrap();
        let (mut initrd, mut text) = (initrd.unwrap(), String::new());
        initrd.rewind().unwrap();
        initrd.read_to_string(&mut text).unwrap();
        assert_eq!(text, "first\0\0\0second\0\0");
        let alone = open_all(directory.path(), &host, &["a"]).unwrap().into_files().unwrap();
        assert_eq!(alone.1.unwrap().metadata().unwrap().len(), 5);
        assert!(open_all(directory.path(), &host, &[]).unwrap().into_files().unwrap().1.is_none());
    }

    #[test]
    fn images_larger_than_the_memory_are_refused_before_any_is_read() {
        let gibibyte = 1 << 30;
        for (available_kib, size, is_refused) in [
            (8 << 20, gibibyte - 100, false),
            (8 << 20, gibibyte, true),
            (8 << 20, 1_u64 << 42, true),
            (1 << 20, gibibyte / 2, true),
            (1 << 20, gibibyte / 2 - 100, false),
        ] {
            let (directory, host) = machine(available_kib);
            // A hole, which takes no space on the disk.
            let sparse = File::create(directory.path().join("sparse")).unwrap();
            sparse.set_len(size).unwrap();
            for initrds in [&["sparse"][..], &["a", "sparse"]] {
                let opened = open_all(directory.path(), &host, initrds).map(drop);
                match opened {
                    Ok(()) => assert!(!is_refused, "{size}"),
                    Err(Error::Refused(refusal)) => {
                        assert!(is_refused, "{size}");
                        assert_eq!(refusal.code(), "images-too-large");
                        assert!(refusal.to_string().contains("be check second"), "{refusal}");
                    }
                    Err(other) => panic!("{other}"),
                }
            }
        }
    }
}
