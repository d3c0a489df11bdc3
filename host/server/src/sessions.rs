//! The upsert sessions of a server, from their creation to their end.
//!
//! Between `route/upsert/mod.rs`, which reads requests and verifies packs, and the spool with the
//! [`Tables`]. A job that drops a table aborts its sessions here. Invariant: a session is known
//! before its client is, and forgotten after its end is durable; a session that was created and not
//! committed is never answered as not found.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use upsert_sink_format::id::Millis;

use crate::background::Waited;
use crate::components::{Clock, Directory, Entropy, ServerComponents};
use crate::error::{Error, Refusal};
use crate::quota::{Flow, QuotaUse};
use crate::session::{AdmittedPack, PackKept, Session, SessionFacts, SessionIds, Status};
use crate::settings::ServerSettings;
use crate::spool;
use crate::spool::{Frame, Spool};
use crate::stats::{Counters, OpenSessionStats};
use crate::table::catalog::Table;
use crate::table::commit::CommitOutcome;
use crate::tables::Tables;

/// All sessions of a directory.
pub(crate) struct Sessions {
    tables: Arc<Tables>,
    spool: Spool,
    ids: SessionIds,
    quota_use: QuotaUse,
    one_session: bool,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    counters: Arc<Counters>,
    by_id: Mutex<BTreeMap<String, Arc<Session>>>,
}

/// A session that a client names.
pub(crate) enum FoundSession {
    Live(Arc<Session>),
    /// One that has ended, with its id; all that is still known is how.
    Ended(String, Status),
}

/// The wishes of a client that creates a session.
pub(crate) struct NewSession {
    /// The values of a partition that there is.
    pub(crate) partition: Vec<String>,
    pub(crate) lifecycle_hours: u32,
    pub(crate) slots: u32,
}

/// A pack that was verified.
pub(crate) struct VerifiedPack<'a> {
    pub(crate) bucket: u32,
    pub(crate) records: u32,
    /// The pack, decompressed.
    pub(crate) body: &'a [u8],
    /// Its bytes on the wire, which count against the quota.
    pub(crate) wire_bytes: usize,
}

impl Sessions {
    /// Finds the open and the aborted sessions of the last server.
    pub(crate) async fn open(
        directory: &Arc<dyn Directory>,
        components: &ServerComponents,
        settings: &ServerSettings,
        tables: &Arc<Tables>,
        counters: &Arc<Counters>,
    ) -> Result<Self, Error> {
        let now = components.clock.now();
        let (spool, sessions) = recover(directory, tables, settings.segment_bytes, now).await?;
        let ids = SessionIds::new(&tables.catalog().identity);
        Ok(Self {
            tables: Arc::clone(tables),
            spool,
            ids,
            quota_use: QuotaUse::new(settings.quotas),
            one_session: settings.one_session,
            clock: Arc::clone(&components.clock),
            entropy: Arc::clone(&components.entropy),
            counters: Arc::clone(counters),
            by_id: Mutex::new(sessions),
        })
    }

    /// A session of a table by its id.
    ///
    /// Errors: `UpsertSessionNotFound` for an id that this server never made, `InvalidArgument` for
    /// a session of another table.
    pub(crate) fn find(&self, table: &Table, id: &str) -> Result<FoundSession, Refusal> {
        let table_id = table.definition.id.as_str();
        let live = self.by_id().get(id).cloned();
        let catalog = self.tables.catalog();
        let (of_table, found) = match (live, catalog.committed_table(id)) {
            (_, Some(of)) => (of.to_owned(), FoundSession::Ended(id.to_owned(), Status::Committed)),
            (Some(session), None) => (session.facts.table_id.clone(), FoundSession::Live(session)),
            (None, None) if self.ids.is_ours(id) => {
                return Ok(FoundSession::Ended(id.to_owned(), Status::Expired));
            }
            (None, None) => {
                let message = format!("this server has never created an upsert session {id}");
                return Err(Refusal::no_such("UpsertSessionNotFound", message));
            }
        };
        if of_table == table_id {
            return Ok(found);
        }
        match catalog.table_by_id(&of_table) {
            Some(other) => Err(Refusal::invalid(format!(
                "upsert session {id} belongs to table {}, not to {}",
                other.definition.name, table.definition.name
            ))),
            // Its own table was dropped, and it with it.
            None => Ok(FoundSession::Ended(id.to_owned(), Status::Aborted)),
        }
    }

    /// The state of a session now.
    pub(crate) fn status(&self, found: &FoundSession) -> Status {
        match found {
            FoundSession::Live(session) => session.status(self.clock.now()),
            FoundSession::Ended(_, status) => *status,
        }
    }

    /// Creates a session; it is durable when it is answered.
    ///
    /// Errors: `SlotExceeded`, `StatusConflict` if the partition may have one session only.
    pub(crate) async fn create(
        &self,
        table: &Table,
        wanted: NewSession,
    ) -> Result<Arc<Session>, Refusal> {
        let now = self.clock.now();
        self.sweep().await?;
        let slots = wanted.slots.min(table.definition.buckets);
        let reserved = self.quota_use.reserve(slots, || self.slots_in_use())?;
        let facts = SessionFacts {
            id: self.new_id(),
            table_id: table.definition.id.clone(),
            table: table.definition.name.clone(),
            partition: wanted.partition,
            created_ms: now.0,
            lifecycle_hours: wanted.lifecycle_hours,
            slots,
            columns: table.definition.columns.len(),
        };
        let session = Session::new(facts, Status::Normal, Vec::new());
        self.take_place(&session)?;
        // From here on the session itself is counted.
        drop(reserved);
        if let Err(error) = self.spool.append(&Frame::Created(&session.facts)).await {
            self.by_id().remove(&session.facts.id);
            return Err(error.into());
        }
        self.counters.count_session();
        Ok(session)
    }

    /// Admits a pack of a session, before anything of it is read.
    ///
    /// Errors: `StatusConflict` unless the session is open.
    pub(crate) fn admit(&self, session: &Arc<Session>) -> Result<AdmittedPack, Refusal> {
        session.admit(self.clock.now())
    }

    /// Keeps an admitted pack; it is durable when this is answered.
    ///
    /// Errors: `FlowExceeded`, `StatusConflict` if the session was aborted meanwhile.
    pub(crate) async fn put(
        &self,
        session: &Session,
        admitted: AdmittedPack,
        pack: VerifiedPack<'_>,
    ) -> Result<(), Refusal> {
        let facts = &session.facts;
        let flow = Flow {
            table_id: facts.table_id.clone(),
            partition: facts.partition.clone(),
            bucket: pack.bucket,
        };
        self.quota_use.take(flow, pack.wire_bytes, self.clock.now())?;
        let VerifiedPack { bucket, records, body, .. } = pack;
        let frame = Frame::Pack { session: &facts.id, bucket, records, body };
        let range = self.spool.append(&frame).await?;
        if admitted.keep(range) == PackKept::No {
            self.retire(&facts.id).await?;
            let message = format!("upsert session {} was aborted while the pack arrived", facts.id);
            return Err(Refusal::conflict(message));
        }
        self.counters.count_pack(records, body.len());
        Ok(())
    }

    /// Commits a session. A session that has ended, or that another request commits, is left as it
    /// is; its status says which.
    ///
    /// Errors: `NoSuchTable`, `InternalServerError`.
    pub(crate) async fn commit(&self, table: &Table, session: &Session) -> Result<(), Refusal> {
        if session.close(self.clock.now()).is_err() {
            return Ok(());
        }
        let packs = session.packs().await;
        let outcome = self.tables.commit(&self.spool, table, &session.facts, &packs).await;
        self.end_commit(table, session, outcome).await
    }

    /// Commits a session that is closed: its file is written now, and its rows are visible after
    /// `due` has ended. If that ends because the server stops, the session is left as it is: the
    /// next start finds it open, with its packs.
    ///
    /// Errors: as of [`Sessions::commit`].
    pub(crate) async fn commit_when(
        &self,
        table: &Table,
        session: &Session,
        due: impl Future<Output = Waited>,
    ) -> Result<(), Refusal> {
        let packs = session.packs().await;
        let (facts, spool) = (&session.facts, &self.spool);
        let prepared = self.tables.prepare_commit(spool, table, facts, &packs).await;
        if prepared.is_ok() && due.await == Waited::Stopped {
            return Ok(());
        }
        let outcome = match prepared {
            Ok(commit) => self.tables.finish_commit(commit).await,
            Err(error) => CommitOutcome::NotDone(error.to_string()),
        };
        self.end_commit(table, session, outcome).await
    }

    async fn end_commit(
        &self,
        table: &Table,
        session: &Session,
        outcome: CommitOutcome,
    ) -> Result<(), Refusal> {
        let id = &session.facts.id;
        match outcome {
            CommitOutcome::Done => session.close_committed(),
            CommitOutcome::NotDone(message) => {
                session.reopen();
                return Err(Refusal::internal(format!("upsert session {id}: {message}")));
            }
            CommitOutcome::NoTable => {
                session.reopen();
                // The table has taken its other sessions with it already.
                if session.abort(self.clock.now()) == Status::Normal {
                    self.end_aborted(session).await?;
                }
                let message = format!("table {} was dropped", table.definition.name);
                return Err(Refusal::no_such("NoSuchTable", message));
            }
            // It stays `committing`: only the next start finds out.
            CommitOutcome::InDoubt(message) => {
                return Err(Refusal::internal(format!("upsert session {id}: {message}")));
            }
        }
        self.counters.count_commit();
        self.by_id().remove(id);
        if let Err(error) = self.retire(id).await {
            // The commit is durable; its packs only take room until the next start.
            tracing::warn!(session = %id, %error, "the spool keeps packs of a committed session");
        }
        Ok(())
    }

    /// Aborts a session; a session that was aborted, or has expired, is so already.
    ///
    /// Errors: `StatusConflict` for one that is being committed, or was.
    pub(crate) async fn abort(&self, found: &FoundSession) -> Result<(), Refusal> {
        let session = match found {
            FoundSession::Live(session) => session,
            FoundSession::Ended(id, Status::Committing | Status::Committed) => {
                return Err(not_abortable(id, self.status(found)));
            }
            FoundSession::Ended(..) => return Ok(()),
        };
        let now = self.clock.now();
        match session.abort(now) {
            Status::Normal => Ok(self.end_aborted(session).await?),
            // It may have expired by a rule of faults, of which the next start knows nothing: the
            // abort keeps it from being open again.
            Status::Expired if session.facts.ends_ms() > now.0 => {
                Ok(self.end_aborted(session).await?)
            }
            Status::Aborted | Status::Expired => Ok(()),
            status @ (Status::Committing | Status::Committed) => {
                Err(not_abortable(&session.facts.id, status))
            }
        }
    }

    /// Aborts the open sessions of a table that was dropped.
    pub(crate) async fn abort_all(&self, table_id: &str) -> Result<(), Error> {
        let sessions: Vec<Arc<Session>> = {
            let sessions = self.by_id();
            sessions.values().filter(|s| s.facts.table_id == table_id).cloned().collect()
        };
        for session in sessions {
            if session.abort(self.clock.now()) == Status::Normal {
                self.end_aborted(&session).await?;
            }
        }
        Ok(())
    }

    /// Ends the lifecycle of a session now, as a rule of faults asks.
    pub(crate) fn expire(&self, id: &str) {
        let session = self.by_id().get(id).cloned();
        if let Some(session) = session {
            session.expire();
        }
    }

    /// The sessions that are neither committed nor aborted nor expired, oldest first.
    pub(crate) fn list_open(&self) -> Vec<OpenSessionStats> {
        let now = self.clock.now();
        let sessions = self.by_id();
        let catalog = self.tables.catalog();
        let open = sessions.values().filter(|session| session.is_open(now));
        open.map(|s| OpenSessionStats::new(&s.facts, s.pack_count(), &catalog)).collect()
    }

    /// How many sessions are open.
    pub(crate) fn open_count(&self) -> u64 {
        let now = self.clock.now();
        self.by_id().values().filter(|session| session.is_open(now)).count() as u64
    }

    /// The state of the session of an id; none if it is not known, or never was.
    pub(crate) fn known_status(&self, id: &str) -> Option<Status> {
        if self.tables.catalog().is_committed(id) {
            return Some(Status::Committed);
        }
        let session = self.by_id().get(id).cloned();
        session.map(|session| session.status(self.clock.now()))
    }

    /// Makes a session known, unless its partition has an open one and that is not allowed.
    fn take_place(&self, session: &Arc<Session>) -> Result<(), Refusal> {
        let facts = &session.facts;
        let now = self.clock.now();
        let is_in_the_way = |other: &&Arc<Session>| {
            (&other.facts.table_id, &other.facts.partition) == (&facts.table_id, &facts.partition)
                && other.is_open(now)
        };
        let mut sessions = self.by_id();
        if self.one_session
            && let Some(other) = sessions.values().find(is_in_the_way)
        {
            return Err(Refusal::conflict(format!(
                "the partition has an open upsert session, {}: commit or abort it first",
                other.facts.id
            )));
        }
        sessions.insert(facts.id.clone(), Arc::clone(session));
        Ok(())
    }

    /// The slots of all open sessions.
    fn slots_in_use(&self) -> u32 {
        let now = self.clock.now();
        let sessions = self.by_id();
        let open = sessions.values().filter(|session| session.is_open(now));
        open.map(|session| session.facts.slots).fold(0, u32::saturating_add)
    }

    /// An id that no session has, or is known to have had.
    fn new_id(&self) -> String {
        loop {
            let id = self.ids.make(self.clock.now(), self.entropy.draw());
            let taken = self.by_id().contains_key(&id) || self.tables.catalog().is_committed(&id);
            if !taken {
                return id;
            }
        }
    }

    /// Forgets the sessions whose lifecycle has passed; their ids still tell that they are ours.
    async fn sweep(&self) -> Result<(), Error> {
        let now = self.clock.now();
        let over = |session: &Session| {
            session.facts.ends_ms() <= now.0 && session.status(now) != Status::Committing
        };
        let expired: Vec<String> = {
            let mut sessions = self.by_id();
            let ids = sessions.iter().filter(|(_, s)| over(s)).map(|(id, _)| id.clone());
            let ids: Vec<String> = ids.collect();
            ids.iter().for_each(|id| drop(sessions.remove(id)));
            ids
        };
        match expired.is_empty() {
            true => Ok(()),
            false => self.spool.retire(&expired, now).await,
        }
    }

    async fn end_aborted(&self, session: &Session) -> Result<(), Error> {
        self.spool.append(&Frame::Aborted(&session.facts)).await?;
        self.counters.count_abort();
        self.retire(&session.facts.id).await
    }

    /// Forgets the packs of a session that has ended.
    async fn retire(&self, id: &str) -> Result<(), Error> {
        self.spool.retire(&[id.to_owned()], self.clock.now()).await
    }

    fn by_id(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Session>>> {
        self.by_id.lock().expect("no holder panics")
    }
}

impl FoundSession {
    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Live(session) => &session.facts.id,
            Self::Ended(id, _) => id,
        }
    }
}

fn not_abortable(id: &str, status: Status) -> Refusal {
    let status = status.word();
    Refusal::conflict(format!("upsert session {id} is {status}: it can no longer be aborted"))
}

async fn recover(
    directory: &Arc<dyn Directory>,
    tables: &Tables,
    segment_bytes: u64,
    now: Millis,
) -> Result<(Spool, BTreeMap<String, Arc<Session>>), Error> {
    let catalog = tables.catalog().clone();
    let is_over =
        |facts: &SessionFacts| catalog.is_committed(&facts.id) || facts.ends_ms() <= now.0;
    let mut recovered = spool::recover(&**directory, &is_over).await?;
    let mut sessions = BTreeMap::new();
    for (id, session) in std::mem::take(&mut recovered.sessions) {
        // A table that was dropped took its sessions with it.
        let aborted = session.aborted || catalog.table_by_id(&session.facts.table_id).is_none();
        let status = if aborted { Status::Aborted } else { Status::Normal };
        sessions.insert(id, Session::new(session.facts, status, session.packs));
    }
    let spool = recovered.into_spool(Arc::clone(directory), segment_bytes).await?;
    spool.retire(&[], now).await?;
    Ok((spool, sessions))
}
