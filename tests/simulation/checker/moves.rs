//! A row that moves is never in neither partition.
//!
//! A key of the whole table is in some partition, if it is after each number of changes that the
//! table may be at, and as long as rows do not move in a circle of partitions. Invariant: what is
//! looked at are the changes since the table last looked exactly as it should.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use upsert_sink::RowKind;

use super::{View, fold};
use crate::simulation::feed::Feed;

/// Where the table last was what it should be.
#[derive(Debug, Default)]
pub(super) struct Moves {
    /// After so many changes it was.
    settled: u64,
    /// The keys that there were then.
    there: BTreeSet<i64>,
    /// In how many views moved rows were looked for.
    pub(super) seen: u64,
}

impl Moves {
    /// The view, while so many changes are before completed checkpoints.
    pub(super) fn check(&mut self, feed: &Feed, view: &View, completed: u64) -> Result<()> {
        let (mut there, mut staying) = (self.there.clone(), self.there.clone());
        let mut moves = BTreeSet::new();
        let from = self.settled.min(completed);
        for number in from..completed {
            let change = &feed.changes[number as usize];
            match change.kind {
                RowKind::Insert | RowKind::UpdateAfter => {
                    there.insert(change.key.1);
                }
                RowKind::Delete => {
                    there.remove(&change.key.1);
                    staying.remove(&change.key.1);
                }
                RowKind::UpdateBefore => {
                    let (old, new) = (change.key.0, feed.changes[number as usize + 1].key.0);
                    if old != new {
                        moves.insert((old, new));
                    }
                }
            }
        }
        if fold::equal(feed, view, completed).is_ok() {
            (self.settled, self.there) = (completed, there);
        }
        if moves.is_empty() || has_circle(moves) {
            return Ok(());
        }
        self.seen += 1;
        let shown: BTreeSet<i64> = view.keys().map(|key| key.1).collect();
        if let Some(id) = staying.difference(&shown).next() {
            bail!("{id} moved, and is in no partition");
        }
        Ok(())
    }
}

/// Whether one can come back to where one was.
fn has_circle(mut moves: BTreeSet<(u8, u8)>) -> bool {
    loop {
        let from: BTreeSet<u8> = moves.iter().map(|(from, _)| *from).collect();
        let before = moves.len();
        moves.retain(|(_, to)| from.contains(to));
        if moves.len() == before {
            return !moves.is_empty();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::feed::Change;

    #[test]
    fn a_moved_row_that_is_nowhere_is_found() {
        let change = |day, kind| Change { key: (day, 1), kind };
        let feed = Feed::new(vec![
            change(0, RowKind::Insert),
            change(0, RowKind::UpdateBefore),
            change(1, RowKind::UpdateAfter),
        ]);
        let mut moves = Moves::default();
        let first = View::from([((0, 1), 0)]);
        assert!(moves.check(&feed, &first, 1).is_ok());
        assert!(moves.check(&feed, &first, 3).is_ok());
        assert!(moves.check(&feed, &View::new(), 3).is_err());
        assert_eq!(moves.seen, 2);
        assert!(!has_circle([(0, 1), (1, 2), (0, 2)].into()));
        assert!(has_circle([(0, 1), (1, 2), (2, 1)].into()));
    }
}
