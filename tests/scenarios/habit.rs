//! The page of the manual about three boot environments, followed word by word; and what a switch
//! costs.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use qemu::{Machine, Release, deadline};
use tests::prepared::{FIRST, SECOND, debian, fresh};
use tests::table::Scenario;
use tests::{BeCommands, scenario};

use super::printed::{second_disk, typed};
use super::running::assert_confirmed;
use super::schedule::SENDMAIL;

pub const SCENARIOS: &[Scenario] = &[
    scenario!(the_three_be_habit_is_followed_word_by_word),
    scenario!(a_switch_takes_as_long_as_a_reboot),
];

const PAGE: &str = include_str!("../../docs/manual/src/habit.md");

/// An archive of packages without any, which is enough for an upgrade to ask.
const ARCHIVE: &str = "mkdir -p /srv/www/stable && : >/srv/www/stable/Packages && \
    echo 'deb [trusted=yes] file:/srv/www stable/' >/etc/apt/sources.list";

/// The blocks of code of the page.
fn blocks() -> Vec<Vec<&'static str>> {
    let mut all = Vec::new();
    let mut block = None;
    for line in PAGE.lines() {
        match (line.starts_with("```"), &mut block) {
            (true, None) => block = Some(Vec::new()),
            (true, Some(_)) => all.extend(block.take()),
            (false, Some(lines)) => lines.push(line),
            (false, None) => {}
        }
    }
    all
}

/// Types the lines of a block, each of which succeeds.
fn follow(vm: &Machine, block: &[&str]) -> Result<()> {
    for line in block {
        if *line == "reboot" {
            vm.restarted_by(line)?;
            continue;
        }
        let (status, printed) = typed(vm, line)?;
        ensure!(status == 0, "{status} {line}\n{printed}");
    }
    Ok(())
}

fn the_three_be_habit_is_followed_word_by_word(release: Release) -> Result<()> {
    let blocks = blocks();
    let [set_up, change, every_night, follows, look, bad_day] = &blocks[..] else {
        anyhow::bail!("the page has {} blocks", blocks.len())
    };
    let (file, disk) = second_disk()?;
    let vm = debian(release).build()?.machine()?.disk(disk).start()?;
    vm.ready()?;
    vm.install_be()?;
    vm.write("/run/answers", b"y\n")?;
    vm.run(SENDMAIL)?;
    vm.run(ARCHIVE)?;

    follow(&vm, set_up)?;
    vm.run("echo 'before the change' >/root/note")?;
    follow(&vm, change)?;
    vm.write("/run/answers", b"y\n")?;
    assert_eq!(vm.current_be()?, SECOND);
    assert_confirmed(&vm, SECOND)?;
    assert_eq!(vm.run("cat /root/note")?.stdout, "before the change\n");

    follow(&vm, every_night)?;
    vm.run("echo 'of today' >/root/note")?;
    follow(&vm, follows)?;
    // The night.
    vm.run("echo 'of tonight' >/root/note")?;
    let service = "lifeboat-????????-????-????-????-????????????.service";
    vm.run_within(&format!("cd /etc/systemd/system && systemctl start {service}"), deadline(900))?;
    follow(&vm, look)?;
    let (_, table) = typed(&vm, "be schedule")?;
    let row = table.lines().find(|line| line.starts_with("nightly")).context("its row")?;
    assert!(row.trim_end().ends_with(" 0"), "{table}");

    // The bad day.
    follow(&vm, &["be activate nightly", "reboot"])?;
    vm.write("/run/answers", b"y\n")?;
    assert_eq!(vm.current_be()?, "nightly");
    assert_eq!(vm.run("cat /root/note")?.stdout, "of tonight\n");
    follow(&vm, bad_day)?;
    follow(&vm, &["be activate first", "reboot"])?;
    assert_eq!(vm.current_be()?, FIRST);
    assert_confirmed(&vm, FIRST)?;
    assert_eq!(vm.run("cat /root/note")?.stdout, "of tonight\n");
    drop(file);
    Ok(())
}

/// A service that answers, as soon as the system is up.
const SERVICE: &str = "printf '[Service]\\nExecStart=/usr/bin/busybox httpd -f -p 127.0.0.1:80 -h /srv\\n\
    [Install]\\nWantedBy=multi-user.target\\n' >/etc/systemd/system/www.service && echo up >/srv/index.html && \
    systemctl enable -q --now www";

fn a_switch_takes_as_long_as_a_reboot(release: Release) -> Result<()> {
    let vm = fresh(release)?;
    vm.run(SERVICE)?;
    vm.be(&format!("create {SECOND} -m /:/dev/vda3:ext4 --current {FIRST} --yes"))?;
    // Each boots once first: a copy makes caches then.
    for name in [SECOND, FIRST] {
        switched(&vm, name)?;
    }
    let (mut reboots, mut switches) = (Vec::new(), Vec::new());
    for name in [SECOND, FIRST, SECOND] {
        reboots.push(until_it_answers(&vm)?);
        switches.push(switched(&vm, name)?);
    }
    let [reboot, switch] = [median(&mut reboots), median(&mut switches)];
    let ratio = switch.as_secs_f64() / reboot.as_secs_f64();
    println!(
        "until the service answers: {reboot:.1?} after a reboot ({reboots:.1?}), {switch:.1?} after a \
        switch ({switches:.1?}): {ratio:.2}"
    );
    ensure!(ratio < 1.3, "a switch takes {ratio:.2} times as long as a reboot");
    Ok(())
}

/// How long it takes to switch to a BE, which is confirmed then.
fn switched(vm: &Machine, name: &str) -> Result<Duration> {
    vm.be(&format!("activate {name} --yes"))?;
    let took = until_it_answers(vm)?;
    assert_eq!(vm.current_be()?, name);
    assert_confirmed(vm, name)?;
    Ok(took)
}

/// How long it takes from `reboot` until the service answers.
fn until_it_answers(vm: &Machine) -> Result<Duration> {
    let before = vm.boot_id()?;
    let start = Instant::now();
    vm.restarted_by("systemctl reboot")?;
    vm.run("until busybox wget -q -O - http://127.0.0.1/index.html; do sleep 0.1; done")?;
    let took = start.elapsed();
    ensure!(vm.boot_id()? != before, "it did not restart");
    Ok(took)
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}
