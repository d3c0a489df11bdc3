//! The fold of a job's changes by key, in a memory that is given: what does not fit is spilled, in
//! slices that are folded one by one.
//!
//! Between `changes.rs` and `sums.rs`; `compare.rs` reads the slices once more. Invariant: however
//! often it spills, the rows that are left are those of a fold that never did; the rows in memory
//! take at most the bytes that are given.

use std::collections::HashMap;

use super::codec::{KeyState, RowCodec, RowKey};
use super::spill::{KeyRange, SpillDirectory, SpillSlices};
use crate::failure::bad_input;

/// Keys with what is known of each, and the bytes that they take.
#[derive(Debug, Default)]
pub(super) struct HeldRows {
    pub(super) rows: HashMap<RowKey, KeyState>,
    pub(super) bytes: usize,
}

/// A fold under way of the keys of a range.
pub(super) struct BoundedFold<'a> {
    codec: &'a RowCodec,
    spill: &'a SpillDirectory,
    range: KeyRange,
    bytes_max: usize,
    held: HeldRows,
    slices: Option<SpillSlices>,
}

/// The rows that are left, in parts that fit in memory.
#[derive(Debug, Default)]
pub(super) struct FoldedParts {
    pub(super) leaves: Vec<Leaf>,
    /// Bytes that were written to slices.
    pub(super) spilled_bytes: u64,
}

/// Such a part.
#[derive(Debug)]
pub(super) struct Leaf {
    /// Its keys.
    pub(super) range: KeyRange,
    /// Its rows, if they never left memory; else they are in the slice of that range.
    held: Option<HeldRows>,
}

impl HeldRows {
    /// Takes up a change. Whether something may be known of the key elsewhere, a delete must stay.
    fn apply(
        &mut self,
        codec: &RowCodec,
        key: RowKey,
        newer: KeyState,
        known_elsewhere: bool,
    ) -> anyhow::Result<()> {
        if newer == KeyState::Gone && !known_elsewhere {
            if let Some((key, state)) = self.rows.remove_entry(&key) {
                self.bytes -= bytes_of(&key, &state);
            }
            return Ok(());
        }
        let newer = match self.rows.get(&key) {
            None => newer,
            Some(older) => {
                self.bytes -= bytes_of(&key, older);
                codec.after(older, newer)?
            }
        };
        self.bytes += bytes_of(&key, &newer);
        self.rows.insert(key, newer);
        Ok(())
    }
}

impl<'a> BoundedFold<'a> {
    /// Nothing folded yet. The rows may take this much memory.
    pub(super) fn new(codec: &'a RowCodec, spill: &'a SpillDirectory, bytes_max: usize) -> Self {
        let (held, slices) = (HeldRows::default(), None);
        Self { codec, spill, range: KeyRange::default(), bytes_max, held, slices }
    }

    /// Takes up a change.
    ///
    /// Errors: one that alone is larger than the memory, and a disk that takes no slices.
    pub(super) fn add(&mut self, key: RowKey, state: KeyState) -> anyhow::Result<()> {
        let bytes = bytes_of(&key, &state);
        if bytes > self.bytes_max {
            return Err(bad_input(format!(
                "--memory: a row takes {bytes} bytes, and {} are for rows that are folded; give \
                 at least {}",
                self.bytes_max,
                bytes * SHARE
            )));
        }
        if self.held.bytes + bytes > self.bytes_max {
            self.spill()?;
        }
        let spilled = self.slices.is_some();
        self.held.apply(self.codec, key, state, spilled)
    }

    /// The rows that are left. `visit` is shown each part of them once.
    pub(super) fn finish(
        mut self,
        visit: &mut dyn FnMut(&HeldRows) -> anyhow::Result<()>,
    ) -> anyhow::Result<FoldedParts> {
        if self.slices.is_none() {
            visit(&self.held)?;
            let leaf = Leaf { range: self.range, held: Some(self.held) };
            return Ok(FoldedParts { leaves: vec![leaf], spilled_bytes: 0 });
        }
        self.spill()?;
        let mut folded = FoldedParts::default();
        let Some(slices) = self.slices.take() else { return Ok(folded) };
        folded.spilled_bytes = slices.bytes;
        for range in slices.finish()? {
            let mut part = Self { range, ..Self::new(self.codec, self.spill, self.bytes_max) };
            self.spill.read(range, &mut |key, state| part.add(key, state))?;
            if part.slices.is_none() {
                visit(&part.held)?;
                folded.leaves.push(Leaf { range, held: None });
                continue;
            }
            // Its own slices hold all of it.
            let parts = part.finish(visit)?;
            self.spill.remove(range)?;
            folded.spilled_bytes += parts.spilled_bytes;
            folded.leaves.extend(parts.leaves);
        }
        Ok(folded)
    }

    fn spill(&mut self) -> anyhow::Result<()> {
        let slices = match &mut self.slices {
            Some(slices) => slices,
            None => {
                let buffer_bytes = (self.bytes_max / BUFFERS).clamp(512, 64 << 10);
                self.slices.insert(self.spill.slices(self.range, buffer_bytes)?)
            }
        };
        for (key, state) in std::mem::take(&mut self.held).rows {
            slices.write(&key, &state)?;
        }
        Ok(())
    }
}

impl Leaf {
    /// Adds the rows of those keys that are wanted to `held`. What is in memory is taken from it.
    pub(super) fn take(
        &mut self,
        codec: &RowCodec,
        spill: &SpillDirectory,
        wanted: &dyn Fn(&[u8]) -> bool,
        held: &mut HeldRows,
    ) -> anyhow::Result<()> {
        let mut add = |key: RowKey, state| match wanted(&key) {
            true => held.apply(codec, key, state, false),
            false => Ok(()),
        };
        match self.held.take() {
            Some(in_memory) => in_memory.rows.into_iter().try_for_each(|(k, s)| add(k, s)),
            None => spill.read(self.range, &mut add),
        }
    }
}

fn bytes_of(key: &[u8], state: &KeyState) -> usize {
    ENTRY_BYTES + key.len() + state.row().map_or(0, <[u8]>::len)
}

/// Rows that are folded may take this part of the memory.
pub(super) const SHARE: usize = 4;
/// The bytes of an entry beside its key and its row: two pointers with lengths, the room that a
/// hash map keeps free, what it holds twice while it grows, and what the allocator adds.
const ENTRY_BYTES: usize = 160;
/// The buffers of sixteen slices may take a quarter of the rows' memory.
const BUFFERS: usize = 64;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use upsert_sink_format::record::Value;

    use super::*;
    use crate::command::verify::codec::tests::{codec, text};

    /// Folds so many changes with a memory; answers the rows that are left and the bytes that were
    /// spilled.
    fn fold(changes: u64, bytes_max: usize) -> (BTreeMap<RowKey, Box<[u8]>>, u64) {
        let codec = codec(&["a string", "b string"]);
        let dir = tempfile::tempdir().expect("a directory");
        let spill = SpillDirectory::within(dir.path()).expect("writable");
        let mut fold = BoundedFold::new(&codec, &spill, bytes_max);
        for n in 0..changes {
            // A walk over the keys that comes back to each at irregular distances.
            let id = (n * n + n / 7) % 701;
            let key = codec.key(0, &[Some(Value::Int(id as i64)), None, None]).expect("hashable");
            let value = text(&format!("{n}"));
            let row = |a, b| codec.row(vec![Some(Value::Int(id as i64)), a, b]);
            let state = match n % 5 {
                0 => KeyState::Gone,
                1 | 2 => KeyState::Part(row(None, value)),
                3 => KeyState::Part(row(value, None)),
                _ => KeyState::Whole(row(value, None)),
            };
            fold.add(key, state).expect("folded");
        }
        let (mut shown, mut taken) = (BTreeMap::new(), HeldRows::default());
        let mut folded = fold
            .finish(&mut |held| {
                assert!(held.bytes <= bytes_max);
                let rows = held.rows.iter().filter_map(|(k, s)| Some((k.clone(), s.row()?.into())));
                shown.extend(rows);
                Ok(())
            })
            .expect("folded");
        for leaf in &mut folded.leaves {
            leaf.take(&codec, &spill, &|_| true, &mut taken).expect("readable");
        }
        let taken = taken.rows.iter().filter_map(|(k, s)| Some((k.clone(), s.row()?.into())));
        assert_eq!(shown, taken.collect(), "both readings show the same rows");
        (shown, folded.spilled_bytes)
    }

    #[test]
    fn a_fold_that_spills_is_the_fold_that_does_not() {
        let (rows, spilled) = fold(20_000, usize::MAX);
        assert_eq!(spilled, 0);
        assert!(rows.len() > 100 && rows.len() < 701, "{}", rows.len());
        for bytes_max in [100_000, 20_000, 2_000] {
            let (again, spilled) = fold(20_000, bytes_max);
            assert!(spilled > 0);
            assert_eq!(again, rows, "{bytes_max} bytes");
        }
    }

    #[test]
    fn a_row_larger_than_the_memory_is_refused_with_the_least_that_is_enough() {
        let codec = codec(&["a string"]);
        let dir = tempfile::tempdir().expect("a directory");
        let spill = SpillDirectory::within(dir.path()).expect("writable");
        let mut fold = BoundedFold::new(&codec, &spill, 1000);
        let id = Some(Value::Int(1));
        let key = codec.key(0, &[id.clone(), None]).expect("hashable");
        let row = codec.row(vec![id, text(&"x".repeat(900))]);
        let error = fold.add(key, KeyState::Whole(row)).expect_err("too large").to_string();
        assert!(error.contains("--memory") && error.contains("at least"), "{error}");
    }
}
