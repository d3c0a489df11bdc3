//! upsert-sink: keeps MaxCompute Delta tables up to date from a stream engine.
//!
//! READ FIRST. The way of a row through this crate, file by file:
//!
//! | step | file | what happens |
//! |---|---|---|
//! | 1 | `sink.rs` | an engine hands over a `RecordBatch`; opened by `open.rs` |
//! | 2 | `batch/` | its Arrow buffers become the `columns` form of `wit/README.md` |
//! | 3 | `shuffle.rs` | the guest's `route` gives each row a key, and so a writer |
//! | 4 | `writer.rs`, `driver.rs` | a bounded queue, then one guest call for each batch |
//! | 5 | `instance.rs`, `bindings.rs` | the call; the guest decides, in its `sandbox.rs` |
//! | 6 | `capability/` | what it submits: checked against its grant, kept until released |
//! | 7 | `operation.rs` | one attempt at it: a call of the client in `host/tunnel` |
//!
//! There is one way back: the outcome of an attempt, through `driver.rs`, as a call of the guest. A
//! checkpoint goes the same way as rows, behind them, and comes back as snapshots; `committer.rs`
//! then commits what it holds, `coordinator.rs` hands out sessions. If it is asked to, `recording/`
//! writes down every call of an instance, from which it can be replayed.
//!
//! ```
//! use upsert_sink::{Plugin, Settings, Sink};
//! # use std::sync::Arc;
//! # use upsert_sink::arrow_array::{ArrayRef, Int64Array, RecordBatch};
//! # use upsert_sink::{Catalog, Components};
//! # use upsert_sink_server::{Server, ServerSettings};
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?; let dir = dir.path();
//! # let components = upsert_sink_server::ServerComponents::system();
//! # let server = Server::start(ServerSettings::new(dir.join("data")), components).await?;
//! # let ids = Arc::new(Int64Array::from(vec![1, 2, 3])) as ArrayRef;
//! # let rows = RecordBatch::try_from_iter([("id", ids)])?;
//! # let create = "CREATE TABLE t (id BIGINT PRIMARY KEY) TBLPROPERTIES ('transactional'='true')";
//! let settings = Settings::local(server.endpoint(), "t", dir.join("journal"))?;
//! # Catalog::new(&settings, &Components::system()).execute(create).await?;
//! let builder = Sink::builder(Plugin::embedded()?, settings);
//! let sink = builder.schema(rows.schema()).restore(None).open().await?;
//! sink.write(&rows, &[]).await?; // no row kinds: all are inserts
//! let checkpoint = sink.checkpoint(1).await?;
//! std::fs::write(dir.join("checkpoint"), checkpoint.to_bytes())?; // the engine's state
//! sink.checkpoint_completed(1).await?; // now it may be committed
//! sink.committed(1).await?; // and now it is visible
//! sink.close().await?;
//! # Ok(()) }
//! ```
//!
//! The guarantees in full, `doctor`, recordings and credentials: [`manual`].
//!
//! Invariant: this crate decides nothing about buckets, buffers or commits. It knows where things
//! are and who may do what.
#![deny(unsafe_code)]

#[doc(hidden)]
pub mod bare;
mod batch;
mod bindings;
mod capability;
mod checkpoint;
mod committer;
mod compiled;
pub mod components;
mod coordinator;
mod dead_letter;
pub mod doctor;
mod driver;
mod ending;
mod error;
mod file_cache;
mod instance;
pub mod journal;
pub mod ledger;
pub mod manual;
mod metrics;
mod open;
mod operation;
mod plugin;
pub mod recording;
mod sandbox;
pub mod sessions;
mod settings;
mod shuffle;
mod sink;
#[doc(hidden)]
pub mod twin;
mod writer;

pub use arrow_array;
pub use arrow_schema;
pub use batch::RowKind;
pub use batch::row_type::{of as row_type, to_arrow as arrow_type};
pub use checkpoint::Checkpoint;
pub use compiled::CompiledCode;
pub use components::Components;
pub use error::{Error, ErrorKind, Result};
pub use metrics::{Histogram, Metrics};
pub use open::SinkBuilder;
pub use plugin::{Inspection, Plugin};
pub use sandbox::Limits;
pub use settings::{CacheSettings, Settings, parse_span};
pub use sink::Sink;
pub use upsert_sink_format::option::OptionDoc;
pub use upsert_sink_format::schema::{ColumnType, RowColumn, RowType};
pub use upsert_sink_format::tunnel::{ColumnDescription, TableDescription};
pub use upsert_sink_tunnel::{
    Catalog, ClientSettings, Compression, CredentialSource, Credentials, Name, NewColumn, NewTable,
    Secret, ServiceUrl, Tags, TunnelError, WorkerAllowList,
};
