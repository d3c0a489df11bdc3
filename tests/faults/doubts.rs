//! Rows in which nobody knows whether the request was carried out: rule 4. The same bytes go again
//! until they are acknowledged, and what follows goes into a fresh session.

use anyhow::{Result, ensure};
use upsert_sink::ErrorKind;

use crate::faults::components::{Call, End};
use crate::faults::report::Test;
use crate::faults::scene::{ROUNDS, Scene, error_of};

/// The bucket whose packs go wrong.
const BUCKET: Call = Call::Put(2);
const AGAIN: &str = "sends the same again; packs after it go into a fresh session";

/// Plays the whole input with the first call of a kind in doubt.
async fn in_doubt(scene: &mut Scene, call: Call, fault: &str, end: &str, open: u64) -> Result<()> {
    scene.world.fault(call, "\"nth\": 1", fault)?;
    scene.attempt().await?;
    scene.expect_attempts(call, &[end, "200"])?;
    // One for each checkpoint, and one more that the packs after a doubtful one went into.
    scene.expect_commits(if call == BUCKET { 3 } else { 2 })?;
    scene.expect_fold(ROUNDS, open).await
}

fn does(call: Call) -> &'static str {
    match call {
        Call::Create => "creates another; the first ends with its lifecycle",
        Call::Put(_) => AGAIN,
        _ => "asks again until the outcome is known",
    }
}

#[test]
fn an_error_of_the_service_itself_is_no_proof_that_nothing_happened() {
    let mut test = Test::begin();
    let fault = |at| format!("{{\"status\": {{\"status\": 500, \"at\": \"{at}\"}}}}");
    for call in [Call::Create, BUCKET, Call::Commit] {
        for (at, open) in [("before", 0), ("after", u64::from(call == Call::Create))] {
            let name = format!("{call}: 500, {at} it was carried out");
            test.row(&name, does(call), async |scene| {
                in_doubt(scene, call, &fault(at), "500", open).await
            });
        }
    }
}

#[test]
fn a_page_of_the_proxy_is_no_proof_of_anything() {
    let mut test = Test::begin();
    for status in ["502", "503", "504"] {
        for call in [Call::Create, BUCKET, Call::Commit] {
            for (at, open) in [("before", 0), ("after", u64::from(call == Call::Create))] {
                let fault = format!("{{\"tengine\": {{\"status\": {status}, \"at\": \"{at}\"}}}}");
                let name = format!("{call}: {status} page, {at} it was carried out");
                test.row(&name, does(call), async |scene| {
                    in_doubt(scene, call, &fault, status, open).await
                });
            }
        }
    }
}

#[test]
fn a_reply_that_is_lost_is_asked_for_again() {
    let mut test = Test::begin();
    for call in [Call::Create, BUCKET, Call::Commit] {
        let open = u64::from(call == Call::Create);
        test.row(&format!("{call}: reply lost"), does(call), async |scene| {
            in_doubt(scene, call, "\"lost-reply\"", "lost", open).await
        });
    }
}

#[test]
fn a_reply_that_is_cut_off_is_no_reply() {
    let mut test = Test::begin();
    for (call, bytes) in [(Call::Create, 40), (BUCKET, 0), (Call::Commit, 40)] {
        let open = u64::from(call == Call::Create);
        let fault = format!("{{\"cut-response\": {{\"bytes\": {bytes}}}}}");
        test.row(&format!("{call}: reply cut off"), does(call), async |scene| {
            in_doubt(scene, call, &fault, "lost", open).await
        });
    }
}

#[test]
fn a_request_whose_connection_breaks_may_have_been_carried_out() {
    let mut test = Test::begin();
    for (name, bytes) in [("reset before its body was read", 0), ("cut within its body", 500)] {
        let fault = format!("{{\"cut-request\": {{\"bytes\": {bytes}}}}}");
        test.row(&format!("put: {name}"), AGAIN, async |scene| {
            in_doubt(scene, BUCKET, &fault, "lost", 0).await
        });
    }
    for call in [Call::Create, Call::Commit] {
        test.row(&format!("{call}: connection reset"), does(call), async |scene| {
            in_doubt(scene, call, "{\"cut-request\": {\"bytes\": 0}}", "lost", 0).await
        });
    }
}

/// The late copy is the newest pack of its session and bucket, so it changes nothing.
#[test]
fn a_pack_that_arrives_after_it_was_sent_again_changes_nothing() {
    let mut test = Test::begin();
    let delay = "{\"delay\": {\"ms\": 3600000}}";
    test.row("put: no answer in request.timeout, applied before the commit", AGAIN, {
        async |scene: &mut Scene| {
            scene.option("request.timeout", "10 s");
            scene.world.fault(BUCKET, "\"nth\": 1", delay)?;
            scene.open().await?;
            for _ in 0..3 {
                scene.write().await?;
            }
            let id = scene.barrier().await?;
            let packs = scene.world.stats().packs;
            scene.world.heal();
            scene.world.stats_show(|stats| stats.packs > packs).await;
            scene.commit(id).await?;
            // Here the late copy would show: what follows writes every key again.
            scene.expect_fold(3, 0).await?;
            scene.go_on().await?;
            scene.expect_attempts(BUCKET, &["timed out", "200"])?;
            scene.expect_commits(3)?;
            scene.expect_fold(ROUNDS, 0).await
        }
    });
    test.row("put: no answer in request.timeout, arrives after the commit", AGAIN, {
        async |scene: &mut Scene| {
            scene.option("request.timeout", "10 s");
            scene.world.fault(BUCKET, "\"nth\": 1", delay)?;
            scene.attempt().await?;
            let refused = scene.world.stats().refused;
            scene.world.heal();
            scene.world.stats_show(|stats| stats.refused > refused).await;
            scene.expect_attempts(BUCKET, &["timed out", "200"])?;
            scene.expect_commits(3)?;
            scene.expect_fold(ROUNDS, 0).await
        }
    });
}

#[test]
fn a_commit_that_takes_longer_than_a_request_may_is_asked_for_again() {
    let mut test = Test::begin();
    for at in ["before", "after"] {
        let fault = format!("{{\"delay\": {{\"ms\": 3600000, \"at\": \"{at}\"}}}}");
        let name = format!("commit: no answer in request.timeout, {at} it was carried out");
        test.row(&name, does(Call::Commit), async |scene| {
            scene.option("request.timeout", "10 s");
            in_doubt(scene, Call::Commit, &fault, "timed out", 0).await?;
            // The late copy of a commit that is done.
            scene.world.heal();
            scene.world.stop().await?;
            scene.world.start().await?;
            scene.expect_fold(ROUNDS, 0).await
        });
    }
}

#[test]
fn an_abort_whose_reply_is_lost_is_repeated_before_anything_is_written() {
    let mut test = Test::begin();
    test.row("abort: reply lost", "repeats it, and hands out no session before", {
        async |scene: &mut Scene| {
            scene.open().await?;
            scene.write().await?;
            let wire = &scene.world.wire;
            let acknowledged = wire.sees(|one| one.call == BUCKET && one.end == End::Answered(200));
            scene.world.rush(acknowledged).await;
            scene.kill().await;
            scene.mark();
            scene.world.fault(Call::Abort, "\"nth\": 1", "\"lost-reply\"")?;
            scene.attempt().await?;
            scene.expect_attempts(Call::Abort, &["lost", "200"])?;
            let attempts = scene.world.wire.attempts();
            let last = attempts.iter().rposition(|one| one.call == Call::Abort);
            let next = attempts.iter().rposition(|one| one.call == Call::Create);
            ensure!(last < next, "a session was created before the abort was known");
            scene.expect_fold(ROUNDS, 0).await
        }
    });
}

#[test]
fn what_follows_a_doubt_is_what_was_asked_for() {
    let mut test = Test::begin();
    test.row("put: reply lost, sink.doubt = fail", "fails; the engine replays", {
        async |scene: &mut Scene| {
            scene.option("sink.doubt", "fail");
            scene.world.fault(BUCKET, "\"nth\": 1", "\"lost-reply\"")?;
            let error = error_of(scene.attempt().await)?;
            scene.failed(&error, ErrorKind::Retry, &["sink.doubt = fail", "bucket 2"])?;
            scene.expect_attempts(BUCKET, &["lost"])?;
            scene.attempt().await?;
            scene.expect_fold(ROUNDS, 0).await
        }
    });
    test.row("put: reply lost, sink.doubt = continue", "sends the same again, same session", {
        async |scene: &mut Scene| {
            scene.option("sink.doubt", "continue");
            scene.option("sink.delivery-guarantee", "at-least-once");
            scene.world.fault(BUCKET, "\"nth\": 1", "\"lost-reply\"")?;
            scene.attempt().await?;
            scene.expect_attempts(BUCKET, &["lost", "200"])?;
            scene.expect_commits(2)?;
            scene.expect_fold(ROUNDS, 0).await
        }
    });
    test.row("put: reply lost, at-least-once", AGAIN, async |scene| {
        scene.option("sink.delivery-guarantee", "at-least-once");
        in_doubt(scene, BUCKET, "\"lost-reply\"", "lost", 0).await
    });
}
