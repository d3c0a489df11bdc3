//! The target table and the engine's rows: names, types, keys, and how one falls onto the other.
//!
//! First in a row's way: built once at open, before the first batch. Next is `batch`, which reads
//! rows by the plan. Invariant: whatever is built here is consistent; all checks of names and types
//! happen here and never again.

mod column_type;
mod nearest;
mod plan;
mod row_column;
mod row_type;
mod type_text;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

pub use column_type::ColumnType;
pub use nearest::nearest;
pub use plan::{PartitionSource, RowPlan};
pub use row_column::RowColumn;
pub use row_type::RowType;
pub use type_text::DEPTH_MAX;

use crate::error::Error;
use crate::tunnel::{ColumnDescription, TableDescription};

/// One column of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableColumn {
    /// Its name.
    pub name: String,
    /// Its type.
    pub column_type: ColumnType,
    /// Whether a row may leave it empty; never true of a key column.
    pub nullable: bool,
}

/// The target table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSchema {
    /// Its full name, for messages.
    pub name: String,
    /// The columns stored in rows; a record numbers them from 1 in this order.
    pub columns: Vec<TableColumn>,
    /// The columns that name a partition, outermost first.
    pub partition_columns: Vec<TableColumn>,
    /// The primary key: indexes into `columns`, rising.
    pub key: Vec<usize>,
    /// Hash buckets of each partition, at least one.
    pub buckets: u32,
}

impl TableSchema {
    /// Reads a table as its catalog describes it.
    ///
    /// Errors: `InvalidConfig` for an unknown type, a name that occurs twice, a table without
    /// columns, primary key or buckets, a key column that does not exist, or a partition column of
    /// a type that cannot name a partition.
    pub fn parse(description: &TableDescription) -> Result<Self, Error> {
        let name = description.name.clone();
        let mut columns = parse_columns(&name, &description.columns)?;
        let partition_columns = parse_columns(&name, &description.partition_columns)?;
        check_names(&name, columns.iter().chain(&partition_columns))?;
        for column in &partition_columns {
            check_partition_column(&name, column)?;
        }
        let key = parse_key(&name, &columns, &description.primary_key)?;
        for index in &key {
            columns[*index].nullable = false;
        }
        if description.buckets == 0 {
            return Err(Error::config(
                name,
                "the table has 0 buckets; a Delta table has at least 1",
            ));
        }
        Ok(Self { name, columns, partition_columns, key, buckets: description.buckets })
    }

    /// The columns of the primary key, in the table's order.
    pub fn key_columns(&self) -> impl Iterator<Item = &TableColumn> {
        self.key.iter().map(|index| &self.columns[*index])
    }

    /// The types of the columns, as `decode_pack` wants them.
    pub fn column_types(&self) -> Vec<ColumnType> {
        self.columns.iter().map(|column| column.column_type.clone()).collect()
    }
}

fn parse_columns(table: &str, columns: &[ColumnDescription]) -> Result<Vec<TableColumn>, Error> {
    columns
        .iter()
        .map(|column| {
            let column_type = ColumnType::parse(&column.column_type).map_err(|error| {
                let place = format!("{table}, column {}, {}", column.name, error.at);
                Error { at: place, ..error }
            })?;
            Ok(TableColumn { name: column.name.clone(), column_type, nullable: column.nullable })
        })
        .collect()
}

fn check_names<'a>(
    table: &str,
    columns: impl Iterator<Item = &'a TableColumn>,
) -> Result<(), Error> {
    let mut names: Vec<String> = columns.map(|column| column.name.to_lowercase()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => {
            Err(Error::config(table, format!("the table has two columns named {}", pair[0])))
        }
        None => Ok(()),
    }
}

fn check_partition_column(table: &str, column: &TableColumn) -> Result<(), Error> {
    let names_partitions = match &column.column_type {
        ColumnType::String | ColumnType::Varchar(_) | ColumnType::Char(_) | ColumnType::Date => {
            true
        }
        other => other.integer_range().is_some(),
    };
    if names_partitions {
        return Ok(());
    }
    let message = format!(
        "{} cannot name a partition; partition columns are string, varchar, char, date or integers",
        column.column_type
    );
    Err(Error::config(format!("{table}, partition column {}", column.name), message))
}

fn parse_key(table: &str, columns: &[TableColumn], names: &[String]) -> Result<Vec<usize>, Error> {
    if names.is_empty() {
        return Err(Error::config(
            table,
            "the table has no primary key; create it with PRIMARY KEY (…) and \
             TBLPROPERTIES ('transactional' = 'true')",
        ));
    }
    let mut key = Vec::with_capacity(names.len());
    for name in names {
        let found = columns.iter().position(|column| column.name.eq_ignore_ascii_case(name));
        key.push(found.ok_or_else(|| {
            Error::config(
                format!("{table}, primary key {name}"),
                "the table has no such column; a primary key is made of columns stored in rows",
            )
        })?);
    }
    key.sort_unstable();
    key.dedup();
    Ok(key)
}

#[cfg(test)]
mod tests;
