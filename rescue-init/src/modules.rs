//! Kernel modules: which ones a device or a name asks for (modules.dep(5), the alias patterns and
//! soft dependencies that depmod(8) writes), and loading them with init_module(2).

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

/// What `/lib/modules/VERSION` says, with the module options of the kernel command line.
#[derive(Debug, Default)]
pub struct Index {
    modules: HashMap<String, Module>,
    builtin: HashSet<String>,
    /// Patterns by what stands before their first colon; those with a wildcard there are under "".
    aliases: HashMap<String, Vec<(String, String)>>,
    softdeps: HashMap<String, Softdep>,
    options: HashMap<String, Vec<String>>,
    blacklist: HashSet<String>,
}

#[derive(Debug, Default)]
struct Module {
    path: String,
    /// Names, in the order in which they must be loaded.
    needs: Vec<String>,
}

#[derive(Debug, Default)]
struct Softdep {
    before: Vec<String>,
    after: Vec<String>,
}

impl Index {
    /// Reads the lists in `directory`. One that is missing is empty: a kernel may have everything
    /// built in.
    ///
    /// # Errors
    /// When a list is there and cannot be read.
    pub fn read(directory: &Path, command_line: &str) -> io::Result<Self> {
        let list = |name: &str| match fs::read_to_string(directory.join(name)) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            other => other,
        };
        let mut index = Index::default();
        index.add_dependencies(&list("modules.dep")?);
        index.builtin = list("modules.builtin")?.lines().map(name_of).collect();
        index.add_aliases(&list("modules.alias")?);
        index.add_softdeps(&list("modules.softdep")?);
        index.add_options(command_line);
        Ok(index)
    }

    fn add_dependencies(&mut self, text: &str) {
        for (path, needs) in text.lines().filter_map(|line| line.split_once(':')) {
            let needs = needs.split_whitespace().rev().map(name_of).collect();
            self.modules.insert(name_of(path), Module { path: path.into(), needs });
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
                    name => list.push(normal(name)),
                }
            }
        }
    }

    /// `MODULE.OPTION=VALUE` is for us to hand over: the kernel keeps it for built-in code only.
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

    /// Modules that a module name, an alias (`fs-ext4`) or a device's modalias asks for.
    pub fn resolve(&self, what: &str) -> Vec<&str> {
        let what = normal(what);
        if self.builtin.contains(&what) {
            return Vec::new();
        }
        if let Some((name, _)) = self.modules.get_key_value(&what) {
            return vec![name];
        }
        let mut found: Vec<&str> = Vec::new();
        for (pattern, module) in
            [group_of(&what), ""].iter().filter_map(|g| self.aliases.get(*g)).flatten()
        {
            let known = self.modules.contains_key(module) && !self.blacklist.contains(module);
            if known && !found.contains(&module.as_str()) && glob::matches(pattern, &what) {
                found.push(module);
            }
        }
        found
    }

    /// Everything to load for a module, in order; itself among it, soft dependencies around it.
    pub fn order(&self, module: &str) -> Vec<&str> {
        let mut order = Vec::new();
        self.visit(module, &mut order, &mut HashSet::new());
        order
    }

    fn visit<'a>(&'a self, name: &str, order: &mut Vec<&'a str>, seen: &mut HashSet<&'a str>) {
        let Some((name, module)) = self.modules.get_key_value(name) else { return };
        if !seen.insert(name) {
            return;
        }
        let soft = |names: &'a [String]| names.iter().flat_map(|name| self.resolve(name));
        let softdep = self.softdeps.get(name);
        for before in softdep.into_iter().flat_map(|s| soft(&s.before)) {
            self.visit(before, order, seen);
        }
        for need in &module.needs {
            self.visit(need, order, seen);
        }
        order.push(name);
        for after in softdep.into_iter().flat_map(|s| soft(&s.after)) {
            self.visit(after, order, seen);
        }
    }

    /// Device nodes whose opening loads their module: those with an alias for their name and one
    /// for their number.
    fn static_nodes(&self) -> Vec<(&str, u64, u64)> {
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
            .filter_map(|(name, module)| number(module).map(|(major, minor)| (name, major, minor)))
            .collect()
    }

    /// The options of a module, as one string.
    fn options_of(&self, module: &str) -> String {
        let mut options = self.options.get(module).cloned().unwrap_or_default();
        if self.modules.get(module).is_some_and(|module| !module.path.contains("/drivers/")) {
            // The kernel ends the loading of a module only when no probe of any driver is under way
            // (`do_init_module`), unless told that this one's may go on: a file system would wait
            // for every disk that spins up.
            options.push("async_probe".into());
        }
        options.join(" ")
    }
}

/// Loads modules, each once. Threads may share it.
#[derive(Debug)]
pub struct Loader {
    directory: PathBuf,
    index: Index,
    /// Every module that was asked for, and whether it is there. Who asks for one that is being
    /// loaded waits.
    asked: Mutex<HashMap<String, Arc<OnceLock<bool>>>>,
    insists_on_signatures: AtomicBool,
}

impl Loader {
    /// For the running kernel.
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
            asked: Mutex::default(),
            insists_on_signatures: AtomicBool::new(false),
        })
    }

    /// Loads what a name, alias or modalias asks for. True if a module now stands for it, or it is
    /// built in.
    pub fn load(&self, what: &str) -> bool {
        let wanted = self.index.resolve(what);
        let mut all = !wanted.is_empty() || self.index.builtin.contains(&normal(what));
        for module in wanted {
            for each in self.index.order(module) {
                all &= self.insert(each) || each != module;
            }
        }
        all
    }

    /// Makes the device nodes below `dev` that load their module when they are opened
    /// (`loop-control`, `btrfs-control`). Returns one sentence for each that could not be made.
    pub fn make_static_nodes(&self, dev: &Path) -> Vec<String> {
        let make = |(name, major, minor): (&str, u64, u64)| {
            let path = dev.join(name);
            let made = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| {
                let mode = Mode::S_IRUSR | Mode::S_IWUSR;
                mknod(&path, SFlag::S_IFCHR, mode, makedev(major, minor)).or_else(|why| match why {
                    Errno::EEXIST => Ok(()),
                    why => Err(why.into()),
                })
            });
            made.err().map(|why| format!("{}: {why}", path.display()))
        };
        self.index.static_nodes().into_iter().filter_map(make).collect()
    }

    fn insert(&self, module: &str) -> bool {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let once = Arc::clone(asked.entry(module.to_owned()).or_default());
        drop(asked);
        *once.get_or_init(|| match self.init(module) {
            Ok(()) | Err(Errno::EEXIST) => true,
            // Its init function found no such hardware or processor feature.
            Err(Errno::ENODEV) => false,
            Err(why) => {
                log::warn!("kernel module {module} cannot be loaded: {why}");
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
        let image =
            read(&path).map_err(|why| Errno::from_raw(why.raw_os_error().unwrap_or(libc::EIO)))?;
        // A signature proves nothing here: whoever could change a module in the initramfs could
        // change this program. Under emulation its check is most of the time that loading takes. A
        // kernel that is locked down (Secure Boot) or told to (`module.sig_enforce`) insists on it.
        if !self.insists_on_signatures.load(Ordering::Relaxed) {
            match init_module(without_signature(&image), &options) {
                Err(Errno::EKEYREJECTED | Errno::EPERM) => {
                    self.insists_on_signatures.store(true, Ordering::Relaxed);
                }
                other => return other,
            }
        }
        init_module(&image, &options)
    }
}

/// A module's ELF file with its signature, as `init_module` takes it.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = fs::read(path)?;
    if path.extension().is_some_and(|extension| extension == "zst") {
        zstd::decode_all(file.as_slice())
    } else {
        Ok(file)
    }
}

/// A module's ELF file without the signature after it (include/linux/module_signature.h: signature,
/// 12 bytes that end in its length, marker).
fn without_signature(image: &[u8]) -> &[u8] {
    const MARKER: &[u8] = b"~Module signature appended~\n";
    let parts = image.strip_suffix(MARKER).and_then(|rest| rest.split_last_chunk::<12>());
    let Some((rest, [.., a, b, c, d])) = parts else { return image };
    let length = u32::from_be_bytes([*a, *b, *c, *d]);
    let end = usize::try_from(length).ok().and_then(|length| rest.len().checked_sub(length));
    end.map_or(image, |end| &rest[..end])
}

/// Names and aliases mix `-` and `_`; they mean the same, except between brackets of a pattern.
fn normal(name: &str) -> String {
    let mut bracket = false;
    name.chars()
        .map(|c| {
            bracket = (bracket || c == '[') && c != ']';
            if c == '-' && !bracket { '_' } else { c }
        })
        .collect()
}

/// `kernel/fs/nls/nls_iso8859-1.ko` is `nls_iso8859_1`.
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
    fn a_device_finds_its_driver() {
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
    fn names_aliases_and_what_is_built_in_resolve() {
        let index = index();
        assert_eq!(index.resolve("nvme-core"), ["nvme_core"]);
        assert_eq!(index.resolve("fs-ext3"), ["ext4"]);
        assert!(index.resolve("i8042").is_empty() && index.resolve("fs-reiserfs").is_empty());
    }

    #[test]
    fn dependencies_come_last_first_and_soft_ones_before() {
        let index = index();
        assert_eq!(index.order("nvme"), ["t10_pi", "nvme_core", "nvme"]);
        let ext4 = ["crc32c_intel", "crc32c_generic", "crc16", "jbd2", "mbcache", "ext4"];
        assert_eq!(index.order("ext4"), ext4);
    }

    #[test]
    fn soft_dependencies_in_a_circle_end() {
        let mut index = index();
        index.add_softdeps("softdep crc16 post: ext4\n");
        assert_eq!(index.order("crc16").last(), Some(&"ext4"));
    }

    #[test]
    fn the_command_line_gives_options_and_forbids() {
        let mut index = index();
        index.add_options(
            "usb-storage.delay_use=0 nvme.use_threaded_interrupts \
            modprobe.blacklist=nvme,virtio-pci",
        );
        assert_eq!(index.options_of("ext4"), "async_probe", "it need not wait for disks");
        assert_eq!(index.options_of("usb_storage"), "delay_use=0");
        assert_eq!(index.options_of("nvme"), "use_threaded_interrupts");
        assert!(index.resolve("pci:v00001AF4d00001042sv00001AF4sd00001100bc01sc00i00").is_empty());
        assert_eq!(index.resolve("nvme"), ["nvme"], "by its own name it may be loaded");
    }

    #[test]
    fn nodes_that_load_their_module_are_known_by_name_and_number() {
        let mut index = index();
        index.add_aliases(
            "alias devname:loop-control loop\nalias char-major-10-237 loop\nalias block-major-7-* \
            loop\n",
        );
        // The name of a node is no module name: `-` stays.
        assert_eq!(index.static_nodes(), [("loop-control", 10, 237)]);
    }

    #[test]
    fn a_signature_is_taken_off_and_nothing_else() {
        let marker = b"~Module signature appended~\n";
        let signed = |length: u8| [b"ELF", &b"signature"[..], &[0; 11], &[length], marker].concat();
        assert_eq!(without_signature(&signed(9)), b"ELF");
        assert_eq!(without_signature(&signed(13)), signed(13), "a length beyond the file is none");
        assert_eq!(without_signature(b"ELF"), b"ELF");
        assert_eq!(without_signature(marker), marker);
    }

    #[test]
    fn a_module_is_read_as_it_was_before_it_was_compressed() {
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
    fn a_kernel_without_lists_has_no_modules() {
        let directory = tempfile::tempdir().unwrap();
        let index = Index::read(directory.path(), "quiet").unwrap();
        assert!(index.resolve("ext4").is_empty());
    }
}
