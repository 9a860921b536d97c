//! What a machine and a fixture promise, on real Debians.

use qemu::{Debian, Release, Result, deadline};

fn comes_up_and_runs_jobs(release: Release) -> Result<()> {
    let vm = Debian::new(release).build()?.machine()?.start()?;
    vm.console().expect("GNU GRUB", deadline(60))?;
    vm.ready()?;

    assert!(vm.run("cat /etc/os-release")?.stdout.contains(release.name()));
    assert!(vm.run("efibootmgr")?.stdout.contains("debian"));
    let failed = vm.try_run("echo out; echo err >&2; exit 7")?;
    assert_eq!((failed.status, failed.stdout.as_str(), failed.stderr.as_str()), (7, "out\n", "err\n"));
    assert!(vm.login()?.contains("Debian GNU/Linux comes with ABSOLUTELY NO WARRANTY"));

    vm.write("/root/kept", b"by the disk")?;
    vm.reboot()?;
    assert_eq!(vm.read("/root/kept")?, b"by the disk");
    assert_eq!(vm.run("systemctl is-system-running")?.stdout, "running\n");

    let vm = vm.power_off()?.start()?;
    vm.ready()?;
    assert_eq!(vm.read("/root/kept")?, b"by the disk");
    Ok(())
}

#[test]
fn bookworm_comes_up_through_its_own_loader_and_runs_jobs() -> Result<()> {
    comes_up_and_runs_jobs(Release::Bookworm)
}

#[test]
fn trixie_comes_up_through_its_own_loader_and_runs_jobs() -> Result<()> {
    comes_up_and_runs_jobs(Release::Trixie)
}
