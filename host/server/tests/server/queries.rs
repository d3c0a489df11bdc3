//! Queries see every type, partition columns, and one version of the table.

use arrow_cast::pretty::pretty_format_batches;
use upsert_sink_format::record::{Op, Value};
use upsert_sink_format::schema::ColumnType;

use crate::support::{Row, Site, pack_of};

fn text(value: &str) -> Value {
    Value::Bytes(value.as_bytes().to_vec())
}

#[tokio::test]
async fn every_type_can_be_written_and_queried() {
    let types: Vec<(&str, Value, &str)> = vec![
        ("bigint", Value::Int(i64::MIN), "-9223372036854775808"),
        ("int", Value::Int(-2), "-2"),
        ("smallint", Value::Int(-3), "-3"),
        ("tinyint", Value::Int(-4), "-4"),
        ("boolean", Value::Bool(true), "true"),
        ("float", Value::Float(1.5), "1.5"),
        ("double", Value::Double(2.25), "2.25"),
        ("decimal(10,2)", Value::Decimal(-12345), "-123.45"),
        ("decimal(38,18)", Value::Decimal(1), "0.000000000000000001"),
        ("string", text("größer"), "größer"),
        ("varchar(6)", text("größer"), "größer"),
        ("char(3)", text("abc"), "abc"),
        ("binary", Value::Bytes(vec![0, 255]), "00ff"),
        ("date", Value::Date(-1), "1969-12-31"),
        ("datetime", Value::Datetime(-1), "1969-12-31T23:59:59.999Z"),
        ("timestamp", Value::Timestamp { seconds: -1, nanos: 5 }, "1969-12-31T23:59:59.000000005Z"),
        ("timestamp_ntz", Value::Timestamp { seconds: 1, nanos: 0 }, "1970-01-01T00:00:01"),
        ("interval_year_month", Value::YearMonth(14), "1 years 2 mons"),
        ("interval_day_time", Value::DayTime { seconds: 1, nanos: 0 }, "PT1S"),
        ("json", text("{\"a\": 1}"), "{\"a\": 1}"),
        ("array<bigint>", Value::Array(vec![Some(Value::Int(1)), None]), "[1, ]"),
        ("map<string,int>", Value::Map(vec![(text("k"), Some(Value::Int(7)))]), "{k: 7}"),
        ("struct<a:int,b:string>", Value::Struct(vec![Some(Value::Int(1)), None]), "{a: 1, b: }"),
    ];
    let site = Site::new().await;
    let columns: Vec<String> =
        types.iter().enumerate().map(|(at, (t, _, _))| format!("c{at} {t}")).collect();
    site.sql(&format!(
        "CREATE TABLE t (id BIGINT PRIMARY KEY, {}) \
         TBLPROPERTIES ('transactional'='true','write.bucket.num'='1')",
        columns.join(", ")
    ))
    .await
    .expect("created");
    let mut parsed = vec![ColumnType::BigInt];
    parsed.extend(types.iter().map(|(t, _, _)| ColumnType::parse(t).expect("a known type")));
    let full = std::iter::once(Some(Value::Int(1)));
    let full = full.chain(types.iter().map(|(_, value, _)| Some(value.clone()))).collect();
    let mut nulls = vec![None; parsed.len()];
    nulls[0] = Some(Value::Int(2));
    let pack = pack_of(&parsed, [(full, Op::Upsert), (nulls, Op::Upsert)]);
    let path = "/projects/local/tables/t/upserts";
    let session = site.call("POST", path, Vec::new()).await.json();
    let id = session["id"].as_str().unwrap();
    let reply = site.put_pack(id, 0, 2, pack).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let reply = site.commit(id).await;
    assert_eq!(reply.session_status(), "committed", "{reply:?}");
    for (at, (name, _, expected)) in types.iter().enumerate() {
        let sql = format!("SELECT c{at} FROM t WHERE id = 1");
        let batches = site.service.query(&sql).await.expect("a valid query");
        let shown = pretty_format_batches(&batches).unwrap().to_string();
        assert!(shown.contains(expected), "{name}: {shown}");
        let sql = format!("SELECT count(c{at}), count(*) FROM t");
        let batches = site.service.query(&sql).await.expect("a valid query");
        let shown = pretty_format_batches(&batches).unwrap().to_string();
        assert!(shown.contains("| 1 ") && shown.contains("| 2 "), "{name}: {shown}");
    }
}

#[tokio::test]
async fn what_a_commit_could_not_write_is_refused_when_it_comes() {
    let site = Site::new().await;
    let create = "CREATE TABLE t (id BIGINT PRIMARY KEY, v VARCHAR(3), n STRING NOT NULL) \
                  TBLPROPERTIES ('transactional'='true','write.bucket.num'='1')";
    site.sql(create).await.expect("created");
    let types = [ColumnType::BigInt, ColumnType::Varchar(3), ColumnType::String];
    let session = site.call("POST", crate::support::UPSERTS, Vec::new()).await.json();
    let id = session["id"].as_str().unwrap();
    let key = Some(Value::Int(1));
    for (values, named) in [
        ([key.clone(), Some(text("abcd")), Some(text("x"))], "varchar(3)"),
        ([key.clone(), None, None], "column n"),
        ([None, None, Some(text("x"))], "column id"),
    ] {
        let pack = pack_of(&types, [(values.to_vec(), Op::Upsert)]);
        let reply = site.put_pack(id, 0, 1, pack).await;
        assert_eq!(reply.status, 400, "{named}: {reply:?}");
        assert!(reply.body.contains(named), "{named}: {reply:?}");
    }
    // A delete needs its key only.
    let pack = pack_of(&types, [(vec![key, None, None], Op::Delete)]);
    assert_eq!(site.put_pack(id, 0, 1, pack).await.status, 200);
}

#[tokio::test]
async fn partitions_are_columns_of_a_query() {
    let site = Site::with_days(&["a", "b", "c"]).await;
    for (day, rows) in [("a", 3_i64), ("b", 5)] {
        let rows: Vec<Row> = (0..rows).map(|id| (id, Some("x"))).collect();
        site.write(day, &rows).await;
    }
    let sql = "SELECT day, count(*) AS n FROM t GROUP BY day ORDER BY day";
    let batches = site.service.query(sql).await.expect("a valid query");
    let shown = pretty_format_batches(&batches).unwrap().to_string();
    assert!(shown.contains("| a   | 3 |") && shown.contains("| b   | 5 |"), "{shown}");
    let sql = "SELECT v, day, id FROM t WHERE day = 'b' AND id = 4";
    let batches = site.service.query(sql).await.expect("a valid query");
    let shown = pretty_format_batches(&batches).unwrap().to_string();
    assert!(shown.contains("| x | b   | 4  |"), "{shown}");
}

#[tokio::test]
async fn only_select_is_a_query_and_it_always_has_columns() {
    let site = Site::with_days(&["a"]).await;
    for sql in [
        "DROP TABLE t",
        "INSERT INTO t VALUES (1, 'x', 'a')",
        "COPY t TO '/tmp/x'",
        "CREATE EXTERNAL TABLE x STORED AS PARQUET LOCATION '/'",
        "SET a = 1",
        "SELECT 1; SELECT 2",
        "",
    ] {
        let error = site.service.query(sql).await.expect_err(sql).to_string();
        assert!(error.starts_with("query: "), "{sql}: {error}");
    }
    let batches = site.service.query("SELECT id FROM t").await.expect("a valid query");
    assert_eq!(batches[0].schema().field(0).name(), "id");
    assert_eq!(batches[0].num_rows(), 0);
}
