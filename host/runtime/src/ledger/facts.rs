//! The facts about a sink that the advice rests on, beside what was measured.
//!
//! Made by `open.rs`, completed with the guest's defaults by `Sink::facts`, kept by the command
//! line beside the records. Invariant: an option is here as it is in effect; one whose value cannot
//! be read is unknown, never guessed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use upsert_sink_core::io::Task;
use upsert_sink_format::option::{OptionDoc, text};
use upsert_sink_format::schema::{ColumnType, RowType};

use crate::settings::Settings;

/// A sink, as far as advice needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SinkFacts {
    /// The table's full name.
    pub table: String,
    /// The table's buckets.
    pub buckets: u32,
    /// The sink's writers.
    pub writers: u32,
    /// The engine's checkpoint interval in milliseconds; zero if it is not known.
    pub interval_ms: u64,
    /// The limit of one sandbox's memory, in bytes.
    pub memory_limit_bytes: u64,
    /// The guest's options in effect, by name.
    pub options: BTreeMap<String, String>,
    /// Columns whose times readers see shifted.
    pub shifted: Vec<ShiftedColumn>,
}

/// A column whose rows have times without a zone, and which holds instants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShiftedColumn {
    /// Its name.
    pub name: String,
    /// The type of the rows.
    pub row_type: String,
    /// The type of the table's column.
    pub column_type: String,
}

impl SinkFacts {
    /// The facts before a guest is asked for its defaults.
    pub(crate) fn of(task: &Task, settings: &Settings) -> Self {
        Self {
            table: settings.table_name(),
            buckets: task.table.buckets,
            writers: task.parallelism,
            interval_ms: task.checkpoint_interval.0,
            memory_limit_bytes: settings.limits.memory_bytes as u64,
            options: task.options.iter().cloned().collect(),
            shifted: shifted(task),
        }
    }

    /// The same, with the defaults of what is not set.
    pub(crate) fn with_defaults(mut self, described: Vec<OptionDoc>) -> Self {
        for option in described {
            self.options.entry(option.name).or_insert(option.default_value);
        }
        self
    }

    /// An option's number of bytes.
    pub(crate) fn size(&self, name: &str) -> Option<u64> {
        text::size(self.options.get(name)?).ok().map(|size| size.0)
    }

    /// An option's number.
    pub(crate) fn count(&self, name: &str) -> Option<u32> {
        text::count(self.options.get(name)?).ok()
    }

    /// Whether an option is on.
    pub(crate) fn is_on(&self, name: &str) -> bool {
        self.options.get(name).is_some_and(|value| text::flag(value) == Ok(true))
    }

    /// Buckets that one writer fills.
    pub(crate) fn buckets_of_a_writer(&self) -> u32 {
        match self.is_on("sink.group-partition.enable") {
            true => self.buckets.max(1),
            false => (self.buckets / self.writers.max(1)).max(1),
        }
    }
}

fn shifted(task: &Task) -> Vec<ShiftedColumn> {
    let mut found = Vec::new();
    for (name, row_type) in &task.columns {
        let mut columns = task.table.columns.iter();
        let column = columns.find(|column| column.name.eq_ignore_ascii_case(name));
        let Some(column) = column else { continue };
        let types = (RowType::parse(row_type), ColumnType::parse(&column.column_type));
        if matches!(types, (Ok(row), Ok(column)) if row.is_shifted_in(&column)) {
            found.push(ShiftedColumn {
                name: name.clone(),
                row_type: row_type.clone(),
                column_type: column.column_type.clone(),
            });
        }
    }
    found
}
