//! Quotas are kept, and answered in the service's words.

use std::num::{NonZeroU32, NonZeroU64};

use upsert_sink_format::id::Millis;
use upsert_sink_server::Quotas;

use crate::support::{Site, UPSERTS, bucket};

async fn site(quotas: Quotas) -> Site {
    Site::with_days_and(&["a"], |settings| settings.quotas = quotas).await
}

#[tokio::test]
async fn sessions_beyond_the_slots_are_refused_until_one_ends() {
    let site = site(Quotas { slots: NonZeroU32::new(3), ..Quotas::default() }).await;
    let create = |slots: u32| format!("{UPSERTS}?slotnum={slots}&partition=day%3Da");
    let first = site.call("POST", &create(2), Vec::new()).await;
    assert_eq!(first.status, 200);
    let refused = site.call("POST", &create(2), Vec::new()).await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "SlotExceeded"));
    assert_eq!(site.service.stats().sessions_created, 1);
    assert_eq!(site.call("POST", &create(1), Vec::new()).await.status, 200);
    assert_eq!(site.abort(first.json()["id"].as_str().unwrap()).await.status, 200);
    assert_eq!(site.call("POST", &create(2), Vec::new()).await.status, 200);
}

#[tokio::test]
async fn sessions_created_at_once_do_not_exceed_the_slots() {
    let site = site(Quotas { slots: NonZeroU32::new(4), ..Quotas::default() }).await;
    let replies = futures::future::join_all((0..16).map(|_| site.create("a"))).await;
    assert_eq!(replies.iter().filter(|reply| reply.status == 200).count(), 4);
    assert_eq!(site.service.open_sessions().len(), 4);
}

#[tokio::test]
async fn a_bucket_that_has_used_its_second_is_refused_and_the_others_are_not() {
    let bytes = NonZeroU64::new(10);
    let site = site(Quotas { bucket_bytes_per_second: bytes, ..Quotas::default() }).await;
    let id = site.session("a").await;
    let other = (2..).find(|id| bucket(*id) != bucket(1)).unwrap();
    assert_eq!(site.put(&id, &[(1, Some("x"))]).await.status, 200);
    let packs = site.service.stats().packs;
    let refused = site.put(&id, &[(1, Some("y"))]).await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "FlowExceeded"));
    assert_eq!(site.service.stats().packs, packs);
    assert_eq!(site.put(&id, &[(other, Some("x"))]).await.status, 200);
    site.clock.advance(Millis(60_000));
    assert_eq!(site.put(&id, &[(1, Some("y"))]).await.status, 200);
    assert_eq!(site.commit(&id).await.session_status(), "committed");
}
