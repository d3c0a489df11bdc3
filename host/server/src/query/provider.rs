//! Delta tables as DataFusion sees them.
//!
//! Between `select.rs` and `table/stream.rs`. Invariant: a query reads one version of the log,
//! whatever is committed meanwhile, and at most as many partitions at a time as the query has
//! streams.

use std::fmt;
use std::sync::Arc;

use arrow_schema::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::TryStreamExt;
use object_store::ObjectStore;

use super::prune;
use crate::table::catalog::Table;
use crate::table::merge::{PartitionFiles, Scan};
use crate::table::rows::query_schema;
use crate::table::stream;

/// One version of a table.
pub(crate) struct DeltaTable {
    table: Arc<Table>,
    schema: SchemaRef,
    objects: Arc<dyn ObjectStore>,
}

impl DeltaTable {
    pub(crate) fn new(table: Arc<Table>, objects: Arc<dyn ObjectStore>) -> Self {
        let schema = query_schema(&table.schema);
        Self { table, schema, objects }
    }

    /// The partitions that pass the filters, dealt out to streams so that each has about as many
    /// bytes.
    fn deal(
        &self,
        state: &dyn Session,
        filters: &[Expr],
        streams: usize,
    ) -> Result<Vec<Vec<PartitionFiles>>> {
        let passing = prune::passing(&self.table, state, filters)?;
        let mut partitions: Vec<_> = self
            .table
            .partitions
            .iter()
            .zip(passing)
            .filter(|((_, files), passes)| *passes && !files.is_empty())
            .map(|(partition, _)| partition)
            .map(|(values, files)| PartitionFiles { values: values.clone(), files: files.clone() })
            .collect();
        let bytes = |p: &PartitionFiles| p.files.iter().map(|file| file.bytes).sum::<u64>();
        partitions.sort_by_cached_key(|partition| std::cmp::Reverse(bytes(partition)));
        let mut dealt = vec![Vec::new(); streams.clamp(1, partitions.len().max(1))];
        let hands = dealt.len();
        for (at, partition) in partitions.into_iter().enumerate() {
            dealt[at % hands].push(partition);
        }
        Ok(dealt)
    }
}

impl fmt::Debug for DeltaTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DeltaTable").field(&self.table.definition.name).finish()
    }
}

#[async_trait]
impl TableProvider for DeltaTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| match prune::is_on_partitions(&self.table, filter) {
            // The query filters the rows once more: a partition is kept if in doubt.
            true => TableProviderFilterPushDown::Inexact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let all = || (0..self.schema.fields().len()).collect();
        let projection = projection.cloned().unwrap_or_else(all);
        let scan = stream::scan(&self.table, projection, Arc::clone(&self.objects));
        let scan = scan.map_err(|error| DataFusionError::External(Box::new(error)))?;
        let schema = Arc::clone(&scan.schema);
        let streams = self.deal(state, filters, state.config().target_partitions())?;
        let streams = streams.into_iter().map(|partitions| {
            let stream = MergedPartitions { scan: scan.clone(), partitions };
            Arc::new(stream) as Arc<dyn PartitionStream>
        });
        let plan =
            StreamingTableExec::try_new(schema, streams.collect(), None, None, false, limit)?;
        Ok(Arc::new(plan))
    }
}

/// Some partitions, one after another.
struct MergedPartitions {
    scan: Scan,
    partitions: Vec<PartitionFiles>,
}

impl fmt::Debug for MergedPartitions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MergedPartitions").field("partitions", &self.partitions).finish()
    }
}

impl PartitionStream for MergedPartitions {
    fn schema(&self) -> &SchemaRef {
        &self.scan.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let batches = stream::merged(self.scan.clone(), self.partitions.clone());
        let batches = batches.map_err(|error| DataFusionError::External(Box::new(error)));
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.scan.schema), batches))
    }
}
