//! One file for each kind of resource: parse, call, render.
//!
//! Between `service.rs`, which finds the route, and sessions, spool and tables. Invariant: a route
//! holds no state.

pub(crate) mod capabilities;
pub(crate) mod download;
pub(crate) mod fault;
pub(crate) mod instance;
pub(crate) mod project;
pub(crate) mod side;
pub(crate) mod table;
pub(crate) mod upsert;
