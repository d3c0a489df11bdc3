//! The requests of a writer to the coordinator, and the sessions that it receives in reply.
//!
//! Beside a row's way. Invariant: as long as a session is wanted, a commit is not known or a passed
//! barrier was not confirmed, a request is under way or will be after a pause; a reply to anything
//! but the newest request changes nothing; every open session fits what rows are encoded and routed
//! for.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use upsert_sink_format::error::Error;
use upsert_sink_format::hash::Hasher;
use upsert_sink_format::id::{CheckpointId, Millis, SessionId, WriterIndex};
use upsert_sink_format::schema::TableSchema;
use upsert_sink_format::tunnel::SessionInfo;

use crate::config::SinkConfig;
use crate::exchange::{Reply, Request};
use crate::ignored::Ignored;
use crate::io::Task;
use crate::partition::PartitionIndex;
use crate::session::{Grant, OpenSession, PartitionSession, SessionName, check_fit, check_partial};

/// After this long without a reply the writer asks again. The coordinator holds a request until it
/// has news, so this only matters for requests and replies that were lost.
const ASK_AGAIN: Millis = Millis(5_000);

/// Sessions that one request asks for; the next one asks for further ones. So no reply, with a
/// description of each, becomes large.
const WANTED_MOST: usize = 256;

/// The state of the exchange with the coordinator, and the sessions that it is about.
#[derive(Clone, Debug)]
pub(crate) struct Asking {
    start: u64,
    nonce: u64,
    writer: WriterIndex,
    number: u64,
    /// Whether something has changed since the newest request.
    changed: bool,
    /// The time at which the newest request was sent, until it is replied to.
    unanswered_since: Option<Millis>,
    /// The session of each partition.
    sessions: Vec<PartitionSession>,
    layout: RowLayout,
}

/// The layout that rows are encoded and routed for, to be held against a session's.
#[derive(Clone, Debug)]
pub(crate) struct RowLayout {
    /// The table's name, for messages.
    table: String,
    buckets: u32,
    hasher: Hasher,
    /// Name and type of each of the table's columns.
    columns: Vec<(String, String)>,
    /// Whether rows may leave columns as they are.
    partial: bool,
}

/// A reply that was received.
#[derive(Debug)]
pub(crate) enum Received {
    /// Nothing, for this reason.
    Nothing(Ignored),
    /// It is the reply to the newest request.
    Reply(Reply),
}

impl RowLayout {
    /// The layout of this table's rows, partial ones or whole ones.
    pub(crate) fn new(schema: &TableSchema, config: &SinkConfig, partial: bool) -> Self {
        let columns = schema.columns.iter();
        Self {
            table: schema.name.clone(),
            buckets: schema.buckets,
            hasher: config.hasher,
            columns: columns.map(|c| (c.name.clone(), c.column_type.to_string())).collect(),
            partial,
        }
    }

    fn check(&self, info: &SessionInfo) -> Result<(), Error> {
        check_fit(info, self.buckets, self.hasher.name(), &self.columns)?;
        if self.partial {
            check_partial(info, &self.table)?;
        }
        Ok(())
    }
}

impl Asking {
    /// Nothing was asked yet; the first request is due at once, for the coordinator waits for every
    /// writer's.
    pub(crate) fn new(task: &Task, layout: RowLayout) -> Self {
        Self {
            start: task.start,
            nonce: task.nonce,
            writer: task.index,
            number: 0,
            changed: true,
            unanswered_since: None,
            sessions: Vec::new(),
            layout,
        }
    }

    /// Makes a request due: the coordinator will know more of something that is still open.
    pub(crate) fn ask_again(&mut self) {
        self.changed = true;
    }

    /// The time at which to ask again.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        self.unanswered_since.map(|since| since.plus(ASK_AGAIN))
    }

    /// Whether something changed, or the newest request was left without a reply.
    pub(crate) fn is_due(&self, now: Millis) -> bool {
        self.changed || self.deadline().is_some_and(|deadline| deadline <= now)
    }

    /// The next request: all that the writer stands for.
    pub(crate) fn request(
        &mut self,
        now: Millis,
        passed: CheckpointId,
        pending: Vec<SessionId>,
    ) -> Vec<u8> {
        self.number += 1;
        self.changed = false;
        self.unanswered_since = Some(now);
        let request = Request {
            start: self.start,
            nonce: self.nonce,
            writer: self.writer,
            number: self.number,
            passed,
            pending,
            wanted: self.wanted().take(WANTED_MOST).cloned().collect(),
        };
        request.to_bytes()
    }

    /// The sessions that are asked for.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = &SessionName> {
        self.sessions.iter().filter_map(PartitionSession::awaited)
    }

    /// Takes the coordinator's reply.
    ///
    /// Errors: `Corrupt` for damaged bytes.
    pub(crate) fn take_reply(&mut self, bytes: &[u8]) -> Result<Received, Error> {
        let reply = Reply::from_bytes(bytes)?;
        if (reply.start, reply.nonce) != (self.start, self.nonce) {
            return Ok(Received::Nothing(Ignored::ForeignStart));
        }
        if reply.number != self.number || self.unanswered_since.is_none() {
            // The reply to the newest request repeats all that it grants or knows.
            return Ok(Received::Nothing(Ignored::LateReply));
        }
        self.unanswered_since = None;
        Ok(Received::Reply(reply))
    }

    /// Opens sessions for the partitions that asked for them, and returns those.
    ///
    /// Errors: `InvalidConfig` if one does not fit the rows.
    pub(crate) fn open_sessions(&mut self, grants: &[Grant]) -> Result<Vec<PartitionIndex>, Error> {
        let sessions = self.sessions.iter().zip(0..);
        let asked = sessions.filter_map(|(session, index)| Some((session.awaited()?, index)));
        let asked: BTreeMap<&SessionName, u32> = asked.collect();
        let unasked = |grant: &Grant| {
            let message = format!("session {} was granted unasked", grant.info.id);
            Error::bug("coordinator", message)
        };
        let opened = grants.iter().map(|grant| {
            self.layout.check(&grant.info)?;
            asked.get(&grant.name).copied().ok_or_else(|| unasked(grant))
        });
        let opened = opened.collect::<Result<Vec<u32>, Error>>()?;
        for (index, grant) in opened.iter().zip(grants) {
            if !self.sessions[*index as usize].grant(grant) {
                return Err(unasked(grant));
            }
        }
        Ok(opened.into_iter().map(PartitionIndex).collect())
    }

    /// The partition's open session; if it has none, one is asked for.
    pub(crate) fn session(
        &mut self,
        partition: PartitionIndex,
        name: &str,
        passed: CheckpointId,
    ) -> Option<&OpenSession> {
        let index = partition.0 as usize;
        if index >= self.sessions.len() {
            self.sessions.resize_with(index + 1, PartitionSession::default);
        }
        let session = &mut self.sessions[index];
        self.changed |= session.ask(name, self.start, passed);
        session.open()
    }

    /// The session of a partition that has one open.
    pub(crate) fn open_session_of(&self, partition: PartitionIndex) -> &OpenSession {
        let session = self.sessions[partition.0 as usize].open();
        session.expect("looked at before a pack was taken")
    }

    /// A pack of this session is in doubt: it takes no further pack. False if it is not the open
    /// one.
    pub(crate) fn doubt(&mut self, partition: PartitionIndex, session: &SessionId) -> bool {
        self.sessions[partition.0 as usize].doubt(session)
    }

    /// A barrier was passed or skipped: later rows belong to sessions of another name.
    pub(crate) fn pass_barrier(&mut self) {
        self.sessions.iter_mut().for_each(PartitionSession::leave);
        self.changed = true;
    }

    /// Forgets all partitions: each begins anew.
    pub(crate) fn forget_partitions(&mut self) {
        self.sessions.clear();
    }
}
