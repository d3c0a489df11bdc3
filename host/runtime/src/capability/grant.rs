//! Which operations of the Tunnel a role may submit. What is not granted is refused before anything
//! is sent.
//!
//! Asked by `capability/tunnel.rs`. Invariant: deny by default; a grant is made once, when its
//! instance is.

use crate::tunnel::Operation;

/// The powers of one instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Grant {
    /// May write packs.
    write: bool,
    /// May create partitions, and create and abort sessions.
    prepare: bool,
    /// May commit sessions.
    commit: bool,
}

impl Grant {
    /// Nothing: routers and descriptions are pure.
    pub(crate) const NONE: Self = Self { write: false, prepare: false, commit: false };
    /// What a writer needs.
    pub(crate) const WRITER: Self = Self { write: true, ..Self::NONE };
    /// What the coordinator needs.
    pub(crate) const COORDINATOR: Self = Self { prepare: true, ..Self::NONE };
    /// What the committer needs.
    pub(crate) const COMMITTER: Self = Self { commit: true, ..Self::NONE };

    /// Whether `operation` may be submitted. Asking for a status is granted with any power.
    pub(crate) fn allows(&self, operation: &Operation) -> bool {
        match operation {
            Operation::PutPack(_) => self.write,
            Operation::CreatePartition(_)
            | Operation::CreateSession { .. }
            | Operation::AbortSession(_) => self.prepare,
            Operation::CommitSession(_) => self.commit,
            Operation::SessionStatus(_) => self.write || self.prepare || self.commit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use upsert_sink_core::id::SessionId;
    use upsert_sink_core::io::SessionRef;

    fn session() -> SessionRef {
        SessionRef { id: SessionId(String::from("s1")), partition: String::new() }
    }

    #[test]
    fn nothing_is_granted_by_default() {
        assert!(!Grant::default().allows(&Operation::SessionStatus(session())));
        assert!(!Grant::default().allows(&Operation::CreatePartition(String::from("d='1'"))));
    }

    #[test]
    fn a_writer_cannot_commit_or_abort() {
        assert!(!Grant::WRITER.allows(&Operation::CommitSession(session())));
        assert!(!Grant::WRITER.allows(&Operation::AbortSession(session())));
    }
}
