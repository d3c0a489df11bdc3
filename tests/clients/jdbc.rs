//! The calls of users of the JDBC driver: statements, queries, metadata.

use anyhow::Result;
use serde_json::json;

use crate::clients::process::Kind;
use crate::clients::site::{Site, put, upsert};

const CREATE: &str = "CREATE TABLE IF NOT EXISTS t \
    (id BIGINT NOT NULL, v STRING, PRIMARY KEY (id)) \
    TBLPROPERTIES ('transactional'='true', 'write.bucket.num'='4')";

#[test]
fn jdbc_runs_statements_and_queries() -> Result<()> {
    let site = Site::new()?;
    let mut client = site.client(Kind::Jdbc)?;
    client.call("sql", json!({"text": CREATE}))?;
    client.call("update", json!({"text": "ALTER TABLE t ADD COLUMNS (n INT)"}))?;
    let mut java = site.client(Kind::Java)?;
    let rows = json!([put(1, "a,b\n\"c\""), put(2, "größer")]);
    java.call("upsert", upsert(rows))?;
    let answer = client.call("select", json!({"text": "SELECT * FROM t ORDER BY id"}))?;
    assert_eq!(
        answer["columns"],
        json!([
            {"name": "id", "type": "bigint"},
            {"name": "v", "type": "string"},
            {"name": "n", "type": "int"},
        ])
    );
    assert_eq!(answer["rows"], json!([["1", "a,b\n\"c\"", null], ["2", "größer", null]]));
    let none = client.call("select", json!({"text": "SELECT id FROM t WHERE id > 2"}))?;
    assert_eq!(none["rows"], json!([]));
    client.call("update", json!({"text": "TRUNCATE TABLE t"}))?;
    let count = client.call("select", json!({"text": "SELECT count(*) FROM t"}))?;
    assert_eq!(count["rows"], json!([["0"]]));
    client.call("sql", json!({"text": "DROP TABLE t"}))?;
    Ok(())
}

#[test]
fn jdbc_lists_tables_and_columns() -> Result<()> {
    let site = Site::new()?;
    let mut client = site.client(Kind::Jdbc)?;
    client.call("sql", json!({"text": CREATE}))?;
    client.call("sql", json!({"text": CREATE.replace(" t ", " other ")}))?;
    assert_eq!(client.call("tables", json!({"prefix": "ot"}))?["names"], json!(["other"]));
    let columns = client.call("describe", json!({"table": "t"}))?;
    assert_eq!(
        columns["columns"],
        json!([{"name": "id", "type": "bigint"}, {"name": "v", "type": "string"}])
    );
    Ok(())
}

#[test]
fn jdbc_falls_back_from_interactive_sessions() -> Result<()> {
    let site = Site::new()?;
    let mut client = site.client(Kind::Jdbc)?;
    client.call("sql", json!({"text": CREATE}))?;
    let answer =
        client.call("select_interactive", json!({"text": "SELECT count(*) AS n FROM t"}))?;
    assert_eq!(answer["rows"], json!([["0"]]));
    Ok(())
}

#[test]
fn jdbc_is_told_what_is_wrong() -> Result<()> {
    let site = Site::new()?;
    let mut client = site.client(Kind::Jdbc)?;
    for (text, named) in [
        ("SELECT * FROM none", "ODPS-0130131"),
        ("SELECT FROM WHERE", "ODPS-0130161"),
        ("INSERT INTO t VALUES (1)", "INSERT INTO t"),
    ] {
        let refused = client.refused("select", json!({"text": text}))?;
        assert!(refused.message.contains(named), "{text}: {refused:?}");
    }
    Ok(())
}
