use std::path::Path;

use boot::efi::{BootEntries, Position};
use boot::esp::Esp;

use super::check::{check, stub_of};
use super::stub::BootDirectory;
use super::*;
use crate::environment::sentences;
use crate::loader::firmware::point_entry;
use crate::loader::testing::{Firmware, PARTUUID, environment};

const ID: &str = "2f0c1a94-8a3c-4a52-9a7e-0c6f6e1f3b55";

fn boot_directory() -> BootDirectory {
    BootDirectory { uuid: "aaaa-01".into(), path: "/boot".into() }
}

fn tree(root: &Path) -> Vec<String> {
    let printed = crate::tool::Tool::new("find")
        .arg(root)
        .args(["-type", "f", "-printf", "%P\n"])
        .run()
        .unwrap();
    let mut files: Vec<String> = printed.lines().map(str::to_owned).collect();
    files.sort();
    files
}

fn install(esp: &Esp, entries: &BootEntries, image: &[u8]) -> u16 {
    let id = ID.parse().unwrap();
    let generation = Generation::next(esp, id).unwrap();
    generation.write(esp, image, boot_directory()).unwrap();
    let option = Firmware::option("Lifeboat: first (Debian 12)", &generation.efi_path().unwrap());
    let number = point_entry(entries, id, option).unwrap();
    generation.remove_others(esp).unwrap();
    number
}

#[test]
fn the_installed_tree() {
    let (directory, firmware) = (tempfile::tempdir().unwrap(), Firmware::new());
    let (esp, entries, id) = (Esp::new(directory.path()), firmware.entries(), ID.parse().unwrap());
    let debian = firmware.add("debian", r"\EFI\debian\shimx64.efi");
    let number = install(&esp, &entries, b"MZ first");
    let first = [
        "EFI/lifeboat/2f0c1a94/grubx64.efi",
        "EFI/lifeboat/2f0c1a94/lifeboat.cfg",
        "EFI/lifeboat/2f0c1a94/lifeboat.env",
    ];
    assert_eq!(tree(directory.path()), first);
    assert_eq!(entries.order().unwrap(), [debian, number]);
    let entry = entries.entry(number).unwrap().unwrap();
    assert!(!entry.option.is_active());
    assert_eq!(entry.option.path.file().as_deref(), Some(r"\EFI\lifeboat\2f0c1a94\grubx64.efi"));
    assert_eq!(entry.option.path.partuuid(), Some(PARTUUID));
    assert!(check(&esp, id, "grubx64.efi", &environment("first", "AAAA-01")).is_empty());
}

#[test]
fn a_new_generation_has_new_names_and_the_old_one_is_removed() {
    let (directory, firmware) = (tempfile::tempdir().unwrap(), Firmware::new());
    let (esp, entries) = (Esp::new(directory.path()), firmware.entries());
    let number = install(&esp, &entries, b"MZ first");
    let debian = firmware.add("debian", r"\EFI\debian\shimx64.efi");
    entries.set_active(number, true).unwrap();
    let environment = directory.path().join("EFI/lifeboat/2f0c1a94/lifeboat.env");
    let mut block = boot::grubenv::read(&environment).unwrap();
    block.set("attempts", "2").unwrap();
    boot::grubenv::write_in_place(&environment, &block).unwrap();

    assert_eq!(install(&esp, &entries, b"MZ second"), number);
    let second = [
        "EFI/lifeboat/2f0c1a94/grubx64-2.efi",
        "EFI/lifeboat/2f0c1a94/lifeboat-2.cfg",
        "EFI/lifeboat/2f0c1a94/lifeboat.env",
    ];
    assert_eq!(tree(directory.path()), second);
    let entry = entries.entry(number).unwrap().unwrap();
    assert!(entry.option.is_active());
    assert_eq!(entry.option.path.file().as_deref(), Some(r"\EFI\lifeboat\2f0c1a94\grubx64-2.efi"));
    assert_eq!(entries.order().unwrap(), [number, debian]);
    assert_eq!(boot::grubenv::read(&environment).unwrap().get("attempts"), Some("2"));

    install(&esp, &entries, b"MZ third");
    assert_eq!(tree(directory.path())[0], "EFI/lifeboat/2f0c1a94/grubx64.efi");
}

#[test]
fn an_image_reads_the_stub_with_its_number() {
    for (image, stub) in [("grubx64.efi", "lifeboat.cfg"), ("grubx64-12.efi", "lifeboat-12.cfg")] {
        assert_eq!(stub_of(image), stub);
    }
}

#[test]
fn of_several_entries_of_a_be_one_remains() {
    let (firmware, id) = (Firmware::new(), ID.parse().unwrap());
    let entries = firmware.entries();
    let file = r"\EFI\lifeboat\2f0c1a94\grubx64.efi";
    let first = firmware.add("Lifeboat: first", file);
    let debian = firmware.add("debian", r"\EFI\debian\shimx64.efi");
    let second = firmware.add("Lifeboat: first", file);
    entries.place(second, Position::First).unwrap();
    assert_eq!(point_entry(&entries, id, Firmware::option("Lifeboat: new", file)).unwrap(), second);
    assert_eq!(entries.order().unwrap(), [second, debian]);
    assert!(entries.entry(first).unwrap().is_none());
}

#[test]
fn each_fault_of_the_files_is_a_problem() {
    let directory = tempfile::tempdir().unwrap();
    let (esp, id) = (Esp::new(directory.path()), ID.parse().unwrap());
    let target = environment("first", "aaaa-01");
    let own = directory.path().join("EFI/lifeboat/2f0c1a94");
    let fresh = || {
        let _ = std::fs::remove_dir_all(&own);
        Generation::next(&esp, id).unwrap().write(&esp, b"MZ image", boot_directory()).unwrap();
    };
    let problems = |target: &BootEnvironment| {
        let found = check(&esp, id, "grubx64.efi", target).into_iter().map(Into::into);
        sentences(&found.collect::<Vec<_>>()).join("; ")
    };

    fresh();
    assert_eq!(problems(&target), "");
    assert!(problems(&environment("first", "bbbb")).contains("another file system"));
    std::fs::write(own.join("grubx64.efi"), b"MZ imagf").unwrap();
    assert!(problems(&target).contains("grubx64.efi is damaged"));
    std::fs::remove_file(own.join("grubx64.efi")).unwrap();
    assert!(problems(&target).contains("grubx64.efi is missing"));
    fresh();
    std::fs::write(own.join("lifeboat.cfg"), "reboot\n").unwrap();
    assert!(problems(&target).contains("lifeboat.cfg is damaged or was edited"));
    fresh();
    std::fs::remove_file(own.join("lifeboat.env")).unwrap();
    assert!(problems(&target).contains("lifeboat.env"));
}
