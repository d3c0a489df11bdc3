//! A table that the doctor creates, writes to, and drops.
//!
//! Under `assumptions.rs`. Rows go to the Tunnel by its client alone: there is no sink in between
//! whose rules would hide what the service does. Invariant: no request names any other table, and
//! each operation is what one method says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use upsert_sink_format::id::Hours;
use upsert_sink_format::record::{Op, Value};
use upsert_sink_format::schema::ColumnType;
use upsert_sink_format::tunnel::{Refusal, RefusalKind, SessionStatus};
use upsert_sink_tunnel::{
    Catalog, Client, Name, NewColumn, NewTable, NotDone, Pack, Session, Table, TunnelError,
};

use crate::components::{BoxFuture, Clock, Components};
use crate::error::Result;
use crate::settings::Settings;

/// An obstacle to an experiment, and whether the service itself put it there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// The service refused it, with a code.
    Refused(Refusal),
    /// There was no clear answer.
    Unclear(String),
}

impl Obstacle {
    /// In words.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Refused(refusal) if refusal.code.is_empty() => refusal.message.clone(),
            Self::Refused(refusal) => format!("{}: {}", refusal.code, refusal.message),
            Self::Unclear(why) => why.clone(),
        }
    }

    /// Whether it says something about the request itself, not about load, network or rights.
    pub(super) fn is_rule(&self) -> bool {
        match self {
            Self::Refused(refusal) => matches!(
                refusal.kind,
                RefusalKind::Invalid | RefusalKind::NoSuchSession | RefusalKind::NoSuchPartition
            ),
            Self::Unclear(_) => false,
        }
    }
}

impl From<TunnelError> for Obstacle {
    fn from(error: TunnelError) -> Self {
        match error.not_done() {
            NotDone::Refused(refusal) => Self::Refused(refusal.clone()),
            NotDone::InDoubt(why) => Self::Unclear(why.clone()),
            _ => Self::Unclear(error.to_string()),
        }
    }
}

pub(super) type Tried<T> = std::result::Result<T, Obstacle>;

/// A row: its key and its text.
pub(super) type Row = (i64, String);

/// The table.
pub(super) struct ScratchTable {
    pub(super) name: Name,
    keep_alive: Duration,
    clock: Arc<dyn Clock>,
    catalog: Catalog,
    table: Table,
}

impl ScratchTable {
    /// Prepares a table with a random name; nothing is created yet.
    pub(super) async fn prepare(settings: &Settings, components: &Components) -> Result<Self> {
        let name = format!("upsert_sink_doctor_{:016x}", components.entropy.draw());
        let name = name.parse::<Name>()?;
        let client = Client::new(settings, components);
        Ok(Self {
            keep_alive: settings.keep_alive,
            clock: Arc::clone(&components.clock),
            catalog: client.catalog(),
            table: client.table(&name),
            name,
        })
    }

    /// Creates the table; it vanishes by itself after a day if the service knows lifecycles.
    pub(super) async fn create(&self) -> Tried<()> {
        let columns =
            vec![NewColumn::new("id", ColumnType::BigInt), NewColumn::new("v", ColumnType::String)];
        let mut table =
            NewTable::new(self.name.clone(), columns, vec![String::from("id")], BUCKETS);
        table.partition_columns = vec![NewColumn::new("pt", ColumnType::String)];
        table.lifecycle_days = Some(1);
        match self.catalog.create_table(&table).await {
            Err(error) if error.refusal().is_some_and(|one| one.kind == RefusalKind::Invalid) => {
                table.lifecycle_days = None;
                Ok(self.catalog.create_table(&table).await?)
            }
            created => Ok(created?),
        }
    }

    /// Drops it.
    pub(super) async fn drop_table(&self) -> Tried<()> {
        Ok(self.catalog.drop_table(&self.name).await?)
    }

    /// Creates the partition `pt='part'`.
    pub(super) async fn add_partition(&self, part: &str) -> Tried<()> {
        let partition = spec(part);
        self.attempt(|| Box::pin(self.table.create_partition(&partition))).await
    }

    /// Creates a session of that partition.
    pub(super) async fn open(&self, part: &str) -> Tried<Session> {
        let partition = spec(part);
        self.attempt(|| Box::pin(self.table.create_session(&partition, LIFECYCLE, 1))).await
    }

    /// Writes rows, one pack a bucket.
    pub(super) async fn put(&self, to: &Session, rows: &[Row]) -> Tried<()> {
        for pack in packs(to, rows)? {
            self.attempt(|| Box::pin(to.put_pack(&pack))).await?;
        }
        Ok(())
    }

    /// Writes rows, one pack a bucket, each sent by us exactly once.
    pub(super) async fn put_once(&self, to: &Session, rows: &[Row]) -> Tried<()> {
        for pack in packs(to, rows)? {
            to.put_pack(&pack).await?;
        }
        Ok(())
    }

    /// Commits, and asks again until the outcome is known.
    pub(super) async fn commit(&self, session: &Session) -> Tried<SessionStatus> {
        let mut wait_ms = FIRST_WAIT_MS;
        for _ in 0..COMMIT_ASKED_MAX {
            let status = self.attempt(|| Box::pin(session.commit())).await?;
            if !matches!(status, SessionStatus::Normal | SessionStatus::Committing) {
                return Ok(status);
            }
            self.pause(wait_ms).await;
            wait_ms = (wait_ms * 2).min(LAST_WAIT_MS);
        }
        Err(Obstacle::Unclear(String::from("the commit has not ended")))
    }

    /// Aborts.
    pub(super) async fn abort(&self, session: &Session) -> Tried<()> {
        self.attempt(|| Box::pin(session.abort())).await
    }

    /// The service's status of a session.
    pub(super) async fn status(&self, session: &Session) -> Tried<SessionStatus> {
        self.attempt(|| Box::pin(session.status())).await
    }

    /// Awaits `end`, which ends the session; packs can be sent to it afterwards, as a copy that
    /// comes late would arrive.
    pub(super) async fn end_but_go_on<T>(
        &self,
        session: &Session,
        end: impl Future<Output = Tried<T>>,
    ) -> Tried<T> {
        let slots = self.table.slots(session.reference());
        let ended = end.await;
        if let Some(slots) = slots {
            self.table.assume_slots(session.reference(), slots);
        }
        ended
    }

    /// The committed rows of a partition, by key.
    pub(super) async fn rows(&self, part: &str) -> Tried<BTreeMap<i64, String>> {
        let table = self.catalog.quoted(&self.name);
        let rows =
            self.catalog.rows(&format!("SELECT id, v FROM {table} WHERE pt='{part}'")).await?;
        let row = |row: Vec<Option<String>>| {
            let mut values = row.into_iter();
            let key = values.next().flatten().and_then(|key| key.parse().ok());
            Some((key?, values.next().flatten().unwrap_or_default()))
        };
        let rows: Option<_> = rows.into_iter().map(row).collect();
        rows.ok_or_else(|| Obstacle::Unclear(String::from("the result has other columns")))
    }

    /// Makes one attempt, and further ones while the answer is load or silence. The same bytes may
    /// be sent again: that is what a sink does.
    async fn attempt<'a, T>(
        &self,
        call: impl Fn() -> BoxFuture<'a, std::result::Result<T, TunnelError>>,
    ) -> Tried<T> {
        let mut wait_ms = FIRST_WAIT_MS;
        let mut obstacle = Obstacle::Unclear(String::from("it was never tried"));
        for _ in 0..ATTEMPTS_MAX {
            obstacle = match call().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error.into(),
            };
            let passing = match &obstacle {
                Obstacle::Refused(refusal) => matches!(
                    refusal.kind,
                    RefusalKind::SlowDown | RefusalKind::NotSent | RefusalKind::Moved
                ),
                Obstacle::Unclear(_) => true,
            };
            if !passing {
                break;
            }
            self.pause(wait_ms).await;
            wait_ms = (wait_ms * 2).min(LAST_WAIT_MS);
        }
        Err(obstacle)
    }

    async fn pause(&self, wait_ms: u64) {
        self.clock.sleep_until(self.clock.now_ms().saturating_add(wait_ms)).await;
    }

    /// Waits, in contact with the session.
    pub(super) async fn hold(&self, held: &Session, span: Duration) -> Tried<SessionStatus> {
        let clock = &self.clock;
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let until_ms = clock.now_ms().saturating_add(millis(span));
        let contact_ms = millis(self.keep_alive).max(1);
        loop {
            let status = self.status(held).await?;
            let now_ms = clock.now_ms();
            if status != SessionStatus::Normal || now_ms >= until_ms {
                return Ok(status);
            }
            clock.sleep_until(until_ms.min(now_ms.saturating_add(contact_ms))).await;
        }
    }
}

fn spec(part: &str) -> String {
    format!("pt='{part}'")
}

fn packs(to: &Session, rows: &[Row]) -> Tried<Vec<Pack>> {
    let mut packs = to.packs()?;
    for (key, text) in rows {
        let values = [Some(Value::Int(*key)), Some(Value::Bytes(text.clone().into_bytes()))];
        packs.add(Op::Upsert, &values)?;
    }
    Ok(packs.finish())
}

/// Enough to see that a commit is one over all of them.
const BUCKETS: u32 = 4;
/// The shortest there is: nothing of the doctor's outlives it for long.
const LIFECYCLE: Hours = Hours(1);
const ATTEMPTS_MAX: u32 = 5;
const COMMIT_ASKED_MAX: u32 = 60;
const FIRST_WAIT_MS: u64 = 500;
const LAST_WAIT_MS: u64 = 8_000;
