//! The time that commits take, as far as it was seen, and the time to ask after one under way.
//!
//! Under the committer. A commit holds one of `upsert.commit.thread-num` places until its outcome
//! is known, so time lost between two questions is lost for the whole checkpoint. Invariant: from
//! the second commit on, one that takes as long as those before it is asked after at most three
//! times, and is known a sixteenth of its time after it is done; one that takes longer is asked
//! after ever more rarely.

use core::fmt;

use upsert_sink_format::id::Millis;

/// The times of the last commits.
#[derive(Clone, Default)]
pub(crate) struct CommitPace {
    last: [Option<Millis>; REMEMBERED],
    next: usize,
}

/// They change when a commit is asked after, and nothing else.
impl fmt::Debug for CommitPace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommitPace").finish_non_exhaustive()
    }
}

impl CommitPace {
    /// A commit was found to be done after so long.
    pub(crate) fn note(&mut self, time: Millis) {
        self.last[self.next] = Some(time);
        self.next = (self.next + 1) % REMEMBERED;
    }

    /// The pause before a commit that was sent so long ago is asked after again.
    ///
    /// The shortest of the last times counts, so that a single slow commit delays no other; and a
    /// little less than it, so that commits that have become faster are noticed.
    pub(crate) fn pause(&self, since: Millis) -> Millis {
        let step = match self.last.iter().flatten().min() {
            Some(usual) => {
                let expected = usual.0 / 16 * 15;
                expected.saturating_sub(since.0).max(since.0 / 16)
            }
            None => since.0 / 4,
        };
        Millis(step.clamp(PAUSE_LEAST, PAUSE_MOST))
    }
}

/// Commits whose times are remembered.
const REMEMBERED: usize = 8;
/// Milliseconds; a commit of the local server takes less.
const PAUSE_LEAST: u64 = 50;
const PAUSE_MOST: u64 = 8_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks until a commit of this length is done: how often, and when that is known.
    fn follow(pace: &mut CommitPace, length: u64) -> (u32, u64) {
        let (mut asked, mut since) = (0, 0);
        while since < length {
            since += pace.pause(Millis(since)).0;
            asked += 1;
        }
        pace.note(Millis(since));
        (asked, since)
    }

    #[test]
    fn commits_that_take_equally_long_are_known_soon_and_asked_after_rarely() {
        for length in [60, 300, 2_500, 40_000] {
            let mut pace = CommitPace::default();
            let (_, first) = follow(&mut pace, length);
            assert!(first <= length * 5 / 4 + PAUSE_LEAST, "{length}: first known at {first}");
            for _ in 0..20 {
                let (asked, known) = follow(&mut pace, length);
                let late = known - length;
                assert!(late <= length / 16 + PAUSE_LEAST, "{length}: {late} ms late");
                assert!(
                    asked <= 3 + u32::from(length > 8_000) * 4,
                    "{length}: asked {asked} times"
                );
            }
        }
    }

    #[test]
    fn a_single_slow_commit_delays_no_other() {
        let mut pace = CommitPace::default();
        follow(&mut pace, 2_500);
        follow(&mut pace, 60_000);
        let (_, known) = follow(&mut pace, 2_500);
        assert!(known <= 2_700, "known at {known}");
    }

    #[test]
    fn commits_that_have_become_faster_or_slower_are_followed() {
        let mut pace = CommitPace::default();
        for length in [2_500, 300, 5_000] {
            for _ in 0..60 {
                follow(&mut pace, length);
            }
            let (_, known) = follow(&mut pace, length);
            assert!(known <= length + length / 8 + PAUSE_LEAST, "{length}: known at {known}");
        }
    }
}
