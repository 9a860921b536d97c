//! What a timer runs, when no user sees the plan.

use std::process::{Command, Stdio};
use std::time::Duration;

use super::run::{begun, with_shell};
use super::{copied, done, refused, root, said};

/// What runs at boot writes this into the descriptor (`Descriptor::note_changed`).
const CHANGED: &str =
    "sed -i '/^state/a changed = \"2026-11-24T02:00:00Z\"' etc/lifeboat/environment.toml";

#[test]
fn a_boot_environment_that_ran_is_not_refreshed_unattended_without_force() {
    if !root() {
        return;
    }
    let name = |what: &str| format!("{what}-{}", std::process::id());
    let (first, second) = (name("ran-source"), name("ran"));
    let (_source, target) = copied(&first, &second, "true");
    let unattended = ["refresh", &second, "--yes", "--unattended"];
    done(&unattended);
    target.change(&format!("echo mine >var/mine; {CHANGED}"));
    refused(
        &unattended,
        3,
        &format!("'{second}' has run or was changed since 2026-11-24T02:00:00Z"),
    );
    assert_eq!(target.change("cat var/mine").trim(), "mine");
    // A user sees it in the plan.
    let plan = done(&["refresh", &second, "--dry-run"]);
    assert!(plan.contains("what is only in it is lost"), "{plan}");
    done(&["refresh", &second, "--yes", "--unattended", "--force"]);
    target.change("test ! -e var/mine && ! grep ^changed etc/lifeboat/environment.toml");
    done(&unattended);
    // So is what a command, a mount or an upgrade has changed.
    done(&["mount", &second]);
    done(&["umount", &second]);
    refused(&unattended, 3, &format!("'{second}' has run or was changed since"));
}

#[test]
fn an_unattended_refresh_waits_for_the_operation_that_is_in_progress() {
    if !root() {
        return;
    }
    let name = |what: &str| format!("{what}-{}", std::process::id());
    let (first, second) = (name("waited-source"), name("waited"));
    let (_source, target) = with_shell(&first, &second);
    let mut child = begun(&second, &target, "while [ ! -e /go ]; do sleep 0.1; done");
    let refresh = Command::new(env!("CARGO_BIN_EXE_be"))
        .args(["refresh", &second, "--yes", "--unattended", "--force"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_secs(3));
    target.change("touch go");
    assert!(child.wait().unwrap().success());
    let output = refresh.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("waiting for process"), "{}", said(&output));
}
