//! The last record of each key: one pass over one buffer finds the records that a later one of the
//! same key replaced.
//!
//! Within `BucketBuffer`, when `sink.merge.enable` is on and the buffer is sealed or full: a row
//! is only noted when it arrives, because a look into an index of its bucket would miss the cache
//! each time. Invariant: exactly the last record of each key is live, by comparison of the keys'
//! bytes; notes stand in the order in which their records arrived.

use alloc::vec::Vec;

use upsert_sink_format::words;

use super::pool::{BufferPool, Chain};

/// Bytes of a note beside the key.
pub(super) const NOTE_BYTES: usize = 12;

/// Notes a record with its key.
#[inline(always)]
pub(super) fn note(notes: &mut Chain, pool: &mut BufferPool, length: usize, crc: u32, key: &[u8]) {
    let length = u32::try_from(length).expect("a record is shorter than 2 GiB");
    assert!(length & REPLACED == 0, "a record is shorter than 2 GiB");
    let key_length = u32::try_from(key.len()).expect("a key is shorter than its record");
    notes.append_both(pool, [length, crc, key_length], key);
}

/// The note of one record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Note<'a> {
    /// The record's bytes.
    pub(super) length: usize,
    /// The record's checksum.
    pub(super) crc: u32,
    /// Whether a later record has its key.
    pub(super) replaced: bool,
    /// Its key.
    pub(super) key: &'a [u8],
}

/// The memory of the pass: reused for all buffers, empty of meaning between two passes.
#[derive(Clone, Debug, Default)]
pub(super) struct MergeScratch {
    /// The notes of one buffer in one piece.
    notes: Vec<u8>,
    /// Open addressing: half of a hash above the place of a note counted from one; zero is free.
    index: Vec<u64>,
    /// The number of passes so far: by it a buffer knows whether the notes are still its own.
    passes: u64,
}

/// The records that a pass left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Live {
    /// Bytes of the live records.
    pub(super) bytes: usize,
    /// The number of them.
    pub(super) records: u32,
}

impl MergeScratch {
    /// Reads the notes of a buffer, of so many records, and marks those that were replaced.
    pub(super) fn merge(&mut self, notes: &Chain, records: u32) -> Live {
        self.passes += 1;
        self.notes.clear();
        self.notes.reserve(notes.length());
        notes.pieces(0..notes.length()).for_each(|piece| self.notes.extend_from_slice(piece));
        assert!(self.notes.len() < u32::MAX as usize, "the notes of one buffer are below 4 GiB");
        // Filled to four fifths at most: a probe then sees two places on average, side by side.
        let places = (records as usize + records as usize / 4 + 1).next_power_of_two();
        self.index.clear();
        self.index.resize(places, 0);
        let mut live = Live { bytes: 0, records: 0 };
        let mut at = 0;
        while let Some(note) = read(&self.notes, at) {
            let length = note.length;
            let next = at + NOTE_BYTES + note.key.len();
            live.bytes += length;
            match self.replace(at) {
                Some(replaced) => live.bytes -= replaced,
                None => live.records += 1,
            }
            at = next;
        }
        live
    }

    /// Puts the note at this place into the index. Returns the length of the record that it
    /// replaces, which is marked.
    #[inline]
    fn replace(&mut self, at: usize) -> Option<usize> {
        let key = read(&self.notes, at)?.key;
        let hash = words::hash(key);
        let mask = self.index.len() - 1;
        let entry = (hash & HASH_HALF) | (at as u64 + 1);
        let mut place = hash as usize & mask;
        loop {
            let found = self.index[place];
            if found == 0 {
                self.index[place] = entry;
                return None;
            }
            if (found ^ entry) & HASH_HALF == 0 {
                let earlier_at = (found & !HASH_HALF) as usize - 1;
                let earlier = read(&self.notes, earlier_at).expect("the index names notes");
                if words::same(earlier.key, key) {
                    let length = earlier.length;
                    self.index[place] = entry;
                    // The mark is the highest bit of the length.
                    self.notes[earlier_at + 3] |= (REPLACED >> 24) as u8;
                    return Some(length);
                }
            }
            place = (place + 1) & mask;
        }
    }

    /// The number of the last pass.
    pub(super) fn pass(&self) -> u64 {
        self.passes
    }

    /// The notes of the last pass, in order.
    pub(super) fn notes(&self) -> impl Iterator<Item = Note<'_>> {
        let mut at = 0;
        core::iter::from_fn(move || {
            let note = read(&self.notes, at)?;
            at += NOTE_BYTES + note.key.len();
            Some(note)
        })
    }

    /// The places of the live records, those next to each other as one range.
    pub(super) fn live_runs(&self) -> impl Iterator<Item = core::ops::Range<usize>> {
        let mut notes = self.notes().peekable();
        let mut at = 0;
        core::iter::from_fn(move || {
            while let Some(replaced) = notes.next_if(|note| note.replaced) {
                at += replaced.length;
            }
            let start = at;
            while let Some(live) = notes.next_if(|note| !note.replaced) {
                at += live.length;
            }
            (at > start).then_some(start..at)
        })
    }
}

/// The note at a place; none at the end.
#[inline]
fn read(notes: &[u8], at: usize) -> Option<Note<'_>> {
    let (head, rest) = notes.get(at..)?.split_first_chunk::<NOTE_BYTES>()?;
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    Some(Note {
        length: (word(0) & !REPLACED) as usize,
        crc: word(4),
        replaced: word(0) & REPLACED != 0,
        key: &rest[..word(8) as usize],
    })
}

/// Marks the length of a replaced record.
const REPLACED: u32 = 1 << 31;

/// The half of an index entry that is of the hash.
const HASH_HALF: u64 = !0 << 32;
