//! Boot environments on Linux: the library behind `be`.
//!
//! An operation builds a [`plan::Plan`] from what `discover` finds, has it confirmed, and runs it.
//! Only [`cli`] prints, and what starts itself as a process of its own.

mod archive;
pub mod block_copy;
pub mod cli;
pub mod copy;
pub mod crypttab;
pub mod discover;
pub mod distribution;
pub mod environment;
pub mod error;
pub mod escape;
pub mod fstab;
pub mod host;
mod inode_flags;
pub mod layout;
pub mod loader;
pub mod localize;
mod lossless;
mod octal;
pub mod operations;
pub mod own_files;
pub mod plan;
pub(crate) mod populate;
pub mod root_dir;
pub mod sandbox;
mod session;
pub mod signals;
pub mod step;
pub mod storage;
mod sys;
pub mod timestamp;
pub mod tool;
pub mod tree;
mod workers;

pub use boot::command_line;
pub use error::{Error, Refusal, Result};

/// For `fuzz/`: parsers of foreign bytes that no public function reaches by itself.
#[doc(hidden)]
pub mod fuzzing {
    use crate::archive::{Wanted, members};
    use crate::discover::scan::ScanRequest;
    use crate::distribution::debian::{apt::simulation, release};
    use crate::distribution::{dnf, pacman, zypper};
    use crate::environment::facts::boot_images;
    use crate::storage::device::contents::ProbeRequest;
    use crate::tree::{exclude::Exclude, manifest};
    use crate::workers::{Question, parse_answer};

    /// What a worker's line says, written again, for each kind of question that it can answer.
    pub fn worker_answers(line: &[u8]) -> Vec<String> {
        fn written<Q: Question>(line: &[u8]) -> Option<String> {
            serde_json::to_string(&parse_answer::<Q::Finding>(line).ok()?).ok()
        }
        [written::<ProbeRequest>(line), written::<ScanRequest>(line)]
            .into_iter()
            .flatten()
            .collect()
    }

    /// What apt-get says that it would do. Returns the names of the packages that change, and of
    /// the files they come from.
    pub fn apt_simulation(text: &str) -> (Vec<String>, Vec<String>) {
        let changes = simulation::changes(text, text).changes;
        let names = changes.into_iter().map(|change| change.name).collect();
        let files = simulation::archives(text).into_iter().map(|archive| archive.name).collect();
        let _ = simulation::security_fixes(text);
        (names, files)
    }

    /// What pacman says that it would do. Returns the names of the packages that change.
    pub fn pacman_plan(text: &str) -> Vec<String> {
        let changes = pacman::changes(text, &pacman::versions(text), false).changes;
        let _ = pacman::kept_back(text);
        changes.into_iter().map(|change| change.name).collect()
    }

    /// What dnf's plugin writes and zypper prints as XML. Returns the names of the packages that
    /// change.
    pub fn rpm_plans(text: &str) -> [Vec<String>; 2] {
        let zypper = zypper::changes(text);
        let _ = zypper::kept_back(text, &zypper);
        [dnf::changes(text), zypper].map(|plan| {
            let names = plan.changes.into_iter().map(|change| change.name);
            names.chain(plan.kept_back).collect()
        })
    }

    /// The number of entries of an archive.
    pub fn archive(bytes: &[u8]) -> Option<usize> {
        let (rules, files) = (Exclude::standard(), &[("var/lib/dpkg/status", 1 << 10)][..]);
        let wanted = Wanted { rules: &rules, content: true, files };
        let found = members(Box::new(bytes), wanted, &|_| {}).ok()?;
        let mut text = Vec::new();
        manifest::write(&found.manifest, &mut text).ok()?;
        // What is in it can be written and read again.
        let again = manifest::parse(&text[..]).ok()?;
        (again.len() == found.manifest.len()).then_some(again.len())
    }

    /// A file of package sources of bookworm as it is for trixie, in both of its forms.
    pub fn package_sources(text: &str) -> [String; 2] {
        release::for_trixie(text).unwrap_or_default()
    }

    /// Looks at the bytes of a file as a kernel, as an initramfs and as a program. Returns the
    /// dynamic linker that the program names.
    pub fn boot_image(bytes: &[u8]) -> Option<String> {
        let read = |at: u64, len: usize| {
            let from = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
            Ok(bytes[from..from.saturating_add(len).min(bytes.len())].to_vec())
        };
        let _ = (boot_images::bzimage_size(bytes), boot_images::main_archive(&read));
        boot_images::interpreter(bytes)
    }
}
