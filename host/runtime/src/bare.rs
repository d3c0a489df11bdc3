//! A writer instance without a driver: for benchmarks of the guest alone.
//!
//! Beside the row's way, not on it. Invariant: what the guest submits is kept, and never sent.

use arrow_array::RecordBatch;
use upsert_sink_core::io::Task;

use crate::batch;
use crate::batch::RowKind;
use crate::capability::grant::Grant;
use crate::error::Result;
use crate::instance::Instance;
use crate::plugin::Plugin;
use crate::sandbox::Limits;

/// An opened writer in its sandbox, with epochs and all limits.
pub struct BareWriter {
    instance: Instance,
}

impl BareWriter {
    /// Opens it without state.
    ///
    /// # Errors
    /// The guest's.
    pub fn open(plugin: &Plugin, task: &Task) -> Result<Self> {
        let name = String::from("bare writer");
        let mut instance = Instance::new(plugin, name, Limits::default(), Grant::NONE)?;
        instance.writer_open(0, task, &[])?;
        Ok(Self { instance })
    }

    /// Hands over a batch in the `columns` form; tells whether the next one would be accepted.
    ///
    /// # Errors
    /// The guest's.
    pub fn write(&mut self, now_ms: u64, batch: &[u8]) -> Result<bool> {
        self.instance.write(now_ms, batch).map(|progress| progress.accepting)
    }
}

/// Name and row type of each column.
pub type RowColumns = Vec<(String, String)>;

/// A batch's row columns, for a task, and its bytes in the `columns` form.
///
/// # Errors
/// `InvalidConfig` naming a column whose type has no place in the contract.
pub fn columns(rows: &RecordBatch, kinds: &[RowKind]) -> Result<(RowColumns, Vec<u8>)> {
    Ok((batch::row_columns(&rows.schema())?, batch::encode(rows, kinds)?))
}
