//! Statements that change a table while sessions and files of it are there.

use upsert_sink_format::record::{Op, Value};
use upsert_sink_format::schema::ColumnType;

use crate::support::{Site, UPSERTS, bucket, pack, pack_of, row};

/// The numbers of a query's rows, null as none.
async fn numbers(site: &Site, sql: &str) -> Vec<Vec<Option<i64>>> {
    use arrow_array::Array;
    let batches = site.service.query(sql).await.expect(sql);
    let mut rows = Vec::new();
    for batch in batches {
        for at in 0..batch.num_rows() {
            let number = |column: &arrow_array::ArrayRef| {
                let array = column.as_any().downcast_ref::<arrow_array::Int64Array>();
                let array = array.expect("a bigint");
                array.is_valid(at).then(|| array.value(at))
            };
            rows.push(batch.columns().iter().map(number).collect());
        }
    }
    rows
}

#[tokio::test]
async fn columns_that_are_added_are_null_in_rows_and_sessions_that_are_older() {
    let site = Site::with_days(&["a"]).await;
    site.write("a", &[(1, Some("one"))]).await;
    let old = site.session("a").await;
    assert_eq!(site.put(&old, &[(2, Some("two"))]).await.status, 200);
    site.sql("ALTER TABLE t ADD COLUMNS (n BIGINT COMMENT 'x', m ARRAY<BIGINT>)").await.unwrap();
    // Its packs number their fields by the columns that it began with.
    assert_eq!(site.put(&old, &[(3, Some("three"))]).await.status, 200);
    let session = site.reload(&old).await.json();
    assert_eq!(session["schema"]["columns"].as_array().map(Vec::len), Some(2));
    let new = site.create("a").await.json();
    assert_eq!(new["schema"]["columns"].as_array().map(Vec::len), Some(4));
    let types = ["bigint", "string", "bigint", "array<bigint>"];
    let types: Vec<ColumnType> = types.iter().map(|t| ColumnType::parse(t).unwrap()).collect();
    let values = vec![Some(Value::Int(4)), None, Some(Value::Int(7)), None];
    let body = pack_of(&types, [(values, Op::Upsert)]);
    let id = new["id"].as_str().unwrap();
    assert_eq!(site.put_pack(id, bucket(4), 1, body).await.status, 200);
    for id in [id, &old] {
        assert_eq!(site.commit(id).await.session_status(), "committed");
    }
    let expected =
        [vec![Some(1), None], vec![Some(2), None], vec![Some(3), None], vec![Some(4), Some(7)]];
    let sql = "SELECT id, n FROM t ORDER BY id";
    assert_eq!(numbers(&site, sql).await, expected);
    assert_eq!(
        numbers(&site, "SELECT count(*), count(n), count(m) FROM t").await,
        [[4, 1, 0].map(Some)]
    );
    assert_eq!(numbers(&site, "SELECT n FROM t WHERE n IS NULL").await.len(), 3);
    let table = site.get("/api/projects/local/tables/t?extended").await.body;
    assert!(table.contains("\\\"schema_version\\\":\\\"2\\\""), "{table}");
    for (text, named) in [
        ("ALTER TABLE t ADD COLUMNS (n INT)", "two columns named n"),
        ("ALTER TABLE t ADD COLUMNS (day STRING)", "two columns named day"),
        ("ALTER TABLE t ADD COLUMNS (x BLOB)", "blob"),
        ("ALTER TABLE t ADD COLUMNS ()", "a name is expected"),
    ] {
        assert!(site.sql(text).await.unwrap_err().contains(named), "{text}");
    }
    site.sql("ALTER TABLE t ADD COLUMNS IF NOT EXISTS (n INT)").await.unwrap();
    // All of it is in the log.
    let again = site.restarted().await;
    assert_eq!(numbers(&again, sql).await, expected);
}

#[tokio::test]
async fn a_session_keeps_its_columns_over_a_restart() {
    let site = Site::with_days(&["a"]).await;
    let old = site.session("a").await;
    assert_eq!(site.put(&old, &[(1, Some("one"))]).await.status, 200);
    site.sql("ALTER TABLE t ADD COLUMNS (n BIGINT)").await.unwrap();
    let again = site.restarted().await;
    assert_eq!(again.put_pack(&old, bucket(2), 1, pack(&[(2, Some("two"))])).await.status, 200);
    assert_eq!(again.commit(&old).await.session_status(), "committed");
    assert_eq!(again.rows().await, [row("a", 1, "one"), row("a", 2, "two")]);
}

#[tokio::test]
async fn truncating_takes_what_is_committed_and_leaves_what_is_open() {
    let site = Site::with_days(&["a", "b"]).await;
    site.write("a", &[(1, Some("one"))]).await;
    site.write("b", &[(2, Some("two"))]).await;
    let open = site.session("a").await;
    assert_eq!(site.put(&open, &[(3, Some("three"))]).await.status, 200);
    site.sql("TRUNCATE TABLE t PARTITION (day='a')").await.unwrap();
    assert_eq!(site.rows().await, [row("b", 2, "two")]);
    site.sql("TRUNCATE TABLE t").await.unwrap();
    let version = site.service.stats().log_version;
    site.sql("TRUNCATE TABLE local.t").await.unwrap();
    assert_eq!(site.service.stats().log_version, version, "there was nothing left to take");
    assert!(site.rows().await.is_empty());
    assert_eq!(site.commit(&open).await.session_status(), "committed");
    assert_eq!(site.rows().await, [row("a", 3, "three")]);
    let site = site.restarted().await;
    assert_eq!(site.rows().await, [row("a", 3, "three")]);
    for (text, named) in [
        ("TRUNCATE TABLE none", "ODPS-0130131"),
        ("TRUNCATE TABLE t PARTITION (day='z')", "no partition"),
        ("TRUNCATE TABLE t PARTITION (z='a')", "day is missing"),
    ] {
        assert!(site.sql(text).await.unwrap_err().contains(named), "{text}");
    }
}

#[tokio::test]
async fn commits_at_once_are_one_commit_and_foreign_sessions_are_refused() {
    let site = Site::with_days(&["a"]).await;
    site.sql("CREATE TABLE u (id BIGINT PRIMARY KEY) TBLPROPERTIES ('transactional'='true')")
        .await
        .unwrap();
    let id = site.session("a").await;
    assert_eq!(site.put(&id, &[(1, Some("one"))]).await.status, 200);
    let version = site.service.stats().log_version;
    let replies = futures::future::join_all((0..8).map(|_| site.commit(&id))).await;
    for reply in &replies {
        let status = reply.session_status();
        assert!(status == "committed" || status == "committing", "{reply:?}");
    }
    assert!(replies.iter().any(|reply| reply.session_status() == "committed"));
    assert_eq!(site.service.stats().log_version, version + 1);
    assert_eq!(site.rows().await, [row("a", 1, "one")]);
    let open = site.session("a").await;
    let foreign = UPSERTS.replace("/t/", "/u/");
    for method in ["GET", "PUT", "POST", "DELETE"] {
        let path = format!("{foreign}?upsertid={open}&bucketid=0");
        let reply = site.call(method, &path, Vec::new()).await;
        assert_eq!((reply.status, reply.code().as_str()), (400, "InvalidArgument"), "{method}");
    }
    assert_eq!(site.reload(&open).await.session_status(), "normal");
}

#[tokio::test]
async fn a_query_of_some_partitions_leaves_the_others_unread() {
    let site = Site::new().await;
    let create = "CREATE TABLE p (id BIGINT PRIMARY KEY) PARTITIONED BY (day STRING, hour INT) \
                  TBLPROPERTIES ('transactional'='true','write.bucket.num'='1')";
    site.sql(create).await.unwrap();
    for (day, hour) in [("a", 1), ("a", 12), ("b", 1)] {
        site.sql(&format!("ALTER TABLE p ADD PARTITION (day='{day}', hour={hour})")).await.unwrap();
        let path = format!("/projects/local/tables/p/upserts?partition=day%3D{day},hour%3D{hour}");
        let session = site.call("POST", &path, Vec::new()).await.json();
        let id = session["id"].as_str().unwrap();
        let body = pack_of(&[ColumnType::BigInt], [(vec![Some(Value::Int(hour))], Op::Upsert)]);
        let path = format!("/projects/local/tables/p/upserts?upsertid={id}&bucketid=0");
        assert_eq!(site.call("PUT", &path, body).await.status, 200);
        let path = format!("/projects/local/tables/p/upserts?upsertid={id}");
        assert_eq!(site.call("POST", &path, Vec::new()).await.session_status(), "committed");
    }
    for (filter, rows) in [
        ("day = 'a'", 2),
        ("day = 'a' AND hour > 2", 1),
        ("hour IN (1, 2) AND day >= 'b'", 1),
        ("hour = id AND day = 'b'", 1),
        ("day LIKE 'z%'", 0),
        ("CAST(day AS INT) = 1", 0),
        ("day IS NULL OR hour = 12", 1),
    ] {
        let sql = format!("SELECT id FROM p WHERE {filter}");
        match site.service.query(&sql).await {
            Ok(batches) => {
                let found: usize = batches.iter().map(arrow_array::RecordBatch::num_rows).sum();
                assert_eq!(found, rows, "{filter}");
            }
            Err(error) => assert!(filter.contains("CAST"), "{filter}: {error}"),
        }
    }
}
