//! The sessions that are to be created and to be retired.
//!
//! Under the coordinator. A checkpoint of ten thousand partitions asks for as many sessions, which
//! are created some at a time: the list is made once for each request, and not for each session.
//! Invariant: what is on it follows from the newest requests alone; whoever changes those, or the
//! sessions that they are held against, makes it stale.

use alloc::collections::{BTreeSet, VecDeque};
use core::fmt;

use upsert_sink_format::id::SessionId;

use super::{Coordinator, Standing};
use crate::session::SessionName;

/// The list, in the order in which it is worked off.
#[derive(Clone)]
pub(super) struct Agenda {
    create: VecDeque<SessionName>,
    retire: VecDeque<(SessionName, SessionId)>,
    stale: bool,
}

/// It follows from what the coordinator shows.
impl fmt::Debug for Agenda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agenda").finish_non_exhaustive()
    }
}

impl Default for Agenda {
    fn default() -> Self {
        Self { create: VecDeque::new(), retire: VecDeque::new(), stale: true }
    }
}

impl Agenda {
    /// It must be made anew before it is used.
    pub(super) fn make_stale(&mut self) {
        self.stale = true;
    }

    pub(super) fn is_stale(&self) -> bool {
        self.stale
    }

    pub(super) fn next_to_create(&mut self) -> Option<SessionName> {
        self.create.pop_front()
    }

    pub(super) fn next_to_retire(&mut self) -> Option<(SessionName, SessionId)> {
        self.retire.pop_front()
    }
}

impl Coordinator {
    /// The list as it follows from the newest requests.
    pub(super) fn plan_agenda(&self) -> Agenda {
        let passed_by_all = self.passed_by_all();
        let wanted: BTreeSet<&SessionName> = (self.writers.iter())
            .flat_map(|view| view.wanted.iter())
            .filter(|name| name.barrier <= passed_by_all && !self.sessions.contains_key(*name))
            .collect();
        let held: BTreeSet<&SessionId> =
            self.writers.iter().flat_map(|view| view.pending.iter()).collect();
        // A session of a barrier that all have left, and that none holds rows in, is of no further
        // use.
        let unused = self.sessions.iter().filter_map(|(name, standing)| match standing {
            Standing::Open(grant)
                if name.barrier < passed_by_all && !held.contains(&grant.info.id) =>
            {
                Some((name.clone(), grant.info.id.clone()))
            }
            Standing::Creating | Standing::Open(_) | Standing::Retiring => None,
        });
        Agenda {
            create: wanted.into_iter().cloned().collect(),
            retire: unused.collect(),
            stale: false,
        }
    }
}
