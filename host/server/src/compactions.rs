//! The major compactions of a server, one at a time.
//!
//! `jobs.rs` begins one for a script or a Merge task; `table/compact.rs` merges, on a thread for
//! what computes for long, and `tables.rs` puts each partition's result into the log. Invariant:
//! commits and readers wait for no compaction, and one that stops or dies at any moment leaves each
//! partition with its old files or with its new one.

use std::pin::pin;
use std::sync::Arc;

use futures::future::{Either, select};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use crate::background::StopSign;
use crate::components::{ServerComponents, Workers};
use crate::error::Error;
use crate::ids::Ids;
use crate::sql::change;
use crate::sql::ddl::CompactedTable;
use crate::sql::failure::SqlFailure;
use crate::sql::job::SqlJob;
use crate::stats::Counters;
use crate::table::catalog::{Compaction, Table, TableFile};
use crate::table::compact;
use crate::table::log::NotWritten;
use crate::tables::{Compacted, Tables};

/// Compacts tables.
pub(crate) struct Compactions {
    tables: Arc<Tables>,
    counters: Arc<Counters>,
    workers: Arc<dyn Workers>,
    ids: Ids,
    /// Held by the one that runs.
    turn: tokio::sync::Mutex<()>,
}

/// The end of a compaction that has not failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CompactionEnd {
    /// Every partition is merged.
    Whole,
    /// Its client stopped it, or the server stops.
    Halted,
}

impl Compactions {
    pub(crate) fn new(
        components: &ServerComponents,
        tables: &Arc<Tables>,
        counters: &Arc<Counters>,
    ) -> Self {
        Self {
            tables: Arc::clone(tables),
            counters: Arc::clone(counters),
            workers: Arc::clone(&components.workers),
            ids: Ids::new(components),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// Merges the files of a table or of one partition, for a job.
    ///
    /// Errors: there is no such table or partition; files cannot be read or written.
    pub(crate) async fn run(
        &self,
        wanted: &CompactedTable,
        job: &SqlJob,
        stop: &mut StopSign,
    ) -> Result<CompactionEnd, SqlFailure> {
        let (table_id, partitions) =
            change::compacted_partitions(&self.tables.project, &self.tables.catalog(), wanted)?;
        let (cancelled, stopped) = (pin!(job.wait()), pin!(stop.shown()));
        let mut halted = select(cancelled, stopped);
        let turn = match select(&mut halted, pin!(self.turn.lock())).await {
            Either::Left(_) => return Ok(CompactionEnd::Halted),
            Either::Right((turn, _)) => turn,
        };
        for values in partitions {
            let Some(table) = self.tables.catalog().table_by_id(&table_id).cloned() else {
                let name = &wanted.table.name;
                return Err(SqlFailure::NoTable(format!("table {name} was dropped")));
            };
            let files = table.partitions.get(&values).cloned().unwrap_or_default();
            if !compact::is_due(&files) {
                continue;
            }
            let merged = match select(&mut halted, pin!(self.merge(table, values))).await {
                Either::Left(_) => return Ok(CompactionEnd::Halted),
                Either::Right((merged, _)) => merged?,
            };
            self.put(merged, &files).await?;
        }
        self.tables.delete_replaced().await;
        drop(turn);
        Ok(CompactionEnd::Whole)
    }

    /// Puts merged files into the log. It is never stopped half-way.
    async fn put(&self, merged: Compaction, files: &[Arc<TableFile>]) -> Result<(), SqlFailure> {
        let error = match self.tables.compact(merged, files).await {
            Ok(Compacted::Yes) => {
                self.counters.count_compaction();
                return Ok(());
            }
            Ok(Compacted::No) => return Ok(()),
            Err(NotWritten::Decided(error) | NotWritten::Failed(error)) => error,
            Err(NotWritten::InDoubt(error)) => error,
        };
        Err(error.into())
    }

    /// Merges a partition's files on a thread for that; dropping the future ends it early.
    async fn merge(&self, table: Arc<Table>, values: Vec<String>) -> Result<Compaction, Error> {
        let directory = Arc::clone(self.tables.directory());
        let name = self.ids.resource();
        let (sender, merged) = oneshot::channel();
        let work = self.workers.begin(Box::pin(async move {
            let merged = compact::merge(&*directory, &table, &values, &name).await;
            // Nobody listens to one that was stopped.
            let _ = sender.send(merged);
        }));
        let _work = EndedOnDrop(work);
        merged.await.unwrap_or_else(|_| Err(Error::disk("data", "the server failed; see its log")))
    }
}

/// Work that ends with whoever waits for it.
struct EndedOnDrop(AbortHandle);

impl Drop for EndedOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
