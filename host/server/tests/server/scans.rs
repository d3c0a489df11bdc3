//! A table that is read whole, without SQL: its rows are those that SELECT finds.

use std::collections::BTreeSet;
use std::path::Path;

use arrow_array::RecordBatch;
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use futures::TryStreamExt;
use upsert_sink_format::record::{Op, Value, encode_partial, pack_trailer};
use upsert_sink_format::schema::ColumnType;
use upsert_sink_server::{Error, table_rows};

use crate::support::{Site, UPSERTS};

/// The operation of a record, its key, and the columns that it sets; all if it names none.
type Change = (Op, i64, &'static [i64]);

const UPSERT: Op = Op::Upsert;
const TYPES: [ColumnType; 4] =
    [ColumnType::BigInt, ColumnType::String, ColumnType::Datetime, ColumnType::String];
/// Two partitions that have rows; another has none.
const HOURS: [&str; 2] = ["day='2013-01-02',hour=3", "day='2013-01-01',hour=11"];

async fn site(partial: bool) -> Site {
    let site = Site::new().await;
    site.sql(&format!(
        "CREATE TABLE t (id BIGINT PRIMARY KEY, v STRING, at DATETIME) \
         PARTITIONED BY (day DATE, hour INT) \
         TBLPROPERTIES ('transactional'='true','write.bucket.num'='1',\
         'acid.partial.fields.update.enable'='{partial}')"
    ))
    .await
    .expect("created");
    for partition in [HOURS[0], HOURS[1], "day='2013-01-03',hour=0"] {
        site.sql(&format!("ALTER TABLE t ADD PARTITION ({partition})")).await.expect("added");
    }
    site
}

/// Writes and commits changes of the first so many columns, with values that tell their round.
async fn write(site: &Site, hour: usize, columns: usize, round: i64, changes: &[Change]) {
    let (mut body, mut crcs) = (Vec::new(), Vec::new());
    for (op, id, set) in changes {
        let text = |name: &str| Some(Value::Bytes(format!("{name}{round}").into_bytes()));
        let values = [Some(Value::Int(*id)), text("v"), Some(Value::Datetime(round)), text("w")];
        crcs.push(encode_partial(&TYPES[..columns], &values[..columns], *op, set, &mut body));
    }
    pack_trailer(crcs.iter().copied(), crcs.len() as u32, &mut body);
    let partition = HOURS[hour].replace('\'', "%27").replace('=', "%3D").replace(',', "%2C");
    let path = format!("{UPSERTS}?slotnum=1&partition={partition}");
    let session = site.call("POST", &path, Vec::new()).await.json();
    let id = session["id"].as_str().expect("a session");
    let reply = site.put_pack(id, 0, changes.len() as u32, body).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(site.commit(id).await.session_status(), "committed");
}

/// Each row as text, with its columns' names and types.
fn texts(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::default().with_null("-");
    let mut rows = Vec::new();
    for batch in batches {
        let (schema, columns) = (batch.schema(), batch.columns().iter());
        let columns: Vec<_> = columns
            .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).expect("known"))
            .collect();
        rows.extend((0..batch.num_rows()).map(|row| {
            let values = schema.fields().iter().zip(&columns).map(|(field, column)| {
                format!("{} {} {}", field.name(), field.data_type(), column.value(row))
            });
            values.collect::<Vec<_>>().join(", ")
        }));
    }
    rows
}

async fn scanned(site: &Site, columns: Option<&[&str]>) -> Vec<RecordBatch> {
    let columns: Option<Vec<String>> =
        columns.map(|names| names.iter().map(|name| String::from(*name)).collect());
    let rows = site.service.table_rows("t", columns.as_deref()).expect("a table");
    rows.try_collect().await.expect("it is whole")
}

/// Compares what is scanned with what is selected, in any order.
async fn compare(site: &Site, columns: Option<&[&str]>) -> Vec<String> {
    let list = columns.map_or("*".to_owned(), |names| names.join(", "));
    let selected = site.service.query(&format!("SELECT {list} FROM t")).await;
    let mut selected = texts(&selected.expect("a valid query"));
    let batches = scanned(site, columns).await;
    let mut rows = texts(&batches);
    selected.sort();
    rows.sort();
    assert_eq!(rows, selected, "{list}");
    rows
}

/// Deletes, rows that set some columns only (if they may), and a column that came later.
#[tokio::test]
async fn a_scan_has_exactly_the_rows_of_a_select() {
    for partial in [true, false] {
        let some: &'static [i64] = if partial { &[1] } else { &[] };
        let last: &'static [i64] = if partial { &[3] } else { &[] };
        let site = site(partial).await;
        assert!(compare(&site, None).await.is_empty());
        let first: Vec<Change> = (0..20).map(|id| (UPSERT, id, &[] as _)).collect();
        write(&site, 0, 3, 1, &first).await;
        write(&site, 1, 3, 2, &first[5..9]).await;
        write(&site, 0, 3, 3, &[(Op::Delete, 3, &[]), (UPSERT, 4, some), (UPSERT, 77, some)]).await;
        compare(&site, None).await;
        site.sql("ALTER TABLE t ADD COLUMNS (w STRING)").await.expect("added");
        compare(&site, None).await;
        let later: [Change; 3] = [(UPSERT, 3, last), (UPSERT, 5, last), (Op::Delete, 6, &[])];
        write(&site, 1, 4, 4, &later).await;
        write(&site, 0, 4, 5, &[(UPSERT, 1, last), (Op::Delete, 77, &[])]).await;
        let rows = compare(&site, None).await;
        assert_eq!(rows.len(), 19 + 4, "{rows:?}");
        assert!(rows[0].contains("day Date32 2013-01-0"), "{}", rows[0]);
        compare(&site, Some(&["hour", "w", "id", "day"])).await;
        compare(&site, Some(&["at"])).await;
        compare(&site, Some(&["day", "hour"])).await;
        let site = site.restarted().await;
        assert_eq!(compare(&site, None).await, rows, "after a restart");
    }
}

#[tokio::test]
async fn a_scan_goes_partition_by_partition_and_can_count_without_columns() {
    let site = site(false).await;
    let many: Vec<Change> = (0..9000).map(|id| (UPSERT, id, &[] as _)).collect();
    write(&site, 0, 3, 1, &many).await;
    write(&site, 1, 3, 2, &many[..10]).await;
    let mut places = Vec::new();
    for batch in scanned(&site, Some(&["day", "hour"])).await {
        let distinct: BTreeSet<String> = texts(&[batch]).into_iter().collect();
        assert_eq!(distinct.len(), 1, "a batch is of one partition");
        places.extend(distinct);
    }
    assert!(places.len() > 2, "{places:?}");
    assert!(places.is_sorted(), "{places:?}");
    let counted = scanned(&site, Some(&[])).await;
    assert_eq!(counted.iter().map(RecordBatch::num_rows).sum::<usize>(), 9010);
    assert!(counted.iter().all(|batch| batch.num_columns() == 0));
}

#[tokio::test]
async fn a_scan_takes_the_names_that_a_select_takes_and_refuses_others() {
    let site = site(false).await;
    for name in ["t", "T", "local.t", "default.t", "local.default.t"] {
        site.service.query(&format!("SELECT * FROM {name}")).await.expect(name);
        assert!(site.service.table_rows(name, None).is_ok(), "{name}");
    }
    for name in ["u", "other.t", "local.other.t", "x.local.default.t", ""] {
        let refused = site.service.table_rows(name, None);
        assert!(matches!(refused, Err(Error::NoTable { .. })), "{name}");
    }
    let refused = site.service.table_rows("t", Some(&["x".to_owned()])).err();
    let message = refused.expect("refused").to_string();
    assert_eq!(message, "table t has no column x; it has id, v, at, day, hour");
    let nothing = tempfile::tempdir().expect("a directory");
    let none: &Path = nothing.path();
    assert!(matches!(table_rows(none, "t", None).await, Err(Error::NoTables { .. })));
}
