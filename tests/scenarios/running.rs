//! Two boot environments on a running Debian.

use std::collections::BTreeSet;

use anyhow::Result;
use qemu::{Machine, Release, deadline};
use tests::prepared::{FIRST, SECOND, TwoEnvironments, fresh};
use tests::table::Scenario;
use tests::{BeCommands, scenario};

pub const SCENARIOS: &[Scenario] = &[
    scenario!(a_copy_is_created_tried_confirmed_and_deleted),
    scenario!(no_verb_writes_to_a_third_environment_with_a_dirty_journal),
    scenario!(only_files_named_in_the_plan_are_written_on_the_running_root),
    scenario!(reinstalling_grub_in_the_copy_leaves_the_primary_alone),
];

/// Files that may differ between a source and its copy. A `*` at the end matches anything.
const MAY_DIFFER: &[&str] = &[
    // Files that localize, update-grub, update-initramfs and debconf write.
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
    // Files that are never copied.
    "etc/lifeboat/environment.toml",
    "etc/lifeboat/history.jsonl",
    "tmp/*",
    "var/lib/lifeboat/*",
    "var/log/lifeboat/*",
];

/// Files that a running system writes: its journal, and the files of its timers.
const WRITTEN_BY_SYSTEM: &[&str] = &[
    "var/cache/apt/*",
    "var/lib/apt/daily_lock",
    "var/lib/apt/periodic/*",
    "var/backups/*",
    "var/lib/systemd/random-seed",
    "var/lib/systemd/timers/*",
    "var/lib/systemd/timesync/clock",
    "var/log/journal/*",
    "var/log/wtmp",
];

/// Directories on which another file system is mounted, in the source or in the copy, so that rsync
/// compares the root of that file system.
const MOUNT_POINTS: &[&str] = &["boot/efi/", "dev/", "mnt/", "proc/", "run/", "sys/", "tmp/"];

/// Directories in which files were created and removed again: by mkfs, by mkinitramfs, and
/// policy-rc.d while a program runs inside the copy.
const TEMPORARILY_CHANGED: &[&str] = &["lost+found/", "var/tmp/", "usr/sbin/"];

fn a_copy_is_created_tried_confirmed_and_deleted(release: Release) -> Result<()> {
    let vm = fresh(release)?;
    vm.be(&format!("create {SECOND} -m /:/dev/vda3:ext4 --current {FIRST} --yes"))?;
    assert_eq!(vm.current_be()?, FIRST);
    assert_same_files(&vm)?;
    assert_compared(&vm)?;
    // It is in the firmware's menu without an activation, but not before the existing entries.
    let entries = vm.run("efibootmgr -v")?.stdout;
    for name in [FIRST, SECOND] {
        let entry = entries.lines().find(|line| line.contains(&format!("Lifeboat: {name}")));
        // `Boot0003* Lifeboat: second`: the asterisk marks an active entry.
        assert_eq!(entry.and_then(|line| line.get(8..9)), Some("*"), "{entries}");
    }
    assert!(!order(&vm)?[0].contains("Lifeboat"), "{entries}");

    vm.be(&format!("activate {SECOND} --yes"))?;
    vm.reboot()?;
    assert_eq!(vm.current_be()?, SECOND);
    assert_confirmed(&vm, SECOND)?;

    vm.be(&format!("activate {FIRST} --yes"))?;
    vm.reboot()?;
    assert_eq!(vm.current_be()?, FIRST);
    assert_confirmed(&vm, FIRST)?;
    vm.reboot()?;
    assert_eq!(vm.current_be()?, FIRST);
    // While systemd mounts file systems, nothing of Lifeboat has the ESP mounted, too.
    vm.run(
        "until [ $(systemctl show -P ActiveState lifeboat-deadline) = inactive ]; do sleep 1; done; \
        test $(systemctl show -P ExecMainExitTimestampMonotonic lifeboat-deadline) -ge \
        $(systemctl show -P ActiveEnterTimestampMonotonic local-fs.target)",
    )?;

    vm.be(&format!("delete {SECOND} --yes"))?;
    let list = vm.be("list")?;
    assert!(!list.contains(SECOND), "{list}");
    assert!(!vm.run("efibootmgr -v")?.stdout.contains(&format!("Lifeboat: {SECOND}")));
    assert_eq!(vm.run("blkid -p -s TYPE -o value /dev/vda3 || true")?.stdout, "");
    Ok(())
}

/// Waits until the unit has confirmed the trial: the entry is first in `BootOrder`, and no trial is
/// left.
pub fn assert_confirmed(vm: &Machine, name: &str) -> Result<()> {
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

/// The lines of efibootmgr, in the order of BootOrder.
fn order(vm: &Machine) -> Result<Vec<String>> {
    let text = vm.run("efibootmgr")?.stdout;
    let numbers = text.lines().find_map(|l| l.strip_prefix("BootOrder: ")).unwrap_or_default();
    let line =
        |n: &str| text.lines().find(|l| l.starts_with(&format!("Boot{n}"))).unwrap_or(n).to_owned();
    Ok(numbers.split(',').map(line).collect())
}

/// Checks with rsync that the running system and its copy differ only where they may.
pub fn assert_same_files(vm: &Machine) -> Result<()> {
    vm.be(&format!("mount {SECOND} /mnt"))?;
    let command = "rsync -aHAXxn --checksum --numeric-ids --delete -i / /mnt/";
    let report = vm.run_within(command, deadline(900))?.stdout;
    vm.be(&format!("umount {SECOND}"))?;
    let unexpected: Vec<&str> = report.lines().filter(|line| !may_differ(line)).collect();
    assert!(unexpected.is_empty(), "{}", unexpected.join("\n"));
    Ok(())
}

/// Checks that `be compare` finds what rsync finds between the running system and its copy: what may
/// differ, the copy's own fstab among it, and no package.
fn assert_compared(vm: &Machine) -> Result<()> {
    let compared = vm.try_be(&format!("compare {FIRST} {SECOND} --content --json"))?;
    assert_eq!(compared.status, 5, "{compared:?}");
    let found: serde_json::Value = serde_json::from_str(&compared.stdout)?;
    let files = found["files"].as_array().cloned().unwrap_or_default();
    let paths: Vec<&str> = files.iter().filter_map(|file| file["path"].as_str()).collect();
    assert!(paths.contains(&"/etc/fstab"), "{found:#}");
    let unexpected: Vec<&&str> =
        paths.iter().filter(|path| !may_differ(path.trim_start_matches('/'))).collect();
    assert!(unexpected.is_empty(), "{unexpected:?}");
    assert_eq!(found["packages"], serde_json::json!([]));
    assert_eq!(found["warnings"], serde_json::json!([]));
    Ok(())
}

/// Whether a line of `rsync -i` reports a permitted difference.
fn may_differ(line: &str) -> bool {
    let (change, path) =
        line.split_once(' ').map_or(("", line), |(change, path)| (change, path.trim_start()));
    let contains_one_of = |files: &[&str]| {
        let directory = |file: &str| {
            file.trim_end_matches("/*")
                .rsplit_once('/')
                .map(|(directory, _)| format!("{directory}/"))
        };
        files.iter().any(|file| directory(file).is_some_and(|directory| directory == path))
    };
    let is_directory_time = change == ".d..t......"
        && (TEMPORARILY_CHANGED.contains(&path)
            || contains_one_of(MAY_DIFFER)
            || contains_one_of(WRITTEN_BY_SYSTEM));
    is_directory_time
        || MOUNT_POINTS.contains(&path)
        || matches_one(MAY_DIFFER, path)
        || matches_one(WRITTEN_BY_SYSTEM, path)
}

/// Whether a path without its leading slash matches one of these patterns.
fn matches_one(patterns: &[&str], path: &str) -> bool {
    patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(beginning) => path.starts_with(beginning),
        None => path == *pattern,
    })
}

/// Marks the time from which [`written_files`] reports files.
pub fn mark_time(vm: &Machine) -> Result<()> {
    vm.run("sync; touch /run/before; sleep 1")?;
    Ok(())
}

/// The files on the running root that were written by any process since [`mark_time`], except those
/// that the system itself writes.
pub fn written_files(vm: &Machine) -> Result<Vec<String>> {
    let files = vm.run("find / -xdev -newerct '@'$(stat -c %Z /run/before) ! -type d")?.stdout;
    let is_relevant = |path: &&str| !matches_one(WRITTEN_BY_SYSTEM, path.trim_start_matches('/'));
    Ok(files.lines().filter(is_relevant).map(str::to_owned).collect())
}

fn no_verb_writes_to_a_third_environment_with_a_dirty_journal(release: Release) -> Result<()> {
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
    // The number of the entry with this label, as a shell substitution.
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

fn only_files_named_in_the_plan_are_written_on_the_running_root(release: Release) -> Result<()> {
    let vm = fresh(release)?;
    let create = format!("be create {SECOND} -m /:/dev/vda3:ext4 --current {FIRST} --yes");
    let plan = vm.run(&format!("{create} --dry-run"))?.stdout;
    mark_time(&vm)?;
    vm.run_within(
        &format!(
            "strace -f -y --decode-pids=comm --seccomp-bpf -o /run/trace \
             -e trace=open,openat,openat2,creat,mkdirat,mkdir,unlinkat,renameat,renameat2,\
             linkat,symlinkat,mknodat {create}"
        ),
        deadline(1800),
    )?;
    // The trace is large, so the machine reduces it to the paths that `be` itself opened for
    // writing or changed the name of. Programs inside the copy use the copy's paths. A command's
    // control group lies in a hierarchy of the kernel, at no path of the running root.
    let traced = vm.run(
        "grep -E '^[0-9]+<be>' /run/trace | grep -vE '= -1 |\"(lifeboat-[0-9]+|cgroup.procs)\"' | \
         sed -E 's/symlinkat\\(\"[^\"]*\", \
        /symlinkat(/' | \
         grep -E 'O_WRONLY|O_RDWR|O_CREAT|O_TMPFILE|mkdir|unlink|rename|link|mknod' | \
         grep -oE '[0-9]+<[^>]*>|\"[^\"]*\"' | sed -E 's/^[0-9]+<//; s/>$//; s/\"//g' | grep '^/' \
         | sort -u",
    )?;
    let changed = written_files(&vm)?;
    let planned =
        |path: &str| plan.contains(path.trim_end_matches(".lifeboat-new").trim_start_matches('/'));
    let excluded = ["/run", "/proc", "/sys", "/dev", "/tmp", "/boot/efi", "/var/log/lifeboat"];
    let is_excluded = |path: &str| {
        excluded.iter().any(|p| {
            path.strip_prefix(p).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    };
    let is_directory_of_planned_file =
        |path: &str| plan.contains(&format!("{}/", path.trim_matches('/')));
    let traced = traced.stdout.lines().filter(|path| !is_directory_of_planned_file(path));
    let changed = changed.iter().map(String::as_str);
    let unnamed: BTreeSet<&str> =
        traced.chain(changed).filter(|path| !is_excluded(path) && !planned(path)).collect();
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
    assert_confirmed(&vm, SECOND)?;
    let after_switch = order(&vm)?;
    vm.run_within(
        "dpkg -i /srv/packages/grub-efi-amd64_*.deb /srv/packages/shim-signed_*.deb",
        deadline(600),
    )?;
    assert_eq!((vm.run(vendor)?.stdout, order(&vm)?), (before.0, after_switch));
    // The primary still boots through its original entry.
    let is_vendors = |line: &&String| line.contains("debian") && !line.contains("Lifeboat");
    let debian = order(&vm)?.iter().find(is_vendors).cloned().unwrap_or_default();
    vm.run(&format!("efibootmgr -n {}", &debian[4..8]))?;
    vm.reboot()?;
    assert_eq!(vm.current_be()?, FIRST);
    Ok(())
}
