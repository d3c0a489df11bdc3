//! Partial rows as Java names their columns, and as our client does: the same bytes.
//!
//! The rows go through the real sink to the recording's server. Invariant: columns are named by the
//! ids of the session, and by nothing else.

use std::sync::Arc;

use http::Method;
use upsert_sink::{Error, Settings, Sink};
use upsert_sink_format::record::DecodedRecord;
use upsert_sink_tests::plugin::plugin;

use crate::protocol::fixture::{Described, Exchange, described, exchanges};
use crate::protocol::rows;
use crate::protocol::scripted::{Scripted, query};

fn recorded() -> (Vec<Exchange>, Described) {
    let theirs = exchanges("java_partial_update");
    let described = described(&theirs).remove(0);
    (theirs, described)
}

/// The recorded rows that are partial, by bucket: all but the last of their pack, which is whole.
fn partial_rows(theirs: &[Exchange], described: &Described) -> Vec<(String, DecodedRecord)> {
    let puts = theirs.iter().filter(|exchange| exchange.method == "PUT");
    let first = |exchange: &Exchange| {
        let bucket = exchange.parameter("bucketid").expect("a bucket");
        (bucket, described.decode(&exchange.body).remove(0))
    };
    puts.map(first).collect()
}

fn settings(journal: &std::path::Path, more: &[(&str, &str)]) -> Settings {
    let journal = journal.display().to_string();
    let pairs = [
        ("endpoint", "http://127.0.0.1:18899/api"),
        ("project", "proj"),
        ("tableName", "t_partial"),
        ("accessId", "testAccessId"),
        ("accessKey", "testAccessKey"),
        ("compressAlgorithm", "raw"),
        ("sink.journal-dir", &journal),
    ];
    let pairs = pairs.iter().chain(more);
    let pairs = pairs.map(|(name, value)| (String::from(*name), String::from(*value)));
    Settings::from_options(pairs).expect("valid options")
}

/// Writes the rows of these columns of the table, and commits them.
async fn write(
    (described, service): (&Described, &Arc<Scripted>),
    columns: &[usize],
    records: &[DecodedRecord],
    options: &[(&str, &str)],
) -> Result<(), Error> {
    let directory = tempfile::tempdir().expect("a directory");
    let names = described.columns().into_iter().map(|(name, ..)| name);
    let all: Vec<_> = names.zip(described.types()).collect();
    let chosen: Vec<_> = columns.iter().map(|at| all[*at].clone()).collect();
    let narrowed: Vec<_> = records
        .iter()
        .map(|record| DecodedRecord {
            values: columns.iter().map(|at| record.values[*at].clone()).collect(),
            ..record.clone()
        })
        .collect();
    let (batch, kinds) = rows::batch(&chosen, &[], &narrowed);
    let builder = Sink::builder(plugin(), settings(directory.path(), options));
    let builder = builder.schema(batch.schema()).components(service.components());
    let sink = builder.open().await?;
    sink.write(&batch, &kinds).await?;
    sink.checkpoint(1).await?;
    sink.checkpoint_completed(1).await?;
    sink.committed(1).await?;
    sink.close().await
}

const ENABLE: (&str, &str) = ("upsert.partial-column.enable", "true");
const STATIC: (&str, &str) = ("sink.partial-column.mode", "static");

#[tokio::test]
async fn java_would_have_sent_our_very_partial_rows() {
    let (theirs, described) = recorded();
    let rows = partial_rows(&theirs, &described);
    let records: Vec<_> = rows.iter().map(|(_, record)| record.clone()).collect();
    let service = Scripted::new(&described);
    write((&described, &service), &[0, 2, 3], &records, &[ENABLE, STATIC]).await.expect("written");
    let (mut packs, mut same) = (0, 0);
    for put in service.requests(&Method::PUT, true) {
        let bucket = query(&put)["bucketid"].clone();
        let (_, expected) = rows.iter().find(|(of, _)| *of == bucket).expect("a bucket of theirs");
        assert_eq!(described.decode(put.body()), std::slice::from_ref(expected));
        let body = theirs.iter().filter(|exchange| exchange.method == "PUT");
        same += usize::from(body.clone().any(|exchange| exchange.body[..] == put.body()[..]));
        packs += 1;
    }
    // In one bucket of theirs a whole row followed.
    assert_eq!((packs, same), (4, 3));
}

#[tokio::test]
async fn columns_are_named_by_the_ids_of_the_session() {
    let (theirs, mut described) = recorded();
    for (at, id) in ["12", "300", "7", "-1"].into_iter().enumerate() {
        described.session["schema"]["columns"][at]["column_id"] = id.into();
    }
    let records: Vec<_> =
        partial_rows(&theirs, &described).into_iter().map(|(_, record)| record).collect();
    for (options, ids) in [(&[ENABLE][..], [7].as_slice()), (&[ENABLE, STATIC], &[7, -1])] {
        let service = Scripted::new(&described);
        write((&described, &service), &[0, 2, 3], &records, options).await.expect("written");
        let puts = service.requests(&Method::PUT, true);
        let sent: Vec<_> = puts.iter().flat_map(|put| described.decode(put.body())).collect();
        assert_eq!(sent.len(), 4);
        assert!(sent.iter().all(|record| record.value_columns == ids), "{sent:?}");
    }
}

#[tokio::test]
async fn a_session_that_takes_whole_rows_only_stops_the_sink_with_the_remedy() {
    let (theirs, mut described) = recorded();
    let records: Vec<_> =
        partial_rows(&theirs, &described).into_iter().map(|(_, record)| record).collect();
    described.session["enable_partial_update"] = false.into();
    let service = Scripted::new(&described);
    let refused = write((&described, &service), &[0, 2, 3], &records, &[ENABLE]).await;
    let message = refused.expect_err("the session does not allow it").to_string();
    for words in [
        "`upsert.partial-column.enable`",
        "t_partial",
        "'acid.partial.fields.update.enable'='true'",
        "write whole rows",
    ] {
        assert!(message.contains(words), "{message} does not say {words}");
    }
    assert!(service.requests(&Method::PUT, true).is_empty(), "no row was sent");
}
