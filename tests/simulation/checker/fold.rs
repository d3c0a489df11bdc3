//! Nothing is lost: where all is committed, the table is the fold of the input.
//!
//! Asked when the sink says that a checkpoint is committed, and at the end of a world. Invariant:
//! compares every key that the input has.

use anyhow::{Result, ensure};

use super::View;
use crate::simulation::feed::Feed;

/// The view is what follows from so many changes.
pub(super) fn equal(feed: &Feed, view: &View, changes: u64) -> Result<()> {
    for key in feed.histories.keys() {
        let (is, should) = (view.get(key).copied(), feed.shown(*key, changes));
        ensure!(is == should, "{key:?} shows {is:?}, after {changes} changes it is {should:?}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::feed;
    use super::*;

    #[test]
    fn a_lost_row_and_a_left_one_are_found() {
        let shows = |number: u64| View::from([((0, 1), number)]);
        assert!(equal(&feed(), &View::new(), 0).is_ok());
        assert!(equal(&feed(), &shows(0), 1).is_ok());
        assert!(equal(&feed(), &View::new(), 1).is_err());
        assert!(equal(&feed(), &View::new(), 3).is_ok());
        assert!(equal(&feed(), &shows(1), 3).is_err());
        assert!(equal(&feed(), &shows(3), 4).is_ok());
    }
}
