//! The task of a role, parsed before it begins: the table, the options, and the place of each of a
//! batch's columns in the table.
//!
//! Before a row's way begins. Invariant: everything that is wrong with options, schema or their
//! combination is found here, once, by every role alike.

use alloc::string::String;
use alloc::vec::Vec;

use upsert_sink_format::error::Error;
use upsert_sink_format::schema::{RowPlan, TableSchema};

use crate::config::{SinkConfig, TaskFacts};
use crate::io::Task;

/// A task, parsed.
#[derive(Debug)]
pub struct Opened {
    /// The table.
    pub schema: TableSchema,
    /// The options.
    pub config: SinkConfig,
    /// The place of each of the batch's columns in the table.
    pub plan: RowPlan,
    /// Lines for the operator.
    pub warnings: Vec<String>,
}

impl Opened {
    /// Parses a task.
    ///
    /// Errors: `InvalidConfig` naming the option or column, its value, the rule and the remedy.
    pub fn of(task: &Task) -> Result<Self, Error> {
        let schema = TableSchema::parse(&task.table)?;
        let facts = TaskFacts {
            parallelism: task.parallelism,
            local: task.local,
            checkpoint_interval: task.checkpoint_interval,
            before_images: task.before_images,
        };
        let (config, warnings) = SinkConfig::parse(&task.options, &schema, &task.columns, &facts)?;
        let plan = RowPlan::new(&schema, &task.columns, &config.static_partition())?;
        Ok(Self { schema, config, plan, warnings })
    }
}
