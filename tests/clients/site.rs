//! A server in a directory, and the clients that talk to it.
//!
//! Invariant: what one test does, no other sees.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tempfile::TempDir;
use upsert_sink_tests::binary::{self, Running};

use crate::clients::process::{Client, Kind};

/// A server that runs.
pub(crate) struct Site {
    pub(crate) directory: TempDir,
    server: Running,
    pub(crate) endpoint: String,
}

impl Site {
    /// A server on an empty directory.
    pub(crate) fn new() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let data = directory.path().join("data").display().to_string();
        let (server, endpoint) = serve(&data, "127.0.0.1:0")?;
        Ok(Self { directory, server, endpoint })
    }

    /// kill -9 of the server, and another one on its directory and address.
    pub(crate) fn kill_and_restart(self) -> Result<Self> {
        let Self { directory, server, endpoint } = self;
        server.kill()?;
        let address = endpoint.trim_start_matches("http://").trim_end_matches("/api");
        let data = directory.path().join("data").display().to_string();
        let (server, endpoint) = serve(&data, address)?;
        Ok(Self { directory, server, endpoint })
    }

    /// A client of it.
    pub(crate) fn client(&self, kind: Kind) -> Result<Client> {
        Client::start(kind, &self.endpoint, self.directory.path())
    }

    /// The rows of a query of our own command.
    pub(crate) fn query(&self, sql: &str) -> Result<Value> {
        let data = self.directory.path().join("data").display().to_string();
        let report = binary::run(&["query", sql, "--data", &data, "--report", "json"])?.report()?;
        Ok(report["rows"].clone())
    }
}

fn serve(data: &str, listen: &str) -> Result<(Running, String)> {
    let mut server = Running::start(&["serve", "--data", data, "--listen", listen])?;
    let Some(line) = server.answer()? else {
        anyhow::bail!("the server ended: {}", server.finish()?.stderr)
    };
    let endpoint = line.split(" at ").nth(1).and_then(|rest| rest.split(',').next());
    let endpoint = endpoint.with_context(|| format!("no endpoint in {line:?}"))?.to_owned();
    Ok((server, endpoint))
}

/// A small table: a key, a text; with a partition column if asked.
pub(crate) fn small_table(name: &str, partitioned: bool) -> Value {
    let partitions =
        if partitioned { json!([{"name": "day", "type": "string"}]) } else { json!([]) };
    json!({
        "table": name,
        "columns": [
            {"name": "id", "type": "bigint", "nullable": false},
            {"name": "v", "type": "string", "nullable": true},
        ],
        "key": ["id"],
        "partitions": partitions,
        "buckets": 4,
    })
}

/// Rows for a partition of the table `t`, and how their session ends.
pub(crate) fn upsert_in(partition: &str, rows: Value, end: &str) -> Value {
    json!({"table": "t", "partition": partition, "rows": rows, "end": end})
}

/// Rows for the table `t`, committed.
pub(crate) fn upsert(rows: impl Into<Value>) -> Value {
    json!({"table": "t", "rows": rows.into(), "end": "commit"})
}

/// Rows for the table `t` in a session that stays open.
pub(crate) fn begin(rows: Value) -> Value {
    json!({"table": "t", "rows": rows, "end": "none"})
}

/// The commit of a session of the table `t` that is there already.
pub(crate) fn commit(session: &Value) -> Value {
    json!({"table": "t", "session": session, "end": "commit"})
}

/// A row of it that is put.
pub(crate) fn put(id: i64, v: &str) -> Value {
    json!({"delete": false, "values": {"id": id.to_string(), "v": v}})
}

/// A row of it that is deleted.
pub(crate) fn delete(id: i64) -> Value {
    json!({"delete": true, "values": {"id": id.to_string()}})
}

/// Rows in the order of their first columns, as numbers where they are.
pub(crate) fn sorted(rows: &Value) -> Vec<Value> {
    let mut rows = rows.as_array().cloned().unwrap_or_default();
    let key = |row: &Value| {
        let first = row[0].as_str().unwrap_or_default().to_owned();
        (first.parse::<i64>().unwrap_or_default(), first)
    };
    rows.sort_by_key(key);
    rows
}
