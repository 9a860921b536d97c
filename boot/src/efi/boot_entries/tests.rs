use super::*;
use crate::efi::DevicePath;
use std::path::Path;
use uuid::uuid;

struct Machine {
    directory: tempfile::TempDir,
    entries: BootEntries,
}

fn option(description: &str, file: &str) -> LoadOption {
    let partuuid = uuid!("d5d6dd2d-9b2f-4bf8-8c33-8a4e39a8be0a");
    let path = DevicePath::hard_drive_file(1, 2048, 1_046_528, partuuid, file);
    LoadOption::new(description, path)
}

fn ours() -> LoadOption {
    option("Lifeboat: nightly", r"\EFI\lifeboat\2f0c1a94\grubx64.efi")
}

/// Boot0000 is Debian's and Boot0001 is Windows'; the order is 1, 0.
fn machine() -> Machine {
    let directory = tempfile::tempdir().unwrap();
    let entries = BootEntries::new(Variables::new(directory.path()));
    entries.add(&option("debian", r"\EFI\debian\shimx64.efi"), Position::First).unwrap();
    entries
        .add(&option("Windows Boot Manager", r"\EFI\Microsoft\Boot\bootmgfw.efi"), Position::First)
        .unwrap();
    assert_eq!(entries.order().unwrap(), [1, 0]);
    Machine { directory, entries }
}

fn efibootmgr(directory: &Path) -> Option<String> {
    let mut path = directory.as_os_str().to_owned();
    path.push("/");
    let output = std::process::Command::new("efibootmgr")
        .arg("-v")
        .env("EFIVARFS_PATH", path)
        .output()
        .ok()?;
    assert!(output.status.success(), "{output:?}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn efibootmgr_reads_what_we_write() {
    let m = machine();
    let number = m.entries.add(&ours(), Position::First).unwrap();
    m.entries.set_next(Some(0)).unwrap();
    let Some(output) = efibootmgr(m.directory.path()) else {
        return;
    };
    let line = "Boot0002* Lifeboat: nightly\t\
        HD(1,GPT,d5d6dd2d-9b2f-4bf8-8c33-8a4e39a8be0a,0x800,0xff800)\
        /File(\\EFI\\lifeboat\\2f0c1a94\\grubx64.efi)";
    assert_eq!(number, 2);
    assert!(output.contains("BootNext: 0000\n"), "{output}");
    assert!(output.contains("BootOrder: 0002,0001,0000\n"), "{output}");
    assert!(output.contains(line), "{output}");
}

#[test]
fn a_new_entry_takes_the_lowest_number_that_nothing_refers_to() {
    let m = machine();
    m.entries.write("BootOrder", vec![1, 0, 0, 0, 2, 0]).unwrap();
    m.entries.write("BootNext", vec![3, 0]).unwrap();
    assert_eq!(m.entries.add(&ours(), Position::NotInOrder).unwrap(), 4);
    assert_eq!(m.entries.order().unwrap(), [1, 0, 2]);
    assert_eq!(m.entries.add(&ours(), Position::Last).unwrap(), 5);
    assert_eq!(m.entries.order().unwrap(), [1, 0, 2, 5]);
}

#[test]
fn foreign_entries_are_left_alone() {
    let m = machine();
    let before = m.entries.entries().unwrap();
    let calls =
        [m.entries.replace(0, &ours()), m.entries.set_active(0, false), m.entries.remove(0)];
    for call in calls {
        assert!(matches!(call, Err(Error::Foreign { number: 0, .. })), "{call:?}");
    }
    assert!(matches!(m.entries.set_order(&[1]), Err(Error::Dropped(0))));
    assert_eq!(m.entries.entries().unwrap(), before);
    assert_eq!(m.entries.order().unwrap(), [1, 0]);
    m.entries.set_order_without(&[1], &[0]).unwrap();
    assert_eq!(m.entries.order().unwrap(), [1]);
    m.entries.remove_foreign(0).unwrap();
    assert!(matches!(m.entries.remove_foreign(0), Err(Error::Missing(0))));
    assert_eq!(m.entries.entry(0).unwrap(), None);
}

#[test]
fn the_order_is_never_empty() {
    let directory = tempfile::tempdir().unwrap();
    let entries = BootEntries::new(Variables::new(directory.path()));
    let number = entries.add(&ours(), Position::First).unwrap();
    entries.set_next(Some(number)).unwrap();
    assert!(matches!(entries.remove(number), Err(Error::EmptyOrder)));
    assert!(matches!(entries.remove_foreign(number), Err(Error::EmptyOrder)));
    assert!(matches!(entries.set_order(&[]), Err(Error::EmptyOrder)));
    assert!(matches!(entries.place(number, Position::NotInOrder), Err(Error::EmptyOrder)));
    assert_eq!(entries.order().unwrap(), [number]);
    assert_eq!(entries.next().unwrap(), Some(number));
}

#[test]
fn an_entry_is_removed_with_all_references_to_it() {
    let m = machine();
    let number = m.entries.add(&ours(), Position::First).unwrap();
    m.entries.set_next(Some(number)).unwrap();
    m.entries.remove(number).unwrap();
    m.entries.remove(number).unwrap();
    assert_eq!(m.entries.next().unwrap(), None);
    assert_eq!(m.entries.order().unwrap(), [1, 0]);
    assert_eq!(m.entries.entry(number).unwrap(), None);
}

#[test]
fn an_order_names_existing_entries_once_each() {
    let m = machine();
    assert!(matches!(m.entries.set_order(&[1, 0, 7]), Err(Error::Missing(7))));
    assert!(matches!(m.entries.set_order(&[1, 0, 1]), Err(Error::Twice(1))));
    assert!(matches!(m.entries.set_next(Some(7)), Err(Error::Missing(7))));
    m.entries.place(0, Position::First).unwrap();
    assert_eq!(m.entries.order().unwrap(), [0, 1]);
}

#[test]
fn our_entries_can_be_made_inactive_and_active() {
    let m = machine();
    let number = m.entries.add(&ours(), Position::Last).unwrap();
    m.entries.set_active(number, false).unwrap();
    assert!(!m.entries.entry(number).unwrap().unwrap().option.is_active());
    m.entries.set_active(number, true).unwrap();
    assert_eq!(m.entries.entry(number).unwrap().unwrap().option, ours());
}

#[test]
fn damaged_variables_are_refused_or_left_out() {
    let m = machine();
    let damaged = Variable::boot([1, 2, 3]);
    m.entries.variables.write(&name_of(9), &damaged).unwrap();
    assert_eq!(m.entries.entries().unwrap().len(), 2);
    assert!(matches!(m.entries.entry(9), Err(Error::Option { number: 9, .. })));
    assert!(matches!(m.entries.remove(9), Err(Error::Option { .. })));
    for name in ["BootOrder", "BootNext", "BootCurrent"] {
        m.entries.write(name, vec![1, 2, 3]).unwrap();
    }
    assert!(matches!(m.entries.order(), Err(Error::Length { length: 3, .. })));
    assert!(m.entries.next().is_err());
    assert!(m.entries.current().is_err());
}

#[test]
fn secure_boot_is_read_from_the_firmwares_variables() {
    let m = machine();
    assert_eq!(m.entries.secure_boot().unwrap(), SecureBoot::Disabled);
    m.entries.write("SetupMode", vec![1]).unwrap();
    assert_eq!(m.entries.secure_boot().unwrap(), SecureBoot::SetupMode);
    m.entries.write("SetupMode", vec![0]).unwrap();
    m.entries.write("SecureBoot", vec![1]).unwrap();
    assert_eq!(m.entries.secure_boot().unwrap(), SecureBoot::Enabled);
}

#[test]
fn the_last_entry_that_starts_is_not_removed() {
    let directory = tempfile::tempdir().unwrap();
    let entries = BootEntries::new(Variables::new(directory.path()));
    let number = entries.add(&ours(), Position::First).unwrap();
    // A number that has no variable, and an entry that the firmware skips.
    let inactive = entries.add(&ours(), Position::Last).unwrap();
    entries.set_active(inactive, false).unwrap();
    let gone = entries.add(&ours(), Position::Last).unwrap();
    entries.variables().delete(&VariableName::global(format!("Boot{gone:04X}"))).unwrap();
    assert!(matches!(entries.remove(number), Err(Error::EmptyOrder)));
    assert!(matches!(entries.remove_foreign(number), Err(Error::EmptyOrder)));
    assert_eq!(entries.order().unwrap(), [number, inactive, gone]);
    entries.set_active(inactive, true).unwrap();
    entries.remove(number).unwrap();
    assert_eq!(entries.order().unwrap(), [inactive, gone]);
}
