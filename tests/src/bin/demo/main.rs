//! `make demo`: a Debian whose primary boot environment no longer boots, and the rescue stick that
//! boots the other one.
//!
//! On a terminal, the terminal becomes the serial console of the machine, and the user operates the
//! menu. Otherwise, this program presses the keys and prints the screens.

mod screen;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use qemu::{Builder, Machine, Release, deadline};
use tests::prepared::{FIRST, SECOND, TwoEnvironments};
use tests::rescue;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let picture = picture_file()?;
    println!(
        "1. A Debian 12 with two boot environments, '{FIRST}' and its copy '{SECOND}' (the first \
        run takes minutes)"
    );
    let mut builder = TwoEnvironments::on(Release::Bookworm)?.machine()?.memory(1024);
    if picture.is_some() {
        // From the first start on: the firmware knows the stick by the port of its controller.
        builder = builder.screen();
    }
    println!(
        "2. '{FIRST}' loses its init and its kernel; the rescue stick is plugged in and selected \
        for the next boot"
    );
    let builder = break_primary(builder)?;
    println!("3. The machine boots from the stick\n");
    if let Some(file) = picture {
        return take_picture(builder, &file);
    }
    let vm = builder.start()?;
    if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
        println!(
            "It is your turn: 'a' activates, Enter boots, 'h' shows help. Ctrl-] ends the \
            machine.\n"
        );
        vm.console().interact()?;
        return Ok(());
    }
    press_keys(&vm)
}

/// The file of `--picture FILE`: where a picture of the menu goes, instead of a demonstration.
fn picture_file() -> Result<Option<PathBuf>> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match &arguments[..] {
        [] => Ok(None),
        [option, file] if option == "--picture" => Ok(Some(file.into())),
        _ => bail!("usage: demo [--picture FILE]"),
    }
}

/// Takes a picture of the menu on the machine's screen.
fn take_picture(builder: Builder, file: &Path) -> Result<()> {
    let vm = builder.start()?;
    vm.console().expect("Lifeboat rescue image", deadline(240))?;
    vm.console().expect(SECOND, deadline(120))?;
    // The screen has a menu of its own, which reads the same list.
    std::thread::sleep(deadline(10));
    vm.screenshot(file)?;
    println!("{} shows the menu", file.display());
    Ok(())
}

fn break_primary(builder: Builder) -> Result<Builder> {
    let vm = rescue::with_stick(builder)?.start()?;
    vm.ready()?;
    rescue::boot_stick_next(&vm)?;
    vm.run("rm /boot/vmlinuz-* /usr/sbin/init /usr/lib/systemd/systemd")?;
    Ok(vm.power_off()?)
}

fn press_keys(vm: &Machine) -> Result<()> {
    let console = vm.console();
    console.expect("Lifeboat rescue image", deadline(240))?;
    console.expect(SECOND, deadline(120))?;
    settle();
    show("The menu", vm);
    for key in ["k", "k", "k"] {
        console.send(key)?;
    }
    console.send("c")?;
    console.expect("Press Enter", deadline(60))?;
    show(&format!("Key c: what is wrong with '{FIRST}'"), vm);
    console.send("\r")?;
    settle();
    console.send("j")?;
    console.send("a")?;
    console.send("j")?;
    settle();
    show(&format!("Keys j, a, j: activate '{SECOND}' permanently"), vm);
    console.send("\r")?;
    console.expect("[y/N]", deadline(60))?;
    console.send("y\r")?;
    console.expect("boots from now on", deadline(120))?;
    console.expect("Press Enter", deadline(60))?;
    show("The plan, confirmed", vm);
    console.send("R")?;
    println!("\n4. Restart through the firmware");
    vm.ready_within(deadline(300)).context("waiting for the intact boot environment to boot")?;
    let running = vm.run("/usr/lib/lifeboat/be current")?.stdout;
    ensure!(running.trim() == SECOND, "'{}' booted instead of '{SECOND}'", running.trim());
    let target = vm.run("systemctl is-active multi-user.target")?.stdout;
    println!("\n'{SECOND}' is running, multi-user.target is {}", target.trim());
    print!("\n# be list\n{}", vm.run("/usr/lib/lifeboat/be list")?.stdout);
    Ok(())
}

/// Waits for the screen to be drawn.
fn settle() {
    std::thread::sleep(std::time::Duration::from_secs(2));
}

/// Prints what a terminal would show now.
fn show(title: &str, vm: &Machine) {
    println!("--- {title} {}", "-".repeat(74_usize.saturating_sub(title.len())));
    for line in screen::text(&vm.console().raw()) {
        println!("{line}");
    }
    println!("{}", "-".repeat(79));
}
