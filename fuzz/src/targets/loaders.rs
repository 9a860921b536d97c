//! What GRUB and the loaders of the Boot Loader Specification read.

use be_tools::loader::grub::stub::Stub;
use be_tools::loader::grub::vendor;
use be_tools::loader::trial_record::TrialRecord;
use boot::bls;
use boot::command_line::CommandLine;
use boot::grub_cfg::Menu;
use boot::grubenv::{self, EnvironmentBlock};
use rescue_init::cmdline;

use super::text::{parts, text};

/// A grub.cfg, a NUL, and lines `NAME=VALUE` for the environment block.
pub fn grub_cfg(bytes: &[u8]) {
    let text = text(bytes);
    let [cfg, variables] = parts(&text);
    let mut environment = EnvironmentBlock::new();
    for (name, value) in variables.lines().filter_map(|line| line.split_once('=')) {
        let _ = environment.set(name, value);
    }
    if environment.to_bytes().is_err() {
        environment = EnvironmentBlock::new();
    }
    let menu = Menu::parse(cfg, &environment);
    let entries = menu.entries();
    assert!(menu.default_entry().is_none_or(|default| entries.contains(&default)));
    assert!(entries.len() <= cfg.len());
}

/// The input as it is, and filled up to the length of a block.
pub fn grub_environment(bytes: &[u8]) {
    let mut filled = bytes.to_vec();
    filled.resize(grubenv::SIZE, b'#');
    for bytes in [bytes, &filled] {
        let Ok(mut block) = EnvironmentBlock::parse(bytes) else { continue };
        let rendered = block.to_bytes().expect("it came from a block");
        assert_eq!(EnvironmentBlock::parse(&rendered).expect("as it was rendered"), block);
        let record = TrialRecord::read(&block);
        record.write(&mut block).expect("the names are names");
        assert_eq!(TrialRecord::read(&block), record);
    }
}

/// Entries: each a file name, a line end and a text. A NUL separates them.
pub fn bls_entries(bytes: &[u8]) {
    let mut entries = Vec::new();
    for file in text(bytes).split('\0') {
        let (name, text) = file.split_once('\n').unwrap_or((file, ""));
        let Some(entry) = bls::Entry::parse(name, text) else { continue };
        assert_eq!(bls::Entry::parse(&entry.file_name(), text).as_ref(), Some(&entry));
        entries.push(entry);
    }
    bls::sort(&mut entries);
    let sorted = entries.clone();
    bls::sort(&mut entries);
    assert_eq!(entries, sorted);
}

pub fn kernel_command_line(bytes: &[u8]) {
    let text = text(bytes);
    let mut line = CommandLine::parse(&text);
    assert_eq!(CommandLine::parse(&line.to_string()), line);
    let others = |line: &CommandLine| {
        let parameters = line.parameters().filter(|(name, _)| *name != "root");
        parameters.map(|(name, value)| format!("{name} {value:?}")).collect::<Vec<_>>()
    };
    let before = others(&line);
    line.set("root", "UUID=1 2").expect("it can be written");
    for line in [&line, &CommandLine::parse(&line.to_string())] {
        assert_eq!(line.values("root").collect::<Vec<_>>(), ["UUID=1 2"]);
    }
    assert_eq!(others(&line), before);
    let _ = cmdline::Options::parse(&text);
    let words = cmdline::command_words(&text);
    assert!(words.iter().map(String::len).sum::<usize>() <= text.len());
}

/// The input as a stub, and with the hash that a stub has at its end.
pub fn stub(bytes: &[u8]) {
    let text = text(bytes);
    let body = format!("{}\n", text.trim_end());
    let sealed = format!("{body}# end {}\n", blake3::hash(body.as_bytes()).to_hex());
    for text in [&text, sealed.as_str()] {
        let Ok(mut stub) = Stub::parse(text) else { continue };
        let path = stub.boot.path.trim_end_matches('/');
        stub.boot.path = if path.is_empty() { "/".into() } else { path.into() };
        assert_eq!(Stub::parse(&stub.render()).as_ref(), Ok(&stub));
    }
}

pub fn vendor_grub_cfg(bytes: &[u8]) {
    let text = text(bytes);
    if let Some(found) = vendor::parse_boot_directory(&text) {
        assert!(found.uuid.len() + found.path.len() <= text.len() + 1);
    }
}
