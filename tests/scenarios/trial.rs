//! A failed trial falls back automatically, and a permanent boot environment that fails three times
//! starts the rescue image.

use anyhow::{Context, Result};
use qemu::{Machine, Release, deadline};
use tests::prepared::{FIRST, SECOND, TwoEnvironments};
use tests::table::Scenario;
use tests::{BeCommands, rescue, scenario};

pub const SCENARIOS: &[Scenario] = &[
    scenario!(a_trial_whose_kernel_panics_falls_back),
    scenario!(a_trial_whose_root_is_erased_falls_back),
    scenario!(a_trial_without_init_falls_back),
    scenario!(a_failed_trial_of_the_first_boot_entry_falls_back),
    scenario!(a_failed_trial_of_the_adopted_environment_falls_back),
    scenario!(three_failed_boots_of_a_permanent_environment_start_the_rescue_image),
];

fn a_trial_whose_kernel_panics_falls_back(release: Release) -> Result<()> {
    // A kernel whose initramfs is not one cannot mount a root and panics.
    falls_back(release, "for i in /mnt/boot/initrd.img-*; do echo 'not an initramfs' > $i; done")
}

fn a_trial_whose_root_is_erased_falls_back(release: Release) -> Result<()> {
    falls_back(release, "umount /mnt; wipefs -qa /dev/vda3")
}

const REMOVE_INIT: &str = "rm /mnt/usr/lib/systemd/systemd /mnt/usr/sbin/init /mnt/usr/bin/sh";

fn a_trial_without_init_falls_back(release: Release) -> Result<()> {
    falls_back(release, REMOVE_INIT)
}

fn a_failed_trial_of_the_first_boot_entry_falls_back(release: Release) -> Result<()> {
    let vm = TwoEnvironments::on(release)?.machine()?.start()?;
    vm.ready()?;
    vm.be(&format!("activate {SECOND} --permanent --yes"))?;
    vm.reboot()?;
    assert_eq!(vm.current_be()?, SECOND);
    vm.run(&format!(
        "efibootmgr -q -n $(efibootmgr | sed -n 's/^Boot\\(....\\).*Lifeboat: {FIRST}.*/\\1/p')"
    ))?;
    vm.reboot()?;
    assert_eq!(vm.current_be()?, FIRST);
    try_and_fall_back(&vm, REMOVE_INIT)
}

fn a_failed_trial_of_the_adopted_environment_falls_back(release: Release) -> Result<()> {
    let vm = TwoEnvironments::on(release)?.machine()?.start()?;
    vm.ready()?;
    vm.be(&format!("activate {SECOND} --permanent --yes"))?;
    vm.reboot()?;
    assert_eq!(vm.current_be()?, SECOND);
    try_and_fall_back(&vm, REMOVE_INIT)
}

fn falls_back(release: Release, damage: &str) -> Result<()> {
    let vm = TwoEnvironments::on(release)?.machine()?.start()?;
    vm.ready()?;
    try_and_fall_back(&vm, damage)
}

/// Activates the boot environment that is not running, damages it, restarts, and checks that the
/// running one boots again automatically.
fn try_and_fall_back(vm: &Machine, damage: &str) -> Result<()> {
    let running = vm.current_be()?;
    let (tried, root) = if running == FIRST { (SECOND, "/dev/vda3") } else { (FIRST, "/dev/vda2") };
    vm.be(&format!("activate {tried} --yes"))?;
    vm.run(&format!("mount {root} /mnt"))?;
    vm.run(damage)?;
    vm.run("umount /mnt 2>/dev/null; sync")?;
    vm.console().skip();
    restart_and_wait(vm)?;
    assert_eq!(vm.current_be()?, running);
    // The failure is reported at login and in the list.
    let greeting = vm.login()?;
    assert!(greeting.contains(tried) && greeting.to_lowercase().contains("trial"), "{greeting}");
    if damage.contains("wipefs") {
        remove_entry_without_root(vm)?;
    } else {
        let list = vm.be("list")?;
        assert!(list.contains("failed"), "{list}");
    }
    // The trial is not repeated.
    vm.reboot()?;
    assert_eq!(vm.current_be()?, running);
    Ok(())
}

/// Checks that `be list` warns of a boot entry whose boot environment no longer exists, and that
/// the command in the warning removes it.
fn remove_entry_without_root(vm: &Machine) -> Result<()> {
    const COMMAND: &str = "boot-entries remove ";
    let warning = vm.try_be("list")?.stderr;
    assert!(warning.contains(SECOND), "{warning}");
    let number = warning.split(COMMAND).nth(1).and_then(|rest| rest.get(..4));
    let number =
        number.with_context(|| format!("`be {COMMAND}NNNN` is not in the warning: {warning:?}"))?;
    vm.be(&format!("{COMMAND}{number} --yes"))?;
    let warning = vm.try_be("list")?.stderr;
    assert!(!warning.contains(COMMAND) && !warning.contains(SECOND), "{warning}");
    Ok(())
}

/// Restarts and waits for the next successful boot: after the boot that fails, `panic=30` waits
/// half a minute, and then the first boot entry boots.
fn restart_and_wait(vm: &Machine) -> Result<()> {
    let before = vm.boot_id()?;
    vm.run_detached("systemctl reboot")?;
    Ok(vm.next_boot(&before, deadline(480))?)
}

fn three_failed_boots_of_a_permanent_environment_start_the_rescue_image(
    release: Release,
) -> Result<()> {
    let vm = TwoEnvironments::on(release)?.machine()?.memory(1024).start()?;
    vm.ready()?;
    vm.put(&rescue::image("lifeboat.efi")?, "/boot/efi/EFI/lifeboat/rescue.efi")?;
    vm.be(&format!("activate {SECOND} --permanent --yes"))?;
    vm.run(&format!("mount /dev/vda3 /mnt && {REMOVE_INIT} && umount /mnt"))?;
    vm.console().skip();
    vm.run_detached("systemctl reboot")?;
    for attempt in 1..=3 {
        vm.console().expect("Loading initial ramdisk", deadline(300))?;
        println!("  attempt {attempt}");
    }
    vm.console().expect("Lifeboat rescue image", deadline(300))?;
    vm.console().expect(SECOND, deadline(60))?;
    Ok(())
}
