//! The input of a world: changes of rows, known in advance, so that everybody can tell what the
//! table should look like after any number of them.
//!
//! Made of a plan, handed to the sink by `engine.rs`, folded by `checker`. Invariant: nothing here
//! knows how the sink works.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use anyhow::Result;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use upsert_sink::RowKind;

use super::world::{Chance, Plan};

/// A partition, by its number, and a key that is unique in it.
pub(crate) type Key = (u8, i64);

/// The partitions' values, by their numbers.
pub(crate) const DAYS: [&str; 3] = ["mon", "tue", "wed"];

/// One change of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// Its partition and its key there.
    pub(crate) key: Key,
    /// The kind of the change.
    pub(crate) kind: RowKind,
}

/// All changes, and what each key goes through.
#[derive(Debug)]
pub(crate) struct Feed {
    pub(crate) changes: Vec<Change>,
    /// The history of each key: after so many changes, the number of the change that it shows, or
    /// that there is no such row. Begins with none after zero.
    pub(crate) histories: BTreeMap<Key, Vec<(u64, Option<u64>)>>,
}

impl Feed {
    /// A feed of known changes.
    pub(crate) fn new(changes: Vec<Change>) -> Arc<Self> {
        let mut histories: BTreeMap<Key, Vec<(u64, Option<u64>)>> = BTreeMap::new();
        for (number, change) in (0_u64..).zip(&changes) {
            let history = histories.entry(change.key).or_insert_with(|| vec![(0, None)]);
            history.push((number + 1, (!change.kind.removes()).then_some(number)));
        }
        Arc::new(Self { changes, histories })
    }

    /// The feed that the plan draws.
    pub(crate) fn of(plan: &Plan) -> Arc<Self> {
        let chance = Chance::new(plan.seed, 4);
        let changes = if plan.promise.moves { moves(plan, &chance) } else { rows(plan, &chance) };
        Self::new(changes)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> u64 {
        self.changes.len() as u64
    }

    /// The change that a key shows after so many changes; none if there is no such row.
    pub(crate) fn shown(&self, key: Key, changes: u64) -> Option<u64> {
        let history = self.histories.get(&key)?;
        let after = history.partition_point(|(begin, _)| *begin <= changes);
        history[after - 1].1
    }

    /// The first number of changes from this one on that parts no before-image from its
    /// after-image.
    pub(crate) fn whole(&self, changes: u64) -> u64 {
        let changes = changes.min(self.len());
        let last = changes.checked_sub(1).and_then(|last| self.changes.get(last as usize));
        let parted = last.is_some_and(|last| last.kind == RowKind::UpdateBefore);
        changes + u64::from(parted)
    }

    /// Rows for the sink, with their kinds.
    pub(crate) fn rows(&self, range: Range<u64>) -> Result<(RecordBatch, Vec<RowKind>)> {
        let changes = &self.changes[range.start as usize..range.end as usize];
        let days = changes.iter().map(|change| Some(DAYS[usize::from(change.key.0)]));
        let columns: [(&str, ArrayRef); 3] = [
            ("id", Arc::new(Int64Array::from_iter_values(changes.iter().map(|c| c.key.1)))),
            ("seq", Arc::new(Int64Array::from_iter_values(range.map(|number| number as i64)))),
            ("day", Arc::new(StringArray::from_iter(days))),
        ];
        let columns = columns.map(|(name, array)| (name, array, true));
        let rows = RecordBatch::try_from_iter_with_nullable(columns)?;
        Ok((rows, changes.iter().map(|change| change.kind).collect()))
    }

    /// In how many partitions these changes are.
    pub(crate) fn partitions(&self, range: Range<u64>) -> usize {
        let changes = &self.changes[range.start as usize..range.end as usize];
        let mut seen = [false; DAYS.len()];
        changes.iter().for_each(|change| seen[usize::from(change.key.0)] = true);
        seen.into_iter().filter(|seen| *seen).count()
    }
}

fn rows(plan: &Plan, chance: &Chance) -> Vec<Change> {
    let change = |_| {
        let id = chance.below(plan.keys);
        let day = u8::try_from(id % plan.partitions).expect("few partitions");
        let kind = if chance.happens(15) { RowKind::Delete } else { RowKind::Insert };
        Change { key: (day, id as i64), kind }
    };
    (0..plan.changes).map(change).collect()
}

/// Rows that change, move and go. For some hundred changes they move one way, then the other.
fn moves(plan: &Plan, chance: &Chance) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    let mut homes: BTreeMap<i64, u8> = BTreeMap::new();
    while changes.len() < plan.changes as usize {
        let id = chance.below(plan.keys) as i64;
        let one_way = (changes.len() / 200).is_multiple_of(2);
        let mut change = |day: u8, kind| changes.push(Change { key: (day, id), kind });
        let Some(home) = homes.get(&id).copied() else {
            let home = chance.one_of(&[0, 1, 2]);
            homes.insert(id, home);
            change(home, RowKind::Insert);
            continue;
        };
        if chance.happens(10) {
            homes.remove(&id);
            change(home, RowKind::Delete);
            continue;
        }
        let targets: &[u8] = match (one_way, home) {
            (true, 0) => &[1, 2],
            (true, 1) => &[2],
            (false, 2) => &[0, 1],
            (false, 1) => &[0],
            _ => &[home],
        };
        let target = chance.one_of(targets);
        let target = if chance.happens(60) { target } else { home };
        homes.insert(id, target);
        change(home, RowKind::UpdateBefore);
        change(target, RowKind::UpdateAfter);
    }
    changes
}
