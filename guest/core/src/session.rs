//! Upsert sessions as a writer sees them: their names, their place in a partition's life, and the
//! committable left behind.
//!
//! After `flush` in a row's way: a pack goes into the session that its partition has open.
//! Invariant: a session is named by (start, barrier, rollover) and names of one partition are
//! ordered as their rows must become visible; a session with a pack in doubt takes no further pack
//! of this writer.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use upsert_sink_format::error::Error;
use upsert_sink_format::id::{CheckpointId, Millis, SessionId};
use upsert_sink_format::sealed::{Kind, Opener, Sealer};
use upsert_sink_format::tunnel::{SessionInfo, SessionRef};

/// What a session is for. The coordinator answers the same name with the same session.
///
/// The order of names of one partition is the order in which their sessions must be committed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionName {
    /// The partition; empty for a table without partitions.
    pub partition: String,
    /// The start of the sink that asked.
    pub start: u64,
    /// The last barrier that the asking writer had passed in this start; zero before the first.
    pub barrier: CheckpointId,
    /// How many sessions of this barrier were left because of a doubt.
    pub rollover: u32,
}

impl SessionName {
    /// Not after any name of the partition.
    pub fn first_of(partition: &str) -> Self {
        let partition = String::from(partition);
        Self { partition, start: 0, barrier: CheckpointId(0), rollover: 0 }
    }

    /// Appends the name to a sealed piece.
    pub fn write(&self, sealer: &mut Sealer) {
        sealer.text(&self.partition).u64(self.start).u64(self.barrier.0).u32(self.rollover);
    }

    /// Reads a name from a sealed piece.
    pub fn read(opener: &mut Opener<'_>) -> Result<Self, Error> {
        Ok(Self {
            partition: opener.text()?,
            start: opener.u64()?,
            barrier: CheckpointId(opener.u64()?),
            rollover: opener.u32()?,
        })
    }
}

/// A session with acknowledged rows of one writer, to be committed when a checkpoint that holds it
/// completes.
///
/// It lives in its writer's state until its commit is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committable {
    /// The sink it belongs to.
    pub identity: String,
    /// What the session was for.
    pub name: SessionName,
    /// The service's id of it.
    pub session: SessionId,
    /// A time at which it was certainly not older than this.
    pub created_at: Millis,
    /// The last time the service was heard about it.
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
    /// The session, as the Tunnel is told.
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
            // It did not tell barriers that were passed from those that were skipped.
            committable.after = committable.name.barrier;
            committable.before = CheckpointId(committable.after.0.saturating_add(1));
        } else {
            committable.after = CheckpointId(opener.u64()?);
            committable.before = CheckpointId(opener.u64()?);
        }
        opener.finish()?;
        Ok(committable)
    }

    /// Takes up what another writer put into the same session.
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

    /// The barriers that its rows came between, once a snapshot holds it.
    pub fn span(&self) -> Span {
        Span { start: self.name.start, after: self.after, before: self.before }
    }
}

/// Rows of one start between two barriers: after the one, before the other.
///
/// Of what moved at one place of the input, both sides have it within their spans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// The start of the sink.
    pub start: u64,
    /// The barrier that they came after.
    pub after: CheckpointId,
    /// The barrier that they came before.
    pub before: CheckpointId,
}

/// Where a partition of one writer stands with its session.
///
/// | state | `ask` | `grant` of this name | `doubt` of this session | `leave` |
/// |---|---|---|---|---|
/// | `Absent` | → `Awaiting` | ignored | ignored | stays |
/// | `Awaiting` | stays | → `Open` | ignored | → `Absent` |
/// | `Open` | stays | ignored | → `Absent`, next rollover | → `Absent` |
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SessionState {
    /// None is open and none was asked for; the next is of this rollover.
    #[default]
    Absent,
    /// The coordinator was asked.
    Awaiting(SessionName),
    /// Packs may go into it.
    Open(OpenSession),
}

/// A session that packs may go into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenSession {
    /// What it is for.
    pub name: SessionName,
    /// The service's id.
    pub id: SessionId,
    /// A time at which it was certainly not older than this.
    pub created_at: Millis,
    /// The ids by which a partial row names columns.
    pub column_ids: Vec<i64>,
}

/// A session as the coordinator hands it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What it is for.
    pub name: SessionName,
    /// When it was asked of the service: it is not older.
    pub created_at: Millis,
    /// What the service says of it.
    pub info: SessionInfo,
}

/// One partition's session, and the rollovers behind it.
#[derive(Clone, Debug, Default)]
pub struct PartitionSession {
    state: SessionState,
    rollover: u32,
}

impl PartitionSession {
    /// The session that packs may go into.
    pub fn open(&self) -> Option<&OpenSession> {
        match &self.state {
            SessionState::Open(open) => Some(open),
            SessionState::Absent | SessionState::Awaiting(_) => None,
        }
    }

    /// The name that is asked for.
    pub fn awaited(&self) -> Option<&SessionName> {
        match &self.state {
            SessionState::Awaiting(name) => Some(name),
            SessionState::Absent | SessionState::Open(_) => None,
        }
    }

    /// Asks for a session if there is none. True if that is new.
    pub fn ask(&mut self, partition: &str, start: u64, barrier: CheckpointId) -> bool {
        match self.state {
            SessionState::Awaiting(_) | SessionState::Open(_) => false,
            SessionState::Absent => {
                let partition = String::from(partition);
                let rollover = self.rollover;
                let name = SessionName { partition, start, barrier, rollover };
                self.state = SessionState::Awaiting(name);
                true
            }
        }
    }

    /// The coordinator answered. False if the answer is to a question no longer asked.
    pub fn grant(&mut self, grant: &Grant) -> bool {
        match &self.state {
            SessionState::Awaiting(name) if *name == grant.name => {
                self.state = SessionState::Open(OpenSession {
                    name: grant.name.clone(),
                    id: grant.info.id.clone(),
                    created_at: grant.created_at,
                    column_ids: grant.info.column_ids.clone(),
                });
                true
            }
            SessionState::Absent | SessionState::Awaiting(_) | SessionState::Open(_) => false,
        }
    }

    /// A pack of this session is in doubt: it takes no further pack. False if it is not the open
    /// one.
    pub fn doubt(&mut self, session: &SessionId) -> bool {
        match &self.state {
            SessionState::Open(open) if open.id == *session => {
                self.state = SessionState::Absent;
                self.rollover = self.rollover.saturating_add(1);
                true
            }
            SessionState::Absent | SessionState::Awaiting(_) | SessionState::Open(_) => false,
        }
    }

    /// A barrier was passed or skipped: what comes now belongs to a session of another name.
    pub fn leave(&mut self) {
        *self = Self::default();
    }
}

/// Refuses a session that does not fit what rows are encoded and routed for.
///
/// Errors: `InvalidConfig` naming what differs and what to do.
pub fn check_fit(
    info: &SessionInfo,
    buckets: u32,
    hasher: &str,
    columns: &[(String, String)],
) -> Result<(), Error> {
    let at = format!("session {}", info.id);
    if info.buckets != buckets {
        let message = format!(
            "the session has {} buckets, the table had {buckets} when the sink was opened: its \
             layout has changed; start the sink again",
            info.buckets
        );
        return Err(Error::config(at, message));
    }
    if !info.hasher.eq_ignore_ascii_case(hasher) {
        let message = format!(
            "the service hashes keys with `{}`, rows were routed with `{hasher}`: set \
             sink.hasher = {}",
            info.hasher, info.hasher
        );
        return Err(Error::config(at, message));
    }
    let differs = info.columns.len() != columns.len()
        || (info.columns.iter().zip(columns)).any(|(theirs, (name, column_type))| {
            !theirs.name.eq_ignore_ascii_case(name)
                || !theirs.column_type.eq_ignore_ascii_case(column_type)
        });
    if differs {
        let theirs = info.columns.iter().map(|c| format!("{} {}", c.name, c.column_type));
        let theirs = theirs.collect::<Vec<_>>().join(", ");
        let message = format!(
            "the session's columns are ({theirs}), not those the table had when the sink was \
             opened: its schema has changed; start the sink again"
        );
        return Err(Error::config(at, message));
    }
    Ok(())
}

/// Refuses a session that does not take partial rows, or does not say how to name their columns.
///
/// Errors: `InvalidConfig` naming the option, the table's property and what to do.
pub fn check_partial(info: &SessionInfo, table: &str) -> Result<(), Error> {
    let at = "option `upsert.partial-column.enable`";
    let remedy = "or set the option to `false` and write whole rows";
    if !info.partial_update {
        let message = format!(
            "`true`, but session {} of table {table} takes whole rows only, because the table's \
             property `acid.partial.fields.update.enable` is not `true`: create the table with \
             TBLPROPERTIES ('acid.partial.fields.update.enable'='true'), {remedy}",
            info.id
        );
        return Err(Error::config(at, message));
    }
    let ids = &info.column_ids;
    let unique = ids.iter().enumerate().all(|(at, id)| !ids[..at].contains(id));
    if ids.len() != info.columns.len() || !unique {
        let message = format!(
            "`true`, but session {} of table {table} does not give each of its {} columns an id \
             of its own (`column_id`), so that none can be named: ask the service's operator, \
             {remedy}",
            info.id,
            info.columns.len()
        );
        return Err(Error::config(at, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use upsert_sink_format::tunnel::SessionStatus;

    fn grant(name: &SessionName, id: &str) -> Grant {
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

    fn name(start: u64, barrier: u64, rollover: u32) -> SessionName {
        SessionName { partition: "day='x'".into(), start, barrier: CheckpointId(barrier), rollover }
    }

    #[test]
    fn names_are_ordered_by_start_then_barrier_then_rollover() {
        let ordered = [name(1, 9, 0), name(2, 0, 0), name(2, 0, 1), name(2, 3, 0)];
        assert!(ordered.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn a_doubted_session_takes_no_further_pack() {
        let mut session = PartitionSession::default();
        assert!(session.ask("day='x'", 1, CheckpointId(3)));
        assert!(!session.ask("day='x'", 1, CheckpointId(3)));
        assert!(session.grant(&grant(&name(1, 3, 0), "a")));
        assert!(session.doubt(&SessionId("a".into())));
        assert!(session.open().is_none());
        session.ask("day='x'", 1, CheckpointId(3));
        assert_eq!(session.awaited(), Some(&name(1, 3, 1)));
        assert!(!session.grant(&grant(&name(1, 3, 0), "a")), "a late reply reopens it");
        assert!(!session.doubt(&SessionId("a".into())), "a second doubt rolls over again");
    }

    /// Every state × input of the table above.
    #[test]
    fn every_pair_of_state_and_input_is_decided_as_the_table_says() {
        let (first, second) = (name(1, 3, 0), name(1, 3, 1));
        let absent = PartitionSession::default();
        let mut awaiting = absent.clone();
        awaiting.ask("day='x'", 1, CheckpointId(3));
        let mut open = awaiting.clone();
        open.grant(&grant(&first, "a"));
        let after = |session: &PartitionSession, input: &dyn Fn(&mut PartitionSession) -> bool| {
            let mut session = session.clone();
            let changed = input(&mut session);
            (changed, session.awaited().cloned(), session.open().map(|open| open.id.0.clone()))
        };
        let ask = |session: &mut PartitionSession| session.ask("day='x'", 1, CheckpointId(3));
        let ours = |session: &mut PartitionSession| session.grant(&grant(&first, "a"));
        let other = |session: &mut PartitionSession| session.grant(&grant(&second, "b"));
        let doubt = |session: &mut PartitionSession| session.doubt(&SessionId("a".into()));
        let foreign = |session: &mut PartitionSession| session.doubt(&SessionId("b".into()));
        let leave = |session: &mut PartitionSession| {
            session.leave();
            true
        };
        let (asked, a) = (Some(first.clone()), Some(String::from("a")));
        assert_eq!(after(&absent, &ask), (true, asked.clone(), None));
        assert_eq!(after(&awaiting, &ask), (false, asked.clone(), None));
        assert_eq!(after(&open, &ask), (false, None, a.clone()));
        assert_eq!(after(&absent, &ours), (false, None, None));
        assert_eq!(after(&awaiting, &ours), (true, None, a.clone()));
        assert_eq!(after(&open, &ours), (false, None, a.clone()));
        for state in [&absent, &awaiting, &open] {
            let held = after(state, &|_| false);
            assert_eq!(after(state, &other), held, "a session of another name was taken");
            assert_eq!(after(state, &foreign), held, "a doubt of another session was taken");
            assert_eq!(after(state, &leave), (true, None, None));
        }
        assert_eq!(after(&absent, &doubt), (false, None, None));
        assert_eq!(after(&awaiting, &doubt), (false, asked, None));
        assert_eq!(after(&open, &doubt), (true, None, None));
    }

    #[test]
    fn a_committable_is_read_back_as_written() {
        let committable = Committable {
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
        };
        assert_eq!(Committable::from_bytes(&committable.to_bytes()).unwrap(), committable);
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
        let (mut first, mut second) = (with(1, "day='y'"), with(2, "day='z'"));
        let joined = Committable {
            contact_at: Millis(12),
            packs: 3,
            records: 6,
            moved_out: 9,
            moved_to: ["day='y'".into(), "day='z'".into()].into(),
            before: CheckpointId(5),
            ..first.clone()
        };
        let (one, other) = (first.clone(), second.clone());
        first.join(&other);
        second.join(&one);
        assert_eq!((&first, &second), (&joined, &joined));
    }

    /// As it was written before committables told which barriers their rows came between.
    #[test]
    fn a_committable_of_version_1_is_read_as_between_its_barrier_and_the_next() {
        let mut sealer = Sealer::new(Kind::Committable);
        sealer.text("sink");
        name(4, 2, 1).write(&mut sealer);
        sealer.text("s").u64(1).u64(2).u32(24).u64(3).u64(4).u64(5);
        sealer.list(&["day='y'"], |sealer, partition| {
            sealer.text(partition);
        });
        let bytes = sealer.seal_as(1);
        let committable = Committable::from_bytes(&bytes).expect("it is whole");
        let span = Span { start: 4, after: CheckpointId(2), before: CheckpointId(3) };
        assert_eq!(committable.span(), span);
        assert_eq!((committable.records, committable.moved_out), (4, 5));
    }

    #[test]
    fn a_session_of_another_layout_is_refused_with_the_remedy() {
        let info = grant(&name(1, 0, 0), "a").info;
        assert!(check_fit(&info, 8, "default", &[]).is_ok());
        assert!(check_fit(&info, 4, "default", &[]).unwrap_err().message.contains("8 buckets"));
        let error = check_fit(&info, 8, "legacy", &[]).unwrap_err();
        assert!(error.message.contains("sink.hasher = default"), "{error}");
        let columns = [("id".into(), "bigint".into())];
        assert!(check_fit(&info, 8, "default", &columns).is_err());
        let (column_type, nullable) = ("BIGINT".into(), false);
        let column = upsert_sink_format::tunnel::ColumnDescription {
            name: "Id".into(),
            column_type,
            nullable,
        };
        let info = SessionInfo { columns: alloc::vec![column], ..info };
        assert!(check_fit(&info, 8, "default", &columns).is_ok());
        for (name, column_type) in [("id", "string"), ("key", "bigint")] {
            let error = check_fit(&info, 8, "default", &[(name.into(), column_type.into())]);
            assert!(error.is_err_and(|error| error.message.contains("its schema has changed")));
        }
    }

    #[test]
    fn partial_rows_need_a_session_that_takes_them_and_names_its_columns() {
        let mut info = grant(&name(1, 0, 0), "a").info;
        let column = |name: &str| upsert_sink_format::tunnel::ColumnDescription {
            name: name.into(),
            column_type: "bigint".into(),
            nullable: true,
        };
        info.columns = alloc::vec![column("id"), column("v")];
        let error =
            alloc::string::ToString::to_string(&check_partial(&info, "shop.orders").unwrap_err());
        for part in
            ["`upsert.partial-column.enable`", "shop.orders", "'acid.partial.fields.update.enable'"]
        {
            assert!(error.contains(part), "{error} does not say {part}");
        }
        info.partial_update = true;
        for ids in [&[][..], &[1], &[4, 4], &[1, 2, 3]] {
            info.column_ids = ids.to_vec();
            let error = check_partial(&info, "shop.orders").unwrap_err();
            assert!(error.message.contains("`column_id`"), "{error}");
        }
        info.column_ids = alloc::vec![9, 4];
        assert!(check_partial(&info, "shop.orders").is_ok());
    }
}
