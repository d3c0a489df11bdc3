//! Every client reads what another writes, and so do we; all of them read what the sink writes.

use std::sync::Arc;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use upsert_sink::arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use upsert_sink::{Catalog, Components, Settings, Sink};
use upsert_sink_tests::plugin::plugin;

use crate::clients::process::{Client, Kind};
use crate::clients::site::{Site, begin, commit, delete, put, sorted, upsert};
use crate::clients::value::{columns, every_type, read_row, row, same_json};

fn create(buckets: u32) -> Value {
    json!({"table": "t", "columns": columns(), "key": ["id"], "partitions": [], "buckets": buckets})
}

/// Writes full rows, rows of nulls, and rows that it deletes again.
fn write(client: &mut Client) -> Result<()> {
    client.call("create_table", create(5))?;
    let mut rows: Vec<Value> = (0..20).map(|id| row(id, id % 2 == 0)).collect();
    rows.extend((10..20).map(delete));
    let written = client.call("upsert", upsert(rows))?;
    assert_eq!(written["status"], "committed");
    Ok(())
}

fn expected() -> Vec<Value> {
    (0..10).map(|id| json!(read_row(id, id % 2 == 0))).collect()
}

fn read_by_all(site: &Site) -> Result<()> {
    for kind in [Kind::PyOdps, Kind::Java] {
        let mut reader = site.client(kind)?;
        for (what, arguments) in
            [("read", json!({"table": "t"})), ("select", json!({"text": "SELECT * FROM t"}))]
        {
            let found = reader.call(what, arguments)?;
            assert_eq!(same_json(sorted(&found["rows"])), expected(), "{:?} {what}", reader.kind());
        }
    }
    let mut jdbc = site.client(Kind::Jdbc)?;
    let typed = every_type().into_iter().enumerate();
    let (names, values): (Vec<String>, Vec<Value>) =
        typed.filter_map(|(at, typed)| Some((format!("c{at}"), json!(typed.jdbc?)))).unzip();
    let sql = format!("SELECT {} FROM t WHERE id IN (0, 1) ORDER BY id", names.join(", "));
    let found = jdbc.call("select", json!({"text": sql}))?;
    let nulls = vec![Value::Null; values.len()];
    assert_eq!(found["rows"], json!([values, nulls]));
    let all = every_type().len();
    let counts: Vec<String> = (0..all).map(|at| format!("count(c{at})")).collect();
    let ours = site.query(&format!("SELECT count(*), {} FROM t", counts.join(", ")))?;
    let mut expected = vec![json!(10)];
    expected.extend((0..all).map(|_| json!(5)));
    assert_eq!(ours, json!([expected]));
    Ok(())
}

#[test]
fn every_type_that_pyodps_writes_is_read_by_all() -> Result<()> {
    let site = Site::new()?;
    write(&mut site.client(Kind::PyOdps)?)?;
    read_by_all(&site)
}

#[test]
fn every_type_that_java_writes_is_read_by_all() -> Result<()> {
    let site = Site::new()?;
    write(&mut site.client(Kind::Java)?)?;
    read_by_all(&site)
}

#[test]
fn a_key_lies_in_the_same_bucket_whoever_writes_it() -> Result<()> {
    let site = Site::new()?;
    let mut python = site.client(Kind::PyOdps)?;
    let mut java = site.client(Kind::Java)?;
    let keys: [(&str, [&str; 4]); 9] = [
        ("bigint", ["0", "-1", "9223372036854775807", "17"]),
        ("int", ["0", "-1", "2147483647", "17"]),
        ("smallint", ["0", "-1", "32767", "17"]),
        ("tinyint", ["0", "-1", "127", "17"]),
        ("string", ["", "a", "größer 😀", "0123456789012345678901234567890123456789"]),
        ("varchar(40)", ["x", "a", "größer", "01234567890123456789"]),
        ("date", ["1970-01-01", "2013-01-31", "2038-01-19", "1999-12-31"]),
        ("datetime", ["0", "1357000000123", "1", "946684800000"]),
        ("decimal(18,4)", ["0.0000", "-1.5000", "12345678901234.5678", "0.0001"]),
    ];
    for (at, (kind, values)) in keys.into_iter().enumerate() {
        // Two columns of the key, so that their hashes are added up.
        let name = format!("t{at}");
        let table = json!({
            "table": name,
            "columns": [
                {"name": "k", "type": kind, "nullable": false},
                {"name": "n", "type": "bigint", "nullable": false},
                {"name": "v", "type": "string", "nullable": true},
            ],
            "key": ["k", "n"], "partitions": [], "buckets": 7,
        });
        python.call("create_table", table)?;
        let rows = |v: &str| -> Vec<Value> {
            let one = |(n, key): (usize, &&str)| {
                let values = json!({"k": key, "n": n.to_string(), "v": v});
                json!({"delete": false, "values": values})
            };
            values.iter().enumerate().map(one).collect()
        };
        // The server refuses a pack with a key of another bucket.
        let upsert = |v: &str| json!({"table": name, "rows": rows(v), "end": "commit"});
        python.call("upsert", upsert("python"))?;
        java.call("upsert", upsert("java"))?;
        let found = site.query(&format!("SELECT v, count(*) FROM {name} GROUP BY v"))?;
        assert_eq!(found, json!([["java", values.len()]]), "{kind}");
    }
    Ok(())
}

#[test]
fn the_last_commit_of_a_key_wins_whoever_made_it() -> Result<()> {
    let site = Site::new()?;
    let mut python = site.client(Kind::PyOdps)?;
    let mut java = site.client(Kind::Java)?;
    python.call("create_table", crate::clients::site::small_table("t", false))?;
    python.call("upsert", upsert(json!([put(1, "p"), put(2, "p"), put(3, "p")])))?;
    let open = java.call("upsert", begin(json!([put(1, "j"), delete(2)])))?;
    python.call("upsert", upsert(json!([put(1, "p2"), put(2, "p2")])))?;
    java.call("resume", commit(&open["session"]))?;
    let expected = [json!(["1", "j"]), json!(["3", "p"])];
    assert_eq!(sorted(&python.call("read", json!({"table": "t"}))?["rows"]), expected);
    assert_eq!(sorted(&java.call("read", json!({"table": "t"}))?["rows"]), expected);
    Ok(())
}

#[test]
fn a_session_survives_kill_9_of_the_server_and_another_client_commits_it() -> Result<()> {
    let site = Site::new()?;
    let mut python = site.client(Kind::PyOdps)?;
    python.call("create_table", crate::clients::site::small_table("t", false))?;
    let rows = json!([put(1, "one"), put(2, "two"), delete(2)]);
    let open = python.call("upsert", begin(rows))?;
    let site = site.kill_and_restart()?;
    let mut java = site.client(Kind::Java)?;
    assert_eq!(java.call("read", json!({"table": "t"}))?["rows"], json!([]));
    let resume = commit(&open["session"]);
    let committed = java.call("resume", resume.clone())?;
    assert_eq!(
        (&committed["before"], &committed["status"]),
        (&json!("normal"), &json!("committed"))
    );
    assert_eq!(python.call("read", json!({"table": "t"}))?["rows"], json!([["1", "one"]]));
    // It is known as committed after another death, too.
    let site = site.kill_and_restart()?;
    let mut java = site.client(Kind::Java)?;
    assert_eq!(java.call("resume", resume)?["before"], "committed");
    Ok(())
}

#[test]
fn rows_of_the_sink_are_read_by_every_client() -> Result<()> {
    let site = Site::new()?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let journal = site.directory.path().join("journal");
        let settings = Settings::local(site.endpoint.clone(), "t", journal)?;
        let create = "CREATE TABLE t (id BIGINT PRIMARY KEY, v STRING) PARTITIONED BY (day STRING) \
                      TBLPROPERTIES ('transactional'='true','write.bucket.num'='4')";
        Catalog::new(&settings, &Components::system()).execute(create).await?;
        let ids = Arc::new(Int64Array::from_iter_values(0..100)) as ArrayRef;
        let text = Arc::new(StringArray::from_iter(
            (0..100).map(|id| (id % 3 > 0).then(|| format!("v{id}"))),
        )) as ArrayRef;
        let days = (0..100).map(|id| if id % 2 == 0 { "a" } else { "b" });
        let days = Arc::new(StringArray::from_iter_values(days)) as ArrayRef;
        let rows = RecordBatch::try_from_iter([("id", ids), ("v", text), ("day", days)])?;
        let builder = Sink::builder(plugin(), settings);
        let sink = builder.schema(rows.schema()).restore(None).open().await?;
        sink.write(&rows, &[]).await?;
        sink.checkpoint(1).await?;
        sink.checkpoint_completed(1).await?;
        sink.committed(1).await?;
        sink.close().await?;
        anyhow::Ok(())
    })?;
    let expected: Vec<Value> = (0..100)
        .filter(|id| id % 2 == 0)
        .map(|id| json!([id.to_string(), (id % 3 > 0).then(|| format!("v{id}"))]))
        .collect();
    for kind in [Kind::PyOdps, Kind::Java, Kind::Jdbc] {
        let mut client = site.client(kind)?;
        let read = json!({"table": "t", "partition": "day='a'"});
        let found = match kind {
            Kind::PyOdps => {
                client.call("select", json!({"text": "SELECT id, v FROM t WHERE day = 'a'"}))?
            }
            Kind::Java => client.call("read", read)?,
            Kind::Jdbc => {
                client.call("select", json!({"text": "SELECT id, v FROM t WHERE day='a'"}))?
            }
        };
        assert_eq!(sorted(&found["rows"]), expected, "{kind:?}");
    }
    let mut python = site.client(Kind::PyOdps)?;
    let rows = python.call("read", json!({"table": "t", "partition": "day='a'"}))?;
    let Some(rows) = rows["rows"].as_array() else { bail!("no rows: {rows}") };
    assert_eq!(rows.len(), 50);
    Ok(())
}
