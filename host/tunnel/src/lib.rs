//! A client of MaxCompute's Tunnel for UPSERT into Delta tables: primary-key tables with hash
//! buckets and partitions.
//!
//! ```no_run
//! use upsert_sink_format::id::Hours;
//! use upsert_sink_format::record::Op;
//! use upsert_sink_format::record::Value;
//! use upsert_sink_tunnel::Client;
//! use upsert_sink_tunnel::ClientSettings;
//! use upsert_sink_tunnel::components::Components;
//!
//! # async fn upsert() -> upsert_sink_tunnel::Result<()> {
//! let service = "http://service.cn-hangzhou.maxcompute.aliyun.com/api".parse()?;
//! let settings = ClientSettings::new(service, "my_project".parse()?);
//! let client = Client::new(settings, &Components::system());
//! let orders = client.table(&"orders".parse()?);
//! let session = orders.create_session("day='2026-01-01'", Hours(24), 1).await?;
//! let mut packs = session.packs()?;
//! packs.add(Op::Upsert, &[Some(Value::Int(1)), Some(Value::Bytes(b"new".to_vec()))])?;
//! for pack in packs.finish() {
//!     session.put_pack(&pack).await?;
//! }
//! session.commit().await?;
//! # Ok(()) }
//! ```
//!
//! `examples/five_rows.rs` is a whole program.
//!
//! **One call is one attempt.** Nothing here retries what may have been carried out. A call ends in
//! one of three ways: it is *done*, and the service said so with the id of the request; it was
//! *refused* and certainly had no effect ([`TunnelError::refusal`]); or it is *in doubt* and may
//! have been carried out, or may yet be ([`TunnelError::is_in_doubt`]). After a pack in doubt the
//! very same pack must be sent again until it is acknowledged: [`Pack`] keeps its bytes. A request
//! that the service refused for its signature is the one exception: it is signed anew and sent
//! again, once for its time and once for its credentials.
//!
//! **A session is durable and exclusive to nobody.** Packs that are acknowledged stay with it until
//! it is committed, aborted, or dropped for its age. A commit makes all of its rows visible
//! together. Any process that knows the [`SessionRef`](upsert_sink_format::tunnel::SessionRef) can
//! go on with it: [`Table::open_session`].
//!
//! **Time, network, disk and randomness** come in as [`components`]: the machine's own, or
//! simulated ones. A tokio runtime is needed, of either kind, with time and I/O enabled.
//!
//! Ids, values, records and types are those of `upsert-sink-format`, and part of this crate's
//! interface.
//!
//! Invariant: no secret is ever printed or logged, and an answer of the service is only trusted as
//! far as it was checked.
#![forbid(unsafe_code)]

mod catalog;
mod client;
mod compaction;
pub mod components;
mod compression;
mod credentials;
mod date;
mod definition;
mod description;
mod download;
mod endpoint;
mod error;
mod instance;
mod keyring;
mod metrics;
mod name;
mod pack;
mod partition;
#[doc(hidden)]
pub mod readers;
mod response;
mod rows;
mod session;
mod settings;
mod sign;
mod slots;
mod sql;
mod table;
mod workers;
#[doc(hidden)]
pub mod xml;

pub use catalog::Catalog;
pub use client::{Client, ProjectAnswer};
pub use compression::Compression;
pub use credentials::{CredentialSource, Credentials, Secret};
pub use definition::{NewColumn, NewTable};
pub use download::{DownloadReader, DownloadedRow, TableDownload};
#[doc(hidden)]
pub use error::escape;
pub use error::{NotDone, Result, TunnelError};
pub use instance::InstanceId;
pub use metrics::ClientMetrics;
pub use name::{Name, ServiceUrl, Tags};
pub use pack::{Pack, PackBody};
pub use rows::PackBuilder;
pub use session::Session;
pub use settings::ClientSettings;
pub use slots::SlotMap;
pub use sql::TextRow;
pub use table::Table;
pub use workers::WorkerAllowList;
