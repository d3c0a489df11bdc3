//! Rows in which the service certainly did nothing and asks to come again: later, with less, or
//! elsewhere.

use anyhow::{Result, ensure};

use crate::faults::components::Call;
use crate::faults::report::Test;
use crate::faults::scene::{ROUNDS, Scene};

/// The bucket whose packs go wrong.
const BUCKET: Call = Call::Put(2);
const WORKER: &str = "127.0.0.1:1";

fn named() -> String {
    format!("{{\"slot-moved\": {{\"worker\": \"{WORKER}\"}}}}")
}

fn workers(scene: &Scene, call: Call) -> Vec<String> {
    let attempts = scene.attempts(call).into_iter();
    attempts.map(|attempt| attempt.worker.unwrap_or_default()).collect()
}

#[test]
fn what_is_refused_because_its_slot_moved_goes_to_the_new_worker() {
    let mut test = Test::begin();
    for call in [BUCKET, Call::Commit] {
        let fault = format!("{call}: 308 that names the worker");
        test.row(&fault, "sends the same again, to that worker", async |scene| {
            scene.world.fault(call, "\"nth\": 1", &named())?;
            scene.attempt().await?;
            scene.expect_attempts(call, &["308", "200"])?;
            let workers = workers(scene, call);
            ensure!(workers[0] != WORKER && workers[1] == WORKER, "{workers:?}");
            scene.expect_commits(2)?;
            scene.expect_fold(ROUNDS, 0).await
        });
    }
}

#[test]
fn what_is_refused_because_its_slot_moved_nobody_says_where_asks_for_the_session() {
    let mut test = Test::begin();
    for call in [BUCKET, Call::Commit] {
        let fault = format!("{call}: 308 that names no worker");
        test.row(&fault, "asks for the slots, then sends the same again", async |scene| {
            scene.world.fault(call, "\"nth\": 1", "{\"slot-moved\": {}}")?;
            scene.attempt().await?;
            scene.expect_attempts(call, &["308", "200"])?;
            scene.attempts_told.push(String::from("reload: 200"));
            let workers = workers(scene, call);
            ensure!(!workers[1].is_empty(), "no worker at the second attempt: {workers:?}");
            let attempts = scene.world.wire.attempts();
            let of = |wanted| attempts.iter().position(|one| one.call == wanted);
            ensure!(of(Call::Reload) > of(call), "the session was not asked for");
            scene.expect_fold(ROUNDS, 0).await
        });
    }
}

#[test]
fn what_is_asked_to_slow_down_comes_again_as_often_as_it_takes() {
    let mut test = Test::begin();
    for (name, end, fault) in [
        ("429 SlotExceeded", "429", "{\"slot-exceeded\": {}}"),
        ("429 FlowExceeded", "429", "\"flow-exceeded\""),
        ("400 SlotExceeded", "400", "{\"slot-exceeded\": {\"status\": 400}}"),
    ] {
        for call in [Call::Create, BUCKET, Call::Commit] {
            let fault_name = format!("{call}: {name}");
            test.row(&fault_name, "waits 1, 2, 4 … 64 s, without a limit", async |scene| {
                scene.world.fault(call, "\"first\": 5", fault)?;
                scene.attempt().await?;
                scene.expect_attempts(call, &[end, end, end, end, end, "200"])?;
                scene.expect_commits(2)?;
                scene.expect_fold(ROUNDS, 0).await
            });
        }
    }
}

#[test]
fn fewer_packs_are_under_way_after_slow_downs_and_more_again_later() {
    let mut test = Test::begin();
    test.row("all packs at once: 429", "halves what is under way, then one more a round", {
        async |scene: &mut Scene| {
            scene.option("sink.parallelism", "1");
            scene.option("upsert.writer.bucket.buffer-size", "1mb");
            scene.open().await?;
            let before = packs_at_once(scene).await?;
            scene.world.rule(
                "{\"match\": {\"operation\": \"put\"}, \"when\": {\"first\": 8}, \
                  \"do\": \"flow-exceeded\"}",
            )?;
            packs_at_once(scene).await?;
            let after = packs_at_once(scene).await?;
            ensure!(before == 8, "{before} packs were under way, there are 8 buckets");
            ensure!((1..=5).contains(&after), "{after} packs were under way after 8 refusals");
            let mut later = after;
            for _ in 0..8 {
                later = packs_at_once(scene).await?;
            }
            ensure!(later == 8, "{later} packs were under way later");
            scene.attempts_told.push(format!("packs at once: {before}, {after}, … {later}"));
            let rounds = scene.position;
            scene.kill().await;
            scene.expect_fold(rounds, 0).await
        }
    });
}

/// Sends one pack of each bucket; answers how many were under way at once.
async fn packs_at_once(scene: &mut Scene) -> Result<usize> {
    scene.world.wire.take_packs_at_once();
    scene.write().await?;
    let id = scene.barrier().await?;
    scene.commit(id).await?;
    Ok(scene.world.wire.take_packs_at_once())
}
