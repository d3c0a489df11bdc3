//! The Tunnel's vocabulary: tables as a catalog describes them, operations on sessions, and what
//! became of an attempt.
//!
//! The machines ask for these operations, a client carries them out, and the local server answers
//! them. Invariant: an outcome is done, refused or in doubt; nothing lies between.

use alloc::string::String;
use alloc::vec::Vec;

use crate::id::{BucketId, Millis, SegmentId, SessionId};

/// The target table as its catalog describes it.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct TableDescription {
    /// Its full name, for messages.
    pub name: String,
    /// The columns stored in rows.
    pub columns: Vec<ColumnDescription>,
    /// The columns that name a partition, outermost first.
    pub partition_columns: Vec<ColumnDescription>,
    /// The names of the primary key's columns.
    pub primary_key: Vec<String>,
    /// Hash buckets of each partition.
    pub buckets: u32,
}

/// One column as the catalog writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ColumnDescription {
    /// Its name.
    pub name: String,
    /// Its type, such as `varchar(20)`.
    pub column_type: String,
    /// Whether a row may leave it empty.
    pub nullable: bool,
}

/// Names an upsert session to the Tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRef {
    /// The service's id.
    pub id: SessionId,
    /// Its partition, such as `day='2013-01-01'`; empty without partitions.
    pub partition: String,
}

/// One request to the Tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Abort a session.
    AbortSession(SessionRef),
    /// Commit a session.
    CommitSession(SessionRef),
    /// Merge the deltas of a partition.
    CompactPartition(String),
    /// Create a partition, if there is none.
    CreatePartition(String),
    /// Create a session.
    CreateSession {
        /// The partition it writes to.
        partition: String,
        /// Hours until the service may drop it.
        lifecycle_hours: u32,
        /// Tunnel slots to write through.
        slots: u32,
    },
    /// Write rows of one bucket.
    PutPack {
        /// Where they go.
        session: SessionRef,
        /// The bucket that all of them hash to.
        bucket: BucketId,
        /// How many records.
        records: u32,
        /// The first records, if they lie in the file cache.
        cached: Vec<CachedRange>,
        /// The records behind them, and the trailer of all.
        body: Vec<u8>,
    },
    /// Ask for a session's status.
    SessionStatus(SessionRef),
}

/// A piece of a segment of the file cache: it never passes through the machines again.
///
/// As small as it can be: there may be many of them for each of thousands of buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CachedRange {
    /// The segment.
    pub segment: SegmentId,
    /// Its first byte, counted over all that was appended to the segment.
    pub offset: u32,
    /// How many bytes.
    pub length: u32,
}

impl CachedRange {
    /// The memory that one takes.
    pub const HELD_BYTES: usize = size_of::<Self>();

    /// The first byte behind it.
    pub const fn end(&self) -> u32 {
        self.offset + self.length
    }
}

/// The state of a session, as the service says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum SessionStatus {
    /// Aborted.
    Aborted,
    /// Committed.
    Committed,
    /// A commit is under way.
    Committing,
    /// Broken; it can only be aborted.
    Critical,
    /// Dropped for its age.
    Expired,
    /// Open.
    Normal,
}

/// A session as the service describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SessionInfo {
    /// Its id.
    pub id: SessionId,
    /// Its state.
    pub status: SessionStatus,
    /// The number of buckets.
    pub buckets: u32,
    /// How keys are hashed: `default` or `legacy`.
    pub hasher: String,
    /// The columns that are hashed.
    pub hash_key: Vec<String>,
    /// The columns of its records, in order, as the service writes them.
    pub columns: Vec<ColumnDescription>,
    /// The ids by which a partial row names these columns; empty if the service does not tell.
    pub column_ids: Vec<i64>,
    /// Whether it takes partial rows.
    pub partial_update: bool,
}

/// The answer, if all went well.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Answer {
    /// Bytes that were read.
    Bytes(Vec<u8>),
    /// Nothing but that it is done.
    None,
    /// A session.
    Session(SessionInfo),
}

/// Why an attempt certainly had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum RefusalKind {
    /// Credentials, permission, or a grant of the host.
    Denied,
    /// The journal or the file cache has no room.
    Full,
    /// The service calls the request wrong: repeating it will not help.
    Invalid,
    /// The bucket has moved; repeat.
    Moved,
    /// No such partition.
    NoSuchPartition,
    /// No such session.
    NoSuchSession,
    /// Nothing was sent.
    NotSent,
    /// Busy, or a quota is used up.
    SlowDown,
    /// A reason of the moment: a conflict, or a pack damaged on its way; repeat.
    Transient,
}

/// A definite no.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Refusal {
    /// The kind.
    pub kind: RefusalKind,
    /// The service's code; may be empty.
    pub code: String,
    /// The service's message, or the host's.
    pub message: String,
    /// The service's id of the request; may be empty.
    pub request_id: String,
    /// How long it asks to wait; zero if it does not say.
    pub retry_after: Millis,
}

/// The end of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Outcome {
    /// It was carried out, and the service said so.
    Done(Answer),
    /// It may have been carried out, or may yet be.
    InDoubt(String),
    /// It certainly had no effect.
    Refused(Refusal),
}
