//! Which partitions a query can leave unread: those whose values its filters refuse.
//!
//! Used by `provider.rs` before files are opened. Invariant: a partition is left out only if
//! no row of it can pass: rows of a partition have its values in the partition columns.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch, RecordBatchOptions};
use arrow_schema::Schema;
use datafusion::catalog::Session;
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::logical_expr::Expr;

use crate::table::catalog::Table;
use crate::table::rows::{parsed, query_schema};

/// Whether a filter can be judged by a partition's values alone.
pub(crate) fn is_on_partitions(table: &Table, filter: &Expr) -> bool {
    let names = &table.schema.partition_columns;
    let columns = filter.column_refs();
    !columns.is_empty()
        && !filter.is_volatile()
        && columns.iter().all(|column| names.iter().any(|c| c.name == column.name))
}

/// For each partition, in order, whether its rows can pass all these filters.
pub(crate) fn passing(table: &Table, state: &dyn Session, filters: &[Expr]) -> Result<Vec<bool>> {
    let mut passing = vec![true; table.partitions.len()];
    let filters: Vec<&Expr> =
        filters.iter().filter(|filter| is_on_partitions(table, filter)).collect();
    if filters.is_empty() || passing.is_empty() {
        return Ok(passing);
    }
    let batch = partition_values(table)?;
    let schema = DFSchema::try_from(batch.schema())?;
    for filter in filters {
        let judge = state.create_physical_expr(filter.clone(), &schema);
        let judged = judge.and_then(|j| j.evaluate(&batch)?.into_array(batch.num_rows()));
        // The query judges for itself what cannot be judged here, if there are rows at all.
        let Some(judged) = judged.as_ref().ok().and_then(|judged| judged.as_boolean_opt()) else {
            continue;
        };
        for (at, passes) in passing.iter_mut().enumerate() {
            // Null does not pass.
            *passes &= judged.is_valid(at) && judged.value(at);
        }
    }
    Ok(passing)
}

/// The values of all partitions as a batch, one row each.
fn partition_values(table: &Table) -> Result<RecordBatch> {
    let columns = &table.schema.partition_columns;
    let fields = query_schema(&table.schema);
    let fields: Vec<_> = fields.fields()[table.schema.columns.len()..].to_vec();
    let mut arrays = Vec::with_capacity(columns.len());
    for (at, column) in columns.iter().enumerate() {
        let values = table.partitions.keys().map(|values| values[at].as_str());
        arrays.push(parsed(column, values)?);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(table.partitions.len()));
    let schema = Arc::new(Schema::new(fields));
    Ok(RecordBatch::try_new_with_options(schema, arrays, &options)?)
}
