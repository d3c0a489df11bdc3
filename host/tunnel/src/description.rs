//! A table as the catalog describes it: XML around JSON, with JSON inside.
//!
//! Used by `catalog.rs`. Invariant: a table that cannot take upserts is refused here, before
//! anything is written.

use std::fmt::Display;

use serde::Deserialize;
use serde_json::Value;
use upsert_sink_format::id::Millis;
use upsert_sink_format::tunnel::{ColumnDescription, TableDescription};

use crate::error::{Result, TunnelError};
use crate::xml;

#[derive(Deserialize)]
struct TableJson {
    columns: Vec<ColumnJson>,
    #[serde(default, rename = "partitionKeys")]
    partition_keys: Vec<ColumnJson>,
    #[serde(default, rename = "Reserved")]
    reserved: Value,
    #[serde(default, rename = "lastModifiedTime")]
    changed_seconds: Value,
}

#[derive(Deserialize)]
struct ColumnJson {
    name: String,
    #[serde(rename = "type")]
    column_type: String,
    #[serde(default = "yes", rename = "isNullable")]
    nullable: bool,
}

fn yes() -> bool {
    true
}

/// Reads the answer to `GET …/tables/t?extended`.
pub(crate) fn parse(body: &[u8], name: &str) -> Result<TableDescription> {
    let garbled = |error: &dyn Display| garbled(error, name);
    let table = table_json(body, name)?;
    let reserved = match &table.reserved {
        Value::String(text) => serde_json::from_str(text).map_err(|error| garbled(&error))?,
        other => other.clone(),
    };
    let primary_key = names(&reserved["PrimaryKey"]);
    if !is_true(&reserved["Transactional"]) || primary_key.is_empty() {
        let message = "the table is no Delta table with a primary key; create it with PRIMARY KEY \
                       and TBLPROPERTIES('transactional'='true')";
        return Err(TunnelError::unusable(message).at(name));
    }
    let buckets = number(&reserved["BucketNum"]).ok_or_else(|| garbled(&"it has no BucketNum"))?;
    Ok(TableDescription {
        name: String::from(name),
        columns: table.columns.into_iter().map(ColumnDescription::from).collect(),
        partition_columns: table.partition_keys.into_iter().map(ColumnDescription::from).collect(),
        primary_key,
        buckets,
    })
}

/// The time of the last change, from the answer to `GET …/tables/t`.
pub(crate) fn changed_at(body: &[u8], name: &str) -> Result<Option<Millis>> {
    let seconds = table_json(body, name)?.changed_seconds.as_u64();
    Ok(seconds.map(|seconds| Millis(seconds.saturating_mul(1000))))
}

fn table_json(body: &[u8], name: &str) -> Result<TableJson> {
    let garbled = |error: &dyn Display| garbled(error, name);
    let text = std::str::from_utf8(body).map_err(|error| garbled(&error))?;
    let root = xml::parse(text).map_err(|error| garbled(&error))?;
    let schema = root.find("Schema").ok_or_else(|| garbled(&"it has no <Schema>"))?;
    serde_json::from_str(&schema.text).map_err(|error| garbled(&error))
}

fn garbled(error: &dyn Display, name: &str) -> TunnelError {
    let message = format!("the catalog's description of the table is garbled: {error}");
    TunnelError::garbled(message).at(name)
}

impl From<ColumnJson> for ColumnDescription {
    fn from(column: ColumnJson) -> Self {
        Self { name: column.name, column_type: column.column_type, nullable: column.nullable }
    }
}

fn names(value: &Value) -> Vec<String> {
    let names = value.as_array().into_iter().flatten();
    names.filter_map(|name| name.as_str().map(String::from)).collect()
}

fn is_true(value: &Value) -> bool {
    value.as_bool().unwrap_or_else(|| value.as_str() == Some("true"))
}

fn number(value: &Value) -> Option<u32> {
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
    u32::try_from(number).ok().filter(|number| *number > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(reserved: &str) -> Result<TableDescription> {
        let json = serde_json::json!({
            "columns": [
                {"name": "id", "type": "bigint", "isNullable": false},
                {"name": "v", "type": "string"},
            ],
            "partitionKeys": [{"name": "day", "type": "string"}],
            "Reserved": reserved,
        });
        let text = format!(
            "<Table format=\"Json\"><Name>t</Name><Schema><![CDATA[{json}]]></Schema></Table>"
        );
        parse(text.as_bytes(), "p.t")
    }

    #[test]
    fn a_delta_table_is_described() {
        let reserved = r#"{"Transactional":"true","PrimaryKey":["id"],"BucketNum":8}"#;
        let table = table(reserved).expect("a Delta table");
        assert_eq!((table.buckets, table.primary_key), (8, vec![String::from("id")]));
        assert!(!table.columns[0].nullable && table.columns[1].nullable);
        assert_eq!(table.partition_columns[0].name, "day");
    }

    #[test]
    fn a_table_without_a_primary_key_is_refused() {
        let error = table(r#"{"Transactional":"false"}"#).expect_err("an append table");
        assert!(error.message.contains("PRIMARY KEY"), "{error}");
    }
}
