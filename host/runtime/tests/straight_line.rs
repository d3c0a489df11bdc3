//! The straight line: rows through the real component and the real Tunnel client into the local
//! server, and back by SQL.
//!
//! Invariant: nothing here is a stand-in; each test has a server, a table and a journal of its own.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use upsert_sink::arrow_array::{Array, Int64Array, RecordBatch, StringArray};
use upsert_sink::arrow_schema::{DataType, Field, Schema, SchemaRef};
use upsert_sink::{Catalog, Checkpoint, Components, ErrorKind, Plugin, RowKind, Settings, Sink};
use upsert_sink_server::{Server, ServerSettings};

const TABLE: &str = "CREATE TABLE t (id BIGINT NOT NULL, v STRING, PRIMARY KEY (id)) \
    PARTITIONED BY (day STRING) TBLPROPERTIES('transactional'='true', 'write.bucket.num'='4')";

/// Compiled once for all tests of this process.
fn plugin() -> Plugin {
    static PLUGIN: OnceLock<Plugin> = OnceLock::new();
    PLUGIN.get_or_init(|| Plugin::embedded().expect("the embedded component loads")).clone()
}

struct Bench {
    directory: tempfile::TempDir,
    server: Server,
}

impl Bench {
    async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    async fn start_with(change: impl FnOnce(&mut ServerSettings)) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut settings = ServerSettings::new(directory.path().join("data"));
        change(&mut settings);
        let components = upsert_sink_server::ServerComponents::system();
        let server = Server::start(settings, components).await.expect("a port");
        let bench = Self { directory, server };
        let catalog = Catalog::new(&bench.settings(), &Components::system());
        catalog.execute(TABLE).await.expect("the table is created");
        bench
    }

    fn settings(&self) -> Settings {
        let journal = self.directory.path().join("journal");
        let mut settings =
            Settings::local(self.server.endpoint(), "t", journal).expect("valid settings");
        settings.parallelism = NonZeroU32::new(2).expect("2");
        settings
    }

    async fn open(&self, restore: Option<Checkpoint>) -> Sink {
        let builder = Sink::builder(plugin(), self.settings()).schema(schema()).restore(restore);
        builder.open().await.expect("the sink opens")
    }

    /// The committed table: id to value and day.
    async fn table(&self) -> BTreeMap<i64, (String, String)> {
        rows_of(&self.directory.path().join("data")).await
    }
}

async fn rows_of(data: &Path) -> BTreeMap<i64, (String, String)> {
    let sql = "SELECT id, CAST(v AS STRING) AS v, CAST(day AS STRING) AS day FROM t";
    let batches = upsert_sink_server::query(data, sql).await.expect("the table can be read");
    let mut rows = BTreeMap::new();
    for batch in batches {
        let ids = batch.column(0).as_any().downcast_ref::<Int64Array>().expect("bigint");
        let texts = |column: usize| {
            let column = batch.column(column);
            let options = &Default::default();
            let formatter = arrow_cast::display::ArrayFormatter::try_new(column, options);
            let formatter = formatter.expect("texts");
            (0..column.len()).map(|row| formatter.value(row).to_string()).collect::<Vec<_>>()
        };
        for ((id, v), day) in ids.values().iter().zip(texts(1)).zip(texts(2)) {
            assert!(rows.insert(*id, (v, day)).is_none(), "key {id} is there once");
        }
    }
    rows
}

fn schema() -> SchemaRef {
    let field = |name: &str, data_type| Field::new(name, data_type, true);
    Arc::new(Schema::new(vec![
        field("id", DataType::Int64),
        field("v", DataType::Utf8),
        field("day", DataType::Utf8),
    ]))
}

fn rows(rows: impl IntoIterator<Item = (i64, &'static str, &'static str)>) -> RecordBatch {
    let (mut ids, mut values, mut days) = (Vec::new(), Vec::new(), Vec::new());
    for (id, value, day) in rows {
        ids.push(id);
        values.push(value);
        days.push(day);
    }
    let columns: Vec<Arc<dyn Array>> = vec![
        Arc::new(Int64Array::from(ids)),
        Arc::new(StringArray::from(values)),
        Arc::new(StringArray::from(days)),
    ];
    RecordBatch::try_new(schema(), columns).expect("three columns")
}

fn hundred(value: &'static str, day: &'static str) -> RecordBatch {
    rows((0..100).map(|id| (id, value, day)))
}

async fn complete(sink: &Sink, id: u64) -> Checkpoint {
    let checkpoint = sink.checkpoint(id).await.expect("the barrier passes");
    sink.checkpoint_completed(id).await.expect("told");
    sink.committed(id).await.expect("it is committed");
    checkpoint
}

#[tokio::test]
async fn rows_are_visible_when_their_checkpoint_is_committed_and_not_before() {
    let bench = Bench::start().await;
    let sink = bench.open(None).await;
    sink.write(&hundred("a", "1"), &[]).await.expect("written");
    let checkpoint = sink.checkpoint(1).await.expect("the barrier passes");
    assert!(bench.table().await.is_empty(), "a checkpoint that is not complete shows nothing");
    let stored = Checkpoint::from_bytes(&checkpoint.to_bytes()).expect("whole");
    assert_eq!(stored, checkpoint);
    sink.checkpoint_completed(1).await.expect("told");
    sink.committed(1).await.expect("it is committed");
    assert_eq!(bench.table().await.len(), 100);
    let metrics = sink.metrics();
    assert_eq!((metrics.rows, metrics.records, metrics.sessions_created), (100, 100, 1));
    assert_eq!(metrics.commits, 1);
    sink.close().await.expect("it ends well");
}

#[tokio::test]
async fn the_last_change_of_a_key_wins_over_checkpoints_and_partitions() {
    let bench = Bench::start().await;
    let sink = bench.open(None).await;
    sink.write(&hundred("a", "1"), &[]).await.expect("written");
    complete(&sink, 1).await;
    let changes =
        rows([(1, "b", "1"), (2, "", "1"), (3, "x", "1"), (3, "y", "1"), (200, "n", "2")]);
    let kinds = [
        RowKind::UpdateAfter,
        RowKind::Delete,
        RowKind::Insert,
        RowKind::UpdateAfter,
        RowKind::Insert,
    ];
    sink.write(&changes, &kinds).await.expect("written");
    complete(&sink, 2).await;
    let table = bench.table().await;
    assert_eq!(table.len(), 100);
    assert_eq!(table.get(&1), Some(&("b".into(), "1".into())));
    assert_eq!(table.get(&2), None);
    assert_eq!(table.get(&3), Some(&("y".into(), "1".into())));
    assert_eq!(table.get(&200), Some(&("n".into(), "2".into())));
    sink.close().await.expect("it ends well");
}

#[tokio::test]
async fn a_checkpoint_stored_but_not_committed_is_committed_by_the_next_start() {
    let bench = Bench::start().await;
    let sink = bench.open(None).await;
    sink.write(&hundred("a", "1"), &[]).await.expect("written");
    let checkpoint = sink.checkpoint(1).await.expect("the barrier passes");
    // Rows after the barrier are lost with the attempt; the engine replays them.
    sink.write(&hundred("lost", "1"), &[]).await.expect("written");
    sink.close().await.expect("it ends");
    assert!(bench.table().await.is_empty());
    let sink = bench.open(Some(checkpoint)).await;
    assert_eq!(sink.start(), 2);
    sink.committed(1).await.expect("the restored checkpoint is committed");
    assert_eq!(bench.table().await.get(&7), Some(&("a".into(), "1".into())));
    sink.write(&hundred("b", "1"), &[]).await.expect("written");
    complete(&sink, 2).await;
    assert_eq!(bench.table().await.get(&7), Some(&("b".into(), "1".into())));
    sink.close().await.expect("it ends well");
    assert!(bench.server.open_sessions().is_empty(), "the lost session was aborted");
}

#[tokio::test]
async fn an_aborted_checkpoint_waits_for_the_next_completion() {
    let bench = Bench::start().await;
    let sink = bench.open(None).await;
    sink.write(&hundred("a", "1"), &[]).await.expect("written");
    sink.checkpoint(1).await.expect("the barrier passes");
    sink.checkpoint_aborted(1).await.expect("told");
    sink.write(&rows([(5, "b", "1")]), &[]).await.expect("written");
    complete(&sink, 2).await;
    let table = bench.table().await;
    assert_eq!((table.len(), table[&5].0.as_str()), (100, "b"));
    sink.close().await.expect("it ends well");
}

#[tokio::test]
async fn an_intermediate_savepoint_waits_for_the_next_checkpoint_and_can_be_restored() {
    let bench = Bench::start().await;
    let sink = bench.open(None).await;
    sink.write(&hundred("a", "1"), &[]).await.expect("written");
    let savepoint = sink.savepoint(1).await.expect("the barrier passes");
    assert!(bench.table().await.is_empty());
    complete(&sink, 2).await;
    assert_eq!(bench.table().await.len(), 100);
    sink.close().await.expect("it ends well");
    let sink = bench.open(Some(savepoint)).await;
    sink.write(&rows([(5, "b", "1")]), &[]).await.expect("written");
    complete(&sink, 3).await;
    assert_eq!(bench.table().await[&5].0, "b");
    sink.close().await.expect("it ends well");
}

#[tokio::test]
async fn without_overlap_a_service_with_one_session_a_partition_is_written_to() {
    let bench = Bench::start_with(|settings| settings.one_session = true).await;
    let open = async |overlap: &str, restore| {
        let mut settings = bench.settings();
        settings.guest_options.push(("sink.session.overlap".into(), overlap.into()));
        let builder = Sink::builder(plugin(), settings).schema(schema()).restore(restore);
        builder.open().await.expect("the sink opens")
    };
    let sink = open("false", None).await;
    sink.write(&hundred("a", "1"), &[]).await.expect("written");
    let first = sink.checkpoint(1).await.expect("the barrier passes");
    // These rows wait in memory for the commit of the first session.
    sink.write(&hundred("b", "1"), &[]).await.expect("written");
    sink.checkpoint_completed(1).await.expect("told");
    complete(&sink, 2).await;
    assert!(bench.table().await.values().all(|row| row.0 == "b"));
    let refused = sink.savepoint(3).await.expect_err("it would never be committed");
    assert!(refused.message.contains("sink.session.overlap = false"), "{refused}");
    assert_eq!((refused.kind, sink.close().await.is_err()), (ErrorKind::Retry, true));

    // An aborted checkpoint ends the attempt; with overlap, the service refuses what is asked of
    // it, and the error names the option.
    let sink = open("false", Some(first)).await;
    sink.write(&hundred("c", "1"), &[]).await.expect("written");
    sink.checkpoint(3).await.expect("the barrier passes");
    sink.checkpoint_aborted(3).await.expect("told");
    let ended = sink.checkpoint(4).await.expect_err("the attempt has ended");
    assert!(ended.message.contains("sink.session.overlap = false"), "{ended}");
    assert!(sink.close().await.is_err());
    let sink = open("true", None).await;
    sink.write(&hundred("d", "1"), &[]).await.expect("written");
    sink.checkpoint(5).await.expect("the barrier passes");
    sink.write(&hundred("e", "1"), &[]).await.expect("written");
    let ended = sink.checkpoint(6).await.expect_err("a second session is refused");
    assert!(ended.message.contains("sink.session.overlap = false"), "{ended}");
}

#[tokio::test]
async fn a_second_sink_on_the_same_journal_is_refused() {
    let bench = Bench::start().await;
    let first = bench.open(None).await;
    let second = Sink::builder(plugin(), bench.settings()).schema(schema()).open().await;
    let error = second.err().expect("it is refused");
    assert!(error.message.contains("a second job on the same state"), "{error}");
    first.close().await.expect("it ends well");
}

#[tokio::test]
async fn state_of_another_sink_is_refused() {
    let (one, other) = (Bench::start().await, Bench::start().await);
    let sink = one.open(None).await;
    let checkpoint = complete(&sink, 1).await;
    sink.close().await.expect("it ends well");
    let builder = Sink::builder(plugin(), other.settings()).schema(schema());
    let error = builder.restore(Some(checkpoint)).open().await.err().expect("it is refused");
    assert!(error.message.contains("sink.journal-dir"), "{error}");
}

#[tokio::test]
async fn a_failed_sink_reports_its_first_error_from_every_call() {
    let bench = Bench::start().await;
    let sink = bench.open(None).await;
    let id_is_null = RecordBatch::try_new(
        schema(),
        vec![
            Arc::new(Int64Array::from(vec![None])) as Arc<dyn Array>,
            Arc::new(StringArray::from(vec!["v"])),
            Arc::new(StringArray::from(vec!["1"])),
        ],
    );
    sink.write(&id_is_null.expect("a row"), &[]).await.expect("queued");
    let error = sink.checkpoint(1).await.expect_err("a key must not be null");
    assert_eq!(error.kind, ErrorKind::InvalidRow, "{error}");
    assert_eq!(sink.write(&hundred("a", "1"), &[]).await.expect_err("ended"), error);
    assert_eq!(sink.committed(1).await.expect_err("ended"), error);
    assert_eq!(sink.close().await.expect_err("ended"), error);
}

#[tokio::test]
async fn an_unknown_option_is_refused_at_open() {
    let bench = Bench::start().await;
    let mut settings = bench.settings();
    settings.guest_options.push(("upsert.writer.bufer-size".into(), "1mb".into()));
    let opened = Sink::builder(plugin(), settings).schema(schema()).open().await;
    let error = opened.err().expect("it is refused");
    assert_eq!(error.kind, ErrorKind::InvalidConfig);
    assert!(error.to_string().contains("upsert.writer.buffer-size"), "{error}");
}

#[tokio::test]
async fn every_request_of_a_sink_is_counted() {
    let bench = Bench::start().await;
    let before = bench.server.stats().http_requests;
    let sink = bench.open(None).await;
    sink.write(&hundred("a", "1"), &[]).await.expect("written");
    complete(&sink, 1).await;
    let counted = sink.metrics().http_requests;
    sink.close().await.expect("it ends well");
    assert_eq!(counted, bench.server.stats().http_requests - before);
}

#[test]
fn the_two_owners_of_options_share_no_name() {
    let guest = plugin().options().expect("described");
    for host in Settings::describe() {
        assert!(guest.iter().all(|option| option.name != host.name), "{}", host.name);
    }
    assert!(guest.is_sorted_by(|a, b| a.name < b.name));
}

#[test]
fn the_embedded_component_imports_our_interfaces_alone() {
    let inspection = plugin().inspect();
    assert_eq!(inspection.sha256.len(), 64);
    let ours = |import: &String| import.starts_with("upsert-sink:plugin/");
    assert!(inspection.imports.iter().all(ours), "{:?}", inspection.imports);
    assert!(inspection.exports.iter().all(ours), "{:?}", inspection.exports);
}
