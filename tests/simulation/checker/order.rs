//! No key goes back, and none is ahead of the last completed checkpoint.
//!
//! A key's shown state tells after how many changes it may look so. Invariant: the smallest such
//! number never falls, but while an older checkpoint is replayed, and is never beyond what is
//! complete.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};

use crate::simulation::feed::{Feed, Key};

/// The progress that was seen of each key.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// After how many changes at least it looks as it was seen.
    seen: BTreeMap<Key, u64>,
    replaying: bool,
}

impl Order {
    /// An older checkpoint, with so many changes before it, is restored.
    pub(super) fn begin_replay(&mut self, changes: u64) {
        self.replaying = true;
        self.seen.values_mut().for_each(|seen| *seen = (*seen).min(changes));
    }

    /// All that was replayed is committed.
    pub(super) fn end_replay(&mut self) {
        self.replaying = false;
    }

    pub(super) fn is_replaying(&self) -> bool {
        self.replaying
    }

    /// A key shows this now, while so many changes are before completed checkpoints.
    pub(super) fn check(
        &mut self,
        feed: &Feed,
        key: Key,
        shown: Option<u64>,
        completed: u64,
    ) -> Result<()> {
        let from = self.seen.get(&key).copied().unwrap_or_default();
        let Some(at) = first_match(feed, key, shown, from) else {
            bail!("{key:?} went back to {shown:?}, seen before as after {from}");
        };
        ensure!(at <= completed, "{key:?} shows {shown:?}, but only {completed} are completed");
        if !self.replaying {
            self.seen.insert(key, at);
        }
        Ok(())
    }
}

/// The smallest number of changes, `from` at least, after which the key looks like this.
fn first_match(feed: &Feed, key: Key, shown: Option<u64>, from: u64) -> Option<u64> {
    let history = feed.histories.get(&key)?;
    // Between two changes of the key it looks the same: the one before `from` counts.
    let first = history.partition_point(|(begin, _)| *begin <= from) - 1;
    let fitting = history[first..].iter().find(|(_, state)| *state == shown);
    fitting.map(|(begin, _)| from.max(*begin))
}

#[cfg(test)]
mod tests {
    use super::super::tests::feed;
    use super::*;

    #[test]
    fn a_row_beyond_the_completed_checkpoint_is_found() {
        assert!(Order::default().check(&feed(), (0, 1), Some(1), 2).is_ok());
        assert!(Order::default().check(&feed(), (0, 1), Some(1), 1).is_err());
    }

    #[test]
    fn a_key_that_goes_back_is_found() {
        let mut order = Order::default();
        assert!(order.check(&feed(), (0, 1), Some(1), 4).is_ok());
        assert!(order.check(&feed(), (0, 1), None, 4).is_ok());
        assert!(order.check(&feed(), (0, 1), Some(1), 4).is_err());
    }

    #[test]
    fn a_key_may_go_back_while_an_older_checkpoint_is_replayed_and_not_further() {
        let mut order = Order::default();
        assert!(order.check(&feed(), (0, 1), Some(3), 4).is_ok());
        order.begin_replay(2);
        assert!(order.check(&feed(), (0, 1), Some(1), 4).is_ok());
        assert!(order.check(&feed(), (0, 1), Some(3), 4).is_ok());
        assert!(order.check(&feed(), (0, 1), Some(0), 4).is_err());
        order.end_replay();
        assert!(order.check(&feed(), (0, 1), Some(3), 4).is_ok());
        assert!(order.check(&feed(), (0, 1), Some(1), 4).is_err());
    }
}
