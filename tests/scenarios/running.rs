//! Two boot environments on a Debian that runs.

use std::collections::BTreeSet;

use anyhow::Result;
use qemu::{Machine, Release, deadline};
use tests::prepared::{FIRST, SECOND, TwoEnvironments, fresh};
use tests::table::Scenario;
use tests::{BeWords, scenario};

pub const SCENARIOS: &[Scenario] = &[
    scenario!(a_copy_is_created_tried_confirmed_and_left_again),
    scenario!(every_verb_leaves_a_third_dirty_environment_alone),
    scenario!(only_what_the_plan_names_is_written_on_the_running_root),
    scenario!(reinstalling_grub_in_the_copy_leaves_the_primary_alone),
];

/// Files that may differ between a source and its copy; a `*` at the end stands for anything.
const DIFFERS: &[&str] = &[
    // What localize changes, and what update-grub, update-initramfs and debconf make of it.
    "boot/grub/grub.cfg",
    "boot/grub/grubenv",
    "boot/grub/x86_64-efi/core.efi",
    "boot/initrd.img-*",
    "etc/default/grub.d/lifeboat.cfg",
    "etc/fstab",
    "etc/initramfs-tools/conf.d/resume",
    "var/cache/debconf/config.dat*",
    "var/cache/debconf/passwords.dat*",
    "var/cache/debconf/templates.dat*",
    "var/lib/initramfs-tools/*",
    // What is never copied.
    "etc/lifeboat/environment.toml",
    "tmp/*",
    "var/lib/lifeboat/*",
    "var/log/lifeboat/*",
];

/// What a running system writes by itself: its journal, and what its timers do and note.
const SYSTEMS_OWN: &[&str] = &[
    "var/backups/*",
    "var/lib/systemd/random-seed",
    "var/lib/systemd/timers/*",
    "var/lib/systemd/timesync/clock",
    "var/log/journal/*",
    "var/log/wtmp",
];

/// Directories on which another file system is mounted, in the source or in the copy: seen is that
/// one's own directory.
const MOUNT_POINTS: &[&str] = &["boot/efi/", "dev/", "mnt/", "proc/", "run/", "sys/", "tmp/"];

/// Directories in which something was made and is gone again: by mkfs, by mkinitramfs, and
/// policy-rc.d while a program runs inside.
const PASSED_THROUGH: &[&str] = &["lost+found/", "var/tmp/", "usr/sbin/"];

fn a_copy_is_created_tried_confirmed_and_left_again(release: Release) -> Result<()> {
    let vm = fresh(release)?;
    vm.be(&format!("create {SECOND} -m /:/dev/vda3:ext4 --current {FIRST} --yes"))?;
    assert_eq!(vm.current_be()?, FIRST);
    same_files(&vm)?;
    // In the firmware's menu without an activation, and not before what was there.
    let entries = vm.run("efibootmgr -v")?.stdout;
    for name in [FIRST, SECOND] {
        let entry = entries.lines().find(|line| line.contains(&format!("Lifeboat: {name}")));
        // `Boot0003* Lifeboat: second`: the asterisk is said of one that is active.
        assert_eq!(entry.and_then(|line| line.get(8..9)), Some("*"), "{entries}");
    }
    assert!(!order(&vm)?[0].contains("Lifeboat"), "{entries}");

    vm.be(&format!("activate {SECOND} --yes"))?;
    vm.reboot()?;
    assert_eq!(vm.current_be()?, SECOND);
    confirmed(&vm, SECOND)?;

    vm.be(&format!("activate {FIRST} --yes"))?;
    vm.reboot()?;
    assert_eq!(vm.current_be()?, FIRST);
    confirmed(&vm, FIRST)?;
    vm.reboot()?;
    assert_eq!(vm.current_be()?, FIRST);

    vm.be(&format!("delete {SECOND} --yes"))?;
    let list = vm.be("list")?;
    assert!(!list.contains(SECOND), "{list}");
    assert!(!vm.run("efibootmgr -v")?.stdout.contains(&format!("Lifeboat: {SECOND}")));
    assert_eq!(vm.run("blkid -p -s TYPE -o value /dev/vda3 || true")?.stdout, "");
    Ok(())
}

/// The unit has made it permanent: first in `BootOrder`, no trial left.
pub fn confirmed(vm: &Machine, name: &str) -> Result<()> {
    vm.run_within(
        "for i in $(seq 60); do systemctl is-active -q lifeboat-confirm.service && exit 0; sleep \
        1; done; \
         systemctl status lifeboat-confirm.service; exit 1",
        deadline(120),
    )?;
    let first = order(vm)?.remove(0);
    assert!(first.contains(&format!("Lifeboat: {name}")), "{first} is first in BootOrder");
    let list = vm.be_json("list")?;
    let environments = list["environments"].as_array().cloned().unwrap_or_default();
    assert!(environments.iter().all(|e| e["trial"].is_null()), "{list:#}");
    Ok(())
}

/// The lines of efibootmgr in the order of BootOrder.
fn order(vm: &Machine) -> Result<Vec<String>> {
    let text = vm.run("efibootmgr")?.stdout;
    let numbers = text.lines().find_map(|l| l.strip_prefix("BootOrder: ")).unwrap_or_default();
    let line =
        |n: &str| text.lines().find(|l| l.starts_with(&format!("Boot{n}"))).unwrap_or(n).to_owned();
    Ok(numbers.split(',').map(line).collect())
}

/// rsync finds no difference between the running system and its copy but those that have a reason.
pub fn same_files(vm: &Machine) -> Result<()> {
    vm.be(&format!("mount {SECOND} /mnt"))?;
    let command = "rsync -aHAXxn --checksum --numeric-ids --delete -i / /mnt/";
    let report = vm.run_within(command, deadline(900))?.stdout;
    vm.be(&format!("umount {SECOND}"))?;
    let unexpected: Vec<&str> = report.lines().filter(|line| !may_differ(line)).collect();
    assert!(unexpected.is_empty(), "{}", unexpected.join("\n"));
    Ok(())
}

/// Whether a line of `rsync -i` has a reason.
fn may_differ(line: &str) -> bool {
    let (change, path) =
        line.split_once(' ').map_or(("", line), |(change, path)| (change, path.trim_start()));
    let has_one_of = |files: &[&str]| {
        let directory = |file: &str| {
            file.trim_end_matches("/*")
                .rsplit_once('/')
                .map(|(directory, _)| format!("{directory}/"))
        };
        files.iter().any(|file| directory(file).is_some_and(|directory| directory == path))
    };
    let is_directory_time = change == ".d..t......"
        && (PASSED_THROUGH.contains(&path) || has_one_of(DIFFERS) || has_one_of(SYSTEMS_OWN));
    is_directory_time
        || MOUNT_POINTS.contains(&path)
        || named(DIFFERS, path)
        || named(SYSTEMS_OWN, path)
}

/// Whether a path without its first slash is one of these.
fn named(files: &[&str], path: &str) -> bool {
    files.iter().any(|file| match file.strip_suffix('*') {
        Some(beginning) => path.starts_with(beginning),
        None => path == *file,
    })
}

/// From here on [`written`] sees what is written on the running root.
pub fn watch(vm: &Machine) -> Result<()> {
    vm.run("sync; touch /run/before; sleep 1")?;
    Ok(())
}

/// The files of the running root that were written since [`watch`], whoever did it, but for what
/// the system writes by itself.
pub fn written(vm: &Machine) -> Result<Vec<String>> {
    let files = vm.run("find / -xdev -newerct '@'$(stat -c %Z /run/before) ! -type d")?.stdout;
    let of_others = |path: &&str| !named(SYSTEMS_OWN, path.trim_start_matches('/'));
    Ok(files.lines().filter(of_others).map(str::to_owned).collect())
}

fn every_verb_leaves_a_third_dirty_environment_alone(release: Release) -> Result<()> {
    let vm = fresh(release)?;
    vm.run(
        "sync && mkfs.ext4 -q /dev/vda4 && mount /dev/vda4 /mnt && mkdir -p /mnt/etc /mnt/usr/lib \
        /mnt/boot && \
         cp /usr/lib/os-release /mnt/usr/lib/ && ln -s ../usr/lib/os-release /mnt/etc/os-release \
         && \
         echo third > /mnt/etc/hostname && sync -f /mnt && echo more > /mnt/etc/motd && sync \
         /mnt/etc/motd",
    )?;
    let before = vm.boot_id()?;
    vm.reset()?;
    vm.next_boot(&before, deadline(240))?;
    vm.run("dumpe2fs -h /dev/vda4 2>/dev/null | grep -q needs_recovery")?;
    let hash = || vm.run_within("sha256sum /dev/vda4", deadline(300)).map(|o| o.stdout);
    let untouched = hash()?;
    // The one that has this label, as an argument.
    let entry =
        |label: &str| format!("$(efibootmgr | sed -n 's/^Boot\\(....\\).*{label}.*/\\1/p')");
    for verb in [
        format!("adopt {FIRST} --yes"),
        format!("create {SECOND} -m /:/dev/vda3:ext4 --yes"),
        "list".to_owned(),
        "current".into(),
        "check @vda4 || true".into(),
        "filesystems @vda4".into(),
        format!("mount {SECOND} /mnt"),
        format!("umount {SECOND}"),
        format!("run {SECOND} -- true"),
        format!("describe {SECOND} 'for the test'"),
        format!("rename {SECOND} other"),
        format!("rename other {SECOND}"),
        format!("activate {SECOND} --yes"),
        format!("activate {FIRST} --permanent --yes"),
        "confirm".into(),
        format!("refresh {SECOND} --yes"),
        "boot-entries".into(),
        "boot-entries add spare /boot/efi/EFI/debian/shimx64.efi".into(),
        format!("boot-entries order {} {} --yes", entry(FIRST), entry(SECOND)),
        format!("boot-entries next {}", entry("spare")),
        format!("boot-entries remove {} --foreign --yes", entry("spare")),
        format!("create {SECOND} --replace {SECOND} --dry-run"),
        format!("delete {SECOND} --yes"),
    ] {
        vm.be(&verb)?;
    }
    assert!(vm.be("list")?.contains("@vda4"));
    assert_eq!(hash()?, untouched);
    Ok(())
}

fn only_what_the_plan_names_is_written_on_the_running_root(release: Release) -> Result<()> {
    let vm = fresh(release)?;
    let create = format!("be create {SECOND} -m /:/dev/vda3:ext4 --current {FIRST} --yes");
    let plan = vm.run(&format!("{create} --dry-run"))?.stdout;
    watch(&vm)?;
    vm.run_within(
        &format!(
            "strace -f -y --decode-pids=comm --seccomp-bpf -o /run/trace \
             -e trace=open,openat,openat2,creat,mkdirat,mkdir,unlinkat,renameat,renameat2,linkat,symlinkat,mknodat {create}"
        ),
        deadline(1800),
    )?;
    // The trace is large: what `be` itself opened for writing, or made a name in, comes out of the
    // machine. What runs inside the copy calls its files by the copy's paths.
    let traced = vm.run(
        "grep -E '^[0-9]+<be>' /run/trace | grep -vE '= -1 ' | sed -E 's/symlinkat\\(\"[^\"]*\", \
        /symlinkat(/' | \
         grep -E 'O_WRONLY|O_RDWR|O_CREAT|O_TMPFILE|mkdir|unlink|rename|link|mknod' | \
         grep -oE '[0-9]+<[^>]*>|\"[^\"]*\"' | sed -E 's/^[0-9]+<//; s/>$//; s/\"//g' | grep '^/' \
         | sort -u",
    )?;
    let changed = written(&vm)?;
    let planned =
        |path: &str| plan.contains(path.trim_end_matches(".lifeboat-new").trim_start_matches('/'));
    let elsewhere = ["/run", "/proc", "/sys", "/dev", "/tmp", "/boot/efi", "/var/log/lifeboat"];
    let is_elsewhere = |path: &str| {
        elsewhere.iter().any(|p| {
            path.strip_prefix(p).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    };
    let is_directory_of_a_planned_one =
        |path: &str| plan.contains(&format!("{}/", path.trim_matches('/')));
    let traced = traced.stdout.lines().filter(|path| !is_directory_of_a_planned_one(path));
    let changed = changed.iter().map(String::as_str);
    let unnamed: BTreeSet<&str> =
        traced.chain(changed).filter(|path| !is_elsewhere(path) && !planned(path)).collect();
    assert!(unnamed.is_empty(), "not in the plan:\n{unnamed:#?}\n{plan}");
    Ok(())
}

fn reinstalling_grub_in_the_copy_leaves_the_primary_alone(release: Release) -> Result<()> {
    let vm = TwoEnvironments::on(release)?.machine()?.start()?;
    vm.ready()?;
    let vendor =
        "cd /boot/efi/EFI && find debian BOOT -type f -exec sha256sum {} + 2>/dev/null | sort";
    let before = (vm.run(vendor)?.stdout, order(&vm)?);
    assert!(before.0.contains("shimx64.efi"), "{}", before.0);
    vm.be(&format!(
        "run {SECOND} -- sh -c 'dpkg -i /srv/packages/grub-efi-amd64_*.deb \
        /srv/packages/shim-signed_*.deb'"
    ))?;
    assert_eq!((vm.run(vendor)?.stdout, order(&vm)?), before);

    vm.be(&format!("activate {SECOND} --yes"))?;
    vm.reboot()?;
    confirmed(&vm, SECOND)?;
    let after_switch = order(&vm)?;
    vm.run_within(
        "dpkg -i /srv/packages/grub-efi-amd64_*.deb /srv/packages/shim-signed_*.deb",
        deadline(600),
    )?;
    assert_eq!((vm.run(vendor)?.stdout, order(&vm)?), (before.0, after_switch));
    // The primary still boots as it did before Lifeboat came.
    let is_vendors = |line: &&String| line.contains("debian") && !line.contains("Lifeboat");
    let debian = order(&vm)?.iter().find(is_vendors).cloned().unwrap_or_default();
    vm.run(&format!("efibootmgr -n {}", &debian[4..8]))?;
    vm.reboot()?;
    assert_eq!(vm.current_be()?, FIRST);
    Ok(())
}
