//! The partitions that rows named lately: the short way from a row's texts to its partition.
//!
//! Asked by `Partitioner::assign` before it joins and looks up values, which takes several times as
//! long. Texts of up to 16 bytes, as nearly all partitions have, are remembered here and compared
//! as one number each; the partition keeps a copy of longer ones. Invariant: it knows only
//! partitions that the long way has found for the same texts.

use alloc::boxed::Box;
use alloc::vec::Vec;

use upsert_sink_format::batch::{Column, ShortText, Slices, Values};
use upsert_sink_format::words;

use super::PartitionIndex;

/// The number that it remembers of short and of longer texts: one at each place, the latest.
const PLACES: usize = 64;

/// A few partitions, each at a place that follows from its texts.
#[derive(Clone, Debug)]
pub(super) struct RecentPartitions {
    short: [Recent; PLACES],
    longer: [Option<PartitionIndex>; PLACES],
}

/// A partition and the texts that it was found for; refused if there is none.
#[derive(Clone, Copy, Debug)]
struct Recent {
    texts: [ShortText; COLUMNS_MAX],
    partition: PartitionIndex,
}

/// Columns that partitions are found by; where there are more, values are joined.
const COLUMNS_MAX: usize = 2;

/// The columns of a batch that partitions are taken from, if all of them are text and none is null.
pub(super) struct PartitionTexts<'a, const N: usize>([Slices<'a>; N]);

impl<'a, const N: usize> PartitionTexts<'a, N> {
    /// None if there are more or fewer than N columns, if one is of another layout, or may be null.
    pub(super) fn of(columns: &[&Column<'a>]) -> Option<Self> {
        const { assert!(N <= COLUMNS_MAX, "as many texts as are remembered") };
        let text = |column: &&Column<'a>| match &column.values {
            Values::Utf8(slices) if !column.has_nulls() => Some(*slices),
            _ => None,
        };
        let texts = columns.iter().map(text).collect::<Option<Vec<_>>>()?;
        texts.try_into().ok().map(Self)
    }

    /// The texts of a row; none if one of them is not short.
    #[inline(always)]
    fn short(&self, row: usize) -> Option<[ShortText; N]> {
        let mut texts = [ShortText::default(); N];
        for (text, slices) in texts.iter_mut().zip(&self.0) {
            *text = slices.short(row)?;
        }
        Some(texts)
    }

    /// The place of a partition of the row's texts if one of them is not short.
    fn longer_place(&self, row: usize) -> usize {
        let ends = self.0.iter().fold(0, |ends, slices| {
            let bytes = slices.bytes(row);
            let end = bytes.last_chunk::<8>().map_or_else(|| words::word(bytes), words::whole);
            words::mix(ends ^ end)
        });
        ends as usize % PLACES
    }

    /// Whether these are the texts of the row.
    fn are(&self, row: usize, texts: &[Box<[u8]>]) -> bool {
        let pairs = self.0.iter().zip(texts);
        pairs.fold(true, |all, (slices, text)| all && words::same(slices.bytes(row), text))
    }

    /// The texts of a row.
    pub(super) fn to_owned(&self, row: usize) -> Vec<Box<[u8]>> {
        self.0.iter().map(|slices| slices.bytes(row).into()).collect()
    }
}

/// The place of a partition of these texts: values differ at their ends.
#[inline(always)]
fn place<const N: usize>(texts: &[ShortText; N]) -> usize {
    let ends = texts.iter().fold(0, |ends, text| words::mix(ends ^ text.last_word()));
    ends as usize % PLACES
}

impl RecentPartitions {
    /// One that remembers nothing.
    pub(super) fn new() -> Self {
        let none = Recent {
            texts: [ShortText::default(); COLUMNS_MAX],
            partition: PartitionIndex::REFUSED,
        };
        Self { short: [none; PLACES], longer: [None; PLACES] }
    }

    /// The partition of a row, if it is remembered for the same short texts.
    #[inline(always)]
    pub(super) fn find<const N: usize>(
        &self,
        texts: &PartitionTexts<'_, N>,
        row: usize,
    ) -> Option<PartitionIndex> {
        let short = texts.short(row)?;
        let recent = &self.short[place(&short)];
        let same = recent.texts[..N] == short && !recent.partition.is_refused();
        same.then_some(recent.partition)
    }

    /// The same for texts of which one is not short.
    pub(super) fn find_longer<'p, const N: usize>(
        &self,
        texts: &PartitionTexts<'_, N>,
        row: usize,
        texts_of: impl Fn(PartitionIndex) -> &'p [Box<[u8]>],
    ) -> Option<PartitionIndex> {
        let index = self.longer[texts.longer_place(row)]?;
        texts.are(row, texts_of(index)).then_some(index)
    }

    /// Remembers the partition of a row in place of the one that was there.
    pub(super) fn note<const N: usize>(
        &mut self,
        texts: &PartitionTexts<'_, N>,
        row: usize,
        partition: PartitionIndex,
    ) {
        let Some(short) = texts.short(row) else {
            self.longer[texts.longer_place(row)] = Some(partition);
            return;
        };
        let recent = &mut self.short[place(&short)];
        recent.texts[..N].copy_from_slice(&short);
        recent.partition = partition;
    }

    /// Forgets all.
    pub(super) fn forget(&mut self) {
        *self = Self::new();
    }
}
