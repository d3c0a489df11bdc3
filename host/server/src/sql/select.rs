//! Queries over the merged tables of one version of the log.
//!
//! Reached from the public `query` and `Service::query`; reads through `table/provider.rs`.
//! Invariant: a query changes nothing: only SELECT is planned.

use std::sync::Arc;

use arrow_array::RecordBatch;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::SessionConfig;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::DFParser;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;
use object_store::ObjectStore;

use crate::error::Error;
use crate::table::catalog::Tables;
use crate::table::provider::DeltaTable;

/// Runs one SELECT. There is at least one batch, so that the columns are known.
pub(crate) async fn run(
    tables: &Tables,
    objects: Arc<dyn ObjectStore>,
    sql: &str,
) -> Result<Vec<RecordBatch>, Error> {
    check_is_query(sql)?;
    let context = context(tables, &objects).map_err(wrong)?;
    let options =
        SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    let frame = context.sql_with_options(sql, options).await.map_err(wrong)?;
    let schema = Arc::clone(frame.schema().inner());
    let mut batches = frame.collect().await.map_err(wrong)?;
    if batches.is_empty() {
        batches.push(RecordBatch::new_empty(schema));
    }
    Ok(batches)
}

fn check_is_query(sql: &str) -> Result<(), Error> {
    let mut statements = DFParser::parse_sql(sql).map_err(wrong)?;
    let (Some(statement), true) = (statements.pop_front(), statements.is_empty()) else {
        return Err(Error::Query("write exactly one SELECT".to_owned()));
    };
    match &statement {
        Statement::Statement(inner) if matches!(**inner, ast::Statement::Query(_)) => Ok(()),
        _ => {
            let text = statement.to_string();
            let named = text.split_whitespace().next().unwrap_or_default().to_owned();
            Err(Error::Query(format!("{named} is not supported: only SELECT reads tables here")))
        }
    }
}

fn context(
    tables: &Tables,
    objects: &Arc<dyn ObjectStore>,
) -> datafusion::error::Result<SessionContext> {
    let config = SessionConfig::new()
        .with_target_partitions(STREAMS)
        .with_information_schema(false)
        .with_create_default_catalog_and_schema(true);
    let runtime = RuntimeEnvBuilder::new().with_memory_limit(QUERY_BYTES_MAX, 1.0).build_arc()?;
    let context = SessionContext::new_with_config_rt(config, runtime);
    for (name, table) in tables {
        let provider = DeltaTable::new(Arc::clone(table), Arc::clone(objects));
        context.register_table(name.as_str(), Arc::new(provider))?;
    }
    Ok(context)
}

fn wrong(error: datafusion::error::DataFusionError) -> Error {
    Error::Query(error.strip_backtrace())
}

/// Partitions of tables that are merged at the same time, each in its own bounded memory.
const STREAMS: usize = 2;
/// What sorting and grouping may hold in memory; beyond it they use the disk, or are refused.
const QUERY_BYTES_MAX: usize = 512 << 20;
