//! Names that new files of the target have until they are complete: `.lifeboat-XXXXXXXX.new`.

use std::ffi::{CStr, CString};
use std::sync::atomic::{AtomicU32, Ordering};

const BEFORE: &[u8] = b".lifeboat-";
const AFTER: &[u8] = b".new";

/// Gives each once.
#[derive(Debug)]
pub struct Temporary {
    next: AtomicU32,
}

impl Temporary {
    /// Begins at another place in every run, so that what an earlier one left is hardly met.
    pub fn new() -> Self {
        let (start, _) = uuid::Uuid::new_v4().as_u64_pair();
        Temporary { next: AtomicU32::new(start as u32) }
    }

    /// The next one.
    pub fn name(&self) -> CString {
        let number = format!("{:08x}", self.next.fetch_add(1, Ordering::Relaxed));
        CString::new([BEFORE, number.as_bytes(), AFTER].concat()).unwrap_or_default()
    }
}

/// The name is one of them.
pub fn is_one(name: &CStr) -> bool {
    let middle = name.to_bytes().strip_prefix(BEFORE).and_then(|rest| rest.strip_suffix(AFTER));
    middle.is_some_and(|m| {
        m.len() == 8 && m.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_known_again_and_nothing_else_is() {
        let names = Temporary::new();
        assert_ne!(names.name(), names.name());
        assert!(is_one(&names.name()));
        for other in
            [c".lifeboat-0123456.new", c".lifeboat-0123456G.new", c"lifeboat-01234567.new", c"new"]
        {
            assert!(!is_one(other));
        }
    }
}
