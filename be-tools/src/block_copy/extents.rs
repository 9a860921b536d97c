//! Arithmetic on ranges of bytes of a device.

use std::ops::Range;

/// Ranges that are closer together than this are merged, because reading the gap takes less time
/// than a second request.
const GAP: u64 = 128 << 10;

/// Alignment of requests with O_DIRECT, for every sector size.
pub const ALIGNMENT: u64 = 4096;

/// The most ranges that are kept. If a file system has more, larger gaps are merged too.
const MAX_RANGES: usize = 1 << 18;

/// Collects ranges in any order. Ranges close to each other are merged, and the number of ranges is
/// bounded.
#[derive(Debug)]
pub struct Extents {
    ranges: Vec<Range<u64>>,
    gap: u64,
}

impl Default for Extents {
    fn default() -> Self {
        Extents { ranges: Vec::new(), gap: GAP }
    }
}

impl Extents {
    /// Adds a range, which may be empty or overlap others.
    pub fn add(&mut self, range: Range<u64>) {
        match self.ranges.last_mut() {
            _ if range.is_empty() => return,
            Some(last)
                if range.start >= last.start
                    && range.start <= last.end.saturating_add(self.gap) =>
            {
                last.end = last.end.max(range.end);
                return;
            }
            _ => self.ranges.push(range),
        }
        while self.ranges.len() > MAX_RANGES {
            self.gap = self.gap.saturating_mul(2);
            self.merge();
        }
    }

    /// Adds all ranges of `other`.
    pub fn append(&mut self, other: Extents) {
        other.ranges.into_iter().for_each(|range| self.add(range));
    }

    fn merge(&mut self) {
        self.ranges.sort_unstable_by_key(|range| range.start);
        let gap = self.gap;
        self.ranges.dedup_by(|next, last| {
            let one = next.start <= last.end.saturating_add(gap);
            if one {
                last.end = last.end.max(next.end);
            }
            one
        });
    }

    /// Returns the ranges sorted, merged, rounded outwards, and cut at `size`.
    pub fn sorted(mut self, size: u64) -> Vec<Range<u64>> {
        self.ranges.iter_mut().for_each(|range| *range = rounded_out(range, size));
        self.merge();
        self.ranges
    }
}

/// Rounds a range outwards to [`ALIGNMENT`], but not beyond `size`.
pub fn rounded_out(range: &Range<u64>, size: u64) -> Range<u64> {
    let end = range.end.checked_next_multiple_of(ALIGNMENT).unwrap_or(size);
    range.start / ALIGNMENT * ALIGNMENT..end.min(size)
}

/// Rounds a range inwards to [`ALIGNMENT`].
pub fn rounded_in(range: &Range<u64>) -> Range<u64> {
    let start = range.start.checked_next_multiple_of(ALIGNMENT).unwrap_or(range.end);
    let end = range.end / ALIGNMENT * ALIGNMENT;
    start..end.max(start)
}

/// Cuts `holes` out of `ranges`. Both must be sorted.
pub fn without(ranges: &[Range<u64>], holes: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut rest = Vec::with_capacity(ranges.len());
    let mut holes = holes.iter().filter(|hole| !hole.is_empty()).peekable();
    for range in ranges {
        let mut start = range.start;
        while let Some(hole) = holes.peek().filter(|hole| hole.start < range.end) {
            if hole.start > start {
                rest.push(start..hole.start);
            }
            start = start.max(hole.end);
            if hole.end > range.end {
                // The hole may extend into the next range.
                break;
            }
            holes.next();
        }
        if start < range.end {
            rest.push(start..range.end);
        }
    }
    rest
}

/// Sorts ranges and merges those that overlap or touch.
pub fn union(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.retain(|range| !range.is_empty());
    ranges.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "a list of one range is meant")]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn ranges_close_together_are_merged_and_distant_ones_are_not() {
        let mut extents = Extents::default();
        for range in [5 * MIB..5 * MIB + 1024, 1024..2048, 64 << 10..65 << 10, 10..10, MIB..2 * MIB]
        {
            extents.add(range);
        }
        assert_eq!(
            extents.sorted(5 * MIB + 2048),
            [0..68 << 10, MIB..2 * MIB, 5 * MIB..5 * MIB + 2048]
        );
    }

    #[test]
    fn a_fragmented_file_system_takes_no_more_memory() {
        let mut extents = Extents::default();
        for n in 0..4 * MAX_RANGES as u64 {
            extents.add(n * MIB..n * MIB + 4096);
        }
        assert!(extents.ranges.len() <= MAX_RANGES);
        let all = extents.sorted(u64::MAX);
        let covered = |at: u64| all.iter().any(|range| range.contains(&at));
        let last = (4 * MAX_RANGES as u64 - 1) * MIB + 4095;
        assert!(covered(0) && covered(77 * MIB) && covered(last));
        assert!(all.windows(2).all(|pair| pair[0].end < pair[1].start));
    }

    #[test]
    fn holes_are_cut_out_of_ranges() {
        type Ranges<'a> = &'a [Range<u64>];
        let table: [(Ranges<'_>, Ranges<'_>, Ranges<'_>); 7] = [
            (&[0..10], &[], &[0..10]),
            (&[0..10], &[3..4], &[0..3, 4..10]),
            (&[0..10, 20..30], &[5..25], &[0..5, 25..30]),
            (&[0..10, 20..30, 40..50], &[0..10, 19..31], &[40..50]),
            (&[5..10], &[0..6, 8..9, 10..11], &[6..8, 9..10]),
            (&[5..10], &[0..5, 10..20], &[5..10]),
            (&[0..10], &[4..4, 8..20], &[0..8]),
        ];
        for (ranges, holes, expected) in table {
            assert_eq!(without(ranges, holes), expected, "{ranges:?} {holes:?}");
        }
    }

    #[test]
    fn rounding_never_exceeds_the_size() {
        assert_eq!(rounded_out(&(5000..5001), 6000), 4096..6000);
        assert_eq!(rounded_out(&(0..u64::MAX), 100), 0..100);
        assert_eq!(rounded_in(&(1..8192)), 4096..8192);
        assert!(rounded_in(&(4097..8191)).is_empty());
        assert_eq!(union(vec![5..9, 0..3, 3..4, 7..8, 2..2]), [0..4, 5..9]);
    }
}
