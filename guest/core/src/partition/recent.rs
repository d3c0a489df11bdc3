//! The partitions that rows named lately: the short way from a row's texts to its partition.
//!
//! Asked by `Partitioner::assign` before it joins and looks up values, which takes several times as
//! long. Invariant: it knows only partitions that the long way has found for the same texts.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::PartitionIndex;
use crate::batch::{Column, Slices, Values};
use crate::buffer::words;

/// How many it remembers: one at each place, the latest.
const PLACES: usize = 64;

/// A few partitions, each at a place that its texts tell.
#[derive(Clone, Debug)]
pub(super) struct RecentPartitions {
    at: [Option<PartitionIndex>; PLACES],
}

/// The columns of a batch that partitions are taken from, if all of them are text and none is null.
pub(super) struct PartitionTexts<'a, const N: usize>([Slices<'a>; N]);

impl<'a, const N: usize> PartitionTexts<'a, N> {
    /// None if there are more or fewer than N columns, if one is of another layout, or may be null.
    pub(super) fn of(columns: &[&Column<'a>]) -> Option<Self> {
        let text = |column: &&Column<'a>| match &column.values {
            Values::Utf8(slices) if !column.has_nulls() => Some(*slices),
            _ => None,
        };
        let texts = columns.iter().map(text).collect::<Option<Vec<_>>>()?;
        texts.try_into().ok().map(Self)
    }

    /// Where a partition of the row's texts is remembered: values differ at their ends.
    #[inline]
    pub(super) fn place(&self, row: usize) -> usize {
        let ends = self.0.iter().fold(0, |ends, slices| {
            let bytes = slices.bytes(row);
            let end = bytes.last_chunk::<8>().map_or_else(|| words::word(bytes), words::whole);
            words::mix(ends ^ end)
        });
        ends as usize % PLACES
    }

    /// Whether these are the texts of the row.
    #[inline]
    fn are(&self, row: usize, texts: &[Box<[u8]>]) -> bool {
        let pairs = self.0.iter().zip(texts);
        pairs.fold(true, |all, (slices, text)| all && words::same(slices.bytes(row), text))
    }

    /// The texts of a row.
    pub(super) fn to_owned(&self, row: usize) -> Vec<Box<[u8]>> {
        self.0.iter().map(|slices| slices.bytes(row).into()).collect()
    }
}

impl RecentPartitions {
    /// One that remembers nothing.
    pub(super) const fn new() -> Self {
        Self { at: [None; PLACES] }
    }

    /// The partition of a row, if the one at this place was found for the same texts.
    #[inline]
    pub(super) fn find<'p, const N: usize>(
        &self,
        texts: &PartitionTexts<'_, N>,
        row: usize,
        place: usize,
        texts_of: impl Fn(PartitionIndex) -> &'p [Box<[u8]>],
    ) -> Option<PartitionIndex> {
        let index = self.at[place]?;
        texts.are(row, texts_of(index)).then_some(index)
    }

    /// Remembers a partition in place of the one that was there.
    pub(super) fn note(&mut self, place: usize, partition: PartitionIndex) {
        self.at[place] = Some(partition);
    }

    /// Forgets all.
    pub(super) fn forget(&mut self) {
        self.at = [None; PLACES];
    }
}
