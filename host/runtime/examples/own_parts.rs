//! Gives the sink a clock and a transport of the engine's own: here one that shows a time that is
//! an hour off, and one that counts requests on their way to the system's.
//!
//! Invariant: the sink does not notice, for a clock only must not go back.
//!
//! ```sh
//! cargo run --release -- serve                                                 # prints its
//! endpoint cargo run --release -p upsert-sink --example own_parts -- ENDPOINT DIRECTORY
//! ```

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use upsert_sink::arrow_array::{ArrayRef, Int64Array, RecordBatch};
use upsert_sink::components::{
    BoxFuture, Clock, SystemClock, SystemTransport, Transport, TransportError,
};
use upsert_sink::{Catalog, ColumnType, Components, NewColumn, NewTable, Plugin, Settings, Sink};

/// The table.
pub(crate) const TABLE: &str = "own_parts";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(endpoint), Some(directory)) = (arguments.next(), arguments.next()) else {
        return Err("write an endpoint and a directory: own_parts http://… /tmp/sink".into());
    };
    let requests = run(&endpoint, Path::new(&directory)).await?;
    println!("one row of {TABLE} took {requests} requests");
    Ok(())
}

/// A clock that is an hour ahead. A clock may show any time, as long as it never goes back.
struct Ahead(SystemClock);

const HOUR_MS: u64 = 3_600_000;

impl Clock for Ahead {
    fn now_ms(&self) -> u64 {
        self.0.now_ms() + HOUR_MS
    }

    fn sleep_until(&self, deadline_ms: u64) -> BoxFuture<'static, ()> {
        self.0.sleep_until(deadline_ms.saturating_sub(HOUR_MS))
    }
}

/// A transport that counts.
struct Counting {
    inner: SystemTransport,
    requests: AtomicU64,
}

impl Transport for Counting {
    fn send(
        &self,
        request: http::Request<Bytes>,
    ) -> BoxFuture<'_, Result<http::Response<Bytes>, TransportError>> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.inner.send(request)
    }
}

/// Upserts one row; returns how many requests that took.
pub(crate) async fn run(endpoint: &str, directory: &Path) -> Result<u64, Box<dyn Error>> {
    let transport =
        Arc::new(Counting { inner: SystemTransport::new(), requests: AtomicU64::new(0) });
    let components = Components {
        clock: Arc::new(Ahead(SystemClock::start())),
        transport: Arc::clone(&transport) as Arc<dyn Transport>,
        ..Components::system()
    };
    let settings = Settings::local(endpoint, TABLE, directory.join("journal"))?;
    let catalog = Catalog::new(&settings, &components);
    let columns = vec![NewColumn::new("id", ColumnType::BigInt)];
    let key = vec![String::from("id")];
    catalog.create_table(&NewTable::new(TABLE.parse()?, columns, key, 1)).await?;

    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let rows = RecordBatch::try_from_iter([("id", ids)])?;
    let sink = Sink::builder(Plugin::embedded()?, settings).schema(rows.schema());
    let sink = sink.components(components).open().await?;
    sink.write(&rows, &[]).await?;
    sink.checkpoint(1).await?;
    sink.checkpoint_completed(1).await?;
    sink.committed(1).await?;
    sink.close().await?;
    Ok(transport.requests.load(Ordering::Relaxed))
}
