//! The text of the option `partition`: the levels of the partition that are fixed, and those that
//! are read from the row.
//!
//! Read by the option table, then held against the table's partition columns. Invariant: no level
//! is named twice, and every value keeps the rule of partition values and of its column's type.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use upsert_sink_format::error::Error;
use upsert_sink_format::partition::{canonical_value, check_value};
use upsert_sink_format::schema::{TableColumn, TableSchema, nearest};

/// One level that the option `partition` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionLevel {
    /// The partition column; after `SinkConfig::parse` as the table spells it.
    pub column: String,
    /// Its fixed value; none: taken from each row.
    pub value: Option<String>,
}

/// Reads `day='2018-01-01',hour`.
pub(super) fn parse(text: &str) -> Result<Vec<PartitionLevel>, String> {
    let mut levels: Vec<PartitionLevel> = Vec::new();
    if text.trim().is_empty() {
        return Ok(levels);
    }
    for part in text.split(',') {
        let (column, assigned) = match part.split_once('=') {
            Some((column, assigned)) => (column.trim(), Some(unquoted(assigned.trim()))),
            None => (part.trim(), None),
        };
        if column.is_empty() {
            return Err(format!("`{text}` has a level without a name: write `ds='2018'` or `ds`"));
        }
        if levels.iter().any(|level| level.column.eq_ignore_ascii_case(column)) {
            return Err(format!("`{text}` names `{column}` twice: name each level once"));
        }
        let value = assigned.map(value).transpose()?.map(ToString::to_string);
        levels.push(PartitionLevel { column: column.to_string(), value });
    }
    Ok(levels)
}

/// A value that may name a partition.
pub(super) fn value(text: &str) -> Result<&str, String> {
    check_value(text).map_err(|rule| format!("`{text}` cannot name a partition: {rule}"))?;
    Ok(text)
}

/// Finds the levels among the table's partition columns, and takes over the table's spelling.
pub(super) fn resolve(levels: &mut [PartitionLevel], schema: &TableSchema) -> Result<(), Error> {
    for level in levels {
        let named = |column: &&TableColumn| column.name.eq_ignore_ascii_case(&level.column);
        let Some(column) = schema.partition_columns.iter().find(named) else {
            return Err(unknown(&level.column, schema));
        };
        if let Some(value) = &level.value {
            let refused = |rule| {
                let message = format!("`{}='{value}'`: {rule}", column.name);
                Error::config("option `partition`", message)
            };
            level.value = Some(canonical_value(&column.column_type, value).map_err(refused)?);
        }
        level.column.clone_from(&column.name);
    }
    Ok(())
}

fn unknown(name: &str, schema: &TableSchema) -> Error {
    let names = || schema.partition_columns.iter().map(|column| column.name.as_str());
    let remedy = match (nearest(name, names()), schema.partition_columns.is_empty()) {
        (_, true) => "the table has none; leave the option out".to_string(),
        (Some(near), false) => format!("did you mean `{near}`?"),
        (None, false) => format!("they are `{}`", names().collect::<Vec<_>>().join("`, `")),
    };
    Error::config(
        "option `partition`",
        format!("`{name}` is not a partition column of {}: {remedy}", schema.name),
    )
}

fn unquoted(text: &str) -> &str {
    let within = |quote| text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    within('\'').or_else(|| within('"')).unwrap_or(text)
}
