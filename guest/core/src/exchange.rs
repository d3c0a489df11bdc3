//! The messages between writers, coordinator and committer.
//!
//! Beside the row's way. A request carries all that a writer stands for, a reply all that the
//! coordinator knows for it. So any of them may be lost, repeated or reordered: the newest one says
//! everything. Invariant: a message of another start of the sink is recognised as such.

use alloc::string::String;
use alloc::vec::Vec;

use upsert_sink_format::error::Error;
use upsert_sink_format::id::{CheckpointId, Millis, SessionId, WriterIndex};
use upsert_sink_format::sealed::{Kind, Opener, Sealer};
use upsert_sink_format::tunnel::{ColumnDescription, SessionInfo, SessionStatus};

use crate::session::{Grant, SessionName};

/// A writer's request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The start it belongs to.
    pub start: u64,
    /// The random number of that start.
    pub nonce: u64,
    /// The writer that asks.
    pub writer: WriterIndex,
    /// The request's number: it rises with each request of this writer.
    pub number: u64,
    /// The last barrier it has passed in this start, or skipped.
    pub passed: CheckpointId,
    /// Sessions with rows of it whose commit is not known to it. In its first request they are
    /// the restored ones.
    pub pending: Vec<SessionId>,
    /// Sessions it wants to write to.
    pub wanted: Vec<SessionName>,
}

impl Request {
    /// Versioned bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut sealer = Sealer::new(Kind::Request);
        sealer.u64(self.start).u64(self.nonce).u32(self.writer.0).u64(self.number);
        sealer.u64(self.passed.0).list(&self.pending, |sealer, session| {
            sealer.text(&session.0);
        });
        sealer.list(&self.wanted, |sealer, name| name.write(sealer)).seal()
    }

    /// Reads what `to_bytes` wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let mut opener = Opener::open(Kind::Request, bytes)?;
        let request = Self {
            start: opener.u64()?,
            nonce: opener.u64()?,
            writer: WriterIndex(opener.u32()?),
            number: opener.u64()?,
            passed: CheckpointId(opener.u64()?),
            pending: opener.list(session_id)?,
            wanted: opener.list(SessionName::read)?,
        };
        opener.finish()?;
        Ok(request)
    }
}

/// The coordinator's reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The start it belongs to.
    pub start: u64,
    /// The random number of that start.
    pub nonce: u64,
    /// The number of the newest request of this writer when it was written.
    pub number: u64,
    /// Sessions it may write to.
    pub granted: Vec<Grant>,
    /// Sessions of its request that are known to be committed.
    pub known: Vec<SessionId>,
}

impl Reply {
    /// Versioned bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut sealer = Sealer::new(Kind::Reply);
        sealer.u64(self.start).u64(self.nonce).u64(self.number);
        sealer.list(&self.granted, write_grant).list(&self.known, |sealer, session| {
            sealer.text(&session.0);
        });
        sealer.seal()
    }

    /// Reads what `to_bytes` wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let mut opener = Opener::open(Kind::Reply, bytes)?;
        let reply = Self {
            start: opener.u64()?,
            nonce: opener.u64()?,
            number: opener.u64()?,
            granted: opener.list(read_grant)?,
            known: opener.list(session_id)?,
        };
        opener.finish()?;
        Ok(reply)
    }
}

/// The committer's word on commits that have become known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The sessions.
    pub sessions: Vec<SessionId>,
}

impl Known {
    /// Versioned bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut sealer = Sealer::new(Kind::Known);
        sealer.list(&self.sessions, |sealer, session| {
            sealer.text(&session.0);
        });
        sealer.seal()
    }

    /// Reads what `to_bytes` wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let mut opener = Opener::open(Kind::Known, bytes)?;
        let sessions = opener.list(session_id)?;
        opener.finish()?;
        Ok(Self { sessions })
    }
}

fn session_id(opener: &mut Opener<'_>) -> Result<SessionId, Error> {
    opener.text().map(SessionId)
}

fn write_grant(sealer: &mut Sealer, grant: &Grant) {
    grant.name.write(sealer);
    sealer.u64(grant.created_at.0).text(&grant.info.id.0).u32(grant.info.buckets);
    sealer.text(&grant.info.hasher).list(&grant.info.hash_key, |sealer, column| {
        sealer.text(column);
    });
    sealer.list(&grant.info.columns, |sealer, column| {
        sealer.text(&column.name).text(&column.column_type).u32(u32::from(column.nullable));
    });
    sealer.list(&grant.info.column_ids, |sealer, id| {
        sealer.u64(id.cast_unsigned());
    });
    sealer.u32(u32::from(grant.info.partial_update));
}

/// A session is granted while it is open, so its status is not part of the message.
fn read_grant(opener: &mut Opener<'_>) -> Result<Grant, Error> {
    let name = SessionName::read(opener)?;
    let created_at = Millis(opener.u64()?);
    let id = SessionId(opener.text()?);
    let buckets = opener.u32()?;
    let hasher = opener.text()?;
    let hash_key: Vec<String> = opener.list(Opener::text)?;
    let columns = opener.list(|opener| {
        let name = opener.text()?;
        let column_type = opener.text()?;
        Ok(ColumnDescription { name, column_type, nullable: opener.u32()? != 0 })
    })?;
    let column_ids = opener.list(|opener| Ok(opener.u64()?.cast_signed()))?;
    let partial_update = opener.u32()? != 0;
    let status = SessionStatus::Normal;
    let info =
        SessionInfo { id, status, buckets, hasher, hash_key, columns, column_ids, partial_update };
    Ok(Grant { name, created_at, info })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_back_as_written() {
        let name = SessionName {
            partition: "day='x'".into(),
            start: 1,
            barrier: CheckpointId(2),
            rollover: 3,
        };
        let request = Request {
            start: 1,
            nonce: 2,
            writer: WriterIndex(3),
            number: 4,
            passed: CheckpointId(5),
            pending: alloc::vec![SessionId("a".into())],
            wanted: alloc::vec![name.clone()],
        };
        assert_eq!(Request::from_bytes(&request.to_bytes()).unwrap(), request);
        let info = SessionInfo {
            id: SessionId("b".into()),
            status: SessionStatus::Normal,
            buckets: 8,
            hasher: "default".into(),
            hash_key: alloc::vec!["id".into()],
            columns: alloc::vec![ColumnDescription {
                name: "id".into(),
                column_type: "bigint".into(),
                nullable: false,
            }],
            column_ids: alloc::vec![-7],
            partial_update: true,
        };
        let grant = Grant { name, created_at: Millis(9), info };
        let known = alloc::vec![SessionId("a".into())];
        let reply = Reply { start: 1, nonce: 2, number: 4, granted: alloc::vec![grant], known };
        assert_eq!(Reply::from_bytes(&reply.to_bytes()).unwrap(), reply);
        let known = Known { sessions: alloc::vec![SessionId("a".into())] };
        assert_eq!(Known::from_bytes(&known.to_bytes()).unwrap(), known);
    }
}
