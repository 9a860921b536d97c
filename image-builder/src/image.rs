//! Assembles the rescue image from its parts.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use boot::bzimage;
use boot::uki::{self, Sections};

use crate::disk::Disk;
use crate::families::FAMILIES;
use crate::initramfs::{Archive, DeviceNumber};
use crate::modules::ModuleDirectory;
use crate::packages::Packages;
use crate::report::{Report, Sizes};
use crate::tool::Tool;
use crate::{bios, elf, programs};

/// The image's os-release(5), with the name that boot menus show.
const OS_RELEASE: &str = concat!(
    "ID=lifeboat\n",
    "NAME=\"Lifeboat\"\n",
    "PRETTY_NAME=\"Lifeboat rescue image\"\n",
    "VERSION_ID=",
    env!("CARGO_PKG_VERSION"),
    "\n",
);

/// Mount points of the init, and directories that programs expect.
const DIRECTORIES: &[&str] =
    &["bin", "dev", "etc", "mnt", "proc", "root", "run", "sys", "tmp", "var"];

/// Symlinks that make all usual paths of programs work.
const SYMLINKS: &[(&str, &str)] = &[
    ("bin/be", "/init"),
    ("etc/mtab", "/proc/self/mounts"),
    ("sbin", "bin"),
    ("usr/bin", "../bin"),
    ("usr/lib", "../lib"),
    ("usr/sbin", "../bin"),
    ("var/run", "/run"),
];

/// Small files in /etc. No nsswitch.conf, because a static program could not load its modules.
const FILES: &[(&str, &str)] = &[
    ("etc/group", "root:x:0:\n"),
    ("etc/os-release", OS_RELEASE),
    ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
];

/// A file to add to the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addition {
    /// The file on this host.
    pub from: PathBuf,
    /// Its absolute path in the image.
    pub to: String,
}

/// The inputs of a build.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Debian release of the packages.
    pub release: String,
    /// A sources.list(5) to use instead of the host's.
    pub sources: Option<PathBuf>,
    /// Directory of downloaded and unpacked packages.
    pub cache: PathBuf,
    /// Download the newest packages even if the cache is complete.
    pub update: bool,
    /// The multi-call binary: `/init` and `/bin/be`.
    pub binary: PathBuf,
    /// A kernel to use instead of the release's.
    pub kernel: Option<PathBuf>,
    /// The module directory of that kernel.
    pub modules: Option<PathBuf>,
    /// Names of modules to include besides those of [`FAMILIES`].
    pub extra_modules: Vec<String>,
    /// Files to add.
    pub additions: Vec<Addition>,
    /// Compression level of zstd for the initramfs, 1 to 19.
    pub level: i32,
    /// Kernel command line.
    pub command_line: String,
    /// Directory the images are written to.
    pub output: PathBuf,
    /// Timestamp of all files, in seconds since 1970, UTC.
    pub time: u32,
}

struct Kernel {
    image: Vec<u8>,
    version: String,
    modules: PathBuf,
}

/// Builds `lifeboat.efi`, `lifeboat.img` and `netboot/`, with the Debian packages that they contain
/// in `packages.txt`, and the checksums of all in `SHA256SUMS`.
///
/// # Errors
/// When a part is missing or unusable, or the output cannot be written.
pub fn build(recipe: &Recipe) -> Result<Report> {
    let packages =
        Packages::obtain(&recipe.cache, &recipe.release, recipe.sources.as_deref(), recipe.update)
            .with_context(|| format!("getting the packages of Debian {}", recipe.release))?;
    let kernel = kernel(recipe, &packages)?;
    let mut sizes = Sizes { kernel: kernel.image.len() as u64, ..Sizes::default() };
    let archive = archive(recipe, &packages, &kernel, &mut sizes)?;
    sizes.initramfs_unpacked = archive.size();
    log::info!("compressing {} MiB", sizes.initramfs_unpacked >> 20);
    let initramfs =
        archive.compress(recipe.level, recipe.time).context("compressing the initramfs")?;
    sizes.initramfs = initramfs.len() as u64;
    let stub = read(&packages.file("usr/lib/systemd/boot/efi/linuxx64.efi.stub"))?;
    let sections = Sections {
        linux: &kernel.image,
        initrd: Some(&initramfs),
        cmdline: Some(&recipe.command_line),
        osrel: Some(OS_RELEASE),
        uname: Some(&kernel.version),
        ..Sections::default()
    };
    let efi = uki::assemble(&stub, &sections).context("assembling lifeboat.efi")?;
    let configuration = bios::configuration(&recipe.command_line);
    let disk = Disk {
        files: BTreeMap::from([
            ("EFI/BOOT/BOOTX64.EFI".into(), efi.as_slice()),
            (bios::path("grub.cfg"), configuration.as_bytes()),
            (bios::path("initramfs"), &initramfs),
            (bios::path("vmlinuz"), &kernel.image),
        ]),
        time: recipe.time.into(),
    };
    let boot_code =
        bios::boot_code(&packages, disk.volume_id()).context("creating the boot code for BIOS")?;
    sizes.efi = efi.len() as u64;
    sizes.img = disk.size();
    let netboot = recipe.output.join("netboot");
    fs::create_dir_all(&netboot).with_context(|| format!("creating {}", netboot.display()))?;
    for (path, content) in [
        (netboot.join("vmlinuz"), &kernel.image),
        (netboot.join("initramfs"), &initramfs),
        (recipe.output.join("lifeboat.efi"), &efi),
        (recipe.output.join("packages.txt"), &packages.manifest().into()),
    ] {
        write(&path, |file| Ok(file.write_all(content)?))?;
    }
    write(&recipe.output.join("lifeboat.img"), |file| {
        file.set_len(disk.size())?;
        Ok(disk.write(&boot_code, file)?)
    })?;
    let sums = checksums(&recipe.output)?;
    write(&recipe.output.join("SHA256SUMS"), |file| Ok(file.write_all(sums.as_bytes())?))?;
    Ok(Report {
        release: recipe.release.clone(),
        kernel: kernel.version,
        output: recipe.output.clone(),
        sizes,
    })
}

/// The checksums of all outputs, for `sha256sum -c`.
fn checksums(output: &Path) -> Result<String> {
    const OUTPUTS: [&str; 5] =
        ["lifeboat.efi", "lifeboat.img", "netboot/initramfs", "netboot/vmlinuz", "packages.txt"];
    Tool::new("sha256sum").args(OUTPUTS).directory(output).run().context("summing the outputs")
}

fn kernel(recipe: &Recipe, packages: &Packages) -> Result<Kernel> {
    let (path, modules) = match (&recipe.kernel, &recipe.modules) {
        (Some(kernel), modules) => (kernel.clone(), modules.clone()),
        (None, Some(_)) => bail!("--modules needs --kernel: give the kernel they belong to"),
        (None, None) => {
            let kernel = packages
                .kernel()
                .context("the packages have no kernel; try again with --update")?;
            (kernel.image, Some(kernel.modules))
        }
    };
    let image = read(&path)?;
    let version = bzimage::release(&image)
        .with_context(|| format!("{}: not a Linux kernel (bzImage)", path.display()))?
        .to_owned();
    let modules = modules.unwrap_or_else(|| Path::new("/lib/modules").join(&version));
    if !modules.is_dir() {
        bail!(
            "kernel {version} has no modules at {}; give their directory with --modules",
            modules.display()
        );
    }
    if modules.file_name().is_none_or(|name| *name != *version) {
        bail!(
            "{} is not the module directory of kernel {version}; give …/lib/modules/{version} \
             with --modules",
            modules.display()
        );
    }
    Ok(Kernel { image, version, modules })
}

fn archive(
    recipe: &Recipe,
    packages: &Packages,
    kernel: &Kernel,
    sizes: &mut Sizes,
) -> Result<Archive> {
    let mut archive = Archive::default();
    for directory in DIRECTORIES {
        archive.directory(directory)?;
    }
    for (path, target) in SYMLINKS {
        archive.symlink(path, target)?;
    }
    for (path, content) in FILES {
        archive.file(path, content.as_bytes().to_vec(), 0o644)?;
    }
    archive.file("etc/lifeboat-packages", packages.manifest().into(), 0o644)?;
    // The kernel opens it for PID 1, before /dev is mounted.
    archive.character_device("dev/console", DeviceNumber { major: 5, minor: 1 }, 0o600)?;
    // PID 1 uses it as standard input and output on a machine without a console.
    archive.character_device("dev/null", DeviceNumber { major: 1, minor: 3 }, 0o666)?;
    let binary = static_binary(&recipe.binary)?;
    sizes.binary = binary.len() as u64;
    archive.file("init", binary, 0o755)?;
    let modules = ModuleDirectory::open(&kernel.modules, &kernel.version)?
        .select(FAMILIES, &recipe.extra_modules)?;
    sizes.modules = modules.install(recipe.level, &mut archive)?;
    let programs = programs::install(packages, &mut archive)?;
    sizes.tools = programs.tools;
    sizes.libraries = programs.libraries;
    let mke2fs_conf = packages.file("etc/mke2fs.conf");
    archive.file("etc/mke2fs.conf", read(&mke2fs_conf)?, 0o644)?;
    for addition in &recipe.additions {
        let (data, mode) = addition_data(&addition.from)?;
        sizes.additions += data.len() as u64;
        archive
            .file(&addition.to, data, mode)
            .with_context(|| format!("adding {}", addition.from.display()))?;
    }
    Ok(archive)
}

fn static_binary(path: &Path) -> Result<Vec<u8>> {
    let data =
        read(path).context("reading the rescue binary; build it or give it with --binary")?;
    let dynamic = elf::dynamic(&data)
        .with_context(|| format!("{}: not a 64-bit ELF program", path.display()))?;
    if dynamic.interpreter.is_some() || !dynamic.needed.is_empty() {
        bail!(
            "{} is dynamically linked and cannot run as /init; link it statically",
            path.display()
        );
    }
    Ok(data)
}

/// The content and mode of a file to add. Of its mode, only whether it is executable is kept.
fn addition_data(path: &Path) -> Result<(Vec<u8>, u32)> {
    let data = read(path)?;
    let metadata = fs::metadata(path).with_context(|| path.display().to_string())?;
    let executable = metadata.permissions().mode() & 0o111 != 0;
    Ok((data, if executable { 0o755 } else { 0o644 }))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("reading {}", path.display()))
}

/// Writes a file atomically: it gets its name when it is complete.
fn write(path: &Path, fill: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
    let attempt = || -> Result<()> {
        let directory = path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::Builder::new()
            .permissions(fs::Permissions::from_mode(0o644))
            .tempfile_in(directory)?;
        fill(file.as_file_mut())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    attempt().with_context(|| format!("writing {}", path.display()))
}
