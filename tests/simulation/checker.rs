//! What the table may show, told from the input alone.
//!
//! Compares what queries see with folds of the input. Invariant: nothing here knows how the sink
//! works.

use std::collections::{BTreeMap, BTreeSet};

use upsert_sink::RowKind;

/// One change of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// Its partition and its key there.
    pub(crate) key: Key,
    /// What it does there.
    pub(crate) kind: RowKind,
}

/// A partition, and a key that is unique in it.
pub(crate) type Key = (String, i64);

/// What a query saw: of each row, which change of the input it shows.
pub(crate) type View = BTreeMap<Key, u64>;

/// The promises of exactly-once, checked against one input.
#[derive(Debug)]
pub(crate) struct Checker {
    input: Vec<Change>,
    /// Of each key that was seen: a number of changes after which the table may look as it was
    /// seen.
    seen: BTreeMap<Key, u64>,
    /// A number of changes after which the table once looked exactly as it should.
    settled: u64,
    /// How often a view was checked.
    pub(crate) views: u64,
    /// In how many of them moved rows were looked for.
    pub(crate) moves_seen: u64,
}

impl Checker {
    /// Of an input that is known in advance.
    pub(crate) fn new(input: Vec<Change>) -> Self {
        Self { input, seen: BTreeMap::new(), settled: 0, views: 0, moves_seen: 0 }
    }

    /// The table after so many changes.
    pub(crate) fn fold(&self, changes: u64) -> View {
        let mut table = View::new();
        for (number, change) in self.input.iter().take(changes as usize).enumerate() {
            if change.kind.removes() {
                table.remove(&change.key);
            } else {
                table.insert(change.key.clone(), number as u64);
            }
        }
        table
    }

    /// A view holds nothing beyond the last completed checkpoint, and no key goes back.
    pub(crate) fn check(&mut self, view: &View, completed: u64) -> Result<(), String> {
        self.views += 1;
        let mut keys: Vec<Key> = self.input.iter().map(|change| change.key.clone()).collect();
        keys.sort();
        keys.dedup();
        if let Some(key) = view.keys().find(|key| keys.binary_search(key).is_err()) {
            return Err(format!("{key:?} was never in the input"));
        }
        for key in keys {
            let from = self.seen.get(&key).copied().unwrap_or_default();
            let shown = view.get(&key).copied();
            let Some(at) = self.first_match(&key, shown, from) else {
                return Err(format!("{key:?} went back to {shown:?}, seen before as after {from}"));
            };
            if at > completed {
                return Err(format!("{key:?} shows {shown:?}, but only {completed} are completed"));
            }
            self.seen.insert(key, at);
        }
        Ok(())
    }

    /// All that a view may show under at-least-once: rows of the input.
    pub(crate) fn check_origin(&mut self, view: &View) -> Result<(), String> {
        self.views += 1;
        let is_shown_by = |(key, number): &(&Key, &u64)| {
            let change = self.input.get(**number as usize);
            change.is_some_and(|change| change.key == **key && !change.kind.removes())
        };
        match view.iter().find(|row| !is_shown_by(row)) {
            None => Ok(()),
            Some(row) => Err(format!("{row:?} was never in the input")),
        }
    }

    /// A key of the whole table is in some partition, if it is after each number of changes that
    /// the table may be at, and as long as rows do not move in a circle of partitions.
    pub(crate) fn check_moves(&mut self, view: &View, completed: u64) -> Result<(), String> {
        let from = self.settled as usize;
        if *view == self.fold(completed) {
            self.settled = completed;
        }
        let mut moves = BTreeSet::new();
        let (mut there, mut ever_gone) = (BTreeSet::new(), BTreeSet::new());
        let ids: BTreeSet<i64> = self.input.iter().map(|change| change.key.1).collect();
        for (number, change) in self.input.iter().take(completed as usize).enumerate() {
            if number == from {
                ever_gone = ids.difference(&there).copied().collect();
            }
            match change.kind {
                RowKind::Insert | RowKind::UpdateAfter => {
                    there.insert(change.key.1);
                }
                RowKind::Delete => {
                    there.remove(&change.key.1);
                    ever_gone.insert(change.key.1);
                }
                RowKind::UpdateBefore => {
                    let (old, new) = (&change.key.0, &self.input[number + 1].key.0);
                    if number >= from && old != new {
                        moves.insert((old.as_str(), new.as_str()));
                    }
                }
            }
        }
        if moves.is_empty() || has_circle(moves) {
            return Ok(());
        }
        self.moves_seen += 1;
        let shown: BTreeSet<i64> = view.keys().map(|key| key.1).collect();
        let absent = ids.iter().find(|id| !ever_gone.contains(id) && !shown.contains(id));
        match absent {
            None => Ok(()),
            Some(id) => Err(format!("{id} moved, and is in no partition")),
        }
    }

    /// The smallest number of changes, `from` at least, after which the key looks like this.
    fn first_match(&self, key: &Key, shown: Option<u64>, from: u64) -> Option<u64> {
        let changes = self.input.iter().enumerate().filter(|(_, change)| change.key == *key);
        let mut after = vec![(0, None)];
        for (number, change) in changes {
            after.push((number as u64 + 1, (!change.kind.removes()).then_some(number as u64)));
        }
        // Between two changes of the key it looks the same: the interval's end counts.
        let ends = after.iter().skip(1).map(|(begin, _)| *begin - 1).chain([u64::MAX]);
        let intervals = after.iter().zip(ends);
        let mut fitting = intervals.filter(|((_, state), end)| *state == shown && *end >= from);
        fitting.next().map(|((begin, _), _)| from.max(*begin))
    }
}

/// Whether one can come back to where one was.
fn has_circle(mut moves: BTreeSet<(&str, &str)>) -> bool {
    loop {
        let from: BTreeSet<&str> = moves.iter().map(|(from, _)| *from).collect();
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

    fn checker() -> Checker {
        let key = || (String::from("a"), 1);
        let change = |kind| Change { key: key(), kind };
        let kinds = [RowKind::Insert, RowKind::UpdateAfter, RowKind::Delete, RowKind::Insert];
        Checker::new(kinds.map(change).to_vec())
    }

    fn view(shown: Option<u64>) -> View {
        shown.map(|number| ((String::from("a"), 1), number)).into_iter().collect()
    }

    #[test]
    fn a_row_beyond_the_completed_checkpoint_is_found() {
        assert!(checker().check(&view(Some(1)), 2).is_ok());
        assert!(checker().check(&view(Some(1)), 1).is_err());
    }

    #[test]
    fn a_key_that_goes_back_is_found() {
        let mut checker = checker();
        assert!(checker.check(&view(Some(1)), 4).is_ok());
        assert!(checker.check(&view(None), 4).is_ok());
        assert!(checker.check(&view(Some(1)), 4).is_err());
    }

    #[test]
    fn a_moved_row_that_is_nowhere_is_found() {
        let change = |day: &str, kind| Change { key: (day.to_owned(), 1), kind };
        let mut checker = Checker::new(vec![
            change("a", RowKind::Insert),
            change("a", RowKind::UpdateBefore),
            change("b", RowKind::UpdateAfter),
        ]);
        assert!(checker.check_moves(&view(Some(0)), 1).is_ok());
        assert!(checker.check_moves(&view(Some(0)), 3).is_ok());
        assert!(checker.check_moves(&view(None), 3).is_err());
        assert_eq!(checker.moves_seen, 2);
        assert!(!has_circle([("a", "b"), ("b", "c"), ("a", "c")].into()));
        assert!(has_circle([("a", "b"), ("b", "c"), ("c", "b")].into()));
    }

    #[test]
    fn a_row_from_nowhere_is_found_under_at_least_once_too() {
        assert!(checker().check_origin(&view(Some(3))).is_ok());
        assert!(checker().check_origin(&view(Some(2))).is_err(), "a delete shows no row");
        assert!(checker().check_origin(&view(Some(4))).is_err());
    }

    #[test]
    fn a_row_that_was_never_written_is_found() {
        let other = [((String::from("b"), 1), 0)].into_iter().collect();
        assert!(checker().check(&other, 4).is_err());
        assert_eq!(checker().fold(3), view(None));
        assert_eq!(checker().fold(4), view(Some(3)));
    }
}
