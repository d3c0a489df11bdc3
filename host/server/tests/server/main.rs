//! The server's promises, each kept under the worst that disk and clients do.
//!
//! One binary, because each one links DataFusion. All but `network` and `bad_http` run without
//! threads, on a simulated disk.

#![allow(clippy::unwrap_used, reason = "a test may stop at a surprise")]

mod bad_http;
mod commits;
mod compactions;
mod downloads;
mod faults;
mod instances;
mod long_queries;
mod network;
mod packs;
mod partial;
mod queries;
mod quotas;
mod recovery;
mod scans;
mod sessions;
mod slow_commits;
mod statements;
mod support;
mod tables;
