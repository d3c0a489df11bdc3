//! Rows in which the service is not there, or not for long enough: no connection, and attempts that
//! come to their end.

use anyhow::{Result, ensure};
use upsert_sink::ErrorKind;

use crate::faults::components::{Call, End};
use crate::faults::report::Test;
use crate::faults::scene::{ROUNDS, Scene, error_of};

/// The bucket whose packs go wrong.
const BUCKET: Call = Call::Put(2);
const ERROR: &str = "{\"status\": {\"status\": 500}}";

/// The server is down; it comes back once a call has found that out.
async fn come_back(scene: &Scene, call: Call) -> Result<()> {
    let not_sent = scene.world.wire.sees(|one| one.call == call && one.end == End::NotSent);
    scene.world.rush(not_sent).await;
    scene.world.start().await?;
    scene.world.thaw();
    Ok(())
}

#[test]
fn what_was_never_sent_is_sent_when_the_service_is_back() {
    let mut test = Test::begin();
    let does = "sends it when there is a connection";
    test.row("create: connection refused", does, async |scene| {
        scene.open().await?;
        scene.world.freeze();
        scene.world.stop().await?;
        scene.write().await?;
        come_back(scene, Call::Create).await?;
        scene.go_on().await?;
        scene.expect_attempts(Call::Create, &["not sent", "200"])?;
        scene.expect_commits(2)?;
        scene.expect_fold(ROUNDS, 0).await
    });
    test.row("put: connection refused", does, async |scene| {
        // A reply that comes while the server stops: the next pack finds nobody.
        let delay = "{\"delay\": {\"ms\": 3600000, \"at\": \"after\"}}";
        scene.world.fault(BUCKET, "\"nth\": 1", delay)?;
        scene.open().await?;
        scene.write().await?;
        scene.world.rush(scene.world.holds()).await;
        scene.world.freeze();
        scene.world.stop().await?;
        come_back(scene, BUCKET).await?;
        scene.go_on().await?;
        scene.expect_attempts(BUCKET, &["not sent", "200"])?;
        scene.expect_fold(ROUNDS, 0).await
    });
    test.row("commit: connection refused", does, async |scene| {
        scene.open().await?;
        scene.write().await?;
        let id = scene.barrier().await?;
        scene.world.freeze();
        scene.world.stop().await?;
        let world = scene.world.clone();
        let (committed, back) = futures::join!(scene.commit(id), async {
            let wire = &world.wire;
            wire.sees(|one| one.call == Call::Commit && one.end == End::NotSent).await;
            world.start().await?;
            world.thaw();
            Ok::<_, anyhow::Error>(())
        });
        committed?;
        back?;
        scene.go_on().await?;
        scene.expect_attempts(Call::Commit, &["not sent", "200"])?;
        scene.expect_fold(ROUNDS, 0).await
    });
}

#[test]
fn a_pack_that_is_never_acknowledged_ends_the_attempt_after_its_retries() {
    let mut test = Test::begin();
    for (retries, expected) in [("3", 4), ("0", 1)] {
        let name = format!("put: 500 for ever, upsert.writer.max-retries = {retries}");
        test.row(&name, "fails when they are used up; the engine replays", async |scene| {
            scene.option("upsert.writer.max-retries", retries);
            scene.world.fault(BUCKET, "\"percent\": 100", ERROR)?;
            let error = error_of(scene.attempt().await)?;
            let named = format!("upsert.writer.max-retries = {retries}");
            scene.failed(&error, ErrorKind::Retry, &[&named, "bucket 2", "500"])?;
            scene.expect_attempts(BUCKET, &vec!["500"; expected])?;
            scene.world.heal();
            scene.attempt().await?;
            scene.expect_fold(ROUNDS, 0).await
        });
    }
}

#[test]
fn a_commit_that_is_always_refused_ends_the_attempt_after_its_retries() {
    let mut test = Test::begin();
    let conflict = "{\"status\": {\"status\": 409, \"code\": \"DataVersionConflict\"}}";
    test.row("commit: 409 for ever, upsert.commit.max-retries = 2", "fails; commits on restore", {
        async |scene: &mut Scene| {
            scene.option("upsert.commit.max-retries", "2");
            scene.world.fault(Call::Commit, "\"percent\": 100", conflict)?;
            let error = error_of(scene.attempt().await)?;
            let named = ["upsert.commit.max-retries = 2", "DataVersionConflict"];
            scene.failed(&error, ErrorKind::Retry, &named)?;
            scene.expect_attempts(Call::Commit, &["409", "409", "409"])?;
            scene.expect_fold(0, 1).await?;
            scene.world.heal();
            scene.attempt().await?;
            scene.expect_fold(ROUNDS, 0).await
        }
    });
}

#[test]
fn a_commit_whose_outcome_stays_unknown_ends_the_attempt_in_time() {
    let mut test = Test::begin();
    test.row("commit: 500 for ever, upsert.commit.timeout = 1 s", "fails; commits on restore", {
        async |scene: &mut Scene| {
            scene.option("upsert.commit.timeout", "1 s");
            scene.world.fault(Call::Commit, "\"percent\": 100", ERROR)?;
            let error = error_of(scene.attempt().await)?;
            scene.failed(&error, ErrorKind::Retry, &["upsert.commit.timeout = 1 s", "500"])?;
            let attempts = scene.attempts(Call::Commit);
            let ends: Vec<String> = attempts.iter().map(|one| one.end.to_string()).collect();
            ensure!(ends.len() > 1 && ends.iter().all(|end| end == "500"), "{ends:?}");
            scene.attempts_told.push(String::from("commit: 500, …"));
            scene.expect_fold(0, 1).await?;
            scene.world.heal();
            scene.attempt().await?;
            scene.expect_fold(ROUNDS, 0).await
        }
    });
}
