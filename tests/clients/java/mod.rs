//! The calls of Java SDK users, from creating a table to dropping it.

use anyhow::Result;
use serde_json::{Value, json};

use crate::clients::process::Kind;
use crate::clients::site::{Site, commit, delete, put, small_table, sorted, upsert, upsert_in};

#[test]
fn java_creates_describes_lists_and_drops_tables() -> Result<()> {
    let site = Site::new()?;
    let mut client = site.client(Kind::Java)?;
    client.call("create_table", small_table("made_by_java", true))?;
    let table = client.call("describe", json!({"table": "made_by_java"}))?;
    assert_eq!(
        table["columns"],
        json!([
            {"name": "id", "type": "bigint", "nullable": false},
            {"name": "v", "type": "string", "nullable": true},
        ])
    );
    assert_eq!((&table["partitions"], &table["key"]), (&json!(["day"]), &json!(["id"])));
    assert_eq!((&table["transactional"], &table["delta"]), (&json!(true), &json!(true)));
    assert_eq!((&table["buckets"], &table["project"]), (&json!(4), &json!("local")));
    client.call("create_table", small_table("made_too", false))?;
    client.call("create_table", small_table("other", false))?;
    let names = client.call("tables", json!({"prefix": "made"}))?;
    assert_eq!(names["names"], json!(["made_by_java", "made_too"]));
    client.refused("create_table", small_table("other", false))?;
    client.call("drop_table", json!({"table": "other"}))?;
    assert_eq!(client.call("table_exists", json!({"table": "other"}))?["exists"], false);
    assert_eq!(client.call("table_exists", json!({"table": "made_too"}))?["exists"], true);
    client.call("drop_table", json!({"table": "other", "if_exists": true}))?;
    let refused = client.refused("drop_table", json!({"table": "other"}))?;
    assert!(refused.message.contains("ODPS-0130131"), "{refused:?}");
    Ok(())
}

#[test]
fn java_adds_lists_and_finds_partitions() -> Result<()> {
    let site = Site::new()?;
    let mut client = site.client(Kind::Java)?;
    client.call("create_table", small_table("t", true))?;
    for day in ["2013-01-01", "2013-01-02", "2013-01-01"] {
        let partition = json!({"table": "t", "partition": format!("day='{day}'")});
        client.call("add_partition", partition)?;
    }
    let found = client.call("partitions", json!({"table": "t"}))?;
    assert_eq!(found["names"], json!(["day='2013-01-01'", "day='2013-01-02'"]));
    assert_eq!(found["specs"].as_array().map(Vec::len), Some(2));
    for (day, exists) in [("2013-01-02", true), ("2013-01-03", false)] {
        let partition = json!({"table": "t", "partition": format!("day='{day}'")});
        assert_eq!(client.call("partition_exists", partition)?["exists"], exists, "{day}");
    }
    Ok(())
}

#[test]
fn java_shows_rows_when_they_are_committed_and_never_when_aborted() -> Result<()> {
    let site = Site::new()?;
    let mut client = site.client(Kind::Java)?;
    client.call("create_table", small_table("t", true))?;
    client.call("add_partition", json!({"table": "t", "partition": "day='a'"}))?;
    let read = json!({"table": "t", "partition": "day='a'"});
    let open = client
        .call("upsert", upsert_in("day='a'", json!([put(1, "one"), put(2, "two")]), "none"))?;
    assert_eq!(open["status"], "normal");
    assert_eq!(client.call("read", read.clone())?["rows"], json!([]));
    let aborted = client.call("upsert", upsert_in("day='a'", json!([put(3, "three")]), "abort"))?;
    assert_eq!(aborted["status"], "aborted");
    let resume = |session: &Value| {
        let mut resume = commit(session);
        resume["partition"] = json!("day='a'");
        resume
    };
    let committed = client.call("resume", resume(&open["session"]))?;
    assert_eq!(
        (&committed["before"], &committed["status"]),
        (&json!("normal"), &json!("committed"))
    );
    let changes = json!([put(1, "first"), delete(2), put(4, "four"), delete(4), put(5, "")]);
    assert_eq!(
        client.call("upsert", upsert_in("day='a'", changes, "commit"))?["status"],
        "committed"
    );
    let rows = client.call("read", read)?;
    assert_eq!(sorted(&rows["rows"]), [json!(["1", "first"]), json!(["5", ""])]);
    let refused = client.refused("resume", resume(&aborted["session"]))?;
    assert!(refused.message.to_lowercase().contains("abort"), "{refused:?}");
    Ok(())
}

/// Without a word about it the SDK compresses by zlib: that is what all other tests do.
#[test]
fn java_compresses_packs_in_every_way_that_it_knows() -> Result<()> {
    let site = Site::new()?;
    let mut client = site.client(Kind::Java)?;
    client.call("create_table", small_table("t", false))?;
    let ways = ["ODPS_RAW", "ODPS_ZLIB", "ODPS_SNAPPY", "ODPS_LZ4_FRAME", "ODPS_ZSTD"];
    for (id, way) in (0..).zip(ways) {
        let mut command = upsert(json!([put(id, &way.repeat(50)), put(id + 10, "")]));
        command["compress"] = json!(way);
        client.call("upsert", command)?;
    }
    let rows = client.call("read", json!({"table": "t"}))?;
    let long = (0..).zip(ways).map(|(id, way)| (id, way.repeat(50)));
    let empty = (10..).zip(ways).map(|(id, _)| (id, String::new()));
    let row = |(id, text): (i64, String)| json!([id.to_string(), text]);
    assert_eq!(sorted(&rows["rows"]), long.chain(empty).map(row).collect::<Vec<_>>());
    Ok(())
}

#[test]
fn java_downloads_any_range_and_any_columns_of_one_moment() -> Result<()> {
    let site = Site::new()?;
    let mut client = site.client(Kind::Java)?;
    client.call("create_table", small_table("t", false))?;
    let rows: Vec<Value> = (0..5000).map(|id| put(id, &format!("v{id}"))).collect();
    client.call("upsert", upsert(rows))?;
    let whole = client.call("read", json!({"table": "t"}))?;
    assert_eq!((&whole["count"], &whole["status"]), (&json!(5000), &json!("normal")));
    let expected: Vec<Value> =
        (0..5000).map(|id| json!([id.to_string(), format!("v{id}")])).collect();
    assert_eq!(sorted(&whole["rows"]), expected);
    let range = json!({"table": "t", "start": 4000, "count": 1000, "columns": ["v"]});
    let range = client.call("read", range)?;
    let rows = whole["rows"].as_array().cloned().unwrap_or_default();
    let expected: Vec<Value> = rows[4000..].iter().map(|row| json!([row[1]])).collect();
    assert_eq!(range["rows"], json!(expected));
    let beyond = client.refused("read", json!({"table": "t", "start": 4999, "count": 2}))?;
    assert_eq!(beyond.code, "InvalidRowRange", "{beyond:?}");
    Ok(())
}

#[test]
fn java_truncates_and_adds_columns_that_are_null_in_old_rows() -> Result<()> {
    let site = Site::new()?;
    let mut client = site.client(Kind::Java)?;
    client.call("create_table", small_table("t", false))?;
    client.call("upsert", upsert(json!([put(1, "one"), put(2, "two")])))?;
    let columns = json!([{"name": "n", "type": "int"}, {"name": "m", "type": "map<string,int>"}]);
    client.call("add_columns", json!({"table": "t", "columns": columns}))?;
    let mut row = put(2, "changed");
    row["values"]["n"] = json!("7");
    row["values"]["m"] = json!([["k", "1"]]);
    client.call("upsert", upsert(json!([row])))?;
    let rows = client.call("read", json!({"table": "t"}))?;
    assert_eq!(
        sorted(&rows["rows"]),
        [json!(["1", "one", null, null]), json!(["2", "changed", "7", [["k", "1"]]])]
    );
    let picked = client.call("read", json!({"table": "t", "columns": ["n"]}))?;
    assert_eq!(picked["rows"].as_array().map(Vec::len), Some(2));
    client.call("truncate", json!({"table": "t"}))?;
    assert_eq!(client.call("read", json!({"table": "t"}))?["rows"], json!([]));
    Ok(())
}

/// The SDK makes a Merge task of the statement.
#[test]
fn java_compacts_a_table_and_reads_the_same_rows() -> Result<()> {
    let site = Site::new()?;
    let mut client = site.client(Kind::Java)?;
    client.call("create_table", small_table("t", true))?;
    client.call("add_partition", json!({"table": "t", "partition": "day='a'"}))?;
    for rows in [json!([put(1, "one"), put(2, "two")]), json!([put(1, "changed"), delete(2)])] {
        client.call("upsert", upsert_in("day='a'", rows, "commit"))?;
    }
    let read = json!({"table": "t", "partition": "day='a'"});
    let rows = client.call("read", read.clone())?["rows"].clone();
    assert_eq!(rows, json!([["1", "changed"]]));
    for text in ["ALTER TABLE t PARTITION (day='a') COMPACT MAJOR", "ALTER TABLE t COMPACT MAJOR;"]
    {
        client.call("sql", json!({"text": text}))?;
        assert_eq!(client.call("read", read.clone())?["rows"], rows, "{text}");
    }
    Ok(())
}

#[test]
fn java_reads_results_by_the_tunnel_and_as_text() -> Result<()> {
    let site = Site::new()?;
    let mut client = site.client(Kind::Java)?;
    client.call("create_table", small_table("t", false))?;
    let rows = json!([put(1, "a,b"), put(2, "c\"d"), {"delete": false, "values": {"id": "3"}}]);
    client.call("upsert", upsert(rows))?;
    let text = "SELECT id, v FROM local.t ORDER BY id";
    let rows = json!([["1", "a,b"], ["2", "c\"d"], ["3", null]]);
    let answer = client.call("select", json!({"text": text}))?;
    assert_eq!((&answer["rows"], &answer["count"]), (&rows, &json!(3)));
    let range = client.call("select", json!({"text": text, "start": 1, "count": 1}))?;
    assert_eq!(range["rows"], json!([["2", "c\"d"]]));
    // As text, null is what the vendor writes for it.
    let rows = json!([["1", "a,b"], ["2", "c\"d"], ["3", "\\N"]]);
    assert_eq!(client.call("select_text", json!({"text": text}))?["rows"], rows);
    Ok(())
}

#[test]
fn java_is_told_what_is_wrong_by_the_vendors_codes() -> Result<()> {
    let site = Site::new()?;
    let mut client = site.client(Kind::Java)?;
    client.call("create_table", small_table("t", true))?;
    let upsert = |table: &str, day: &str| {
        let partition = format!("day='{day}'");
        json!({"table": table, "partition": partition, "rows": [], "end": "none"})
    };
    for (what, arguments, code) in [
        ("describe", json!({"table": "none"}), "NoSuchTable"),
        ("upsert", upsert("none", "a"), "NoSuchTable"),
        ("upsert", upsert("t", "none"), "NoSuchPartition"),
        ("read", json!({"table": "t"}), "InvalidPartitionSpec"),
    ] {
        let refused = client.refused(what, arguments)?;
        assert_eq!(refused.code, code, "{what}: {refused:?}");
    }
    for (text, named) in [
        ("SELECT * FROM none", "ODPS-0130131"),
        ("SELECT FROM WHERE", "ODPS-0130161"),
        ("SELECT none FROM t", "ODPS-0130071"),
        ("ALTER TABLE none COMPACT MAJOR", "ODPS-0130131"),
        ("ALTER TABLE t COMPACT MINOR", "major_compact"),
    ] {
        let refused = client.refused("sql", json!({"text": text}))?;
        assert!(refused.message.contains(named), "{text}: {refused:?}");
    }
    Ok(())
}

#[test]
fn java_asks_about_instances_and_cannot_stop_what_has_ended() -> Result<()> {
    let site = Site::new()?;
    let mut client = site.client(Kind::Java)?;
    let asked = client.call("instance", json!({"text": "SELECT 1 AS one"}))?;
    assert_eq!((&asked["status"], &asked["exists"]), (&json!("Terminated"), &json!(true)));
    assert_eq!(asked["names"], json!(["AnonymousSQLTask"]));
    assert_eq!(asked["results"]["AnonymousSQLTask"], "\"one\"\n1\n");
    let logview = asked["logview"].as_str().unwrap_or_default();
    assert!(logview.starts_with("http://127.0.0.1:"), "{logview}");
    let refused = client.refused("stop", json!({"text": "SELECT 1 AS one"}))?;
    assert_eq!(refused.code, "InvalidStateSetting", "{refused:?}");
    Ok(())
}
