//! A table that the doctor creates, writes to, and drops.
//!
//! Under `assumptions.rs`. Rows become packs by the guest's own encoder and hash, called here as
//! plain functions: there is no sink in between whose rules would hide what the service does.
//! Invariant: no request names any other table, and each operation is what one method says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use upsert_sink_format::hash::Hasher;
use upsert_sink_format::hash::bucket_of;
use upsert_sink_format::hash::hash_values;
use upsert_sink_format::id::SessionId;
use upsert_sink_format::record::Op;
use upsert_sink_format::record::Value;
use upsert_sink_format::record::encode_values;
use upsert_sink_format::record::pack_trailer;
use upsert_sink_format::schema::ColumnType;
use upsert_sink_format::tunnel::Answer;
use upsert_sink_format::tunnel::Outcome;
use upsert_sink_format::tunnel::Refusal;
use upsert_sink_format::tunnel::RefusalKind;
use upsert_sink_format::tunnel::SessionInfo;
use upsert_sink_format::tunnel::SessionRef;
use upsert_sink_format::tunnel::SessionStatus;

use crate::components::Components;
use crate::error::Result;
use crate::metrics::Meter;
use crate::settings::Settings;
use crate::tunnel::Operation;
use crate::tunnel::endpoint::Endpoint;
use crate::tunnel::pack::Pack;
use crate::tunnel::pack::PackBody;
use crate::tunnel::response::Verdict;
use crate::tunnel::sql;
use crate::tunnel::upsert::Tunnel;

/// What could not be carried out, and whether the service said so itself.
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

pub(super) type Tried<T> = std::result::Result<T, Obstacle>;

/// A row: its key and its text.
pub(super) type Row = (i64, String);

/// An open session of the scratch table.
#[derive(Clone, Debug)]
pub(super) struct ScratchSession {
    pub(super) session: SessionRef,
    pub(super) info: SessionInfo,
}

/// The table.
pub(super) struct Scratch {
    pub(super) name: String,
    endpoint: Arc<Endpoint>,
    tunnel: Tunnel,
}

impl Scratch {
    /// Prepares a table with a random name; nothing is created yet.
    pub(super) async fn prepare(settings: &Settings, components: &Components) -> Result<Self> {
        let mut nonce = [0; 8];
        components.entropy.fill(&mut nonce);
        let name = format!("upsert_sink_doctor_{:016x}", u64::from_le_bytes(nonce));
        let settings = Settings { table: name.clone(), ..settings.clone() };
        settings.check()?;
        let meter = Arc::new(Meter::default());
        let endpoint = Arc::new(Endpoint::new(&settings, components, meter));
        Ok(Self { name, tunnel: Tunnel::new(Arc::clone(&endpoint)), endpoint })
    }

    /// Creates the table; it vanishes by itself after a day if the service knows lifecycles.
    pub(super) async fn create(&self) -> Tried<()> {
        let table = sql::table_name(&self.endpoint.settings);
        let create = format!(
            "CREATE TABLE {table} (id BIGINT NOT NULL, v STRING, PRIMARY KEY (id)) PARTITIONED BY \
             (pt STRING) TBLPROPERTIES ('transactional'='true', 'write.bucket.num'='{BUCKETS}')"
        );
        match self.sql(&format!("{create} LIFECYCLE 1")).await {
            Err(Obstacle::Refused(refusal)) if refusal.kind == RefusalKind::Invalid => {
                self.sql(&create).await
            }
            tried => tried,
        }
    }

    /// Drops it.
    pub(super) async fn drop_table(&self) -> Tried<()> {
        let table = sql::table_name(&self.endpoint.settings);
        self.sql(&format!("DROP TABLE IF EXISTS {table}")).await
    }

    async fn sql(&self, text: &str) -> Tried<()> {
        match sql::run(&self.endpoint, text).await {
            Verdict::Done(_) => Ok(()),
            Verdict::Refused(refusal) => Err(Obstacle::Refused(refusal)),
            Verdict::InDoubt(why) => Err(Obstacle::Unclear(why)),
        }
    }

    /// Creates the partition `pt='part'`.
    pub(super) async fn add_partition(&self, part: &str) -> Tried<()> {
        self.attempt(&Operation::CreatePartition(spec(part))).await.map(drop)
    }

    /// Creates a session of that partition.
    pub(super) async fn open(&self, part: &str) -> Tried<ScratchSession> {
        let partition = spec(part);
        let create = Operation::CreateSession {
            partition: partition.clone(),
            lifecycle_hours: LIFECYCLE_HOURS,
            slots: 1,
        };
        let info = session(self.attempt(&create).await?)?;
        let session = SessionRef { id: SessionId(info.id.0.clone()), partition };
        Ok(ScratchSession { session, info })
    }

    /// Writes rows, one pack a bucket.
    pub(super) async fn put(&self, to: &ScratchSession, rows: &[Row]) -> Tried<()> {
        for pack in packs(to, rows)? {
            self.attempt(&Operation::PutPack(pack)).await?;
        }
        Ok(())
    }

    /// Writes rows, one pack a bucket, each sent by us exactly once.
    pub(super) async fn put_once(&self, to: &ScratchSession, rows: &[Row]) -> Tried<()> {
        for pack in packs(to, rows)? {
            self.once(&Operation::PutPack(pack)).await?;
        }
        Ok(())
    }

    /// Commits, and asks again until the outcome is known.
    pub(super) async fn commit(&self, of: &ScratchSession) -> Tried<SessionStatus> {
        let mut wait_ms = FIRST_WAIT_MS;
        for _ in 0..COMMIT_ASKED_MAX {
            let commit = Operation::CommitSession(of.session.clone());
            let info = session(self.attempt(&commit).await?)?;
            if !matches!(info.status, SessionStatus::Normal | SessionStatus::Committing) {
                return Ok(info.status);
            }
            self.pause(wait_ms).await;
            wait_ms = (wait_ms * 2).min(LAST_WAIT_MS);
        }
        Err(Obstacle::Unclear(String::from("the commit has not ended")))
    }

    /// Aborts.
    pub(super) async fn abort(&self, session: &ScratchSession) -> Tried<()> {
        self.attempt(&Operation::AbortSession(session.session.clone())).await.map(drop)
    }

    /// What the service says of a session.
    pub(super) async fn status(&self, of: &ScratchSession) -> Tried<SessionStatus> {
        let status = Operation::SessionStatus(of.session.clone());
        session(self.attempt(&status).await?).map(|info| info.status)
    }

    /// Carries out `end`, which ends the session; packs can be sent to it afterwards, as a copy
    /// that comes late would arrive.
    pub(super) async fn end_but_go_on<T>(
        &self,
        session: &ScratchSession,
        end: impl Future<Output = Tried<T>>,
    ) -> Tried<T> {
        let slots = self.tunnel.slots(&session.session);
        let ended = end.await;
        if let Some(slots) = slots {
            self.tunnel.go_on_with(&session.session, slots);
        }
        ended
    }

    /// The committed rows of a partition, by key.
    pub(super) async fn rows(&self, part: &str) -> Tried<BTreeMap<i64, String>> {
        let table = sql::table_name(&self.endpoint.settings);
        let text = format!("SELECT id, v FROM {table} WHERE pt='{part}'");
        let rows = match sql::rows(&self.endpoint, &text).await {
            Ok(rows) => rows,
            Err(Verdict::Refused(refusal)) => return Err(Obstacle::Refused(refusal)),
            Err(Verdict::InDoubt(why)) => return Err(Obstacle::Unclear(why)),
            Err(Verdict::Done(_)) => return Err(Obstacle::Unclear(String::from("no rows came"))),
        };
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
    async fn attempt(&self, operation: &Operation) -> Tried<Answer> {
        let mut wait_ms = FIRST_WAIT_MS;
        let mut obstacle = Obstacle::Unclear(String::from("it was never tried"));
        for _ in 0..ATTEMPTS_MAX {
            obstacle = match self.once(operation).await {
                Ok(answer) => return Ok(answer),
                Err(obstacle) => obstacle,
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

    async fn once(&self, operation: &Operation) -> Tried<Answer> {
        match self.tunnel.attempt(operation).await {
            Outcome::Done(answer) => Ok(answer),
            Outcome::Refused(refusal) => Err(Obstacle::Refused(refusal)),
            Outcome::InDoubt(why) => Err(Obstacle::Unclear(why)),
        }
    }

    async fn pause(&self, wait_ms: u64) {
        let clock = &self.endpoint.components.clock;
        clock.sleep_until(clock.now_ms().saturating_add(wait_ms)).await;
    }

    /// Waits, in contact with the session.
    pub(super) async fn hold(&self, held: &ScratchSession, span: Duration) -> Tried<SessionStatus> {
        let clock = &self.endpoint.components.clock;
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let until_ms = clock.now_ms().saturating_add(millis(span));
        let contact_ms = millis(self.endpoint.settings.keep_alive).max(1);
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

fn session(answer: Answer) -> Tried<SessionInfo> {
    match answer {
        Answer::Session(info) => Ok(info),
        Answer::Bytes(_) | Answer::None => {
            Err(Obstacle::Unclear(String::from("the answer describes no session")))
        }
    }
}

fn spec(part: &str) -> String {
    format!("pt='{part}'")
}

fn packs(to: &ScratchSession, rows: &[Row]) -> Tried<Vec<Pack>> {
    let wrong = |error: upsert_sink_format::error::Error| Obstacle::Unclear(error.to_string());
    let hasher = Hasher::parse(&to.info.hasher).map_err(wrong)?;
    let columns = [ColumnType::BigInt, ColumnType::String];
    let mut by_bucket: BTreeMap<u32, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        let key = Value::Int(row.0);
        let hash = hash_values(hasher, &[(&columns[0], Some(&key))]).map_err(wrong)?;
        by_bucket.entry(bucket_of(hash, to.info.buckets).0).or_default().push(row);
    }
    let pack = |(bucket, rows): (u32, Vec<&Row>)| {
        let (mut body, mut crcs) = (Vec::new(), Vec::new());
        for (key, text) in rows {
            let values = [Some(Value::Int(*key)), Some(Value::Bytes(text.clone().into_bytes()))];
            crcs.push(encode_values(&columns, &values, Op::Upsert, &mut body));
        }
        let records = u32::try_from(crcs.len()).expect("the doctor writes few rows");
        pack_trailer(crcs.into_iter(), records, &mut body);
        let body = PackBody::new(Bytes::from(body));
        Pack { session: to.session.clone(), bucket, records, body }
    };
    Ok(by_bucket.into_iter().map(pack).collect())
}

/// Enough to see that a commit is one over all of them.
const BUCKETS: u32 = 4;
/// The shortest there is: nothing of the doctor's outlives it for long.
const LIFECYCLE_HOURS: u32 = 1;
const ATTEMPTS_MAX: u32 = 5;
const COMMIT_ASKED_MAX: u32 = 60;
const FIRST_WAIT_MS: u64 = 500;
const LAST_WAIT_MS: u64 = 8_000;
