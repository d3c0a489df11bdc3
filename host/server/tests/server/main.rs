//! The server's promises, each kept under the worst that disk and clients do.
//!
//! One binary, because each one links DataFusion. All but `network` run without threads, on a
//! simulated disk.

mod commits;
mod network;
mod packs;
mod queries;
mod recovery;
mod sessions;
mod support;
