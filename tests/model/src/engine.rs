//! The stream engine: an input that can be read again, barriers, and checkpoints that are retained.
//!
//! A writer has taken so many rows of the input; a barrier stands at an offset of it, and each
//! writer passes it after its rows before that offset. Invariant: a checkpoint is complete only
//! after every writer has answered its barrier; after a restart rows come from its offset again.

use crate::message::Blob;
use crate::plan::Plan;

/// A barrier that was begun and has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Barrier {
    pub(crate) id: u8,
    pub(crate) offset: u8,
    pub(crate) savepoint: bool,
    /// The answer of each writer: its state, and its committables.
    pub(crate) answers: Vec<Option<(Blob, Vec<Blob>)>>,
}

impl Barrier {
    /// Whether all have answered.
    pub(crate) fn is_prepared(&self) -> bool {
        self.answers.iter().all(Option::is_some)
    }

    /// All that was answered.
    pub(crate) fn committables(&self) -> Vec<Blob> {
        self.answers.iter().flatten().flat_map(|(_, held)| held.iter().copied()).collect()
    }

    fn states(&self) -> Vec<Blob> {
        self.answers.iter().flatten().map(|(state, _)| *state).collect()
    }
}

/// A checkpoint or savepoint that can be restored.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Retained {
    pub(crate) id: u8,
    pub(crate) offset: u8,
    pub(crate) states: Vec<Blob>,
    pub(crate) committables: Vec<Blob>,
}

/// The engine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Engine {
    pub(crate) parallelism: u8,
    /// For each writer: the position after the last row that it took.
    pub(crate) taken: [u8; 2],
    /// For each writer: the last barrier that was given to it.
    pub(crate) given: [u8; 2],
    /// The newest checkpoint's number.
    pub(crate) last: u8,
    /// Barriers under way, oldest first.
    pub(crate) open: Vec<Barrier>,
    /// Completed checkpoints that are kept, oldest first.
    pub(crate) retained: Vec<Retained>,
    /// Whether checkpoints have completed that are no longer kept.
    pub(crate) more: bool,
    /// An intermediate savepoint.
    pub(crate) savepoint: Option<Retained>,
}

/// The next input of a writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Barrier(u8, bool),
    Nothing,
    Row(u8),
}

impl Engine {
    /// The next input of this writer.
    pub(crate) fn next(&self, writer: u8, plan: &Plan) -> Next {
        let at = writer as usize;
        let ours = |position: &u8| plan.log[*position as usize] % 2 % self.parallelism == writer;
        let row = (self.taken[at]..plan.rows()).find(ours);
        let barrier = self.open.iter().find(|barrier| barrier.id > self.given[at]);
        match (row, barrier) {
            (Some(row), Some(barrier)) if row >= barrier.offset => {
                Next::Barrier(barrier.id, barrier.savepoint)
            }
            (Some(row), _) => Next::Row(row),
            (None, Some(barrier)) => Next::Barrier(barrier.id, barrier.savepoint),
            (None, None) => Next::Nothing,
        }
    }

    /// Where the next barrier may stand.
    pub(crate) fn offsets(&self, plan: &Plan, pending: bool) -> std::ops::RangeInclusive<u8> {
        let taken = self.taken.into_iter().max().unwrap_or_default();
        let newest = self.open.last().map(|barrier| barrier.offset);
        let restored = self.retained.last().map(|retained| retained.offset);
        let newest = newest.or(restored).unwrap_or_default();
        // Only a barrier after a notice that was lost has anything to do without rows.
        let after =
            if plan.empty || (pending && self.open.is_empty()) { newest } else { newest + 1 };
        taken.max(after)..=plan.rows()
    }

    /// Begins a barrier.
    pub(crate) fn begin(&mut self, offset: u8, savepoint: bool) {
        self.last += 1;
        let answers = vec![None; self.parallelism.into()];
        self.open.push(Barrier { id: self.last, offset, savepoint, answers });
    }

    /// A barrier that is under way.
    pub(crate) fn barrier(&self, id: u8) -> Option<&Barrier> {
        self.open.iter().find(|barrier| barrier.id == id)
    }

    /// A writer answered. The barrier, if all have.
    pub(crate) fn answer(
        &mut self,
        id: u8,
        writer: u8,
        state: Blob,
        held: &[Blob],
    ) -> Option<&Barrier> {
        let barrier = self.open.iter_mut().find(|barrier| barrier.id == id)?;
        barrier.answers[writer as usize] = Some((state, held.to_vec()));
        barrier.is_prepared().then_some(barrier)
    }

    /// A barrier ends without being completed.
    pub(crate) fn give_up(&mut self, id: u8) {
        self.open.retain(|barrier| barrier.id != id);
    }

    /// A checkpoint is durable: those before it are subsumed.
    pub(crate) fn complete(&mut self, id: u8, keep: usize) {
        let barrier = self.barrier(id).expect("it is under way").clone();
        self.open.retain(|barrier| barrier.id > id);
        self.retained.push(retained(&barrier));
        if self.retained.len() > keep {
            self.retained.remove(0);
            self.more = true;
        }
    }

    /// An intermediate savepoint is durable.
    pub(crate) fn save(&mut self, id: u8) {
        let barrier = self.barrier(id).expect("it is under way").clone();
        self.give_up(id);
        self.savepoint = Some(retained(&barrier));
    }

    /// Rows come again from here, for so many writers.
    pub(crate) fn restart(&mut self, parallelism: u8) {
        let offset = self.retained.last().map_or(0, |retained| retained.offset);
        self.parallelism = parallelism;
        self.taken = [offset; 2];
        self.given = [0; 2];
        self.open.clear();
    }
}

fn retained(barrier: &Barrier) -> Retained {
    let (states, committables) = (barrier.states(), barrier.committables());
    Retained { id: barrier.id, offset: barrier.offset, states, committables }
}
