//! Tricks with files: shell scripts that run at the root of a mounted system.

use fastrand::Rng;

use super::aims::Aims;

/// A trick, by a name for messages.
pub(super) struct Trick {
    pub(super) name: &'static str,
    pub(super) script: String,
}

/// A small system that is a BE.
pub(super) const SYSTEM: &str = r#"
mkdir -p etc/lifeboat etc/default boot/grub usr/lib/modules/6.1.0-1-amd64 usr/bin usr/sbin home proc sys dev run tmp
mkdir -p var/log root srv usr/lib64
ln -s usr/bin bin; ln -s usr/sbin sbin; ln -s usr/lib lib; ln -s usr/lib64 lib64
printf 'PRETTY_NAME="Debian GNU/Linux 12"\nID=debian\nVERSION_ID=12\n' >usr/lib/os-release
ln -s ../usr/lib/os-release etc/os-release
echo '/dev/lifeboat-none / auto defaults 0 1' >etc/fstab
echo root:x:0:0::/root:/bin/sh >etc/passwd
head -c 9000 /dev/zero | tr '\0' k >boot/vmlinuz-6.1.0-1-amd64
head -c 9000 /dev/zero | tr '\0' i >boot/initrd.img-6.1.0-1-amd64
: >usr/lib/modules/6.1.0-1-amd64/modules.dep
printf 'menuentry "Debian" {\n linux /boot/vmlinuz-6.1.0-1-amd64 root=UUID=1 ro\n initrd /boot/initrd.img-6.1.0-1-amd64\n}\n' >boot/grub/grub.cfg
printf 'format = 1\nid = "%s"\nname = "hostile-%s"\ncreated = "2026-11-23T06:12:00Z"\nstate = "complete"\n' \
    "$(cat /proc/sys/kernel/random/uuid)" "$$" >etc/lifeboat/environment.toml
"#;

/// A trick of this seed.
pub(super) fn trick(random: &mut Rng, aims: &Aims) -> Trick {
    let Aims { victim, victim_uuid, good_id, good_name, good_uuid } = aims;
    let victim = victim.display();
    let number = random.u32(..);
    let long = 1 + random.u32(..60_000);
    let mount_point =
        random.choice(["/var", "/srv", "/boot", "/usr", "/", "/etc", "/a/../..", "/dev"]);
    let mount_point = mount_point.unwrap_or("/var");
    let fs_type = random.choice(["ext4", "xfs", "btrfs", "auto", "swap", "none"]).unwrap_or("ext4");
    let descriptor = "etc/lifeboat/environment.toml";
    let all: Vec<(&'static str, String)> = vec![
        ("its descriptor claims the victim's UUID", format!(
            "echo 'made = [\"/\", \"/srv\", \"{victim_uuid}\", \"swap0\"]' >>{descriptor}; \
            echo 'UUID={victim_uuid} /srv ext4 defaults 0 2' >>etc/fstab")),
        ("its fstab names the victim by UUID", format!(
            "echo 'UUID={victim_uuid} {mount_point} {fs_type} defaults 0 2' >>etc/fstab; mkdir -p .{mount_point}")),
        ("its fstab names the victim by node", format!(
            "echo '{victim} {mount_point} {fs_type} defaults 0 2' >>etc/fstab; mkdir -p .{mount_point}")),
        ("its fstab names the good root", format!(
            "echo 'UUID={good_uuid} {mount_point} ext4 defaults 0 2' >>etc/fstab")),
        ("an option names the victim", format!(
            "echo '/dev/lifeboat-none / auto logdev={victim},rtdev={victim},journal_path={victim},device={victim} 0 1' >etc/fstab")),
        ("the victim is its swap", format!("echo 'UUID={victim_uuid} none swap sw 0 0' >>etc/fstab; \
            echo 'cryptswap {victim} /dev/urandom swap' >etc/crypttab")),
        ("it is an interrupted create", format!(
            "sed -i 's/^state.*/state = \"incomplete\"\\noperation = \"create\"/' {descriptor}; \
            echo 'made = [\"{victim_uuid}\", \"/srv\"]' >>{descriptor}")),
        ("it is an interrupted refresh", format!(
            "sed -i 's/^state.*/state = \"incomplete\"\\noperation = \"refresh\"/' {descriptor}")),
        ("it has the good id", format!("sed -i 's/^id.*/id = \"{good_id}\"/' {descriptor}")),
        ("it has the good name", format!("sed -i 's/^name.*/name = \"{good_name}\"/' {descriptor}")),
        ("it says that it was copied from the good one", format!("echo 'source = \"{good_id}\"' >>{descriptor}")),
        ("its descriptor is no TOML", format!("head -c {long} /dev/urandom >{descriptor}")),
        ("its descriptor is deep", format!(
            "printf 'format = 1\\nx = ' >{descriptor}; head -c {long} /dev/zero | tr '\\0' '[' >>{descriptor}")),
        ("its descriptor is of tomorrow", format!("echo 'format = {number}' >{descriptor}")),
        ("its descriptor shares everything", format!(
            "printf 'shared = [\"/\", \"/usr\", \"/etc/../..\", \"\\\\u001b[2J\"]\\n' >>{descriptor}")),
        ("its description steers the terminal", format!(
            "printf 'description = \"\\\\u001b]0;owned\\\\u0007\\\\u202e\\\\u009b2J\"\\n' >>{descriptor}")),
        ("its os-release steers the terminal",
            "printf 'PRETTY_NAME=\"\\033]0;owned\\007\\033[2J\\302\\2332J\\342\\200\\256\"\\nID=\\033c\\n' >usr/lib/os-release".into()),
        ("its names steer the terminal",
            "f=$(printf 'boot/vmlinuz-\\033[2J\\342\\200\\256'); cp boot/vmlinuz-* \"$f\"; printf 'host\\033[1m' >etc/hostname".into()),
        ("its fstab steers the terminal",
            "printf 'LABEL=\\033[2J /a\\\\\\\\033[2J ext4 \\033c 0 0\\n' >>etc/fstab".into()),
        ("its fstab is endless", format!(
            "for i in $(seq {}); do echo \"UUID=$i /srv/$i ext4 defaults 0 2\"; done >>etc/fstab", long / 20)),
        ("its fstab has one long line", format!("head -c {long} /dev/zero | tr '\\0' x >>etc/fstab")),
        ("its fstab is a fifo", "rm -f etc/fstab; mkfifo etc/fstab".into()),
        ("its os-release is endless", "rm -f usr/lib/os-release; mknod usr/lib/os-release c 1 5".into()),
        ("its machine-id is the watchdog", "mknod etc/machine-id c 10 130 || true".into()),
        ("its fstab is the victim", format!(
            "rm -f etc/fstab; mknod etc/fstab b $(stat -c '0x%t 0x%T' {victim})")),
        ("its grubenv is a block device", format!(
            "mknod boot/grub/grubenv b $(stat -c '0x%t 0x%T' {victim})")),
        ("etc leads to dev", "mv etc etc-is-here; ln -s /dev etc".into()),
        ("etc leads out", "mv etc etc-is-here; ln -s ../../../../../../etc etc".into()),
        ("boot leads out", "mv boot boot-is-here; ln -s ../../../../../../boot boot".into()),
        ("its descriptor leads out", format!("rm -f {descriptor}; ln -s /etc/passwd {descriptor}")),
        ("its descriptor's directory leads out", "mv etc/lifeboat x; ln -s /run etc/lifeboat".into()),
        ("its log leads out", "rm -rf var/log; ln -s /etc var/log".into()),
        ("links lead to each other", "rm -rf srv; ln -s srv2 srv; ln -s srv srv2; rm -f etc/fstab; ln -s fstab etc/fstab".into()),
        ("it has a setuid program", "cp /bin/true usr/bin/rootme; chmod 6755 usr/bin/rootme".into()),
        ("it has hooks", "mkdir -p etc/lifeboat/hooks.d/before-copy; printf '#!/bin/sh\\ntouch /lifeboat-was-here\\n' \
            >etc/lifeboat/hooks.d/before-copy/x; chmod 755 etc/lifeboat/hooks.d/before-copy/x".into()),
        ("it has ten thousand kernels", "cd boot; for i in $(seq 10000); do : >vmlinuz-$i; done".into()),
        ("it has a deep tree", "p=srv; for i in $(seq 300); do p=$p/d; done; mkdir -p $p".into()),
        ("its menu is deep", format!(
            "for i in $(seq {}); do printf 'submenu a {{ if [ 1 = 1 ]; then '; done >boot/grub/grub.cfg", long / 60)),
        ("its menu negates", format!(
            "printf 'if ' >boot/grub/grub.cfg; for i in $(seq {}); do printf '! '; done >>boot/grub/grub.cfg; \
            echo 'true; then x; fi' >>boot/grub/grub.cfg", long)),
        ("its menu runs commands", "printf 'menuentry \"$(touch /x)\" {\\n linux /../../../etc/shadow root=`id`\\n initrd /dev/zero\\n}\\n' >boot/grub/grub.cfg".into()),
        ("its loader entries are many", "mkdir -p boot/loader/entries; for i in $(seq 3000); do \
            printf 'title %s\\nlinux /vmlinuz\\n' $i >boot/loader/entries/$i.conf; done".into()),
        ("it lost its files", "rm -rf usr boot bin sbin lib lib64".into()),
        ("its manifest is a bomb", "mkdir -p var/lib/lifeboat; yes './a type=file' | sed '1s/.*/#mtree/' | \
            head -c 200000000 | zstd -q >var/lib/lifeboat/manifest.zst".into()),
        ("its manifest leads out", "mkdir -p var/lib; ln -s /etc var/lib/lifeboat".into()),
        ("its history is a device", "mknod etc/lifeboat/history.jsonl c 1 5".into()),
        ("it has holes", "truncate -s 3T var/holes; truncate -s 9000000 etc/lifeboat/huge".into()),
    ];
    let chosen = random.usize(..all.len());
    let (name, script) = all.into_iter().nth(chosen).unwrap_or(("nothing", String::new()));
    Trick { name, script }
}
