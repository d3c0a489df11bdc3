//! One version of all tables of a directory, for reading.
//!
//! Made by `tables.rs`, or of a directory without a server (`server.rs`); read by queries, and
//! table by table in here. Invariant: whatever is committed meanwhile, it stays the same.

use std::sync::Arc;

use arrow_array::RecordBatch;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStore;

use super::catalog::{Table, TablesByName};
use super::merge::PartitionFiles;
use super::stream::{merged, scan};
use crate::error::Error;

/// The rows of a table, as they are read: in batches of at most 8192 rows, each of one partition.
pub type TableRows = BoxStream<'static, Result<RecordBatch, Error>>;

/// One version of all tables.
#[derive(Clone)]
pub(crate) struct Readable {
    pub(crate) project: String,
    pub(crate) tables: TablesByName,
    pub(crate) objects: Arc<dyn ObjectStore>,
}

impl Readable {
    /// The rows of a table, partition by partition, in the order of their values.
    ///
    /// Errors: `NoTable`, `NoColumn`; those of the rows are `Read`.
    pub(crate) fn rows(&self, name: &str, columns: Option<&[String]>) -> Result<TableRows, Error> {
        let table = self.table(name).ok_or_else(|| Error::NoTable { table: name.to_owned() })?;
        let projection = match columns {
            None => {
                (0..table.schema.columns.len() + table.schema.partition_columns.len()).collect()
            }
            Some(names) => places(table, names)?,
        };
        let scan = scan(table, projection, Arc::clone(&self.objects)).map_err(Error::Read)?;
        let filled = table.partitions.iter().filter(|(_, files)| !files.is_empty());
        let partitions = filled
            .map(|(values, files)| PartitionFiles { values: values.clone(), files: files.clone() });
        Ok(merged(scan, partitions.collect()).map_err(Error::Read).boxed())
    }

    /// A table by the names that queries know it by: `t`, `project.t`, `default.t`,
    /// `project.default.t`.
    fn table(&self, name: &str) -> Option<&Arc<Table>> {
        let (name, project) = (name.to_lowercase(), self.project.to_lowercase());
        let is_schema = |schema: &str| schema == SCHEMA || schema == project;
        match name.split('.').collect::<Vec<_>>()[..] {
            [table] => self.tables.get(table),
            [schema, table] if is_schema(schema) => self.tables.get(table),
            [of, schema, table] if of == project && is_schema(schema) => self.tables.get(table),
            _ => None,
        }
    }
}

/// Where these columns are among the table's columns and its partition columns.
fn places(table: &Table, names: &[String]) -> Result<Vec<usize>, Error> {
    let all = || table.schema.columns.iter().chain(&table.schema.partition_columns);
    let place = |name: &String| {
        all().position(|column| column.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
            let known: Vec<&str> = all().map(|column| column.name.as_str()).collect();
            let (table, column) = (table.definition.name.clone(), name.clone());
            Error::NoColumn { table, column, known: known.join(", ") }
        })
    };
    names.iter().map(place).collect()
}

/// The one schema.
pub(crate) const SCHEMA: &str = "default";
