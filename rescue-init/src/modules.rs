//! Finds the kernel modules for a device or alias (modules.dep(5), and the alias patterns and soft
//! dependencies that depmod(8) writes), and loads them with init_module(2).

use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use be_tools::command_line::CommandLine;
use nix::errno::Errno;
use nix::kmod::init_module;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use crate::glob;

/// The lists of `/lib/modules/VERSION`, with the module options of the kernel command line.
#[derive(Debug, Default)]
pub struct Index {
    modules: HashMap<String, Module>,
    builtin: HashSet<String>,
    /// Alias patterns and their modules, by the text before the pattern's first colon, or by "" if
    /// that text contains a wildcard.
    aliases: HashMap<String, Vec<(String, String)>>,
    softdeps: HashMap<String, Softdep>,
    options: HashMap<String, Vec<String>>,
    blacklist: HashSet<String>,
}

#[derive(Debug, Default)]
struct Module {
    path: String,
    /// Names of modules, in the order in which they must be loaded.
    dependencies: Vec<String>,
}

/// A device node that loads its module when it is opened.
#[derive(Debug, PartialEq, Eq)]
struct StaticNode<'a> {
    name: &'a str,
    major: u64,
    minor: u64,
}

#[derive(Debug, Default)]
struct Softdep {
    before: Vec<String>,
    after: Vec<String>,
}

/// The texts of the lists.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lists<'a> {
    /// `modules.dep`
    pub dependencies: &'a str,
    /// `modules.builtin`
    pub builtin: &'a str,
    /// `modules.alias`
    pub aliases: &'a str,
    /// `modules.softdep`
    pub softdeps: &'a str,
    /// The kernel command line, which has the options of modules.
    pub command_line: &'a str,
}

/// A step in finding the order in which modules are loaded.
enum Visit<'a> {
    /// The module, with what it depends on.
    Module(&'a str),
    /// The module itself, after what it depends on.
    Itself(&'a str),
}

impl Index {
    /// Reads the lists in `directory`. A missing list is treated as empty, because a kernel may
    /// have everything built in.
    ///
    /// # Errors
    /// When a list exists but cannot be read.
    pub fn read(directory: &Path, command_line: &str) -> io::Result<Self> {
        let list = |name: &str| match fs::read_to_string(directory.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            other => other,
        };
        Ok(Self::parse(&Lists {
            dependencies: &list("modules.dep")?,
            builtin: &list("modules.builtin")?,
            aliases: &list("modules.alias")?,
            softdeps: &list("modules.softdep")?,
            command_line,
        }))
    }

    /// Parses the lists. Lines that do not parse are left out.
    pub fn parse(lists: &Lists<'_>) -> Self {
        let mut index = Index::default();
        index.add_dependencies(lists.dependencies);
        index.builtin = lists.builtin.lines().map(name_of).collect();
        index.add_aliases(lists.aliases);
        index.add_softdeps(lists.softdeps);
        index.add_options(lists.command_line);
        index
    }

    /// The names of all modules.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.modules.keys().map(String::as_str)
    }

    fn add_dependencies(&mut self, text: &str) {
        for (path, dependencies) in text.lines().filter_map(|line| line.split_once(':')) {
            let dependencies = dependencies.split_whitespace().rev().map(name_of).collect();
            self.modules.insert(name_of(path), Module { path: path.into(), dependencies });
        }
    }

    fn add_aliases(&mut self, text: &str) {
        for line in text.lines() {
            let mut words = line.split_whitespace();
            if let (Some("alias"), Some(pattern), Some(module)) =
                (words.next(), words.next(), words.next())
            {
                let pattern =
                    if pattern.starts_with("devname:") { pattern.into() } else { normal(pattern) };
                let group = self.aliases.entry(group_of(&pattern).into()).or_default();
                group.push((pattern, normal(module)));
            }
        }
    }

    fn add_softdeps(&mut self, text: &str) {
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (Some("softdep"), Some(module)) = (words.next(), words.next()) else { continue };
            let softdep = self.softdeps.entry(normal(module)).or_default();
            let mut list = &mut softdep.before;
            for word in words {
                match word {
                    "pre:" => list = &mut softdep.before,
                    "post:" => list = &mut softdep.after,
                    name => {
                        let name = normal(name);
                        if !list.contains(&name) {
                            list.push(name);
                        }
                    }
                }
            }
        }
    }

    /// Reads `MODULE.OPTION=VALUE`. The kernel applies these only to built-in code, so they have to
    /// be passed with the module.
    fn add_options(&mut self, command_line: &str) {
        for (name, value) in CommandLine::parse(command_line).parameters() {
            match name.split_once('.') {
                Some(("modprobe", "blacklist")) => {
                    self.blacklist.extend(value.unwrap_or_default().split(',').map(normal))
                }
                Some((module, option)) => {
                    let given = value.map_or(option.into(), |value| format!("{option}={value}"));
                    self.options.entry(normal(module)).or_default().push(given);
                }
                None => {}
            }
        }
    }

    /// The modules for a module name, an alias (`fs-ext4`) or the modalias of a device.
    pub fn resolve(&self, alias: &str) -> Vec<&str> {
        let alias = normal(alias);
        if self.builtin.contains(&alias) {
            return Vec::new();
        }
        if let Some((name, _)) = self.modules.get_key_value(&alias) {
            return vec![name];
        }
        let mut found: Vec<&str> = Vec::new();
        for (pattern, module) in
            [group_of(&alias), ""].iter().filter_map(|g| self.aliases.get(*g)).flatten()
        {
            let known = self.modules.contains_key(module) && !self.blacklist.contains(module);
            if known && !found.contains(&module.as_str()) && glob::matches(pattern, &alias) {
                found.push(module);
            }
        }
        found
    }

    /// The modules to load for a module, in order: its dependencies and soft dependencies, and
    /// itself.
    pub fn order(&self, module: &str) -> Vec<&str> {
        let known = |name: &str| self.modules.get_key_value(name);
        let mut order = Vec::new();
        let mut seen = HashSet::new();
        // What comes next is at the end.
        let mut steps: Vec<Visit<'_>> = Vec::new();
        steps.extend(known(module).map(|(name, _)| Visit::Module(name)));
        while let Some(step) = steps.pop() {
            let name = match step {
                Visit::Itself(name) => {
                    order.push(name);
                    continue;
                }
                Visit::Module(name) => name,
            };
            let Some((name, module)) = known(name).filter(|(name, _)| seen.insert(*name)) else {
                continue;
            };
            let softdep = self.softdeps.get(name);
            let after = softdep.into_iter().flat_map(|s| self.resolve_all(&s.after));
            let before = softdep.into_iter().flat_map(|s| self.resolve_all(&s.before));
            let from = steps.len();
            steps.extend(before.map(Visit::Module));
            steps.extend(module.dependencies.iter().map(|name| Visit::Module(name)));
            steps.push(Visit::Itself(name));
            steps.extend(after.map(Visit::Module));
            steps[from..].reverse();
        }
        order
    }

    fn resolve_all<'a>(&'a self, names: &'a [String]) -> impl Iterator<Item = &'a str> {
        names.iter().flat_map(|name| self.resolve(name))
    }

    /// The device nodes that load their module when they are opened. Such a module has an alias for
    /// the name of the node and one for its number.
    fn static_nodes(&self) -> Vec<StaticNode<'_>> {
        let all = || self.aliases.values().flatten();
        let number = |module: &str| {
            all().filter(|(_, owner)| owner == module).find_map(|(alias, _)| {
                let (major, minor) = alias.strip_prefix("char_major_")?.split_once('_')?;
                Some((major.parse().ok()?, minor.parse().ok()?))
            })
        };
        let named =
            all().filter_map(|(alias, module)| Some((alias.strip_prefix("devname:")?, module)));
        named
            .filter_map(|(name, module)| {
                let (major, minor) = number(module)?;
                Some(StaticNode { name, major, minor })
            })
            .collect()
    }

    /// The options of a module, as one string.
    fn options_of(&self, module: &str) -> String {
        let mut options = self.options.get(module).cloned().unwrap_or_default();
        if self.modules.get(module).is_some_and(|module| !module.path.contains("/drivers/")) {
            // Without this option, init_module returns only when no driver is probing
            // (`do_init_module`), so that a file system would wait for every disk to spin up.
            options.push("async_probe".into());
        }
        options.join(" ")
    }
}

/// Loads modules, each one once. Threads can share it.
#[derive(Debug)]
pub struct Loader {
    directory: PathBuf,
    index: Index,
    /// Whether each module that was requested is loaded. A request for a module that is being
    /// loaded waits for it.
    requested: Mutex<HashMap<String, Arc<OnceLock<bool>>>>,
    signatures_required: AtomicBool,
}

impl Loader {
    /// A loader for the running kernel.
    ///
    /// # Errors
    /// When the lists of its modules cannot be read.
    pub fn for_running_kernel() -> io::Result<Self> {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let directory = Path::new("/lib/modules").join(release);
        let command_line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
        let index = Index::read(&directory, &command_line)?;
        Ok(Loader {
            directory,
            index,
            requested: Mutex::default(),
            signatures_required: AtomicBool::new(false),
        })
    }

    /// Loads the modules for a name, alias or modalias. Returns whether all of them are now loaded
    /// or built in.
    pub fn load(&self, alias: &str) -> bool {
        let modules = self.index.resolve(alias);
        let mut all = !modules.is_empty() || self.index.builtin.contains(&normal(alias));
        for module in modules {
            for each in self.index.order(module) {
                all &= self.insert(each) || each != module;
            }
        }
        all
    }

    /// Creates the device nodes in `dev` that load their module when they are opened
    /// (`loop-control`, `btrfs-control`). Returns a message for each failure.
    pub fn make_static_nodes(&self, dev: &Path) -> Vec<String> {
        let make = |StaticNode { name, major, minor }| {
            let path = dev.join(name);
            let made = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| {
                let mode = Mode::S_IRUSR | Mode::S_IWUSR;
                mknod(&path, SFlag::S_IFCHR, mode, makedev(major, minor)).or_else(|error| {
                    match error {
                        Errno::EEXIST => Ok(()),
                        error => Err(error.into()),
                    }
                })
            });
            made.err().map(|error| format!("{}: {error}", path.display()))
        };
        self.index.static_nodes().into_iter().filter_map(make).collect()
    }

    fn insert(&self, module: &str) -> bool {
        let mut requested = self.requested.lock().unwrap_or_else(PoisonError::into_inner);
        let once = Arc::clone(requested.entry(module.to_owned()).or_default());
        drop(requested);
        *once.get_or_init(|| match self.init(module) {
            Ok(()) | Err(Errno::EEXIST) => true,
            // The module found no hardware or processor feature that it supports.
            Err(Errno::ENODEV) => false,
            Err(error) => {
                log::warn!("kernel module {module} cannot be loaded: {error}");
                false
            }
        })
    }

    fn init(&self, module: &str) -> Result<(), Errno> {
        let Some(path) =
            self.index.modules.get(module).map(|known| self.directory.join(&known.path))
        else {
            return Err(Errno::ENOENT);
        };
        let options = CString::new(self.index.options_of(module)).unwrap_or_default();
        let image = read(&path)
            .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))?;
        // A signature proves nothing here: an attacker who can change a module in the initramfs can
        // also change this program. Under emulation, checking it takes most of the loading time.
        // Only a kernel that is locked down (Secure Boot) or has `module.sig_enforce` requires it.
        if !self.signatures_required.load(Ordering::Relaxed) {
            match init_module(without_signature(&image), &options) {
                Err(Errno::EKEYREJECTED | Errno::EPERM) => {
                    self.signatures_required.store(true, Ordering::Relaxed);
                }
                other => return other,
            }
        }
        init_module(&image, &options)
    }
}

/// Reads a module's ELF file with its signature, decompressed for `init_module`.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = fs::read(path)?;
    if path.extension().is_some_and(|extension| extension == "zst") {
        zstd::decode_all(file.as_slice())
    } else {
        Ok(file)
    }
}

/// Cuts off the signature that follows a module's ELF file (include/linux/module_signature.h: the
/// signature, 12 bytes that end with its length, a marker).
fn without_signature(image: &[u8]) -> &[u8] {
    const MARKER: &[u8] = b"~Module signature appended~\n";
    let parts = image.strip_suffix(MARKER).and_then(|rest| rest.split_last_chunk::<12>());
    let Some((rest, [.., a, b, c, d])) = parts else { return image };
    let length = u32::from_be_bytes([*a, *b, *c, *d]);
    let end = usize::try_from(length).ok().and_then(|length| rest.len().checked_sub(length));
    end.map_or(image, |end| &rest[..end])
}

/// Replaces `-` with `_`, which mean the same in names and aliases, except in the brackets of a
/// pattern.
fn normal(name: &str) -> String {
    let mut bracket = false;
    name.chars()
        .map(|c| {
            bracket = (bracket || c == '[') && c != ']';
            if c == '-' && !bracket { '_' } else { c }
        })
        .collect()
}

/// The name of the module at a path: `kernel/fs/nls/nls_iso8859-1.ko` is `nls_iso8859_1`.
fn name_of(path: &str) -> String {
    let file = path.trim().rsplit('/').next().unwrap_or_default();
    normal(file.split_once(".ko").map_or(file, |(name, _)| name))
}

fn group_of(pattern: &str) -> &str {
    pattern
        .split_once(':')
        .map(|(group, _)| group)
        .filter(|g| !g.contains(['*', '?', '[']))
        .unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From Debian's 6.1 kernel.
    fn index() -> Index {
        let mut index = Index::default();
        index.add_dependencies(
            "kernel/drivers/nvme/host/nvme-core.ko: kernel/block/t10-pi.ko \
            kernel/lib/crc64-rocksoft_generic.ko\n\
             kernel/drivers/nvme/host/nvme.ko: kernel/drivers/nvme/host/nvme-core.ko \
             kernel/block/t10-pi.ko\n\
             kernel/block/t10-pi.ko:\n\
             kernel/fs/ext4/ext4.ko: kernel/fs/mbcache.ko kernel/fs/jbd2/jbd2.ko \
             kernel/lib/crc16.ko\n\
             kernel/fs/mbcache.ko:\nkernel/fs/jbd2/jbd2.ko:\nkernel/lib/crc16.ko:\n\
             kernel/arch/x86/crypto/crc32c-intel.ko:\nkernel/crypto/crc32c_generic.ko:\n\
             kernel/drivers/virtio/virtio_pci.ko:\n",
        );
        index.builtin = ["kernel/drivers/input/serio/i8042.ko"].map(name_of).into();
        index.add_aliases(
            "alias pci:v*d*sv*sd*bc01sc08i02* nvme\n\
             alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci\n\
             alias fs-ext4 ext4\nalias fs-ext3 ext4\n\
             alias crc32c crc32c-intel\nalias crc32c crc32c_generic\n\
             alias cpu:type:x86,ven*fam*mod*:feature:*0094* crc32c_intel\n",
        );
        index.add_softdeps("softdep ext4 pre: crc32c\n");
        index
    }

    #[test]
    fn a_modalias_resolves_to_its_driver() {
        let index = index();
        for (modalias, expected) in [
            ("pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02", vec!["nvme"]),
            ("pci:v00001AF4d00001042sv00001AF4sd00001100bc01sc00i00", vec!["virtio_pci"]),
            ("cpu:type:x86,ven0000fam0006mod003C:feature:,0000,0094,00B7", vec!["crc32c_intel"]),
            ("pci:v00008086d00007010sv00001AF4sd00001100bc01sc01i80", vec![]),
        ] {
            assert_eq!(index.resolve(modalias), expected, "{modalias}");
        }
    }

    #[test]
    fn names_and_aliases_resolve_and_built_in_modules_need_no_loading() {
        let index = index();
        assert_eq!(index.resolve("nvme-core"), ["nvme_core"]);
        assert_eq!(index.resolve("fs-ext3"), ["ext4"]);
        assert!(index.resolve("i8042").is_empty() && index.resolve("fs-reiserfs").is_empty());
    }

    #[test]
    fn dependencies_are_loaded_in_reverse_order_and_soft_ones_before_them() {
        let index = index();
        assert_eq!(index.order("nvme"), ["t10_pi", "nvme_core", "nvme"]);
        let ext4 = ["crc32c_intel", "crc32c_generic", "crc16", "jbd2", "mbcache", "ext4"];
        assert_eq!(index.order("ext4"), ext4);
    }

    #[test]
    fn circular_soft_dependencies_terminate() {
        let mut index = index();
        index.add_softdeps("softdep crc16 post: ext4\n");
        assert_eq!(index.order("crc16").last(), Some(&"ext4"));
    }

    #[test]
    fn a_chain_of_dependencies_may_be_of_any_length() {
        const LENGTH: usize = 100_000;
        let chain: String = (0..LENGTH).map(|n| format!("{n}.ko: {}.ko\n", n + 1)).collect();
        let index = Index::parse(&Lists { dependencies: &chain, ..Lists::default() });
        let order = index.order("0");
        assert_eq!((order.len(), order[0], order[LENGTH - 1]), (LENGTH, "99999", "0"));
    }

    #[test]
    fn options_and_blacklist_are_read_from_the_command_line() {
        let mut index = index();
        index.add_options(
            "usb-storage.delay_use=0 nvme.use_threaded_interrupts \
            modprobe.blacklist=nvme,virtio-pci",
        );
        assert_eq!(
            index.options_of("ext4"),
            "async_probe",
            "a file system does not wait for disks"
        );
        assert_eq!(index.options_of("usb_storage"), "delay_use=0");
        assert_eq!(index.options_of("nvme"), "use_threaded_interrupts");
        assert!(index.resolve("pci:v00001AF4d00001042sv00001AF4sd00001100bc01sc00i00").is_empty());
        assert_eq!(
            index.resolve("nvme"),
            ["nvme"],
            "a blacklisted module can be loaded by its own name"
        );
    }

    #[test]
    fn nodes_that_load_their_module_have_a_name_and_a_number() {
        let mut index = index();
        index.add_aliases(
            "alias devname:loop-control loop\nalias char-major-10-237 loop\nalias block-major-7-* \
            loop\n",
        );
        // A node's name is not a module name, so `-` is kept.
        let expected = StaticNode { name: "loop-control", major: 10, minor: 237 };
        assert_eq!(index.static_nodes(), [expected]);
    }

    #[test]
    fn only_the_signature_is_cut_off() {
        let marker = b"~Module signature appended~\n";
        let signed = |length: u8| [b"ELF", &b"signature"[..], &[0; 11], &[length], marker].concat();
        assert_eq!(without_signature(&signed(9)), b"ELF");
        assert_eq!(
            without_signature(&signed(13)),
            signed(13),
            "a length beyond the file is ignored"
        );
        assert_eq!(without_signature(b"ELF"), b"ELF");
        assert_eq!(without_signature(marker), marker);
    }

    #[test]
    fn a_compressed_module_is_decompressed() {
        let directory = tempfile::tempdir().unwrap();
        let [plain, packed] = ["a.ko", "a.ko.zst"].map(|name| directory.path().join(name));
        fs::write(&plain, "ELF").unwrap();
        fs::write(&packed, zstd::encode_all(&b"ELF"[..], 3).unwrap()).unwrap();
        assert_eq!(
            (read(&plain).unwrap(), read(&packed).unwrap()),
            (b"ELF".to_vec(), b"ELF".to_vec())
        );
        fs::write(&packed, "no frame").unwrap();
        assert!(read(&packed).is_err());
    }

    #[test]
    fn missing_lists_are_treated_as_empty() {
        let directory = tempfile::tempdir().unwrap();
        let index = Index::read(directory.path(), "quiet").unwrap();
        assert!(index.resolve("ext4").is_empty());
    }
}
