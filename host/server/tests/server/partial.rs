//! Rows that set some of their columns only: what is read is every column as it was set last.
//!
//! Invariant: the model folds rows, one after another, and knows nothing of files and buckets.

use std::collections::BTreeMap;

use arrow_cast::display::{ArrayFormatter, FormatOptions};
use upsert_sink_format::record::{Op, Value, encode_partial, pack_trailer};
use upsert_sink_format::schema::ColumnType;

use crate::support::{Reply, Site, bucket};

const CREATE: &str = "CREATE TABLE p (id BIGINT PRIMARY KEY, a STRING, b BIGINT, c BIGINT) \
     TBLPROPERTIES ('transactional'='true','write.bucket.num'='4',\
     'acid.partial.fields.update.enable'='true')";
const TYPES: [ColumnType; 5] = [
    ColumnType::BigInt,
    ColumnType::String,
    ColumnType::BigInt,
    ColumnType::BigInt,
    ColumnType::String,
];

/// A record of table `p`.
#[derive(Clone, Debug)]
struct Row {
    id: i64,
    op: Op,
    values: Vec<Option<Value>>,
    set: Vec<i64>,
}

fn whole(id: i64, values: [Option<Value>; 3]) -> Row {
    Row { id, op: Op::Upsert, values: values.into(), set: Vec::new() }
}

fn partial(id: i64, values: [Option<Value>; 3], set: &[i64]) -> Row {
    Row { set: set.to_vec(), ..whole(id, values) }
}

fn delete(id: i64) -> Row {
    Row { op: Op::Delete, ..whole(id, [None, None, None]) }
}

fn text(text: &str) -> Option<Value> {
    Some(Value::Bytes(text.into()))
}

fn int(n: i64) -> Option<Value> {
    Some(Value::Int(n))
}

fn pack(rows: &[Row]) -> Vec<u8> {
    let (mut body, mut crcs) = (Vec::new(), Vec::new());
    for row in rows {
        let mut values = vec![Some(Value::Int(row.id))];
        values.extend(row.values.iter().cloned());
        let types = &TYPES[..values.len()];
        crcs.push(encode_partial(types, &values, row.op, &row.set, &mut body));
    }
    pack_trailer(crcs.iter().copied(), crcs.len() as u32, &mut body);
    body
}

/// A service with the table.
async fn site() -> Site {
    let site = Site::new().await;
    site.sql(CREATE).await.expect("created");
    site
}

async fn session(site: &Site) -> String {
    let reply = site.call("POST", &format!("{UPSERTS}?slotnum=1"), Vec::new()).await;
    assert_eq!(reply.json()["enable_partial_update"], true, "{reply:?}");
    reply.json()["id"].as_str().expect("an id").to_owned()
}

/// Puts the rows of each bucket; answers the first reply that is no success, or the last.
async fn put(site: &Site, id: &str, rows: &[Row]) -> Reply {
    let mut by_bucket: BTreeMap<u32, Vec<Row>> = BTreeMap::new();
    for row in rows {
        by_bucket.entry(bucket(row.id)).or_default().push(row.clone());
    }
    let mut last = None;
    for (bucket, rows) in by_bucket {
        let count = rows.len();
        let path =
            format!("{UPSERTS}?upsertid={id}&bucketid={bucket}&slotid=0&record_count={count}");
        let reply = site.call("PUT", &path, pack(&rows)).await;
        if reply.status != 200 {
            return reply;
        }
        last = Some(reply);
    }
    last.expect("there are rows")
}

async fn commit(site: &Site, id: &str) {
    let reply = site.call("POST", &format!("{UPSERTS}?upsertid={id}"), Vec::new()).await;
    assert_eq!(reply.session_status(), "committed");
}

async fn write(site: &Site, rows: &[Row]) {
    let id = session(site).await;
    let reply = put(site, &id, rows).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    commit(site, &id).await;
}

/// The rows of a query, each value as text and `-` for none.
async fn query(site: &Site, sql: &str) -> Vec<String> {
    let options = FormatOptions::default().with_null("-");
    let mut rows = Vec::new();
    for batch in site.service.query(sql).await.expect("a valid query") {
        let columns = batch.columns().iter();
        let columns: Vec<_> = columns
            .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).expect("known"))
            .collect();
        rows.extend((0..batch.num_rows()).map(|row| {
            let values = columns.iter().map(|column| column.value(row).to_string());
            values.collect::<Vec<_>>().join(" ")
        }));
    }
    rows
}

const ALL: &str = "SELECT id, a, b, c FROM p ORDER BY id";

#[tokio::test]
async fn every_column_is_as_it_was_set_last() {
    let site = site().await;
    write(&site, &[whole(1, [text("a"), int(1), int(10)]), whole(2, [text("z"), None, int(20)])])
        .await;
    write(&site, &[partial(1, [text("b"), None, None], &[1])]).await;
    write(
        &site,
        &[partial(1, [None, None, int(11)], &[2, 3]), partial(3, [None, int(3), None], &[2])],
    )
    .await;
    let expected = ["1 b - 11", "2 z - 20", "3 - 3 -"];
    assert_eq!(query(&site, ALL).await, expected);
    assert_eq!(query(&site, "SELECT c FROM p ORDER BY c").await, ["11", "20", "-"]);
    assert_eq!(query(&site, "SELECT count(*) FROM p").await, ["3"]);
    let site = site.restarted().await;
    assert_eq!(query(&site, ALL).await, expected, "after a restart");
}

#[tokio::test]
async fn a_delete_or_a_whole_row_shuts_out_what_was_before() {
    let site = site().await;
    let full = |id| whole(id, [text("a"), int(1), int(10)]);
    write(&site, &[full(1), full(2), full(3)]).await;
    let rows = [
        delete(1),
        partial(1, [None, int(7), None], &[2]),
        whole(2, [None, int(8), None]),
        partial(2, [text("b"), None, None], &[1]),
        partial(3, [text("c"), None, None], &[1]),
        delete(3),
    ];
    write(&site, &rows).await;
    assert_eq!(query(&site, ALL).await, ["1 - 7 -", "2 b 8 -"]);
    write(&site, &[partial(3, [None, None, None], &[0])]).await;
    assert_eq!(query(&site, ALL).await, ["1 - 7 -", "2 b 8 -", "3 - - -"], "only the key is set");
}

#[tokio::test]
async fn a_compaction_lays_the_rows_of_a_key_over_each_other() {
    let site = site().await;
    write(&site, &[whole(1, [text("a"), int(1), int(10)]), whole(2, [text("z"), None, int(20)])])
        .await;
    write(&site, &[partial(1, [text("b"), None, None], &[1]), delete(2)]).await;
    let rows = [partial(2, [None, int(7), None], &[2]), partial(3, [None, int(3), None], &[2])];
    write(&site, &rows).await;
    let compact = "ALTER TABLE p COMPACT MAJOR";
    let expected = ["1 b 1 10", "2 - 7 -", "3 - 3 -"];
    assert_eq!(query(&site, ALL).await, expected);
    site.sql(compact).await.expect("compacted");
    assert_eq!(query(&site, ALL).await, expected);
    write(&site, &[partial(2, [text("c"), None, None], &[1]), delete(3)]).await;
    let expected = ["1 b 1 10", "2 c 7 -"];
    assert_eq!(query(&site, ALL).await, expected, "rows over a base");
    site.sql(compact).await.expect("compacted");
    let site = site.restarted().await;
    assert_eq!(query(&site, ALL).await, expected);
}

#[tokio::test]
async fn a_value_that_is_not_named_is_not_written() {
    let site = site().await;
    write(&site, &[whole(1, [text("a"), int(1), int(10)])]).await;
    write(&site, &[partial(1, [text("not"), int(2), int(99)], &[2])]).await;
    assert_eq!(query(&site, ALL).await, ["1 a 2 10"]);
}

#[tokio::test]
async fn columns_that_came_later_can_be_set_and_old_sessions_leave_them() {
    let site = site().await;
    write(&site, &[whole(1, [text("a"), int(1), int(10)])]).await;
    let old = session(&site).await;
    site.sql("ALTER TABLE p ADD COLUMNS (d STRING)").await.expect("added");
    let mut row = partial(1, [None, None, None], &[4]);
    row.values.push(text("new"));
    write(&site, &[row]).await;
    let all = "SELECT id, a, b, c, d FROM p ORDER BY id";
    assert_eq!(query(&site, all).await, ["1 a 1 10 new"]);
    let refused = put(&site, &old, &[partial(1, [None, None, None], &[4])]).await;
    assert_eq!((refused.status, refused.code().as_str()), (400, "InvalidArgument"));
    assert!(refused.body.contains("ids 0 to 3"), "{refused:?}");
    let reply = put(&site, &old, &[partial(1, [text("b"), None, None], &[1])]).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    commit(&site, &old).await;
    assert_eq!(query(&site, all).await, ["1 b 1 10 new"]);
}

#[tokio::test]
async fn a_partial_row_is_refused_with_the_reason_and_the_remedy() {
    let partial_site = site().await;
    let id = session(&partial_site).await;
    let mut deletes = delete(1);
    deletes.set = vec![1];
    for (row, words) in [
        (partial(1, [None, None, None], &[9]), "the column of id 9"),
        (partial(1, [None, None, None], &[-1]), "the column of id -1"),
        (deletes, "it deletes its row, but names columns"),
    ] {
        let refused = put(&partial_site, &id, &[row]).await;
        assert_eq!((refused.status, refused.code().as_str()), (400, "InvalidArgument"));
        assert!(refused.body.contains(words), "{refused:?}");
    }
    let site = Site::new().await;
    site.sql(&CREATE.replace("'true')", "'false')").replace("c BIGINT", "c BIGINT NOT NULL"))
        .await
        .expect("created");
    let reply = site.call("POST", &format!("{UPSERTS}?slotnum=1"), Vec::new()).await.json();
    assert_eq!(reply["enable_partial_update"], false);
    let id = reply["id"].as_str().expect("an id");
    let refused = put(&site, id, &[partial(1, [None, int(1), None], &[2])]).await;
    for words in ["table p takes whole rows", "'acid.partial.fields.update.enable'='true'"] {
        assert!(refused.body.contains(words), "{refused:?}");
    }
    site.sql("DROP TABLE p").await.expect("dropped");
    site.sql(&CREATE.replace("c BIGINT", "c BIGINT NOT NULL")).await.expect("created");
    let id = session(&site).await;
    let refused = put(&site, &id, &[partial(1, [None, int(1), None], &[2])]).await;
    assert!(refused.body.contains("column c is null, but may not be"), "{refused:?}");
    let taken = put(&site, &id, &[partial(1, [None, int(1), int(2)], &[2, 3])]).await;
    assert_eq!(taken.status, 200, "{taken:?}");
}

/// Applies a row to the model.
fn fold(model: &mut BTreeMap<i64, [Option<Value>; 3]>, row: &Row) {
    if row.op == Op::Delete {
        model.remove(&row.id);
        return;
    }
    let stored = model.entry(row.id).or_default();
    for (at, value) in row.values.iter().enumerate() {
        if row.set.is_empty() || row.set.contains(&(at as i64 + 1)) {
            stored[at] = value.clone();
        }
    }
}

fn shown(model: &BTreeMap<i64, [Option<Value>; 3]>) -> Vec<String> {
    let value = |value: &Option<Value>| match value {
        None => String::from("-"),
        Some(Value::Int(n)) => n.to_string(),
        Some(Value::Bytes(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        Some(other) => panic!("no column has {other:?}"),
    };
    let row = |(id, values): (&i64, &[Option<Value>; 3])| {
        format!("{id} {}", values.iter().map(value).collect::<Vec<_>>().join(" "))
    };
    model.iter().map(row).collect()
}

fn drawn(rng: &mut fastrand::Rng) -> Row {
    let id = rng.i64(0..30);
    let number = |rng: &mut fastrand::Rng| rng.bool().then(|| Value::Int(rng.i64(0..100)));
    let a = rng.bool().then(|| Value::Bytes(rng.alphanumeric().to_string().into_bytes()));
    let values = [a, number(rng), number(rng)];
    let set: Vec<i64> = (1..4).filter(|_| rng.bool()).collect();
    match rng.u8(..10) {
        0 => delete(id),
        1 => whole(id, values),
        _ if set.is_empty() => partial(id, values, &[0]),
        _ => partial(id, values, &set),
    }
}

#[tokio::test]
async fn what_is_read_is_the_fold_of_all_rows_whatever_sessions_they_came_in() {
    for seed in 0..6 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut site = site().await;
        let mut model = BTreeMap::new();
        for round in 0..12 {
            let rows: Vec<Row> = (0..rng.usize(1..60)).map(|_| drawn(&mut rng)).collect();
            rows.iter().for_each(|row| fold(&mut model, row));
            write(&site, &rows).await;
            if rng.u8(..4) == 0 {
                site = site.restarted().await;
            }
            let place = format!("seed {seed}, round {round}");
            assert_eq!(query(&site, ALL).await, shown(&model), "{place}");
            let count = query(&site, "SELECT count(*) FROM p").await;
            assert_eq!(count, [model.len().to_string()], "{place}");
        }
    }
}

const UPSERTS: &str = "/projects/local/tables/p/upserts";
