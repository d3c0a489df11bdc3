//! The options of a job that decide which rows its table holds.
//!
//! Read once by `mod.rs`, for `codec.rs` and `changes.rs`. Invariant: no default stands here; an
//! option that the job does not set has the value that the plugin documents.

use anyhow::Context;
use upsert_sink::{OptionDoc, Plugin, Settings};
use upsert_sink_format::hash::Hasher;
use upsert_sink_format::option::text::flag;
use upsert_sink_format::partition::canonical_value;
use upsert_sink_format::schema::TableSchema;

use crate::failure::bad_input;

/// The options of one job.
#[derive(Clone, Debug)]
pub(in crate::command) struct JobRules {
    /// `partition`: the columns that are fixed, with their values.
    pub(in crate::command) static_partition: Vec<(String, String)>,
    /// `sink.partition.default-value`
    pub(in crate::command) default_partition: String,
    /// `sink.hasher`
    pub(in crate::command) hasher: Hasher,
    /// `sink.invalid-row` = `dead-letter`
    pub(in crate::command) sets_aside: bool,
    /// `upsert.partial-column.enable` with `sink.partial-column.mode` = `dynamic`
    pub(in crate::command) leaves_nulls: bool,
    /// `upsert.partial-column.enable`
    pub(in crate::command) partial: bool,
    /// `sink.delivery-guarantee` = `at-least-once`
    pub(in crate::command) at_least_once: bool,
}

impl JobRules {
    /// The rules of a job for a table.
    pub(in crate::command) fn of(
        settings: &Settings,
        plugin: &Plugin,
        schema: &TableSchema,
    ) -> anyhow::Result<Self> {
        let options = JobOptions { set: &settings.guest_options, docs: plugin.options()? };
        let partial = flag(options.value("upsert.partial-column.enable")?).map_err(bad_input)?;
        let mode = options.value("sink.partial-column.mode")?;
        Ok(Self {
            static_partition: static_partition(options.value("partition")?, schema)?,
            default_partition: String::from(options.value("sink.partition.default-value")?),
            hasher: Hasher::parse(options.value("sink.hasher")?)?,
            sets_aside: options.is("sink.invalid-row", "dead-letter")?,
            leaves_nulls: partial && mode.trim().eq_ignore_ascii_case("dynamic"),
            partial,
            at_least_once: options.is("sink.delivery-guarantee", "at-least-once")?,
        })
    }
}

/// The options that are set, and the documentation of all.
pub(in crate::command) struct JobOptions<'a> {
    pub(in crate::command) set: &'a [(String, String)],
    pub(in crate::command) docs: Vec<OptionDoc>,
}

impl JobOptions<'_> {
    /// The value that is in effect.
    pub(in crate::command) fn value(&self, name: &str) -> anyhow::Result<&str> {
        if let Some((_, value)) = self.set.iter().find(|(set, _)| set == name) {
            return Ok(value);
        }
        let doc = self.docs.iter().find(|doc| doc.name == name);
        doc.map(|doc| doc.default_value.as_str()).with_context(|| {
            format!("the plugin has no option {name}: verify with the version that ran the job")
        })
    }

    /// Whether that is this word.
    pub(in crate::command) fn is(&self, name: &str, word: &str) -> anyhow::Result<bool> {
        Ok(self.value(name)?.trim().eq_ignore_ascii_case(word))
    }
}

/// The fixed levels of `ds='2018',hour`, as the catalog writes their values.
fn static_partition(text: &str, schema: &TableSchema) -> anyhow::Result<Vec<(String, String)>> {
    let mut fixed = Vec::new();
    for (name, value) in text.split(',').filter_map(|level| level.split_once('=')) {
        let (name, value) = (name.trim(), value.trim());
        let within = |quote| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
        let value = within('\'').or_else(|| within('"')).unwrap_or(value);
        let named = schema.partition_columns.iter().find(|c| c.name.eq_ignore_ascii_case(name));
        let column = named.ok_or_else(|| {
            bad_input(format!("partition = {text}: the table has no partition column {name}"))
        })?;
        let value = canonical_value(&column.column_type, value)
            .map_err(|rule| bad_input(format!("partition = {text}: {rule}")))?;
        fixed.push((column.name.clone(), value));
    }
    Ok(fixed)
}

#[cfg(test)]
mod tests {
    use upsert_sink_format::schema::{ColumnType, TableColumn};

    use super::*;
    use crate::command::verify::codec::tests::codec;

    #[test]
    fn fixed_levels_are_read_as_the_sink_reads_them() {
        let mut schema = codec(&["v string"]).schema;
        let level = |name: &str, column_type| TableColumn {
            name: String::from(name),
            column_type,
            nullable: false,
        };
        schema.partition_columns =
            vec![level("Day", ColumnType::String), level("hour", ColumnType::Int)];
        let fixed = |text: &str| static_partition(text, &schema).map_err(|e| e.to_string());
        let pair = |name: &str, value: &str| (String::from(name), String::from(value));
        assert_eq!(fixed(""), Ok(Vec::new()));
        assert_eq!(fixed("day,hour"), Ok(Vec::new()));
        assert_eq!(fixed("day = '2018' , hour"), Ok(vec![pair("Day", "2018")]));
        let both = vec![pair("Day", "a b"), pair("hour", "7")];
        assert_eq!(fixed("day=\"a b\",hour=07"), Ok(both));
        assert!(fixed("month=1").is_err_and(|error| error.contains("month")));
        assert!(fixed("hour=x").is_err_and(|error| error.contains("whole numbers")));
    }
}
