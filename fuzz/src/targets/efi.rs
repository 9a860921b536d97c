//! EFI variables, load options and device paths.

use boot::efi::{DevicePath, LoadOption, Variable, VariableName};

use super::text::text;

pub fn device_path(bytes: &[u8]) {
    let Ok(path) = DevicePath::parse(bytes) else { return };
    assert_eq!(path.to_bytes().expect("it was parsed"), bytes);
    assert!(path.to_string().len() <= 8 * bytes.len());
    let _ = (path.file(), path.partuuid(), path.hard_drive());
}

pub fn load_option(bytes: &[u8]) {
    let Ok(option) = LoadOption::parse(bytes) else { return };
    let rendered = option.to_bytes().expect("it was parsed");
    assert_eq!(LoadOption::parse(&rendered).as_ref(), Ok(&option));
    let _ = (option.is_active(), option.is_lifeboat());
}

/// A name in efivarfs, a line end, and what the file holds.
pub fn variable(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (name, content) = (text(&bytes[..end]), &bytes[(end + 1).min(bytes.len())..]);
    // No file's name has a slash.
    if let Some(name) = VariableName::parse(&name.replace('/', "!")) {
        assert_eq!(VariableName::parse(&name.to_string()), Some(name));
    }
    let Some(variable) = Variable::parse(content) else { return };
    assert_eq!(variable.data, content[4..]);
    let numbers = variable.to_numbers();
    assert_eq!(numbers.is_some(), variable.data.len() % 2 == 0);
    assert!(!variable.to_text().contains('\0'));
}
