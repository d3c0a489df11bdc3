//! What the table may show, told from the input alone.
//!
//! Compares what queries see with folds of the input. Invariant: nothing here knows how the sink
//! works.

use std::collections::BTreeMap;

/// One change of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// Its partition and its key there.
    pub(crate) key: Key,
    /// False for a delete.
    pub(crate) upsert: bool,
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
    /// How often a view was checked.
    pub(crate) views: u64,
}

impl Checker {
    /// Of an input that is known in advance.
    pub(crate) fn new(input: Vec<Change>) -> Self {
        Self { input, seen: BTreeMap::new(), views: 0 }
    }

    /// The table after so many changes.
    pub(crate) fn fold(&self, changes: u64) -> View {
        let mut table = View::new();
        for (number, change) in self.input.iter().take(changes as usize).enumerate() {
            if change.upsert {
                table.insert(change.key.clone(), number as u64);
            } else {
                table.remove(&change.key);
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

    /// The smallest number of changes, `from` at least, after which the key looks like this.
    fn first_match(&self, key: &Key, shown: Option<u64>, from: u64) -> Option<u64> {
        let changes = self.input.iter().enumerate().filter(|(_, change)| change.key == *key);
        let mut after = vec![(0, None)];
        for (number, change) in changes {
            after.push((number as u64 + 1, change.upsert.then_some(number as u64)));
        }
        // Between two changes of the key it looks the same: the interval's end counts.
        let ends = after.iter().skip(1).map(|(begin, _)| *begin - 1).chain([u64::MAX]);
        let intervals = after.iter().zip(ends);
        let mut fitting = intervals.filter(|((_, state), end)| *state == shown && *end >= from);
        fitting.next().map(|((begin, _), _)| from.max(*begin))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checker() -> Checker {
        let key = || (String::from("a"), 1);
        let change = |upsert| Change { key: key(), upsert };
        Checker::new(vec![change(true), change(true), change(false), change(true)])
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
    fn a_row_that_was_never_written_is_found() {
        let other = [((String::from("b"), 1), 0)].into_iter().collect();
        assert!(checker().check(&other, 4).is_err());
        assert_eq!(checker().fold(3), view(None));
        assert_eq!(checker().fold(4), view(Some(3)));
    }
}
