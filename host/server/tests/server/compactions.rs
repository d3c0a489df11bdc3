//! Major compactions: no row changes, nobody waits for one, and a crash leaves the old files or the
//! new one.

use std::collections::BTreeMap;
use std::path::Path;

use futures::TryStreamExt;
use futures::future::join;
use upsert_sink_format::id::Millis;
use upsert_sink_server::components::simulated::{LastSync, SimulatedDirectories, Unsynced};
use upsert_sink_server::components::{Access, Directories};

use crate::support::{CREATE_TABLE, DATA, INSTANCES, Reply, Row, Site, row};

const COMPACT: &str = "SET odps.merge.task.mode=service; ALTER TABLE t COMPACT MAJOR";

impl Site {
    /// Posts a task as the vendor's connector does; answers where to ask for its outcome.
    async fn merge(&self, table: &str) -> String {
        let settings = "{\"odps.merge.task.mode\":\"service\",\
                        \"odps.merge.quickmerge.flag\":\"false\",\
                        \"odps.merge.restructure.action\":\"hardlink\",\
                        \"odps.merge.txn.table.compact\":\"major_compact\"}";
        let job = format!(
            "<Instance><Job><Priority>9</Priority><Tasks><Merge><Name>merge_task_for_t</Name>\
             <Config><Property><Name>settings</Name><Value>{settings}</Value></Property></Config>\
             <TableName>{table}</TableName></Merge></Tasks></Job></Instance>"
        );
        let reply = self.call("POST", INSTANCES, job.into_bytes()).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        reply.location.strip_prefix("http://h:1").expect("our own host").to_owned()
    }

    /// Waits for the end of a job; answers its task.
    async fn ended(&self, path: &str) -> Reply {
        loop {
            let reply = self.get(&format!("{path}?taskstatus")).await;
            if reply.tag("Status") == "Terminated" {
                return reply;
            }
        }
    }

    async fn files_of(&self, day: &str) -> u64 {
        let path = format!("/api/projects/local/tables/t?partition=day%3D'{day}'");
        let body = self.get(&path).await.body;
        let count = body.split_once("\"FileNum\":").map(|(_, rest)| rest.to_owned());
        let digits = |rest: String| rest.chars().take_while(char::is_ascii_digit).collect();
        let digits: String = count.map(digits).expect("the number of files");
        digits.parse().expect("a number")
    }

    /// The rows of a partition as a download session gives them.
    async fn download(&self, day: &str) -> Vec<u8> {
        let path = "/projects/local/tables/t";
        let begin = format!("{path}?downloads&partition=day%3D{day}");
        let session = self.call("POST", &begin, Vec::new()).await.json();
        let (id, rows) = (&session["DownloadID"], &session["RecordCount"]);
        let id = id.as_str().expect("an id");
        let range = format!("{path}?downloadid={id}&data&rowrange=(0,{rows})");
        self.get(&range).await.bytes.to_vec()
    }
}

/// The files of tables on a disk.
async fn files_on(disk: &SimulatedDirectories) -> usize {
    let directory = disk.open(Path::new(DATA), Access::Read).expect("it is there");
    let files = directory.objects().list(Some(&"data".into())).try_collect::<Vec<_>>().await;
    files.expect("a list").len()
}

/// Some commits of two partitions, with rows that come again, change, and go.
async fn written() -> Site {
    let site = Site::with_days(&["a", "b", "empty"]).await;
    let rows: Vec<Row> = (0..40).map(|id| (id, Some("first"))).collect();
    site.write("a", &rows).await;
    site.write("b", &rows[..3]).await;
    let rows: Vec<Row> = (10..30).map(|id| (id, Some("second"))).collect();
    site.write("a", &rows).await;
    let rows: Vec<Row> = (20..50).map(|id| (id, (id % 3 > 0).then_some("third"))).collect();
    site.write("a", &rows).await;
    site
}

#[tokio::test]
async fn a_compaction_changes_no_row_and_leaves_one_file_for_each_partition() {
    let site = written().await;
    let (rows, a, b) = (site.rows().await, site.download("a").await, site.download("b").await);
    assert_eq!((site.files_of("a").await, site.files_of("b").await), (3, 1));
    site.sql(COMPACT).await.expect("compacted");
    for (day, files) in [("a", 1), ("b", 1), ("empty", 0)] {
        assert_eq!(site.files_of(day).await, files, "{day}");
    }
    assert_eq!(site.service.stats().compactions, 2);
    assert_eq!(site.rows().await, rows);
    assert_eq!((site.download("a").await, site.download("b").await), (a, b), "order included");
    let version = site.service.stats().log_version;
    site.sql("ALTER TABLE local.t PARTITION (day='a') COMPACT MAJOR").await.expect("compacted");
    assert_eq!(site.service.stats().log_version, version, "there was nothing left to merge");
    let site = site.restarted().await;
    assert_eq!(site.rows().await, rows);
    site.write("a", &[(0, None), (1, Some("later"))]).await;
    let mut expected = rows;
    expected.retain(|(day, id, _)| (day.as_str(), *id) != ("a", 0));
    expected[0] = row("a", 1, "later");
    assert_eq!(site.rows().await, expected);
    site.sql(COMPACT).await.expect("compacted");
    assert_eq!(site.rows().await, expected);
    assert_eq!(site.files_of("a").await, 1);
}

#[tokio::test]
async fn a_base_has_the_columns_that_older_files_had_not_and_older_sessions_write_behind_it() {
    let site = written().await;
    let rows = site.rows().await;
    let old = site.session("a").await;
    site.sql("ALTER TABLE t ADD COLUMNS (n BIGINT)").await.expect("added");
    site.sql(COMPACT).await.expect("compacted");
    assert_eq!(site.rows().await, rows);
    assert_eq!(site.put(&old, &[(1, Some("later"))]).await.status, 200);
    assert_eq!(site.commit(&old).await.session_status(), "committed");
    site.sql(COMPACT).await.expect("compacted");
    let mut expected = rows;
    expected[1] = row("a", 1, "later");
    assert_eq!(site.rows().await, expected);
    let found = site.service.query("SELECT id FROM t WHERE n IS NULL").await.expect("a query");
    let found: usize = found.iter().map(|batch| batch.num_rows()).sum();
    assert_eq!(found, expected.len());
}

#[tokio::test]
async fn a_partition_of_which_no_row_is_left_has_no_file() {
    let site = Site::with_days(&["a"]).await;
    site.write("a", &[(1, Some("x")), (2, Some("y"))]).await;
    site.write("a", &[(1, None), (2, None)]).await;
    site.sql(COMPACT).await.expect("compacted");
    assert_eq!(site.files_of("a").await, 0);
    assert!(site.rows().await.is_empty());
    site.write("a", &[(2, Some("again"))]).await;
    let site = site.restarted().await;
    assert_eq!(site.rows().await, [row("a", 2, "again")]);
}

#[tokio::test]
async fn a_merge_task_is_answered_at_once_and_ends_as_the_services_does() {
    let site = written().await;
    let rows = site.rows().await;
    let path = site.merge("t partition(day='a')").await;
    let ended = site.ended(&path).await;
    let task = "<Task Type=\"Merge\"><Name>merge_task_for_t</Name>";
    assert!(ended.body.contains(task), "{ended:?}");
    assert!(ended.body.contains("<Status>Success</Status>"), "{ended:?}");
    let source = site.get(&format!("{path}?source")).await;
    assert!(source.tag("TableName").contains("t partition(day='a')"), "{source:?}");
    assert_eq!((site.files_of("a").await, site.rows().await), (1, rows.clone()));
    for table in ["t", "LOCAL.t", "local.default.t"] {
        let path = site.merge(table).await;
        let ended = site.ended(&path).await;
        assert!(ended.body.contains("<Status>Success</Status>"), "{table}: {ended:?}");
    }
    assert_eq!(site.rows().await, rows);
}

#[tokio::test]
async fn what_cannot_be_compacted_fails_as_its_jobs_result() {
    let site = written().await;
    for (table, named) in [
        ("none", "ODPS-0130131"),
        ("other.t", "no project other"),
        ("t partition(day='z')", "no partition day='z'"),
        ("t partition(z='a')", "day is missing"),
        ("t; DROP TABLE t", "ODPS-0130161"),
        ("t, u", "ODPS-0130161"),
    ] {
        let path = site.merge(table).await;
        let ended = site.ended(&path).await;
        assert!(ended.body.contains("<Status>Failed</Status>"), "{table}: {ended:?}");
        let result = site.get(&format!("{path}?result")).await;
        assert!(result.body.contains(named), "{table}: {result:?}");
    }
    let refused = site.sql("ALTER TABLE t PARTITION (day='z') COMPACT MAJOR").await;
    assert!(refused.expect_err("no partition").contains("no partition"));
    assert_eq!(site.files_of("a").await, 3);
}

#[tokio::test]
async fn compactions_take_turns_and_the_second_finds_nothing_left() {
    let site = written().await;
    let rows = site.rows().await;
    let paths = futures::future::join_all((0..8).map(|_| site.merge("t"))).await;
    for path in &paths {
        let ended = site.ended(path).await;
        assert!(ended.body.contains("<Status>Success</Status>"), "{ended:?}");
    }
    assert_eq!(site.service.stats().compactions, 2);
    assert_eq!(site.rows().await, rows);
}

#[tokio::test]
async fn a_compaction_that_is_stopped_leaves_the_table_as_it_was() {
    let site = written().await;
    let rows = site.rows().await;
    let path = site.merge("t").await;
    let stop = b"<Instance><Status>Terminated</Status></Instance>".to_vec();
    assert_eq!(site.call("PUT", &path, stop).await.status, 200);
    assert!(site.ended(&path).await.body.contains("<Status>Cancelled</Status>"));
    assert_eq!(site.rows().await, rows);
    site.sql(COMPACT).await.expect("the turn was given back");
    assert_eq!((site.files_of("a").await, site.rows().await), (1, rows));
}

#[tokio::test]
async fn a_partition_that_is_emptied_or_dropped_while_it_is_merged_stays_so() {
    let site = written().await;
    let path = site.merge("t").await;
    site.sql("TRUNCATE TABLE t PARTITION (day='a')").await.expect("emptied");
    site.ended(&path).await;
    assert_eq!(site.rows().await, (0..3).map(|id| row("b", id, "first")).collect::<Vec<_>>());
    site.write("b", &[(1, Some("again"))]).await;
    let path = site.merge("t").await;
    site.sql("DROP TABLE t").await.expect("dropped");
    site.ended(&path).await;
    let site = site.restarted().await;
    site.sql(CREATE_TABLE).await.expect("created");
    assert!(site.rows().await.is_empty());
    assert_eq!(files_on(&site.disk).await, 0);
}

/// The rows that a series of commits leaves, read by anybody at any time, are those of its fold.
#[tokio::test]
async fn commits_and_readers_go_on_while_files_are_merged_and_nothing_is_lost() {
    let site = Site::with_days(&["a"]).await;
    let rounds = 40;
    let writing = async {
        let mut fold = BTreeMap::new();
        for round in 0..rounds {
            let value = if round % 2 == 0 { "even" } else { "odd" };
            let keys = (0..12).map(|n| (round * 7 + n * 5) % 60);
            let rows: Vec<Row> = keys.map(|id| (id, (id % 4 != 1).then_some(value))).collect();
            site.write("a", &rows).await;
            for (id, value) in rows {
                match value {
                    Some(value) => drop(fold.insert(id, value)),
                    None => drop(fold.remove(&id)),
                }
            }
            let expected: Vec<_> = fold.iter().map(|(id, value)| row("a", *id, value)).collect();
            assert_eq!(site.rows().await, expected, "round {round}");
        }
        fold
    };
    let merging = async {
        for _ in 0..rounds {
            let path = site.merge("t").await;
            site.ended(&path).await;
        }
    };
    let (fold, ()) = join(writing, merging).await;
    assert!(site.service.stats().compactions > 1, "{:?}", site.service.stats());
    assert_eq!(site.service.stats().commits, rounds as u64);
    let site = site.restarted().await;
    let expected: Vec<_> = fold.iter().map(|(id, value)| row("a", *id, value)).collect();
    assert_eq!(site.rows().await, expected);
}

#[tokio::test]
async fn who_reads_older_files_reads_on_and_files_go_when_nobody_does() {
    let site = Site::with_days(&["a"]).await;
    for value in ["first", "second"] {
        let rows: Vec<Row> = (0..20_000).map(|id| (id, Some(value))).collect();
        site.write("a", &rows).await;
    }
    let mut reading = site.service.table_rows("t", None).expect("a table");
    let first = reading.try_next().await.expect("rows").expect("a batch").num_rows();
    let minutes = |minutes: u64| site.clock.advance(Millis(minutes * 60_000));
    let compact = async |value| {
        site.write("a", &[(7, Some(value))]).await;
        site.sql(COMPACT).await.expect("compacted");
        files_on(&site.disk).await
    };
    assert_eq!(compact("third").await, 4, "nothing is removed at once");
    minutes(9);
    assert_eq!(compact("fourth").await, 6);
    minutes(1);
    assert_eq!(compact("fifth").await, 7, "the first two are still read");
    let batches: Vec<_> = reading.try_collect().await.expect("every file is there");
    let rest: usize = batches.iter().map(|batch| batch.num_rows()).sum();
    assert_eq!(first + rest, 20_000);
    drop(batches);
    minutes(60);
    assert_eq!(compact("sixth").await, 3, "the new one, and the two that it replaced just now");
    let site = site.restarted().await;
    assert_eq!(files_on(&site.disk).await, 1);
    assert!(site.rows().await.contains(&row("a", 7, "sixth")));
}

#[tokio::test]
async fn a_crash_at_any_sync_of_a_compaction_leaves_the_old_files_or_the_new_one() {
    for unsynced in [Unsynced::Lost, Unsynced::Torn, Unsynced::Kept] {
        for effective in [false, true] {
            let mut syncs = 0;
            while crashes_at(syncs, effective, unsynced).await {
                syncs += 1;
            }
            assert!(syncs >= 4, "only {syncs} syncs were interrupted");
        }
    }
}

/// Compacts, with a crash so many syncs later; answers false once there was none any more.
async fn crashes_at(syncs: u64, effective: bool, unsynced: Unsynced) -> bool {
    let place = format!("{syncs} {effective} {unsynced:?}");
    let site = written().await;
    let rows = site.rows().await;
    site.disk.fail_at(LastSync { number: site.disk.syncs() + syncs, effective });
    let compacted = site.sql(COMPACT).await;
    let crashed = site.disk.has_failed();
    assert_eq!(compacted.is_err(), crashed, "{place}: {compacted:?}");
    let disk = site.disk.crash(unsynced).await;
    let site = Site::on(site.clock, disk).await.unwrap_or_else(|e| panic!("{place}: {e}"));
    assert_eq!(site.rows().await, rows, "{place}");
    site.write("a", &[(0, Some("later"))]).await;
    site.sql(COMPACT).await.expect("compacted");
    assert_eq!(site.files_of("a").await, 1, "{place}");
    let site = site.restarted().await;
    let mut expected = rows;
    expected[0] = row("a", 0, "later");
    assert_eq!(site.rows().await, expected, "{place}");
    crashed
}
