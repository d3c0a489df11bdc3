//! Upsert sessions: their names, what the coordinator hands out, and the committable that each
//! leaves.
//!
//! After `flush` in a row's way: a pack goes into the session that its partition has open
//! (`state`), if it fits the rows (`fit`). A session is asked for by its name (`name`), and what it
//! holds at a barrier becomes a part of the checkpoint (`committable`). Invariant: the same name
//! means the same session, in every role and after every restart.

mod committable;
mod fit;
mod name;
mod state;

pub(crate) use committable::check_identity;
pub use committable::{Committable, Span};
pub(crate) use fit::{check_fit, check_partial};
pub use name::SessionName;
pub(crate) use state::{OpenSession, PartitionSession};
use upsert_sink_format::id::Millis;
use upsert_sink_format::tunnel::SessionInfo;

/// A session as the coordinator hands it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Its name.
    pub name: SessionName,
    /// The time at which the service was asked for it: it is not older.
    pub created_at: Millis,
    /// The service's description of it.
    pub info: SessionInfo,
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use upsert_sink_format::id::{CheckpointId, SessionId};
    use upsert_sink_format::tunnel::SessionStatus;

    use super::*;

    pub(super) fn name(start: u64, barrier: u64, rollover: u32) -> SessionName {
        SessionName { partition: "day='x'".into(), start, barrier: CheckpointId(barrier), rollover }
    }

    /// A session of this name and id, without columns.
    pub(super) fn grant(name: &SessionName, id: &str) -> Grant {
        Grant {
            name: name.clone(),
            created_at: Millis(5),
            info: SessionInfo {
                id: SessionId(id.into()),
                status: SessionStatus::Normal,
                buckets: 8,
                hasher: "default".into(),
                hash_key: Vec::new(),
                columns: Vec::new(),
                column_ids: Vec::new(),
                partial_update: false,
            },
        }
    }
}
