//! The rescue stick, for the case that no installed system boots.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use qemu::{Builder, Bus, Machine, Release, deadline};
use tests::prepared::{FIRST, SECOND, TwoEnvironments};
use tests::table::Scenario;
use tests::{BeCommands, rescue, scenario};

pub const SCENARIOS: &[Scenario] = &[
    scenario!(a_dead_primary_on_nvme_is_replaced_from_the_stick),
    scenario!(a_dead_primary_on_ahci_is_replaced_from_the_stick),
    scenario!(a_dead_primary_on_virtio_is_replaced_from_the_stick),
    scenario!(a_broken_environment_is_replaced_with_a_clone_from_the_menu),
    scenario!(an_unattended_list_runs_in_256_mib_without_interaction),
    scenario!(a_hot_plugged_disk_appears_in_the_menu),
    scenario!(ctrl_c_and_restart_reach_what_runs_in_the_rescue_image),
    scenario!(an_unattended_command_waits_for_its_environment_and_a_failure_leads_elsewhere),
];

fn a_dead_primary_on_nvme_is_replaced_from_the_stick(release: Release) -> Result<()> {
    replace_from_stick(
        TwoEnvironments::with_generic_kernel(release)?.machine_on(Bus::Nvme)?,
        &Fault::KERNEL,
    )
}

fn a_dead_primary_on_ahci_is_replaced_from_the_stick(release: Release) -> Result<()> {
    replace_from_stick(
        TwoEnvironments::with_generic_kernel(release)?.machine_on(Bus::Ahci)?,
        &Fault::LOADER,
    )
}

fn a_dead_primary_on_virtio_is_replaced_from_the_stick(release: Release) -> Result<()> {
    replace_from_stick(TwoEnvironments::on(release)?.machine()?, &Fault::INIT)
}

/// A fault of the primary boot environment.
struct Fault {
    /// The command that causes it.
    damage: &'static str,
    /// A word that `be check` must print.
    word: &'static str,
}

impl Fault {
    const KERNEL: Fault = Fault { damage: "rm /boot/vmlinuz-*", word: "vmlinuz" };
    const LOADER: Fault = Fault {
        damage: "rm -r /boot/efi/EFI/debian; for d in /boot/efi/EFI/lifeboat/*; do \
                 grep -q \"$(findmnt -no UUID /)\" $d/lifeboat.cfg && rm -r $d; done; true",
        word: "ESP",
    };
    const INIT: Fault =
        Fault { damage: "rm /usr/sbin/init /usr/lib/systemd/systemd", word: "init" };
}

fn replace_from_stick(builder: Builder, fault: &Fault) -> Result<()> {
    let builder = break_primary(builder, fault)?;
    let vm = open_shell_of_stick(builder)?;
    // `be check` reports what is wrong with each.
    let check = shell(&vm, &format!("be check {FIRST}"), 5)?;
    assert!(check.contains(fault.word), "{check}");
    let check = shell(&vm, &format!("be check {SECOND}"), 0)?;
    assert!(check.contains("has everything"), "{check}");

    // Booted immediately with kexec: the firmware, which prints what it starts, is not involved.
    assert!(vm.console().text().contains(FIRMWARE));
    vm.console().skip();
    vm.console().send(&format!("be boot {SECOND} --yes\r"))?;
    vm.ready_within(deadline(300))?;
    assert_eq!(vm.current_be()?, SECOND);
    assert!(!vm.console().unread().contains(FIRMWARE), "{}", vm.console().unread());

    // After activation it boots through the firmware, without the stick.
    vm.be(&format!("activate {SECOND} --permanent --yes"))?;
    let vm = vm.power_off()?.without_disk(rescue::STICK)?.start()?;
    vm.ready_within(deadline(300))?;
    assert_eq!(vm.current_be()?, SECOND);
    assert!(vm.console().text().contains(FIRMWARE));
    Ok(())
}

/// The beginning of the line that OVMF prints when it starts a boot entry.
const FIRMWARE: &str = "BdsDxe: starting";

/// Boots the primary, breaks it, and powers the machine off. The stick is plugged in and boots
/// next.
fn break_primary(builder: Builder, fault: &Fault) -> Result<Builder> {
    let vm = rescue::with_stick(builder)?.memory(1024).start()?;
    vm.ready_within(deadline(300))?;
    rescue::boot_stick_next(&vm)?;
    vm.run(fault.damage)?;
    Ok(vm.power_off()?)
}

/// Boots the stick and opens a shell from its menu on the console.
fn open_shell_of_stick(builder: Builder) -> Result<Machine> {
    let vm = open_menu_of_stick(builder)?;
    vm.console().send("S")?;
    vm.console().expect("sh -l", deadline(60))?;
    std::thread::sleep(Duration::from_secs(2));
    Ok(vm)
}

/// Boots the stick and waits for its menu on the console.
fn open_menu_of_stick(builder: Builder) -> Result<Machine> {
    let vm = builder.start()?;
    vm.console().expect("Lifeboat rescue image", deadline(240))?;
    // The list is complete when it shows both.
    vm.console().expect(SECOND, deadline(120))?;
    assert!(vm.console().text().contains(FIRST));
    Ok(vm)
}

/// Runs a command in the shell of the rescue image, checks its exit status, and returns its output.
fn shell(vm: &Machine, command: &str, status: i32) -> Result<String> {
    let console = vm.console();
    let before = console.text().len();
    console.send(&format!("{command}; echo \"status=$?\" | tr a-z A-Z\r"))?;
    console.expect("STATUS=", deadline(300))?;
    console.expect("\n", deadline(30))?;
    let text = console.text().split_off(before);
    ensure!(
        text.contains(&format!("STATUS={status}\n")),
        "`{command}` did not exit with {status}\n{text}"
    );
    Ok(text)
}

fn a_broken_environment_is_replaced_with_a_clone_from_the_menu(release: Release) -> Result<()> {
    let vm =
        open_menu_of_stick(break_primary(TwoEnvironments::on(release)?.machine()?, &Fault::INIT)?)?;
    let console = vm.console();
    // Select the second line, clone it over the only other one, and accept the proposed name.
    press(&vm, "kkjl\r\r")?;
    console.expect(
        &format!("# be create {FIRST} --from {SECOND} --replace {FIRST}\n"),
        deadline(60),
    )?;
    confirm_plan(&vm)?;
    // The source is not mounted for writing, so blocks are copied.
    console.expect("copy the blocks of /", deadline(120))?;
    console.expect("is complete", deadline(300))?;
    console.expect("Press Enter", deadline(60))?;

    // Go back, select the first line, and activate it permanently.
    press(&vm, "\r")?;
    press(&vm, "kkaj\r")?;
    confirm_plan(&vm)?;
    console.expect("boots from now on", deadline(120))?;
    console.expect("Press Enter", deadline(60))?;
    let vm = vm.stop().without_disk(rescue::STICK)?.start()?;
    vm.ready_within(deadline(300))?;
    assert_eq!(vm.current_be()?, FIRST);
    Ok(())
}

/// Presses keys in the menu, after a delay because it discards keys that are pressed too early.
fn press(vm: &Machine, keys: &str) -> Result<()> {
    std::thread::sleep(Duration::from_secs(2));
    Ok(vm.console().send(keys)?)
}

/// Waits for the plan and confirms it.
fn confirm_plan(vm: &Machine) -> Result<()> {
    vm.console().expect("[y/N]", deadline(120))?;
    Ok(vm.console().send("y\r")?)
}

fn an_unattended_list_runs_in_256_mib_without_interaction(release: Release) -> Result<()> {
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

fn a_hot_plugged_disk_appears_in_the_menu(release: Release) -> Result<()> {
    let disk = TwoEnvironments::on(release)?.disk().overlay();
    let vm = Builder::new("bare")?.hot_plug_ports(1).kernel(rescue::kernel("")?).start()?;
    vm.console().expect("No boot environment was found", deadline(240))?;
    vm.plug(disk)?;
    vm.console().expect(FIRST, deadline(120))?;
    vm.console().expect(SECOND, deadline(60))?;
    Ok(())
}

fn ctrl_c_and_restart_reach_what_runs_in_the_rescue_image(release: Release) -> Result<()> {
    let vm = TwoEnvironments::on(release)?.machine()?.kernel(rescue::kernel("")?).start()?;
    let console = vm.console();
    console.expect(SECOND, deadline(240))?;

    // A command of a shell ends, and the prompt is back.
    press(&vm, "S")?;
    console.expect("`exit` goes back", deadline(60))?;
    std::thread::sleep(Duration::from_secs(2));
    let blocked = shell(&vm, "grep SigBlk /proc/self/status", 0)?;
    assert!(blocked.contains("0000000000000000"), "{blocked}");
    console.send("sleep 1000\r")?;
    std::thread::sleep(Duration::from_secs(2));
    console.send("\x03")?;
    shell(&vm, "true", 0)?;
    // 128 and the number of SIGTERM.
    shell(&vm, "timeout 3 sleep 1000", 143)?;
    console.send("exit\r")?;
    // Cursor movements are between the words of the last two lines.
    console.expect("delete", deadline(60))?;

    // A clone ends within seconds, and says that it is not finished.
    press(&vm, "kkjl\r\r")?;
    confirm_plan(&vm)?;
    console.expect("copy the blocks of /", deadline(120))?;
    console.send("\x03")?;
    let interrupted = Instant::now();
    let left = [
        &format!("there is no '{FIRST}' on any disk"),
        &format!("'{FIRST}' on /dev/vda2 is incomplete (create)"),
    ];
    console.expect_any(&left.map(String::as_str), deadline(60))?;
    console.expect("interrupted", deadline(60))?;
    console.expect("exited with status 130", deadline(60))?;
    let took = interrupted.elapsed();
    assert!(took < deadline(5), "the clone was interrupted only after {took:?}");
    console.expect("Press Enter", deadline(60))?;

    // With a shell open, which ignores SIGTERM, nothing is waited for until it has to be killed.
    press(&vm, "\r")?;
    press(&vm, "S")?;
    console.expect("`exit` goes back", deadline(60))?;
    std::thread::sleep(Duration::from_secs(2));
    console.send("echo 8 >/proc/sys/kernel/printk; poweroff\r")?;
    console.expect("reboot: Power down", deadline(60))?;
    vm.off(deadline(60))?;
    let text = vm.console().text();
    let [asked, done] = ["init: powering off", "reboot: Power down"].map(|w| timestamp(&text, w));
    let took = done? - asked?;
    assert!(took < 1.0, "the machine needed {took} seconds to end\n{text}");
    Ok(())
}

/// The seconds since boot that the kernel prints before a message with these words.
fn timestamp(text: &str, words: &str) -> Result<f64> {
    let line = text.lines().find(|line| line.contains(words)).context("no such message")?;
    let (before, _) = line.split_once(']').with_context(|| format!("no timestamp: {line}"))?;
    let (_, time) = before.split_once('[').with_context(|| format!("no timestamp: {line}"))?;
    time.trim().parse().with_context(|| format!("no timestamp: {line}"))
}

fn an_unattended_command_waits_for_its_environment_and_a_failure_leads_elsewhere(
    release: Release,
) -> Result<()> {
    let disk = TwoEnvironments::on(release)?.disk().overlay();
    let words = format!(
        "lifeboat.run=\"be check {SECOND}\" lifeboat.run=\"be check third\" lifeboat.wait=60 \
         lifeboat.then=reboot lifeboat.then-on-failure=poweroff"
    );
    let vm = Builder::new("bare")?.hot_plug_ports(1).kernel(rescue::kernel(&words)?).start()?;
    let console = vm.console();
    console.expect("Waiting up to", deadline(240))?;
    vm.plug(disk)?;
    console.expect(&format!("be check {SECOND}\" exited with status 0"), deadline(240))?;
    console.expect("be check third\" exited with status 2", deadline(240))?;
    // The first command succeeded and the second failed: the machine is off, not restarted.
    Ok(vm.off(deadline(120))?)
}
