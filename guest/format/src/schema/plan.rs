//! How the engine's rows fall onto the table: which column comes from where.
//!
//! Built once at open from the schema, the rows' columns and the static partition; batch,
//! partition, hash and record read by it. Invariant: every source is in range and its row type may
//! become the column's type.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::nearest::nearest;
use super::row_type::RowType;
use super::{TableColumn, TableSchema};
use crate::error::Error;

/// Where the value of a partition column comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartitionSource {
    /// From this column of the batch.
    Row(usize),
    /// The same for all rows.
    Static(String),
}

/// How the columns of a batch fall onto the table's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowPlan {
    /// The batch's columns: name and type, in the batch's order.
    pub row_columns: Vec<(String, RowType)>,
    /// For each of the table's columns the column of the batch; none: always null.
    pub columns: Vec<Option<usize>>,
    /// For each of the table's partition columns where its value comes from.
    pub partition_columns: Vec<PartitionSource>,
}

impl RowPlan {
    /// Matches the rows' columns (name, row type) and the static partition (column, value) with the
    /// table. Names are matched without regard to case.
    ///
    /// Errors: `InvalidConfig` for a row type that is not known, a column that the table does not
    /// have or that occurs twice, a type that cannot be written to its column, a missing key,
    /// partition or not-nullable column, and a partition column that is both fixed and in the rows.
    pub fn new(
        schema: &TableSchema,
        row_columns: &[(String, String)],
        static_partition: &[(String, String)],
    ) -> Result<Self, Error> {
        let row_columns = row_columns
            .iter()
            .map(|(name, text)| {
                let row_type = RowType::parse(text).map_err(|error| Error {
                    at: format!("column {name}, {}", error.at),
                    ..error
                })?;
                Ok((name.clone(), row_type))
            })
            .collect::<Result<Vec<_>, Error>>()?;
        check_row_columns(schema, &row_columns)?;
        check_static_partition(schema, static_partition)?;
        let mut plan = Self { row_columns, columns: Vec::new(), partition_columns: Vec::new() };
        for (index, column) in schema.columns.iter().enumerate() {
            let source = plan.source(schema, column)?;
            if source.is_none() && !column.nullable {
                return Err(missing_column(schema, column, schema.key.contains(&index)));
            }
            plan.columns.push(source);
        }
        for column in &schema.partition_columns {
            let source = plan.partition_source(schema, column, static_partition)?;
            plan.partition_columns.push(source);
        }
        Ok(plan)
    }

    /// The column of the batch with the name of a table's column, its type checked.
    fn source(&self, schema: &TableSchema, column: &TableColumn) -> Result<Option<usize>, Error> {
        let found =
            self.row_columns.iter().position(|(name, _)| name.eq_ignore_ascii_case(&column.name));
        let Some(index) = found else { return Ok(None) };
        let row_type = &self.row_columns[index].1;
        if row_type.may_become(&column.column_type) {
            return Ok(Some(index));
        }
        let message = format!(
            "the rows' type {row_type} cannot be written to the table's type {} without loss; cast \
             the column in the query, or change the table",
            column.column_type
        );
        Err(Error::config(format!("{}, column {}", schema.name, column.name), message))
    }

    fn partition_source(
        &self,
        schema: &TableSchema,
        column: &TableColumn,
        static_partition: &[(String, String)],
    ) -> Result<PartitionSource, Error> {
        let fixed =
            static_partition.iter().find(|(name, _)| name.eq_ignore_ascii_case(&column.name));
        let place = || format!("{}, partition column {}", schema.name, column.name);
        match (self.source(schema, column)?, fixed) {
            (Some(index), None) => Ok(PartitionSource::Row(index)),
            (None, Some((_, value))) => Ok(PartitionSource::Static(value.clone())),
            (Some(_), Some((_, value))) => Err(Error::config(
                place(),
                format!("fixed to {value} and also a column of the rows; leave one of the two out"),
            )),
            (None, None) => Err(Error::config(
                place(),
                "neither a column of the rows nor fixed by the sink's partition option; provide \
                 one of the two",
            )),
        }
    }
}

fn check_row_columns(schema: &TableSchema, row_columns: &[(String, RowType)]) -> Result<(), Error> {
    for (index, (name, _)) in row_columns.iter().enumerate() {
        let place = || format!("{}, column {name}", schema.name);
        let earlier = &row_columns[..index];
        if earlier.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)) {
            return Err(Error::config(
                place(),
                "the rows have two columns of this name; drop or rename one",
            ));
        }
        let mut names = schema.columns.iter().chain(&schema.partition_columns);
        if !names.clone().any(|column| column.name.eq_ignore_ascii_case(name)) {
            let all = names.by_ref().map(|column| column.name.as_str());
            let message = match nearest(name, all) {
                Some(other) => format!("the table has no such column; did you mean {other}?"),
                None => String::from(
                    "the table has no such column; drop it from the rows, or add it to the table",
                ),
            };
            return Err(Error::config(place(), message));
        }
    }
    Ok(())
}

fn check_static_partition(
    schema: &TableSchema,
    static_partition: &[(String, String)],
) -> Result<(), Error> {
    for (index, (name, value)) in static_partition.iter().enumerate() {
        let place = || format!("{}, partition {name}={value}", schema.name);
        if static_partition[..index].iter().any(|(other, _)| other.eq_ignore_ascii_case(name)) {
            return Err(Error::config(
                place(),
                "this partition column is fixed twice; leave one out",
            ));
        }
        let mut names = schema.partition_columns.iter().map(|column| column.name.as_str());
        if !names.clone().any(|column| column.eq_ignore_ascii_case(name)) {
            let message = match nearest(name, names.by_ref()) {
                Some(other) => {
                    format!("the table has no such partition column; did you mean {other}?")
                }
                None => String::from("the table has no such partition column; leave it out"),
            };
            return Err(Error::config(place(), message));
        }
    }
    Ok(())
}

fn missing_column(schema: &TableSchema, column: &TableColumn, is_key: bool) -> Error {
    let message = if is_key {
        "the rows lack this column of the primary key; without it a row has no identity: add it to \
         the rows"
    } else {
        "the rows lack this column, and the table does not let it be null: add it to the rows, or \
         make it nullable"
    };
    Error::config(format!("{}, column {}", schema.name, column.name), message)
}
