//! A server, a sink, and the engine between: rows in, checkpoints, and the advice at the end.
//!
//! Under the rules' tests. Invariant: time is virtual, so a limit of minutes costs nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use upsert_sink::components::{Clock, SystemClock};
use upsert_sink::ledger::{AdviceRule, CheckpointRecord, Hint, advise};
use upsert_sink::{Catalog, Components, Settings, Sink};
use upsert_sink_server::components::simulated::{self, SimulatedDirectories};
use upsert_sink_server::{FaultRules, ServerSettings, Service};
use upsert_sink_tests::plugin::plugin;
use upsert_sink_tunnel::components::simulated::{SimulatedDisk, SimulatedFiles, Uninterrupted};

use crate::advice::line::NarrowLine;

/// Buckets of every table.
pub(crate) const BUCKETS: i64 = 8;
const CREATE: &str = "CREATE TABLE t (id BIGINT NOT NULL, v STRING, at DATETIME, PRIMARY KEY (id)) \
    PARTITIONED BY (day STRING) TBLPROPERTIES ('transactional'='true', 'write.bucket.num'='8')";

/// A job on a server of its own.
pub(crate) struct AdvisedJob {
    pub(crate) clock: Arc<SystemClock>,
    service: Arc<Service>,
    components: Components,
    options: BTreeMap<String, String>,
    /// The interval that the engine tells the sink.
    pub(crate) interval: Duration,
    sink: Option<Sink>,
    checkpoint: u64,
    written: i64,
}

impl AdvisedJob {
    /// A server with the table, and a sink that is not open yet.
    pub(crate) async fn new(options: &[(&str, &str)]) -> Result<Self> {
        Self::on(ServerSettings::new("/server"), 0, options).await
    }

    /// The same on such a server, over a line on which a pack takes so long.
    pub(crate) async fn on(
        settings: ServerSettings,
        pack_ms: u64,
        options: &[(&str, &str)],
    ) -> Result<Self> {
        // Virtual, as the runtime's time is.
        let clock = Arc::new(SystemClock::start());
        let disk = SimulatedDirectories::new();
        let server = simulated::components(Arc::clone(&clock) as Arc<dyn Clock>, disk, 7);
        let service = Service::open(&settings, &server).await?;
        let line = NarrowLine {
            service: Arc::clone(&service),
            clock: Arc::clone(&clock),
            pack_ms,
            carries: tokio::sync::Mutex::default(),
        };
        let files = SimulatedDisk::new(SimulatedFiles::new(), Arc::new(Uninterrupted));
        let components = Components {
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            transport: Arc::new(line),
            disk: Arc::new(files),
            ..Components::system()
        };
        let base = [
            ("endpoint", "http://127.0.0.1:1/api"),
            ("tunnelEndpoint", "http://127.0.0.1:1"),
            ("project", "local"),
            ("tableName", "t"),
            ("sink.journal-dir", "/journal"),
        ];
        let options = base.iter().chain(options);
        let options = options.map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let job = Self {
            clock,
            service,
            components,
            options,
            interval: Duration::from_secs(60),
            sink: None,
            checkpoint: 0,
            written: 0,
        };
        let catalog = Catalog::new(&job.settings()?, &job.components);
        catalog.execute(CREATE).await?;
        Ok(job)
    }

    fn settings(&self) -> Result<Settings> {
        let settings = Settings::from_options(self.options.clone())?;
        Ok(Settings { checkpoint_interval: self.interval, ..settings })
    }

    /// Opens the sink.
    pub(crate) async fn open(&mut self) -> Result<()> {
        self.open_for(&partitioned(&[], 0, 1)?).await
    }

    /// Opens the sink for rows such as these.
    pub(crate) async fn open_for(&mut self, rows: &RecordBatch) -> Result<()> {
        let builder = Sink::builder(plugin(), self.settings()?).schema(rows.schema());
        self.sink = Some(builder.components(self.components.clone()).open().await?);
        Ok(())
    }

    /// From now on the server fails by this rule.
    pub(crate) fn rule(&self, rule: &str) -> Result<()> {
        self.service.faults().add(FaultRules::parse(&format!("{{\"rules\": [{rule}]}}"))?)?;
        Ok(())
    }

    /// The sink, which is open.
    pub(crate) fn sink(&self) -> Result<&Sink> {
        self.sink.as_ref().context("the sink is open")
    }

    /// Writes `count` rows with new keys, of `bytes` each, in so many partitions in turn.
    pub(crate) async fn write(&mut self, count: i64, bytes: usize, partitions: i64) -> Result<()> {
        let keys: Vec<i64> = (self.written..self.written + count).collect();
        self.written += count;
        let rows = partitioned(&keys, bytes, partitions)?;
        Ok(self.sink()?.write(&rows, &[]).await?)
    }

    /// Lets so much time pass.
    pub(crate) async fn pass(&self, ms: u64) {
        self.clock.sleep_until(self.clock.now_ms() + ms).await;
    }

    /// Passes a barrier and tells the sink that it is complete, without waiting for the commits.
    pub(crate) async fn complete(&mut self) -> Result<u64> {
        let id = self.barrier().await?;
        self.sink()?.checkpoint_completed(id).await?;
        Ok(id)
    }

    /// Passes a barrier.
    pub(crate) async fn barrier(&mut self) -> Result<u64> {
        self.checkpoint += 1;
        let id = self.checkpoint;
        self.sink()?.checkpoint(id).await?;
        Ok(id)
    }

    /// Takes a checkpoint, and waits until it is visible.
    pub(crate) async fn checkpoint(&mut self) -> Result<()> {
        let id = self.complete().await?;
        Ok(self.sink()?.committed(id).await?)
    }

    /// The checkpoints so far.
    pub(crate) fn records(&self) -> Result<Vec<CheckpointRecord>> {
        Ok(self.sink()?.ledger().records)
    }

    /// Ends the sink. These rules spoke, and no other.
    pub(crate) async fn expect(&mut self, rules: &[AdviceRule]) -> Result<Vec<Hint>> {
        let sink = self.sink.take().context("the sink is open")?;
        let (ledger, facts) = (sink.ledger(), sink.facts()?);
        let hints = advise(&ledger.records, &facts);
        sink.close().await?;
        for hint in &hints {
            println!("{:?}: {}", hint.rule, hint.words);
            ensure!(hint.words.contains(&hint.measured), "{hint:#?}");
        }
        let spoke: Vec<AdviceRule> = hints.iter().map(|hint| hint.rule).collect();
        ensure!(spoke == rules, "{hints:#?}\nof {:#?}", ledger.records.last());
        Ok(hints)
    }
}

/// The hint says to set this option to this value.
pub(crate) fn sets(hint: &Hint, option: &str, value: &str) -> Result<()> {
    let is = (hint.option.as_deref(), hint.set.as_deref());
    ensure!(is == (Some(option), Some(value)), "{hint:#?}");
    Ok(())
}

/// Rows of these keys, in partitions in turn.
pub(crate) fn partitioned(keys: &[i64], bytes: usize, partitions: i64) -> Result<RecordBatch> {
    let days = keys.iter().map(|key| format!("d{}", key / BUCKETS % partitions));
    let days: ArrayRef = Arc::new(StringArray::from_iter_values(days));
    let columns = [("id", ids(keys)), ("v", values(keys, bytes)), ("day", days)];
    Ok(RecordBatch::try_from_iter(columns)?)
}

/// Rows of one partition, with a time that has a zone or none.
pub(crate) fn timed(keys: &[i64], zone: Option<&str>) -> Result<RecordBatch> {
    let times = TimestampMillisecondArray::from_iter_values(keys.iter().copied());
    let times: ArrayRef = Arc::new(times.with_timezone_opt(zone));
    let days: ArrayRef = Arc::new(StringArray::from_iter_values(keys.iter().map(|_| "d0")));
    let columns = [("id", ids(keys)), ("v", values(keys, 10)), ("at", times), ("day", days)];
    Ok(RecordBatch::try_from_iter(columns)?)
}

fn ids(keys: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(keys.to_vec()))
}

fn values(keys: &[i64], bytes: usize) -> ArrayRef {
    let value = |key: &i64| format!("{key:0bytes$}");
    Arc::new(StringArray::from_iter_values(keys.iter().map(value)))
}
