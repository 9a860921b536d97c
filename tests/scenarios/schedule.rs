//! A nightly refresh by a timer of the real systemd.

use anyhow::{Context, Result};
use qemu::{Machine, Release, deadline};
use tests::prepared::{SECOND, TwoEnvironments};
use tests::table::Scenario;
use tests::{BeCommands, scenario};

pub const SCENARIOS: &[Scenario] =
    &[scenario!(a_timer_brings_a_copy_up_to_date_and_a_failure_is_mailed)];

/// Takes mail as every sendmail does, and keeps it in a file.
pub(super) const SENDMAIL: &str = "printf '#!/bin/sh\\ncat >>/run/mail\\n' >/usr/sbin/sendmail && \
    chmod 755 /usr/sbin/sendmail";

fn a_timer_brings_a_copy_up_to_date_and_a_failure_is_mailed(release: Release) -> Result<()> {
    let vm = TwoEnvironments::on(release)?.machine()?.start()?;
    vm.ready()?;
    for (arguments, why) in [
        (format!("schedule {SECOND} 'every full moon'"), "is not a time for a timer"),
        (format!("schedule {SECOND} '2001-01-01'"), "is never again"),
        (format!("schedule {SECOND} daily --mail root"), "there is no /usr/sbin/sendmail"),
        (format!("cancel {SECOND}"), "nothing is in progress on 'second'"),
    ] {
        let output = vm.try_be(&arguments)?;
        assert!([2, 3].contains(&output.status) && output.stderr.contains(why), "{output:?}");
    }
    vm.run(SENDMAIL)?;
    vm.run("echo new >/root/since-then")?;
    // Every minute: a timer is as exact as that.
    vm.be(&format!("schedule {SECOND} '*-*-* *:*:00' --mail root"))?;
    let found = vm.run("basename /etc/systemd/system/lifeboat-????????-*.timer")?.stdout;
    let timer = found.trim();
    let service = timer.replace(".timer", ".service");
    vm.run(&format!("systemd-analyze verify /etc/systemd/system/{service}"))?;
    vm.run(&format!("systemctl is-active {timer}"))?;

    wait_for(&vm, "grep -q '\"last_status\":0' /var/lib/lifeboat/schedule/*.json")?;
    let list = vm.be("list")?;
    assert!(list.contains("'second' is scheduled: refresh at '*-*-* *:*:00', next "), "{list}");
    assert!(list.contains("last success 2"), "{list}");
    let json = vm.be_json("schedule")?;
    assert_eq!(json[0]["action"], "refresh", "{json:#}");
    let metrics = vm.run("cat /var/lib/lifeboat/schedule/lifeboat.prom")?.stdout;
    let is_status =
        |line: &str| line.starts_with("lifeboat_schedule_last_status{id=") && line.ends_with("} 0");
    assert!(metrics.lines().any(is_status), "{metrics}");
    vm.run(&format!("systemctl stop {timer} {service}"))?;
    vm.be(&format!("mount {SECOND} /mnt"))?;
    assert_eq!(vm.run("cat /mnt/root/since-then")?.stdout, "new\n");

    // What is mounted is not refreshed, and somebody is told.
    let failed = vm.try_run_within(&format!("systemctl start {service}"), deadline(300))?;
    assert_ne!(failed.status, 0, "{failed:?}");
    let mail = vm.run("cat /run/mail")?.stdout;
    assert!(mail.starts_with("To: root\n") && mail.contains("be refresh second failed"), "{mail}");
    assert!(mail.contains("is mounted on"), "it says why: {mail}");
    vm.be(&format!("umount {SECOND}"))?;

    // Nor is what somebody may have changed by hand, until a refresh that somebody sees.
    vm.try_run_within(&format!("systemctl start {service}"), deadline(300))?;
    let mail = vm.run("cat /run/mail")?.stdout;
    assert!(mail.contains("has run or was changed since"), "{mail}");
    vm.be(&format!("refresh {SECOND} --yes"))?;
    vm.run_within(&format!("systemctl start {service}"), deadline(600))?;

    vm.be(&format!("cancel {SECOND}"))?;
    assert_eq!(vm.be("schedule")?.trim(), "Nothing is scheduled.");
    let left = vm.run("ls /etc/systemd/system /etc/systemd/system/timers.target.wants")?.stdout;
    let left: Vec<&str> = left.lines().filter(|line| line.starts_with("lifeboat-")).collect();
    assert_eq!(
        left,
        ["confirm", "deadline", "sync", "used"].map(|unit| format!("lifeboat-{unit}.service"))
    );
    Ok(())
}

fn wait_for(vm: &Machine, condition: &str) -> Result<()> {
    let wait =
        format!("for i in $(seq 600); do {condition} 2>/dev/null && exit 0; sleep 1; done; exit 1");
    vm.run_within(&wait, deadline(700)).context("the timer has not run")?;
    Ok(())
}
