//! Committables: the part of a writer's state that stands for a session with its rows, until the
//! commit is known.
//!
//! Between a writer's acknowledged packs and the committer, by way of the engine's checkpoint.
//! Invariant: bytes that any released version wrote are read; no part of a session with
//! acknowledged rows is lost when the committables of its writers are joined.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use upsert_sink_format::error::Error;
use upsert_sink_format::id::{CheckpointId, Millis, SessionId};
use upsert_sink_format::sealed::{Kind, Opener, Sealer};
use upsert_sink_format::tunnel::SessionRef;

use super::SessionName;

/// A session with acknowledged rows of one writer, to be committed when a checkpoint that holds it
/// completes.
///
/// It lives in its writer's state until its commit is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committable {
    /// The sink it belongs to.
    pub identity: String,
    /// The name of the session.
    pub name: SessionName,
    /// The service's id of the session.
    pub session: SessionId,
    /// A time at which it was certainly not older than this.
    pub created_at: Millis,
    /// The last time at which the service answered about it.
    pub contact_at: Millis,
    /// The lifecycle that was asked for.
    pub lifecycle_hours: u32,
    /// Packs of this writer that were acknowledged.
    pub packs: u64,
    /// Records in them.
    pub records: u64,
    /// Before-images whose rows moved to another key or partition.
    pub moved_out: u64,
    /// Partitions that rows are known to have moved to.
    pub moved_to: BTreeSet<String>,
    /// The last barrier with a snapshot of its writer before the rows; zero before the first of a
    /// start.
    pub after: CheckpointId,
    /// The barrier of the first snapshot of its start that holds it; zero until then.
    pub before: CheckpointId,
}

impl Committable {
    /// The session, in the words of the Tunnel.
    pub fn session_ref(&self) -> SessionRef {
        SessionRef { id: self.session.clone(), partition: self.name.partition.clone() }
    }

    /// Versioned bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut sealer = Sealer::new(Kind::Committable);
        sealer.text(&self.identity);
        self.name.write(&mut sealer);
        sealer.text(&self.session.0).u64(self.created_at.0).u64(self.contact_at.0);
        sealer.u32(self.lifecycle_hours).u64(self.packs).u64(self.records).u64(self.moved_out);
        let moved_to: Vec<&String> = self.moved_to.iter().collect();
        sealer.list(&moved_to, |sealer, partition| {
            sealer.text(partition);
        });
        sealer.u64(self.after.0).u64(self.before.0).seal()
    }

    /// Reads what `to_bytes` wrote.
    ///
    /// Errors: `Corrupt` for damaged bytes, `InvalidConfig` for bytes of a newer version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let mut opener = Opener::open(Kind::Committable, bytes)?;
        let mut committable = Self {
            identity: opener.text()?,
            name: SessionName::read(&mut opener)?,
            session: SessionId(opener.text()?),
            created_at: Millis(opener.u64()?),
            contact_at: Millis(opener.u64()?),
            lifecycle_hours: opener.u32()?,
            packs: opener.u64()?,
            records: opener.u64()?,
            moved_out: opener.u64()?,
            moved_to: opener.list(Opener::text)?.into_iter().collect(),
            after: CheckpointId(0),
            before: CheckpointId(0),
        };
        if opener.version() == 1 {
            // It did not part barriers that were passed from those that were skipped.
            committable.after = committable.name.barrier;
            committable.before = CheckpointId(committable.after.0.saturating_add(1));
        } else {
            committable.after = CheckpointId(opener.u64()?);
            committable.before = CheckpointId(opener.u64()?);
        }
        opener.finish()?;
        Ok(committable)
    }

    /// Takes up the rows of another writer in the same session.
    pub fn join(&mut self, other: &Self) {
        self.created_at = self.created_at.min(other.created_at);
        self.contact_at = self.contact_at.max(other.contact_at);
        self.packs = self.packs.saturating_add(other.packs);
        self.records = self.records.saturating_add(other.records);
        self.moved_out = self.moved_out.saturating_add(other.moved_out);
        self.moved_to.extend(other.moved_to.iter().cloned());
        self.after = self.after.min(other.after);
        self.before = self.before.max(other.before);
    }

    /// The barriers between which its rows arrived, once a snapshot holds it.
    pub fn span(&self) -> Span {
        Span { start: self.name.start, after: self.after, before: self.before }
    }
}

/// Refuses a state of another sink.
///
/// Errors: `InvalidConfig`, at this place.
pub(crate) fn check_identity(at: &str, written: &str, own: &str) -> Result<(), Error> {
    if written == own {
        return Ok(());
    }
    let message = format!(
        "the checkpoint is of sink {written}, this is sink {own}: restore it with the journal \
         directory it was written with"
    );
    Err(Error::config(at, message))
}

/// Rows of one start between two barriers: after the one, before the other.
///
/// The place in the input at which a row moved is within the spans of both of its sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// The start of the sink.
    pub start: u64,
    /// The barrier after which they arrived.
    pub after: CheckpointId,
    /// The barrier before which they arrived.
    pub before: CheckpointId,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::tests::name;

    /// The bytes of `committable()`, as version 1 wrote them.
    const VERSION_1: &[u8] =
        b"USST\x01\x01\x04\0\0\0sink\x07\0\0\0day='x'\x04\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\
        \0\x01\0\0\0\x01\0\0\0s\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x18\0\0\0\x03\0\0\
        \0\0\0\0\0\x04\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x02\0\0\0\x07\0\0\0day='y'\x07\
        \0\0\0day='z'\x84$\x12\x98";
    /// The same as of version 2.
    const VERSION_2: &[u8] =
        b"USST\x01\x02\x04\0\0\0sink\x07\0\0\0day='x'\x04\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\
        \0\x01\0\0\0\x01\0\0\0s\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x18\0\0\0\x03\0\0\
        \0\0\0\0\0\x04\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x02\0\0\0\x07\0\0\0day='y'\x07\
        \0\0\0day='z'\x01\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\xb1\xd5~\xc2";

    fn committable() -> Committable {
        Committable {
            identity: "sink".into(),
            name: name(4, 2, 1),
            session: SessionId("s".into()),
            created_at: Millis(1),
            contact_at: Millis(2),
            lifecycle_hours: 24,
            packs: 3,
            records: 4,
            moved_out: 5,
            moved_to: ["day='y'".into(), "day='z'".into()].into(),
            after: CheckpointId(1),
            before: CheckpointId(3),
        }
    }

    #[test]
    fn a_committable_is_written_as_its_version_says_and_read_back() {
        let bytes = committable().to_bytes();
        assert_eq!(bytes, VERSION_2);
        assert_eq!(Committable::from_bytes(&bytes), Ok(committable()));
    }

    #[test]
    fn a_joined_committable_covers_all_that_its_writers_put_into_the_session() {
        let with = |at: u64, moved_to: &str| Committable {
            identity: "sink".into(),
            name: name(4, 2, 1),
            session: SessionId("s".into()),
            created_at: Millis(at),
            contact_at: Millis(at + 10),
            lifecycle_hours: 24,
            packs: at,
            records: 2 * at,
            moved_out: 3 * at,
            moved_to: [moved_to.into()].into(),
            after: CheckpointId(at),
            before: CheckpointId(at + 3),
        };
        let mut first = with(1, "day='y'");
        let mut second = with(2, "day='z'");
        let joined = Committable {
            contact_at: Millis(12),
            packs: 3,
            records: 6,
            moved_out: 9,
            moved_to: ["day='y'".into(), "day='z'".into()].into(),
            before: CheckpointId(5),
            ..first.clone()
        };
        let one = first.clone();
        let other = second.clone();
        first.join(&other);
        second.join(&one);
        assert_eq!((&first, &second), (&joined, &joined));
    }

    #[test]
    fn a_committable_of_version_1_is_read_as_between_its_barrier_and_the_next() {
        // It did not say between which barriers its rows arrived.
        let read = Committable::from_bytes(VERSION_1);
        let after = CheckpointId(2);
        let before = CheckpointId(3);
        assert_eq!(read, Ok(Committable { after, before, ..committable() }));
    }
}
