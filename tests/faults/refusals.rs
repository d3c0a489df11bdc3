//! Rows in which the service says no: what may pass is repeated, what does not fails at once, and a
//! session that is gone is never taken for committed without evidence (rule 5).

use anyhow::{Result, ensure};
use upsert_sink::ErrorKind;

use crate::faults::components::Call;
use crate::faults::report::Test;
use crate::faults::scene::{ROUNDS, ROUNDS_PER_CHECKPOINT, Scene, error_of};

/// The bucket whose packs go wrong.
const BUCKET: Call = Call::Put(2);

fn coded(status: u16, code: &str, at: &str) -> String {
    format!("{{\"status\": {{\"status\": {status}, \"code\": \"{code}\", \"at\": \"{at}\"}}}}")
}

#[test]
fn a_request_that_the_service_calls_wrong_is_not_repeated() {
    let mut test = Test::begin();
    for (call, status, code, kind) in [
        (Call::Create, 400, "InvalidArgument", ErrorKind::InvalidConfig),
        (Call::Create, 403, "NoPermission", ErrorKind::Denied),
        (BUCKET, 400, "InvalidArgument", ErrorKind::Retry),
        (BUCKET, 403, "NoPermission", ErrorKind::Denied),
        (Call::Commit, 400, "InvalidArgument", ErrorKind::Retry),
        (Call::Commit, 403, "NoPermission", ErrorKind::Denied),
    ] {
        let name = format!("{call}: {status} {code}");
        test.row(&name, "fails at once; the engine replays", async |scene| {
            scene.world.fault(call, "\"nth\": 1", &coded(status, code, "before"))?;
            let error = error_of(scene.attempt().await)?;
            scene.failed(&error, kind, &[code, "a fault rule says so", "request"])?;
            scene.expect_attempts(call, &[&status.to_string()])?;
            scene.attempt().await?;
            scene.expect_fold(ROUNDS, 0).await
        });
    }
}

#[test]
fn a_refusal_for_a_reason_of_the_moment_is_repeated() {
    let mut test = Test::begin();
    for (call, status, code) in [
        (BUCKET, 400, "CorruptedDataStream"),
        (Call::Commit, 409, "DataVersionConflict"),
        (Call::Create, 409, "MetaTransactionFailed"),
    ] {
        let name = format!("{call}: {status} {code}");
        test.row(&name, "sends the same again, as often as max-retries allows", async |scene| {
            scene.world.fault(call, "\"nth\": 1", &coded(status, code, "before"))?;
            scene.attempt().await?;
            scene.expect_attempts(call, &[&status.to_string(), "200"])?;
            scene.expect_commits(2)?;
            scene.expect_fold(ROUNDS, 0).await
        });
    }
}

#[test]
fn packs_for_a_session_that_is_gone_come_again_in_a_new_one() {
    let mut test = Test::begin();
    let not_found = coded(404, "UpsertSessionNotFound", "before");
    for (name, fault, status, named) in [
        ("put: 404 UpsertSessionNotFound", not_found.as_str(), "404", "UpsertSessionNotFound"),
        ("put: session expired", "\"session-expired\"", "409", "expired"),
    ] {
        test.row(name, "fails at once; the engine replays", async |scene| {
            scene.world.fault(BUCKET, "\"nth\": 1", fault)?;
            let error = error_of(scene.attempt().await)?;
            scene.failed(&error, ErrorKind::Retry, &[named, "last completed checkpoint"])?;
            scene.expect_attempts(BUCKET, &[status])?;
            scene.attempt().await?;
            scene.expect_fold(ROUNDS, 0).await
        });
    }
}

#[test]
fn a_young_session_that_is_not_found_is_committed() {
    let mut test = Test::begin();
    let fault = coded(404, "UpsertSessionNotFound", "after");
    test.row("commit: carried out, then 404 UpsertSessionNotFound", "takes it as committed", {
        async |scene: &mut Scene| {
            scene.world.fault(Call::Commit, "\"nth\": 1", &fault)?;
            scene.attempt().await?;
            // The second checkpoint's commit follows: the first is not asked for again.
            scene.expect_attempts(Call::Commit, &["404", "200"])?;
            scene.expect_commits(2)?;
            scene.expect_fold(ROUNDS, 0).await
        }
    });
}

/// After so long, "not found" would prove nothing any more.
#[test]
fn a_commit_that_was_taken_as_done_is_not_asked_for_by_a_later_start() {
    let mut test = Test::begin();
    let fault = coded(404, "UpsertSessionNotFound", "after");
    let name = "commit: carried out, then 404; killed, started again 25 h later";
    test.row(name, "knows it from its journal", async |scene| {
        scene.world.fault(Call::Commit, "\"nth\": 1", &fault)?;
        scene.open().await?;
        for _ in 0..ROUNDS_PER_CHECKPOINT {
            scene.write().await?;
        }
        let id = scene.barrier().await?;
        scene.commit(id).await?;
        scene.expect_attempts(Call::Commit, &["404"])?;
        scene.kill().await;
        scene.world.clock.advance(25 * 3_600_000);
        let before = scene.world.wire.attempts().len();
        scene.attempt().await?;
        let attempts = scene.world.wire.attempts().into_iter().skip(before);
        let commits = attempts.filter(|one| one.call == Call::Commit).count();
        ensure!(commits == 1, "{commits} commits were sent for the one checkpoint that is new");
        scene.expect_fold(ROUNDS, 0).await
    });
}

/// It was created all the same: its id is in the journal, so that the next start aborts it.
#[test]
fn a_session_of_a_worker_that_is_not_allowed_takes_no_row_and_the_next_start_aborts_it() {
    let mut test = Test::begin();
    let name = "create: its worker is not in the allow-list";
    test.row(name, "fails before the first pack is sent; the next start aborts", async |scene| {
        scene.option("tunnel.worker-allow-list", "elsewhere.example");
        let error = error_of(scene.attempt().await)?;
        scene.failed(&error, ErrorKind::Denied, &["tunnel.worker-allow-list", "add it"])?;
        let puts = scene.world.wire.attempts();
        ensure!(puts.iter().all(|one| !matches!(one.call, Call::Put(_))), "{puts:?}");
        scene.expect_fold(0, 1).await?;
        scene.option("tunnel.worker-allow-list", "");
        scene.attempt().await?;
        scene.expect_fold(ROUNDS, 0).await
    });
}

/// Passes a barrier, and has its commit refused like this; the table must not show it.
async fn lost_session(scene: &mut Scene, fault: &str, named: &str, open: u64) -> Result<()> {
    scene.world.fault(Call::Commit, "\"nth\": 1", fault)?;
    let error = error_of(scene.commit(1).await)?;
    scene.kill().await;
    let remedy = "Restore an older checkpoint and replay";
    scene.failed(&error, ErrorKind::SessionLost, &[named, remedy])?;
    let commits = scene.world.wire.attempts().into_iter().filter(|one| one.call == Call::Commit);
    let ends: Vec<String> = commits.map(|commit| commit.end.to_string()).collect();
    ensure!(ends.len() == 1, "{ends:?}");
    scene.tell_attempts(Call::Commit, &ends);
    scene.expect_fold(0, open).await?;
    scene.restore_older();
    scene.attempt().await?;
    scene.expect_fold(ROUNDS, 0).await
}

#[test]
fn a_session_that_cannot_be_proved_committed_stops_the_sink_and_is_replayed() {
    let mut test = Test::begin();
    let does = "stops; replays from the checkpoint before";
    test.row("commit: 404, after a long silence", does, async |scene| {
        scene.option("sink.session.idle-limit", "1 min");
        scene.open().await?;
        scene.write().await?;
        scene.barrier().await?;
        scene.world.clock.advance(61_000);
        let fault = coded(404, "UpsertSessionNotFound", "before");
        lost_session(scene, &fault, "sink.session.idle-limit", 1).await
    });
    test.row("commit: session expired", does, async |scene| {
        scene.open().await?;
        scene.write().await?;
        scene.barrier().await?;
        lost_session(scene, "\"session-expired\"", "expired", 0).await
    });
}
