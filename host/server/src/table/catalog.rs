//! Which tables and partitions there are, and which files hold their rows: the fold of the commit
//! log.
//!
//! `table/log.rs` applies each durable record to it; routes and queries read it. Invariant: equal
//! to what folding the log from its first record gives; nothing is changed here before its record
//! is durable.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use upsert_sink_format::schema::TableSchema;
use upsert_sink_format::tunnel::{ColumnDescription, TableDescription};

use super::partition;
use crate::error::{Error, Refusal};

/// One column as the log keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Column {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) column_type: String,
    pub(crate) nullable: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) comment: String,
}

/// A table as it was created, with the columns that were added since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TableDefinition {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) columns: Vec<Column>,
    pub(crate) partition_columns: Vec<Column>,
    pub(crate) primary_key: Vec<String>,
    pub(crate) buckets: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) comment: String,
    /// `acid.partial.fields.update.enable`: whether rows may set some columns only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) partial_update: bool,
}

impl TableDefinition {
    /// The definition with its types parsed.
    pub(crate) fn schema(&self) -> Result<TableSchema, upsert_sink_format::error::Error> {
        let describe = |column: &Column| ColumnDescription {
            name: column.name.clone(),
            column_type: column.column_type.clone(),
            nullable: column.nullable,
        };
        TableSchema::parse(&TableDescription {
            name: self.name.clone(),
            columns: self.columns.iter().map(describe).collect(),
            partition_columns: self.partition_columns.iter().map(describe).collect(),
            primary_key: self.primary_key.clone(),
            buckets: self.buckets,
        })
    }

    /// The same, and writes the types as they are parsed.
    ///
    /// Errors, in words: what `TableSchema::parse` refuses.
    pub(crate) fn checked_schema(&mut self) -> Result<TableSchema, String> {
        let schema = self.schema().map_err(|error| error.to_string())?;
        let parsed = schema.columns.iter().chain(&schema.partition_columns);
        let columns = self.columns.iter_mut().chain(&mut self.partition_columns);
        for (column, parsed) in columns.zip(parsed) {
            column.column_type = parsed.column_type.to_string();
        }
        Ok(schema)
    }
}

/// The rows of one bucket in a file: a run of row groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BucketRun {
    pub(crate) bucket: u32,
    pub(crate) first_row_group: u32,
    pub(crate) row_groups: u32,
    pub(crate) rows: u64,
}

/// A Parquet file of a partition: the delta of one commit, or a base.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TableFile {
    pub(crate) path: String,
    pub(crate) bytes: u64,
    pub(crate) rows: u64,
    pub(crate) runs: Vec<BucketRun>,
    /// Whether a compaction has written it: then each key is in it once, with a whole row.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) base: bool,
}

/// One session's commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Commit {
    pub(crate) session: String,
    pub(crate) table_id: String,
    pub(crate) partition: Vec<String>,
    /// None if the session had no packs.
    pub(crate) file: Option<TableFile>,
}

/// Files of one partition, merged into one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Compaction {
    pub(crate) table_id: String,
    pub(crate) partition: Vec<String>,
    /// The paths of the files that it replaces: the partition's oldest, in their order.
    pub(crate) replaced: Vec<String>,
    /// None if no row is left.
    pub(crate) base: Option<TableFile>,
}

impl Compaction {
    /// Whether the oldest files of a partition are those that it replaces.
    pub(crate) fn fits(&self, files: &[Arc<TableFile>]) -> bool {
        let oldest = files.iter().map(|file| &file.path).take(self.replaced.len());
        oldest.eq(&self.replaced)
    }
}

/// The change that one record of the log makes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Change {
    /// The directory begins, or goes on in a newer format.
    Begin {
        identity: String,
        format: u32,
    },
    CreateTable(TableDefinition),
    DropTable {
        table_id: String,
    },
    /// After the others; all of them can be null.
    AddColumns {
        table_id: String,
        columns: Vec<Column>,
    },
    AddPartitions {
        table_id: String,
        partitions: Vec<Vec<String>>,
    },
    /// Takes the rows out of partitions.
    Truncate {
        table_id: String,
        partitions: Vec<Vec<String>>,
    },
    Commit(Vec<Commit>),
    /// Changes no row. Since [`FORMAT`] 2.
    Compact(Compaction),
}

/// One record of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogRecord {
    pub(crate) version: u64,
    pub(crate) at_ms: u64,
    pub(crate) change: Change,
}

/// One table and its files.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) definition: Arc<TableDefinition>,
    pub(crate) schema: Arc<TableSchema>,
    pub(crate) created_ms: u64,
    /// When a statement changed it last.
    pub(crate) ddl_ms: u64,
    pub(crate) changed_ms: u64,
    /// Counts the changes of its columns, from 1.
    pub(crate) schema_version: u32,
    /// Each partition's files, oldest first. A table without partition columns has one, named by no
    /// values.
    pub(crate) partitions: BTreeMap<Vec<String>, Vec<Arc<TableFile>>>,
}

impl Table {
    /// The partition of a specification, such as `day='2013-01-01'`.
    pub(crate) fn partition(&self, spec: Option<&str>) -> Result<Vec<String>, Refusal> {
        let values = partition::parse(&self.schema, spec.unwrap_or_default())?;
        if self.partitions.contains_key(&values) {
            return Ok(values);
        }
        let name = &self.definition.name;
        let spec = partition::display(&self.schema, &values);
        Err(Refusal::no_such(
            "NoSuchPartition",
            format!(
                "table {name} has no partition {spec}; \
                 create it with ALTER TABLE {name} ADD IF NOT EXISTS PARTITION ({spec})"
            ),
        ))
    }
}

/// Tables by name. One that a request or a query holds never changes: a change makes another.
pub(crate) type TablesByName = BTreeMap<String, Arc<Table>>;

/// All tables.
#[derive(Clone, Debug, Default)]
pub(crate) struct Catalog {
    pub(crate) identity: String,
    /// The newest format that a record of the log needs.
    pub(crate) format: u32,
    /// The newest record's version; zero before the first.
    pub(crate) version: u64,
    pub(crate) tables: TablesByName,
    /// Every committed session, with its table's id; for look-up only.
    committed: HashMap<String, String>,
}

impl Catalog {
    /// A table by its name, whatever its case.
    pub(crate) fn table(&self, name: &str) -> Result<&Arc<Table>, Refusal> {
        self.tables.get(&name.to_ascii_lowercase()).ok_or_else(|| {
            Refusal::no_such(
                "NoSuchTable",
                format!("there is no table {name}; create it with CREATE TABLE"),
            )
        })
    }

    /// A table by its id, if it has not been dropped.
    pub(crate) fn table_by_id(&self, id: &str) -> Option<&Arc<Table>> {
        self.tables.values().find(|table| table.definition.id == id)
    }

    /// Whether a session's commit is in the log.
    pub(crate) fn is_committed(&self, session: &str) -> bool {
        self.committed.contains_key(session)
    }

    /// The table that a committed session wrote to.
    pub(crate) fn committed_table(&self, session: &str) -> Option<&str> {
        self.committed.get(session).map(String::as_str)
    }

    /// The record that must be in the log before one of the newest format.
    pub(crate) fn newer_format(&self) -> Option<Change> {
        let identity = self.identity.clone();
        (self.format < FORMAT).then_some(Change::Begin { identity, format: FORMAT })
    }

    /// Applies the record that a file of the log holds.
    ///
    /// Errors: `Damaged` for one that does not follow from those before it.
    pub(crate) fn apply(&mut self, record: LogRecord, file: &str) -> Result<(), Error> {
        let damaged = |message: String| Error::damaged(file, message);
        if record.version != self.version + 1 {
            return Err(damaged(format!("version {} follows {}", record.version, self.version)));
        }
        match record.change {
            Change::Begin { identity, format } => {
                if format > FORMAT {
                    let file = file.to_owned();
                    return Err(Error::TooNew { file, found: format, known: FORMAT });
                }
                (self.identity, self.format) = (identity, format);
            }
            Change::CreateTable(definition) => {
                let schema = definition.schema().map_err(|error| damaged(error.to_string()))?;
                let table = Table::new(definition, schema, record.at_ms);
                self.tables.insert(table.definition.name.clone(), Arc::new(table));
            }
            Change::DropTable { table_id } => {
                self.tables.retain(|_, table| table.definition.id != table_id);
            }
            Change::AddColumns { table_id, columns } => {
                let table = self.table_mut(&table_id).ok_or_else(|| damaged(unknown(&table_id)))?;
                let schema = table.add_columns(columns).map_err(damaged)?;
                table.schema = Arc::new(schema);
                table.schema_version += 1;
                table.ddl_ms = record.at_ms;
            }
            Change::AddPartitions { table_id, partitions } => {
                let table = self.table_mut(&table_id).ok_or_else(|| damaged(unknown(&table_id)))?;
                (table.ddl_ms, table.changed_ms) = (record.at_ms, record.at_ms);
                for partition in partitions {
                    table.partitions.entry(partition).or_default();
                }
            }
            Change::Truncate { table_id, partitions } => {
                let table = self.table_mut(&table_id).ok_or_else(|| damaged(unknown(&table_id)))?;
                table.changed_ms = record.at_ms;
                for partition in partitions {
                    // The files stay until the next start: somebody may be reading them.
                    table.partitions.entry(partition).and_modify(Vec::clear);
                }
            }
            Change::Commit(commits) => {
                for commit in commits {
                    let id = commit.table_id.clone();
                    self.apply_commit(commit, record.at_ms).ok_or_else(|| damaged(unknown(&id)))?;
                }
            }
            Change::Compact(compaction) => {
                let id = compaction.table_id.clone();
                self.apply_compaction(compaction).ok_or_else(|| damaged(unfit(&id)))?;
            }
        }
        self.version = record.version;
        Ok(())
    }

    fn apply_commit(&mut self, commit: Commit, at_ms: u64) -> Option<()> {
        let table = self.table_mut(&commit.table_id)?;
        table.changed_ms = at_ms;
        let files = table.partitions.get_mut(&commit.partition)?;
        files.extend(commit.file.map(Arc::new));
        self.committed.insert(commit.session, commit.table_id);
        Some(())
    }

    fn apply_compaction(&mut self, compaction: Compaction) -> Option<()> {
        let table = self.table_mut(&compaction.table_id)?;
        let files = table.partitions.get_mut(&compaction.partition)?;
        if !compaction.fits(files) {
            return None;
        }
        // The files stay for a while: somebody may be reading them.
        files.splice(..compaction.replaced.len(), compaction.base.map(Arc::new));
        Some(())
    }

    fn table_mut(&mut self, id: &str) -> Option<&mut Table> {
        let table = self.tables.values_mut().find(|table| table.definition.id == id);
        table.map(Arc::make_mut)
    }
}

impl Table {
    fn new(definition: TableDefinition, schema: TableSchema, created_ms: u64) -> Self {
        let mut partitions = BTreeMap::new();
        if definition.partition_columns.is_empty() {
            partitions.insert(Vec::new(), Vec::new());
        }
        Self {
            definition: Arc::new(definition),
            schema: Arc::new(schema),
            created_ms,
            ddl_ms: created_ms,
            changed_ms: created_ms,
            schema_version: 1,
            partitions,
        }
    }

    fn add_columns(&mut self, columns: Vec<Column>) -> Result<TableSchema, String> {
        let definition = Arc::make_mut(&mut self.definition);
        definition.columns.extend(columns);
        definition.checked_schema()
    }
}

fn unknown(table_id: &str) -> String {
    format!("it names table {table_id} or a partition of it, which there is not")
}

fn unfit(table_id: &str) -> String {
    format!("it replaces files of table {table_id} that are not the oldest of their partition")
}

/// The newest version of the log's format that is read: 2 has compactions. A directory that was
/// never compacted stays in [`FIRST_FORMAT`].
pub(crate) const FORMAT: u32 = 2;
/// The format that a directory begins with.
pub(crate) const FIRST_FORMAT: u32 = 1;
