//! The server of a row: started, stopped, crashed and started again on one directory and one port,
//! and what its table holds.
//!
//! Under `scene.rs`, which holds the sink's side. Invariant: the sink's time runs only while this
//! world lets it, and never while a request is on the wire that no rule delays.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use arrow_array::{Array, Int64Array, StringArray};
use futures::future::{Either, select};
use upsert_sink::{Catalog, Components, Settings};
use upsert_sink_server::{FaultRules, FaultStatus, Server, ServerSettings, Stats};

use crate::faults::components::{Call, RushClock, Wire, moment};

/// So much of the sink's time passes in each moment of real time, if nothing is on the wire.
const STEP_MS: u64 = 50;
/// The table of every row.
pub(crate) const CREATE: &str = "CREATE TABLE t (id BIGINT NOT NULL, v STRING, PRIMARY KEY (id)) \
    PARTITIONED BY (day STRING) TBLPROPERTIES ('transactional'='true', 'write.bucket.num'='8')";

/// The content of a table: values by key.
pub(crate) type Table = BTreeMap<i64, String>;

/// The server, and all that the sink's time depends on.
pub(crate) struct World {
    /// Where everything of this row is kept.
    pub(crate) dir: tempfile::TempDir,
    /// The sink's time.
    pub(crate) clock: Arc<RushClock>,
    /// The sink's network.
    pub(crate) wire: Arc<Wire>,
    address: SocketAddr,
    server: Mutex<Option<Server>>,
    frozen: AtomicBool,
}

impl World {
    /// A server with an empty table of 8 buckets and one partition.
    pub(crate) async fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let server = start(&dir, None).await?;
        let world = Self {
            clock: Arc::new(RushClock::new()),
            wire: Arc::default(),
            address: server.address(),
            server: Mutex::new(Some(server)),
            frozen: AtomicBool::new(false),
            dir,
        };
        let settings = Settings::local(world.endpoint(), "t", world.dir.path().join("setup"))?;
        let catalog = Catalog::new(&settings, &Components::system());
        for sql in [CREATE, "ALTER TABLE t ADD IF NOT EXISTS PARTITION (day='x')"] {
            catalog.execute(sql).await?;
        }
        Ok(world)
    }

    /// Where the sink finds it, dead or alive.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}/api", self.address)
    }

    /// From now on this goes wrong with such calls, on such occasions.
    pub(crate) fn fault(&self, call: Call, when: &str, fault: &str) -> Result<()> {
        let query = match call {
            Call::Put(bucket) => format!(", \"query\": {{\"bucketid\": \"{bucket}\"}}"),
            _ => String::new(),
        };
        let matches = format!("{{\"operation\": \"{call}\"{query}}}");
        let rule = format!("{{\"match\": {matches}, \"when\": {{{when}}}, \"do\": {fault}}}");
        self.rule(&rule)
    }

    /// Adds a rule as it is written.
    pub(crate) fn rule(&self, rule: &str) -> Result<()> {
        let rules = FaultRules::parse(&format!("{{\"rules\": [{rule}]}}"))?;
        self.with(|server| server.faults().add(rules))
    }

    /// From now on nothing goes wrong; what was delayed goes on.
    pub(crate) fn heal(&self) {
        if let Some(server) = &*self.server.lock().expect("no holder panics") {
            server.faults().clear();
        }
    }

    /// The rules that stand.
    pub(crate) fn rules(&self) -> Vec<FaultStatus> {
        let server = self.server.lock().expect("no holder panics");
        server.as_ref().map(|server| server.faults().status()).unwrap_or_default()
    }

    /// The server's counts since it was last started.
    pub(crate) fn stats(&self) -> Stats {
        let server = self.server.lock().expect("no holder panics");
        server.as_ref().map(Server::stats).unwrap_or_default()
    }

    /// Waits until a rule delays a request.
    pub(crate) async fn holds(&self) {
        while self.rules().iter().all(|rule| rule.holding == 0) {
            moment().await;
        }
    }

    /// Waits until the server says so.
    pub(crate) async fn stats_show(&self, so: impl Fn(&Stats) -> bool) {
        while !so(&self.stats()) {
            moment().await;
        }
    }

    /// Stops the server: from now on nobody listens.
    pub(crate) async fn stop(&self) -> Result<()> {
        let server = self.server.lock().expect("no holder panics").take();
        Ok(server.context("the server is up")?.shutdown().await?)
    }

    /// Starts the server again, where it was.
    pub(crate) async fn start(&self) -> Result<()> {
        let server = start(&self.dir, Some(self.address)).await?;
        *self.server.lock().expect("no holder panics") = Some(server);
        Ok(())
    }

    /// Waits for the server to crash, and starts it again.
    pub(crate) async fn restart_after_crash(&self) -> Result<()> {
        let crashed = self.with(|server| Ok::<_, anyhow::Error>(server.crashed()))?;
        crashed.await;
        self.freeze();
        self.stop().await?;
        self.start().await?;
        self.thaw();
        Ok(())
    }

    /// The sink's time stands still.
    pub(crate) fn freeze(&self) {
        self.frozen.store(true, Ordering::SeqCst);
    }

    /// The sink's time runs again.
    pub(crate) fn thaw(&self) {
        self.frozen.store(false, Ordering::SeqCst);
    }

    /// Lets the sink's time run until the future has ended.
    pub(crate) async fn rush<T>(&self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        loop {
            match select(future.as_mut(), pin!(moment())).await {
                Either::Left((done, _)) => return done,
                Either::Right(_) if self.is_quiet() => self.clock.advance(STEP_MS),
                Either::Right(_) => {}
            }
        }
    }

    /// The rows that a query sees, whether the server is up or not.
    pub(crate) async fn table(&self) -> Result<Table> {
        table_of(&self.dir.path().join("data")).await
    }

    /// Whether all that is on the wire is what rules delay.
    fn is_quiet(&self) -> bool {
        let held: u64 = self.rules().iter().map(|rule| rule.holding).sum();
        !self.frozen.load(Ordering::SeqCst) && self.wire.under_way() as u64 <= held
    }

    fn with<T, E: Into<anyhow::Error>>(
        &self,
        ask: impl FnOnce(&Server) -> Result<T, E>,
    ) -> Result<T> {
        let server = self.server.lock().expect("no holder panics");
        ask(server.as_ref().context("the server is down")?).map_err(Into::into)
    }
}

/// The rows in the table of a data directory.
pub(crate) async fn table_of(data: &Path) -> Result<Table> {
    let batches = upsert_sink_server::query(data, "SELECT id, v FROM t").await?;
    let mut table = Table::new();
    for batch in &batches {
        let ids = batch.column(0).as_any().downcast_ref::<Int64Array>().context("bigint")?;
        let values = batch.column(1).as_any();
        let values = values.downcast_ref::<StringArray>().context("string")?;
        for row in 0..batch.num_rows() {
            let twice = table.insert(ids.value(row), values.value(row).to_owned());
            anyhow::ensure!(twice.is_none(), "key {} is there twice", ids.value(row));
        }
    }
    Ok(table)
}

async fn start(dir: &tempfile::TempDir, address: Option<SocketAddr>) -> Result<Server> {
    let mut settings = ServerSettings::new(dir.path().join("data"));
    settings.listen = address.unwrap_or(settings.listen);
    Ok(Server::start(settings, upsert_sink_server::ServerComponents::system()).await?)
}
