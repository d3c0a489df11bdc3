//! The manual: what a user of the sink has to know, and the code alone does not show.
//!
//! Text only, from the files of `host/runtime/manual/`.

#[doc = include_str!("../manual/credentials.md")]
pub mod credentials {}

#[doc = include_str!("../manual/doctor.md")]
pub mod doctor {}

#[doc = include_str!("../manual/file-cache.md")]
pub mod file_cache {}

#[doc = include_str!("../manual/guarantees.md")]
pub mod guarantees {}

#[doc = include_str!("../manual/ledger.md")]
pub mod ledger {}

#[doc = include_str!("../manual/replay.md")]
pub mod replay {}
