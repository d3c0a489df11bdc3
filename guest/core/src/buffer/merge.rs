//! The last record of each key: finds the earlier record of a key and marks it dropped.
//!
//! Within `BucketBuffer`, beside its bytes, when `sink.merge.enable` is on. Invariant: the index
//! names exactly the live records that have a key, each key once; live records stand in the order
//! in which they came.

use alloc::vec::Vec;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::pool::{BufferPool, Chain};
use super::words;

/// One record in the buffer's bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) start: usize,
    /// Zero: dropped for a later record of its key. No record is empty.
    pub(super) length: usize,
    pub(super) crc: u32,
    key_length: u32,
    /// Up to eight bytes the key itself; beyond, half of its hash above its place in the chain of
    /// keys.
    key: u64,
}

impl Slot {
    pub(super) fn is_live(&self) -> bool {
        self.length > 0
    }

    fn hash(&self) -> u64 {
        key_hash(self.key, self.key_length)
    }
}

/// The records of one buffer and the index of their keys.
#[derive(Debug, Default)]
pub(super) struct KeyedRecords {
    slots: Vec<Slot>,
    /// Places in `slots`. Looked up only, never walked: its order means nothing.
    index: HashTable<u32>,
    /// The keys longer than eight bytes, each once.
    keys: Chain,
}

impl KeyedRecords {
    /// Takes a record that stands at `start`. Returns the length of the record of the same key that
    /// it drops, or zero.
    pub(super) fn insert(
        &mut self,
        pool: &mut BufferPool,
        key: &[u8],
        (start, length, crc): (usize, usize, u32),
        expected: usize,
    ) -> usize {
        self.make_room(expected);
        let key_length = u32::try_from(key.len()).expect("a key is shorter than a batch");
        let short = key.len() <= INLINE_BYTES;
        // The place in the chain is not known before the key is found to be new.
        let word = if short { words::word(key) } else { words::hash(key) & !PLACE_MASK };
        let (slots, keys) = (&self.slots, &self.keys);
        let is_key = |at: &u32| {
            let slot = &slots[*at as usize];
            slot.key_length == key_length
                && if short {
                    slot.key == word
                } else {
                    slot.key & !PLACE_MASK == word && keys.holds(place(slot.key), key)
                }
        };
        let rehash = |at: &u32| slots[*at as usize].hash();
        let record = u32::try_from(slots.len()).expect("a buffer has fewer than 4 G records");
        let (kept_key, dropped) = match self.index.entry(key_hash(word, key_length), is_key, rehash)
        {
            Entry::Occupied(mut entry) => {
                let earlier = &mut self.slots[*entry.get() as usize];
                *entry.get_mut() = record;
                (earlier.key, core::mem::take(&mut earlier.length))
            }
            Entry::Vacant(entry) => {
                entry.insert(record);
                (if short { word } else { word | self.store_key(pool, key) }, 0)
            }
        };
        self.slots.push(Slot { start, length, crc, key_length, key: kept_key });
        dropped
    }

    /// Keeps a long key, and returns its place.
    fn store_key(&mut self, pool: &mut BufferPool, key: &[u8]) -> u64 {
        let place = self.keys.length() as u64;
        assert!(place <= PLACE_MASK, "the keys of one buffer are less than 4 GiB");
        self.keys.append(pool, key);
        place
    }

    #[inline]
    fn make_room(&mut self, expected: usize) {
        if self.slots.len() == self.slots.capacity() {
            self.grow(expected);
        }
    }

    /// Grows in steps of two, but from an eighth of the expected number of records at once to all
    /// of it: the records of a bucket that fills again and again are then indexed once, and a
    /// bucket that has gone quiet costs nothing.
    #[cold]
    fn grow(&mut self, expected: usize) {
        let count = self.slots.len();
        let at_once = if count >= expected / 8 { expected } else { 0 };
        let target = at_once.max(2 * count).max(4);
        self.slots.reserve_exact(target - count);
        // Left to itself the index would grow by asking for the hashes of slots all over the
        // memory.
        self.index = HashTable::with_capacity(self.slots.capacity());
        self.fill_index();
    }

    /// Puts the live records into the index, which is empty.
    fn fill_index(&mut self) {
        let slots = &self.slots;
        let rehash = |at: &u32| slots[*at as usize].hash();
        for (at, slot) in slots.iter().enumerate().filter(|(_, slot)| slot.is_live()) {
            let record = u32::try_from(at).expect("a buffer has fewer than 4 G records");
            self.index.insert_unique(slot.hash(), record, rehash);
        }
    }

    /// All records, dropped ones included, in the order in which they came.
    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Bytes of the keys that are not kept in place.
    pub(super) fn key_bytes(&self) -> usize {
        self.keys.length()
    }

    /// Forgets the dropped records; `place` moves each live one and returns where it now stands.
    pub(super) fn compact(&mut self, mut place: impl FnMut(&Slot) -> usize) {
        self.slots.retain(Slot::is_live);
        for slot in &mut self.slots {
            slot.start = place(slot);
        }
        self.index.clear();
        self.fill_index();
    }

    /// Ends the records; the chunks of the keys go back.
    pub(super) fn release(mut self, pool: &mut BufferPool) {
        self.keys.release(pool);
    }
}

#[inline]
fn key_hash(key: u64, key_length: u32) -> u64 {
    let known = if key_length as usize <= INLINE_BYTES { key } else { key & !PLACE_MASK };
    words::mix(known ^ words::mix(u64::from(key_length)))
}

/// Where a long key stands in the chain of keys.
fn place(key: u64) -> usize {
    usize::try_from(key & PLACE_MASK).expect("32 bits are an index")
}

/// Keys up to this length are kept in the slot.
const INLINE_BYTES: usize = 8;

/// The half of `Slot::key` that is a place.
const PLACE_MASK: u64 = 0xffff_ffff;
