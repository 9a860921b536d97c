//! The steps of create, refresh and delete: what a plan says is what is done, and every cut between
//! two of them is harmless.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Output;

use super::{Disk, be, be_with, copied, disks, done, root, said};
use crate::loop_device::sh;

/// The numbered lines of a plan, of what was said, or of a log without its times.
fn numbered(text: &str) -> Vec<String> {
    let without_time = |line: &str| match line.split_once("Z ") {
        Some((time, rest)) if !time.contains(' ') => rest.to_owned(),
        _ => line.to_owned(),
    };
    let is_numbered = |line: &String| {
        line.trim_start().split_once(". ").is_some_and(|(n, _)| n.parse::<u32>().is_ok())
    };
    text.lines().map(without_time).filter(is_numbered).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Does it, and returns its steps, after comparing those of the plan with those that were run.
fn steps_of(arguments: &[&str]) -> Vec<String> {
    let plan = numbered(&done(&[arguments, &["--dry-run"]].concat()));
    assert!(!plan.is_empty());
    let output = be(&[arguments, &["--yes"]].concat());
    assert!(output.status.success(), "be {arguments:?}: {}", said(&output));
    assert_eq!(numbered(&text(&output.stdout)), plan);
    assert_eq!(numbered(&text(&output.stderr)), plan);
    let shown = said(&output);
    let log = shown.split("a log of this operation is written to ").nth(1).unwrap();
    let log = std::fs::read_to_string(log.lines().next().unwrap()).unwrap();
    // Once as the plan that was agreed to, once as it was done.
    assert_eq!(numbered(&log), [&plan[..], &plan[..]].concat());
    let mut unlike: Vec<&str> = plan.iter().map(|l| l.split_once(". ").unwrap().1).collect();
    unlike.sort_unstable();
    unlike.dedup();
    assert_eq!(unlike.len(), plan.len(), "no two are equal: {plan:?}");
    plan
}

/// Ends an operation at a fail point.
fn cut(point: &str, arguments: &[&str]) -> Output {
    be_with(&[("LIFEBOAT_FAIL", point)], arguments)
}

fn cut_before(number: usize, arguments: &[&str]) {
    let output = cut(&format!("before:{number}"), arguments);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("before step {number}, ")), "{text}");
}

/// What a disk says of the BE on it: the two lines of its state; nothing where it is blank.
fn state(disk: &Disk) -> String {
    let blank = sh(Path::new("/"), &format!("blkid -p {} || true", disk.node)).is_empty();
    if blank {
        return String::new();
    }
    // The short one of an unfinished block copy has no spaces.
    disk.change("grep -E '^(state|operation)' etc/lifeboat/environment.toml | tr -d ' '")
}

fn incomplete(operation: &str) -> String {
    format!("state=\"incomplete\"\noperation=\"{operation}\"\n")
}

const COMPLETE: &str = "state=\"complete\"\n";

const BY_BLOCKS: [&str; 2] = ["--method", "block"];

/// Where the file systems of a copy lie.
fn placements(target: &Disk, var: Option<&Disk>) -> Vec<String> {
    let mut places = vec![format!("/:{}:ext4", target.node)];
    places.extend(var.map(|var| format!("/var:{}:ext4", var.node)));
    places
}

/// The command line of a create into these places.
fn create<'a>(second: &'a str, name: &'a str, places: &'a [String]) -> Vec<&'a str> {
    let mut line = vec!["create", second, "--from", name, "--no-boot-entry"];
    line.extend(places.iter().flat_map(|place| ["-m", place]));
    line
}

#[test]
fn a_plan_is_line_for_line_what_is_said_and_logged() {
    if !root() {
        return;
    }
    let name = format!("what-is-planned-{}", std::process::id());
    let second = format!("d-{}", std::process::id());
    let (source, target) = disks(&name);
    let (var, swap) = (Disk::new(256), Disk::new(32));
    let mut places = placements(&target, Some(&var));
    places.push(format!("-:{}:swap", swap.node));
    let steps = steps_of(&create(&second, &name, &places));
    for (place, disk) in [("/", &target), ("/var", &var)] {
        let line = format!("copy the files of {place} of '{name}' to {} ({place})", disk.node);
        assert!(steps.iter().any(|step| step.ends_with(&line)), "{line}: {steps:?}");
    }
    assert!(steps.iter().any(|step| step.ends_with(&format!("make swap on {}", swap.node))));
    assert_eq!(state(&target), COMPLETE);
    source.change("echo changed >var/7");
    let steps = steps_of(&["refresh", &second]);
    assert!(steps[0].contains("as incomplete (refresh)"), "{steps:?}");
    assert_eq!(var.change("cat 7"), "changed\n");
    let steps = steps_of(&["delete", &second]);
    assert_eq!(steps.len(), 5, "{steps:?}");
    assert!(steps.last().unwrap().ends_with(&target.node), "{steps:?}");
    for disk in [&target, &var, &swap] {
        assert_eq!(sh(Path::new("/"), &format!("blkid -p {} || true", disk.node)), "");
    }
    // And by blocks.
    let places = placements(&target, None);
    let by_blocks = [&create(&second, &name, &places)[..], &BY_BLOCKS].concat();
    let steps = steps_of(&by_blocks);
    assert!(steps[0].contains("copy the blocks of / of "), "{steps:?}");
}

/// Cuts a create before each of its steps in turn, and runs it again.
fn every_cut_of_a_create(kind: &str, is_split: bool) {
    let name = format!("{kind}-are-copied-from-{}", std::process::id());
    // Its descriptor has to fit into the blocks of the source's.
    let second = format!("{}-{}", &kind[..1], std::process::id());
    let (_source, target) = disks(&name);
    let var = is_split.then(|| Disk::new(256));
    let places = placements(&target, var.as_ref());
    let mut line = create(&second, &name, &places);
    if !is_split {
        line.extend(BY_BLOCKS);
    }
    let again = [&line[..], &["--yes"]].concat();
    let count = numbered(&done(&[&line[..], &["--dry-run"]].concat())).len();
    assert!(count > 5);
    let before = target.sum();
    // Before the last step it is complete, and only remains to be unmounted.
    for number in 1..count {
        cut_before(number, &again);
        match number {
            1 => assert_eq!(target.sum(), before, "nothing was written"),
            _ => assert_eq!(state(&target), incomplete("create"), "before step {number}"),
        }
        // Cut again at the same place, it is still the same one.
        cut_before(number, &again);
        done(&again);
        assert_eq!(state(&target), COMPLETE);
        let last = match &var {
            Some(var) => var.change("cat 50 again"),
            None => target.change("cat var/50 var/again"),
        };
        assert_eq!(last, "50\n1\n");
        done(&["delete", &second, "--yes"]);
    }
}

#[test]
fn a_create_by_files_that_is_cut_before_any_step_is_run_again() {
    if root() {
        every_cut_of_a_create("files", true);
    }
}

#[test]
fn a_create_by_blocks_that_is_cut_before_any_step_is_run_again() {
    if root() {
        every_cut_of_a_create("blocks", false);
    }
}

#[test]
fn a_refresh_that_is_cut_before_any_step_is_run_again() {
    if !root() {
        return;
    }
    let name = format!("newer-{}", std::process::id());
    let second = format!("older-{}", std::process::id());
    let (source, target) = copied(&name, &second, "true");
    let count = numbered(&done(&["refresh", &second, "--dry-run"])).len();
    assert!(count > 4);
    for number in 1..=count {
        source.change(&format!("echo {number} >var/7; echo x >var/new-{number}; rm -f var/8"));
        let before = target.sum();
        cut_before(number, &["refresh", &second, "--yes"]);
        match number {
            1 => assert_eq!(target.sum(), before, "nothing was written"),
            _ if number == count => assert_eq!(state(&target), COMPLETE),
            _ => assert_eq!(state(&target), incomplete("refresh"), "before step {number}"),
        }
        done(&["refresh", &second, "--yes"]);
        assert_eq!(state(&target), COMPLETE);
        let changed = target.change(&format!("cat var/7 var/new-{number}; ls var/8 2>&1 || true"));
        assert!(changed.starts_with(&format!("{number}\nx\n")), "{changed}");
        assert!(changed.contains("No such file"), "{changed}");
    }
}

#[test]
fn a_create_that_is_killed_between_two_steps_is_run_again() {
    if !root() {
        return;
    }
    let name = format!("alive-{}", std::process::id());
    let second = format!("killed-{}", std::process::id());
    let (_source, target) = disks(&name);
    let var = Disk::new(256);
    let places = placements(&target, Some(&var));
    let line = [&create(&second, &name, &places)[..], &["--yes"]].concat();
    let output = cut("kill-before:copy the files of /var", &line);
    assert_eq!(output.status.signal(), Some(9), "{}", said(&output));
    assert_eq!(state(&target), incomplete("create"));
    done(&line);
    assert_eq!(state(&target), COMPLETE);
    assert_eq!(var.change("cat 7"), "7\n");
}

#[test]
fn a_fail_point_that_names_no_step_is_refused_and_nothing_is_written() {
    if !root() {
        return;
    }
    let name = format!("named-{}", std::process::id());
    let second = format!("unnamed-{}", std::process::id());
    let (_source, target) = disks(&name);
    let places = placements(&target, None);
    let line = [&create(&second, &name, &places)[..], &["--yes"]].concat();
    let before = target.sum();
    let output = cut("after:3", &line);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert_eq!(target.sum(), before);
}

#[test]
#[ignore = "slow: a sign of life comes after 30 seconds"]
fn a_step_that_lasts_shows_that_it_lives() {
    if !root() {
        return;
    }
    let name = format!("slow-{}", std::process::id());
    let second = format!("waiting-{}", std::process::id());
    let (_source, target) = disks(&name);
    let programs = tempfile::tempdir().unwrap();
    let real = sh(Path::new("/"), "command -v mke2fs");
    let slow = programs.path().join("mke2fs");
    // Its version is asked for while the plan is made.
    std::fs::write(
        &slow,
        format!("#!/bin/sh\n[ \"$1\" = -V ] || sleep 32\nexec {} \"$@\"\n", real.trim()),
    )
    .unwrap();
    sh(programs.path(), "chmod 755 mke2fs");
    let path = format!("{}:{}", programs.path().display(), std::env::var("PATH").unwrap());
    let places = placements(&target, None);
    let line = [&create(&second, &name, &places)[..], &["--method", "copy", "--yes"]].concat();
    let output = be_with(&[("PATH", &path)], &line);
    assert!(output.status.success(), "{}", said(&output));
    let life = format!("still 1. make ext4 on {}", target.node);
    let heard = text(&output.stderr);
    let heard = heard.lines().find(|line| line.contains(&life));
    assert!(heard.is_some_and(|line| line.ends_with(": 30 s, running mke2fs")), "{heard:?}");
}
