use super::*;
use proptest::prelude::*;
use std::process::Command;

fn block(variables: &[(&str, &str)]) -> EnvironmentBlock {
    let mut block = EnvironmentBlock::new();
    for (name, value) in variables {
        block.set(name, value).unwrap();
    }
    block
}

/// Runs `grub-editenv`. Returns `None` if it is not installed.
fn editenv(path: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("grub-editenv").arg(path).args(arguments).output().ok()?;
    assert!(output.status.success(), "{output:?}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_file_of_another_length_is_reported_and_not_read() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for length in [0, 1023, 1025, 1 << 40] {
        file.as_file().set_len(length).unwrap();
        assert!(matches!(read(file.path()), Err(Error::Size(size)) if size as u64 == length));
    }
}

#[test]
fn grub_editenv_reads_what_we_write() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("grubenv");
    let block = block(&[("trial", "1"), ("first", "0003"), ("odd", r"a\b c=d #e")]);
    std::fs::write(&path, block.to_bytes().unwrap()).unwrap();
    if let Some(list) = editenv(&path, &["list"]) {
        assert_eq!(list, "trial=1\nfirst=0003\nodd=a\\b c=d #e\n");
    }
}

#[test]
fn we_write_the_same_bytes_as_grub_editenv() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("grubenv");
    if editenv(&path, &["create"]).is_none() {
        return;
    }
    let mut ours = read(&path).unwrap();
    let steps = [("saved_entry", "1>2"), ("path", r"\EFI\x"), ("saved_entry", "0"), ("n", "a\nb")];
    for (name, value) in steps {
        editenv(&path, &["set", &format!("{name}={value}")]);
        ours.set(name, value).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), ours.to_bytes().unwrap());
        assert_eq!(read(&path).unwrap(), ours);
    }
    editenv(&path, &["unset", "path"]);
    ours.unset("path");
    assert_eq!(std::fs::read(&path).unwrap(), ours.to_bytes().unwrap());
}

#[test]
fn the_block_is_overwritten_in_place() {
    use std::os::unix::fs::MetadataExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("grubenv");
    std::fs::write(&path, EnvironmentBlock::new().to_bytes().unwrap()).unwrap();
    let inode = path.metadata().unwrap().ino();
    let block = block(&[("tried", "1")]);
    write_in_place(&path, &block).unwrap();
    assert_eq!(read(&path).unwrap().get("tried"), Some("1"));
    assert_eq!((path.metadata().unwrap().ino(), path.metadata().unwrap().len()), (inode, 1024));
}

#[test]
fn variables_that_do_not_fit_into_a_sector_are_not_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("grubenv");
    let old = EnvironmentBlock::new().to_bytes().unwrap();
    std::fs::write(&path, old).unwrap();
    let long = block(&[("a", &"x".repeat(500))]);
    assert!(long.to_bytes().is_ok());
    assert!(matches!(write_in_place(&path, &long), Err(Error::Full { limit: 512, .. })));
    assert!(block(&[("a", &"x".repeat(1000))]).to_bytes().is_err());
    assert_eq!(std::fs::read(&path).unwrap(), old);
}

#[test]
fn a_file_that_is_not_a_block_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("grubenv");
    std::fs::write(&path, b"timeout=5\n").unwrap();
    assert!(matches!(write_in_place(&path, &EnvironmentBlock::new()), Err(Error::Size(10))));
    assert!(matches!(read(&path), Err(Error::Size(10))));
    assert!(matches!(EnvironmentBlock::parse(&[b'#'; SIZE]), Err(Error::Signature)));
}

#[test]
fn names_that_grub_would_misread_are_refused() {
    for name in ["", "a=b", "#a", "a\nb", "a\\"] {
        assert!(EnvironmentBlock::new().set(name, "1").is_err(), "{name:?}");
    }
}

proptest! {
    #[test]
    fn any_variables_are_read_back(
        variables in prop::collection::vec(("[a-z_][a-z0-9_]{0,8}", any::<String>()), 0..6),
    ) {
        let mut block = EnvironmentBlock::new();
        for (name, value) in &variables {
            block.set(name, value).unwrap();
        }
        if let Ok(bytes) = block.to_bytes() {
            prop_assert_eq!(EnvironmentBlock::parse(&bytes).unwrap(), block);
        }
    }

    #[test]
    fn a_block_that_is_parsed_is_rendered_the_same(
        body in prop::collection::vec(
            prop_oneof![Just(b'\\'), Just(b'\n'), Just(b'='), Just(b'#'), any::<u8>()],
            999,
        ),
    ) {
        let bytes = [SIGNATURE, &body].concat();
        if let Ok(block) = EnvironmentBlock::parse(&bytes) {
            prop_assert_eq!(EnvironmentBlock::parse(&block.to_bytes().unwrap()).unwrap(), block);
        }
    }
}
