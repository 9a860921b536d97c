//! Who copies: one table. A new tool is a line here, and in scripts/requirements.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::loops::path;

/// All ratios are to this one.
pub const BASELINE: &str = "cp -a";
pub const FILES: &str = "Lifeboat, files";
pub const BLOCKS: &str = "Lifeboat, blocks";
pub const CREATE: &str = "be create, files";
pub const CREATE_BLOCKS: &str = "be create, blocks";

/// Reads all of `$SOURCE`, with all attributes.
pub const READING: &str =
    "tar -C \"$SOURCE\" --acls --xattrs --xattrs-include='*' -cf - . | cat >/dev/null";

/// What a tool works on, and what is done before and after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Reads the mounted source, and writes nothing.
    Reads,
    /// From the mounted source into the mounted, empty target.
    Files,
    /// From device to device, neither of them mounted.
    Devices,
    /// So, and what is there afterwards is checked.
    Blocks,
    /// A verb that makes the target's file system by itself, from a mounted source.
    Verb,
    /// So, and the source is not mounted.
    VerbOnBlocks,
}

impl Kind {
    /// What is counted with every tool of the kind.
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

    /// Files that were just read are in memory for it.
    pub fn can_be_warm(self) -> bool {
        self.mounts_source()
    }
}

/// What must be there.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// A program, of scripts/requirements.
    Program(&'static str),
    /// A program of crates.io at a version.
    Crate(&'static str, &'static str),
    /// `be` as it is.
    Be,
}

/// A tool.
#[derive(Debug)]
pub struct Peer {
    pub name: &'static str,
    pub kind: Kind,
    need: Need,
    /// For bash. `$USED` is the number of used MiB.
    script: &'static str,
    /// Also to other file systems than the source's.
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
        "find: the walk alone",
        Kind::Reads,
        Need::Program("find"),
        "find \"$SOURCE\" -links +64000",
    ),
    peer("tar to a pipe: reading alone", Kind::Reads, Need::Program("tar"), READING),
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
        Need::Crate("xcp", "0.24.9"),
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
    /// Why it cannot be measured here, if so.
    pub fn missing(&self) -> Option<String> {
        match self.need {
            Need::Program(program) if !is_there(program) => Some("not installed".into()),
            Need::Crate(name, version) => {
                cargo_install(name, version).err().map(|e| format!("not built: {e:#}"))
            }
            _ => None,
        }
    }

    /// What is run and counted.
    pub fn command(&self) -> String {
        self.script.to_owned() + self.kind.ending()
    }
}

/// Every tool, or those that also copy to another file system.
pub fn peers(to_others: bool) -> Vec<&'static Peer> {
    PEERS.iter().filter(|peer| !to_others || peer.to_others).collect()
}

fn is_there(program: &str) -> bool {
    path().split(':').any(|directory| Path::new(directory).join(program).exists())
}

/// Builds a program of crates.io below `target/peers`, once.
fn cargo_install(name: &str, version: &str) -> Result<()> {
    if is_there(name) {
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
    fn the_one_that_all_are_compared_with_copies_to_everything() {
        for to_others in [false, true] {
            assert_eq!(peers(to_others).iter().filter(|peer| peer.name == BASELINE).count(), 1);
        }
    }

    #[test]
    fn the_final_sync_counts_for_all_that_write() {
        for peer in PEERS.iter().filter(|peer| peer.kind != Kind::Reads) {
            assert!(peer.kind.ending().contains("sync"), "{}", peer.name);
        }
    }
}
