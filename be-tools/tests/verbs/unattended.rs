//! What a timer runs, when no user sees the plan.

use super::{copied, done, refused, root};

/// What runs at boot writes this into the descriptor (`Descriptor::note_run`).
const RAN: &str = "sed -i '/^state/a ran = \"2026-11-24T02:00:00Z\"' etc/lifeboat/environment.toml";

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
    target.change(&format!("echo mine >var/mine; {RAN}"));
    refused(&unattended, 3, &format!("'{second}' has run since 2026-11-24T02:00:00Z"));
    assert_eq!(target.change("cat var/mine").trim(), "mine");
    // A user sees it in the plan.
    let plan = done(&["refresh", &second, "--dry-run"]);
    assert!(plan.contains("what changed in it since then is lost"), "{plan}");
    done(&["refresh", &second, "--yes", "--unattended", "--force"]);
    target.change("test ! -e var/mine && ! grep ^ran etc/lifeboat/environment.toml");
    done(&unattended);
}
