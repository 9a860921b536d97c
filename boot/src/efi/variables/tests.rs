use super::*;

fn directory() -> (tempfile::TempDir, Variables) {
    let directory = tempfile::tempdir().unwrap();
    let variables = Variables::new(directory.path());
    (directory, variables)
}

#[test]
fn names_are_printed_and_parsed_as_efivarfs_file_names() {
    let file = "BootOrder-8be4df61-93ca-11d2-aa0d-00e098032b8c";
    let name = VariableName::global("BootOrder");
    assert_eq!(name.to_string(), file);
    assert_eq!(VariableName::parse(file), Some(name));
    for bad in [
        "",
        "BootOrder",
        "-8be4df61-93ca-11d2-aa0d-00e098032b8c",
        "ä-8be4df61-93ca-11d2-aa0d-00e098032b8",
    ] {
        assert_eq!(VariableName::parse(bad), None, "{bad}");
    }
    assert_eq!(
        VariableName::loader("LoaderEntryOneShot").to_string(),
        "LoaderEntryOneShot-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
    );
}

#[test]
fn attributes_and_data_are_written_to_the_file() {
    let (directory, variables) = directory();
    let name = VariableName::global("BootOrder");
    assert_eq!(variables.read(&name).unwrap(), None);
    assert!(!variables.available());
    variables.write(&name, &Variable::boot([1, 0, 2, 0])).unwrap();
    let file = directory.path().join(name.to_string());
    assert_eq!(fs::read(&file).unwrap(), [7, 0, 0, 0, 1, 0, 2, 0]);
    variables.write(&name, &Variable::boot([2, 0])).unwrap();
    assert_eq!(fs::read(&file).unwrap(), [7, 0, 0, 0, 2, 0]);
    assert_eq!(variables.names().unwrap(), std::slice::from_ref(&name));
    assert!(variables.available());
    variables.delete(&name).unwrap();
    variables.delete(&name).unwrap();
    assert_eq!(variables.read(&name).unwrap(), None);
}

#[test]
fn create_never_replaces_a_variable() {
    let (_directory, variables) = directory();
    let name = VariableName::global("Boot0000");
    variables.create(&name, &Variable::boot([1])).unwrap();
    let second = variables.create(&name, &Variable::boot([2]));
    assert!(matches!(second, Err(Error::Exists(_))));
    assert_eq!(variables.read(&name).unwrap(), Some(Variable::boot([1])));
}

#[test]
fn an_empty_file_is_not_a_variable_and_three_bytes_are_an_error() {
    let (directory, variables) = directory();
    let name = VariableName::global("BootNext");
    let file = directory.path().join(name.to_string());
    fs::write(&file, []).unwrap();
    assert_eq!(variables.read(&name).unwrap(), None);
    assert!(variables.names().unwrap().is_empty());
    fs::write(&file, [7, 0, 0]).unwrap();
    assert!(matches!(variables.read(&name), Err(Error::Short { length: 3, .. })));
}

#[test]
fn without_efivarfs_no_variables_are_available() {
    let variables = Variables::new("/nonexistent/efivars");
    assert!(!variables.available());
    let written = variables.write(&VariableName::global("BootNext"), &Variable::boot([1, 0]));
    assert!(matches!(written, Err(Error::Unavailable(_))));
}

#[test]
fn a_loader_string_is_terminated_by_a_nul() {
    let variable = Variable::text("a.conf");
    assert_eq!(variable.data.len(), 14);
    assert_eq!(variable.to_text(), "a.conf");
}

/// Needs root and a file system that supports inode flags.
#[test]
fn an_immutable_variable_is_written_and_stays_immutable() {
    let (directory, variables) = directory();
    let name = VariableName::loader("LoaderEntryOneShot");
    variables.write(&name, &Variable::text("a.conf")).unwrap();
    let path = directory.path().join(name.to_string());
    let file = File::open(&path).unwrap();
    let Ok(flags) = rustix::fs::ioctl_getflags(&file) else {
        return;
    };
    if rustix::fs::ioctl_setflags(&file, flags | IFlags::IMMUTABLE).is_err() {
        return;
    }
    variables.write(&name, &Variable::text("b.conf")).unwrap();
    let after = rustix::fs::ioctl_getflags(&file).unwrap();
    assert!(after.contains(IFlags::IMMUTABLE));
    assert!(fs::remove_file(&path).is_err());
    variables.delete(&name).unwrap();
    assert!(!path.exists());
}
