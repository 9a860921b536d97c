//! The names that new files of the target have until they are complete: `.lifeboat-XXXXXXXX.new`.

use std::ffi::{CStr, CString};
use std::sync::atomic::{AtomicU32, Ordering};

const PREFIX: &[u8] = b".lifeboat-";
const SUFFIX: &[u8] = b".new";

/// Hands out each temporary name once.
#[derive(Debug)]
pub struct TemporaryNames {
    next: AtomicU32,
}

impl TemporaryNames {
    /// Starts from a random number, so that names are unlikely to be those of an earlier run.
    pub fn new() -> Self {
        let (start, _) = uuid::Uuid::new_v4().as_u64_pair();
        TemporaryNames { next: AtomicU32::new(start as u32) }
    }

    /// The next name.
    pub fn name(&self) -> CString {
        let number = format!("{:08x}", self.next.fetch_add(1, Ordering::Relaxed));
        CString::new([PREFIX, number.as_bytes(), SUFFIX].concat()).unwrap_or_default()
    }
}

/// Whether a name is a temporary name.
pub fn is_temporary(name: &CStr) -> bool {
    let middle = name.to_bytes().strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX));
    middle.is_some_and(|m| {
        m.len() == 8 && m.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_temporary_names_are_recognised() {
        let names = TemporaryNames::new();
        assert_ne!(names.name(), names.name());
        assert!(is_temporary(&names.name()));
        for other in
            [c".lifeboat-0123456.new", c".lifeboat-0123456G.new", c"lifeboat-01234567.new", c"new"]
        {
            assert!(!is_temporary(other));
        }
    }
}
