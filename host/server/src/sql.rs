//! SQL: statements that change the catalog, and queries.
//!
//! A job's text is a `script`, made of statements that `change` the catalog (`ddl` reads them) or
//! of one query (`select` reads it); `job` carries it out and keeps what became of it. Invariant:
//! what is not supported is refused by its name, never done by halves.

pub(crate) mod change;
pub(crate) mod ddl;
pub(crate) mod failure;
pub(crate) mod job;
pub(crate) mod script;
pub(crate) mod select;
pub(crate) mod tokens;
