//! What is verified before a pack is acknowledged.

use crate::support::BUCKETS;
use crate::support::Site;
use crate::support::UPSERTS;
use crate::support::bucket;
use crate::support::pack;
use crate::support::row;

#[tokio::test]
async fn a_damaged_pack_is_refused_or_holds_the_very_rows_that_were_sent() {
    let site = Site::with_days(&["a"]).await;
    let id = site.session("a").await;
    let good = pack(&[(1, Some("one"))]);
    let mut harmless = 0;
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        let reply = site.put_pack(&id, bucket(1), 1, bad).await;
        if reply.status == 200 {
            harmless += 1;
        } else {
            assert_eq!(reply.status, 400, "byte {at}: {reply:?}");
        }
    }
    // The wire types of the marks after a record carry nothing; everything else does.
    assert!(harmless <= 3, "{harmless} damaged packs of {}", good.len());
    for length in 0..good.len() {
        let reply = site.put_pack(&id, bucket(1), 1, good[..length].to_vec()).await;
        assert_eq!(reply.code(), "CorruptedDataStream", "length {length}: {reply:?}");
    }
    assert_eq!(site.commit(&id).await.session_status(), "committed");
    let rows = site.rows().await;
    assert!(rows.is_empty() || rows == [row("a", 1, "one")], "{rows:?}");
}

#[tokio::test]
async fn a_pack_whose_count_is_not_the_announced_one_is_refused() {
    let site = Site::with_days(&["a"]).await;
    let id = site.session("a").await;
    let reply = site.put_pack(&id, bucket(1), 2, pack(&[(1, Some("one"))])).await;
    assert_eq!(reply.code(), "CorruptedDataStream");
}

#[tokio::test]
async fn a_row_of_another_bucket_is_refused() {
    let site = Site::with_days(&["a"]).await;
    let id = site.session("a").await;
    for wrong in (0..BUCKETS).filter(|b| *b != bucket(1)) {
        let reply = site.put_pack(&id, wrong, 1, pack(&[(1, Some("one"))])).await;
        assert_eq!((reply.status, reply.code().as_str()), (400, "InvalidArgument"));
        assert!(reply.body.contains(&format!("bucket {}", bucket(1))), "{reply:?}");
    }
    let reply = site.put_pack(&id, BUCKETS, 1, pack(&[(1, Some("one"))])).await;
    assert_eq!(reply.code(), "InvalidArgument");
}

#[tokio::test]
async fn compression_is_refused_by_name() {
    let site = Site::with_days(&["a"]).await;
    let id = site.session("a").await;
    let path = format!("{UPSERTS}?upsertid={id}&bucketid={}&slotid=0", bucket(1));
    let request = http::Request::put(path).header("content-encoding", "zstd");
    let request = request.body(pack(&[(1, Some("x"))]).into()).unwrap();
    let response = site.service.respond(request).await;
    assert_eq!(response.status(), 400);
    let body = String::from_utf8_lossy(response.body()).into_owned();
    assert!(body.contains("InvalidArgument") && body.contains("zstd"), "{body}");
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let site = Site::with_days(&["a"]).await;
    let id = site.session("a").await;
    let reply = site.put_pack(&id, 0, 1, vec![0; (64 << 20) + 1]).await;
    assert_eq!(reply.status, 413);
}
