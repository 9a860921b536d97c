use std::collections::BTreeMap;

use super::*;

/// Files in memory, by their paths.
struct Tree(BTreeMap<String, String>);

impl Files for Tree {
    fn content(&self, path: &str) -> Option<Vec<u8>> {
        self.0.get(path).map(|text| text.clone().into_bytes())
    }

    fn list(&self, directory: &str) -> Vec<String> {
        let below = format!("{directory}/");
        self.0.keys().filter_map(|path| path.strip_prefix(&below)).map(str::to_owned).collect()
    }

    fn is_there(&self, path: &str) -> bool {
        self.is_file(path) || self.0.keys().any(|file| file.starts_with(&format!("{path}/")))
    }

    fn is_file(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }
}

fn tree(files: &[(&str, &str)]) -> Tree {
    Tree(files.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect())
}

fn block(variables: &[(&str, &str)]) -> String {
    let mut block = EnvironmentBlock::new();
    for (name, value) in variables {
        block.set(name, value).unwrap();
    }
    String::from_utf8(block.to_bytes().unwrap().to_vec()).unwrap()
}

const OLD: &str = "boot/loader/entries/0123-4.18.0-80.conf";
const NEW: &str = "boot/loader/entries/0123-4.18.0-553.conf";
const ENTRY: &str = "title RHEL\nlinux /vmlinuz-4\ninitrd /initramfs-4.img $tuned_initrd\n\
    options $kernelopts $tuned_params\n";

#[test]
fn entries_without_a_grub_cfg_have_the_variables_of_grubenv() {
    let block = block(&[("kernelopts", "root=UUID=1 ro"), ("saved_entry", "0123-4.18.0-80")]);
    let root = tree(&[
        (OLD, ENTRY),
        (NEW, ENTRY),
        ("boot/grub2/grubenv", &block),
        ("boot/loader/entries/notes.txt", "linux /x"),
    ]);
    let menu = BootMenu::read(&root);
    assert!(menu.is_there);
    let first = menu.default.as_ref().unwrap();
    assert_eq!(first.options, "root=UUID=1 ro");
    assert_eq!(first.initrds, ["/initramfs-4.img"]);
    assert_eq!(first.to_string(), "the boot loader entry 0123-4.18.0-80.conf");
    assert_eq!(menu.entries.len(), 2);
}

#[test]
fn a_grub_cfg_with_blscfg_has_the_entries_and_chooses_one() {
    let cfg = "load_env\nset default=\"${saved_entry}\"\nblscfg\n";
    let saved = block(&[("saved_entry", "0123-4.18.0-80"), ("kernelopts", "root=UUID=2")]);
    let files = [(OLD, ENTRY), (NEW, ENTRY), ("boot/grub2/grub.cfg", cfg)];
    let root = tree(&[&files[..], &[("boot/grub2/grubenv", &saved)]].concat());
    let menu = BootMenu::read(&root);
    assert!(menu.is_there && menu.is_expected);
    let default = menu.default.as_ref().unwrap();
    assert_eq!(default.to_string(), "the boot loader entry 0123-4.18.0-80.conf");
    assert_eq!(default.options, "root=UUID=2");
    assert_eq!(menu.entries.len(), 2);
    // And one that chooses nothing has the newest.
    let root = tree(&files);
    let menu = BootMenu::read(&root);
    assert!(menu.default.as_ref().unwrap().to_string().contains("553"));
}

#[test]
fn an_empty_grub_cfg_is_no_menu() {
    let root = tree(&[("boot/grub/grub.cfg", "\n")]);
    let menu = BootMenu::read(&root);
    assert!(menu.is_expected && !menu.is_there && menu.entries.is_empty());
    let root = tree(&[]);
    assert_eq!(BootMenu::read(&root), BootMenu::default());
}

#[test]
fn a_path_of_a_menu_is_found_below_boot_and_without_its_subvolume() {
    let root = tree(&[("boot/vmlinuz", "k")]);
    for path in ["/boot/vmlinuz", "/vmlinuz", "($root)/vmlinuz", "/@/boot/vmlinuz"] {
        assert_eq!(resolve(&root, path).as_deref(), Some("boot/vmlinuz"), "{path}");
    }
    assert_eq!(resolve(&root, "/boot/initrd"), None);
}
