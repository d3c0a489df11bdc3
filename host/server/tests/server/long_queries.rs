//! Queries that compute for long: whoever asks for something else does not notice them.
//!
//! One thread answers all requests here, so a query that computed on it would stop the test.

use crate::support::{Site, row};

/// A query that compares the cube of the table's rows, and finds nothing.
const CUBE: &str = "SELECT count(*) AS n FROM t a JOIN t b ON a.id + b.id >= 0 \
                    JOIN t c ON a.id + b.id + c.id < 0";
/// A cube of many seconds.
const MANY: i64 = 2000;
/// A cube of fewer.
const SOME: i64 = 1500;

async fn site(rows: i64) -> Site {
    let site = Site::with_query_threads().await;
    let rows: Vec<_> = (0..rows).map(|id| (id, Some("v"))).collect();
    site.write("a", &rows).await;
    site
}

async fn status(site: &Site, path: &str) -> String {
    let body = site.get(&format!("{path}?taskstatus")).await.body;
    let task = body.split_once("<Task ").map(|(_, task)| task.to_owned()).unwrap_or_default();
    let status = task.split_once("<Status>").and_then(|(_, rest)| rest.split_once('<'));
    status.map(|(word, _)| word.to_owned()).unwrap_or_default()
}

async fn stop(site: &Site, path: &str) {
    let body = b"<Instance><Status>Terminated</Status></Instance>".to_vec();
    let reply = site.call("PUT", path, body).await;
    assert_eq!(reply.status, 200, "{reply:?}");
}

#[tokio::test]
async fn rows_are_written_and_committed_while_queries_compute() {
    let site = site(MANY).await;
    let paths = [site.job(CUBE).await, site.job(CUBE).await];
    site.write("a", &[(MANY, Some("later"))]).await;
    for path in &paths {
        assert_eq!(status(&site, path).await, "Running");
        stop(&site, path).await;
    }
    assert!(site.rows().await.contains(&row("a", MANY, "later")));
}

/// The Java SDK reads it of every answer, and fails where it is missing.
#[tokio::test]
async fn the_end_of_a_running_query_is_empty_and_not_left_out() {
    let site = site(MANY).await;
    let path = site.job(CUBE).await;
    let running = site.get(&path).await;
    assert!(running.body.contains("<Status>Running</Status>"), "{running:?}");
    assert_eq!(running.end_time.as_deref(), Some(""));
    stop(&site, &path).await;
    assert!(site.get(&path).await.end_time.is_some_and(|at| !at.is_empty()));
}

#[tokio::test]
async fn stopped_queries_are_over_for_their_client_at_once_and_make_room_for_the_next() {
    let site = site(SOME).await;
    // Two run at the same time, the others wait for their turn, and never get it.
    let mut stopped = 0;
    for _ in 0..4 {
        let path = site.job(CUBE).await;
        if status(&site, &path).await == "Running" {
            stop(&site, &path).await;
            stopped += 1;
            assert_eq!(status(&site, &path).await, "Cancelled");
            let result = site.get(&format!("{path}?result")).await;
            assert!(result.body.contains("stopped"), "{result:?}");
        }
    }
    assert!(stopped > 0, "none of the queries ran for long");
    let path = site.job("SELECT count(*) AS n FROM t").await;
    while status(&site, &path).await == "Running" {
        tokio::task::yield_now().await;
    }
    let result = site.get(&format!("{path}?result")).await;
    assert!(result.body.contains(&format!("\"n\"\n{SOME}\n")), "{result:?}");
}
