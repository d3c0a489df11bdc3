//! Rows in which the server dies at the log record of a commit, in this process and as a process of
//! its own, and starts again.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use upsert_sink::{Catalog, Components, Settings, Sink};
use upsert_sink_tests::binary::Running;
use upsert_sink_tests::plugin::plugin;

use crate::faults::components::Call;
use crate::faults::report::Test;
use crate::faults::scene::{ROUNDS, Scene, batch};

const DOES: &str = "asks again when the server is back";

#[test]
fn a_commit_during_which_the_server_dies_is_done_once() {
    let mut test = Test::begin();
    for record in ["before", "after"] {
        let fault = format!("{{\"crash\": {{\"record\": \"{record}\"}}}}");
        let name = format!("commit: server dies {record} its log record");
        test.row(&name, DOES, async |scene: &mut Scene| {
            scene.world.fault(Call::Commit, "\"nth\": 1", &fault)?;
            let world = scene.world.clone();
            let (attempt, restarted) = futures::join!(scene.attempt(), world.restart_after_crash());
            attempt?;
            restarted?;
            scene.expect_attempts(Call::Commit, &["lost", "200"])?;
            // The new server found the record of the first commit, or wrote it.
            scene.expect_commits(if record == "before" { 2 } else { 1 })?;
            scene.expect_fold(ROUNDS, 0).await
        });
    }
}

/// A `serve` of its own, and where it listens.
fn serve(dir: &Path, listen: &str, faults: Option<&Path>) -> Result<(Running, String)> {
    let data = dir.join("data").display().to_string();
    let mut arguments: Vec<String> = ["serve", "--data", &data, "--listen", listen]
        .map(str::to_owned)
        .into_iter()
        .chain(["--report".to_owned(), "json".to_owned()])
        .collect();
    if let Some(faults) = faults {
        arguments.extend(["--faults".to_owned(), faults.display().to_string()]);
    }
    let mut server = Running::start(&arguments)?;
    let mut document = String::new();
    loop {
        document += &server.answer()?.context("it ended before it served")?;
        if let Ok(report) = serde_json::from_str::<serde_json::Value>(&document) {
            return Ok((server, report["endpoint"].as_str().context("an endpoint")?.to_owned()));
        }
    }
}

#[test]
fn a_server_process_that_dies_at_a_commit_is_started_again_and_has_it_once() {
    let mut test = Test::begin();
    test.row("commit: the process of `serve` ends after its log record", DOES, async |scene| {
        let dir = scene.world.dir.path().join("process");
        std::fs::create_dir(&dir)?;
        let faults = dir.join("faults.json");
        let rule = "{\"rules\": [{\"match\": {\"operation\": \"commit\"}, \
                     \"do\": {\"crash\": {\"record\": \"after\"}}}]}";
        std::fs::write(&faults, rule)?;
        let (server, endpoint) = serve(&dir, "127.0.0.1:0", Some(&faults))?;
        let settings = Settings::local(endpoint.clone(), "t", dir.join("journal"))?;
        let catalog = Catalog::new(&settings, &Components::system());
        catalog.execute(crate::faults::world::CREATE).await?;
        let (rows, kinds) = batch(0);
        let sink = Sink::builder(plugin(), settings).schema(rows.schema()).open().await?;
        sink.write(&rows, &kinds).await?;
        sink.checkpoint(1).await?;
        sink.checkpoint_completed(1).await?;
        let ended = tokio::task::spawn_blocking(move || server.finish()).await??;
        ensure!(ended.status.code() == Some(1), "{:?}: {}", ended.status, ended.stderr);
        ensure!(ended.stderr.contains("a fault rule has crashed the server"), "{}", ended.stderr);
        let address = endpoint.trim_start_matches("http://").trim_end_matches("/api");
        let (server, _) = serve(&dir, address, None)?;
        sink.committed(1).await?;
        sink.close().await?;
        let table = crate::faults::world::table_of(&dir.join("data")).await?;
        ensure!(
            table == crate::faults::scene::fold(1),
            "the table is not the fold of the only round"
        );
        server.kill()?;
        scene.attempts_told.push("commit: lost, then until it is back".to_owned());
        scene.state_told.push("exit 1; fold of all changes".to_owned());
        Ok(())
    });
}
