//! The readers of foreign text, alone: for fuzzing.
//!
//! Beside the way of a request, not on it. Invariant: all that a statement means is
//! shown, so that two texts with the same meaning do the same.

use crate::sql::ddl::{NamedValues, Statement, TableName};
use crate::sql::script;
use crate::sql::script::Script;
use crate::table::catalog::{Column, TableDefinition};

/// A statement that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Understood {
    /// All of it, for comparison.
    pub meaning: String,
    /// The same statement in one fixed spelling, for the kinds that have one.
    pub sql: Option<String>,
}

/// Reads statements that change the catalog.
///
/// # Errors
/// The first thing that is not understood or not supported, in words.
pub fn ddl(text: &str) -> Result<Vec<Understood>, String> {
    let understood = |statement: Statement| Understood {
        meaning: format!("{statement:?}"),
        sql: spelled(&statement),
    };
    match script::parse(text).map_err(|failure| failure.to_string())? {
        Script::Changes(statements) => Ok(statements.into_iter().map(understood).collect()),
        Script::Compact(table) => Ok(vec![Understood { meaning: format!("{table:?}"), sql: None }]),
        Script::Query(_) => Err(String::from("a query changes nothing")),
    }
}

fn spelled(statement: &Statement) -> Option<String> {
    if let Statement::CreateTable { table, if_not_exists, definition } = statement {
        let condition = if *if_not_exists { "IF NOT EXISTS " } else { "" };
        return Some(format!("CREATE TABLE {condition}{}{}", path(table), body(definition)));
    }
    if let Statement::AddPartitions { table, if_not_exists, partitions } = statement {
        let condition = if *if_not_exists { "IF NOT EXISTS " } else { "" };
        let partitions: Vec<String> = partitions.iter().map(partition).collect();
        let partitions = partitions.join(" ");
        return Some(format!("ALTER TABLE {} ADD {condition}{partitions}", path(table)));
    }
    if let Statement::DropTable { table, if_exists } = statement {
        let condition = if *if_exists { "IF EXISTS " } else { "" };
        return Some(format!("DROP TABLE {condition}{}", path(table)));
    }
    None
}

fn body(definition: &TableDefinition) -> String {
    let names: Vec<String> = definition.primary_key.iter().map(|key| name(key)).collect();
    let mut text =
        format!(" ({}, PRIMARY KEY ({}))", columns(&definition.columns), names.join(", "));
    if !definition.comment.is_empty() {
        text += &format!(" COMMENT {}", literal(&definition.comment));
    }
    if !definition.partition_columns.is_empty() {
        text += &format!(" PARTITIONED BY ({})", columns(&definition.partition_columns));
    }
    let buckets = definition.buckets;
    text + &format!(" TBLPROPERTIES ('transactional'='true', 'write.bucket.num'='{buckets}')")
}

fn columns(columns: &[Column]) -> String {
    let columns: Vec<String> = columns.iter().map(column).collect();
    columns.join(", ")
}

fn column(column: &Column) -> String {
    let null = if column.nullable { "" } else { " NOT NULL" };
    let comment = match column.comment.as_str() {
        "" => String::new(),
        comment => format!(" COMMENT {}", literal(comment)),
    };
    format!("{} {}{null}{comment}", name(&column.name), column.column_type)
}

fn partition(values: &NamedValues) -> String {
    let values: Vec<String> = values
        .iter()
        .map(|(column, value)| format!("{}={}", name(column), literal(value)))
        .collect();
    format!("PARTITION ({})", values.join(", "))
}

fn path(table: &TableName) -> String {
    let parts = [table.project.as_ref(), table.schema.as_ref(), Some(&table.name)];
    let parts: Vec<String> = parts.into_iter().flatten().map(|part| name(part)).collect();
    parts.join(".")
}

fn name(text: &str) -> String {
    format!("`{}`", text.replace('`', "``"))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
