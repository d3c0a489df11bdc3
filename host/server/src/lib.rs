//! The embedded local Tunnel server with its Delta tables: READ FIRST.
//!
//! It speaks MaxCompute's own upsert protocol on one port of this machine, so that a sink, and
//! MaxCompute's clients, work without an account. A server keeps three things, each of which knows
//! only those before it: its `tables`, its upsert `sessions`, and its SQL `jobs`.
//!
//! **The way of a pack**, file by file: `http` receives it, `service` hands it through the layers
//! (`fault/layer`, then `admission`) to its `route`, `route/upsert` verifies it
//! (`route/upsert/pack`), and `sessions` appends it to the `spool`, where it is durable. **The way
//! of a commit**: `slow_commits` lets it take its time, `sessions` closes the session,
//! `table/commit` writes its rows to a Parquet file (`table/delta`) and puts it, together with
//! other commits that wait, into one record of the commit log (`table/log`). **The way of a
//! query**: `query/select` plans it over `query/provider`, which streams the merged rows of each
//! partition (`table/stream`, `table/merge`); a client posts its query as a job (`route/instance`,
//! `jobs`), its rows are kept on disk (`result/kept`) and read back through `route/download`. **The
//! way of a compaction**: it is posted as a job, too; `compactions` gives it its turn, and
//! `table/compact` merges. DataFusion, which plans queries, is in builds with the feature `query`;
//! others refuse a SELECT, do all the rest, and read a table whole through [`table_rows`].
//!
//! Invariant: what was acknowledged survives any crash; rows are visible when their commit's log
//! record is durable, and not before. Time, chance and disk come in through [`components`], so the
//! same server runs in virtual time.
//!
//! ```
//! use upsert_sink_server::{ServerComponents, Server, ServerSettings, query};
//!
//! # fn post(address: std::net::SocketAddr, sql: &str) -> std::io::Result<String> {
//! #     use std::io::{Read, Write};
//! #     let task = format!("<SQL><Name>n</Name><Query>{sql}</Query></SQL>");
//! #     let body = format!("<Instance><Job><Tasks>{task}</Tasks></Job></Instance>");
//! #     let mut stream = std::net::TcpStream::connect(address)?;
//! #     let length = body.len();
//! #     write!(stream, "POST /api/projects/local/instances HTTP/1.1\r\nHost: h\r\n")?;
//! #     write!(stream, "Connection: close\r\nContent-Length: {length}\r\n\r\n{body}")?;
//! #     let mut answer = String::new();
//! #     stream.read_to_string(&mut answer)?;
//! #     Ok(answer)
//! # }
//! # #[tokio::main(flavor = "multi_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?; let dir = dir.path();
//! let server = Server::start(ServerSettings::new(dir), ServerComponents::system()).await?;
//! let sql = "CREATE TABLE t (id BIGINT PRIMARY KEY, v STRING) \
//!            TBLPROPERTIES ('transactional'='true')";
//! assert!(post(server.address(), sql)?.starts_with("HTTP/1.1 201"));
//! let batches = query(dir, "SELECT count(*) AS n FROM t").await?;
//! assert_eq!(batches[0].schema().field(0).name(), "n");
//! server.shutdown().await?;
//! # Ok(()) }
//! ```

mod admission;
mod answer;
#[doc(hidden)]
pub mod audit;
mod auth;
mod background;
mod body;
mod compactions;
pub mod components;
mod download;
mod error;
mod fault;
mod http;
mod ids;
mod jobs;
mod project;
mod query;
mod quota;
#[doc(hidden)]
pub mod readers;
mod request;
mod result;
mod route;
mod server;
mod service;
mod session;
mod sessions;
mod settings;
mod slow_commits;
mod spool;
mod sql;
mod stats;
mod table;
mod tables;

pub use auth::{Auth, Keys};
pub use components::ServerComponents;
pub use error::Error;
pub use fault::{FaultRules, FaultStatus, Faults, Severed};
pub use quota::Quotas;
pub use server::{Server, query, recorded_sessions, table_rows};
pub use service::Service;
pub use settings::ServerSettings;
pub use stats::{OpenSessionStats, Stats};
pub use table::read_error::ReadError;
pub use table::readable::TableRows;
