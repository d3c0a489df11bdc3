//! The sessions that a writer stands for: they hold rows of it, and their commit is not known.
//!
//! After `outbox` in a row's way: an acknowledged pack is counted here until its session's commit
//! is known. Invariant: a session is held from its first pack on, over every barrier and restore,
//! until the coordinator knows that it is committed; a snapshot holds every one of them.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use upsert_sink_format::error::Error;
use upsert_sink_format::id::{CheckpointId, Hours, Millis, SessionId};
use upsert_sink_format::sealed::{Kind, Opener, Sealer};

use crate::io::{Snapshot, Task};
use crate::session::{Committable, OpenSession, SessionName, check_identity};
use crate::writer::outbox::SentPack;

/// Committables of one writer; also the restored ones.
#[derive(Clone, Debug)]
pub(crate) struct Commitments {
    identity: String,
    start: u64,
    lifecycle: Hours,
    /// The barrier of the last snapshot.
    snapshot: CheckpointId,
    held: BTreeMap<SessionName, Committable>,
    /// Completed checkpoints, some of whose sessions may not be known to be committed.
    completed: BTreeSet<CheckpointId>,
}

/// Completed checkpoints whose commits may be outstanding before no more rows are taken.
///
/// Two are enough to keep commits going; more only make the state longer, and rows wait longer to
/// become visible.
const BEHIND_MOST: usize = 4;

impl Commitments {
    /// None yet.
    pub(crate) fn new(task: &Task, lifecycle: Hours) -> Self {
        Self {
            identity: task.identity.clone(),
            start: task.start,
            lifecycle,
            snapshot: CheckpointId(0),
            held: BTreeMap::new(),
            completed: BTreeSet::new(),
        }
    }

    /// Takes up the states of the checkpoint to resume from, and returns the committables in them.
    ///
    /// Errors: `InvalidConfig` for a state of another sink or of a start that is not before this
    /// one; `Corrupt` for a damaged state.
    pub(crate) fn restore(&mut self, states: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, Error> {
        for state in states {
            let mut opener = Opener::open(Kind::Writer, state)?;
            check_identity("state", &opener.text()?, &self.identity)?;
            for bytes in opener.list(Opener::bytes)? {
                let committable = Committable::from_bytes(bytes)?;
                self.check_start(committable.name.start)?;
                // After a change of parallelism, one writer may take up what several put into one
                // session.
                self.held
                    .entry(committable.name.clone())
                    .and_modify(|held| held.join(&committable))
                    .or_insert(committable);
            }
            opener.finish()?;
        }
        Ok(self.to_bytes())
    }

    fn check_start(&self, start: u64) -> Result<(), Error> {
        if start < self.start {
            return Ok(());
        }
        let message = format!(
            "the checkpoint is of start {start}, but the journal's last is before {}: the journal \
             directory is lost or was replaced by an older one; restore it",
            self.start
        );
        Err(Error::config("state", message))
    }

    /// From its first pack on, a session is this writer's to have committed.
    pub(crate) fn hold(&mut self, now: Millis, session: &OpenSession) {
        if self.held.contains_key(&session.name) {
            return;
        }
        let committable = Committable {
            identity: self.identity.clone(),
            name: session.name.clone(),
            session: session.id.clone(),
            created_at: session.created_at,
            contact_at: now,
            lifecycle_hours: self.lifecycle.0,
            packs: 0,
            records: 0,
            moved_out: 0,
            moved_to: BTreeSet::new(),
            after: self.snapshot,
            before: CheckpointId(0),
        };
        self.held.insert(session.name.clone(), committable);
    }

    /// A pack of a session was acknowledged. If rows moved out with it, `moved_to` are the
    /// partitions that they are known to have moved to.
    ///
    /// Errors: `Bug` if its session counted as committed before: its rows would be in no commit.
    pub(crate) fn acknowledge<'a>(
        &mut self,
        now: Millis,
        pack: &SentPack,
        moved_to: impl Iterator<Item = &'a str>,
    ) -> Result<(), Error> {
        let held = self.held.get_mut(&pack.session).ok_or_else(|| {
            let message = format!(
                "a session of {} was told as committed while a pack of it was under way",
                pack.session.partition
            );
            Error::bug("coordinator", message)
        })?;
        held.contact_at = now;
        held.packs += 1;
        held.records += u64::from(pack.records);
        held.moved_out += pack.moved_out;
        if pack.moved_out > 0 {
            held.moved_to.extend(moved_to.map(ToString::to_string));
        }
        Ok(())
    }

    /// Forgets sessions that are known to be committed.
    pub(crate) fn forget_known(&mut self, known: &[SessionId]) {
        let known: BTreeSet<&SessionId> = known.iter().collect();
        self.held.retain(|_, held| !known.contains(&held.session));
        self.forget_completed();
    }

    /// A checkpoint is complete: what it holds may be committed. True if commits have now fallen
    /// behind.
    pub(crate) fn complete(&mut self, checkpoint: CheckpointId) -> bool {
        let before = self.are_behind();
        self.completed.insert(checkpoint);
        self.forget_completed();
        !before && self.are_behind()
    }

    /// Whether commits are so far behind the checkpoints that no more rows should be taken: they
    /// would only make the state longer. Commits of completed checkpoints wait for no further one,
    /// so this ends.
    pub(crate) fn are_behind(&self) -> bool {
        self.completed.len() > BEHIND_MOST
    }

    /// Forgets completed checkpoints that hold no session whose commit is not known.
    fn forget_completed(&mut self) {
        let held = self.held.values().map(|held| held.before);
        let oldest = held.filter(|before| *before > CheckpointId(0)).min();
        self.completed.retain(|completed| oldest.is_some_and(|oldest| oldest <= *completed));
    }

    /// The sessions whose commit is not known.
    pub(crate) fn pending(&self) -> Vec<SessionId> {
        self.held.values().map(|held| held.session.clone()).collect()
    }

    /// Whether every commit is known.
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// A barrier is passed: everything that this writer stands for.
    pub(crate) fn snapshot(&mut self, checkpoint: CheckpointId) -> Snapshot {
        self.snapshot = checkpoint;
        for held in self.held.values_mut().filter(|held| held.before == CheckpointId(0)) {
            held.before = checkpoint;
        }
        let committables = self.to_bytes();
        let state = Sealer::new(Kind::Writer)
            .text(&self.identity)
            .list(&committables, |sealer, committable| {
                sealer.bytes(committable);
            })
            .seal();
        Snapshot { checkpoint, state, committables }
    }

    fn to_bytes(&self) -> Vec<Vec<u8>> {
        self.held.values().map(Committable::to_bytes).collect()
    }
}
