//! Upsert sessions on the wire: create, reload, put, commit, abort.
//!
//! Between `route/mod.rs` and `sessions.rs`: a pack is decompressed (`upsert/encoding.rs`) and
//! verified row by row (`upsert/pack.rs`) before a session gets it. Invariant: an answer is sent
//! after its effect is durable.

pub(crate) mod encoding;
mod pack;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};

use self::encoding::DecodedBytes;
use crate::answer::Answer;
use crate::error::Refusal;
use crate::request::Request;
use crate::session::Status;
use crate::sessions::{FoundSession, NewSession, Sessions};
use crate::slow_commits::SlowCommits;
use crate::table::catalog::{Column, Table};
use crate::tables::Tables;

/// The routes of upsert sessions.
pub(crate) struct Upserts {
    pub(crate) tables: Arc<Tables>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) commits: SlowCommits,
    pub(crate) decoded_bytes: DecodedBytes,
    /// Where the server listens: all slots are there.
    pub(crate) listen: SocketAddr,
}

impl Upserts {
    /// Answers a request to `…/tables/{table}/upserts`.
    pub(crate) async fn respond(&self, request: &Request, table: &str) -> Result<Answer, Refusal> {
        let table = self.tables.find(table)?;
        let Some(id) = request.parameter("upsertid") else {
            return match request.method {
                Method::POST => self.create(request, &table).await,
                _ => Err(Refusal::invalid("the parameter upsertid is missing")),
            };
        };
        let found = self.sessions.find(&table, id)?;
        check_partition(request, &table, &found)?;
        match request.method {
            Method::GET => Ok(self.answer(&table, &found)),
            Method::PUT => self.put(request, &table, &found).await,
            Method::POST => {
                if let FoundSession::Live(session) = &found {
                    self.commits.commit(&table, session).await?;
                }
                Ok(self.answer(&table, &found))
            }
            Method::DELETE => {
                self.sessions.abort(&found).await?;
                Ok(Answer::text(""))
            }
            _ => Err(Refusal::method(format!("{} is not a call of upserts", request.method))),
        }
    }

    async fn create(&self, request: &Request, table: &Table) -> Result<Answer, Refusal> {
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
        let wanted = NewSession { partition, lifecycle_hours, slots };
        let session = self.sessions.create(table, wanted).await?;
        Ok(self.answer(table, &FoundSession::Live(session)))
    }

    async fn put(
        &self,
        request: &Request,
        table: &Table,
        found: &FoundSession,
    ) -> Result<Answer, Refusal> {
        let session = match found {
            FoundSession::Live(session) => session,
            FoundSession::Ended(id, status) => {
                return Err(Refusal::conflict(format!(
                    "upsert session {id} is {}: it takes no more packs; write to a new session",
                    status.word()
                )));
            }
        };
        let admitted = self.sessions.admit(session)?;
        let body = self.decoded_bytes.of(request).await?;
        let pack = pack::verify(request, &body.bytes, table, &session.facts)?;
        self.sessions.put(session, admitted, pack).await?;
        Ok(Answer::text(""))
    }

    fn answer(&self, table: &Table, found: &FoundSession) -> Answer {
        let (slots, columns) = match found {
            FoundSession::Live(session) => (session.facts.slots, session.facts.columns),
            FoundSession::Ended(..) => (1, usize::MAX),
        };
        let status = self.sessions.status(found);
        // Clients want exactly one colon in it.
        let port = self.listen.port();
        let worker = match self.listen.ip() {
            IpAddr::V4(ip) if !ip.is_unspecified() => format!("{ip}:{port}"),
            _ => format!("127.0.0.1:{port}"),
        };
        session_answer(table, found.id(), (slots, columns), status, &worker)
    }
}

fn check_partition(request: &Request, table: &Table, found: &FoundSession) -> Result<(), Refusal> {
    let (Some(spec), FoundSession::Live(session)) = (request.parameter("partition"), found) else {
        return Ok(());
    };
    if table.partition(Some(spec))? == session.facts.partition {
        return Ok(());
    }
    let id = &session.facts.id;
    Err(Refusal::invalid(format!("upsert session {id} does not write to the partition {spec}")))
}

/// The six fields that clients need, and nothing that they would have to ignore. A session keeps
/// the columns that it began with.
fn session_answer(
    table: &Table,
    id: &str,
    (slots, columns): (u32, usize),
    status: Status,
    worker: &str,
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
    let slot = |slot: u32| {
        let buckets: Vec<u32> = (0..definition.buckets)
            .filter(|bucket| pack::slot_of(*bucket, slots) == slot)
            .collect();
        json!({ "slot_id": slot.to_string(), "buckets": buckets, "worker_addr": worker })
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
