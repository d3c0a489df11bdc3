//! Upsert sessions on the wire: create, reload, put, commit, abort.
//!
//! A pack comes here from the network and goes into the spool; a commit takes the session's packs
//! from there into the table. Invariant: a pack is answered after it was verified row by row and is
//! durable; a session that was created and not committed is never answered as not found.

pub(crate) mod encoding;
mod pack;

use std::sync::Arc;

use http::Method;
use serde_json::Value;
use serde_json::json;

use crate::error::Error;
use crate::error::Refusal;
use crate::quota::Flow;
use crate::request::Request;
use crate::service::Answer;
use crate::service::Inner;
use crate::session::Committed;
use crate::session::Kept;
use crate::session::Session;
use crate::session::SessionFacts;
use crate::session::Status;
use crate::spool::Frame;
use crate::table::catalog::Column;
use crate::table::catalog::Table;
use crate::table::commit::Outcome;

/// Answers a request to `…/tables/{table}/upserts`.
pub(crate) async fn respond(
    server: &Inner,
    request: &Request,
    table: &str,
) -> Result<Answer, Refusal> {
    let table = Arc::clone(server.log.catalog().table(table)?);
    let Some(id) = request.parameter("upsertid") else {
        return match request.method {
            Method::POST => create(server, request, &table).await,
            _ => Err(Refusal::invalid("the parameter upsertid is missing")),
        };
    };
    let found = find(server, &table, id)?;
    check_partition(request, &table, &found)?;
    match request.method {
        Method::GET => Ok(found.answer(server, &table)),
        Method::PUT => put(server, request, &table, found).await,
        Method::POST => commit(server, &table, found).await,
        Method::DELETE => abort(server, found).await,
        _ => Err(Refusal::method(format!("{} is not a call of upserts", request.method))),
    }
}

/// A session that the server knows of.
enum Found {
    Live(Arc<Session>),
    /// One that has ended and been forgotten, but for how.
    Ended(String, Status),
}

impl Found {
    fn answer(&self, server: &Inner, table: &Table) -> Answer {
        match self {
            Self::Live(session) => {
                let status = session.status(server.now());
                let facts = &session.facts;
                session_answer(server, table, &facts.id, (facts.slots, facts.columns), status)
            }
            Self::Ended(id, status) => session_answer(server, table, id, (1, usize::MAX), *status),
        }
    }
}

fn find(server: &Inner, table: &Table, id: &str) -> Result<Found, Refusal> {
    let table_id = table.definition.id.as_str();
    let live = server.sessions().get(id).cloned();
    let catalog = server.log.catalog();
    let (of_table, found) = match (live, catalog.committed_table(id)) {
        (_, Some(of)) => (of.to_owned(), Found::Ended(id.to_owned(), Status::Committed)),
        (Some(session), None) => (session.facts.table_id.clone(), Found::Live(session)),
        (None, None) if server.ids.is_ours(id) => {
            return Ok(Found::Ended(id.to_owned(), Status::Expired));
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
        None => Ok(Found::Ended(id.to_owned(), Status::Aborted)),
    }
}

fn check_partition(request: &Request, table: &Table, found: &Found) -> Result<(), Refusal> {
    let (Some(spec), Found::Live(session)) = (request.parameter("partition"), found) else {
        return Ok(());
    };
    if table.partition(Some(spec))? == session.facts.partition {
        return Ok(());
    }
    let id = &session.facts.id;
    Err(Refusal::invalid(format!("upsert session {id} does not write to the partition {spec}")))
}

async fn create(server: &Inner, request: &Request, table: &Table) -> Result<Answer, Refusal> {
    let partition = table.partition(request.parameter("partition"))?;
    let lifecycle_hours = request.number("lifecycle")?.unwrap_or(LIFECYCLE_HOURS_MAX);
    if !(1..=LIFECYCLE_HOURS_MAX).contains(&lifecycle_hours) {
        let message = format!("lifecycle={lifecycle_hours}: it must be 1 to 24 hours");
        return Err(Refusal::invalid(message));
    }
    let slots = request.number("slotnum")?.unwrap_or(1);
    if slots == 0 {
        return Err(Refusal::invalid("slotnum=0: it must be at least 1"));
    }
    let slots = slots.min(table.definition.buckets);
    let now = server.now();
    sweep(server).await?;
    let reserved = server.quota_use.reserve(slots, || slots_in_use(server))?;
    let facts = SessionFacts {
        id: new_id(server),
        table_id: table.definition.id.clone(),
        table: table.definition.name.clone(),
        partition,
        created_ms: now.0,
        lifecycle_hours,
        slots,
        columns: table.definition.columns.len(),
    };
    let session = Session::new(facts, Status::Normal, Vec::new());
    take_place(server, &session)?;
    // From here on the session itself is counted.
    drop(reserved);
    if let Err(error) = server.spool.append(&Frame::Created(&session.facts)).await {
        server.sessions().remove(&session.facts.id);
        return Err(error.into());
    }
    server.counters.count_session();
    Ok(Found::Live(session).answer(server, table))
}

/// Makes a session known, unless its partition has an open one and that is not allowed.
fn take_place(server: &Inner, session: &Arc<Session>) -> Result<(), Refusal> {
    let (facts, now) = (&session.facts, server.now());
    let is_in_the_way = |other: &&Arc<Session>| {
        (&other.facts.table_id, &other.facts.partition) == (&facts.table_id, &facts.partition)
            && matches!(other.status(now), Status::Normal | Status::Committing)
    };
    let mut sessions = server.sessions();
    if server.settings.one_session
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
fn slots_in_use(server: &Inner) -> u32 {
    let now = server.now();
    let sessions = server.sessions();
    let open = sessions
        .values()
        .filter(|session| matches!(session.status(now), Status::Normal | Status::Committing));
    open.map(|session| session.facts.slots).fold(0, u32::saturating_add)
}

/// An id that no session has, or is known to have had.
fn new_id(server: &Inner) -> String {
    loop {
        let id = server.ids.make(server.now(), server.components.entropy.draw());
        let taken = server.sessions().contains_key(&id) || server.log.catalog().is_committed(&id);
        if !taken {
            return id;
        }
    }
}

/// Forgets the sessions whose lifecycle has passed; their ids still tell that they are ours.
async fn sweep(server: &Inner) -> Result<(), Error> {
    let now = server.now();
    let over = |session: &Session| {
        session.facts.ends_ms() <= now.0 && session.status(now) != Status::Committing
    };
    let expired: Vec<String> = {
        let mut sessions = server.sessions();
        let ids = sessions.iter().filter(|(_, s)| over(s)).map(|(id, _)| id.clone());
        let ids: Vec<String> = ids.collect();
        ids.iter().for_each(|id| drop(sessions.remove(id)));
        ids
    };
    match expired.is_empty() {
        true => Ok(()),
        false => server.spool.retire(&expired, now).await,
    }
}

async fn put(
    server: &Inner,
    request: &Request,
    table: &Table,
    found: Found,
) -> Result<Answer, Refusal> {
    let session = match found {
        Found::Live(session) => session,
        Found::Ended(id, status) => {
            return Err(Refusal::conflict(format!(
                "upsert session {id} is {}: it takes no more packs; write to a new session",
                status.word()
            )));
        }
    };
    let admission = session.admit(server.now())?;
    let body = server.decoded_bytes.of(request).await?;
    let pack = pack::verify(request, &body.bytes, table, &session.facts)?;
    let (id, table_id) = (&session.facts.id, session.facts.table_id.clone());
    let partition = session.facts.partition.clone();
    let flow = Flow { table_id, partition, bucket: pack.bucket };
    server.quota_use.take(flow, request.body.len(), server.now())?;
    let frame =
        Frame::Pack { session: id, bucket: pack.bucket, records: pack.records, body: &body.bytes };
    let range = server.spool.append(&frame).await?;
    if admission.keep(range) == Kept::No {
        server.spool.retire(std::slice::from_ref(id), server.now()).await?;
        let message = format!("upsert session {id} was aborted while the pack arrived");
        return Err(Refusal::conflict(message));
    }
    server.counters.count_pack(pack.records, body.bytes.len());
    Ok(Answer::text(""))
}

async fn commit(server: &Inner, table: &Table, found: Found) -> Result<Answer, Refusal> {
    let Found::Live(session) = &found else { return Ok(found.answer(server, table)) };
    let Ok(packs) = session.begin_commit(server.now()).await else {
        return Ok(found.answer(server, table));
    };
    let id = &session.facts.id;
    match server.commits.commit(table, &session.facts, &packs).await {
        Outcome::Done => {}
        Outcome::NotDone(message) => {
            session.finish_commit(Committed::No);
            return Err(Refusal::internal(format!("upsert session {id}: {message}")));
        }
        Outcome::NoTable => {
            session.finish_commit(Committed::No);
            let message = format!("table {} was dropped", table.definition.name);
            return Err(Refusal::no_such("NoSuchTable", message));
        }
        // It stays `committing`: only the next start finds out.
        Outcome::InDoubt(message) => {
            return Err(Refusal::internal(format!("upsert session {id}: {message}")));
        }
    }
    session.finish_commit(Committed::Yes);
    server.counters.count_commit();
    server.sessions().remove(id);
    if let Err(error) = server.spool.retire(std::slice::from_ref(id), server.now()).await {
        // The commit is durable; its packs only take room until the next start.
        tracing::warn!(session = %id, %error, "the spool keeps packs of a committed session");
    }
    Ok(found.answer(server, table))
}

async fn abort(server: &Inner, found: Found) -> Result<Answer, Refusal> {
    let (id, before) = match &found {
        Found::Live(session) => (&session.facts.id, session.abort(server.now())),
        Found::Ended(id, status) => (id, *status),
    };
    match (before, &found) {
        // It may have expired by a rule, of which the next start knows nothing: the abort is what
        // keeps it from being open again.
        (Status::Expired, Found::Live(session)) if session.facts.ends_ms() > server.now().0 => {
            end_aborted(server, session).await?;
            Ok(Answer::text(""))
        }
        (Status::Aborted | Status::Expired, _) => Ok(Answer::text("")),
        (Status::Committing | Status::Committed, _) => Err(Refusal::conflict(format!(
            "upsert session {id} is {}: it can no longer be aborted",
            before.word()
        ))),
        (Status::Normal, Found::Live(session)) => {
            end_aborted(server, session).await?;
            Ok(Answer::text(""))
        }
        (Status::Normal, Found::Ended(..)) => Ok(Answer::text("")),
    }
}

async fn end_aborted(server: &Inner, session: &Session) -> Result<(), Error> {
    server.spool.append(&Frame::Aborted(&session.facts)).await?;
    server.counters.count_abort();
    server.spool.retire(std::slice::from_ref(&session.facts.id), server.now()).await
}

/// Aborts the open sessions of a table that was dropped.
pub(crate) async fn abort_all(server: &Inner, table_id: &str) -> Result<(), Error> {
    let sessions: Vec<Arc<Session>> = {
        let sessions = server.sessions();
        sessions.values().filter(|s| s.facts.table_id == table_id).cloned().collect()
    };
    for session in sessions {
        if session.abort(server.now()) == Status::Normal {
            end_aborted(server, &session).await?;
        }
    }
    Ok(())
}

/// The six fields that clients need, and nothing that they would have to ignore. A session keeps
/// the columns that it began with.
fn session_answer(
    server: &Inner,
    table: &Table,
    id: &str,
    (slots, columns): (u32, usize),
    status: Status,
) -> Answer {
    let definition = &table.definition;
    let column = |(at, c): (usize, &Column)| {
        json!({
            "name": c.name, "type": c.column_type, "comment": c.comment,
            "nullable": c.nullable.to_string(), "column_id": at.to_string(),
        })
    };
    let columns: Vec<Value> =
        definition.columns.iter().take(columns).enumerate().map(column).collect();
    let partitions: Vec<Value> =
        definition.partition_columns.iter().enumerate().map(column).collect();
    // Clients want exactly one colon in it.
    let port = server.settings.listen.port();
    let address = match server.settings.listen.ip() {
        std::net::IpAddr::V4(ip) if !ip.is_unspecified() => format!("{ip}:{port}"),
        _ => format!("127.0.0.1:{port}"),
    };
    let slot = |slot: u32| {
        let buckets: Vec<u32> = (0..definition.buckets)
            .filter(|bucket| pack::slot_of(*bucket, slots) == slot)
            .collect();
        json!({ "slot_id": slot.to_string(), "buckets": buckets, "worker_addr": address })
    };
    let body = json!({
        "id": id,
        "schema": { "columns": columns, "partitionKeys": partitions },
        "hash_key": definition.primary_key,
        "hasher": "default",
        "slots": (0..slots).map(slot).collect::<Vec<_>>(),
        "status": status.word(),
        "enable_partial_update": definition.partial_update,
    });
    Answer::json(body.to_string())
}

const LIFECYCLE_HOURS_MAX: u32 = 24;
