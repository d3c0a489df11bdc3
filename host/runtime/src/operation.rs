//! Operations of the Tunnel as a guest has submitted them, and one attempt at each.
//!
//! Between `capability/`, which keeps them under their tickets, and the client of the Tunnel.
//! Invariant: an attempt is one call of the client; nothing here retries what may have been carried
//! out, and what no role is granted is never sent.

use upsert_sink_format::id::{BucketId, Hours, Millis};
use upsert_sink_format::tunnel::{Answer, Outcome, Refusal, RefusalKind, SessionRef};
use upsert_sink_tunnel::{PackBody, Table};

/// One request to the Tunnel, as the guest submitted it.
#[derive(Debug)]
pub(crate) enum Operation {
    CreatePartition(String),
    CreateSession {
        partition: String,
        lifecycle_hours: u32,
        slots: u32,
    },
    PutPack(SubmittedPack),
    /// A pack in the file cache, which no role is granted.
    PutCachedPack(CachedPack),
    CommitSession(SessionRef),
    AbortSession(SessionRef),
    SessionStatus(SessionRef),
    /// A major compaction.
    CompactPartition(String),
}

/// Rows of one bucket.
#[derive(Debug)]
pub(crate) struct SubmittedPack {
    pub(crate) session: SessionRef,
    pub(crate) bucket: u32,
    pub(crate) records: u32,
    pub(crate) body: PackBody,
}

/// Rows of one bucket that lie in the file cache. Nothing is kept of where: it is refused.
#[derive(Debug)]
pub(crate) struct CachedPack {
    pub(crate) session: SessionRef,
    pub(crate) bucket: u32,
    pub(crate) records: u32,
    /// How many ranges.
    pub(crate) ranges: usize,
}

impl Operation {
    /// Its name in `wit/tunnel.wit`.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::CreatePartition(_) => "create-partition",
            Self::CreateSession { .. } => "create-session",
            Self::PutPack(_) | Self::PutCachedPack(_) => "put-pack",
            Self::CommitSession(_) => "commit-session",
            Self::AbortSession(_) => "abort-session",
            Self::SessionStatus(_) => "session-status",
            Self::CompactPartition(_) => "compact-partition",
        }
    }

    /// Whether attempts at it are counted while they are under way: packs and commits.
    pub(crate) fn is_counted(&self) -> bool {
        matches!(self, Self::PutPack(_) | Self::CommitSession(_))
    }

    /// The session that it concerns, and its partition.
    pub(crate) fn session(&self) -> Option<&SessionRef> {
        match self {
            Self::PutPack(pack) => Some(&pack.session),
            Self::PutCachedPack(pack) => Some(&pack.session),
            Self::CommitSession(session)
            | Self::AbortSession(session)
            | Self::SessionStatus(session) => Some(session),
            Self::CreatePartition(_) | Self::CreateSession { .. } | Self::CompactPartition(_) => {
                None
            }
        }
    }

    /// The bytes that the host keeps for it.
    pub(crate) fn held_bytes(&self) -> usize {
        match self {
            Self::PutPack(pack) => pack.body.plain_bytes(),
            _ => 0,
        }
    }

    /// Makes one attempt.
    pub(crate) async fn attempt(&self, table: &Table) -> Outcome {
        let answered = match self {
            Self::CreatePartition(partition) => {
                table.create_partition(partition).await.map(|()| Answer::None)
            }
            Self::CreateSession { partition, lifecycle_hours, slots } => {
                let created = table.create_session(partition, Hours(*lifecycle_hours), *slots);
                created.await.map(|session| Answer::Session(session.into_info()))
            }
            Self::PutPack(pack) => {
                let SubmittedPack { session, bucket, records, body } = pack;
                let put = table.put_pack(session, BucketId(*bucket), *records, body);
                put.await.map(|()| Answer::None)
            }
            Self::CommitSession(session) => table.commit(session).await.map(Answer::Session),
            Self::AbortSession(session) => table.abort(session).await.map(|()| Answer::None),
            Self::SessionStatus(session) => table.status(session).await.map(Answer::Session),
            Self::CompactPartition(partition) => {
                table.compact(partition).await.map(|_| Answer::None)
            }
            Self::PutCachedPack(_) => return not_granted(self.name()),
        };
        answered.map_or_else(Outcome::from, Outcome::Done)
    }
}

/// The outcome of something that the guest may not use.
pub(crate) fn not_granted(name: &str) -> Outcome {
    refused(RefusalKind::Denied, format!("the host grants no {name} to this role"))
}

/// A refusal of the host's own.
pub(crate) fn refused(kind: RefusalKind, message: String) -> Outcome {
    Outcome::Refused(Refusal {
        kind,
        code: String::new(),
        message,
        request_id: String::new(),
        retry_after: Millis(0),
    })
}

#[cfg(test)]
mod tests {
    use upsert_sink_format::id::SessionId;
    use upsert_sink_tunnel::components::Components;
    use upsert_sink_tunnel::{Client, ClientSettings};

    use super::*;

    #[tokio::test]
    async fn what_no_role_is_granted_is_refused_and_never_sent() {
        // Nobody listens there: what is sent is refused in other words.
        let settings = ClientSettings::new(
            "http://127.0.0.1:1/api".parse().expect("a URL"),
            "p".parse().expect("a name"),
        );
        let client = Client::new(settings, &Components::system());
        let table = client.table(&"t".parse().expect("a name"));
        let session = SessionRef { id: SessionId(String::from("s1")), partition: String::new() };
        let cached = CachedPack { session, bucket: 0, records: 1, ranges: 2 };
        let operation = Operation::PutCachedPack(cached);
        assert_eq!(operation.attempt(&table).await, not_granted(operation.name()));
        assert_eq!(client.metrics().http_requests, 0);
    }
}
