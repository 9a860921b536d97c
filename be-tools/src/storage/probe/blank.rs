//! Whether a device holds nothing, so that writing to it loses nothing.
//!
//! Nobody can tell without reading all of it, which takes hours. So the places are read where
//! programs put their marks (the first and the last MiB, the backup of a GPT among them), and
//! samples all over the device. Anything there makes it "unknown data", for which `--force` is
//! asked.
//!
//! The places depend on the size alone: a second look must come to the same answer as the first.

use std::io;
use std::ops::Range;

use super::source::Source;

const MEBIBYTE: u64 = 1 << 20;

/// What is read whole at both ends of a device.
const END: u64 = MEBIBYTE;

/// A device of at most this size is read whole.
const SMALL: u64 = 16 << 20;

/// How many samples are spread evenly over a device. File systems divide it into a power of two of
/// parts that begin with a header (the allocation groups of XFS).
const SAMPLES: u64 = 64;

/// Bytes of a sample. On a disk, reading them takes no longer than seeking to them.
const SAMPLE: u64 = 64 << 10;

/// How the mark of an erased device begins.
const MAGIC: [u8; 16] = *b"LIFEBOAT-ERASED\n";

/// The digest in the mark of a device that was erased and is being filled.
const UNFINISHED: [u8; 32] = [0; 32];

/// The mark at the start of a device that Lifeboat has erased: magic and digest (docs/formats.md).
pub(crate) type Mark = [u8; MARK];

const MARK: usize = MAGIC.len() + UNFINISHED.len();

/// Whether a device holds nothing: only zeros are found on it, or exactly what Lifeboat left there
/// when it erased the device.
pub(super) fn is_blank(source: &dyn Source) -> io::Result<bool> {
    let start = 0..source.len().min(END);
    let mut mark = [0; MARK];
    let marked = start.end >= MARK as u64 && {
        source.read_at(0, &mut mark)?;
        mark.starts_with(&MAGIC)
    };
    let after_mark = if marked { MARK as u64..start.end } else { start };
    if !read_all(source, [after_mark], is_zero)? {
        return Ok(false);
    }
    match mark.split_at(MAGIC.len()) {
        (_, digest) if marked => Ok(digest == UNFINISHED || digest == digest_of(source)?),
        _ => read_all(source, places(source.len()), is_zero),
    }
}

/// Whether each byte is zero: the first one is, and each equals the one before it. Comparing two
/// slices is one call of memcmp(3), many times as fast as a loop.
fn is_zero(bytes: &[u8]) -> bool {
    bytes.split_last().is_none_or(|(last, rest)| {
        *last == 0 && bytes.split_first().is_some_and(|(_, shifted)| rest == shifted)
    })
}

/// The mark for a device whose first MiB has been erased. It holds good until one of the places
/// that [`is_blank`] looks at is changed.
pub(crate) fn mark_of_erased(source: &dyn Source) -> io::Result<Mark> {
    Ok(mark(digest_of(source)?))
}

/// The mark for a device whose first MiB has been erased, and which is about to be filled. A block
/// copy overwrites it last.
pub(crate) fn mark_of_unfinished() -> Mark {
    mark(UNFINISHED)
}

fn mark(digest: [u8; 32]) -> Mark {
    let mut mark = [0; MARK];
    mark[..MAGIC.len()].copy_from_slice(&MAGIC);
    mark[MAGIC.len()..].copy_from_slice(&digest);
    mark
}

fn digest_of(source: &dyn Source) -> io::Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    read_all(source, places(source.len()), |bytes| {
        hasher.update(bytes);
        true
    })?;
    Ok(hasher.finalize().into())
}

/// The places that are looked at besides the first MiB, in the order of the device.
fn places(len: u64) -> Vec<Range<u64>> {
    let end = if len <= SMALL { END.min(len) } else { len - END };
    // VMFS begins at 1 MiB, the second super block of btrfs is at 64 MiB, a backup of that of ext4
    // at 8, 32 or 128 MiB.
    let powers = (20..63).map(|exponent| 1 << exponent);
    let spread = (1..SAMPLES).map(|part| (len / SAMPLES * part) & !0xfff);
    let mut places: Vec<_> = powers
        .chain(spread)
        .filter(|at| (END..end).contains(at))
        .map(|at| at..(at + SAMPLE).min(end))
        .chain(std::iter::once(end..len))
        .collect();
    places.sort_unstable_by_key(|place| place.start);
    places
}

/// Reads these places piece by piece until `look` returns false. Returns whether it never did.
fn read_all(
    source: &dyn Source,
    places: impl IntoIterator<Item = Range<u64>>,
    mut look: impl FnMut(&[u8]) -> bool,
) -> io::Result<bool> {
    let mut buffer = vec![0; SAMPLE as usize];
    for place in places {
        let mut at = place.start;
        while at < place.end {
            let piece = &mut buffer[..(place.end - at).min(SAMPLE) as usize];
            source.read_at(at, piece)?;
            if !look(piece) {
                return Ok(false);
            }
            at += piece.len() as u64;
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::probe::{Content, probe};

    const SIZE: usize = 256 << 20;

    fn with(at: usize) -> Vec<u8> {
        let mut device = vec![0; SIZE];
        device[at] = 1;
        device
    }

    #[test]
    fn a_device_with_anything_where_it_is_looked_at_holds_unknown_data() {
        assert_eq!(probe(&vec![0_u8; SIZE]), Content::Blank);
        for (what, at) in [
            ("the last byte of the first MiB", (1 << 20) - 1),
            ("VMFS", 1 << 20),
            ("a backup super block of ext4 with blocks of 1 KiB", (8 << 20) + 1024 + 56),
            ("a backup super block of ext4 with blocks of 4 KiB", (128 << 20) + 56),
            ("the second allocation group of XFS", SIZE / 4),
            ("content in the middle", SIZE / 2 + 5000),
            ("the third label of ZFS", SIZE - (512 << 10) + (128 << 10)),
            ("the header of a backup GPT", SIZE - 512),
            ("the metadata of DRBD", SIZE - 4096),
            ("the last byte", SIZE - 1),
        ] {
            assert_eq!(probe(&with(at)), Content::Unknown, "{what}");
        }
    }

    #[test]
    fn a_small_device_is_read_whole() {
        let small = 3 << 20;
        for at in [0, 1_234_567, 2_345_678, small - 1] {
            let mut device = vec![0; small];
            assert!(is_blank(&device).unwrap());
            device[at] = 1;
            assert!(!is_blank(&device).unwrap(), "{at}");
        }
        for size in [0, 1, 47, 48, 512, 1 << 20] {
            assert!(is_blank(&vec![0_u8; size]).unwrap(), "{size}");
        }
    }

    #[test]
    fn an_erased_device_holds_nothing_until_something_is_written_to_it() {
        let mut device = with(SIZE / 2);
        let marked = mark_of_erased(&device).unwrap();
        device[..MARK].copy_from_slice(&marked);
        assert_eq!(probe(&device), Content::Blank);
        for at in [MARK, (1 << 20) - 1, 1 << 20, SIZE / 2, SIZE - 1] {
            let before = std::mem::replace(&mut device[at], 7);
            assert_eq!(probe(&device), Content::Unknown, "{at}");
            device[at] = before;
        }
        device[MAGIC.len()] ^= 1;
        assert_eq!(probe(&device), Content::Unknown, "another digest");
        device[..MARK].fill(0);
        assert_eq!(probe(&device), Content::Unknown, "no mark");
    }

    #[test]
    fn what_an_interrupted_block_copy_wrote_is_nothing_but_its_first_mebibyte_counts() {
        let mut device = with(SIZE / 2);
        device[..MARK].copy_from_slice(&mark_of_unfinished());
        assert_eq!(probe(&device), Content::Blank);
        device[5000] = 1;
        assert_eq!(probe(&device), Content::Unknown);
    }

    #[test]
    fn the_places_lie_within_the_device_in_its_order() {
        for size in [0, 512, 16 << 20, (16 << 20) + 512, 300_000_000 & !511, 10 << 40, 1 << 62] {
            let places = places(size);
            assert!(places.iter().all(|p| p.start <= p.end && p.end <= size), "{size}");
            assert!(places.is_sorted_by_key(|p| p.start), "{size}");
            let bytes: u64 = places.iter().map(|p| p.end - p.start).sum();
            assert!(places.len() < 120 && bytes <= SMALL, "{size}: {bytes}");
        }
    }
}
