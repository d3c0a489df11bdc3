//! The wire, against what the vendor's own clients were recorded to send.
//!
//! Both ways: their requests to our server (`replay.rs`, `refused.rs`), and ours beside theirs
//! (`sent.rs`, `partial.rs`), with the whole sink behind them. Then the signatures (`signed.rs`)
//! and the hashes (`hashes.rs`) that both must have. Invariant: hashing is proved by the vectors
//! and by the packs that Java made, never by our server agreeing with our client.

mod encodings;
mod fixture;
mod hashes;
mod local;
mod partial;
mod refused;
mod replay;
mod rows;
mod scripted;
mod sent;
mod signed;
