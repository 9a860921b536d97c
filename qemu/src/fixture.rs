//! Real Debian systems on disks, made from packages by Debian's own tools and cached below
//! `target/fixtures`.
//!
//! mmdebstrap makes the system, and mkfs the file systems. Then a builder machine starts the system
//! under OVMF, and runs Debian's `grub-install` and `update-grub` in it. These make it bootable and
//! write its boot entry to the variable store, as on a real machine.

use crate::host::{Tool, deadline, target_dir};
use crate::{Builder, Bus, Disk, Error, Firmware, Kernel, Result};
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Root's password in every fixture.
pub const ROOT_PASSWORD: &str = "lifeboat";

const PACKAGES: &str = include_str!("fixture/packages.sh");
const DISK: &str = include_str!("fixture/disk.sh");
const INSTALL: &str = "grub-install && update-grub && sync";
/// The size of Debian's installer. OVMF treats a FAT with fewer than 65,525 clusters as FAT16, even
/// if its header says FAT32.
const ESP_MIB: u64 = 512;
/// A small swap space.
const SWAP_MIB: u64 = 64;

/// The packages of every fixture: a bootable Debian with the recommendations of its boot packages,
/// and the tools that tests run.
const INCLUDE: &[&str] = &[
    "busybox",
    "dbus",
    "dosfstools",
    "e2fsprogs",
    "efibootmgr",
    "grub-efi-amd64",
    "grub-efi-amd64-signed",
    "initramfs-tools",
    "iproute2",
    "kmod",
    "login",
    "nftables",
    "os-prober",
    "procps",
    "qemu-guest-agent",
    "rsync",
    "shim-signed",
    "strace",
    "systemd",
    "systemd-sysv",
    "udev",
    "util-linux",
    "zstd",
];

/// A Debian release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Release {
    /// Debian 12
    Bookworm,
    /// Debian 13
    Trixie,
}

impl Release {
    /// All releases that are tested.
    pub const ALL: [Release; 2] = [Release::Bookworm, Release::Trixie];

    /// The release's code name.
    pub fn name(self) -> &'static str {
        match self {
            Release::Bookworm => "bookworm",
            Release::Trixie => "trixie",
        }
    }
}

impl std::fmt::Display for Release {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The recipe of a Debian disk. As from the installer, partition 1 is the ESP, 2 the root, and the
/// last one swap. Those between are empty.
#[derive(Clone, Debug)]
pub struct Debian {
    release: Release,
    generic_kernel: bool,
    root_mib: u64,
    spare_mib: Vec<u64>,
    packages: Vec<String>,
}

impl Debian {
    /// A system with the cloud kernel on a root of 3 GiB, and two empty partitions of 3 GiB.
    pub fn new(release: Release) -> Debian {
        Debian {
            release,
            generic_kernel: false,
            root_mib: 3072,
            spare_mib: vec![3072, 3072],
            packages: Vec::new(),
        }
    }

    /// Uses the generic kernel, which starts more slowly, but has drivers for NVMe, AHCI and USB.
    pub fn generic_kernel(self) -> Debian {
        Debian { generic_kernel: true, ..self }
    }

    /// Sets the size of the root in MiB.
    pub fn root(self, mebibytes: u64) -> Debian {
        Debian { root_mib: mebibytes, ..self }
    }

    /// Sets the sizes of the empty partitions in MiB.
    pub fn spares(self, mebibytes: &[u64]) -> Debian {
        Debian { spare_mib: mebibytes.to_vec(), ..self }
    }

    /// Adds a package.
    pub fn package(mut self, name: &str) -> Debian {
        self.packages.push(name.to_owned());
        self
    }

    /// The disk of this recipe, from the cache or built in a minute or two.
    ///
    /// # Errors
    /// A program is missing, packages cannot be downloaded, or the builder machine failed.
    pub fn build(&self) -> Result<Fixture> {
        let cache = cache()?;
        let tarball = cache.join(format!("{}.tar", self.system_key()));
        let fixture = Fixture { release: self.release, directory: cache.join(self.key()), tarball };
        let _lock = lock(&cache.join(format!("{}.lock", self.key())))?;
        if !fixture.directory.exists() {
            self.build_in(&cache, &fixture)?;
        }
        Ok(fixture)
    }

    /// The tarball of the system as mmdebstrap made it, from the cache or built in some minutes.
    ///
    /// # Errors
    /// mmdebstrap is missing, or packages cannot be downloaded.
    pub fn tarball(&self) -> Result<PathBuf> {
        self.system(&cache()?)
    }

    fn all_packages(&self) -> Vec<&str> {
        let kernel =
            if self.generic_kernel { "linux-image-amd64" } else { "linux-image-cloud-amd64" };
        INCLUDE
            .iter()
            .copied()
            .chain([kernel])
            .chain(self.packages.iter().map(String::as_str))
            .collect()
    }

    fn system_key(&self) -> String {
        let kernel = if self.generic_kernel { "generic" } else { "cloud" };
        let hash = fnv(&[&self.all_packages().join(","), PACKAGES, ROOT_PASSWORD]);
        format!("{}-{kernel}-{hash:016x}", self.release)
    }

    fn key(&self) -> String {
        let layout = format!("{ESP_MIB} {} {:?} {SWAP_MIB}", self.root_mib, self.spare_mib);
        format!("{}-{:016x}", self.system_key(), fnv(&[&layout, DISK, INSTALL]))
    }

    fn build_in(&self, cache: &Path, fixture: &Fixture) -> Result<()> {
        log::info!("building {}", fixture.directory.display());
        let tarball = self.system(cache)?;
        let work = tempfile::Builder::new()
            .prefix("building-")
            .tempdir_in(cache)
            .map_err(Error::io(|| format!("making a directory in {}", cache.display())))?;
        let built = Fixture {
            release: self.release,
            directory: work.path().to_owned(),
            tarball: tarball.clone(),
        };
        let uuid = uuid::Uuid::new_v4().to_string();
        let spares = self.spare_mib.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
        let disk_mib = ESP_MIB + self.root_mib + self.spare_mib.iter().sum::<u64>() + SWAP_MIB + 4;
        as_root(&["sh", "-c", DISK])?
            .env("TARBALL", &tarball)
            .env("DISK", built.disk())
            .env("DISK_MIB", disk_mib.to_string())
            .env("ESP_MIB", ESP_MIB.to_string())
            .env("ROOT_MIB", self.root_mib.to_string())
            .env("SPARE_MIB", spares)
            .env("SWAP_MIB", SWAP_MIB.to_string())
            .env("ROOT_UUID", &uuid)
            .env("SWAP_UUID", uuid::Uuid::new_v4().to_string())
            .env("KERNEL", built.directory.join("vmlinuz"))
            .env("INITRD", built.directory.join("initrd.img"))
            .run()?;
        let command_line = format!("root=UUID={uuid} ro console=ttyS0,115200 no_timer_check");
        let file = built.directory.join("cmdline");
        std::fs::write(&file, &command_line)
            .map_err(Error::io(|| format!("writing {}", file.display())))?;
        built.install_loader(Disk::new(built.disk()), &built.variables())?;
        std::fs::rename(work.path(), &fixture.directory).map_err(Error::io(|| {
            format!("renaming {} to {}", work.path().display(), fixture.directory.display())
        }))
    }

    /// The tarball of the system, which all disk layouts share.
    fn system(&self, cache: &Path) -> Result<PathBuf> {
        let key = self.system_key();
        let tarball = cache.join(format!("{key}.tar"));
        let _lock = lock(&cache.join(format!("{key}.lock")))?;
        if tarball.exists() {
            return Ok(tarball);
        }
        let partial = cache.join(format!("{key}.partial.tar"));
        Tool::new("mmdebstrap")
            .args(["--variant=minbase", "--format=tar"])
            .arg(format!("--include={}", self.all_packages().join(",")))
            .arg(format!("--customize-hook=ROOT_PASSWORD={ROOT_PASSWORD}\n{PACKAGES}"))
            .arg(self.release.name())
            .arg(&partial)
            .run()?;
        std::fs::rename(&partial, &tarball)
            .map_err(Error::io(|| format!("renaming {}", partial.display())))?;
        Ok(tarball)
    }
}

/// A Debian disk in the cache. It is never written to again: machines write to overlays of it.
#[derive(Clone, Debug)]
pub struct Fixture {
    release: Release,
    directory: PathBuf,
    tarball: PathBuf,
}

impl Fixture {
    /// The release on it.
    pub fn release(&self) -> Release {
        self.release
    }

    /// The raw disk image.
    pub fn disk(&self) -> PathBuf {
        self.directory.join("disk.raw")
    }

    /// The tarball of the system as mmdebstrap made it.
    pub fn tarball(&self) -> PathBuf {
        self.tarball.clone()
    }

    /// The variable store with Debian's boot entry.
    pub fn variables(&self) -> PathBuf {
        self.directory.join("variables.fd")
    }

    /// Its kernel, initramfs and command line, for starting it without its boot loader.
    ///
    /// # Errors
    /// The cache is damaged.
    pub fn kernel(&self) -> Result<Kernel> {
        let file = self.directory.join("cmdline");
        Ok(Kernel {
            image: self.directory.join("vmlinuz"),
            initrd: Some(self.directory.join("initrd.img")),
            command_line: std::fs::read_to_string(&file)
                .map_err(Error::io(|| format!("reading {}", file.display())))?,
        })
    }

    /// A machine with an overlay of this disk on virtio, with the serial number `primary`, and with
    /// a copy of its variables.
    ///
    /// # Errors
    /// Its directory below `target/vm` cannot be made.
    pub fn machine(&self) -> Result<Builder> {
        self.machine_on(Bus::Virtio)
    }

    /// As [`Fixture::machine`] on another bus.
    ///
    /// # Errors
    /// As [`Fixture::machine`].
    pub fn machine_on(&self, bus: Bus) -> Result<Builder> {
        let disk = Disk::new(self.disk()).overlay().serial("primary").bus(bus);
        Builder::new(self.release.name())?.disk(disk).copy_variables(&self.variables())
    }

    /// As [`Fixture::machine`], with firmware that enforces Secure Boot with Microsoft's keys.
    ///
    /// # Errors
    /// As [`Fixture::machine`], and the variable store cannot be made.
    pub fn machine_with_secure_boot(&self) -> Result<Builder> {
        let builder = self.machine()?.firmware(Firmware::OvmfSecureBoot);
        builder.copy_variables(&self.enrolled_variables()?)
    }

    /// A variable store with Microsoft's keys and Debian's boot entry, which is made once. The
    /// builder machine's firmware does not enforce the keys, so that it starts a kernel without the
    /// loader.
    fn enrolled_variables(&self) -> Result<PathBuf> {
        let store = self.directory.join("variables-enrolled.fd");
        let _lock = lock(&self.directory.join("variables-enrolled.lock"))?;
        if store.exists() {
            return Ok(store);
        }
        let partial = self.directory.join("variables-enrolled.partial");
        if let Some((_, template)) = Firmware::OvmfSecureBoot.files()? {
            std::fs::copy(&template, &partial)
                .map_err(Error::io(|| format!("copying {}", template.display())))?;
        }
        self.install_loader(Disk::new(self.disk()).overlay(), &partial)?;
        std::fs::rename(&partial, &store)
            .map_err(Error::io(|| format!("renaming {}", partial.display())))?;
        Ok(store)
    }

    /// Starts the system on `disk` in a builder machine, and installs its loader and its boot
    /// entry.
    fn install_loader(&self, disk: Disk, variables: &Path) -> Result<()> {
        let builder = Builder::new(&format!("builder-{}", self.release))?
            .disk(disk.serial("primary"))
            .variables(variables)
            .kernel(self.kernel()?)
            .start()?;
        builder.ready()?;
        builder.run_within(INSTALL, deadline(240))?;
        builder.power_off().map(drop)
    }
}

/// The directory of the cache.
fn cache() -> Result<PathBuf> {
    let cache = match std::env::var_os("LIFEBOAT_FIXTURES") {
        Some(directory) => PathBuf::from(directory),
        None => target_dir().join("fixtures"),
    };
    std::fs::create_dir_all(&cache).map_err(Error::io(|| format!("making {}", cache.display())))?;
    cache.canonicalize().map_err(Error::io(|| format!("finding {}", cache.display())))
}

/// A command that may set all owners of files: as root, or in a user namespace that also maps other
/// users.
fn as_root(command: &[&str]) -> Result<Tool> {
    if nix::unistd::geteuid().is_root() {
        return Ok(Tool::new(command[0]).args(&command[1..]));
    }
    Tool::require("newuidmap")?;
    Ok(Tool::new("unshare").args(["--map-root-user", "--map-auto"]).args(command))
}

fn lock(path: &Path) -> Result<Flock<File>> {
    let file = File::options().create(true).truncate(false).write(true).open(path);
    let file = file.map_err(Error::io(|| format!("opening {}", path.display())))?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| Error::Io {
        doing: format!("locking {}", path.display()),
        source: error.into(),
    })
}

/// The FNV-1a hash, which names a recipe. Unlike Rust's hash it is the same with every compiler.
fn fnv(parts: &[&str]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_recipes_are_different_disks_but_may_share_a_system() {
        let plain = Debian::new(Release::Bookworm);
        let wide = Debian::new(Release::Bookworm).spares(&[3072]);
        assert_ne!(plain.key(), wide.key());
        assert_eq!(plain.system_key(), wide.system_key());
        for other in [
            Debian::new(Release::Trixie),
            plain.clone().generic_kernel(),
            plain.clone().package("xfsprogs"),
        ] {
            assert_ne!(plain.system_key(), other.system_key());
        }
    }

    #[test]
    fn the_hash_is_the_published_one() {
        // FNV-1a of "foobar" (draft-eastlake-fnv, appendix C), with the separator that `fnv` adds
        // left out.
        let hash = "foobar".bytes().fold(0xcbf2_9ce4_8422_2325u64, |h, b| {
            (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)
        });
        assert_eq!(hash, 0x85944171f73967e8);
        assert_eq!(fnv(&["foobar"]), hash.wrapping_mul(0x100_0000_01b3));
    }
}
