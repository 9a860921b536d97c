use super::*;
use proptest::prelude::*;

/// As written by kernel-install of Debian 13.
const TRIXIE: &str = "\
# Boot Loader Specification type#1 entry
# File created by /usr/lib/kernel/install.d/90-loaderentry.install (systemd 257.8-1~deb13u2)
title      Debian GNU/Linux 13 (trixie)
version    6.12.48+deb13-amd64
machine-id 3b7c1e5c9f2f4c2ab4d0f4c8f2f0a1aa
sort-key   debian
options    root=UUID=8a4e39a8-0c2f-4b8e-9d5b-2f1b6a7c9d11 ro quiet systemd.machine_id=3b7c1e5c9f2f4c2ab4d0f4c8f2f0a1aa
linux      /lifeboat-2f0c1a94/6.12.48+deb13-amd64/linux
initrd     /lifeboat-2f0c1a94/6.12.48+deb13-amd64/initrd.img-6.12.48+deb13-amd64
";

#[test]
fn an_entry_of_kernel_install_is_parsed() {
    let entry = Entry::parse("lifeboat-2f0c1a94-6.12.48+deb13-amd64+3.conf", TRIXIE).unwrap();
    assert_eq!(entry.id, "lifeboat-2f0c1a94-6.12.48+deb13-amd64");
    assert_eq!(entry.tries, Some(Tries { left: 3, done: 0 }));
    assert_eq!(entry.title.as_deref(), Some("Debian GNU/Linux 13 (trixie)"));
    assert_eq!(entry.sort_key.as_deref(), Some("debian"));
    assert_eq!(entry.initrd.len(), 1);
    assert!(entry.linux.unwrap().ends_with("/linux"));
    assert!(entry.options.starts_with("root=UUID=8a4e"));
}

#[test]
fn options_and_initrd_may_be_repeated() {
    let text = "linux\t/l\ninitrd /ucode\ninitrd /main\noptions a=1\noptions  b\nunknown x\n";
    let entry = Entry::parse("a.conf", text).unwrap();
    assert_eq!(entry.initrd, ["/ucode", "/main"]);
    assert_eq!(entry.options, "a=1 b");
    assert_eq!(Entry::parse("a.conf", "title nothing to boot\n"), None);
}

/// As written by grubby of RHEL 8, and by tuned of Fedora 41 in its second initramfs.
const RHEL8: &str = "\
title Red Hat Enterprise Linux (4.18.0-553.el8_10.x86_64) 8.10 (Ootpa)
version 4.18.0-553.el8_10.x86_64
linux /vmlinuz-4.18.0-553.el8_10.x86_64
initrd /initramfs-4.18.0-553.el8_10.x86_64.img $tuned_initrd
options $kernelopts $tuned_params
id rhel-20240508151516-4.18.0-553.el8_10.x86_64
grub_users $grub_users
";

#[test]
fn variables_of_grub_are_replaced() {
    let entry = Entry::parse("0123-4.18.0-553.el8_10.x86_64.conf", RHEL8).unwrap();
    assert_eq!(entry.initrd, ["/initramfs-4.18.0-553.el8_10.x86_64.img", "$tuned_initrd"]);
    let with = |variables: &[(&str, &str)]| {
        entry.with_variables(|name| {
            let found = variables.iter().find(|(other, _)| *other == name);
            found.map_or_else(String::new, |(_, value)| (*value).to_owned())
        })
    };
    let plain = with(&[("kernelopts", "root=UUID=1 ro crashkernel=auto ")]);
    assert_eq!(plain.initrd, ["/initramfs-4.18.0-553.el8_10.x86_64.img"]);
    assert_eq!(plain.options, "root=UUID=1 ro crashkernel=auto");
    let tuned = with(&[
        ("kernelopts", "root=UUID=1"),
        ("tuned_params", "isolcpus=2"),
        ("tuned_initrd", "/a.img /b.img"),
    ]);
    assert_eq!(tuned.initrd.len(), 3);
    assert_eq!(tuned.options, "root=UUID=1 isolcpus=2");
    assert_eq!(tuned.linux, entry.linux);
    let braced = Entry::parse("a.conf", "linux $dir/l\noptions a=${b}c $ ${open\n").unwrap();
    let braced = braced.with_variables(|name| format!("<{name}>"));
    assert_eq!(braced.linux.as_deref(), Some("<dir>/l"));
    assert_eq!(braced.options, "a=<b>c <> <>{open");
}

#[test]
fn counters_are_read_from_the_file_name() {
    let tries = |left, done| Some(Tries { left, done });
    let cases = [
        ("a.conf", "a", None),
        ("a+3.conf", "a", tries(3, 0)),
        ("a+2-1.conf", "a", tries(2, 1)),
        ("a+0-3.conf", "a", tries(0, 3)),
        ("6.1+deb.conf", "6.1+deb", None),
        ("a++3.conf", "a+", tries(3, 0)),
        ("6.1+deb+1.conf", "6.1+deb", tries(1, 0)),
    ];
    for (file, id, tries) in cases {
        let entry = Entry::parse(file, "linux /l").unwrap();
        assert_eq!((entry.id.as_str(), entry.tries), (id, tries), "{file}");
        assert_eq!(entry.file_name(), file);
    }
    for file in ["a", "a.efi", ".conf", "+1.conf"] {
        assert_eq!(Entry::parse(file, "linux /l"), None, "{file}");
    }
}

#[test]
fn the_newest_good_entry_is_first() {
    let entry = |file: &str, key: &str, version: &str| {
        let key = if key.is_empty() { String::new() } else { format!("sort-key {key}\n") };
        Entry::parse(file, &format!("linux /l\n{key}version {version}\n")).unwrap()
    };
    let mut entries = [
        entry("z-6.1.0-10.conf", "", "6.1.0-10"),
        entry("bad+0-3.conf", "aaa", "9"),
        entry("z-6.1.0-9.conf", "", "6.1.0-9"),
        entry("old.conf", "debian", "6.1.0-9"),
        entry("new.conf", "debian", "6.1.0-10"),
        entry("arch.conf", "arch", "1"),
    ];
    sort(&mut entries);
    let ids: Vec<_> = entries.iter().map(|entry| entry.id.as_str()).collect();
    assert_eq!(ids, ["arch", "new", "old", "z-6.1.0-10", "z-6.1.0-9", "bad"]);
}

#[test]
fn versions_compare_as_the_specification_says() {
    let ordered =
        ["6.1~rc1", "6.1", "6.1-1", "6.1.0-9-amd64", "6.1.0-10-amd64", "6.12.48+deb13-amd64"];
    for pair in ordered.windows(2) {
        assert_eq!(compare_versions(pair[0], pair[1]), Ordering::Less, "{pair:?}");
    }
}

proptest! {
    #[test]
    fn any_text_is_parsed_without_a_panic(
        file in any::<String>(),
        text in any::<String>(),
        versions in any::<[String; 2]>(),
    ) {
        if let Some(entry) = Entry::parse(&format!("{file}.conf"), &text) {
            let _ = entry.with_variables(|name| name.to_owned());
        }
        let [a, b] = versions;
        prop_assert_eq!(compare_versions(&a, &b), compare_versions(&b, &a).reverse());
    }
}
