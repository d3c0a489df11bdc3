//! The checks before a pack is acknowledged.

use crate::support::{BUCKETS, Reply, Site, UPSERTS, bucket, pack, row};

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

async fn put_encoded(site: &Site, id: &str, encoding: &str, body: Vec<u8>) -> Reply {
    let path = format!("{UPSERTS}?upsertid={id}&bucketid={}&slotid=0", bucket(1));
    site.call_with("PUT", &path, &[("content-encoding", encoding)], body).await
}

fn zstd(plain: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(plain, 1).expect("memory takes all")
}

#[tokio::test]
async fn an_encoding_that_is_not_known_is_refused_by_name() {
    let site = Site::with_days(&["a"]).await;
    let id = site.session("a").await;
    for unknown in ["br", "gzip", "x-odps-lz4-frame", "deflate, zstd"] {
        let reply = put_encoded(&site, &id, unknown, pack(&[(1, Some("x"))])).await;
        assert_eq!((reply.status, reply.code().as_str()), (400, "InvalidArgument"));
        assert!(reply.body.contains("x-lz4-frame"), "{reply:?}");
    }
}

#[tokio::test]
async fn a_compressed_pack_is_verified_as_a_plain_one_is() {
    let site = Site::with_days(&["a"]).await;
    let id = site.session("a").await;
    let good = pack(&[(1, Some("one"))]);
    let mut bad = good.clone();
    bad[3] ^= 1;
    let reply = put_encoded(&site, &id, "zstd", zstd(&bad)).await;
    assert_eq!(reply.code(), "CorruptedDataStream", "{reply:?}");
    // Not compressed, in spite of its header.
    let reply = put_encoded(&site, &id, "zstd", good.clone()).await;
    assert_eq!(reply.code(), "CorruptedDataStream", "{reply:?}");
    let (one, three) = good.split_at(good.len() / 2);
    let frames = [zstd(one), zstd(three)].concat();
    assert_eq!(put_encoded(&site, &id, "zstd", frames).await.status, 200);
    assert_eq!(site.commit(&id).await.session_status(), "committed");
    assert_eq!(site.rows().await, [row("a", 1, "one")]);
}

#[tokio::test]
async fn decompression_bombs_are_refused_at_the_limit_of_a_body() {
    let site = Site::with_days(&["a"]).await;
    let id = site.session("a").await;
    let bomb = zstd(&vec![0; (64 << 20) + 1]);
    assert!(bomb.len() < 64 << 10, "{} bytes", bomb.len());
    let bombs = (0..8).map(|_| put_encoded(&site, &id, "zstd", bomb.clone()));
    for reply in futures::future::join_all(bombs).await {
        assert_eq!((reply.status, reply.code().as_str()), (413, "RequestEntityTooLarge"));
    }
    assert_eq!(put_encoded(&site, &id, "zstd", zstd(&pack(&[(1, None)]))).await.status, 200);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let site = Site::with_days(&["a"]).await;
    let id = site.session("a").await;
    let reply = site.put_pack(&id, 0, 1, vec![0; (64 << 20) + 1]).await;
    assert_eq!(reply.status, 413);
}
