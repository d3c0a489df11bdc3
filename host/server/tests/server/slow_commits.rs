//! Commits that take seconds: nothing of them is visible early, nothing is lost, and each partition
//! takes its own time.

use std::time::Duration;

use futures::future::join_all;
use upsert_sink_format::id::Millis;
use upsert_sink_server::components::simulated::Unsynced;
use upsert_sink_server::{FaultRules, Severed};

use crate::support::{Row, Site, UPSERTS, row};

const LATENCY: Duration = Duration::from_millis(2500);

async fn site(days: &[&str]) -> Site {
    Site::with_days_and(days, |settings| settings.commit_latency = LATENCY).await
}

impl Site {
    /// A new session with these rows, whose commit has begun.
    async fn committing(&self, day: &str, rows: &[Row]) -> String {
        let id = self.session(day).await;
        assert_eq!(self.put(&id, rows).await.status, 200);
        assert_eq!(self.commit(&id).await.session_status(), "committing");
        id
    }

    /// Waits for the end of a commit whose time has come.
    async fn until_committed(&self, id: &str) {
        for _ in 0..QUESTIONS {
            if self.reload(id).await.session_status() == "committed" {
                return;
            }
        }
        panic!("session {id} is not committed");
    }

    /// Asks often enough for a commit to end, if its time had come.
    async fn is_committing(&self, id: &str) -> bool {
        for _ in 0..QUESTIONS {
            if self.reload(id).await.session_status() != "committing" {
                return false;
            }
        }
        self.commit(id).await.session_status() == "committing"
    }
}

#[tokio::test]
async fn a_commit_that_takes_seconds_is_committing_until_then_and_visible_after() {
    let site = site(&["a"]).await;
    let id = site.committing("a", &[(1, Some("x")), (2, Some("y"))]).await;
    let late = site.put(&id, &[(3, Some("late"))]).await;
    assert_eq!((late.status, late.code().as_str()), (409, "StatusConflict"));
    site.clock.advance(Millis(2499));
    assert!(site.is_committing(&id).await);
    assert!(site.rows().await.is_empty());
    assert_eq!(site.service.open_sessions().len(), 1);
    site.clock.advance(Millis(1));
    site.until_committed(&id).await;
    assert_eq!(site.commit(&id).await.session_status(), "committed");
    assert_eq!(site.rows().await, [row("a", 1, "x"), row("a", 2, "y")]);
    assert_eq!(site.service.stats().commits, 1);
    let site = site.restarted().await;
    assert_eq!(site.reload(&id).await.session_status(), "committed");
    assert_eq!(site.rows().await, [row("a", 1, "x"), row("a", 2, "y")]);
}

#[tokio::test]
async fn rows_are_visible_when_their_time_has_come_although_nobody_asks_for_the_commit() {
    let site = site(&["a"]).await;
    site.committing("a", &[(1, Some("x"))]).await;
    site.clock.advance(Millis(2500));
    for _ in 0..QUESTIONS {
        if site.rows().await == [row("a", 1, "x")] {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("no row is visible");
}

#[tokio::test]
async fn commits_of_many_partitions_take_their_latency_in_parallel() {
    let days: Vec<String> = (0..20).map(|day| format!("d{day:02}")).collect();
    let names: Vec<&str> = days.iter().map(String::as_str).collect();
    let site = site(&names).await;
    let rows = [(1, Some("x")), (2, Some("y"))];
    let ids = join_all(names.iter().map(|day| site.committing(day, &rows))).await;
    for id in &ids {
        assert!(site.is_committing(id).await);
    }
    let version = site.service.stats().log_version;
    site.clock.advance(Millis(2500));
    for id in &ids {
        site.until_committed(id).await;
    }
    assert_eq!(site.rows().await.len(), 40);
    assert_eq!(site.service.stats().log_version, version + 1, "they share a record");
}

#[tokio::test]
async fn commits_of_one_partition_follow_each_other_and_each_takes_its_time() {
    let site = site(&["a", "b"]).await;
    let first = site.committing("a", &[(1, Some("first"))]).await;
    site.clock.advance(Millis(1000));
    let second = site.committing("a", &[(1, Some("second"))]).await;
    let other = site.committing("b", &[(1, Some("other"))]).await;
    site.clock.advance(Millis(1500));
    site.until_committed(&first).await;
    assert_eq!(site.rows().await, [row("a", 1, "first")]);
    site.clock.advance(Millis(1000));
    site.until_committed(&other).await;
    assert!(site.is_committing(&second).await);
    site.clock.advance(Millis(1499));
    assert!(site.is_committing(&second).await);
    site.clock.advance(Millis(1));
    site.until_committed(&second).await;
    assert_eq!(site.rows().await, [row("a", 1, "second"), row("b", 1, "other")]);
    let third = site.committing("a", &[(1, Some("third"))]).await;
    site.clock.advance(Millis(2500));
    site.until_committed(&third).await;
}

#[tokio::test]
async fn a_crash_within_a_slow_commit_loses_nothing() {
    for unsynced in [Unsynced::Lost, Unsynced::Torn, Unsynced::Kept] {
        for elapsed in [0, 1200, 2499] {
            let site = site(&["a"]).await;
            let id = site.committing("a", &[(1, Some("x"))]).await;
            site.clock.advance(Millis(elapsed));
            assert!(site.is_committing(&id).await);
            let disk = site.disk.crash(unsynced).await;
            let site = Site::on(site.clock, disk).await.expect("what was acknowledged is whole");
            assert_eq!(site.reload(&id).await.session_status(), "normal");
            assert!(site.rows().await.is_empty());
            assert_eq!(site.put(&id, &[(2, Some("y"))]).await.status, 200);
            assert_eq!(site.commit(&id).await.session_status(), "committed");
            assert_eq!(site.rows().await, [row("a", 1, "x"), row("a", 2, "y")]);
        }
    }
}

#[tokio::test]
async fn an_abort_is_too_late_while_a_commit_takes_its_time() {
    let site = site(&["a"]).await;
    let id = site.committing("a", &[(1, Some("x"))]).await;
    let refused = site.abort(&id).await;
    assert_eq!((refused.status, refused.code().as_str()), (409, "StatusConflict"));
    site.clock.advance(Millis(2500));
    site.until_committed(&id).await;
    assert_eq!(site.rows().await, [row("a", 1, "x")]);
}

#[tokio::test]
async fn a_table_that_is_dropped_while_a_commit_takes_its_time_stays_dropped() {
    let site = site(&["a"]).await;
    let id = site.committing("a", &[(1, Some("x"))]).await;
    site.sql("DROP TABLE t").await.expect("dropped");
    site.clock.advance(Millis(2500));
    for _ in 0..QUESTIONS {
        let refused = site.reload(&id).await;
        assert_eq!((refused.status, refused.code().as_str()), (404, "NoSuchTable"));
    }
    site.sql(crate::support::CREATE_TABLE).await.expect("created");
    assert_eq!(site.reload(&id).await.session_status(), "aborted");
    assert!(site.rows().await.is_empty());
}

#[tokio::test]
async fn a_rule_acts_on_the_requests_of_a_slow_commit_and_on_its_record() {
    let site = site(&["a"]).await;
    let rules = "{\"rules\": [{\"match\": {\"operation\": \"commit\"}, \"when\": {\"first\": 1}, \
                 \"do\": \"lost-reply\"}, {\"match\": {\"operation\": \"commit\"}, \
                 \"when\": {\"nth\": 2}, \"do\": {\"crash\": {\"record\": \"before\"}}}]}";
    site.service.faults().add(FaultRules::parse(rules).expect("rules")).expect("few rules");
    let id = site.session("a").await;
    assert_eq!(site.put(&id, &[(1, Some("x"))]).await.status, 200);
    let commit = format!("{UPSERTS}?upsertid={id}");
    let post = || http::Request::post(&commit).body(Default::default()).expect("a request");
    let lost = site.service.respond(post()).await;
    assert!(lost.extensions().get::<Severed>().is_some());
    assert_eq!(site.commit(&id).await.session_status(), "committing");
    site.clock.advance(Millis(2500));
    site.service.crashed().await;
    let site = site.restarted().await;
    assert_eq!(site.reload(&id).await.session_status(), "normal");
    assert_eq!(site.commit(&id).await.session_status(), "committed");
    assert_eq!(site.rows().await, [row("a", 1, "x")]);
}

/// More than a commit needs to end.
const QUESTIONS: usize = 100;
