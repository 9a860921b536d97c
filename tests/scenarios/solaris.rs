//! Live Upgrade under its own names.

use anyhow::Result;
use qemu::{Machine, Release, deadline};
use tests::prepared::{FIRST, SECOND, fresh};
use tests::table::Scenario;
use tests::{BeCommands, scenario};

pub const SCENARIOS: &[Scenario] = &[scenario!(live_upgrade_is_walked_through_under_its_own_names)];

const NAMES: &str = "for n in lu luactivate lucancel lucompare lucreate lucurr ludelete ludesc \
    lufslist lumake lumount lurename lustatus luumount luupgrade; do \
    ln -s be /usr/local/sbin/$n; done";

fn live_upgrade_is_walked_through_under_its_own_names(release: Release) -> Result<()> {
    let vm = fresh(release)?;
    vm.run(NAMES)?;
    lu(&vm, &format!("lucreate -c {FIRST} -m /:/dev/vda3:ext4 -n {SECOND} -A tests -l /root/log"))?;
    assert!(vm.run("cat /root/log")?.stdout.contains("copy the files of /"));
    vm.run("mkdir /a")?;
    lu(&vm, &format!("lumount {SECOND} /a"))?;
    vm.run("echo edited >/a/root/edited")?;
    lu(&vm, &format!("luumount {SECOND}"))?;
    lu(&vm, &format!("luupgrade -P -n {SECOND} strace"))?;
    let compared = vm.try_run_within(&format!("lucompare {SECOND}"), deadline(900))?;
    assert_eq!(compared.status, 5, "{compared:?}");
    for expected in ["strace", "/root/edited"] {
        assert!(compared.stdout.contains(expected), "{}", compared.stdout);
    }
    assert_eq!(status(&vm, SECOND)?, "yes no no yes -");

    lu(&vm, &format!("luactivate {SECOND}"))?;
    vm.restarted_by("init 6")?;
    assert_eq!(lu(&vm, "lucurr")?.trim(), SECOND);
    super::running::assert_confirmed(&vm, SECOND)?;
    assert_eq!(status(&vm, SECOND)?, "yes yes yes no -");
    assert_eq!(vm.run("cat /root/edited; ! command -v strace")?.stdout, "edited\n");

    lu(&vm, &format!("luactivate {FIRST}"))?;
    vm.restarted_by("init 6")?;
    super::running::assert_confirmed(&vm, FIRST)?;
    lu(&vm, &format!("lumake -n {SECOND} -t 02:30"))?;
    assert!(vm.run("systemctl list-timers --all")?.stdout.contains("lifeboat-"));
    lu(&vm, "lucancel")?;
    assert!(!vm.run("systemctl list-timers --all")?.stdout.contains("lifeboat-"));
    lu(&vm, &format!("lumake -n {SECOND}"))?;
    lu(&vm, &format!("ludesc -n {SECOND} 'equal again'"))?;
    assert_eq!(vm.environment(SECOND)?["descriptor"]["description"], "equal again");
    lu(&vm, &format!("lurename -e {SECOND} -n spare"))?;
    assert!(lu(&vm, "lufslist spare")?.contains("/dev/vda3"));
    lu(&vm, "ludelete spare")?;
    assert!(!lu(&vm, "lustatus")?.contains("spare"));
    Ok(())
}

fn lu(vm: &Machine, command: &str) -> Result<String> {
    Ok(vm.run_within(command, deadline(900))?.stdout)
}

/// The columns of lustatus, but for the name.
fn status(vm: &Machine, name: &str) -> Result<String> {
    let table = lu(vm, "lustatus")?;
    let line = table.lines().find(|line| line.split_whitespace().next() == Some(name));
    Ok(line.unwrap_or_default().split_whitespace().skip(1).collect::<Vec<_>>().join(" "))
}
