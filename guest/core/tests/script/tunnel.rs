//! A Tunnel that does what the script says: operations wait until they are answered, and their
//! effects may be late.
//!
//! Invariant: rows are visible only by a commit, and the last row of a key in a session wins.

use std::collections::BTreeMap;

use upsert_sink_format::id::SessionId;
use upsert_sink_format::record::{Op, Value, decode_pack};
use upsert_sink_format::schema::ColumnType;
use upsert_sink_format::tunnel::{
    Answer, ColumnDescription, Operation, Outcome, Refusal, RefusalKind, SessionInfo, SessionStatus,
};

/// The state of a session, and its rows in the order of arrival.
#[derive(Debug)]
struct Session {
    /// Sessions are counted as they are created.
    number: u32,
    partition: String,
    status: SessionStatus,
    /// The time at which the service drops it.
    ends_at: u64,
    rows: Vec<(i64, Option<String>)>,
}

/// Sessions and the visible table.
#[derive(Debug, Default)]
pub(crate) struct Tunnel {
    sessions: BTreeMap<String, Session>,
    created: u32,
    visible: BTreeMap<(String, i64), String>,
    /// The session that each key was last set by.
    set_by: BTreeMap<(String, i64), u32>,
    /// Whether of two sessions the one wins that was created later, and not the one that was
    /// committed later.
    pub(crate) by_creation: bool,
    /// Whether a session is forgotten as soon as it is committed.
    pub(crate) forgets: bool,
    /// Whether a second open session of a partition is refused.
    pub(crate) one_session: bool,
    /// The number that were refused so.
    pub(crate) second_sessions: u32,
    /// The partitions that were compacted, in order.
    pub(crate) compactions: Vec<String>,
    /// Milliseconds, as everybody's.
    pub(crate) now: u64,
}

impl Tunnel {
    /// Carries an operation out.
    pub(crate) fn apply(&mut self, operation: &Operation) -> Outcome {
        match operation {
            Operation::AbortSession(session) => match self.sessions.get_mut(&session.id.0) {
                Some(held) if held.status == SessionStatus::Committed => {
                    refused(RefusalKind::Invalid, "StatusConflict")
                }
                Some(held) => {
                    held.status = SessionStatus::Aborted;
                    Outcome::Done(Answer::None)
                }
                None => refused(RefusalKind::NoSuchSession, "UpsertSessionNotFound"),
            },
            Operation::CommitSession(session) => self.commit(&session.id),
            Operation::CreatePartition(_) => Outcome::Done(Answer::None),
            Operation::CompactPartition(partition) => {
                self.compactions.push(partition.clone());
                Outcome::Done(Answer::None)
            }
            Operation::CreateSession { partition, lifecycle_hours, .. } => {
                self.create(partition, *lifecycle_hours)
            }
            Operation::PutPack { session, body, .. } => self.put(&session.id, body),
            Operation::SessionStatus(session) if self.sessions.contains_key(&session.id.0) => {
                Outcome::Done(Answer::Session(self.info(&session.id.0)))
            }
            Operation::SessionStatus(_) => {
                refused(RefusalKind::NoSuchSession, "UpsertSessionNotFound")
            }
        }
    }

    /// The visible rows: `day='x' 1=a`.
    pub(crate) fn table(&self) -> Vec<String> {
        let row = |((partition, key), value): (&(String, i64), &String)| {
            format!("{partition} {key}={value}")
        };
        self.visible.iter().map(row).collect()
    }

    /// Every session that is neither committed nor aborted.
    pub(crate) fn open_sessions(&self) -> Vec<&str> {
        let open = self.sessions.iter().filter(|(_, held)| held.status == SessionStatus::Normal);
        open.map(|(id, _)| id.as_str()).collect()
    }

    /// The service drops a session for its age.
    pub(crate) fn expire(&mut self, id: &str) {
        self.sessions.remove(id);
    }

    fn create(&mut self, partition: &str, lifecycle_hours: u32) -> Outcome {
        for held in self.sessions.values_mut().filter(|held| held.ends_at <= self.now) {
            if held.status == SessionStatus::Normal {
                held.status = SessionStatus::Expired;
            }
        }
        let is_open =
            |held: &Session| held.partition == partition && held.status == SessionStatus::Normal;
        if self.one_session && self.sessions.values().any(is_open) {
            self.second_sessions += 1;
            return refused(RefusalKind::Invalid, "StatusConflict");
        }
        self.created += 1;
        let id = format!("s{}", self.created);
        let session = Session {
            number: self.created,
            partition: partition.into(),
            status: SessionStatus::Normal,
            ends_at: self.now + u64::from(lifecycle_hours) * 3_600_000,
            rows: vec![],
        };
        self.sessions.insert(id.clone(), session);
        Outcome::Done(Answer::Session(self.info(&id)))
    }

    fn put(&mut self, id: &SessionId, body: &[u8]) -> Outcome {
        let Some(session) = self.sessions.get_mut(&id.0) else {
            return refused(RefusalKind::NoSuchSession, "UpsertSessionNotFound");
        };
        if session.status != SessionStatus::Normal {
            return refused(RefusalKind::Invalid, "StatusConflict");
        }
        let columns = [ColumnType::BigInt, ColumnType::String];
        let mut rows = Vec::new();
        decode_pack(body, &columns, &mut |record| {
            let Some(Value::Int(key)) = record.values[0] else { panic!("a key is never null") };
            let value = match (&record.values[1], record.op) {
                (Some(Value::Bytes(bytes)), Op::Upsert) => {
                    Some(String::from_utf8(bytes.clone()).unwrap())
                }
                _ => None,
            };
            rows.push((key, value));
            Ok(())
        })
        .unwrap();
        session.rows.extend(rows);
        Outcome::Done(Answer::None)
    }

    fn commit(&mut self, id: &SessionId) -> Outcome {
        let Some(session) = self.sessions.get_mut(&id.0) else {
            return refused(RefusalKind::NoSuchSession, "UpsertSessionNotFound");
        };
        if session.status == SessionStatus::Normal {
            session.status = SessionStatus::Committed;
            for (key, value) in &session.rows {
                let at = (session.partition.clone(), *key);
                let set_by = self.set_by.entry(at.clone()).or_default();
                if self.by_creation && *set_by > session.number {
                    continue;
                }
                *set_by = session.number;
                match value {
                    Some(value) => self.visible.insert(at, value.clone()),
                    None => self.visible.remove(&at),
                };
            }
        }
        let info = self.info(&id.0);
        if self.forgets {
            self.sessions.remove(&id.0);
        }
        Outcome::Done(Answer::Session(info))
    }

    fn info(&self, id: &str) -> SessionInfo {
        let column = |name: &str, column_type: &str, nullable| ColumnDescription {
            name: name.into(),
            column_type: column_type.into(),
            nullable,
        };
        SessionInfo {
            id: SessionId(id.into()),
            status: self.sessions[id].status,
            buckets: 2,
            hasher: "default".into(),
            hash_key: vec!["id".into()],
            columns: vec![column("id", "bigint", false), column("v", "string", true)],
            column_ids: vec![0, 1],
            partial_update: false,
        }
    }
}

/// A definite no.
pub(crate) fn refused(kind: RefusalKind, code: &str) -> Outcome {
    Outcome::Refused(Refusal {
        kind,
        code: code.into(),
        message: "the script says so".into(),
        request_id: "r".into(),
        retry_after: Default::default(),
    })
}
