//! How this engine opens the library's sink: options to settings, catalog, and types.
//!
//! Between `command/` and the `upsert_sink` library. Invariant: no option has a meaning or a
//! default here; names go to the library as the job wrote them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use arrow_schema::{DataType, SchemaRef, TimeUnit};
use upsert_sink::{Checkpoint, Components, Plugin, Settings, Sink};

use crate::failure::bad_input;

/// Options as a job writes them, by name.
pub(crate) type Options = BTreeMap<String, String>;

/// An option that this engine fills in if the job does not: its name, and the connector's other
/// name for it.
pub(crate) type Names = (&'static str, &'static str);

pub(crate) const ENDPOINT: Names = ("endpoint", "odps.end.point");
pub(crate) const TUNNEL_ENDPOINT: Names = ("tunnelEndpoint", "odps.tunnel.end.point");
pub(crate) const PROJECT: Names = ("project", "odps.project.name");
pub(crate) const TABLE: Names = ("tableName", "table-name");
pub(crate) const ACCESS_ID: Names = ("accessId", "odps.access.id");
pub(crate) const ACCESS_KEY: Names = ("accessKey", "odps.access.key");
pub(crate) const STS_TOKEN: Names = ("stsToken", "odps.access.sts-token");
pub(crate) const CREDENTIALS_PROVIDER: Names = ("credentials.provider", "credentials.provider");
const JOURNAL_DIR: Names = ("sink.journal-dir", "sink.journal-dir");

/// Whether a job sets an option, by either name.
pub(crate) fn is_set(options: &Options, names: Names) -> bool {
    options.contains_key(names.0) || options.contains_key(names.1)
}

/// Sets an option unless the job does.
pub(crate) fn set_default(options: &mut Options, names: Names, value: impl Into<String>) {
    if !is_set(options, names) {
        options.insert(String::from(names.0), value.into());
    }
}

/// Settings of a sink; its journal is in the job's state directory unless the job says otherwise.
pub(crate) fn settings(
    mut options: Options,
    journal_dir: &Path,
    checkpoint_interval: Duration,
) -> anyhow::Result<Settings> {
    set_default(&mut options, JOURNAL_DIR, journal_dir.display().to_string());
    let settings = Settings::from_options(options)?;
    Ok(Settings { checkpoint_interval, ..settings })
}

/// Opens a sink for rows of `schema`, with before-images or without, restored from a checkpoint if
/// there is one.
pub(crate) async fn open(
    plugin: &Plugin,
    settings: Settings,
    (schema, before_images): (SchemaRef, bool),
    components: &Components,
    restore: Option<Checkpoint>,
) -> anyhow::Result<Sink> {
    let builder = Sink::builder(plugin.clone(), settings)
        .schema(schema)
        .before_images(before_images)
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
        DataType::Decimal128(precision, scale) => {
            return Ok(format!("DECIMAL({precision},{scale})"));
        }
        DataType::Utf8 => "STRING",
        DataType::Binary => "BINARY",
        DataType::Date32 => "DATE",
        DataType::Timestamp(TimeUnit::Second | TimeUnit::Millisecond, Some(_)) => "DATETIME",
        DataType::Timestamp(_, Some(_)) => "TIMESTAMP",
        DataType::Timestamp(_, None) => "TIMESTAMP_NTZ",
        other => return Err(bad_input(format!("there is no table type for {other}"))),
    }))
}
