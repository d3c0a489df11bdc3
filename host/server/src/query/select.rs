//! Queries over the merged tables of one version of the log, planned and run by DataFusion.
//!
//! Called by `query/mod.rs` alone; reads through `provider.rs`. Invariant: a query changes nothing:
//! only SELECT is planned.

use std::sync::Arc;

use arrow_array::RecordBatch;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use datafusion::sql::parser::{DFParser, Statement};
use futures::{FutureExt, StreamExt, TryStreamExt};
use sqlparser::ast;

use super::QueryRows;
use super::provider::DeltaTable;
use super::stack::OnDeepStack;
use crate::error::Error;
use crate::sql::failure::SqlFailure;
use crate::sql::select::first_word;
use crate::table::readable::{Readable, SCHEMA};

pub(super) fn check() -> Result<(), Error> {
    Ok(())
}

pub(super) async fn stream(
    query: Box<ast::Query>,
    readable: &Readable,
) -> Result<QueryRows, SqlFailure> {
    OnDeepStack(begin(query, readable).boxed()).await
}

async fn begin(query: Box<ast::Query>, readable: &Readable) -> Result<QueryRows, SqlFailure> {
    let statement = Statement::Statement(Box::new(ast::Statement::Query(query)));
    let context = context(readable).map_err(wrong)?;
    let references = context.state().resolve_table_references(&statement).map_err(wrong)?;
    for reference in references {
        // It is an error to ask for a project or schema that there is not.
        if !context.table_exist(reference.clone()).unwrap_or(false) {
            let message = format!("table {reference} cannot be resolved");
            return Err(SqlFailure::NoTable(message));
        }
    }
    let frame = plan(&context, statement).await.map_err(wrong)?;
    let batches = frame.execute_stream().await.map_err(wrong)?;
    Ok(QueryRows {
        schema: batches.schema(),
        batches: OnDeepStack(batches.map_err(wrong).boxed()).boxed(),
    })
}

pub(super) async fn run(readable: &Readable, sql: &str) -> Result<Vec<RecordBatch>, Error> {
    OnDeepStack(collect(readable, sql).boxed()).await
}

async fn collect(readable: &Readable, sql: &str) -> Result<Vec<RecordBatch>, Error> {
    let statement = read(sql)?;
    let context = context(readable).map_err(wrong)?;
    let frame = plan(&context, statement).await.map_err(wrong)?;
    let schema = Arc::clone(frame.schema().inner());
    let mut batches = frame.collect().await.map_err(wrong)?;
    if batches.is_empty() {
        batches.push(RecordBatch::new_empty(schema));
    }
    Ok(batches)
}

/// Reads one SELECT as the standard writes it.
///
/// Errors: `Query`.
fn read(sql: &str) -> Result<Statement, Error> {
    let mut statements = DFParser::parse_sql(sql).map_err(wrong)?;
    let (Some(statement), true) = (statements.pop_front(), statements.is_empty()) else {
        return Err(Error::Query("write exactly one SELECT".to_owned()));
    };
    match &statement {
        Statement::Statement(inner) if matches!(**inner, ast::Statement::Query(_)) => Ok(statement),
        _ => {
            let named = first_word(&statement.to_string());
            let message = format!("{named} is not supported: only SELECT reads tables here");
            Err(Error::Query(message))
        }
    }
}

async fn plan(
    context: &SessionContext,
    statement: Statement,
) -> datafusion::error::Result<DataFrame> {
    let plan = context.state().statement_to_plan(statement).await?;
    let options = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false);
    options.with_allow_statements(false).verify_plan(&plan)?;
    context.execute_logical_plan(plan).await
}

/// Tables are found as `t`, `project.t`, `default.t` and `project.default.t`.
fn context(readable: &Readable) -> datafusion::error::Result<SessionContext> {
    let project = readable.project.to_lowercase();
    let config = SessionConfig::new()
        .with_target_partitions(STREAMS)
        .with_information_schema(false)
        .with_default_catalog_and_schema(&*project, SCHEMA)
        .with_create_default_catalog_and_schema(true);
    let runtime = RuntimeEnvBuilder::new().with_memory_limit(QUERY_BYTES_MAX, 1.0).build_arc()?;
    let context = SessionContext::new_with_config_rt(config, runtime);
    let catalog = context.catalog(&project).expect("it was created with the context");
    let schema = catalog.schema(SCHEMA).expect("it was created with the context");
    for (name, table) in &readable.tables {
        let provider = DeltaTable::new(Arc::clone(table), Arc::clone(&readable.objects));
        schema.register_table(name.clone(), Arc::new(provider))?;
    }
    if project != SCHEMA {
        catalog.register_schema(&project, schema)?;
    }
    Ok(context)
}

fn wrong(error: datafusion::error::DataFusionError) -> Error {
    Error::Query(error.strip_backtrace())
}

/// Partitions of tables that are merged at the same time, each in its own bounded memory.
const STREAMS: usize = 2;
/// Bytes of sorting and grouping in memory, at most; beyond it they use the disk, or are refused.
const QUERY_BYTES_MAX: usize = 512 << 20;
