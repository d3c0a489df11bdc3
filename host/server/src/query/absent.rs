//! No queries: what stands in the place of `select.rs` in a build without the feature `query`.
//!
//! Called by `query/mod.rs` alone. Invariant: every query is refused, and the refusal says how to
//! get a build that runs it.

use arrow_array::RecordBatch;
use sqlparser::ast;

use super::QueryRows;
use crate::error::Error;
use crate::sql::failure::SqlFailure;
use crate::table::readable::Readable;

pub(super) fn check() -> Result<(), Error> {
    Err(Error::NoSelect)
}

pub(super) async fn stream(
    _query: Box<ast::Query>,
    _readable: &Readable,
) -> Result<QueryRows, SqlFailure> {
    Err(Error::NoSelect.into())
}

pub(super) async fn run(_readable: &Readable, _sql: &str) -> Result<Vec<RecordBatch>, Error> {
    Err(Error::NoSelect)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::components::simulated::SimulatedDirectories;
    use crate::components::{Access, Directories};
    use crate::sql::script;
    use crate::sql::script::Script;
    use crate::table::catalog::TablesByName;

    const REMEDY: &str = "this build has no SELECT; build it with \
                          `cargo build --release --features query`";

    #[tokio::test]
    async fn a_build_without_queries_refuses_each_and_names_the_remedy() {
        let directory = SimulatedDirectories::new()
            .open(Path::new("/d"), Access::Serve)
            .expect("an empty disk");
        let (project, tables) = ("local".to_owned(), TablesByName::new());
        let readable = Readable { project, tables, objects: directory.objects() };
        assert_eq!(check().expect_err("refused").to_string(), REMEDY);
        let refused = run(&readable, "SELECT 1").await.expect_err("refused");
        assert_eq!(refused.to_string(), REMEDY);
        let Ok(Script::Query(query)) = script::parse("SELECT 1") else { panic!("it is a query") };
        let Err(failure) = stream(query, &readable).await else { panic!("it has no rows") };
        assert_eq!(failure, SqlFailure::Semantic(REMEDY.to_owned()));
    }
}
