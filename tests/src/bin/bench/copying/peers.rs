//! The tools that are compared, in one table. A new tool needs an entry here and in
//! scripts/requirements.

use std::path::Path;
use std::process::Command;

use ::tests::programs::path;
use anyhow::{Context, Result, ensure};

/// The tool that all ratios are relative to.
pub const BASELINE: &str = "cp -a";
pub const FILES: &str = "Lifeboat, files";
pub const BLOCKS: &str = "Lifeboat, blocks";
pub const CREATE: &str = "be create, files";
pub const CREATE_BLOCKS: &str = "be create, blocks";

/// A script that reads all files and attributes of `$SOURCE`.
pub const READ_SOURCE: &str =
    "tar -C \"$SOURCE\" --acls --xattrs --xattrs-include='*' -cf - . | cat >/dev/null";

/// What a tool works on, which determines what is done before and after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Reads the mounted source and writes nothing.
    Reads,
    /// Copies from the mounted source into the mounted, empty target.
    Files,
    /// Copies from device to device, both unmounted.
    Devices,
    /// As `Devices`, and the file system of the target is checked.
    Blocks,
    /// A verb of `be` that creates the target's file system itself, from a mounted source.
    Verb,
    /// As `Verb`, but the source is not mounted.
    VerbOnBlocks,
}

impl Kind {
    /// Commands that are run and timed after every tool of this kind.
    pub fn ending(self) -> &'static str {
        match self {
            Kind::Reads => "",
            Kind::Files => "; sync -f \"$TARGET\"",
            Kind::Blocks => "; sync \"$TARGET_DEVICE\"; e2fsck -fn \"$TARGET_DEVICE\"",
            Kind::Devices | Kind::Verb | Kind::VerbOnBlocks => "; sync \"$TARGET_DEVICE\"",
        }
    }

    pub fn mounts_source(self) -> bool {
        matches!(self, Kind::Reads | Kind::Files | Kind::Verb)
    }

    /// Whether the tool benefits from files that were read before and are still in memory.
    pub fn can_be_warm(self) -> bool {
        self.mounts_source()
    }
}

/// The program that a tool requires.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// A program that scripts/requirements installs.
    Program(&'static str),
    /// A program on crates.io.
    Crate {
        /// Its name.
        name: &'static str,
        /// Its version.
        version: &'static str,
    },
    /// `be`.
    Be,
}

/// A tool to compare with.
#[derive(Debug)]
pub struct Peer {
    pub name: &'static str,
    pub kind: Kind,
    need: Need,
    /// A bash script. `$USED` is the number of used MiB.
    script: &'static str,
    /// Whether it is also measured with other file system types than the source's.
    pub to_others: bool,
}

const fn peer(name: &'static str, kind: Kind, need: Need, script: &'static str) -> Peer {
    Peer { name, kind, need, script, to_others: false }
}

const fn to_all(peer: Peer) -> Peer {
    Peer { to_others: true, ..peer }
}

const PEERS: &[Peer] = &[
    peer(
        "find: only the walk",
        Kind::Reads,
        Need::Program("find"),
        "find \"$SOURCE\" -links +64000",
    ),
    peer("tar to a pipe: only reading", Kind::Reads, Need::Program("tar"), READ_SOURCE),
    peer(
        "dd of the used bytes",
        Kind::Devices,
        Need::Program("dd"),
        "dd if=\"$SOURCE_DEVICE\" of=\"$TARGET_DEVICE\" bs=4M count=\"$USED\"M \
        iflag=direct,count_bytes oflag=direct",
    ),
    peer(
        "e2image -ra",
        Kind::Blocks,
        Need::Program("e2image"),
        "e2image -ra \"$SOURCE_DEVICE\" \"$TARGET_DEVICE\"; tune2fs -U random \"$TARGET_DEVICE\"",
    ),
    peer(
        "partclone.ext4 -b",
        Kind::Blocks,
        Need::Program("partclone.ext4"),
        "partclone.ext4 -b -q -L \"$WORK/partclone.log\" -s \"$SOURCE_DEVICE\" -o \
        \"$TARGET_DEVICE\"; \
         tune2fs -U random \"$TARGET_DEVICE\"",
    ),
    peer(
        "fsarchiver",
        Kind::Devices,
        Need::Program("fsarchiver"),
        "fsarchiver savefs -o -Z 1 -j 2 \"$WORK/archive.fsa\" \"$SOURCE_DEVICE\"; \
         fsarchiver restfs -j 2 \"$WORK/archive.fsa\" id=0,dest=\"$TARGET_DEVICE\"",
    ),
    peer(
        "xcp -r",
        Kind::Files,
        Need::Crate { name: "xcp", version: "0.24.9" },
        "xcp -r --no-progress -T \"$SOURCE\" \"$TARGET\"",
    ),
    to_all(peer(BASELINE, Kind::Files, Need::Program("cp"), "cp -a \"$SOURCE/.\" \"$TARGET\"")),
    to_all(peer(
        "tar to tar",
        Kind::Files,
        Need::Program("tar"),
        "tar -C \"$SOURCE\" --acls --xattrs --xattrs-include='*' -S -cf - . | \
         tar -C \"$TARGET\" --acls --xattrs --xattrs-include='*' --numeric-owner -xpSf -",
    )),
    peer(
        "bsdtar to bsdtar",
        Kind::Files,
        Need::Program("bsdtar"),
        "bsdtar -C \"$SOURCE\" --acls --xattrs --fflags -cf - . | \
         bsdtar -C \"$TARGET\" --acls --xattrs --fflags --numeric-owner -xpf -",
    ),
    peer(
        "cpio -0pdm",
        Kind::Files,
        Need::Program("cpio"),
        "cd \"$SOURCE\"; find . -print0 | cpio -0pdm --quiet \"$TARGET\"",
    ),
    to_all(peer(
        "rsync -aHAXS",
        Kind::Files,
        Need::Program("rsync"),
        "rsync -aHAXS --numeric-ids \"$SOURCE/\" \"$TARGET/\"",
    )),
    to_all(peer(FILES, Kind::Files, Need::Be, "\"$BE-engine\" copy-tree \"$SOURCE\" \"$TARGET\"")),
    peer(
        BLOCKS,
        Kind::Blocks,
        Need::Be,
        "\"$BE-engine\" copy-blocks \"$SOURCE_DEVICE\" \"$TARGET_DEVICE\"",
    ),
    to_all(peer(
        CREATE,
        Kind::Verb,
        Need::Be,
        "\"$BE\" create copy --from benchmark -m \"/:$TARGET_DEVICE:$FSTYPE\" --method copy \
        --no-boot-entry --force --yes --quiet",
    )),
    peer(
        CREATE_BLOCKS,
        Kind::VerbOnBlocks,
        Need::Be,
        "\"$BE\" create copy --from benchmark -m \"/:$TARGET_DEVICE:$FSTYPE\" --method block \
        --no-boot-entry --force --yes --quiet",
    ),
];

impl Peer {
    /// The reason why it cannot be measured here, if there is one.
    pub fn missing(&self) -> Option<String> {
        match self.need {
            Need::Program(program) if !is_installed(program) => Some("not installed".into()),
            Need::Crate { name, version } => {
                cargo_install(name, version).err().map(|e| format!("not built: {e:#}"))
            }
            _ => None,
        }
    }

    /// The script to run and time.
    pub fn command(&self) -> String {
        self.script.to_owned() + self.kind.ending()
    }
}

/// All tools, or only those that are also measured with other file system types.
pub fn peers(to_others: bool) -> Vec<&'static Peer> {
    PEERS.iter().filter(|peer| !to_others || peer.to_others).collect()
}

fn is_installed(program: &str) -> bool {
    path().split(':').any(|directory| Path::new(directory).join(program).exists())
}

/// Builds a program from crates.io in `target/peers`, once.
fn cargo_install(name: &str, version: &str) -> Result<()> {
    if is_installed(name) {
        return Ok(());
    }
    eprintln!("building {name}");
    let root = qemu::target_dir().join("peers");
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let built = Command::new(cargo)
        .args(["install", "--quiet", "--locked", "--version", version, "--root"])
        .arg(&root)
        .arg(name)
        .status()
        .context("starting cargo")?;
    ensure!(built.success(), "cargo install {name}: {built}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_baseline_is_measured_with_every_file_system_type() {
        for to_others in [false, true] {
            assert_eq!(peers(to_others).iter().filter(|peer| peer.name == BASELINE).count(), 1);
        }
    }

    #[test]
    fn the_final_sync_is_timed_for_every_tool_that_writes() {
        for peer in PEERS.iter().filter(|peer| peer.kind != Kind::Reads) {
            assert!(peer.kind.ending().contains("sync"), "{}", peer.name);
        }
    }
}
