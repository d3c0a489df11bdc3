//! Downloads: sessions of partitions and of instances, and the records that they give.

use upsert_sink_format::record::{Value, encode_row, stream_trailer};
use upsert_sink_format::schema::ColumnType;

use crate::support::{Row, Site};

const TABLE: &str = "/projects/local/tables/t";

/// The stream of these rows of `t`, with the columns at these places.
fn stream(rows: &[(i64, &str)], columns: &[usize]) -> Vec<u8> {
    let types = [ColumnType::BigInt, ColumnType::String];
    let types: Vec<ColumnType> = columns.iter().map(|at| types[*at].clone()).collect();
    let mut out = Vec::new();
    let mut crcs = Vec::new();
    for (id, v) in rows {
        let values = [Some(Value::Int(*id)), Some(Value::Bytes(v.as_bytes().to_vec()))];
        let values: Vec<_> = columns.iter().map(|at| values[*at].clone()).collect();
        crcs.extend(encode_row(&types, &values, &mut out).to_le_bytes());
    }
    stream_trailer(upsert_sink_format::record::crc::crc32c(&crcs), rows.len() as i64, &mut out);
    out
}

async fn begin(site: &Site, path: &str) -> String {
    let reply = site.call("POST", path, Vec::new()).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let session = reply.json();
    assert_eq!(session["Status"], "normal");
    assert!(session["Schema"]["partitionKeys"].is_array());
    session["DownloadID"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_partition_is_downloaded_as_it_was_when_the_session_began() {
    let site = Site::with_days(&["a", "b"]).await;
    site.write("a", &[(1, Some("one"))]).await;
    site.write("b", &[(9, Some("other"))]).await;
    let id = begin(&site, &format!("{TABLE}?downloads&partition=day%3Da")).await;
    site.write("a", &[(1, Some("changed")), (2, Some("two"))]).await;
    let path = format!("{TABLE}?downloadid={id}&partition=day%3Da");
    assert_eq!(site.get(&path).await.json()["RecordCount"], 1);
    let data = site.get(&format!("{path}&data&rowrange=(0,1)")).await;
    assert_eq!(data.bytes, stream(&[(1, "one")], &[0, 1]));
    let data = site.get(&format!("{path}&data&rowrange=(0,1)&columns=v,id")).await;
    assert_eq!(data.bytes, stream(&[(1, "one")], &[1, 0]));
    let data = site.get(&format!("{path}&data&rowrange=(1,0)")).await;
    assert_eq!(data.bytes, stream(&[], &[0, 1]));
    let closed = site.call("POST", &path, Vec::new()).await.json();
    assert_eq!(closed["Status"], "closed");
}

#[tokio::test]
async fn a_result_is_downloaded_in_ranges_that_fit_together() {
    let site = Site::with_days(&["a"]).await;
    let rows: Vec<Row> = (0..3000).map(|id| (id, Some("x"))).collect();
    site.write("a", &rows).await;
    let path = site.job("SELECT id, v FROM local.t ORDER BY id").await;
    let id = begin(&site, &format!("{path}?downloads")).await;
    for (start, count) in [(0, 3000), (0, 1), (1023, 3), (2999, 1), (1000, 2000)] {
        let range = format!("{path}?downloadid={id}&data&rowrange=({start},{count})");
        let expected: Vec<(i64, &str)> = (start..start + count).map(|id| (id, "x")).collect();
        assert_eq!(site.get(&range).await.bytes, stream(&expected, &[0, 1]), "{start} {count}");
    }
    // A limited session shows as many rows as the service does.
    let path = site
        .job(
            "SELECT a.id FROM t a CROSS JOIN (SELECT 1 AS b UNION ALL SELECT 2 UNION ALL \
                         SELECT 3 UNION ALL SELECT 4) c",
        )
        .await;
    let reply = site.call("POST", &format!("{path}?downloads"), Vec::new()).await;
    assert_eq!(reply.json()["RecordCount"], 12_000);
    let limited = format!("{path}?downloads&instance_tunnel_limit_enabled");
    let reply = site.call("POST", &limited, Vec::new()).await;
    assert_eq!(reply.json()["RecordCount"], 10_000);
    let text = site.get(&format!("{path}?result")).await;
    assert!(text.body.contains("\"SelectResultStatus\":\"TRUNCATED\""));
    assert_eq!(text.body.lines().filter(|line| line.parse::<i64>().is_ok()).count(), 10_000);
}

#[tokio::test]
async fn what_is_wrong_with_a_download_is_told_in_the_tunnels_shape() {
    let site = Site::with_days(&["a"]).await;
    site.sql("CREATE TABLE u (id BIGINT PRIMARY KEY) TBLPROPERTIES ('transactional'='true')")
        .await
        .unwrap();
    site.write("a", &[(1, Some("one"))]).await;
    let id = begin(&site, &format!("{TABLE}?downloads&partition=day%3Da")).await;
    let ddl = site.job("ALTER TABLE t ADD IF NOT EXISTS PARTITION (day='b')").await;
    let select = site.job("SELECT 1 AS a").await;
    let of_table = |rest: &str| format!("{TABLE}?downloadid={id}{rest}");
    for (method, path, status, code) in [
        ("POST", "/projects/local/tables/none?downloads".to_owned(), 404, "NoSuchTable"),
        ("POST", format!("{TABLE}?downloads"), 400, "InvalidPartitionSpec"),
        ("POST", format!("{TABLE}?downloads&partition=day%3Dz"), 404, "NoSuchPartition"),
        ("POST", format!("{TABLE}?downloads&partition=z%3Da"), 400, "InvalidPartitionSpec"),
        ("GET", format!("{TABLE}?downloads"), 405, "MethodNotAllowed"),
        ("GET", format!("{TABLE}?data"), 400, "InvalidArgument"),
        ("GET", format!("{TABLE}?data&linenum=3"), 405, "MethodNotAllowed"),
        ("GET", format!("{TABLE}?downloadid=none"), 404, "NoSuchDownload"),
        ("DELETE", of_table(""), 405, "MethodNotAllowed"),
        ("GET", of_table("&partition=day%3Db"), 400, "InvalidArgument"),
        ("GET", of_table("&data"), 400, "InvalidArgument"),
        ("GET", of_table("&data&rowrange=(0,2)"), 400, "InvalidRowRange"),
        ("GET", of_table("&data&rowrange=(1,18446744073709551615)"), 400, "InvalidRowRange"),
        ("GET", of_table("&data&rowrange=(-1,1)"), 400, "InvalidRowRange"),
        ("GET", of_table("&data&rowrange=0,1"), 400, "InvalidRowRange"),
        ("GET", of_table("&data&rowrange=(0,1)&columns=none"), 400, "InvalidColumnSpec"),
        ("GET", of_table("&data&rowrange=(0,1)&columns=day"), 400, "InvalidColumnSpec"),
        ("GET", of_table("&data&rowrange=(0,1)&arrow"), 405, "MethodNotAllowed"),
        ("GET", of_table("&data&rowrange=(0,1)&raw_size=9"), 400, "InvalidArgument"),
        ("GET", format!("/projects/local/tables/u?downloadid={id}"), 400, "InvalidArgument"),
        ("GET", format!("{select}?downloadid={id}"), 400, "InvalidArgument"),
        ("POST", format!("{ddl}?downloads"), 400, "InstanceTypeNotSupported"),
        ("POST", "/projects/local/instances/none?downloads".to_owned(), 404, "NoSuchObject"),
    ] {
        let reply = site.call(method, &path, Vec::new()).await;
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{method} {path}");
        assert!(reply.json()["Message"].is_string() && reply.json()["RequestId"].is_string());
    }
}
