//! A block copy that is interrupted by a signal. This is a test program of its own, because the
//! signal affects the whole process.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test")]

mod killer;
mod loop_device;

use std::process::Command;

use be_tools::Error;
use be_tools::block_copy::{BlockCopyRequest, Identity, copy};
use be_tools::plan::Progress;
use killer::Killer;
use loop_device::{Device, root, sh};

fn is_half_done(progress: &Progress) -> bool {
    progress.bytes >= progress.total_bytes.unwrap() / 2
}

#[test]
fn an_interrupted_copy_leaves_a_blank_device_for_the_next_attempt() {
    if !root() {
        return;
    }
    let source = Device::made(&["mkfs.ext4", "-q"], "96M");
    source.mounted("noatime", |place| {
        sh(
            place,
            "mkdir -p etc/lifeboat usr/lib; head -c 50M /dev/urandom >large; \
            echo ID=debian >usr/lib/os-release; ln -s ../usr/lib/os-release etc/os-release",
        );
        let descriptor = r#"format = 1
id = "2f0c1a94-0000-4000-8000-000000000000"
name = "interrupted-block"
created = "2026-11-23T06:12:00Z"
state = "complete"
"#;
        // Space for the longer descriptor of the copy.
        let descriptor = format!("{descriptor:\n<220}");
        std::fs::write(place.join("etc/lifeboat/environment.toml"), descriptor).unwrap();
    });
    let target = Device::made(&["mkfs.xfs", "-q"], "320M");
    be_tools::signals::watch();
    let hold = target.hold();
    let request = BlockCopyRequest {
        source: &source.node,
        target: &hold,
        identity: Identity { uuid: uuid::Uuid::new_v4(), label: String::new() },
        edits: Vec::new(),
    };
    assert!(matches!(copy(&request, &mut Killer::when(is_half_done)), Err(Error::Interrupted)));
    let found = Command::new("blkid").arg("-p").arg(&target.node).output().unwrap();
    assert_eq!(found.status.code(), Some(2), "{found:?}");

    // Another process, which has received no signal. It would refuse a device that holds something.
    let placement = format!("/:{}:ext4", target.node.display());
    let again = Command::new(env!("CARGO_BIN_EXE_be"))
        .args(["create", "made-again", "--from", "interrupted-block", "--method", "block"])
        .args(["--no-boot-entry", "--dry-run", "-m", &placement])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&again.stdout);
    assert!(
        again.status.success() && text.contains("holds nothing") && text.contains("blocks of /"),
        "{again:?}"
    );
}
