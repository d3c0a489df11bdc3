//! Tables and partitions as clients want them described.
//!
//! Asked before a session is created. Invariant: lists are never null, and a Delta table says so in
//! `Reserved`.

use quick_xml::escape::escape;
use serde_json::Value;
use serde_json::json;

use super::project::OWNER;
use crate::error::Refusal;
use crate::request::Request;
use crate::service::Answer;
use crate::service::Inner;
use crate::table::catalog::Column;
use crate::table::catalog::Table;

/// Answers `GET …/tables`.
pub(crate) fn list(server: &Inner) -> Answer {
    let names: Vec<String> = server.log.catalog().tables.keys().cloned().collect();
    let one = |name: String| format!("<Table><Name>{name}</Name><Owner>{OWNER}</Owner></Table>");
    let tables: String = names.into_iter().map(one).collect();
    Answer::xml(format!("<Tables><Marker></Marker><MaxItems>1000</MaxItems>{tables}</Tables>"))
}

/// Answers `GET …/tables/{table}`: the table, with `partition=` whether there is this one, with
/// `partitions` all.
pub(crate) fn show(server: &Inner, request: &Request, name: &str) -> Result<Answer, Refusal> {
    let catalog = server.log.catalog();
    let table = catalog.table(name)?;
    if let Some(spec) = request.parameter("partition") {
        let values = table.partition(Some(spec))?;
        return Ok(Answer::xml(format!("<Partitions>{}</Partitions>", partition(table, &values))));
    }
    if request.parameter("partitions").is_some() {
        let all: String = table.partitions.keys().map(|values| partition(table, values)).collect();
        let body =
            format!("<Partitions><Marker></Marker><MaxItems>100000</MaxItems>{all}</Partitions>");
        return Ok(Answer::xml(body));
    }
    let schema = schema_json(table, request.parameter("extended").is_some()).to_string();
    let definition = &table.definition;
    let body = format!(
        "<Table format=\"Json\"><Name>{name}</Name><TableName>{name}</TableName>\
         <Project>{project}</Project><TableId>{id}</TableId><Type>MANAGED_TABLE</Type>\
         <Owner>{OWNER}</Owner><Comment>{comment}</Comment>\
         <Schema format=\"Json\">{schema}</Schema></Table>",
        name = definition.name,
        project = escape(&server.settings.project),
        id = definition.id,
        comment = escape(&definition.comment),
        schema = cdata(&schema),
    );
    Ok(Answer::xml(body))
}

fn partition(table: &Table, values: &[String]) -> String {
    let columns = table.definition.partition_columns.iter().zip(values);
    let one = |(column, value): (&Column, &String)| {
        format!("<Column Name=\"{}\" Value=\"{}\"/>", escape(&column.name), escape(value))
    };
    format!("<Partition>{}</Partition>", columns.map(one).collect::<String>())
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
        "createTime": table.created_ms / 1000, "lastDDLTime": table.created_ms / 1000,
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

/// What clients look for to know that rows are upserted into this table.
fn reserved(table: &Table) -> Value {
    let definition = &table.definition;
    let sorted = |name: &String| json!({ "col": name, "order": "asc" });
    json!({
        "Transactional": "true",
        "PrimaryKey": definition.primary_key,
        "ClusterType": "hash",
        "BucketNum": definition.buckets,
        "ClusterCols": definition.primary_key,
        "SortCols": definition.primary_key.iter().map(sorted).collect::<Vec<_>>(),
        "schema_version": "1",
    })
}

/// Text that XML leaves as it is.
pub(crate) fn cdata(text: &str) -> String {
    format!("<![CDATA[{}]]>", text.replace("]]>", "]]]]><![CDATA[>"))
}
