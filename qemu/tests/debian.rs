//! Each release comes up through OVMF and GRUB, runs jobs, and is the same system after a restart.

use qemu::{Debian, Release, deadline};

#[test]
fn a_debian_boots_through_its_own_loader_and_runs_jobs() {
    for release in Release::ALL {
        let vm = Debian::new(release).build().unwrap().machine().unwrap().start().unwrap();
        vm.console().expect("GNU GRUB", deadline(60)).unwrap();
        vm.ready().unwrap();

        assert!(vm.run("cat /etc/os-release").unwrap().stdout.contains(release.name()));
        assert!(vm.run("efibootmgr").unwrap().stdout.contains("debian"));
        let failed = vm.try_run("echo out; echo err >&2; exit 7").unwrap();
        assert_eq!((failed.status, failed.stdout.as_str(), failed.stderr.as_str()), (7, "out\n", "err\n"));
        assert!(vm.login().unwrap().contains("Debian GNU/Linux comes with ABSOLUTELY NO WARRANTY"));

        vm.write("/root/kept", b"by the disk").unwrap();
        vm.reboot().unwrap();
        assert_eq!(vm.read("/root/kept").unwrap(), b"by the disk");
        assert_eq!(vm.run("systemctl is-system-running").unwrap().stdout, "running\n");

        let vm = vm.power_off().unwrap().start().unwrap();
        vm.ready().unwrap();
        assert_eq!(vm.read("/root/kept").unwrap(), b"by the disk");
    }
}
