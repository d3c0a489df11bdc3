//! Visibility: nothing before a commit, all of it after, and the last writer of a key wins.

use futures::future::join_all;

use crate::support::{Row, Site, bucket, row};

#[tokio::test]
async fn nothing_is_visible_before_the_commit_and_every_bucket_after_it() {
    let site = Site::with_days(&["a"]).await;
    let id = site.session("a").await;
    let rows: Vec<Row> = (0..40).map(|id| (id, Some("x"))).collect();
    assert_eq!((0..40).map(bucket).collect::<std::collections::BTreeSet<_>>().len(), 4);
    assert_eq!(site.put(&id, &rows).await.status, 200);
    assert!(site.rows().await.is_empty());
    assert_eq!(site.commit(&id).await.session_status(), "committed");
    assert_eq!(site.rows().await, (0..40).map(|id| row("a", id, "x")).collect::<Vec<_>>());
}

#[tokio::test]
async fn commits_of_many_partitions_share_one_log_record() {
    let days: Vec<String> = (0..20).map(|day| format!("d{day:02}")).collect();
    let names: Vec<&str> = days.iter().map(String::as_str).collect();
    let site = Site::with_days(&names).await;
    let mut ids = Vec::new();
    for day in &names {
        let id = site.session(day).await;
        assert_eq!(site.put(&id, &[(1, Some("x")), (2, Some("y"))]).await.status, 200);
        ids.push(id);
    }
    let version = site.service.stats().log_version;
    let replies = join_all(ids.iter().map(|id| site.commit(id))).await;
    assert!(replies.iter().all(|reply| reply.session_status() == "committed"));
    assert_eq!(site.service.stats().log_version, version + 1);
    assert_eq!(site.rows().await.len(), 40);
}

#[tokio::test]
async fn the_last_writer_of_a_key_wins_within_and_across_commits() {
    let site = Site::with_days(&["a", "b"]).await;
    site.write("a", &[(1, Some("first")), (2, Some("kept")), (1, Some("second"))]).await;
    site.write("b", &[(1, Some("another partition"))]).await;
    assert_eq!(
        site.rows().await,
        [row("a", 1, "second"), row("a", 2, "kept"), row("b", 1, "another partition")]
    );
    site.write("a", &[(1, None)]).await;
    assert_eq!(site.rows().await, [row("a", 2, "kept"), row("b", 1, "another partition")]);
    site.write("a", &[(2, None), (1, Some("again")), (3, Some("x")), (3, None)]).await;
    assert_eq!(site.rows().await, [row("a", 1, "again"), row("b", 1, "another partition")]);
}

#[tokio::test]
async fn sessions_of_one_partition_are_ordered_by_their_commits() {
    let site = Site::with_days(&["a"]).await;
    let (first, second) = (site.session("a").await, site.session("a").await);
    assert_eq!(site.put(&second, &[(1, Some("of the second"))]).await.status, 200);
    assert_eq!(site.put(&first, &[(1, Some("of the first"))]).await.status, 200);
    assert_eq!(site.commit(&second).await.session_status(), "committed");
    assert_eq!(site.commit(&first).await.session_status(), "committed");
    assert_eq!(site.rows().await, [row("a", 1, "of the first")]);
}

#[tokio::test]
async fn a_session_without_packs_commits() {
    let site = Site::with_days(&["a"]).await;
    let id = site.session("a").await;
    assert_eq!(site.commit(&id).await.session_status(), "committed");
    assert_eq!(site.reload(&id).await.session_status(), "committed");
    assert!(site.rows().await.is_empty());
}
