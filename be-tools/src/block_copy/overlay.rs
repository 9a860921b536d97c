//! The differences between the source and the copy, which are applied to the bytes in between.

use super::xfs_log::CleanLog;

/// A difference at one offset of the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// Offset on the device in bytes.
    pub at: u64,
    /// The bytes of the copy at that offset.
    pub bytes: Vec<u8>,
}

impl Edit {
    /// The offset after the last byte.
    pub fn end(&self) -> u64 {
        self.at.saturating_add(self.bytes.len() as u64)
    }
}

/// All differences except ranges of zeros.
#[derive(Debug, Default)]
pub struct Overlay {
    edits: Vec<Edit>,
    log: Option<CleanLog>,
}

impl Overlay {
    /// Makes an overlay of edits that do not overlap each other, and a log.
    pub fn new(mut edits: Vec<Edit>, log: Option<CleanLog>) -> Self {
        edits.sort_by_key(|edit| edit.at);
        Overlay { edits, log }
    }

    /// Applies the differences to `bytes`, which are those of the device from offset `at` on.
    pub fn apply(&self, at: u64, bytes: &mut [u8]) {
        let end = at + bytes.len() as u64;
        let first = self.edits.partition_point(|edit| edit.end() <= at);
        for edit in self.edits[first..].iter().take_while(|edit| edit.at < end) {
            let (from, to) = (edit.at.max(at), edit.end().min(end));
            let new = &edit.bytes[(from - edit.at) as usize..(to - edit.at) as usize];
            bytes[(from - at) as usize..(to - at) as usize].copy_from_slice(new);
        }
        if let Some(log) = &self.log {
            log.fill(at, bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_is_applied_wherever_a_request_cuts_it() {
        let edit = |at, text: &str| Edit { at, bytes: text.into() };
        let overlay = Overlay::new(vec![edit(14, "xyz"), edit(3, "abcd")], None);
        let whole = {
            let mut bytes = [b'.'; 20];
            overlay.apply(0, &mut bytes);
            bytes
        };
        assert_eq!(&whole, b"...abcd.......xyz...");
        for size in 1..20 {
            let mut pieces = [b'.'; 20];
            for (index, piece) in pieces.chunks_mut(size).enumerate() {
                overlay.apply((index * size) as u64, piece);
            }
            assert_eq!(pieces, whole, "{size}");
        }
    }
}
