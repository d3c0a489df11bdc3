//! SQL: statements that change the catalog, and queries.
//!
//! `ddl` is read by `route/instance.rs`, `select` by the public `query`. Invariant: what is not
//! supported is refused by its name, never done by halves.

pub(crate) mod ddl;
pub(crate) mod select;
pub(crate) mod tokens;
