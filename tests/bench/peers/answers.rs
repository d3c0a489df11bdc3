//! The discarding server's answers about its one project, its one table and their sessions.
//!
//! The least that every client needs before it sends rows. Invariant: the table has the columns of
//! `rows.rs`.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::rows::COLUMNS;

/// Buckets of the table.
pub(crate) const BUCKETS: u32 = 16;

/// The project.
pub(crate) fn project() -> String {
    String::from(
        "<Project><Name>local</Name><Type>managed</Type><Owner>local</Owner>\
         <State>AVAILABLE</State><Properties></Properties></Project>",
    )
}

/// The table.
pub(crate) fn table() -> String {
    let column = |(name, column_type): (&str, &str)| {
        json!({
            "name": name, "type": column_type, "comment": "", "label": "",
            "isNullable": name != KEY,
        })
    };
    let reserved = json!({
        "Transactional": "true", "PrimaryKey": [KEY], "ClusterType": "hash",
        "BucketNum": BUCKETS, "ClusterCols": [KEY], "SortCols": [{"col": KEY, "order": "asc"}],
    });
    let schema = json!({
        "tableName": "bench", "owner": "local", "comment": "", "isVirtualView": false,
        "columns": COLUMNS.map(column), "partitionKeys": [], "size": 0,
        "createTime": 0, "lastDDLTime": 0, "lastModifiedTime": 0,
        "Reserved": reserved.to_string(),
    });
    format!(
        "<Table format=\"Json\"><Name>bench</Name><TableName>bench</TableName>\
         <Project>local</Project><TableId>bench</TableId><Type>MANAGED_TABLE</Type>\
         <Owner>local</Owner><Comment></Comment>\
         <Schema format=\"Json\"><![CDATA[{schema}]]></Schema></Table>"
    )
}

/// A session.
pub(crate) fn session(id: &str, status: &str, address: SocketAddr) -> String {
    let column = |(at, (name, column_type)): (usize, &(&str, &str))| {
        json!({
            "name": name, "type": column_type, "comment": "",
            "nullable": (*name != KEY).to_string(), "column_id": at.to_string(),
        })
    };
    let columns: Vec<Value> = COLUMNS.iter().enumerate().map(column).collect();
    let buckets: Vec<u32> = (0..BUCKETS).collect();
    let session = json!({
        "id": id, "status": status, "hasher": "default", "hash_key": [KEY],
        "schema": {"columns": columns, "partitionKeys": []},
        "slots": [{"slot_id": "0", "buckets": buckets, "worker_addr": address.to_string()}],
        "enable_partial_update": false,
    });
    session.to_string()
}

/// No such thing, on the catalog's side.
pub(crate) fn nothing() -> String {
    String::from(
        "<Error><Code>NoSuchObject</Code><Message>a discarding server</Message>\
         <RequestId>bench</RequestId><HostId>bench</HostId></Error>",
    )
}

/// No such session.
pub(crate) fn no_such_session() -> String {
    error("UpsertSessionNotFound", "it is not of this run")
}

/// A request that breaks the run.
pub(crate) fn refused(what: &str) -> String {
    error("InvalidArgument", what)
}

fn error(code: &str, message: &str) -> String {
    json!({"Code": code, "Message": message, "RequestId": "bench"}).to_string()
}

const KEY: &str = "id";
