//! The rows of the source as changes of keys: which partition and bucket each is in, and what it
//! leaves of the row before.
//!
//! Between `source/`, whose batches come here up to the checkpoint and no further, and
//! `bounded.rs`. Invariant: the changes are those that the sink was handed before the checkpoint's
//! barrier, in their order; a row that breaks a rule of the table changes nothing, and is counted
//! if the job sets such rows aside, an error if it does not.

use std::collections::BTreeMap;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use upsert_sink::RowKind;
use upsert_sink_format::partition::{check_value, write_date};
use upsert_sink_format::record::Value;
use upsert_sink_format::schema::{ColumnType, PartitionSource, RowPlan, TableColumn};

use super::cells::{Cell, Converter};
use super::codec::{KeyState, RowCodec, RowKey};
use super::rules::JobRules;
use crate::failure::bad_input;
use crate::source::Events;

/// The partitions of both sides, numbered as they are met.
#[derive(Debug, Default)]
pub(in crate::command) struct Partitions {
    numbers: BTreeMap<String, u32>,
    names: Vec<String>,
}

/// Turns batches of the source into changes.
pub(in crate::command) struct ChangeReader<'a> {
    codec: &'a RowCodec,
    rules: &'a JobRules,
    plan: RowPlan,
    converter: Converter,
    /// A before-image of a partial row, which its after-image absorbs if that is the next row.
    before: Option<RowKey>,
    /// Rows that break a rule of the table, and were set aside.
    pub(in crate::command) refused: u64,
}

/// The columns of a batch: the table's, then those that name partitions.
struct BatchCells {
    columns: Vec<Option<Vec<Cell>>>,
    partition_columns: Vec<Option<Vec<Cell>>>,
}

impl Partitions {
    /// The number of a partition.
    pub(in crate::command) fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.count();
        self.numbers.insert(String::from(name), number);
        self.names.push(String::from(name));
        number
    }

    /// How many there are.
    pub(in crate::command) fn count(&self) -> u32 {
        u32::try_from(self.names.len()).expect("a table has far fewer partitions")
    }

    /// The name of a partition, which is empty for a table without any.
    pub(in crate::command) fn name(&self, number: u32) -> &str {
        &self.names[number as usize]
    }
}

impl<'a> ChangeReader<'a> {
    /// For rows of a source with this schema.
    ///
    /// Errors: columns that the table does not take.
    pub(in crate::command) fn new(
        codec: &'a RowCodec,
        rules: &'a JobRules,
        rows: &SchemaRef,
    ) -> anyhow::Result<Self> {
        let mut columns = Vec::with_capacity(rows.fields().len());
        for field in rows.fields() {
            let row_type = upsert_sink::row_type(field.data_type()).map_err(bad_input)?;
            columns.push((field.name().clone(), row_type.to_string()));
        }
        let plan = RowPlan::new(&codec.schema, &columns, &rules.static_partition)?;
        let converter = Converter::default();
        Ok(Self { codec, rules, plan, converter, before: None, refused: 0 })
    }

    /// Times that were cut to the milliseconds of a datetime.
    pub(in crate::command) fn cut(&self) -> u64 {
        self.converter.cut
    }

    /// Reads a batch. `before` is how many events came before it, for messages.
    pub(in crate::command) fn read(
        &mut self,
        events: &Events,
        before: u64,
        partitions: &mut Partitions,
        change: &mut dyn FnMut(RowKey, KeyState) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut cells = self.cells(&events.rows)?;
        for row in 0..events.rows.num_rows() {
            let kind = events.kinds.get(row).copied().unwrap_or(RowKind::Insert);
            match self.change(&mut cells, row, kind, partitions)? {
                Ok((key, state)) => self.pass(key, state, kind, change)?,
                Err(_) if self.rules.sets_aside => self.refused += 1,
                Err(rule) => {
                    return Err(bad_input(format!(
                        "the source, in the events after {before}: {rule}; the sink refuses such \
                         a row, so this is not the input that the table was written from"
                    )));
                }
            }
        }
        Ok(())
    }

    /// The last change, if it waits for one after it.
    pub(in crate::command) fn finish(
        &mut self,
        change: &mut dyn FnMut(RowKey, KeyState) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.before.take().map_or(Ok(()), |key| change(key, KeyState::Gone))
    }

    /// Hands a change on; before-images of partial rows wait for the next row.
    fn pass(
        &mut self,
        key: RowKey,
        state: KeyState,
        kind: RowKind,
        change: &mut dyn FnMut(RowKey, KeyState) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        if let Some(before) = self.before.take()
            && !(kind == RowKind::UpdateAfter && before == key)
        {
            change(before, KeyState::Gone)?;
        }
        if self.rules.leaves_nulls && kind == RowKind::UpdateBefore {
            self.before = Some(key);
            return Ok(());
        }
        change(key, state)
    }

    /// The change of one row, or the rule that it breaks.
    fn change(
        &self,
        cells: &mut BatchCells,
        row: usize,
        kind: RowKind,
        partitions: &mut Partitions,
    ) -> anyhow::Result<Result<(RowKey, KeyState), String>> {
        let name = match self.partition(cells, row) {
            Ok(name) => name,
            Err(rule) => return Ok(Err(rule)),
        };
        let removes = matches!(kind, RowKind::UpdateBefore | RowKind::Delete);
        let values = match self.values(cells, row, removes) {
            Ok(values) => values,
            Err(rule) => return Ok(Err(rule)),
        };
        let key = self.codec.key(partitions.number(&name), &values)?;
        let state = match (removes, self.rules.leaves_nulls) {
            (true, _) => KeyState::Gone,
            (false, true) => KeyState::Part(self.codec.row(values)),
            (false, false) => KeyState::Whole(self.codec.row(values)),
        };
        Ok(Ok((key, state)))
    }

    /// The values of a row, which keep the table's rules; of a row that removes, those of its key.
    fn values(
        &self,
        cells: &mut BatchCells,
        row: usize,
        removes: bool,
    ) -> Result<Vec<Option<Value>>, String> {
        let schema = &self.codec.schema;
        let mut values = Vec::with_capacity(schema.columns.len());
        for (at, column) in schema.columns.iter().enumerate() {
            let of_key = schema.key.contains(&at);
            let cell = match &mut cells.columns[at] {
                Some(cells) if of_key || !removes => std::mem::replace(&mut cells[row], Ok(None)),
                _ => Ok(None),
            };
            let value = cell.map_err(|rule| format!("column {}: {rule}", column.name))?;
            if value.is_none() && (of_key || !(removes || column.nullable)) {
                return Err(format!("column {}: it is null", column.name));
            }
            values.push(value);
        }
        Ok(values)
    }

    /// The name of the partition of a row; empty for a table without any.
    fn partition(&self, cells: &BatchCells, row: usize) -> Result<String, String> {
        let mut name = String::new();
        let levels = self.codec.schema.partition_columns.iter().zip(&self.plan.partition_columns);
        for ((column, source), cells) in levels.zip(&cells.partition_columns) {
            let value = match (source, cells) {
                (PartitionSource::Static(value), _) => value.clone(),
                (PartitionSource::Row(_), cells) => {
                    let cell = cells.as_ref().map_or(Ok(None), |cells| cells[row].clone());
                    let value = cell.and_then(|value| self.level(column, value));
                    value.map_err(|rule| format!("partition column {}: {rule}", column.name))?
                }
            };
            let comma = if name.is_empty() { "" } else { "," };
            name += &format!("{comma}{}='{value}'", column.name);
        }
        Ok(name)
    }

    /// A value as the name of a partition has it.
    fn level(&self, column: &TableColumn, value: Option<Value>) -> Result<String, String> {
        let text = match value {
            Some(Value::Int(number)) => return Ok(number.to_string()),
            Some(Value::Date(days)) => {
                let mut text = [0; 10];
                write_date(days, &mut text).ok_or("it is out of the years 1 to 9999")?;
                return Ok(String::from_utf8_lossy(&text).into_owned());
            }
            Some(Value::Bytes(text)) if !text.is_empty() => String::from_utf8_lossy(&text).into(),
            _ => match column.column_type {
                ColumnType::String | ColumnType::Varchar(_) | ColumnType::Char(_) => {
                    self.rules.default_partition.clone()
                }
                _ => return Err(String::from("it is null, and has no default partition")),
            },
        };
        check_value(&text)?;
        match column.column_type {
            ColumnType::Varchar(most) | ColumnType::Char(most)
                if text.chars().count() > most as usize =>
            {
                Err(format!("it is too long for {}", column.column_type))
            }
            _ => Ok(text),
        }
    }

    fn cells(&mut self, rows: &RecordBatch) -> anyhow::Result<BatchCells> {
        let Self { converter, plan, codec, .. } = self;
        let mut columns = Vec::with_capacity(plan.columns.len());
        for (source, column) in plan.columns.iter().zip(&codec.schema.columns) {
            let cells = source.map(|at| converter.cells(rows.column(at), &column.column_type));
            columns.push(cells.transpose()?);
        }
        let mut partition_columns = Vec::with_capacity(plan.partition_columns.len());
        for (source, column) in plan.partition_columns.iter().zip(&codec.schema.partition_columns) {
            partition_columns.push(match source {
                PartitionSource::Static(_) => None,
                PartitionSource::Row(at) => {
                    // The length of a name is checked when it is one.
                    let to = match &column.column_type {
                        ColumnType::Varchar(_) | ColumnType::Char(_) => &ColumnType::String,
                        other => other,
                    };
                    Some(converter.cells(rows.column(*at), to)?)
                }
            });
        }
        Ok(BatchCells { columns, partition_columns })
    }
}
