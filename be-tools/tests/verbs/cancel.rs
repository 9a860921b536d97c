//! `be cancel` ends what is in progress on a BE, and nothing else.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::run::{begun, state, with_shell};
use super::{be, copied, done, refused, root, said, sh};

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
    refused(&["cancel", &first], 3, &format!("runs be run on '{second}'"));
    let plan = done(&["cancel", &second, "--dry-run"]);
    assert!(plan.contains(&format!("(run of '{second}')")), "{plan}");
    let text = done(&["cancel", &second]);
    assert!(text.contains(&format!("'{second}' is incomplete (run)")), "{text}");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "as by Ctrl-C");
    assert!(state(&target).contains("incomplete"), "{}", state(&target));
    let output = be(&["cancel", &second]);
    assert!(said(&output).contains("nothing is in progress on"), "{}", said(&output));
}

#[test]
fn an_upgrade_is_interrupted_only_after_a_yes() {
    if !root() {
        return;
    }
    // A process that has the lock, and says in it that it upgrades this boot environment.
    let name = format!("upgraded-{}", std::process::id());
    let script = format!(
        "printf '%s\\n{{\"started\":%s,\"in_progress\":{{\"verb\":\"upgrade\",\"id\":null,\
        \"reference\":\"{name}\"}}}}\\n' $$ $(cut -d' ' -f22 /proc/$$/stat) \
        >/run/lifeboat/lock; exec sleep 1000"
    );
    let mut upgrade = Command::new("flock")
        .args(["/run/lifeboat/lock", "sh", "-c", &script])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let is_seen = || {
        let plan = be(&["cancel", &name, "--dry-run"]);
        said(&plan).contains(&format!("(upgrade of '{name}')"))
    };
    for _ in 0..600 {
        if is_seen() {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let output = Command::new(env!("CARGO_BIN_EXE_be"))
        .args(["cancel", &name])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", said(&output));
    assert!(said(&output).contains("not confirmed"), "{}", said(&output));
    assert!(upgrade.try_wait().unwrap().is_none(), "it goes on");
    done(&["cancel", &name, "--yes"]);
    assert!(!upgrade.wait().unwrap().success());
}

#[test]
fn a_question_is_over_with_a_signal_and_needs_no_answer() {
    if !root() {
        return;
    }
    let name = |what: &str| format!("{what}-{}", std::process::id());
    let (first, second) = (name("unasked"), name("asked"));
    let (_source, target) = copied(&first, &second, "true");
    for _ in 0..600 {
        let pair = nix::pty::openpty(None, None).unwrap();
        let stream = || Stdio::from(pair.slave.try_clone().unwrap());
        let mut refresh = Command::new(env!("CARGO_BIN_EXE_be"))
            .args(["refresh", &second])
            .stdin(stream())
            .stdout(stream())
            .stderr(stream())
            .spawn()
            .unwrap();
        drop(pair.slave);
        let mut terminal = File::from(pair.master);
        let (mut shown, mut buffer) = (String::new(), [0; 4096]);
        // The kernel answers EIO when the last program has closed the terminal.
        while let Ok(length) = terminal.read(&mut buffer) {
            shown += &String::from_utf8_lossy(&buffer[..length]);
            if shown.ends_with("[y/N] ") {
                shown.clear();
                sh(Path::new("/"), &format!("kill -TERM {}", refresh.id()));
            }
        }
        let status = refresh.wait().unwrap().code();
        // Another test's `be` works.
        if ["another operation is in progress", "is in use ("].iter().any(|e| shown.contains(e)) {
            std::thread::sleep(Duration::from_millis(500));
            continue;
        }
        assert_eq!(status, Some(130), "{shown}");
        assert_eq!(state(&target), "state = \"complete\" ");
        return;
    }
    panic!("the lock is never free");
}
