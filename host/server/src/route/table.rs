//! Tables and partitions as clients want them described.
//!
//! Asked before a session is created. Invariant: lists are never null, lists that were cut say
//! where to go on, and a Delta table says so in `Reserved`.

use serde_json::{Value, json};
use upsert_sink_tunnel::xml::{cdata, escaped};

use super::project::OWNER;
use crate::answer::Answer;
use crate::error::Refusal;
use crate::request::Request;
use crate::table::catalog::{Column, Table};
use crate::table::partition;
use crate::tables::Tables;

/// Answers `GET …/tables`: those whose names begin with `name`, after `marker`.
pub(crate) fn list(tables: &Tables, request: &Request) -> Result<Answer, Refusal> {
    let prefix = request.parameter("name").unwrap_or_default().to_lowercase();
    let others = request.parameter("owner").is_some_and(|owner| owner != OWNER)
        || request.parameter("type").is_some_and(|kind| !kind.eq_ignore_ascii_case(MANAGED));
    let catalog = tables.catalog();
    let names = catalog.tables.keys().map(String::as_str);
    let names: Vec<&str> = names.filter(|name| !others && name.starts_with(&prefix)).collect();
    let (names, marker) = page(request, &names)?;
    let one = |name: &&str| {
        format!("<Table><Name>{name}</Name><Owner>{OWNER}</Owner><Type>{MANAGED}</Type></Table>")
    };
    let list: String = names.iter().map(one).collect();
    let body =
        format!("<Tables><Marker>{marker}</Marker><MaxItems>{PAGE_MAX}</MaxItems>{list}</Tables>");
    Ok(Answer::xml(body))
}

/// Answers `GET …/tables/{table}`: the table, with `partition=` the partition, with `partitions`
/// all of them.
pub(crate) fn show(tables: &Tables, request: &Request, name: &str) -> Result<Answer, Refusal> {
    let catalog = tables.catalog();
    let table = catalog.table(name)?;
    if request.parameter("partitions").is_some() {
        return partitions(request, table);
    }
    let extended = request.parameter("extended").is_some();
    if let Some(spec) = request.parameter("partition") {
        let values = table.partition(Some(spec))?;
        return Ok(show_partition(table, &values));
    }
    if let Some(other) = UNSUPPORTED.iter().find(|name| request.parameter(name).is_some()) {
        return Err(Refusal::method(format!("{other} of a table is not supported")));
    }
    let schema = schema_json(table, extended).to_string();
    let definition = &table.definition;
    let body = format!(
        "<Table format=\"Json\"><Name>{name}</Name><TableName>{name}</TableName>\
         <Project>{project}</Project><TableId>{id}</TableId><Type>{MANAGED}</Type>\
         <Owner>{OWNER}</Owner><Comment>{comment}</Comment>\
         <Schema format=\"Json\">{schema}</Schema></Table>",
        name = definition.name,
        project = escaped(tables.project.name()),
        id = definition.id,
        comment = escaped(&definition.comment),
        schema = cdata(&schema),
    );
    Ok(Answer::xml(body))
}

fn partitions(request: &Request, table: &Table) -> Result<Answer, Refusal> {
    let of = request.parameter("partition").unwrap_or_default();
    let prefix = partition::parse_prefix(&table.schema, of)?;
    let matching = table.partitions.keys().filter(|values| {
        // A table without partition columns has one partition that nobody has to name.
        !values.is_empty() && values.starts_with(&prefix)
    });
    let mut matching: Vec<&Vec<String>> = matching.collect();
    if request.parameter("reverse").is_some() {
        matching.reverse();
    }
    let names: Vec<String> =
        matching.iter().map(|v| partition::display(&table.schema, v)).collect();
    let keys: Vec<&str> = names.iter().map(String::as_str).collect();
    let (shown, marker) = page(request, &keys)?;
    let all: String = match (request.parameter("name"), shown.first()) {
        // Names only.
        (Some(""), _) => {
            let one =
                |name: &&str| format!("<Partition><Name>{}</Name></Partition>", escaped(name));
            shown.iter().map(one).collect()
        }
        (_, None) => String::new(),
        (_, Some(first)) => {
            let skipped = keys.iter().position(|key| key == first).unwrap_or_default();
            let values = matching.iter().skip(skipped).take(shown.len());
            values.map(|values| listed(table, values)).collect()
        }
    };
    Ok(Answer::xml(format!(
        "<Partitions><Marker>{}</Marker><MaxItems>{PAGE_MAX}</MaxItems>{all}</Partitions>",
        escaped(&marker)
    )))
}

/// The page of a list that a request wants, and where the next one begins; nowhere if it is empty.
fn page<'k>(request: &Request, keys: &[&'k str]) -> Result<(Vec<&'k str>, String), Refusal> {
    let most = match request.parameter("maxitems") {
        None | Some("") => PAGE_MAX,
        Some(_) => request.number("maxitems")?.map_or(PAGE_MAX, |n| n as usize).clamp(1, PAGE_MAX),
    };
    let from = match request.parameter("marker") {
        None | Some("") => 0,
        // The key that the marker names may be gone: then the list goes on behind it.
        Some(marker) => match keys.iter().position(|key| *key == marker) {
            Some(at) => at,
            None => keys.iter().position(|key| *key > marker).unwrap_or(keys.len()),
        },
    };
    let end = keys.len().min(from + most);
    let next = keys.get(end).map(|key| (*key).to_owned()).unwrap_or_default();
    Ok((keys[from..end].to_vec(), next))
}

fn listed(table: &Table, values: &[String]) -> String {
    let columns = table.definition.partition_columns.iter().zip(values);
    let one = |(column, value): (&Column, &String)| {
        format!("<Column Name=\"{}\" Value=\"{}\"/>", escaped(&column.name), escaped(value))
    };
    format!(
        "<Partition>{}<CreationTime>{}</CreationTime><LastModifiedTime>{}</LastModifiedTime>\
         </Partition>",
        columns.map(one).collect::<String>(),
        table.created_ms / 1000,
        table.changed_ms / 1000
    )
}

fn show_partition(table: &Table, values: &[String]) -> Answer {
    let files = table.partitions.get(values).into_iter().flatten();
    let mut bytes = 0;
    let mut rows = 0;
    let mut count = 0;
    for file in files {
        bytes += file.bytes;
        rows += file.rows;
        count += 1;
    }
    let schema = json!({
        "createTime": table.created_ms / 1000, "lastDDLTime": table.ddl_ms / 1000,
        "lastModifiedTime": table.changed_ms / 1000, "lastAccessTime": 0,
        "partitionSize": bytes, "partitionRecordNum": rows, "PhysicalSize": bytes,
        "FileNum": count, "LifeCycle": -1, "IsArchived": false, "IsExstore": false,
        "Reserved": "{}",
    });
    Answer::xml(format!("<Partition><Schema>{}</Schema></Partition>", cdata(&schema.to_string())))
}

fn schema_json(table: &Table, extended: bool) -> Value {
    let column = |c: &Column| {
        json!({
            "name": c.name, "type": c.column_type, "comment": c.comment, "label": "",
            "isNullable": c.nullable,
        })
    };
    let definition = &table.definition;
    let columns: Vec<Value> = definition.columns.iter().map(column).collect();
    let partitions: Vec<Value> = definition.partition_columns.iter().map(column).collect();
    let files = || table.partitions.values().flatten();
    let bytes: u64 = files().map(|file| file.bytes).sum();
    let mut schema = json!({
        "tableName": definition.name, "owner": OWNER, "comment": definition.comment,
        "columns": columns, "partitionKeys": partitions,
        "createTime": table.created_ms / 1000, "lastDDLTime": table.ddl_ms / 1000,
        "lastModifiedTime": table.changed_ms / 1000, "size": bytes, "isVirtualView": false,
    });
    if extended {
        let rows: u64 = files().map(|file| file.rows).sum();
        let more = json!({
            "recordNum": rows, "fileNum": files().count(), "physicalSize": bytes,
            "Reserved": reserved(table).to_string(),
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            schema[name] = value.clone();
        }
    }
    schema
}

/// The properties by which clients know that rows are upserted into this table.
fn reserved(table: &Table) -> Value {
    let definition = &table.definition;
    let sorted = |name: &String| json!({ "col": name, "order": "asc" });
    let mut reserved = json!({
        "Transactional": "true",
        "PrimaryKey": definition.primary_key,
        "ClusterType": "hash",
        "BucketNum": definition.buckets,
        "ClusterCols": definition.primary_key,
        "SortCols": definition.primary_key.iter().map(sorted).collect::<Vec<_>>(),
        "schema_version": table.schema_version.to_string(),
    });
    if definition.partial_update {
        reserved["acid.partial.fields.update.enable"] = json!("true");
    }
    reserved
}

const MANAGED: &str = "MANAGED_TABLE";
/// Items of a page, at most.
const PAGE_MAX: usize = 1000;
const UNSUPPORTED: [&str; 4] = ["shards", "tags", "columns", "indexes"];
