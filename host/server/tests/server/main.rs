//! The server's promises, each kept under the worst that disk and clients do.
//!
//! One binary, because each one links DataFusion. All but `network` run without threads, on a
//! simulated disk.

#![allow(clippy::unwrap_used, reason = "a test may stop at a surprise")]

mod commits;
mod network;
mod packs;
mod queries;
mod recovery;
mod sessions;
mod support;
