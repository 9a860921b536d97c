//! What was changed in the system that served while a copy waited is there when the copy starts.

use anyhow::Result;
use qemu::Release;
use tests::prepared::{FIRST, SECOND, TwoEnvironments};
use tests::table::Scenario;
use tests::{BeCommands, scenario};

pub const SCENARIOS: &[Scenario] =
    &[scenario!(what_changed_while_a_copy_waited_is_there_at_its_first_start)];

const NOTICE: &str = "/run/motd.d/lifeboat-sync";

fn what_changed_while_a_copy_waited_is_there_at_its_first_start(release: Release) -> Result<()> {
    let vm = TwoEnvironments::on(release)?.machine()?.start()?;
    vm.ready()?;
    vm.run(
        "useradd alice && echo alice:secret | chpasswd && echo grown >>/var/log/auth.log && \
        echo there >/var/mail/root && echo hello >/var/mail/alice",
    )?;
    let password = vm.run("getent shadow alice")?.stdout;
    // A package adds an account in the copy, and somebody changes the same file there.
    vm.be(&format!("run {SECOND} -- useradd --system helper"))?;
    vm.be(&format!(
        "run {SECOND} -- sh -c 'echo here >/var/mail/root; echo own >>/var/log/auth.log'"
    ))?;
    let plan = vm.be(&format!("activate {SECOND} --yes"))?;
    assert!(plan.contains(&format!("logs over from '{FIRST}'")), "{plan}");
    vm.reboot()?;
    assert_eq!(vm.current_be()?, SECOND);

    assert_eq!(vm.run("getent shadow alice")?.stdout, password);
    vm.run("getent passwd alice && getent passwd helper && getent group alice")?;
    assert_eq!(vm.run("cat /var/mail/alice")?.stdout, "hello\n");
    vm.run("grep -x own /var/log/auth.log && grep -x grown /var/log/auth.log")?;
    assert_eq!(vm.run("cat /var/mail/root")?.stdout, "here\n");
    let notice = vm.run(&format!("cat {NOTICE}"))?.stdout;
    assert!(notice.contains("/var/mail/root: it was changed in both"), "{notice}");
    // Before any service that knows accounts.
    vm.run(
        "test $(systemctl show -P ExecMainExitTimestampMonotonic lifeboat-sync) -le \
        $(systemctl show -P ActiveEnterTimestampMonotonic sysinit.target)",
    )?;

    // It happens once, and not in the one that served.
    vm.run("userdel helper; ! grep -F '[sync]' /etc/lifeboat/environment.toml")?;
    vm.be(&format!("activate {FIRST} --yes"))?;
    vm.reboot()?;
    assert_eq!(vm.current_be()?, FIRST);
    vm.run(&format!("! getent passwd helper; ! test -e {NOTICE}; useradd bob"))?;
    let plan = vm.be(&format!("activate {SECOND} --yes"))?;
    assert!(!plan.contains("logs over from"), "{plan}");
    // Unless it is asked for.
    let plan = vm.be(&format!("activate {SECOND} --sync --yes"))?;
    assert!(plan.contains("logs over from"), "{plan}");
    vm.reboot()?;
    assert_eq!(vm.current_be()?, SECOND);
    vm.run("getent passwd bob")?;
    Ok(())
}
