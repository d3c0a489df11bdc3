//! One writer's part in the stream engine's checkpoints: from the barrier to the snapshot.
//!
//! Between rows and commits: while a barrier is being passed, all rows before it are flushed.
//! Invariant: a snapshot is taken only when nothing is buffered and every pack is acknowledged;
//! barriers rise.
//!
//! | state | `BarrierArrived(n)` | `Drained` | `Ended(n, Aborted)` | `Ended(n, Completed)` |
//! |---|---|---|---|---|
//! | `Running { passed }` | n > passed: → `Draining` | nothing | n > passed: skips n | noted |
//! | `Draining { barrier }` | refused | → `Running`, snapshot | n = barrier: skips it | noted |
//!
//! News of an abort overtake barriers. An aborted checkpoint is skipped at once only if no earlier
//! barrier can still arrive: if it is the next, or before the first barrier of a start, where the
//! next is not known. Otherwise it is kept, and skipped after the barrier before it: rows that
//! arrive until then belong to that one.

use alloc::collections::BTreeSet;
use alloc::format;

use upsert_sink_format::error::{Error, ErrorKind};
use upsert_sink_format::id::CheckpointId;

use crate::ignored::Ignored;
use crate::io::CheckpointOutcome;

/// The state of a writer between barriers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckpointState {
    /// Rows are taken; `passed` is the last barrier of this start.
    Running {
        /// The last barrier that was passed or skipped.
        passed: CheckpointId,
        /// Later checkpoints that were aborted, before which an earlier barrier may arrive.
        aborted: BTreeSet<CheckpointId>,
    },
    /// Everything before `barrier` is being flushed; no rows are taken.
    Draining {
        /// The last barrier that was passed or skipped.
        passed: CheckpointId,
        /// The barrier that is being passed.
        barrier: CheckpointId,
        /// Later checkpoints that were aborted.
        aborted: BTreeSet<CheckpointId>,
    },
}

/// An event of the checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointEvent {
    /// A barrier has arrived.
    BarrierArrived(CheckpointId),
    /// Nothing is buffered and every pack is acknowledged.
    Drained,
    /// A checkpoint has ended.
    Ended(CheckpointId, CheckpointOutcome),
}

/// The effect of an event.
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
    /// Before the first barrier of a start.
    pub fn first() -> Self {
        Self::Running { passed: CheckpointId(0), aborted: BTreeSet::new() }
    }

    /// The last barrier that was passed or skipped in this start.
    pub fn passed(&self) -> CheckpointId {
        match self {
            Self::Draining { passed, .. } | Self::Running { passed, .. } => *passed,
        }
    }

    /// The next state, and the effect.
    ///
    /// Errors: `Bug` if the host breaks the order of the contract; `Retry` if a barrier arrives
    /// after a later one was skipped.
    pub fn next(self, event: CheckpointEvent) -> Result<(Self, CheckpointEffect), Error> {
        use CheckpointEffect::{Flush, Ignore, Note, Skip, Snapshot};
        use CheckpointEvent::{BarrierArrived, Drained, Ended};
        use CheckpointOutcome::{Aborted, Completed};
        let next = match (self, event) {
            (Self::Running { passed, aborted }, BarrierArrived(barrier)) if barrier > passed => {
                (Self::Draining { passed, barrier, aborted }, Flush)
            }
            (Self::Running { passed, .. }, BarrierArrived(barrier)) => {
                return Err(came_after(barrier, passed));
            }
            (Self::Draining { barrier, .. }, BarrierArrived(other)) => {
                let what = format!("barrier {other} came while {barrier} was being passed");
                return Err(order(what));
            }
            (state @ Self::Running { .. }, Drained) => (state, Note),
            (Self::Draining { barrier, aborted, .. }, Drained) => {
                (Self::after(barrier, aborted), Snapshot(barrier))
            }
            (Self::Running { passed, aborted }, Ended(ended, Aborted))
                if passed == CheckpointId(0) && ended > passed =>
            {
                (Self::after(ended, aborted), Skip)
            }
            (Self::Running { passed, mut aborted }, Ended(ended, Aborted)) if ended > passed => {
                aborted.insert(ended);
                let next = Self::after(passed, aborted);
                let effect = if next.passed() > passed { Skip } else { Note };
                (next, effect)
            }
            (Self::Draining { barrier, aborted, .. }, Ended(ended, Aborted))
                if ended == barrier =>
            {
                (Self::after(barrier, aborted), Skip)
            }
            (Self::Draining { passed, barrier, mut aborted }, Ended(ended, Aborted))
                if ended > barrier =>
            {
                aborted.insert(ended);
                (Self::Draining { passed, barrier, aborted }, Note)
            }
            (state, Ended(_, Aborted)) => (state, Ignore(Ignored::EndedBefore)),
            (state, Ended(ended, Completed)) => {
                if ended > state.passed() {
                    let what = format!("checkpoint {ended} completed before its barrier came");
                    return Err(order(what));
                }
                (state, Note)
            }
        };
        Ok(next)
    }

    /// Running, after this barrier, and after what was aborted right behind it.
    fn after(barrier: CheckpointId, mut aborted: BTreeSet<CheckpointId>) -> Self {
        let mut passed = barrier;
        aborted.retain(|later| *later > barrier);
        while let Some(next) = passed.0.checked_add(1).map(CheckpointId)
            && aborted.remove(&next)
        {
            passed = next;
        }
        Self::Running { passed, aborted }
    }
}

fn came_after(barrier: CheckpointId, passed: CheckpointId) -> Error {
    if barrier == passed {
        return order(format!("barrier {barrier} came twice"));
    }
    let message = format!(
        "barrier {barrier} came after checkpoint {passed}, which was passed or, being aborted, \
         skipped: rows between the two can no longer be told apart; go on from the last completed \
         checkpoint"
    );
    Error::new(ErrorKind::Retry, format!("checkpoint {barrier}"), message)
}

fn order(what: alloc::string::String) -> Error {
    Error::bug("host", format!("{what}: barriers rise, and each is answered before the next"))
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    /// Every state × event, at barriers around the state's own: a pair that is not decided here
    /// does not compile, and one that is decided otherwise fails.
    #[test]
    fn every_pair_of_state_and_event_is_decided_as_the_table_says() {
        use CheckpointEffect as E;
        let id = CheckpointId;
        let none = BTreeSet::new;
        let running = CheckpointState::Running { passed: id(2), aborted: none() };
        let draining = CheckpointState::Draining { passed: id(2), barrier: id(3), aborted: none() };
        let events = |n| {
            [
                CheckpointEvent::BarrierArrived(id(n)),
                CheckpointEvent::Drained,
                CheckpointEvent::Ended(id(n), CheckpointOutcome::Aborted),
                CheckpointEvent::Ended(id(n), CheckpointOutcome::Completed),
            ]
        };
        let effects = |state: CheckpointState| -> Vec<[Option<E>; 4]> {
            let effect = |event| state.clone().next(event).ok().map(|(_, effect)| effect);
            (1..=4).map(|n| events(n).map(effect)).collect()
        };
        let ended = Some(E::Ignore(Ignored::EndedBefore));
        let note = Some(E::Note);
        assert_eq!(
            effects(running),
            [
                [None, note, ended, note],
                [None, note, ended, note],
                [Some(E::Flush), note, Some(E::Skip), None],
                [Some(E::Flush), note, note, None],
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

    fn running(passed: u64) -> CheckpointState {
        CheckpointState::Running { passed: CheckpointId(passed), aborted: BTreeSet::new() }
    }

    #[test]
    fn a_checkpoint_aborted_before_an_earlier_barrier_is_skipped_after_it() {
        let next = |state: CheckpointState, event| state.next(event).expect("in order");
        let aborted = |n| CheckpointEvent::Ended(CheckpointId(n), CheckpointOutcome::Aborted);
        let barrier = |n| CheckpointEvent::BarrierArrived(CheckpointId(n));
        let (kept, effect) = next(running(2), aborted(4));
        assert_eq!((kept.passed(), effect), (CheckpointId(2), CheckpointEffect::Note));
        let (state, _) = next(kept.clone(), barrier(3));
        let (state, effect) = next(state, CheckpointEvent::Drained);
        assert_eq!(effect, CheckpointEffect::Snapshot(CheckpointId(3)));
        assert_eq!(state, running(4));
        let (state, effect) = next(kept.clone(), aborted(3));
        assert_eq!((state, effect), (running(4), CheckpointEffect::Skip));
        let (state, _) = next(kept.clone(), barrier(4));
        assert_eq!(next(state, CheckpointEvent::Drained).0, running(4), "its barrier came");
        let (state, _) = next(kept, barrier(5));
        assert_eq!(next(state, CheckpointEvent::Drained).0, running(5), "4 is of the past");
    }

    #[test]
    fn before_the_first_barrier_an_aborted_checkpoint_is_skipped_at_once() {
        let aborted = CheckpointEvent::Ended(CheckpointId(8), CheckpointOutcome::Aborted);
        let (state, effect) = CheckpointState::first().next(aborted).expect("in order");
        assert_eq!((&state, effect), (&running(8), CheckpointEffect::Skip));
        let none = CheckpointEvent::Ended(CheckpointId(0), CheckpointOutcome::Aborted);
        let (_, effect) = CheckpointState::first().next(none).expect("in order");
        assert_eq!(effect, CheckpointEffect::Ignore(Ignored::EndedBefore), "there is no such one");
        let earlier = state.next(CheckpointEvent::BarrierArrived(CheckpointId(7)));
        assert_eq!(earlier.expect_err("rows are mixed").kind, ErrorKind::Retry);
    }

    #[test]
    fn a_checkpoint_aborted_while_an_earlier_barrier_is_passed_is_skipped_after_it() {
        let state = running(2);
        let next = |state: CheckpointState, event| state.next(event).expect("in order");
        let aborted = |n| CheckpointEvent::Ended(CheckpointId(n), CheckpointOutcome::Aborted);
        let (state, _) = next(state, CheckpointEvent::BarrierArrived(CheckpointId(3)));
        let (state, _) = next(state, aborted(5));
        let (draining, effect) = next(state, aborted(4));
        assert_eq!(effect, CheckpointEffect::Note);
        let (state, effect) = next(draining.clone(), CheckpointEvent::Drained);
        assert_eq!(effect, CheckpointEffect::Snapshot(CheckpointId(3)));
        assert_eq!(state, running(5));
        let (state, effect) = next(draining, aborted(3));
        assert_eq!(effect, CheckpointEffect::Skip);
        assert_eq!(state.passed(), CheckpointId(5));
        assert!(state.next(CheckpointEvent::BarrierArrived(CheckpointId(4))).is_err());
    }

    #[test]
    fn a_passed_barrier_is_the_name_of_what_comes_after_it() {
        let state = running(2);
        let barrier = CheckpointEvent::BarrierArrived(CheckpointId(5));
        let (state, _) = state.next(barrier).unwrap();
        assert_eq!(state.passed(), CheckpointId(2));
        let (state, _) = state.next(CheckpointEvent::Drained).unwrap();
        assert_eq!(state.passed(), CheckpointId(5));
    }
}
