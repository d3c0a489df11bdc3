//! CREATE TABLE, ALTER TABLE … ADD PARTITION, ADD COLUMNS or COMPACT MAJOR, TRUNCATE and DROP
//! TABLE, as MaxCompute writes them.
//!
//! Between `script`, which splits a text into statements, and `change`, which carries them out:
//! `dialect` makes a tree of a statement, which is read here. Invariant: a statement that is read
//! is supported whole; any clause that is not is refused by its name.

mod definition;
mod names;
#[cfg(test)]
mod tests;

use sqlparser::ast;
use sqlparser::ast::{AlterTableOperation, ColumnDef, Expr, ObjectName, ObjectType, Partition};

use self::definition::{check_names, columns};
pub(crate) use self::names::TableName;
use self::names::{literal, name, table_name};
use super::dialect::SUPPORTED;
use super::tokens::Tokens;
use crate::table::catalog::{Column, TableDefinition};

/// A statement that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    Change(Statement),
    Compact(CompactedTable),
}

/// The table whose files are to be merged, or its one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CompactedTable {
    pub(crate) table: TableName,
    pub(crate) partition: Option<NamedValues>,
}

/// A statement that changes the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Statement {
    /// All of them can be null.
    AddColumns {
        table: TableName,
        if_not_exists: bool,
        columns: Vec<Column>,
    },
    /// Partitions as columns and values, in the order in which they were written.
    AddPartitions {
        table: TableName,
        if_not_exists: bool,
        partitions: Vec<NamedValues>,
    },
    CreateTable {
        table: TableName,
        if_not_exists: bool,
        definition: TableDefinition,
    },
    DropTable {
        table: TableName,
        if_exists: bool,
    },
    /// Empties all partitions, if none is named.
    Truncate {
        table: TableName,
        partitions: Vec<NamedValues>,
    },
}

impl Statement {
    /// The table that it is about.
    pub(crate) fn table(&self) -> &TableName {
        match self {
            Self::AddColumns { table, .. }
            | Self::AddPartitions { table, .. }
            | Self::CreateTable { table, .. }
            | Self::DropTable { table, .. }
            | Self::Truncate { table, .. } => table,
        }
    }
}

/// A partition's columns with their values.
pub(crate) type NamedValues = Vec<(String, String)>;

/// Reads one statement.
///
/// Errors, in words: the first thing that is not understood or not supported.
pub(crate) fn parse(tokens: Tokens) -> Result<Parsed, String> {
    let words = tokens.first_words();
    if !STATEMENTS.iter().any(|statement| tokens.begins_with(statement)) {
        return Err(format!("\"{words}\" is not supported: {SUPPORTED}"));
    }
    let change = match tokens.parse_change()? {
        ast::Statement::CreateTable(table) => create_table(table),
        ast::Statement::AlterTable(table) => alter_table(table),
        ast::Statement::Truncate(truncate) => truncate_table(truncate),
        statement @ ast::Statement::Drop { .. } => drop_table(statement),
        ast::Statement::OptimizeTable { name, partition, .. } => {
            return compact_table(name, partition).map(Parsed::Compact);
        }
        _ => Err(format!("\"{words}\" is not supported: {SUPPORTED}")),
    };
    change.map(Parsed::Change)
}

/// The dialect makes this tree of COMPACT MAJOR alone.
fn compact_table(name: ObjectName, partition: Option<Partition>) -> Result<CompactedTable, String> {
    let partition = partition.map(equations_of).transpose()?;
    Ok(CompactedTable { table: table_name(name)?, partition })
}

fn create_table(create: ast::CreateTable) -> Result<Statement, String> {
    let if_not_exists = create.if_not_exists;
    let table = table_name(create.name.clone())?;
    let definition = definition::read(create, table.name.clone())?;
    Ok(Statement::CreateTable { table, if_not_exists, definition })
}

fn alter_table(alter: ast::AlterTable) -> Result<Statement, String> {
    let ast::AlterTable {
        name,
        if_exists: false,
        only: false,
        operations,
        location: None,
        on_cluster: None,
        table_type: None,
        end_token: _,
    } = alter
    else {
        return Err(format!("\"{alter}\" is not supported: {SUPPORTED}"));
    };
    let table = table_name(name)?;
    let mut columns = Vec::new();
    let mut all_if_not_exists = false;
    for operation in operations {
        match operation {
            AlterTableOperation::AddPartitions { if_not_exists, new_partitions } => {
                let partitions = new_partitions.into_iter().map(equations_of);
                let partitions = partitions.collect::<Result<_, _>>()?;
                return Ok(Statement::AddPartitions { table, if_not_exists, partitions });
            }
            AlterTableOperation::AddColumn {
                column_keyword: _,
                if_not_exists,
                column_def,
                column_position: None,
            } => {
                all_if_not_exists = if_not_exists;
                columns.push(column_def);
            }
            AlterTableOperation::AddConstraint { .. } => {
                return Err("ADD COLUMNS: a primary key never changes".to_owned());
            }
            other => return Err(format!("ALTER TABLE … {other} is not supported: {SUPPORTED}")),
        }
    }
    let columns = added_columns(columns)?;
    Ok(Statement::AddColumns { table, if_not_exists: all_if_not_exists, columns })
}

fn truncate_table(truncate: ast::Truncate) -> Result<Statement, String> {
    let words = truncate.to_string();
    let ast::Truncate {
        table_names,
        partitions,
        table: true,
        if_exists: false,
        identity: None,
        cascade: None,
        on_cluster: None,
    } = truncate
    else {
        return Err(format!("\"{words}\" is not supported: {SUPPORTED}"));
    };
    let target = one(table_names, "TRUNCATE TABLE")?;
    let partitions = partitions.unwrap_or_default().into_iter().map(named_values);
    let partitions = partitions.collect::<Result<_, _>>()?;
    Ok(Statement::Truncate { table: table_name(target.name)?, partitions })
}

fn drop_table(drop: ast::Statement) -> Result<Statement, String> {
    let ast::Statement::Drop {
        object_type: ObjectType::Table,
        if_exists,
        names,
        cascade,
        restrict,
        purge,
        temporary: false,
        table: None,
    } = drop
    else {
        return Err(format!("\"{drop}\" is not supported: {SUPPORTED}"));
    };
    let clauses = [(cascade, "CASCADE"), (restrict, "RESTRICT"), (purge, "PURGE")];
    if let Some((_, clause)) = clauses.iter().find(|(is_there, _)| *is_there) {
        return Err(format!("{clause} is not supported in DROP TABLE"));
    }
    Ok(Statement::DropTable { table: table_name(one(names, "DROP TABLE")?)?, if_exists })
}

fn one<T>(items: Vec<T>, statement: &str) -> Result<T, String> {
    let mut items = items.into_iter();
    match (items.next(), items.next()) {
        (Some(item), None) => Ok(item),
        _ => Err(format!("{statement} of several tables is not supported: write one for each")),
    }
}

fn added_columns(columns: Vec<ColumnDef>) -> Result<Vec<Column>, String> {
    let (columns, keys) = self::columns(columns)?;
    if !keys.is_empty() {
        return Err("ADD COLUMNS: a primary key never changes".to_owned());
    }
    if let Some(column) = columns.iter().find(|column| !column.nullable) {
        return Err(format!(
            "ADD COLUMNS: column {} is NOT NULL, but rows that are there already have no value \
             of it; leave NOT NULL out",
            column.name
        ));
    }
    check_names(&columns)?;
    Ok(columns)
}

fn equations_of(partition: Partition) -> Result<NamedValues, String> {
    match partition {
        Partition::Partitions(equations) => equations.into_iter().map(named_value).collect(),
        other => Err(format!("{other} is not supported")),
    }
}

fn named_values(partition: Expr) -> Result<NamedValues, String> {
    match partition {
        Expr::Tuple(equations) => equations.into_iter().map(named_value).collect(),
        other => Err(format!("PARTITION ({other}) is not supported")),
    }
}

fn named_value(equation: Expr) -> Result<(String, String), String> {
    match equation {
        Expr::BinaryOp { left, op: ast::BinaryOperator::Eq, right } => match *left {
            Expr::Identifier(ident) => Ok((name(ident)?, literal(*right)?)),
            other => Err(format!("at \"{other}\": a name is expected")),
        },
        other => Err(format!("at \"{other}\": a name and its value are expected")),
    }
}

/// The words that a statement begins with which is read here.
const STATEMENTS: [&str; 4] = ["CREATE TABLE", "ALTER TABLE", "TRUNCATE TABLE", "DROP TABLE"];
