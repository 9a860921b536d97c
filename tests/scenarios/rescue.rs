//! The rescue stick, for the day on which nothing installed boots.

use std::time::Duration;

use anyhow::{Result, bail};
use qemu::{Builder, Bus, Machine, Release, deadline};
use tests::prepared::{FIRST, SECOND, TwoEnvironments};
use tests::table::Scenario;
use tests::{rescue, scenario};

pub const SCENARIOS: &[Scenario] = &[
    scenario!(a_dead_primary_on_nvme_is_replaced_from_the_stick),
    scenario!(a_dead_primary_on_ahci_is_replaced_from_the_stick),
    scenario!(a_dead_primary_on_virtio_is_replaced_from_the_stick),
    scenario!(a_broken_environment_is_cloned_over_from_the_stick),
];

fn a_dead_primary_on_nvme_is_replaced_from_the_stick(release: Release) -> Result<()> {
    replaced_from_the_stick(
        TwoEnvironments::with_generic_kernel(release)?.machine_on(Bus::Nvme)?,
        &Fault::KERNEL,
    )
}

fn a_dead_primary_on_ahci_is_replaced_from_the_stick(release: Release) -> Result<()> {
    replaced_from_the_stick(
        TwoEnvironments::with_generic_kernel(release)?.machine_on(Bus::Ahci)?,
        &Fault::LOADER,
    )
}

fn a_dead_primary_on_virtio_is_replaced_from_the_stick(release: Release) -> Result<()> {
    replaced_from_the_stick(TwoEnvironments::on(release)?.machine()?, &Fault::INIT)
}

/// What is destroyed, and the word by which `be check` must name it.
struct Fault {
    damage: &'static str,
    named: &'static str,
}

impl Fault {
    const KERNEL: Fault = Fault { damage: "rm /boot/vmlinuz-*", named: "vmlinuz" };
    const LOADER: Fault = Fault {
        damage: "rm -r /boot/efi/EFI/debian; for d in /boot/efi/EFI/lifeboat/*; do \
                 grep -q \"$(findmnt -no UUID /)\" $d/lifeboat.cfg && rm -r $d; done; true",
        named: "ESP",
    };
    const INIT: Fault = Fault { damage: "rm /usr/sbin/init /usr/lib/systemd/systemd", named: "init" };
}

fn replaced_from_the_stick(builder: Builder, fault: &Fault) -> Result<()> {
    let builder = destroyed(builder, fault)?;
    let vm = booted_from_stick(builder)?;
    let console = vm.console();
    // `be check` says for each what is wrong.
    let check = shell(&vm, &format!("be check {FIRST}"))?;
    assert!(check.contains(fault.named), "{check}");
    let check = shell(&vm, &format!("be check {SECOND}"))?;
    assert!(check.contains("has all it needs"), "{check}");

    // Activated, it boots through the firmware, and without the stick.
    let activated = shell(&vm, &format!("be activate {SECOND} --permanent --yes"))?;
    assert!(activated.contains("boots from now on"), "{activated}");
    // By kexec, now.
    console.send(&format!("be boot {SECOND} --yes\r"))?;
    vm.ready_within(deadline(300))?;
    assert_eq!(vm.run("cat /etc/hostname")?.stdout.trim(), "debian");
    assert_eq!(vm.run("/usr/lib/lifeboat/be current")?.stdout.trim(), SECOND);
    let builder = vm.power_off()?.without_disk(rescue::STICK)?;
    let vm = builder.start()?;
    vm.ready_within(deadline(300))?;
    assert_eq!(vm.run("/usr/lib/lifeboat/be current")?.stdout.trim(), SECOND);
    Ok(())
}

/// Starts the machine, destroys the primary, and switches it off; the stick is in it and starts next.
fn destroyed(builder: Builder, fault: &Fault) -> Result<Builder> {
    let vm = rescue::with_stick(builder)?.memory(1024).start()?;
    vm.ready_within(deadline(300))?;
    rescue::choose_stick(&vm)?;
    vm.run(fault.damage)?;
    Ok(vm.power_off()?)
}

/// The rescue image's menu is on the console.
fn booted_from_stick(builder: Builder) -> Result<Machine> {
    let vm = builder.start()?;
    vm.console().expect("Lifeboat rescue image", deadline(240))?;
    // The list is there once it has both.
    vm.console().expect(SECOND, deadline(120))?;
    assert!(vm.console().text().contains(FIRST));
    vm.console().send("S")?;
    vm.console().expect("sh -l", deadline(60))?;
    std::thread::sleep(Duration::from_secs(2));
    Ok(vm)
}

/// A command in a shell of the rescue image, opened from its menu and left again.
fn shell(vm: &Machine, command: &str) -> Result<String> {
    let console = vm.console();
    let before = console.text().len();
    console.send(&format!("{command}; echo \"status=$?\" | tr a-z A-Z\r"))?;
    console.expect("STATUS=", deadline(300))?;
    let text = console.text().split_off(before);
    if text.is_empty() {
        bail!("the shell said nothing to `{command}`");
    }
    Ok(text)
}

fn a_broken_environment_is_cloned_over_from_the_stick(release: Release) -> Result<()> {
    let builder = destroyed(TwoEnvironments::on(release)?.machine()?, &Fault::INIT)?;
    let vm = booted_from_stick(builder)?;
    let created = shell(&vm, &format!("be create {FIRST} --from {SECOND} --replace {FIRST} --yes"))?;
    // Nobody writes to the source, so blocks are copied.
    assert!(created.contains("copying the blocks of /") && created.contains("is complete"), "{created}");
    let activated = shell(&vm, &format!("be activate {FIRST} --permanent --yes"))?;
    assert!(activated.contains("boots from now on"), "{activated}");
    let vm = vm.stop().without_disk(rescue::STICK)?.start()?;
    vm.ready_within(deadline(300))?;
    assert_eq!(vm.run("/usr/lib/lifeboat/be current")?.stdout.trim(), FIRST);
    Ok(())
}
