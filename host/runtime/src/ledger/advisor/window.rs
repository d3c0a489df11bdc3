//! The records that advice rests on, summed up once for all rules.
//!
//! Invariant: only the newest records of one start are looked at, so that advice follows what is
//! set now, and what is long over is forgotten.

use std::collections::BTreeMap;

use crate::ledger::{CheckpointRecord, LOAD_CLASSES, LedgerTotals, PackLoad, SinkFacts};

/// Records and facts.
pub(super) struct Window<'a> {
    pub(super) facts: &'a SinkFacts,
    pub(super) records: &'a [CheckpointRecord],
    pub(super) total: LedgerTotals,
    /// The time of all writers.
    pub(super) writers_us: u64,
    /// The bytes of the buckets that the records list.
    pub(super) buckets: BTreeMap<u32, u64>,
    pub(super) loads: [PackLoad; LOAD_CLASSES],
    pub(super) held_bytes_max: u64,
    pub(super) memory_bytes_max: u64,
    /// The time by the clock: while rows were taken, and while they were flushed.
    pub(super) clock_us: u64,
}

impl<'a> Window<'a> {
    pub(super) fn of(records: &'a [CheckpointRecord], facts: &'a SinkFacts) -> Self {
        let start = records.last().map_or(0, |record| record.start);
        let older = records.iter().rposition(|record| record.start != start);
        let records = &records[older.map_or(0, |at| at + 1)..];
        let records = &records[records.len().saturating_sub(RECENT)..];
        let mut window = Self {
            facts,
            records,
            total: LedgerTotals::default(),
            writers_us: 0,
            buckets: BTreeMap::new(),
            loads: [PackLoad::default(); LOAD_CLASSES],
            held_bytes_max: 0,
            memory_bytes_max: 0,
            clock_us: 0,
        };
        records.iter().for_each(|record| window.add(record));
        window
    }

    fn add(&mut self, record: &CheckpointRecord) {
        self.total.add(record);
        self.writers_us = self.writers_us.saturating_add(record.writers_us());
        self.clock_us += record.writers_us() / u64::from(record.writers.max(1));
        for (bucket, bytes) in &record.buckets.largest {
            let total = self.buckets.entry(*bucket).or_default();
            *total = total.saturating_add(*bytes);
        }
        self.loads.iter_mut().zip(&record.loads).for_each(|(load, more)| load.join(more));
        self.held_bytes_max = self.held_bytes_max.max(record.held_bytes_max);
        self.memory_bytes_max = self.memory_bytes_max.max(record.memory_bytes_max);
    }

    /// Whether it lasted long enough to call what was seen a limit: a moment says nothing.
    pub(super) fn is_sustained(&self) -> bool {
        self.clock_us >= SUSTAINED_US
    }

    /// The part of the writers' time, in hundredths.
    pub(super) fn share(&self, us: u64) -> u64 {
        hundredths(us, self.writers_us)
    }

    /// The bytes of a pack, before compression, on average; none without packs.
    pub(super) fn pack_bytes(&self) -> Option<u64> {
        self.total.sent.bytes.checked_div(self.total.sent.packs)
    }
}

/// A part of a whole in hundredths; zero of nothing.
pub(super) fn hundredths(part: u64, whole: u64) -> u64 {
    part.saturating_mul(100).checked_div(whole).unwrap_or_default()
}

/// Records that are looked at: enough for the median of a minute, and soon forgotten.
const RECENT: usize = 64;
/// Ten seconds.
const SUSTAINED_US: u64 = 10_000_000;
