//! The time at which a writer that waits is told what has changed for it.
//!
//! Under the coordinator. A reply makes the writer ask again for all that is still open, so with
//! thousands of sessions one reply for each of them would cost their square. Invariant: a writer
//! that asks for few sessions is told at once, any other when a good part of what it asks for is
//! there, or after a tenth of a second.

use core::fmt;

use upsert_sink_format::id::Millis;

/// The changes that one writer, which waits for a reply, was not told of.
#[derive(Clone, Default)]
pub(super) struct News {
    /// Its request is new: what it asks for may be there already.
    fresh: bool,
    /// Sessions that were opened; some may be for others.
    opened: usize,
    /// Commits that have become known; some may be of others.
    known: usize,
    replied_at: Millis,
}

/// Times mean nothing while there is nothing to tell.
impl fmt::Debug for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("News").field(&self.fresh).field(&self.opened).field(&self.known).finish()
    }
}

impl News {
    /// It has asked.
    pub(super) fn asked(&mut self) {
        self.fresh = true;
    }

    /// A session was opened.
    pub(super) fn add_opened(&mut self) {
        self.opened += 1;
    }

    /// So many commits have become known.
    pub(super) fn add_known(&mut self, commits: usize) {
        self.known += commits;
    }

    /// Whether to look for an answer now, for a writer that wants so many sessions, and asks after
    /// so many commits.
    pub(super) fn is_due(&self, now: Millis, wanted: usize, pending: usize) -> bool {
        let opened = self.opened > 0 && self.opened >= wanted / BATCHES_OF_SESSIONS;
        let known = self.known > 0 && self.known >= pending / BATCHES_OF_COMMITS;
        self.fresh || opened || known || self.deadline().is_some_and(|deadline| deadline <= now)
    }

    /// All changes were looked at.
    pub(super) fn looked_at(&mut self) {
        self.fresh = false;
        self.opened = 0;
        self.known = 0;
    }

    /// It was told.
    pub(super) fn replied(&mut self, now: Millis) {
        self.replied_at = now;
    }

    /// The time at which to look in any case.
    pub(super) fn deadline(&self) -> Option<Millis> {
        (self.opened + self.known > 0).then(|| self.replied_at.plus(HELD_BACK_MOST))
    }
}

/// Replies for the sessions of one request: rows wait for them.
const BATCHES_OF_SESSIONS: usize = 4;
/// Replies for the commits of one request.
const BATCHES_OF_COMMITS: usize = 16;
/// The longest time for which changes are held back.
const HELD_BACK_MOST: Millis = Millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_told_at_once_and_many_in_batches() {
        let mut news = News::default();
        assert!(!news.is_due(Millis(0), 1, 1), "nothing has changed");
        news.asked();
        assert!(news.is_due(Millis(0), 100, 100), "it may be there already");
        news.looked_at();
        news.replied(Millis(1_000));
        news.add_opened();
        news.add_known(1);
        assert!(news.is_due(Millis(1_001), 7, 100), "a session of few");
        assert!(news.is_due(Millis(1_001), 100, 31), "a commit of few");
        assert!(!news.is_due(Millis(1_001), 8, 32));
        assert_eq!(news.deadline(), Some(Millis(1_100)));
        assert!(news.is_due(Millis(1_100), 8, 32), "held back long enough");
        news.add_known(1);
        assert!(news.is_due(Millis(1_001), 8, 32));
        news.looked_at();
        assert_eq!(news.deadline(), None);
    }
}
