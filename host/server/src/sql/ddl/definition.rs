//! The definition of a table: the columns, the key, the partitions and the properties of a CREATE
//! TABLE.
//!
//! Under `ddl`, which also adds columns by it. Invariant: a definition that is read is one of a
//! Delta table, and its types and names are valid.

use sqlparser::ast;
use sqlparser::ast::{
    ColumnDef, ColumnOption, ColumnOptionDef, CreateTableOptions, DataType, Expr,
    HiveDistributionStyle, IndexColumn, ObjectNamePart, SqlOption, TableConstraint,
};

use super::names;
use crate::table::catalog::{Column, TableDefinition};

/// Reads the definition out of a CREATE TABLE; the dialect parses no clause but those that are
/// taken here.
///
/// Errors, in words: a clause that a Delta table does not have, or a value that it cannot have.
pub(super) fn read(create: ast::CreateTable, name: String) -> Result<TableDefinition, String> {
    let (columns, mut keys) = columns(create.columns)?;
    for constraint in create.constraints {
        keys.extend(primary_key(constraint)?);
    }
    let mut definition = TableDefinition {
        id: String::new(),
        name,
        columns,
        partition_columns: Vec::new(),
        primary_key: keys,
        buckets: BUCKETS_DEFAULT,
        comment: create.comment.map(|comment| comment.to_string()).unwrap_or_default(),
        partial_update: false,
    };
    if let HiveDistributionStyle::PARTITIONED { columns } = create.hive_distribution {
        definition.partition_columns = partition_columns(columns)?;
    }
    let mut transactional = false;
    if let CreateTableOptions::TableProperties(properties) = create.table_options {
        for property in properties {
            set_property(property, &mut definition, &mut transactional)?;
        }
    }
    check(&mut definition, transactional)?;
    Ok(definition)
}

/// Columns, and the names of those that are declared as the primary key.
///
/// Errors, in words: an option that a column of a Delta table does not have.
pub(super) fn columns(columns: Vec<ColumnDef>) -> Result<(Vec<Column>, Vec<String>), String> {
    let mut read = Vec::with_capacity(columns.len());
    let mut keys = Vec::new();
    for column in columns {
        let (column, is_key) = self::column(column)?;
        keys.extend(is_key.then(|| column.name.clone()));
        read.push(column);
    }
    Ok((read, keys))
}

/// Refuses names that the service keeps for itself.
pub(super) fn check_names(columns: &[Column]) -> Result<(), String> {
    match columns.iter().find(|column| column.name.starts_with("__")) {
        Some(column) => {
            Err(format!("column {}: names that begin with __ are the service's", column.name))
        }
        None => Ok(()),
    }
}

fn column(column: ColumnDef) -> Result<(Column, bool), String> {
    let ColumnDef { name, data_type, options } = column;
    let name = names::name(name)?;
    let column_type = type_text(&data_type);
    let mut column = Column { name, column_type, nullable: true, comment: String::new() };
    let mut is_key = false;
    for ColumnOptionDef { name, option } in options {
        if let Some(name) = name {
            return Err(format!("at \"CONSTRAINT {name}\": a column has no named constraints"));
        }
        match option {
            ColumnOption::NotNull => column.nullable = false,
            ColumnOption::Null => column.nullable = true,
            ColumnOption::PrimaryKey(key) if key.characteristics.is_none() => is_key = true,
            ColumnOption::Comment(comment) => column.comment = comment,
            other => return Err(format!("column {}: {other} is not supported", column.name)),
        }
    }
    Ok((column, is_key))
}

/// The words of a type, as the schema reads them.
fn type_text(data_type: &DataType) -> String {
    let text = match data_type {
        // A name in backticks, or a type in angle brackets, which is a name by now.
        DataType::Custom(name, modifiers) if modifiers.is_empty() => {
            let parts = name.0.iter().filter_map(ObjectNamePart::as_ident);
            parts.map(|part| part.value.as_str()).collect::<Vec<_>>().join(".")
        }
        other => other.to_string(),
    };
    text.to_ascii_lowercase()
}

fn primary_key(constraint: TableConstraint) -> Result<Vec<String>, String> {
    match constraint {
        TableConstraint::PrimaryKey(key) => key.columns.into_iter().map(key_column).collect(),
        other => Err(format!("{other} is not supported")),
    }
}

fn key_column(column: IndexColumn) -> Result<String, String> {
    match column.column.expr {
        Expr::Identifier(ident) => names::name(ident),
        other => Err(format!("primary key: {other} is no column")),
    }
}

fn partition_columns(columns: Vec<ColumnDef>) -> Result<Vec<Column>, String> {
    let (columns, keys) = self::columns(columns)?;
    if !keys.is_empty() {
        return Err("a partition column cannot be part of the primary key".to_owned());
    }
    Ok(columns)
}

fn set_property(
    property: SqlOption,
    definition: &mut TableDefinition,
    transactional: &mut bool,
) -> Result<(), String> {
    let (name, value) = match property {
        SqlOption::KeyValue { key, value } if key.quote_style == Some('\'') => {
            (key.value, names::literal(value)?)
        }
        other => return Err(format!("at \"{other}\": a string in quotes is expected")),
    };
    match (name.as_str(), value.as_str()) {
        ("transactional", _) => *transactional = value.eq_ignore_ascii_case("true"),
        ("write.bucket.num", _) => {
            let buckets: Option<u32> = value.parse().ok();
            let buckets = buckets.filter(|buckets| (1..=BUCKETS_MAX).contains(buckets));
            definition.buckets = buckets.ok_or_else(|| {
                format!("'write.bucket.num'='{value}': it must be 1 to {BUCKETS_MAX}")
            })?;
        }
        // Nothing reads a past version, so any retention is kept.
        ("acid.data.retain.hours", hours) if is_retention(hours) => {}
        ("acid.partial.fields.update.enable", _) => {
            definition.partial_update = value
                .to_ascii_lowercase()
                .parse()
                .map_err(|_| format!("'{name}'='{value}': it must be 'true' or 'false'"))?;
        }
        _ => return Err(format!("the property '{name}'='{value}' is not supported")),
    }
    Ok(())
}

fn is_retention(hours: &str) -> bool {
    hours.parse().is_ok_and(|hours: u32| hours == 0 || (24..=168).contains(&hours))
}

fn check(definition: &mut TableDefinition, transactional: bool) -> Result<(), String> {
    if !transactional || definition.primary_key.is_empty() {
        return Err("only Delta tables are supported: declare a PRIMARY KEY (…) and \
                    TBLPROPERTIES ('transactional'='true')"
            .to_owned());
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if definition.name.len() > NAME_BYTES_MAX || !definition.name.chars().all(plain) {
        return Err(format!(
            "table {}: a name is made of at most {NAME_BYTES_MAX} letters, digits and _",
            definition.name
        ));
    }
    check_names(&definition.columns)?;
    check_names(&definition.partition_columns)?;
    for column in &mut definition.columns {
        column.nullable &= !definition.primary_key.contains(&column.name);
    }
    let schema = definition.checked_schema()?;
    let key: Vec<_> = schema.key_columns().map(|column| (&column.column_type, None)).collect();
    upsert_sink_format::hash::hash_values(upsert_sink_format::hash::Hasher::Default, &key)
        .map_err(|error| format!("primary key: {error}"))?;
    Ok(())
}

/// As MaxCompute has it.
const BUCKETS_DEFAULT: u32 = 16;
const NAME_BYTES_MAX: usize = 128;
const BUCKETS_MAX: u32 = 4096;
