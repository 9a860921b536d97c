//! The rescue stick, for the day on which nothing installed boots.

use std::time::Duration;

use anyhow::{Result, ensure};
use qemu::{Builder, Bus, Machine, Release, deadline};
use tests::prepared::{FIRST, SECOND, TwoEnvironments};
use tests::table::Scenario;
use tests::{BeWords, rescue, scenario};

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
    // `be check` says for each what is wrong.
    let check = shell(&vm, &format!("be check {FIRST}"), 5)?;
    assert!(check.contains(fault.named), "{check}");
    let check = shell(&vm, &format!("be check {SECOND}"), 0)?;
    assert!(check.contains("has all it needs"), "{check}");

    // By kexec, now: the firmware, which names on the console whatever it starts, is not asked.
    assert!(vm.console().text().contains(FIRMWARE));
    vm.console().skip();
    vm.console().send(&format!("be boot {SECOND} --yes\r"))?;
    vm.ready_within(deadline(300))?;
    assert_eq!(vm.current_be()?, SECOND);
    assert!(!vm.console().unread().contains(FIRMWARE), "{}", vm.console().unread());

    // Activated, it boots through the firmware, and without the stick.
    vm.be(&format!("activate {SECOND} --permanent --yes"))?;
    let vm = vm.power_off()?.without_disk(rescue::STICK)?.start()?;
    vm.ready_within(deadline(300))?;
    assert_eq!(vm.current_be()?, SECOND);
    assert!(vm.console().text().contains(FIRMWARE));
    Ok(())
}

/// What OVMF begins a line with when it starts a boot entry.
const FIRMWARE: &str = "BdsDxe: starting";

/// Starts the machine, destroys the primary, and switches it off; the stick is in it and starts next.
fn destroyed(builder: Builder, fault: &Fault) -> Result<Builder> {
    let vm = rescue::with_stick(builder)?.memory(1024).start()?;
    vm.ready_within(deadline(300))?;
    rescue::choose_stick(&vm)?;
    vm.run(fault.damage)?;
    Ok(vm.power_off()?)
}

/// The rescue image's shell, opened from its menu, is on the console.
fn booted_from_stick(builder: Builder) -> Result<Machine> {
    let vm = menu_of_stick(builder)?;
    vm.console().send("S")?;
    vm.console().expect("sh -l", deadline(60))?;
    std::thread::sleep(Duration::from_secs(2));
    Ok(vm)
}

/// The rescue image's menu is on the console.
fn menu_of_stick(builder: Builder) -> Result<Machine> {
    let vm = builder.start()?;
    vm.console().expect("Lifeboat rescue image", deadline(240))?;
    // The list is there once it has both.
    vm.console().expect(SECOND, deadline(120))?;
    assert!(vm.console().text().contains(FIRST));
    Ok(vm)
}

/// A command in the shell of the rescue image, which must end with this status; gives back what it said.
fn shell(vm: &Machine, command: &str, status: i32) -> Result<String> {
    let console = vm.console();
    let before = console.text().len();
    console.send(&format!("{command}; echo \"status=$?\" | tr a-z A-Z\r"))?;
    console.expect("STATUS=", deadline(300))?;
    console.expect("\n", deadline(30))?;
    let text = console.text().split_off(before);
    ensure!(text.contains(&format!("STATUS={status}\n")), "`{command}` did not end with {status}\n{text}");
    Ok(text)
}

fn a_broken_environment_is_cloned_over_from_the_stick(release: Release) -> Result<()> {
    let builder = destroyed(TwoEnvironments::on(release)?.machine()?, &Fault::INIT)?;
    let vm = booted_from_stick(builder)?;
    let created = shell(&vm, &format!("be create {FIRST} --from {SECOND} --replace {FIRST} --yes"), 0)?;
    // Nobody writes to the source, so blocks are copied.
    assert!(created.contains("copying the blocks of /") && created.contains("is complete"), "{created}");
    let activated = shell(&vm, &format!("be activate {FIRST} --permanent --yes"), 0)?;
    assert!(activated.contains("boots from now on"), "{activated}");
    let vm = vm.stop().without_disk(rescue::STICK)?.start()?;
    vm.ready_within(deadline(300))?;
    assert_eq!(vm.run("/usr/lib/lifeboat/be current")?.stdout.trim(), FIRST);
    Ok(())
}
