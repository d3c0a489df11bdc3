//! Nothing is invented: every row that is shown is a row of the input, in its partition.
//!
//! That nothing is shown before its checkpoint is complete follows from where `order.rs` finds what
//! is shown. Invariant: also at-least-once keeps this promise.

use anyhow::{Result, ensure};

use crate::simulation::feed::{Feed, Key};

/// A row that is shown comes from the input.
pub(super) fn origin(feed: &Feed, key: Key, shown: Option<u64>) -> Result<()> {
    ensure!(feed.histories.contains_key(&key), "{key:?} was never in the input");
    let Some(number) = shown else { return Ok(()) };
    let change = feed.changes.get(number as usize);
    let is_its = change.is_some_and(|change| change.key == key && !change.kind.removes());
    ensure!(is_its, "{key:?} shows change {number}, which is none of its rows");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::feed;
    use super::*;

    #[test]
    fn a_row_from_nowhere_is_found() {
        assert!(origin(&feed(), (0, 1), Some(3)).is_ok());
        assert!(origin(&feed(), (0, 1), Some(2)).is_err(), "a delete shows no row");
        assert!(origin(&feed(), (0, 1), Some(4)).is_err());
        assert!(origin(&feed(), (1, 1), None).is_err());
    }
}
