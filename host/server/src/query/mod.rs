//! Running queries: the one place that knows whether this build can.
//!
//! Asked by `sql/job.rs` for clients, and by users of the crate. DataFusion, half of what there is
//! to compile, stands in `select` and below it alone, behind the feature `query`; without it
//! `absent` stands there. Invariant: both say the same, but for whether there are rows.

#[cfg(any(test, not(feature = "query")))]
mod absent;
#[cfg(feature = "query")]
mod provider;
#[cfg(feature = "query")]
mod prune;
#[cfg(feature = "query")]
mod select;
#[cfg(feature = "query")]
mod stack;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use futures::stream::BoxStream;
use sqlparser::ast;

#[cfg(not(feature = "query"))]
use self::absent as chosen;
#[cfg(feature = "query")]
use self::select as chosen;
use crate::error::Error;
use crate::sql::failure::SqlFailure;
use crate::table::readable::Readable;

/// The rows of a query, as they come.
pub(crate) struct QueryRows {
    pub(crate) schema: SchemaRef,
    pub(crate) batches: BoxStream<'static, Result<RecordBatch, Error>>,
}

/// Whether queries can be run.
///
/// Errors: `NoSelect`.
pub(crate) fn check() -> Result<(), Error> {
    chosen::check()
}

/// Begins to run a query that was read.
///
/// Errors: `NoTable` for the first table that there is not; `Semantic` for what cannot be planned,
/// and if queries cannot be run.
pub(crate) async fn stream(
    query: Box<ast::Query>,
    readable: &Readable,
) -> Result<QueryRows, SqlFailure> {
    chosen::stream(query, readable).await
}

/// Runs one SELECT, written as the standard writes it: names in double quotes. There is at least
/// one batch, so that the columns are known.
///
/// Errors: `Query`, `NoSelect`.
pub(crate) async fn run(readable: &Readable, sql: &str) -> Result<Vec<RecordBatch>, Error> {
    chosen::run(readable, sql).await
}
