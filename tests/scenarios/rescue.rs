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
    scenario!(a_broken_environment_is_cloned_over_from_the_menu),
    scenario!(an_unattended_list_needs_no_more_than_256_mib_and_nobody),
    scenario!(a_disk_that_is_plugged_in_comes_into_the_menu),
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
    const INIT: Fault =
        Fault { damage: "rm /usr/sbin/init /usr/lib/systemd/systemd", named: "init" };
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

/// Starts the machine, destroys the primary, and switches it off; the stick is in it and starts
/// next.
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

/// A command in the shell of the rescue image, which must end with this status; gives back what it
/// said.
fn shell(vm: &Machine, command: &str, status: i32) -> Result<String> {
    let console = vm.console();
    let before = console.text().len();
    console.send(&format!("{command}; echo \"status=$?\" | tr a-z A-Z\r"))?;
    console.expect("STATUS=", deadline(300))?;
    console.expect("\n", deadline(30))?;
    let text = console.text().split_off(before);
    ensure!(
        text.contains(&format!("STATUS={status}\n")),
        "`{command}` did not end with {status}\n{text}"
    );
    Ok(text)
}

fn a_broken_environment_is_cloned_over_from_the_menu(release: Release) -> Result<()> {
    let vm = menu_of_stick(destroyed(TwoEnvironments::on(release)?.machine()?, &Fault::INIT)?)?;
    let console = vm.console();
    // The second line, clone, over the only other one, by the name that is proposed.
    press(&vm, "kkjl\r\r")?;
    console.expect(
        &format!("# be create {FIRST} --from {SECOND} --replace {FIRST}\n"),
        deadline(60),
    )?;
    agreed(&vm)?;
    // Nobody writes to the source, so blocks are copied.
    console.expect("copy the blocks of /", deadline(120))?;
    console.expect("is complete", deadline(300))?;
    console.expect("Press Enter", deadline(60))?;

    // Back; the first line, activate, permanently.
    press(&vm, "\r")?;
    press(&vm, "kkaj\r")?;
    agreed(&vm)?;
    console.expect("boots from now on", deadline(120))?;
    console.expect("Press Enter", deadline(60))?;
    let vm = vm.stop().without_disk(rescue::STICK)?.start()?;
    vm.ready_within(deadline(300))?;
    assert_eq!(vm.current_be()?, FIRST);
    Ok(())
}

/// Keys for the menu, which throws away what is typed before it waits for a key.
fn press(vm: &Machine, keys: &str) -> Result<()> {
    std::thread::sleep(Duration::from_secs(2));
    Ok(vm.console().send(keys)?)
}

/// The plan is shown, and agreed to.
fn agreed(vm: &Machine) -> Result<()> {
    vm.console().expect("Go on?", deadline(120))?;
    Ok(vm.console().send("y\r")?)
}

fn an_unattended_list_needs_no_more_than_256_mib_and_nobody(release: Release) -> Result<()> {
    let command = "be list --json";
    let kernel = rescue::kernel(&format!("lifeboat.run=\"{command}\" lifeboat.then=poweroff"))?;
    let vm = TwoEnvironments::on(release)?.machine()?.memory(256).kernel(kernel).start()?;
    vm.console().expect(&format!("# {command}\n"), deadline(240))?;
    for name in [FIRST, SECOND] {
        vm.console().expect(&format!("\"name\": \"{name}\""), deadline(120))?;
    }
    vm.console()
        .expect(&format!("\nlifeboat: \"{command}\" exited with status 0\n"), deadline(60))?;
    Ok(vm.off(deadline(120))?)
}

fn a_disk_that_is_plugged_in_comes_into_the_menu(release: Release) -> Result<()> {
    let disk = TwoEnvironments::on(release)?.disk().overlay();
    let vm = Builder::new("bare")?.hot_plug_ports(1).kernel(rescue::kernel("")?).start()?;
    vm.console().expect("No boot environment was found", deadline(240))?;
    vm.plug(disk)?;
    vm.console().expect(FIRST, deadline(120))?;
    vm.console().expect(SECOND, deadline(60))?;
    Ok(())
}
