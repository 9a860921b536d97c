//! A boot environment becomes the next release of Debian while the old one serves.

use anyhow::{Context, Result, ensure};
use qemu::{Disk, Machine, Release, deadline};
use tests::prepared::{FIRST, SECOND, debian};
use tests::table::Scenario;
use tests::{BeCommands, repository, scenario};

use super::running::assert_confirmed;

pub const SCENARIOS: &[Scenario] =
    &[scenario!(a_release_is_upgraded_in_the_copy_while_the_old_one_serves, Release::Bookworm)];

/// Answers requests from the running system, with the repository among its files.
const SERVE: &str = "mkdir -p /run/www && \
    mount -o ro /dev/disk/by-id/virtio-repository /run/www && \
    systemd-run --quiet --unit=www busybox httpd -f -p 127.0.0.1:80 -h /run/www && \
    until busybox wget -q -O /dev/null http://127.0.0.1/debian/dists/trixie/main/binary-amd64/Packages; \
    do sleep 1; done";

/// Asks it again and again. Each line: whether it answered, and after how many milliseconds.
const ASK: &str = "systemd-run --quiet --unit=client sh -c 'while sleep 0.2; do \
    b=$(date +%s%N); r=ok; \
    busybox wget -q -O /dev/null http://127.0.0.1/debian/dists/trixie/main/binary-amd64/Packages \
    || r=failed; e=$(date +%s%N); echo $r $(( (e - b) / 1000000 )); done >/run/requests'";

fn a_release_is_upgraded_in_the_copy_while_the_old_one_serves(release: Release) -> Result<()> {
    let recipe = debian(release);
    let packages = repository::upgrade_to(&recipe, release, Release::Trixie)?;
    let vm =
        recipe.build()?.machine()?.disk(Disk::directory(packages).serial("repository")).start()?;
    vm.ready()?;
    vm.install_be()?;
    vm.run(SERVE)?;
    vm.run(
        "echo 'deb [trusted=yes] http://127.0.0.1/debian bookworm main' >/etc/apt/sources.list",
    )?;
    vm.run(
        "echo 'deb http://127.0.0.1/other bookworm stable' >/etc/apt/sources.list.d/other.list",
    )?;
    // A configuration file that both releases and the administrator have changed.
    vm.run("echo 'Authorized use only' >/etc/issue")?;
    vm.run(ASK)?;

    let before = vm.run("md5sum /var/lib/dpkg/status /etc/issue /etc/apt/sources.list")?.stdout;
    // One command and one reboot.
    let create = format!(
        "be create {SECOND} -m /:/dev/vda3:ext4 --current {FIRST} --release trixie --activate \
        --yes 2>&1"
    );
    let upgraded = vm.try_run_within(&create, deadline(9000))?;
    let report = upgraded.stdout;
    // 4 says that a script was refused something, which the report names.
    assert!([0, 4].contains(&upgraded.status), "{report}");
    assert!(report.contains("kept: /etc/issue"), "{report}");
    assert!(report.contains("http://127.0.0.1/other bookworm is switched off"), "{report}");
    let answers = vm.run("systemctl stop client; cat /run/requests")?.stdout;
    println!("while it was copied and upgraded: {}", requests(&answers)?);
    let after = vm.run("md5sum /var/lib/dpkg/status /etc/issue /etc/apt/sources.list")?.stdout;
    assert_eq!(before, after, "the running system is as it was");
    assert_eq!(vm.listed(SECOND, "OS")?, "Debian 13");
    assert_eq!(vm.listed(FIRST, "OS")?, "Debian 12");

    assert!(vm.run("efibootmgr")?.stdout.contains("Lifeboat: second (Debian 13)"));

    for (name, version) in [(SECOND, "13"), (FIRST, "12"), (SECOND, "13")] {
        if vm.environment(name)?["trial"] != "pending" {
            vm.be(&format!("activate {name} --yes"))?;
        }
        vm.reboot()?;
        assert_eq!(vm.current_be()?, name);
        assert_eq!(version_of(&vm)?, version);
        assert_confirmed(&vm, name)?;
    }
    // The oracles are Debian's own: no package is half installed, and nothing is missing.
    assert_eq!(vm.run("dpkg --audit && apt-get check -qq")?.stdout, "");
    assert_eq!(vm.run("cat /etc/issue")?.stdout, "Authorized use only\n");
    Ok(())
}

fn version_of(vm: &Machine) -> Result<String> {
    let text = vm.run("sed -n 's/^VERSION_ID=\"\\(.*\\)\"/\\1/p' /etc/os-release")?.stdout;
    Ok(text.trim().to_owned())
}

/// How many requests were answered, and how long the slowest took.
///
/// # Errors
/// One was not answered, or there are too few to say anything.
fn requests(answers: &str) -> Result<String> {
    let (mut count, mut slowest) = (0, 0);
    for line in answers.lines() {
        let (result, time) = line.split_once(' ').context("a line of the client")?;
        ensure!(result == "ok", "request {count} of {} failed", answers.lines().count());
        count += 1;
        slowest = slowest.max(time.parse::<u64>().context("milliseconds")?);
    }
    ensure!(count > 50, "only {count} requests");
    Ok(format!("{count} requests, 0 failed, the slowest took {slowest} ms"))
}
