//! A sink and a local server in one process and one time, in which waiting costs nothing.
//!
//! Under the regimes of `mod.rs`. Time is tokio's, paused: it runs when nobody has anything to do.
//! Invariant: every request takes one millisecond, and every commit as long as the world was told;
//! what either of them computes takes no time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Method, Request, Response};
use upsert_sink::components::{Clock, SystemClock, Transport, TransportError};
use upsert_sink::{Catalog, Checkpoint, Components, Settings, Sink};
use upsert_sink_server::components::simulated::{self, SimulatedDirectories};
use upsert_sink_server::{ServerSettings, Service};
use upsert_sink_tests::plugin::plugin;
use upsert_sink_tunnel::components::simulated::{SimulatedDisk, SimulatedFiles, Uninterrupted};

/// The table of every world.
const CREATE: &str = "CREATE TABLE t (id BIGINT NOT NULL, v STRING, PRIMARY KEY (id)) \
    PARTITIONED BY (part STRING) TBLPROPERTIES ('transactional'='true', 'write.bucket.num'='4')";

/// The server, the way to it, and the time of both.
pub(crate) struct World {
    service: Arc<Service>,
    pub(crate) clock: Arc<SystemClock>,
    wire: Arc<Wire>,
    components: Components,
}

impl World {
    /// A server whose commits take so long, with an empty table of 4 buckets.
    pub(crate) async fn new(commit_latency: Duration) -> Result<Self> {
        let clock = Arc::new(SystemClock::start());
        let shared = Arc::clone(&clock) as Arc<dyn Clock>;
        let server = simulated::components(Arc::clone(&shared), SimulatedDirectories::new(), 7);
        let settings = ServerSettings { commit_latency, ..ServerSettings::new("/server") };
        let service = Service::open(&settings, &server).await?;
        let wire = Arc::new(Wire {
            service: Arc::clone(&service),
            clock: Arc::clone(&clock),
            requests: Mutex::default(),
        });
        let disk = SimulatedDisk::new(SimulatedFiles::new(), Arc::new(Uninterrupted));
        let components = Components {
            clock: shared,
            transport: Arc::clone(&wire) as _,
            disk: Arc::new(disk),
            ..Components::system()
        };
        let world = Self { service, clock, wire, components };
        Catalog::new(&settings_with(&[])?, &world.components).execute(CREATE).await?;
        world.take_requests();
        Ok(world)
    }

    /// A sink with these options, which goes on from a checkpoint if there is one.
    pub(crate) async fn sink(
        &self,
        options: &[(&str, &str)],
        restore: Option<Checkpoint>,
    ) -> Result<Sink> {
        let builder = Sink::builder(plugin(), settings_with(options)?);
        let builder = builder.components(self.components.clone());
        Ok(builder.schema(rows(0, 1, 0).schema()).restore(restore).open().await?)
    }

    /// The requests since the last time, by method and kind.
    pub(crate) fn take_requests(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut *self.wire.requests.lock().expect("no holder panics"))
    }

    /// The number of rows that are visible.
    pub(crate) async fn visible(&self) -> Result<i64> {
        let batches = self.service.query("SELECT count(*) FROM t").await;
        let batches = batches.map_err(|error| anyhow::anyhow!("{error:?}"))?;
        let first = batches.first().context("a row")?;
        Ok(first.column(0).as_primitive::<Int64Type>().value(0))
    }

    /// Partitions that the server has compacted.
    pub(crate) fn compactions(&self) -> u64 {
        self.service.stats().compactions
    }

    /// Refuses sessions that are left open.
    pub(crate) fn ensure_quiet(&self) -> Result<()> {
        let open = self.service.open_sessions().len();
        ensure!(open == 0, "{open} sessions are left open");
        Ok(())
    }

    /// Seconds since a time.
    pub(crate) fn seconds_since(&self, earlier_ms: u64) -> f64 {
        Duration::from_millis(self.clock.now_ms() - earlier_ms).as_secs_f64()
    }
}

/// Settings with these options besides those that every sink here needs.
fn settings_with(options: &[(&str, &str)]) -> Result<Settings> {
    let base = [
        ("endpoint", "http://h:1/api"),
        ("tunnelEndpoint", "http://h:1"),
        ("project", "local"),
        ("tableName", "t"),
        ("sink.journal-dir", "/journal"),
        ("sink.dynamic-partition.limit", "100000"),
    ];
    let all = base.iter().chain(options);
    Ok(Settings::from_options(all.map(|(name, value)| ((*name).into(), (*value).into())))?)
}

/// A row of each of `partitions` partitions, from the `first` on.
pub(crate) fn rows(first: i64, partitions: i64, version: i64) -> RecordBatch {
    let numbers = first..first + partitions;
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(numbers.clone()));
    let values = numbers.clone().map(|number| format!("{number} of version {version}"));
    let values: ArrayRef = Arc::new(StringArray::from_iter_values(values));
    let parts = numbers.map(|number| format!("p{number}"));
    let parts: ArrayRef = Arc::new(StringArray::from_iter_values(parts));
    let columns = [("id", ids), ("v", values), ("part", parts)];
    RecordBatch::try_from_iter(columns).expect("columns of one length")
}

/// The way to the server.
struct Wire {
    service: Arc<Service>,
    clock: Arc<SystemClock>,
    requests: Mutex<BTreeMap<String, u64>>,
}

impl Transport for Wire {
    fn send(
        &self,
        request: Request<Bytes>,
    ) -> BoxFuture<'_, Result<Response<Bytes>, TransportError>> {
        *self.requests.lock().expect("no holder panics").entry(kind(&request)).or_default() += 1;
        async move {
            self.clock.sleep(Duration::from_millis(1)).await;
            Ok(self.service.respond(request).await)
        }
        .boxed()
    }
}

/// `create`, `put`, `commit`, or the method of any other request.
fn kind(request: &Request<Bytes>) -> String {
    let query = request.uri().query().unwrap_or_default();
    let names_session = query.contains("upsertid=");
    let kind = match (request.uri().path().ends_with("/upserts"), request.method()) {
        (true, &Method::PUT) => "put",
        (true, &Method::POST) if names_session => "commit",
        (true, &Method::POST) => "create",
        (_, method) => method.as_str(),
    };
    String::from(kind)
}
