//! The life of a session, as clients see it.

use upsert_sink_format::id::Millis;

use crate::support::{BUCKETS, HOUR, Site, UPSERTS, row};

#[tokio::test]
async fn a_session_is_described_with_all_that_clients_need() {
    let site = Site::with_days(&["2013-01-01"]).await;
    let path = format!("/api{UPSERTS}?slotnum=3&partition=day%3D'2013-01-01'&lifecycle=24");
    let session = site.call("POST", &path, Vec::new()).await.json();
    for field in ["id", "schema", "hash_key", "hasher", "slots", "status"] {
        assert!(!session[field].is_null(), "{field}: {session}");
    }
    assert_eq!(session["status"], "normal");
    assert_eq!(session["hasher"], "default");
    assert_eq!(session["hash_key"], serde_json::json!(["id"]));
    assert_eq!(session["schema"]["columns"][0]["nullable"], "false");
    assert_eq!(session["schema"]["partitionKeys"][0]["name"], "day");
    let slots = session["slots"].as_array().unwrap();
    let mut buckets: Vec<u64> = slots
        .iter()
        .flat_map(|slot| slot["buckets"].as_array().unwrap())
        .map(|bucket| bucket.as_u64().unwrap())
        .collect();
    buckets.sort_unstable();
    assert_eq!(buckets, (0..u64::from(BUCKETS)).collect::<Vec<_>>());
    let address = slots[0]["worker_addr"].as_str().unwrap();
    assert_eq!(address.matches(':').count(), 1, "{address}");
    let again = site.reload(session["id"].as_str().unwrap()).await.json();
    assert_eq!(again, session);
}

#[tokio::test]
async fn a_session_is_refused_where_there_is_nothing_to_write_to() {
    let site = Site::with_days(&["a"]).await;
    assert_eq!(
        (site.create("b").await.status, site.create("b").await.code()),
        (404, "NoSuchPartition".into())
    );
    let create = |path: &'static str| site.call("POST", path, Vec::new());
    for (path, status, code) in [
        ("/projects/local/tables/none/upserts?slotnum=1", 404, "NoSuchTable"),
        ("/projects/other/tables/t/upserts?slotnum=1", 404, "NoSuchProject"),
        ("/projects/local/schemas/s/tables/t/upserts?slotnum=1", 404, "NoSuchSchema"),
        ("/projects/local/tables/t/upserts?slotnum=1", 400, "InvalidPartitionSpec"),
        ("/projects/local/tables/t/upserts?partition=day%3Da&lifecycle=25", 400, "InvalidArgument"),
        ("/projects/local/tables/t/upserts?partition=day%3Da&slotnum=x", 400, "InvalidArgument"),
        ("/projects/local/tables/t/upserts?upsertid=unknown", 404, "UpsertSessionNotFound"),
    ] {
        let reply = create(path).await;
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{path}: {reply:?}");
    }
}

#[tokio::test]
async fn an_aborted_session_refuses_packs_and_never_commits() {
    let site = Site::with_days(&["a"]).await;
    let id = site.session("a").await;
    assert_eq!(site.put(&id, &[(1, Some("x"))]).await.status, 200);
    assert_eq!(site.abort(&id).await.status, 200);
    assert_eq!(site.abort(&id).await.status, 200);
    let late = site.put(&id, &[(2, Some("y"))]).await;
    assert_eq!((late.status, late.code().as_str()), (409, "StatusConflict"));
    assert_eq!(site.commit(&id).await.session_status(), "aborted");
    assert_eq!(site.reload(&id).await.session_status(), "aborted");
    assert!(site.rows().await.is_empty());
}

#[tokio::test]
async fn a_committed_session_refuses_packs_and_aborts_and_commits_again() {
    let site = Site::with_days(&["a"]).await;
    let id = site.session("a").await;
    assert_eq!(site.put(&id, &[(1, Some("x"))]).await.status, 200);
    let version = site.service.stats().log_version;
    for _ in 0..3 {
        assert_eq!(site.commit(&id).await.session_status(), "committed");
    }
    assert_eq!(site.service.stats().log_version, version + 1);
    assert_eq!(site.put(&id, &[(1, Some("y"))]).await.code(), "StatusConflict");
    assert_eq!(site.abort(&id).await.code(), "StatusConflict");
    assert_eq!(site.rows().await, [row("a", 1, "x")]);
}

#[tokio::test]
async fn a_session_of_another_table_or_partition_is_refused_and_left_as_it_is() {
    let site = Site::with_days(&["a", "b"]).await;
    site.sql("CREATE TABLE u (id BIGINT PRIMARY KEY) TBLPROPERTIES ('transactional'='true')")
        .await
        .unwrap();
    let id = site.session("a").await;
    assert_eq!(site.put(&id, &[(1, Some("x"))]).await.status, 200);
    let foreign = format!("/projects/local/tables/u/upserts?upsertid={id}");
    let elsewhere = format!("{UPSERTS}?upsertid={id}&partition=day%3Db");
    for (path, names) in [(foreign, "table t"), (elsewhere, "day=b")] {
        for method in ["GET", "PUT", "POST", "DELETE"] {
            let reply = site.call(method, &path, Vec::new()).await;
            assert_eq!((reply.status, reply.code().as_str()), (400, "InvalidArgument"), "{path}");
            assert!(reply.body.contains(names), "{method}: {reply:?}");
        }
    }
    assert!(site.rows().await.is_empty());
    assert_eq!(site.commit(&id).await.session_status(), "committed");
    assert_eq!(site.rows().await, [row("a", 1, "x")]);
}

#[tokio::test]
async fn two_commits_at_once_are_one_commit() {
    let site = Site::with_days(&["a"]).await;
    let id = site.session("a").await;
    assert_eq!(site.put(&id, &[(1, Some("x"))]).await.status, 200);
    let version = site.service.stats().log_version;
    let (first, second) = futures::join!(site.commit(&id), site.commit(&id));
    let said = [first.session_status(), second.session_status()];
    assert!(said.contains(&"committed".to_owned()), "{said:?}");
    assert!(said.iter().all(|said| said == "committed" || said == "committing"), "{said:?}");
    assert_eq!(site.service.stats().log_version, version + 1);
    assert_eq!(site.service.stats().commits, 1);
    assert_eq!(site.commit(&id).await.session_status(), "committed");
    assert_eq!(site.rows().await, [row("a", 1, "x")]);
}

#[tokio::test]
async fn an_expired_session_says_expired_for_ever_and_is_never_not_found() {
    let site = Site::with_days(&["a"]).await;
    let path = format!("{UPSERTS}?slotnum=1&partition=day%3Da&lifecycle=2");
    let reply = site.call("POST", &path, Vec::new()).await.json();
    let id = reply["id"].as_str().unwrap();
    site.clock.advance(Millis(2 * HOUR.0 - 1));
    assert_eq!(site.put(id, &[(1, Some("x"))]).await.status, 200);
    site.clock.advance(Millis(1));
    assert_eq!(site.reload(id).await.session_status(), "expired");
    assert_eq!(site.put(id, &[(1, Some("x"))]).await.code(), "StatusConflict");
    assert_eq!(site.commit(id).await.session_status(), "expired");
    // Another session's creation sweeps it away; its id still tells what it was.
    site.session("a").await;
    assert_eq!(site.commit(id).await.session_status(), "expired");
    assert_eq!(site.service.open_sessions().len(), 1);
}

#[tokio::test]
async fn a_dropped_table_takes_its_sessions_with_it() {
    let site = Site::with_days(&["a"]).await;
    let id = site.session("a").await;
    assert_eq!(site.put(&id, &[(1, Some("x"))]).await.status, 200);
    site.sql("DROP TABLE t").await.unwrap();
    assert_eq!(site.commit(&id).await.code(), "NoSuchTable");
    site.sql(crate::support::CREATE_TABLE).await.unwrap();
    assert_eq!(site.commit(&id).await.session_status(), "aborted");
    assert!(site.rows().await.is_empty());
}

#[tokio::test]
async fn only_the_statistics_are_not_counted() {
    let site = Site::with_days(&[]).await;
    let before = site.service.stats().http_requests;
    for path in ["/healthz", "/capabilities", "/nothing", "/api/projects/local"] {
        site.call("GET", path, Vec::new()).await;
    }
    let stats = site.call("GET", "/stats", Vec::new()).await.json();
    assert_eq!(stats["http_requests"], before + 4);
    let capabilities = site.call("GET", "/capabilities", Vec::new()).await.json();
    let statements = capabilities["supported"]["statements"].as_array().expect("a list");
    assert!(statements.iter().any(|statement| statement == "SELECT"), "{statements:?}");
    for assumption in ["a", "b", "c", "d", "e"] {
        assert_eq!(capabilities["assumptions"][assumption]["value"], true);
    }
}

#[tokio::test]
async fn a_table_is_described_as_a_delta_table() {
    let site = Site::with_days(&["it\\'s"]).await;
    let reply = site.call("GET", "/api/projects/local/tables/T?extended", Vec::new()).await;
    let json = reply.body.split("CDATA[").nth(1).and_then(|rest| rest.split("]]>").next());
    let json: serde_json::Value = serde_json::from_str(json.unwrap()).unwrap();
    let reserved: serde_json::Value =
        serde_json::from_str(json["Reserved"].as_str().unwrap()).unwrap();
    assert_eq!(reserved["Transactional"], "true");
    assert_eq!(reserved["PrimaryKey"], serde_json::json!(["id"]));
    assert_eq!(reserved["BucketNum"], BUCKETS);
    let parts = site.call("GET", "/api/projects/local/tables/t?partitions", Vec::new()).await;
    assert!(parts.body.contains("Value=\"it&apos;s\""), "{parts:?}");
    let tunnel = site.call("GET", "/api/projects/local/tunnel?service", Vec::new()).await;
    assert_eq!(tunnel.body, "h:1");
    let missing = site.call("GET", "/api/projects/local/tables/none", Vec::new()).await;
    assert!(missing.status == 404 && missing.body.contains("<Code>NoSuchTable</Code>"));
}
