//! Rows of the buffers in the file cache: which go there, when, and what comes of it.
//!
//! Part of `Buffers`; `spool` knows the segments. In file cache mode rows go there piece by piece;
//! otherwise the coldest partitions do when memory is short, if the host grants a cache. Invariant:
//! a bucket is sealed or relieved only when none of its rows is on its way.

use alloc::string::String;
use alloc::vec::Vec;

use upsert_sink_format::id::Millis;
use upsert_sink_format::tunnel::CachedRange;

use super::spool::{SpillEnd, Spool};
use super::{Buffers, Place};
use crate::io::{CacheCommand, Completion};

/// The news of an append to the file cache.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CacheNews {
    /// So many bytes are cached.
    Cached(u64),
    /// Rows wait in memory again, for this reason.
    Refused(String),
    /// The outcome is late.
    Late,
    /// Nothing yet.
    Nothing,
}

impl Buffers {
    /// Begins to spill what is due, if the file cache is ready for it.
    pub(crate) fn spill(&mut self) {
        let Some(spool) = self.spool.as_ref().filter(|spool| spool.is_ready()) else { return };
        let room = usize::try_from(spool.room()).unwrap_or(usize::MAX);
        let due = self.due_to_spill(room);
        if due.is_empty() {
            return;
        }
        let (mut bytes, mut parts) = (Vec::new(), Vec::new());
        for place in due {
            let before = bytes.len();
            self.start_spill(place, &mut bytes);
            if bytes.len() > before {
                parts.push((place, bytes.len() - before));
            }
        }
        let spool = self.spool.as_mut().expect("it is ready");
        if !parts.is_empty() {
            spool.append(bytes, parts);
        }
    }

    /// The buckets to spill now, into so much room: an append of them is not large, but for one
    /// bucket that is.
    fn due_to_spill(&self, room: usize) -> Vec<Place> {
        let held = self.account.held();
        let mut excess = if held > self.spill_from { held - self.spill_from / 2 } else { 0 };
        if excess == 0 && !self.cache.enabled {
            return Vec::new();
        }
        let (mut due, mut bytes) = (Vec::new(), 0);
        for index in self.coldest_first() {
            let partition = &self.partitions[index];
            let in_memory = partition.bytes.buffered() - partition.kept;
            let is_piece = self.cache.enabled && in_memory >= self.piece_bytes;
            if excess == 0 && !is_piece {
                continue;
            }
            for place in self.with_rows(index) {
                let length = self.bytes_in_memory(place);
                let is_large = bytes > 0 && bytes + length > SPILL_BYTES_MAX;
                if length == 0 || is_large || bytes + length > room {
                    continue;
                }
                bytes += length;
                excess = excess.saturating_sub(length as u64);
                due.push(place);
            }
            if bytes >= SPILL_BYTES_MAX / 2 {
                return due;
            }
        }
        due
    }

    fn bytes_in_memory(&self, place: Place) -> usize {
        let partition = &self.partitions[place.partition.0 as usize];
        let at = partition.slot_of[place.bucket.0 as usize];
        partition.slots[at as usize].buffer.bytes_in_memory()
    }

    /// Moves the rows of a bucket from memory to `out`.
    fn start_spill(&mut self, place: Place, out: &mut Vec<u8>) {
        // Notes of cached rows may take half of the memory that spilling begins at.
        let settle = self.kept >= self.spill_from / 2;
        let partition = &mut self.partitions[place.partition.0 as usize];
        let slot = partition.slot(place.bucket);
        let (records, cached) = (slot.buffer.records(), slot.buffer.cached_ranges().to_vec());
        let change = slot.buffer.start_spill(&mut self.pool, settle, out);
        self.merged += super::merged_away(records, slot.buffer.records());
        self.account.change(&mut partition.bytes, change);
        self.keep_cached(place, &cached);
    }

    /// Takes back what of a bucket is on its way to the file cache.
    pub(super) fn take_back(&mut self, place: Place) {
        let Some((bytes, range)) = self.spool.as_mut().and_then(|spool| spool.take_back(place))
        else {
            return;
        };
        let slot = self.partitions[place.partition.0 as usize].slot(place.bucket);
        slot.buffer.take_back(&mut self.pool, &bytes[range]);
    }

    /// Notes which cached records of a bucket are still needed: those that its buffer has now.
    pub(super) fn keep_cached(&mut self, place: Place, before: &[CachedRange]) {
        let Some(spool) = &mut self.spool else { return };
        let partition = &mut self.partitions[place.partition.0 as usize];
        if !before.is_empty() {
            spool.keep(before, partition.slot(place.bucket).buffer.cached_ranges());
        }
        let kept = partition.kept_now();
        self.kept = self.kept - partition.kept + kept;
        partition.kept = kept;
    }

    /// Something that was asked of the file cache has an outcome.
    pub(crate) fn complete_spill(&mut self, completion: Completion) -> CacheNews {
        let Some(spool) = &mut self.spool else { return CacheNews::Late };
        match spool.complete(completion) {
            SpillEnd::Again => CacheNews::Nothing,
            SpillEnd::Cached(parts) => {
                let mut bytes = 0;
                for (place, range) in parts {
                    let partition = &mut self.partitions[place.partition.0 as usize];
                    let change = partition.slot(place.bucket).buffer.finish_spill(range);
                    self.account.change(&mut partition.bytes, change);
                    self.keep_cached(place, &[]);
                    bytes += u64::from(range.length);
                }
                CacheNews::Cached(bytes)
            }
            SpillEnd::Late => CacheNews::Late,
            SpillEnd::Refused(parts, bytes, cause) => {
                for (place, range) in parts {
                    let slot = self.partitions[place.partition.0 as usize].slot(place.bucket);
                    slot.buffer.take_back(&mut self.pool, &bytes[range]);
                    self.keep_cached(place, &[]);
                }
                CacheNews::Refused(cause)
            }
        }
    }

    /// The host's next steps with the file cache, in order.
    pub(crate) fn take_cache_commands(&mut self) -> Vec<CacheCommand> {
        self.spool.as_mut().map(Spool::take_commands).unwrap_or_default()
    }

    /// The buckets of partitions that hold `sink.file-cached.rolling.max-size`, cached rows
    /// included; looked for every `sink.bucket.check-interval`.
    pub(crate) fn rolled(&mut self, now: Millis) -> Vec<Place> {
        if !self.cache.enabled || now < self.check_at {
            return Vec::new();
        }
        self.check_at = now.plus(self.cache.check_interval);
        let partitions = self.partitions.iter().enumerate();
        let large =
            partitions.filter(|(_, partition)| partition.bytes_all() >= self.cache.rolling.0);
        large.flat_map(|(index, _)| self.with_rows(index)).collect()
    }

    /// The time of the next look at the sizes, if rows are cached.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        (self.cache.enabled && self.account.waiting() > 0).then_some(self.check_at)
    }
}

/// Bytes of one append at most: a write of this size is quick, and its rows are held twice until
/// it is done.
const SPILL_BYTES_MAX: usize = 1 << 20;
