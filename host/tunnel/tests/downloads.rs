//! Downloads from the local server: what was upserted comes back, value for value.
//!
//! Invariant: the rows are compared whole, of every type that a table has.

use std::collections::BTreeMap;

use upsert_sink_format::id::Hours;
use upsert_sink_format::record::{Op, Value};
use upsert_sink_format::schema::ColumnType;
use upsert_sink_format::tunnel::RefusalKind;
use upsert_sink_server::{FaultRules, Server, ServerComponents, ServerSettings};
use upsert_sink_tunnel::components::Components;
use upsert_sink_tunnel::{
    Client, ClientSettings, CredentialSource, Credentials, DownloadedRow, Secret, Table,
};

/// One value of each type, after the key.
fn typed() -> Vec<(&'static str, Value)> {
    let text = |text: &str| Value::Bytes(text.as_bytes().to_vec());
    vec![
        ("tinyint", Value::Int(-128)),
        ("smallint", Value::Int(32_767)),
        ("int", Value::Int(-1)),
        ("boolean", Value::Bool(true)),
        ("float", Value::Float(-0.0)),
        ("double", Value::Double(f64::MAX)),
        ("decimal(38,18)", Value::Decimal(-1)),
        ("string", text("größer")),
        ("varchar(9)", text("")),
        ("char(3)", text("abc")),
        ("binary", Value::Bytes(vec![0, 255])),
        ("date", Value::Date(-1)),
        ("datetime", Value::Datetime(-1)),
        ("timestamp", Value::Timestamp { seconds: -1, nanos: 5 }),
        ("timestamp_ntz", Value::Timestamp { seconds: 9, nanos: 0 }),
        ("json", text("{\"a\":1}")),
        ("array<bigint>", Value::Array(vec![Some(Value::Int(1)), None])),
        ("map<string,int>", Value::Map(vec![(text("k"), None)])),
        ("struct<a:int>", Value::Struct(vec![Some(Value::Int(7))])),
    ]
}

struct Site {
    server: Server,
    client: Client,
    _directory: tempfile::TempDir,
}

impl Site {
    async fn new() -> Self {
        Self::with_faults(r#"{"rules": []}"#).await
    }

    async fn with_faults(rules: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let faults = FaultRules::parse(rules).expect("rules");
        let settings = ServerSettings { faults, ..ServerSettings::new(directory.path()) };
        let server = Server::start(settings, ServerComponents::system()).await.expect("a server");
        let endpoint = server.endpoint().parse().expect("a URL");
        let mut settings = ClientSettings::new(endpoint, "local".parse().expect("a name"));
        settings.credentials = CredentialSource::Given(Credentials {
            access_id: String::from("local"),
            access_key: Secret::new("local"),
            sts_token: None,
        });
        let client = Client::new(settings, &Components::system());
        Self { server, client, _directory: directory }
    }

    async fn table(&self, columns: &str, partitioned: &str) -> Table {
        let create = format!(
            "CREATE TABLE t (id BIGINT PRIMARY KEY, {columns}) {partitioned} \
             TBLPROPERTIES ('transactional'='true','write.bucket.num'='4')"
        );
        self.client.catalog().execute(&create).await.expect("created");
        self.client.table(&"t".parse().expect("a name"))
    }
}

async fn write(table: &Table, partition: &str, rows: &[DownloadedRow]) {
    let session = table.create_session(partition, Hours(1), 1).await.expect("created");
    let mut packs = session.packs().expect("known types");
    for row in rows {
        packs.add(Op::Upsert, row).expect("of this table");
    }
    for pack in packs.finish() {
        session.put_pack(&pack).await.expect("acknowledged");
    }
    session.commit().await.expect("committed");
}

async fn all(table: &Table, partition: &str, answer_bytes: usize) -> Vec<DownloadedRow> {
    let mut reader = table.download(partition).await.expect("begun").reader(answer_bytes);
    let mut rows = Vec::new();
    while let Some(batch) = reader.next().await.expect("read") {
        rows.extend(batch);
    }
    rows
}

#[tokio::test]
async fn values_of_every_type_come_back_as_they_were_written() {
    let site = Site::new().await;
    let typed = typed();
    let columns = typed.iter().enumerate().map(|(at, (name, _))| format!("c{at} {name}"));
    let columns: Vec<String> = columns.collect();
    let table = site.table(&columns.join(", "), "").await;
    let key = |id| Some(Value::Int(id));
    let full = [key(1)].into_iter().chain(typed.iter().map(|(_, value)| Some(value.clone())));
    let empty = [key(2)].into_iter().chain(typed.iter().map(|_| None));
    let rows: [DownloadedRow; 2] = [full.collect(), empty.collect()];
    write(&table, "", &rows).await;
    let download = table.download("").await.expect("begun");
    let types = typed.iter().map(|(name, _)| ColumnType::parse(name).expect("a type"));
    assert!(types.eq(download.types()[1..].iter().cloned()));
    let mut found = download.read(0, 2).await.expect("read");
    found.sort_by_key(|row| format!("{:?}", row[0]));
    assert_eq!(found, rows);
    site.server.shutdown().await.expect("down");
}

#[tokio::test]
async fn a_download_is_of_its_partition_as_it_was_when_it_began() {
    let site = Site::new().await;
    let table = site.table("v STRING", "PARTITIONED BY (day STRING, hour INT)").await;
    let (first, second) = ("day='a b',hour='7'", "day='x',hour='8'");
    for partition in [first, second] {
        table.create_partition(partition).await.expect("created");
    }
    let name = "t".parse().expect("a name");
    let partitions = site.client.catalog().partitions(&name).await.expect("listed");
    assert_eq!(partitions, [first, second]);
    let changed = site.client.catalog().changed_at(&name).await.expect("told");
    assert!(changed.is_some_and(|at| at.0 > 1_600_000_000_000), "{changed:?}");
    let rows = |count: i64, text: &str| -> Vec<DownloadedRow> {
        let row = |id| vec![Some(Value::Int(id)), Some(Value::Bytes(text.as_bytes().to_vec()))];
        (0..count).map(row).collect()
    };
    write(&table, first, &rows(5000, "old")).await;
    write(&table, second, &rows(3, "other")).await;
    let mut reader = table.download(first).await.expect("begun").reader(4096);
    write(&table, first, &rows(6000, "new")).await;
    let (mut found, mut batches) = (BTreeMap::new(), 0);
    while let Some(batch) = reader.next().await.expect("read") {
        batches += 1;
        assert!(batch.len() < 1000, "{} rows in about 4 KiB", batch.len());
        for row in batch {
            let text = row[1].clone();
            assert!(found.insert(format!("{:?}", row[0]), text).is_none(), "a row came twice");
        }
    }
    assert!(batches > 10, "{batches}");
    assert_eq!(found.len(), 5000);
    assert!(found.values().all(|text| *text == Some(Value::Bytes(b"old".to_vec()))));
    assert_eq!(all(&table, first, 1 << 20).await.len(), 6000);
    assert_eq!(all(&table, second, 1).await.len(), 3);
    let absent = table.download("day='x',hour='9'").await.err().expect("there is none");
    assert!(absent.message.contains("NoSuchPartition"), "{absent}");
    site.server.shutdown().await.expect("down");
}

#[tokio::test]
async fn a_cut_or_refused_answer_is_told_and_its_range_is_read_again() {
    let site = Site::with_faults(
        r#"{"rules": [
            {"match": {"query": {"downloads": "*"}}, "when": {"nth": 1},
             "do": {"slot-exceeded": {}}},
            {"match": {"query": {"rowrange": "*"}}, "when": {"nth": 1},
             "do": {"cut-response": {"bytes": 100}}},
            {"match": {"query": {"rowrange": "*"}}, "when": {"nth": 2},
             "do": {"tengine": {"status": 502}}},
            {"match": {"query": {"rowrange": "*"}}, "when": {"nth": 3}, "do": "lost-reply"}]}"#,
    )
    .await;
    let table = site.table("v STRING", "").await;
    let row = |id| vec![Some(Value::Int(id)), Some(Value::Bytes(vec![b'x'; 100]))];
    write(&table, "", &(0..40).map(row).collect::<Vec<_>>()).await;
    let busy = table.download("").await.err().expect("no slot is free");
    assert_eq!(busy.refusal().map(|refusal| refusal.kind), Some(RefusalKind::SlowDown));
    let mut reader = table.download("").await.expect("begun").reader(1 << 20);
    for (attempt, how) in ["cut", "a page of the proxy", "lost"].into_iter().enumerate() {
        let error = reader.next().await.expect_err(how);
        let last = 40 >> attempt;
        assert!(error.is_in_doubt(), "{how}: {error}");
        assert!(error.at.ends_with(&format!("rows 0 to {last}")), "{how}: {error}");
    }
    let mut ids = Vec::new();
    while let Some(batch) = reader.next().await.expect("read") {
        ids.extend(batch.into_iter().map(|row| row[0].clone()));
    }
    ids.sort_by_key(|id| format!("{id:?}"));
    let mut expected: Vec<Option<Value>> = (0..40).map(|id| Some(Value::Int(id))).collect();
    expected.sort_by_key(|id| format!("{id:?}"));
    assert_eq!(ids, expected);
    site.server.shutdown().await.expect("down");
}
