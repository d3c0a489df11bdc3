//! Queries over the merged tables of one version of the log.
//!
//! Reached from the public `query` and from `job`; reads through `table/provider.rs`. Invariant: a
//! query changes nothing: only SELECT is planned.

use std::sync::Arc;

use arrow_array::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::DataFrame;
use datafusion::prelude::SessionConfig;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::DFParser;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;
use object_store::ObjectStore;

use super::failure::SqlFailure;
use super::tokens::Tokens;
use super::tokens::parse_query;
use crate::error::Error;
use crate::table::catalog::Tables;
use crate::table::provider::DeltaTable;

/// One SELECT that was read.
#[derive(Clone, Debug)]
pub(crate) struct Query(Statement);

/// What a query reads: one version of all tables.
#[derive(Clone)]
pub(crate) struct Readable {
    pub(crate) project: String,
    pub(crate) tables: Tables,
    pub(crate) objects: Arc<dyn ObjectStore>,
}

impl Query {
    /// Reads a query as MaxCompute writes it: names in backticks, strings in any quotes.
    ///
    /// Errors, in words.
    pub(crate) fn of_tokens(tokens: Tokens) -> Result<Self, String> {
        let deep = tokens.operators();
        if deep > OPERATORS_MAX {
            return Err(format!(
                "the query has {deep} operators, more than {OPERATORS_MAX}; write IN (…) for a \
                 chain of OR, or send it in parts"
            ));
        }
        match parse_query(tokens)? {
            statement @ ast::Statement::Query(_) => {
                Ok(Self(Statement::Statement(statement.into())))
            }
            other => Err(format!("{} is not supported", first_word(&other.to_string()))),
        }
    }

    /// Reads a query as the standard writes it: names in double quotes.
    ///
    /// Errors: `Query`.
    fn of_text(sql: &str) -> Result<Self, Error> {
        let mut statements = DFParser::parse_sql(sql).map_err(wrong)?;
        let (Some(statement), true) = (statements.pop_front(), statements.is_empty()) else {
            return Err(Error::Query("write exactly one SELECT".to_owned()));
        };
        match &statement {
            Statement::Statement(inner) if matches!(**inner, ast::Statement::Query(_)) => {
                Ok(Self(statement))
            }
            _ => {
                let named = first_word(&statement.to_string());
                let message = format!("{named} is not supported: only SELECT reads tables here");
                Err(Error::Query(message))
            }
        }
    }

    /// Begins to run it.
    ///
    /// Errors: `NoTable` for the first table that there is not; `Semantic` for what cannot be
    /// planned.
    pub(crate) async fn stream(
        self,
        readable: &Readable,
    ) -> Result<SendableRecordBatchStream, SqlFailure> {
        let context = readable.context().map_err(wrong)?;
        let references = context.state().resolve_table_references(&self.0).map_err(wrong)?;
        for reference in references {
            // Of a project or schema that there is not, it is an error to ask.
            if !context.table_exist(reference.clone()).unwrap_or(false) {
                let message = format!("table {reference} cannot be resolved");
                return Err(SqlFailure::NoTable(message));
            }
        }
        let frame = self.plan(&context).await.map_err(wrong)?;
        Ok(frame.execute_stream().await.map_err(wrong)?)
    }

    async fn plan(self, context: &SessionContext) -> datafusion::error::Result<DataFrame> {
        let plan = context.state().statement_to_plan(self.0).await?;
        let options = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false);
        options.with_allow_statements(false).verify_plan(&plan)?;
        context.execute_logical_plan(plan).await
    }
}

/// Runs one SELECT. There is at least one batch, so that the columns are known.
pub(crate) async fn run(readable: &Readable, sql: &str) -> Result<Vec<RecordBatch>, Error> {
    let query = Query::of_text(sql)?;
    let context = readable.context().map_err(wrong)?;
    let frame = query.plan(&context).await.map_err(wrong)?;
    let schema = Arc::clone(frame.schema().inner());
    let mut batches = frame.collect().await.map_err(wrong)?;
    if batches.is_empty() {
        batches.push(RecordBatch::new_empty(schema));
    }
    Ok(batches)
}

impl Readable {
    /// Tables are found as `t`, `project.t`, `default.t` and `project.default.t`.
    fn context(&self) -> datafusion::error::Result<SessionContext> {
        let project = self.project.to_lowercase();
        let config = SessionConfig::new()
            .with_target_partitions(STREAMS)
            .with_information_schema(false)
            .with_default_catalog_and_schema(&*project, SCHEMA)
            .with_create_default_catalog_and_schema(true);
        let runtime =
            RuntimeEnvBuilder::new().with_memory_limit(QUERY_BYTES_MAX, 1.0).build_arc()?;
        let context = SessionContext::new_with_config_rt(config, runtime);
        let catalog = context.catalog(&project).expect("it was created with the context");
        let schema = catalog.schema(SCHEMA).expect("it was created with the context");
        for (name, table) in &self.tables {
            let provider = DeltaTable::new(Arc::clone(table), Arc::clone(&self.objects));
            schema.register_table(name.clone(), Arc::new(provider))?;
        }
        if project != SCHEMA {
            catalog.register_schema(&project, schema)?;
        }
        Ok(context)
    }
}

fn first_word(text: &str) -> String {
    text.split_whitespace().next().unwrap_or_default().to_owned()
}

fn wrong(error: datafusion::error::DataFusionError) -> Error {
    Error::Query(error.strip_backtrace())
}

/// The one schema.
const SCHEMA: &str = "default";
/// Words and marks that each make a query's tree deeper, at most: planning goes down the tree on a
/// stack of 2 MiB.
const OPERATORS_MAX: usize = 500;
/// Partitions of tables that are merged at the same time, each in its own bounded memory.
const STREAMS: usize = 2;
/// What sorting and grouping may hold in memory; beyond it they use the disk, or are refused.
const QUERY_BYTES_MAX: usize = 512 << 20;
