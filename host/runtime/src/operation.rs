//! Operations of the Tunnel as a guest has submitted them, and one attempt at each.
//!
//! Between `capability/`, which keeps them under their tickets, and the client of the Tunnel.
//! Invariant: an attempt is one call of the client; nothing here retries what may have been carried
//! out, and what no role is granted is never sent.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use upsert_sink_format::id::{BucketId, Hours, Millis};
use upsert_sink_format::tunnel::{Answer, Outcome, Refusal, RefusalKind, SessionRef};
use upsert_sink_tunnel::{PackBody, Table};

use crate::file_cache;
use crate::file_cache::HeldRange;

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
    pub(crate) body: SubmittedBody,
}

/// Where the bytes of a pack are.
#[derive(Debug)]
pub(crate) enum SubmittedBody {
    /// In memory.
    Held(PackBody),
    /// In the file cache, but for the last.
    Cached(CachedBody),
}

/// A pack that is read from the file cache for each attempt.
pub(crate) struct CachedBody {
    /// Its first bytes; none if the guest has named what is not there.
    ranges: Option<Vec<HeldRange>>,
    trailer: Vec<u8>,
    wire_bytes: AtomicUsize,
}

impl CachedBody {
    pub(crate) fn new(ranges: Option<Vec<HeldRange>>, trailer: Vec<u8>) -> Self {
        Self { ranges, trailer, wire_bytes: AtomicUsize::new(0) }
    }

    /// The pack as a whole.
    ///
    /// # Errors
    /// A refusal: nothing is sent.
    async fn read(&self) -> Result<PackBody, Outcome> {
        let invalid = |why: String| refused(RefusalKind::Invalid, why);
        let Some(ranges) = &self.ranges else {
            return Err(invalid(String::from(
                "the pack has ranges of segments that are not there",
            )));
        };
        let mut bytes = file_cache::read(ranges, self.trailer.len()).await.map_err(invalid)?;
        bytes.extend_from_slice(&self.trailer);
        Ok(PackBody::new(Bytes::from(bytes)))
    }
}

impl std::fmt::Debug for CachedBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ranges = self.ranges.as_ref().map_or(0, Vec::len);
        write!(f, "({ranges} cached ranges, {} bytes behind them)", self.trailer.len())
    }
}

impl SubmittedBody {
    /// The bytes as the guest has made them.
    pub(crate) fn plain_bytes(&self) -> usize {
        match self {
            Self::Held(body) => body.plain_bytes(),
            Self::Cached(CachedBody { ranges, trailer, .. }) => {
                let cached: u64 = ranges.iter().flatten().map(HeldRange::length).sum();
                usize::try_from(cached).unwrap_or(usize::MAX).saturating_add(trailer.len())
            }
        }
    }

    /// The bytes that an attempt sends; none before the first one.
    pub(crate) fn wire_bytes(&self) -> Option<usize> {
        match self {
            Self::Held(body) => body.wire_bytes(),
            Self::Cached(body) => Some(body.wire_bytes.load(Ordering::Relaxed)).filter(|n| *n > 0),
        }
    }

    /// The memory that it takes while no attempt is under way.
    fn held_bytes(&self) -> usize {
        match self {
            Self::Held(body) => body.plain_bytes(),
            Self::Cached(CachedBody { ranges, trailer, .. }) => {
                let ranges = ranges.as_ref().map_or(0, Vec::len);
                ranges * size_of::<HeldRange>() + trailer.len()
            }
        }
    }
}

impl Operation {
    /// Its name in `wit/tunnel.wit`.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::CreatePartition(_) => "create-partition",
            Self::CreateSession { .. } => "create-session",
            Self::PutPack(_) => "put-pack",
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
            Self::PutPack(pack) => pack.body.held_bytes(),
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
                let bucket = BucketId(*bucket);
                match body {
                    SubmittedBody::Held(body) => {
                        let put = table.put_pack(session, bucket, *records, body);
                        put.await.map(|()| Answer::None)
                    }
                    SubmittedBody::Cached(cached) => {
                        let body = match cached.read().await {
                            Ok(body) => body,
                            Err(refused) => return refused,
                        };
                        let put = table.put_pack(session, bucket, *records, &body).await;
                        let wire_bytes = body.wire_bytes().unwrap_or_default();
                        cached.wire_bytes.store(wire_bytes, Ordering::Relaxed);
                        put.map(|()| Answer::None)
                    }
                }
            }
            Self::CommitSession(session) => table.commit(session).await.map(Answer::Session),
            Self::AbortSession(session) => table.abort(session).await.map(|()| Answer::None),
            Self::SessionStatus(session) => table.status(session).await.map(Answer::Session),
            Self::CompactPartition(partition) => {
                table.compact(partition).await.map(|_| Answer::None)
            }
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
