//! What one process of Lifeboat reads of another, and the descriptor.

use be_tools::environment::Descriptor;
use be_tools::fuzzing;
use rescue_init::scan::Listing;

use super::text::text;

pub fn descriptor(bytes: &[u8]) {
    let Ok(descriptor) = Descriptor::parse(&text(bytes)) else { return };
    let rendered = descriptor.render().expect("it came from TOML");
    assert_eq!(Descriptor::parse(&rendered).as_ref(), Ok(&descriptor));
}

/// Any disk may have any file in the place of a history.
pub fn history(bytes: &[u8]) {
    let found = be_tools::environment::history::parse(bytes);
    assert!(found.iter().all(|done| done.began.is_some() || done.ended.is_some()));
}

/// Any disk may have any file in the place of a manifest.
pub fn manifest(bytes: &[u8]) {
    use be_tools::tree::manifest;
    let Ok(found) = manifest::parse(bytes) else { return };
    let mut written = Vec::new();
    manifest::write(&found, &mut written).expect("a Vec takes all bytes");
    assert_eq!(manifest::parse(&*written).as_ref(), Ok(&found));
}

/// A worker reads foreign disks, so its answer is foreign too.
pub fn worker_answer(bytes: &[u8]) {
    for written in fuzzing::worker_answers(bytes) {
        assert!(fuzzing::worker_answers(written.as_bytes()).contains(&written), "{written}");
    }
}

/// The output of `be list --json`, as the menu of the rescue image reads it.
pub fn list_answer(bytes: &[u8]) {
    let written = |bytes: &[u8]| {
        let listing = Listing::parse(bytes).ok()?;
        Some(serde_json::to_string(&listing).expect("a listing has no floats"))
    };
    let Some(listing) = written(bytes) else { return };
    assert_eq!(written(listing.as_bytes()).as_ref(), Some(&listing));
}
