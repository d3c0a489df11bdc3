//! SQL: statements that change the catalog, and queries.
//!
//! A job's text is a `script`, made of statements that `change` the catalog (`ddl` reads them) or
//! of one query (`select` reads it); a `job` is such a script while it runs, and its outcome.
//! Invariant: what is not supported is refused by its name, never done by halves.

pub(crate) mod change;
pub(crate) mod ddl;
mod dialect;
pub(crate) mod failure;
pub(crate) mod job;
pub(crate) mod remembered;
pub(crate) mod script;
pub(crate) mod select;
pub(crate) mod tokens;
