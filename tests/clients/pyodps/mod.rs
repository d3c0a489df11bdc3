//! The calls of PyODPS users, from creating a table to dropping it.

use anyhow::Result;
use serde_json::{Value, json};

use crate::clients::process::Kind;
use crate::clients::site::{
    Site, begin, commit, delete, put, small_table, sorted, upsert, upsert_in,
};

#[test]
fn pyodps_creates_describes_lists_and_drops_tables() -> Result<()> {
    let site = Site::new()?;
    let mut client = site.client(Kind::PyOdps)?;
    client.call("create_table", small_table("made_by_python", true))?;
    let table = client.call("describe", json!({"table": "made_by_python"}))?;
    assert_eq!(
        table["columns"],
        json!([
            {"name": "id", "type": "bigint", "nullable": false},
            {"name": "v", "type": "string", "nullable": true},
        ])
    );
    assert_eq!((&table["partitions"], &table["key"]), (&json!(["day"]), &json!(["id"])));
    assert_eq!(table["transactional"], true);
    client.call("create_table", small_table("made_too", false))?;
    client.call("create_table", small_table("other", false))?;
    let names = client.call("tables", json!({"prefix": "made"}))?;
    assert_eq!(names["names"], json!(["made_by_python", "made_too"]));
    let refused = client.refused("create_table", small_table("other", false))?;
    assert!(refused.message.contains("ODPS-0130071"), "{refused:?}");
    client.call("drop_table", json!({"table": "other"}))?;
    let exists = |client: &mut crate::clients::process::Client, name: &str| {
        client.call("table_exists", json!({"table": name})).map(|answer| answer["exists"].clone())
    };
    assert_eq!(exists(&mut client, "other")?, false);
    assert_eq!(exists(&mut client, "made_too")?, true);
    client.call("drop_table", json!({"table": "other", "if_exists": true}))?;
    let refused = client.refused("drop_table", json!({"table": "other"}))?;
    assert_eq!(refused.kind, "NoSuchTable", "{refused:?}");
    Ok(())
}

#[test]
fn pyodps_adds_lists_and_finds_partitions() -> Result<()> {
    let site = Site::new()?;
    let mut client = site.client(Kind::PyOdps)?;
    client.call("create_table", small_table("t", true))?;
    for day in ["2013-01-01", "2013-01-02", "it's"] {
        let partition =
            json!({"table": "t", "partition": format!("day='{}'", day.replace('\'', "\\'"))});
        if day != "it's" {
            client.call("add_partition", partition)?;
        }
    }
    client.call("add_partition", json!({"table": "t", "partition": "day='2013-01-01'"}))?;
    let found = client.call("partitions", json!({"table": "t"}))?;
    assert_eq!(found["names"], json!(["day='2013-01-01'", "day='2013-01-02'"]));
    let found =
        client.call("partitions", json!({"table": "t", "partition": "day='2013-01-02'"}))?;
    assert_eq!(found["names"], json!(["day='2013-01-02'"]));
    for (day, exists) in [("2013-01-02", true), ("2013-01-03", false)] {
        let partition = json!({"table": "t", "partition": format!("day='{day}'")});
        assert_eq!(client.call("partition_exists", partition)?["exists"], exists, "{day}");
    }
    Ok(())
}

#[test]
fn pyodps_shows_rows_when_they_are_committed_and_never_when_aborted() -> Result<()> {
    let site = Site::new()?;
    let mut client = site.client(Kind::PyOdps)?;
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
    let rows = client.call("read", read.clone())?;
    assert_eq!(sorted(&rows["rows"]), [json!(["1", "one"]), json!(["2", "two"])]);
    let changes = json!([put(1, "first"), delete(2), put(4, "four"), delete(4), put(5, "")]);
    assert_eq!(
        client.call("upsert", upsert_in("day='a'", changes, "commit"))?["status"],
        "committed"
    );
    let rows = client.call("read", read)?;
    assert_eq!(sorted(&rows["rows"]), [json!(["1", "first"]), json!(["5", ""])]);
    // A session that has ended stays as it ended, and says so.
    let again = client.call("resume", resume(&open["session"]))?;
    assert_eq!((&again["before"], &again["status"]), (&json!("committed"), &json!("committed")));
    let refused = client.refused("resume", resume(&aborted["session"]))?;
    assert!(refused.message.to_lowercase().contains("aborted"), "{refused:?}");
    Ok(())
}

/// PyODPS makes a Merge task of the statement. It knows the kind in small letters only: with others
/// it leaves out what the merge is for.
#[test]
fn pyodps_compacts_a_table_and_reads_the_same_rows() -> Result<()> {
    let site = Site::new()?;
    let mut client = site.client(Kind::PyOdps)?;
    client.call("create_table", small_table("t", true))?;
    client.call("add_partition", json!({"table": "t", "partition": "day='a'"}))?;
    for rows in [json!([put(1, "one"), put(2, "two")]), json!([put(1, "changed"), delete(2)])] {
        client.call("upsert", upsert_in("day='a'", rows, "commit"))?;
    }
    let read = json!({"table": "t", "partition": "day='a'"});
    for text in ["ALTER TABLE t PARTITION (day='a') COMPACT major", "ALTER TABLE t COMPACT major;"]
    {
        client.call("sql", json!({"text": text}))?;
        let rows = client.call("read", read.clone())?;
        assert_eq!(rows["rows"], json!([["1", "changed"]]), "{text}");
    }
    let refused = client.refused("sql", json!({"text": "ALTER TABLE t COMPACT MAJOR"}))?;
    assert!(refused.message.contains("major_compact"), "{refused:?}");
    Ok(())
}

#[test]
fn pyodps_compresses_packs_where_it_is_asked_to() -> Result<()> {
    let site = Site::new()?;
    let mut client = site.client(Kind::PyOdps)?;
    client.call("create_table", small_table("t", false))?;
    let mut command = upsert(json!([put(1, &"one".repeat(100))]));
    command["compress"] = json!(true);
    client.call("upsert", command)?;
    let rows = client.call("read", json!({"table": "t"}))?;
    assert_eq!(sorted(&rows["rows"]), [json!(["1", "one".repeat(100)])]);
    Ok(())
}

#[test]
fn pyodps_open_writer_upserts_by_itself() -> Result<()> {
    let site = Site::new()?;
    let mut client = site.client(Kind::PyOdps)?;
    client.call("create_table", small_table("t", false))?;
    let rows = json!([put(1, "one"), put(2, "two"), delete(1)]);
    client.call("write_table", json!({"table": "t", "rows": rows}))?;
    let rows = client.call("read", json!({"table": "t"}))?;
    assert_eq!(sorted(&rows["rows"]), [json!(["2", "two"])]);
    Ok(())
}

#[test]
fn pyodps_truncates_and_adds_columns_that_are_null_in_old_rows() -> Result<()> {
    let site = Site::new()?;
    let mut client = site.client(Kind::PyOdps)?;
    client.call("create_table", small_table("t", false))?;
    client.call("upsert", upsert(json!([put(1, "one"), put(2, "two")])))?;
    let open = client.call("upsert", begin(json!([put(3, "three")])))?;
    let columns = json!([{"name": "n", "type": "int"}, {"name": "tags", "type": "array<string>"}]);
    client.call("add_columns", json!({"table": "t", "columns": columns}))?;
    let mut row = put(2, "changed");
    row["values"]["n"] = json!("7");
    row["values"]["tags"] = json!(["x", null]);
    client.call("upsert", upsert(json!([row])))?;
    // A session that is older than the columns goes on without them.
    assert_eq!(client.call("resume", commit(&open["session"]))?["status"], "committed");
    let rows = client.call("read", json!({"table": "t"}))?;
    assert_eq!(
        sorted(&rows["rows"]),
        [
            json!(["1", "one", null, null]),
            json!(["2", "changed", "7", ["x", null]]),
            json!(["3", "three", null, null]),
        ]
    );
    let only = client.call("select", json!({"text": "SELECT n FROM t WHERE n IS NOT NULL"}))?;
    assert_eq!(only["rows"], json!([["7"]]));
    assert_eq!(site.query("SELECT count(*), count(n) FROM t")?, json!([[3, 1]]));
    client.call("truncate", json!({"table": "t"}))?;
    assert_eq!(client.call("read", json!({"table": "t"}))?["rows"], json!([]));
    client.call("upsert", upsert(json!([put(9, "nine")])))?;
    let rows = client.call("read", json!({"table": "t"}))?;
    assert_eq!(rows["rows"], json!([["9", "nine", null, null]]));
    Ok(())
}

#[test]
fn pyodps_reads_results_by_the_tunnel_and_as_text() -> Result<()> {
    let site = Site::new()?;
    let mut client = site.client(Kind::PyOdps)?;
    client.call("create_table", small_table("t", false))?;
    let rows: Vec<_> = (0..12_000).map(|id| put(id, &format!("v{id}"))).collect();
    client.call("upsert", upsert(rows))?;
    let answer =
        client.call("select", json!({"text": "SELECT count(*), max(id) AS m FROM `local`.`t`"}))?;
    assert_eq!(
        (&answer["columns"], &answer["rows"]),
        (
            &json!([{"name": "_c0", "type": "bigint"}, {"name": "m", "type": "bigint"}]),
            &json!([["12000", "11999"]])
        )
    );
    // A range is where it is, whoever asks in whatever order.
    let text = "SELECT id FROM t ORDER BY id";
    let range = json!({"text": text, "start": 11_990, "count": 10});
    let answer = client.call("select_range", range)?;
    let expected: Vec<_> = (11_990..12_000).map(|id| json!([id.to_string()])).collect();
    assert_eq!((&answer["count"], &answer["rows"]), (&json!(12_000), &json!(expected)));
    // As text there are 10 000 rows, as on the service.
    let answer = client.call("select_text", json!({"text": text}))?;
    let lines: Vec<&str> = answer["text"].as_str().unwrap_or_default().lines().collect();
    assert_eq!((lines.len(), lines[0], lines[10_000]), (10_001, "\"id\"", "9999"));
    let text = "SELECT v, NULL AS n FROM t WHERE v = \"v7\" OR id IN (8)";
    let answer = client.call("select_pandas", json!({"text": text}))?;
    assert_eq!(answer["columns"], json!(["v", "n"]));
    assert_eq!(answer["rows"].as_array().map(Vec::len), Some(2));
    Ok(())
}

#[test]
fn pyodps_is_told_what_is_wrong_by_the_vendors_classes() -> Result<()> {
    let site = Site::new()?;
    let mut client = site.client(Kind::PyOdps)?;
    client.call("create_table", small_table("t", true))?;
    for (what, arguments, kind) in [
        ("sql", json!({"text": "SELECT * FROM none"}), "NoSuchTable"),
        ("sql", json!({"text": "SELECT FROM WHERE"}), "ParseError"),
        ("sql", json!({"text": "INSERT INTO t VALUES (1)"}), "ParseError"),
        ("sql", json!({"text": "SELECT none FROM t"}), "ODPSError"),
        ("sql", json!({"text": "ALTER TABLE none ADD COLUMNS (a INT)"}), "NoSuchTable"),
        ("describe", json!({"table": "none"}), "NoSuchTable"),
        (
            "upsert",
            json!({"table": "t", "partition": "day='none'", "rows": [], "end": "none"}),
            "NoSuchPartition",
        ),
        (
            "resume",
            json!({"table": "t", "partition": "day='none'", "session": "none", "end": "none"}),
            "UpsertSessionNotFound",
        ),
    ] {
        let refused = client.refused(what, arguments)?;
        assert_eq!(refused.kind, kind, "{what}: {refused:?}");
    }
    Ok(())
}

#[test]
fn pyodps_asks_about_instances_and_cannot_stop_what_has_ended() -> Result<()> {
    let site = Site::new()?;
    let mut client = site.client(Kind::PyOdps)?;
    let asked = client.call("instance", json!({"text": "SELECT 1 AS one"}))?;
    assert!(asked["source"].as_str().unwrap_or_default().starts_with("SELECT 1 AS one"));
    assert_eq!((&asked["status"], &asked["listed"]), (&json!("Terminated"), &json!(true)));
    assert_eq!(asked["names"].as_array().map(Vec::len), Some(1));
    let refused = client.refused("stop", json!({"text": "SELECT 1 AS one"}))?;
    assert_eq!(refused.code, "InvalidStateSetting", "{refused:?}");
    Ok(())
}
