use super::*;

fn esp() -> (tempfile::TempDir, Esp) {
    let directory = tempfile::tempdir().unwrap();
    let esp = Esp::new(directory.path());
    (directory, esp)
}

#[test]
fn a_new_file_is_written_with_its_directories_and_nothing_else() {
    let (_directory, esp) = esp();
    let file = Esp::directory_of("2f0c1a94").join("grubx64.efi");
    esp.write_new(&file, b"MZ").unwrap();
    assert_eq!(esp.read(&file).unwrap().as_deref(), Some(&b"MZ"[..]));
    assert_eq!(esp.directories().unwrap(), ["2f0c1a94"]);
    let directory = esp.absolute(file.parent().unwrap()).unwrap();
    assert_eq!(fs::read_dir(directory).unwrap().count(), 1);
}

#[test]
fn a_file_larger_than_any_loader_is_not_read() {
    let (_directory, esp) = esp();
    let file = Path::new("huge.efi");
    for (length, is_read) in [(LARGEST + 1, false), (4 << 30, false), (4096, true)] {
        File::create(esp.root().join(file)).unwrap().set_len(length).unwrap();
        match esp.read(file) {
            Err(Error::TooLarge { length: reported, .. }) => {
                assert!(reported == length && !is_read)
            }
            read => assert!(read.unwrap().unwrap().len() as u64 == length && is_read),
        }
    }
}

#[test]
fn a_file_is_never_replaced() {
    let (_directory, esp) = esp();
    let file = Path::new("EFI/debian/grub.cfg");
    esp.write_new(file, b"theirs").unwrap();
    let second = esp.write_new(file, b"ours");
    assert!(matches!(second, Err(Error::Exists(_))));
    assert_eq!(esp.read(file).unwrap().as_deref(), Some(&b"theirs"[..]));
}

#[test]
fn a_file_left_by_a_power_cut_does_not_stop_the_next_write() {
    let (directory, esp) = esp();
    let file = Esp::directory_of("2f0c1a94").join("lifeboat.cfg");
    let leftover = directory.path().join(DIRECTORY).join("2f0c1a94");
    fs::create_dir_all(&leftover).unwrap();
    fs::write(leftover.join(TEMPORARY), b"half a fi").unwrap();
    esp.write_new(&file, b"set x=1\n").unwrap();
    assert_eq!(fs::read_dir(&leftover).unwrap().count(), 1);
}

#[test]
fn lack_of_space_is_found_before_anything_is_written() {
    let (directory, esp) = esp();
    let needed = esp.needed_bytes(&[(Path::new("EFI/lifeboat/1/big"), u64::MAX / 4)]).unwrap();
    assert!(needed > esp.free_bytes().unwrap());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn only_files_below_our_directory_are_deleted() {
    let (_directory, esp) = esp();
    esp.write_new(Path::new("EFI/debian/shimx64.efi"), b"MZ").unwrap();
    esp.write_new(Path::new("EFI/lifeboat/1/a/b"), b"x").unwrap();
    for refused in ["EFI/debian", "EFI/debian/shimx64.efi", "EFI/lifeboat", "EFI"] {
        let removed = esp.remove_tree(Path::new(refused));
        assert!(matches!(removed, Err(Error::NotOurs(_))), "{refused}");
    }
    for bad in ["EFI/lifeboat/../debian", "/EFI/lifeboat/1", ""] {
        let removed = esp.remove_tree(Path::new(bad));
        assert!(matches!(removed, Err(Error::Path(_))), "{bad}");
    }
    esp.remove_tree(Path::new("efi/LIFEBOAT/none")).unwrap();
    esp.remove_tree(Path::new("EFI/lifeboat/1")).unwrap();
    esp.remove_tree(Path::new("EFI/lifeboat/1")).unwrap();
    assert!(esp.directories().unwrap().is_empty());
    assert!(esp.read(Path::new("EFI/debian/shimx64.efi")).unwrap().is_some());
}

#[test]
fn firmware_paths_have_backslashes() {
    let file = Esp::directory_of("2f0c1a94").join("grubx64.efi");
    assert_eq!(Esp::efi_path(&file).unwrap(), r"\EFI\lifeboat\2f0c1a94\grubx64.efi");
    for bad in ["a:b", "a\\b", "a?", "a.", "tab\t"] {
        assert!(Esp::efi_path(Path::new(bad)).is_err(), "{bad}");
    }
}
