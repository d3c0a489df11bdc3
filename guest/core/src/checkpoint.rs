//! One writer's part in the stream engine's checkpoints: from the barrier to the snapshot.
//!
//! Between rows and commits: while a barrier is being passed, everything before it is flushed.
//! Invariant: a snapshot is taken only when nothing is buffered and every pack is acknowledged;
//! barriers rise.
//!
//! | state | `BarrierArrived(n)` | `Drained` | `Ended(n, Aborted)` | `Ended(n, Completed)` |
//! |---|---|---|---|---|
//! | `Running { passed }` | n > passed: → `Draining` | nothing | n > passed: skips n | noted |
//! | `Draining { barrier }` | refused | → `Running`, snapshot | n = barrier: skips it | noted |
//!
//! While a barrier is being passed, a later checkpoint that is aborted is skipped right after it.

use alloc::format;

use crate::error::Error;
use crate::id::CheckpointId;
use crate::ignored::Ignored;
use crate::io::CheckpointOutcome;

/// Where a writer stands between barriers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointState {
    /// Rows are taken; `passed` is the last barrier of this start.
    Running {
        /// The last barrier that was passed or skipped.
        passed: CheckpointId,
    },
    /// Everything before `barrier` is being flushed; no rows are taken.
    Draining {
        /// The last barrier that was passed or skipped.
        passed: CheckpointId,
        /// The barrier that is being passed.
        barrier: CheckpointId,
        /// Where the writer will then stand: at the barrier, or further on, at that of a later
        /// checkpoint that was aborted meanwhile.
        then: CheckpointId,
    },
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointEvent {
    /// A barrier has arrived.
    BarrierArrived(CheckpointId),
    /// Nothing is buffered and every pack is acknowledged.
    Drained,
    /// The engine told how a checkpoint ended.
    Ended(CheckpointId, CheckpointOutcome),
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointEffect {
    /// Flush everything.
    Flush,
    /// Nothing changes, for this reason.
    Ignore(Ignored),
    /// The barrier is passed without a snapshot: new rows belong to sessions of the new name.
    Skip,
    /// Take the snapshot.
    Snapshot(CheckpointId),
    /// Nothing is to be done: commits are learned of from the coordinator.
    Note,
}

impl CheckpointState {
    /// The last barrier that was passed or skipped in this start.
    pub fn passed(self) -> CheckpointId {
        match self {
            Self::Draining { passed, .. } | Self::Running { passed } => passed,
        }
    }

    /// The next state, and what follows.
    ///
    /// Errors: `Bug` if the host breaks the order of the contract.
    pub fn next(self, event: CheckpointEvent) -> Result<(Self, CheckpointEffect), Error> {
        use CheckpointEffect::{Flush, Ignore, Note, Skip, Snapshot};
        use CheckpointEvent::{BarrierArrived, Drained, Ended};
        use CheckpointOutcome::{Aborted, Completed};
        let next = match (self, event) {
            (Self::Running { passed }, BarrierArrived(barrier)) if barrier > passed => {
                (Self::Draining { passed, barrier, then: barrier }, Flush)
            }
            (Self::Running { passed }, BarrierArrived(barrier)) => {
                return Err(order(format!("barrier {barrier} came after barrier {passed}")));
            }
            (Self::Draining { barrier, .. }, BarrierArrived(other)) => {
                let what = format!("barrier {other} came while {barrier} was being passed");
                return Err(order(what));
            }
            (Self::Running { .. }, Drained) => (self, Note),
            (Self::Draining { barrier, then, .. }, Drained) => {
                (Self::Running { passed: then }, Snapshot(barrier))
            }
            (Self::Running { passed }, Ended(ended, Aborted)) if ended > passed => {
                (Self::Running { passed: ended }, Skip)
            }
            (Self::Draining { barrier, then, .. }, Ended(ended, Aborted)) if ended == barrier => {
                (Self::Running { passed: then }, Skip)
            }
            (Self::Draining { passed, barrier, then }, Ended(ended, Aborted))
                if ended > barrier =>
            {
                (Self::Draining { passed, barrier, then: then.max(ended) }, Note)
            }
            (Self::Draining { .. } | Self::Running { .. }, Ended(_, Aborted)) => {
                (self, Ignore(Ignored::EndedBefore))
            }
            (Self::Draining { passed, .. } | Self::Running { passed }, Ended(ended, Completed)) => {
                if ended > passed {
                    let what = format!("checkpoint {ended} completed before its barrier came");
                    return Err(order(what));
                }
                (self, Note)
            }
        };
        Ok(next)
    }
}

fn order(what: alloc::string::String) -> Error {
    Error::bug("host", format!("{what}: barriers rise, and each is answered before the next"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// Every state × event, at barriers around the state's own: what is not decided here does not
    /// compile, and what is decided otherwise fails.
    #[test]
    fn every_pair_of_state_and_event_is_decided_as_the_table_says() {
        use CheckpointEffect as E;
        let id = CheckpointId;
        let running = CheckpointState::Running { passed: id(2) };
        let draining = CheckpointState::Draining { passed: id(2), barrier: id(3), then: id(3) };
        let events = |n| {
            [
                CheckpointEvent::BarrierArrived(id(n)),
                CheckpointEvent::Drained,
                CheckpointEvent::Ended(id(n), CheckpointOutcome::Aborted),
                CheckpointEvent::Ended(id(n), CheckpointOutcome::Completed),
            ]
        };
        let effects = |state: CheckpointState| -> Vec<[Option<E>; 4]> {
            (1..=4).map(|n| events(n).map(|event| state.next(event).ok().map(|(_, e)| e))).collect()
        };
        let ended = Some(E::Ignore(Ignored::EndedBefore));
        let note = Some(E::Note);
        assert_eq!(
            effects(running),
            [
                [None, note, ended, note],
                [None, note, ended, note],
                [Some(E::Flush), note, Some(E::Skip), None],
                [Some(E::Flush), note, Some(E::Skip), None],
            ]
        );
        let snapshot = Some(E::Snapshot(id(3)));
        assert_eq!(
            effects(draining),
            [
                [None, snapshot, ended, note],
                [None, snapshot, ended, note],
                [None, snapshot, Some(E::Skip), None],
                [None, snapshot, note, None],
            ]
        );
    }

    #[test]
    fn a_checkpoint_aborted_while_an_earlier_barrier_is_passed_is_skipped_after_it() {
        let state = CheckpointState::Running { passed: CheckpointId(2) };
        let next = |state: CheckpointState, event| state.next(event).expect("in order");
        let aborted = |n| CheckpointEvent::Ended(CheckpointId(n), CheckpointOutcome::Aborted);
        let (state, _) = next(state, CheckpointEvent::BarrierArrived(CheckpointId(3)));
        let (state, _) = next(state, aborted(5));
        let (draining, effect) = next(state, aborted(4));
        assert_eq!(effect, CheckpointEffect::Note);
        let (state, effect) = next(draining, CheckpointEvent::Drained);
        assert_eq!(effect, CheckpointEffect::Snapshot(CheckpointId(3)));
        assert_eq!(state, CheckpointState::Running { passed: CheckpointId(5) });
        let (state, effect) = next(draining, aborted(3));
        assert_eq!(effect, CheckpointEffect::Skip);
        assert_eq!(state.passed(), CheckpointId(5));
        assert!(state.next(CheckpointEvent::BarrierArrived(CheckpointId(4))).is_err());
    }

    #[test]
    fn a_passed_barrier_is_the_name_of_what_comes_after_it() {
        let state = CheckpointState::Running { passed: CheckpointId(2) };
        let barrier = CheckpointEvent::BarrierArrived(CheckpointId(5));
        let (state, _) = state.next(barrier).unwrap();
        assert_eq!(state.passed(), CheckpointId(2));
        let (state, _) = state.next(CheckpointEvent::Drained).unwrap();
        assert_eq!(state.passed(), CheckpointId(5));
    }
}
