use super::*;
use crate::bls;
use proptest::prelude::*;

/// Written by update-grub of each release, with two kernels installed.
const BOOKWORM: &str = include_str!("fixtures/bookworm.cfg");
const TRIXIE: &str = include_str!("fixtures/trixie.cfg");

fn environment(variables: &[(&str, &str)]) -> EnvironmentBlock {
    let mut block = EnvironmentBlock::new();
    for (name, value) in variables {
        block.set(name, value).unwrap();
    }
    block
}

fn default_of(cfg: &str, variables: &[(&str, &str)]) -> String {
    let entry = default_entry(cfg, &environment(variables));
    entry.map_or_else(|| "none".to_owned(), |entry| entry.title)
}

#[test]
fn the_default_entry_of_debian_12_is_found() {
    let entry = default_entry(BOOKWORM, &EnvironmentBlock::new()).unwrap();
    let uuid = "4ca5c7f1-245b-4fff-a08e-e44d94f49f62";
    let expected = Entry {
        title: "Debian GNU/Linux".into(),
        id: Some(format!("gnulinux-simple-{uuid}")),
        linux: "/boot/vmlinuz-6.1.0-50-cloud-amd64".into(),
        initrd: vec!["/boot/initrd.img-6.1.0-50-cloud-amd64".into()],
        options: format!("root=UUID={uuid} ro quiet"),
        root_uuid: Some(uuid.into()),
        entry_file: None,
    };
    assert_eq!(entry, expected);
    let menu = Menu::parse(BOOKWORM, &EnvironmentBlock::new());
    assert_eq!((menu.items.len(), menu.entries().len(), menu.default.as_str()), (2, 5, "0"));
}

#[test]
fn the_menu_of_debian_13_is_read() {
    let menu = Menu::parse(TRIXIE, &EnvironmentBlock::new());
    let titles: Vec<_> = menu.items.iter().map(|item| item.title.as_str()).collect();
    assert_eq!(
        titles,
        ["Debian GNU/Linux", "Advanced options for Debian GNU/Linux", "UEFI Firmware Settings"]
    );
    assert_eq!(menu.items[2].action, Action::Other);
    assert_eq!(menu.items[2].id.as_deref(), Some("uefi-firmware"));
    let entries = menu.entries();
    assert_eq!(entries.len(), 5);
    assert!(entries.iter().all(|entry| entry.root_uuid.is_some() && entry.initrd.len() == 1));
    assert!(entries[2].title.ends_with("(recovery mode)"));
    assert!(entries[2].options.ends_with("ro single dis_ucode_ldr"));
    assert_eq!(menu.default_entry(), Some(entries[0]));
}

#[test]
fn grub_reboot_and_saved_entries_choose_the_default() {
    let advanced = "gnulinux-advanced-30a90c04-7797-48af-ade1-c0779d3c5675";
    let cloud = "gnulinux-6.12.107+deb13-cloud-amd64-advanced-30a90c04-7797-48af-ade1-c0779d3c5675";
    let cloud_title = "Debian GNU/Linux, with Linux 6.12.107+deb13-cloud-amd64";
    let saved = TRIXIE.replace(r#"set default="0""#, r#"set default="${saved_entry}""#);
    assert_eq!(default_of(TRIXIE, &[("saved_entry", "1>2")]), "Debian GNU/Linux");
    assert_eq!(default_of(TRIXIE, &[("next_entry", "1>2")]), cloud_title);
    for choice in [
        "1>2".to_owned(),
        format!("{advanced}>{cloud}"),
        format!("Advanced options for Debian GNU/Linux>{cloud_title}"),
    ] {
        assert_eq!(default_of(&saved, &[("saved_entry", &choice)]), cloud_title, "{choice}");
    }
    let first_below = "Debian GNU/Linux, with Linux 6.12.107+deb13-old-amd64";
    for (choice, title) in [
        ("", "Debian GNU/Linux"),
        ("9", "Debian GNU/Linux"),
        ("1", first_below),
        ("uefi-firmware", "none"),
    ] {
        assert_eq!(default_of(&saved, &[("saved_entry", choice)]), title, "{choice}");
    }
    assert_eq!(
        default_of(&saved, &[("saved_entry", "0"), ("prev_saved_entry", "1>2")]),
        "Debian GNU/Linux"
    );
}

/// The beginning and the middle of the grub.cfg of RHEL 8 and Fedora.
const BLSCFG: &str = r#"
if [ -f ${config_directory}/grubenv ]; then
  load_env -f ${config_directory}/grubenv
elif [ -s $prefix/grubenv ]; then
  load_env
fi
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
else
   set default="${saved_entry}"
fi
insmod part_gpt
search --no-floppy --fs-uuid --set=root 7e11-boot
if [ -z "${kernelopts}" ]; then
  set kernelopts="root=UUID=from-the-script ro "
fi
insmod blscfg
blscfg
menuentry 'UEFI Firmware Settings' $menuentry_id_option 'uefi-firmware' { fwsetup }
"#;

fn boot_loader_entries() -> Vec<bls::Entry> {
    let entry = |version: &str| {
        let text = format!(
            "title Red Hat ({version})\nversion {version}\nlinux /vmlinuz-{version}\ninitrd \
            /initramfs-{version}.img $tuned_initrd\noptions $kernelopts $tuned_params\n"
        );
        bls::Entry::parse(&format!("0123-{version}.conf"), &text).unwrap()
    };
    ["0-rescue-0123", "4.18.0-80.el8", "4.18.0-553.el8"].map(entry).into()
}

#[test]
fn boot_loader_entries_are_in_the_menu_of_blscfg() {
    let menu = |variables: &[(&str, &str)]| {
        Menu::parse_with_entries(BLSCFG, &environment(variables), &boot_loader_entries())
    };
    let kernel = |variables: &[(&str, &str)]| {
        let menu = menu(variables);
        let entry = menu.default_entry().unwrap();
        (entry.linux.clone(), entry.options.clone())
    };
    let newest = "/vmlinuz-4.18.0-553.el8".to_owned();
    assert_eq!(kernel(&[]), (newest.clone(), "root=UUID=from-the-script ro".to_owned()));
    assert_eq!(
        kernel(&[("kernelopts", "root=UUID=env"), ("tuned_params", "isolcpus=1")]),
        (newest.clone(), "root=UUID=env isolcpus=1".to_owned())
    );
    for saved in ["0123-4.18.0-80.el8", "1", "Red Hat (4.18.0-80.el8)"] {
        assert_eq!(kernel(&[("saved_entry", saved)]).0, "/vmlinuz-4.18.0-80.el8", "{saved}");
    }
    assert_eq!(kernel(&[("saved_entry", "gone")]).0, newest);
    let menu = menu(&[("tuned_initrd", "/tuned.img")]);
    let entry = menu.default_entry().unwrap();
    assert_eq!(entry.initrd, ["/initramfs-4.18.0-553.el8.img", "/tuned.img"]);
    assert_eq!(entry.entry_file.as_deref(), Some("0123-4.18.0-553.el8.conf"));
    assert_eq!(entry.root_uuid.as_deref(), Some("7e11-boot"));
    assert_eq!(menu.entries().last().unwrap().linux, "/vmlinuz-0-rescue-0123");
    assert_eq!(menu.items.len(), 4);
}

#[test]
fn an_entry_with_search_hints_and_two_initrds_is_read() {
    let cfg = r#"
menuentry "A \"quoted\" title" --unrestricted --hotkey=a --id=one {
	insmod part_gpt
	set root='hd0,gpt2'
	if [ x$feature_platform_search_hint = xy ]; then
	  search --no-floppy --fs-uuid --set=root --hint-bios=hd0,gpt2 --hint-efi=hd0,gpt2  8a4e39a8-0c2f
	else
	  search --no-floppy --fs-uuid --set=root 8a4e39a8-0c2f
	fi
	linux	/vmlinuz root=/dev/mapper/vg-root ro rootflags=subvol=@ dyndbg="file a +p"
	initrd	/ucode.img \
		/initrd.img
}"#;
    let entry = default_entry(cfg, &EnvironmentBlock::new()).unwrap();
    assert_eq!(entry.title, r#"A "quoted" title"#);
    assert_eq!(entry.id.as_deref(), Some("one"));
    assert_eq!(entry.root_uuid.as_deref(), Some("8a4e39a8-0c2f"));
    assert_eq!(
        entry.options,
        r#"root=/dev/mapper/vg-root ro rootflags=subvol=@ "dyndbg=file a +p""#
    );
    assert_eq!(entry.initrd, ["/ucode.img", "/initrd.img"]);
}

#[test]
fn conditions_and_words_are_evaluated_as_in_grub() {
    let cases = [
        ("if true; then set default=1; fi", "1"),
        (
            "if false; then set default=1; elif [ a = a ]; then set default=2; else set \
            default=3; fi",
            "2",
        ),
        ("if ! false; then set default=1; fi", "1"),
        ("if [ a != a -o b = b ]; then set default=1; fi", "1"),
        ("if [ ! -z x -a 2 -lt 10 ]; then set default=1; fi", "1"),
        ("a='1 2'; set default=x$a", "x1"),
        ("a='1 2'; set default=\"x$a\"", "x1 2"),
        ("a=1; set default=${a}${b}$a # no more", "11"),
        ("set default='$a' ; unset a", "$a"),
        ("function f { set default=1 }\nset default=2", "2"),
        ("function f {\nset default=1\n}\nset default=2", "2"),
        ("for i in 1 2; do set default=$i; done; while true; do set default=9; done", ""),
        ("menuentry x { set default=5; }", ""),
    ];
    for (cfg, default) in cases {
        assert_eq!(Menu::parse(cfg, &EnvironmentBlock::new()).default, default, "{cfg}");
    }
}

#[test]
fn hostile_scripts_terminate() {
    let nested = "if true; then submenu x {\n".repeat(50_000);
    let doubled =
        format!("set a={}\n{}", "x".repeat(4000), "set b=\"$a$a$a\" c=$b$b\n".repeat(20_000));
    let entries = format!(
        "{}{}",
        "set v=1 w=2\n".repeat(10_000),
        "menuentry x { set v=3\n}\n".repeat(10_000)
    );
    for cfg in [nested, doubled, entries, "{".repeat(100_000), "}\nfi\ndone\n".repeat(10_000)] {
        let _ = Menu::parse(&cfg, &EnvironmentBlock::new());
    }
}

#[test]
fn any_number_of_negations_is_evaluated() {
    for (count, default) in [(100_000, ""), (100_001, "1")] {
        let not = "! ".repeat(count);
        for condition in [format!("{not}false"), format!("[ {not}-z x ]")] {
            let cfg = format!("if {condition}; then set default=1; fi");
            let menu = Menu::parse(&cfg, &EnvironmentBlock::new());
            assert_eq!(menu.default, default, "{count} before {}", &condition[2 * count..]);
        }
    }
}

#[test]
fn a_block_that_is_loaded_on_every_line_is_not_kept_every_time() {
    let value = "x".repeat(900);
    let block = environment(&[("a", &value)]);
    let loads = 300_000 / "load_env\n".len();
    let cfg = format!("{}set default=$a\n", "load_env\n".repeat(loads));
    assert_eq!(Menu::parse(&cfg, &block).default, "", "what may be expanded is used up");
    let cfg = "load_env other\nload_env a other\nset default=$a\n";
    assert_eq!(Menu::parse(cfg, &block).default, value);
}

proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(text in any::<String>()) {
        let _ = default_entry(&text, &EnvironmentBlock::new());
    }

    #[test]
    fn any_order_of_words_is_read_without_a_panic(
        words in prop::collection::vec(prop::sample::select(vec![
            "if", "then", "else", "elif", "fi", "while", "do", "done", "for", "function", "{", "}",
            ";", "\n", "[", "]", "=", "menuentry", "submenu", "linux", "$a", "\"", "'", "\\", "${",
            "set", "a=b", "--id", ">",
        ]), 0..60),
    ) {
        let _ = default_entry(&words.join(" "), &EnvironmentBlock::new());
        let _ = default_entry(&words.concat(), &EnvironmentBlock::new());
    }

    #[test]
    fn any_choice_is_read_without_a_panic(choice in "[0-9>a ]{0,12}") {
        let cfg = TRIXIE.replace(r#"default="0""#, &format!("default='{choice}'"));
        let _ = default_entry(&cfg, &EnvironmentBlock::new());
    }
}
