//! How this engine opens the library's sink: options to settings, catalog, and types.
//!
//! Between `command/` and the `upsert_sink` library. Invariant: no option has a meaning or a default here; names go to the
//! library as the job wrote them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use arrow_schema::DataType;
use arrow_schema::SchemaRef;
use arrow_schema::TimeUnit;
use upsert_sink::Catalog;
use upsert_sink::Checkpoint;
use upsert_sink::Components;
use upsert_sink::Plugin;
use upsert_sink::Settings;
use upsert_sink::Sink;

use crate::failure::bad_input;

/// Settings of a sink whose journal is in the job's state directory.
pub(crate) fn settings(
    options: BTreeMap<String, String>,
    journal_dir: PathBuf,
    checkpoint_interval: Duration,
) -> anyhow::Result<Settings> {
    let mut settings = Settings::from_options(options)?;
    settings.journal_dir = journal_dir;
    settings.checkpoint_interval = checkpoint_interval;
    Ok(settings)
}

/// Connects to the catalog of the sink's table.
pub(crate) async fn catalog(
    settings: &Settings,
    components: &Components,
) -> anyhow::Result<Catalog> {
    Ok(Catalog::connect(settings, components).await?)
}

/// Opens a sink for rows of `schema`, restored from a checkpoint if there is one.
pub(crate) async fn open(
    plugin: &Plugin,
    settings: Settings,
    schema: SchemaRef,
    components: &Components,
    restore: Option<Checkpoint>,
) -> anyhow::Result<Sink> {
    let builder = Sink::builder(plugin.clone(), settings)
        .schema(schema)
        .components(components.clone())
        .restore(restore);
    Ok(builder.open().await?)
}

/// The table's type for a column of a feed, as the connector's documentation maps them.
pub(crate) fn table_type(data_type: &DataType) -> anyhow::Result<String> {
    Ok(String::from(match data_type {
        DataType::Boolean => "BOOLEAN",
        DataType::Int8 => "TINYINT",
        DataType::Int16 => "SMALLINT",
        DataType::Int32 => "INT",
        DataType::Int64 => "BIGINT",
        DataType::Float32 => "FLOAT",
        DataType::Float64 => "DOUBLE",
        DataType::Decimal128(precision, scale) => return Ok(format!("DECIMAL({precision},{scale})")),
        DataType::Utf8 => "STRING",
        DataType::Binary => "BINARY",
        DataType::Date32 => "DATE",
        DataType::Timestamp(TimeUnit::Second | TimeUnit::Millisecond, Some(_)) => "DATETIME",
        DataType::Timestamp(_, Some(_)) => "TIMESTAMP",
        DataType::Timestamp(_, None) => "TIMESTAMP_NTZ",
        other => return Err(bad_input(format!("there is no table type for {other}"))),
    }))
}
