//! Which powers a role has: which operations of the Tunnel, the journal, and the file cache. What
//! is not granted is refused before anything is done.
//!
//! Asked by `capability/tickets.rs`. Invariant: deny by default; a grant is made once, when its
//! instance is.

use crate::operation::{Operation, SubmittedBody, SubmittedPack};

/// The powers of one instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Grant {
    /// May write packs.
    write: bool,
    /// May create partitions, and create and abort sessions.
    prepare: bool,
    /// May commit sessions, and have partitions compacted.
    commit: bool,
    /// May append to the journal.
    journal: bool,
    /// May use a file cache, and write packs from it.
    cache: bool,
}

impl Grant {
    /// Nothing: routers and descriptions are pure.
    pub(crate) const NONE: Self =
        Self { write: false, prepare: false, commit: false, journal: false, cache: false };
    /// The needs of a writer.
    pub(crate) const WRITER: Self = Self { write: true, cache: true, ..Self::NONE };
    /// The needs of the coordinator.
    pub(crate) const COORDINATOR: Self = Self { prepare: true, journal: true, ..Self::NONE };
    /// The needs of the committer.
    pub(crate) const COMMITTER: Self = Self { commit: true, journal: true, ..Self::NONE };

    /// Whether `operation` may be submitted. Asking for a status is granted with any power.
    pub(crate) fn allows(&self, operation: &Operation) -> bool {
        match operation {
            Operation::PutPack(SubmittedPack { body: SubmittedBody::Held(_), .. }) => self.write,
            Operation::PutPack(SubmittedPack { body: SubmittedBody::Cached(_), .. }) => self.cache,
            Operation::CreatePartition(_)
            | Operation::CreateSession { .. }
            | Operation::AbortSession(_) => self.prepare,
            Operation::CommitSession(_) | Operation::CompactPartition(_) => self.commit,
            Operation::SessionStatus(_) => self.write || self.prepare || self.commit,
        }
    }

    /// Whether the file cache may be used.
    pub(crate) fn allows_cache(&self) -> bool {
        self.cache
    }

    /// Whether the journal may be appended to.
    pub(crate) fn allows_journal(&self) -> bool {
        self.journal
    }
}

#[cfg(test)]
mod tests {
    use upsert_sink_format::id::SessionId;
    use upsert_sink_format::tunnel::SessionRef;

    use super::*;
    use crate::operation::CachedBody;

    fn session() -> SessionRef {
        SessionRef { id: SessionId(String::from("s1")), partition: String::new() }
    }

    #[test]
    fn nothing_is_granted_by_default() {
        assert!(!Grant::default().allows(&Operation::SessionStatus(session())));
        assert!(!Grant::default().allows(&Operation::CreatePartition(String::from("d='1'"))));
    }

    #[test]
    fn the_journal_is_lent_to_those_who_create_and_commit() {
        assert!(Grant::COORDINATOR.allows_journal() && Grant::COMMITTER.allows_journal());
        assert!(!Grant::WRITER.allows_journal() && !Grant::NONE.allows_journal());
    }

    #[test]
    fn only_a_writer_may_cache_rows_and_send_them() {
        let (session, bucket, records) = (session(), 0, 1);
        let body = SubmittedBody::Cached(CachedBody::new(Some(Vec::new()), Vec::new()));
        let cached = Operation::PutPack(SubmittedPack { session, bucket, records, body });
        assert!(Grant::WRITER.allows(&cached) && Grant::WRITER.allows_cache());
        for grant in [Grant::NONE, Grant::COORDINATOR, Grant::COMMITTER] {
            assert!(!grant.allows(&cached) && !grant.allows_cache(), "{grant:?}");
        }
    }

    #[test]
    fn whoever_counts_the_commits_may_have_a_partition_compacted_and_nobody_else() {
        let compaction = Operation::CompactPartition(String::from("d='1'"));
        assert!(Grant::COMMITTER.allows(&compaction));
        assert!(!Grant::WRITER.allows(&compaction) && !Grant::COORDINATOR.allows(&compaction));
    }

    #[test]
    fn a_writer_cannot_commit_or_abort() {
        assert!(!Grant::WRITER.allows(&Operation::CommitSession(session())));
        assert!(!Grant::WRITER.allows(&Operation::AbortSession(session())));
    }
}
