//! Carries out statements that change the catalog.
//!
//! Between `script` and the tables; a table that is dropped takes its sessions with it. Invariant:
//! a statement is decided on the newest catalog and is durable before it is done; of several, those
//! before the one that fails stay done.

use super::ddl::{CompactedTable, NamedValues, Statement, TableName};
use super::failure::SqlFailure;
use crate::error::Refusal;
use crate::project::Project;
use crate::sessions::Sessions;
use crate::table::catalog::{Catalog, Change, Column, Table, TableDefinition};
use crate::table::log::NotWritten;
use crate::table::partition;
use crate::tables::Tables;

/// Carries statements out, one after another.
pub(crate) async fn run(
    tables: &Tables,
    sessions: &Sessions,
    statements: Vec<Statement>,
) -> Result<(), SqlFailure> {
    for statement in statements {
        run_one(tables, sessions, statement).await?;
    }
    Ok(())
}

async fn run_one(
    tables: &Tables,
    sessions: &Sessions,
    statement: Statement,
) -> Result<(), SqlFailure> {
    check_place(&tables.project, statement.table())?;
    let dropped = match &statement {
        Statement::DropTable { table, .. } => {
            tables.find(&table.name).ok().map(|table| table.definition.id.clone())
        }
        _ => None,
    };
    match tables.change(|catalog| decide(catalog, statement)).await {
        Ok(()) => {}
        Err(NotWritten::Decided(failure)) => return Err(failure),
        Err(NotWritten::Failed(error) | NotWritten::InDoubt(error)) => {
            return Err(SqlFailure::Internal(error.to_string()));
        }
    }
    match dropped {
        Some(id) => Ok(sessions.abort_all(&id).await?),
        None => Ok(()),
    }
}

/// The table's id and the partitions that a compaction is to merge: all, if none is named.
///
/// Errors: there is no such table or partition.
pub(crate) fn compacted_partitions(
    project: &Project,
    catalog: &Catalog,
    wanted: &CompactedTable,
) -> Result<(String, Vec<Vec<String>>), SqlFailure> {
    check_place(project, &wanted.table)?;
    let table = find(catalog, &wanted.table)?;
    let partitions = match wanted.partition.clone() {
        None => table.partitions.keys().cloned().collect(),
        Some(named) => vec![partition_of(table, named).map_err(SqlFailure::Semantic)?],
    };
    Ok((table.definition.id.clone(), partitions))
}

fn check_place(project: &Project, table: &TableName) -> Result<(), SqlFailure> {
    if let Some(other) = table.project.as_ref().filter(|name| project.check(name).is_err()) {
        let message = format!("there is no project {other} here, only {}", project.name());
        return Err(SqlFailure::Semantic(message));
    }
    let schema = table.schema.as_deref().map_or(Ok(()), |schema| project.check_schema(schema));
    schema.map_err(|refusal| SqlFailure::Semantic(refusal.message))
}

/// The change that a statement makes, if any.
fn decide(catalog: &Catalog, statement: Statement) -> Result<Option<Change>, SqlFailure> {
    match statement {
        Statement::CreateTable { table, if_not_exists, definition } => {
            create_table(catalog, table, if_not_exists, definition)
        }
        Statement::DropTable { table, if_exists } => match find(catalog, &table) {
            Ok(table) => Ok(Some(Change::DropTable { table_id: table.definition.id.clone() })),
            Err(_) if if_exists => Ok(None),
            Err(failure) => Err(failure),
        },
        Statement::AddPartitions { table, if_not_exists, partitions } => {
            let table = find(catalog, &table)?;
            add_partitions(table, if_not_exists, partitions).map_err(SqlFailure::Semantic)
        }
        Statement::AddColumns { table, if_not_exists, columns } => {
            let table = find(catalog, &table)?;
            add_columns(table, if_not_exists, columns).map_err(SqlFailure::Semantic)
        }
        Statement::Truncate { table, partitions } => {
            let table = find(catalog, &table)?;
            truncate(table, partitions).map_err(SqlFailure::Semantic)
        }
    }
}

fn find<'c>(catalog: &'c Catalog, table: &TableName) -> Result<&'c Table, SqlFailure> {
    let missing = |refusal: Refusal| SqlFailure::NoTable(refusal.message);
    catalog.table(&table.name).map(|table| &**table).map_err(missing)
}

fn create_table(
    catalog: &Catalog,
    table: TableName,
    if_not_exists: bool,
    mut definition: TableDefinition,
) -> Result<Option<Change>, SqlFailure> {
    if catalog.tables.contains_key(&table.name) {
        return match if_not_exists {
            true => Ok(None),
            false => Err(SqlFailure::Semantic(format!(
                "table {} exists; write CREATE TABLE IF NOT EXISTS",
                table.name
            ))),
        };
    }
    // The version of the record that creates it names a table for ever.
    definition.id = format!("{}-{}", table.name, catalog.version + 1);
    Ok(Some(Change::CreateTable(definition)))
}

fn add_partitions(
    table: &Table,
    if_not_exists: bool,
    wanted: Vec<NamedValues>,
) -> Result<Option<Change>, String> {
    let name = &table.definition.name;
    let mut partitions = Vec::new();
    for named in wanted {
        let values = values_of(table, named)?;
        let spec = partition::display(&table.schema, &values);
        match table.partitions.contains_key(&values) || partitions.contains(&values) {
            false if values.is_empty() => return Err(format!("table {name} has no partitions")),
            false => partitions.push(values),
            true if if_not_exists => {}
            true => {
                return Err(format!("partition {spec} exists; write ADD IF NOT EXISTS PARTITION"));
            }
        }
    }
    let table_id = table.definition.id.clone();
    Ok((!partitions.is_empty()).then_some(Change::AddPartitions { table_id, partitions }))
}

fn add_columns(
    table: &Table,
    if_not_exists: bool,
    mut columns: Vec<Column>,
) -> Result<Option<Change>, String> {
    if if_not_exists {
        let of_table = &table.definition.columns;
        columns.retain(|column| !of_table.iter().any(|other| other.name == column.name));
    }
    // Refuses a name that there is, and a type that is none.
    let mut changed = (*table.definition).clone();
    changed.columns.extend(columns);
    changed.checked_schema()?;
    let columns = changed.columns.split_off(table.definition.columns.len());
    let table_id = table.definition.id.clone();
    Ok((!columns.is_empty()).then_some(Change::AddColumns { table_id, columns }))
}

fn truncate(table: &Table, wanted: Vec<NamedValues>) -> Result<Option<Change>, String> {
    let mut partitions = Vec::new();
    for named in wanted {
        partitions.push(partition_of(table, named)?);
    }
    if partitions.is_empty() {
        partitions.extend(table.partitions.keys().cloned());
    }
    partitions.retain(|values| !table.partitions[values].is_empty());
    let table_id = table.definition.id.clone();
    Ok((!partitions.is_empty()).then_some(Change::Truncate { table_id, partitions }))
}

/// The values of a partition that there is.
fn partition_of(table: &Table, named: NamedValues) -> Result<Vec<String>, String> {
    let values = values_of(table, named)?;
    if table.partitions.contains_key(&values) {
        return Ok(values);
    }
    let spec = partition::display(&table.schema, &values);
    Err(format!("table {} has no partition {spec}", table.definition.name))
}

/// The values of a partition, in the table's order.
fn values_of(table: &Table, mut named: NamedValues) -> Result<Vec<String>, String> {
    let columns = &table.schema.partition_columns;
    let mut values = Vec::with_capacity(columns.len());
    for column in columns {
        let at = named.iter().position(|(name, _)| *name == column.name);
        let at = at.ok_or_else(|| format!("the partition column {} is missing", column.name))?;
        values.push(partition::check_value(column, named.swap_remove(at).1)?);
    }
    match named.first() {
        Some((name, _)) => {
            Err(format!("table {} has no partition column {name}", table.definition.name))
        }
        None => Ok(values),
    }
}
