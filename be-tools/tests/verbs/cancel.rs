//! `be cancel` ends what is in progress on a BE, and nothing else.

use super::run::{begun, state, with_shell};
use super::{be, done, refused, root, said};

#[test]
fn what_is_in_progress_on_a_boot_environment_is_ended_and_what_it_left_is_said() {
    if !root() {
        return;
    }
    let name = |what: &str| format!("{what}-{}", std::process::id());
    let (first, second) = (name("uncancelled"), name("cancelled"));
    let (_source, target) = with_shell(&first, &second);
    let child = begun(&second, &target, "sleep 1000");
    // Another BE's operation is named and goes on.
    refused(&["cancel", &first], 3, &format!("runs 'run {second}"));
    let plan = done(&["cancel", &second, "--dry-run"]);
    assert!(plan.contains("interrupt process") && plan.contains("sleep 1000"), "{plan}");
    let text = done(&["cancel", &second]);
    assert!(text.contains(&format!("'{second}' is incomplete (run)")), "{text}");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "as by Ctrl-C");
    assert!(state(&target).contains("incomplete"), "{}", state(&target));
    let output = be(&["cancel", &second]);
    assert!(said(&output).contains("nothing is in progress on"), "{}", said(&output));
}
