//! The records of a bucket that lie in the file cache: where they are.
//!
//! Within `BucketBuffer`, before the records in memory. Invariant: the ranges, one after another,
//! are the bucket's oldest records in their order.

use alloc::vec::Vec;
use core::ops::Range;

use upsert_sink_format::tunnel::CachedRange;

/// The cached records of one bucket.
#[derive(Clone, Debug, Default)]
pub(super) struct CachedRecords {
    ranges: Vec<CachedRange>,
    bytes: usize,
}

impl CachedRecords {
    /// The bytes of the records.
    #[inline]
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The memory that is held to know where they are.
    pub(super) fn held(&self) -> usize {
        self.ranges.len() * CachedRange::HELD_BYTES
    }

    /// Adds a range behind the others.
    pub(super) fn push(&mut self, range: CachedRange) {
        self.bytes += range.length as usize;
        match self.ranges.last_mut() {
            Some(last) if last.segment == range.segment && last.end() == range.offset => {
                last.length += range.length;
            }
            _ => self.ranges.push(range),
        }
    }

    /// The records in these places, which rise, and no others.
    pub(super) fn cut(&self, live: impl Iterator<Item = Range<usize>>) -> Self {
        let mut cut = Self::default();
        let (mut ranges, mut start) = (self.ranges.iter().peekable(), 0);
        for run in live {
            while let Some(range) = ranges.peek() {
                let end = start + range.length as usize;
                let (from, to) = (run.start.max(start), run.end.min(end));
                if from < to {
                    let skipped = (from - start) as u32;
                    let (offset, length) = (range.offset + skipped, (to - from) as u32);
                    cut.push(CachedRange { segment: range.segment, offset, length });
                }
                if run.end < end {
                    break;
                }
                start = end;
                ranges.next();
            }
        }
        cut
    }

    /// The ranges, in order.
    pub(super) fn into_ranges(self) -> Vec<CachedRange> {
        self.ranges
    }

    /// The same, to look at.
    pub(super) fn ranges(&self) -> &[CachedRange] {
        &self.ranges
    }
}

#[cfg(test)]
mod tests {
    use upsert_sink_format::id::SegmentId;

    use super::*;

    fn range(segment: u32, offset: u32, length: u32) -> CachedRange {
        CachedRange { segment: SegmentId(segment), offset, length }
    }

    fn records(ranges: &[CachedRange]) -> CachedRecords {
        let mut records = CachedRecords::default();
        ranges.iter().for_each(|range| records.push(*range));
        records
    }

    #[test]
    fn ranges_next_to_each_other_are_one() {
        let records =
            records(&[range(1, 0, 10), range(1, 10, 5), range(1, 20, 5), range(2, 25, 1)]);
        assert_eq!(records.ranges(), [range(1, 0, 15), range(1, 20, 5), range(2, 25, 1)]);
        assert_eq!(records.bytes(), 21);
    }

    #[test]
    fn what_is_cut_is_what_lies_in_the_places() {
        let records = records(&[range(1, 100, 10), range(2, 0, 10)]);
        let cut = |live: &[(usize, usize)]| {
            records.cut(live.iter().map(|(from, to)| *from..*to)).into_ranges()
        };
        assert_eq!(cut(&[(0, 20)]), records.ranges());
        assert_eq!(cut(&[(0, 3), (8, 12)]), [range(1, 100, 3), range(1, 108, 2), range(2, 0, 2)]);
        assert_eq!(cut(&[(10, 11), (15, 20)]), [range(2, 0, 1), range(2, 5, 5)]);
        assert_eq!(cut(&[(10, 15), (19, 40)]), [range(2, 0, 5), range(2, 9, 1)], "rest in memory");
        assert_eq!(cut(&[(25, 40)]), [], "all of it in memory");
        assert_eq!(cut(&[]), []);
    }
}
