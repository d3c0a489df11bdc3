//! The words that both ends of the Tunnel share: pure, `no_std`, without a decision in it.
//!
//! **Contract.** Everything here is a value, or a function from bytes and texts to values and
//! back. The machines of `upsert-sink-core` write with it what a client sends and the local server
//! reads; the host reads options and types with it. Nothing here has a state that outlives a call,
//! but for what a caller owns and lends.
//!
//! **A row's way** passes here four times: a batch of rows is parsed ([`batch`]), the key of each
//! row is hashed ([`hash`]), the row becomes a record ([`record`]), and its partition is named as
//! [`partition`] says. [`schema`] holds the types on both sides, [`tunnel`] the operations that
//! carry records, [`sealed`] and [`frame`] the bytes that outlive a process, and [`option`] the
//! texts that users write.
//!
//! **Panics** are our bugs. Input, of whatever kind, never panics.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod error;
pub mod id;
pub mod option;
pub mod schema;
pub mod tunnel;

pub mod batch;
pub mod frame;
pub mod hash;
pub mod partition;
pub mod record;
pub mod sealed;
pub mod words;
