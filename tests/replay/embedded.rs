//! Recordings through the library: guests that do something else, disks that fail, and what must
//! never be in a file.
//!
//! Over the local server in this process. Invariant: the round trip through the sink is checked
//! every time, for no recording may change what the sink does.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, ensure};
use futures::FutureExt;
use futures::future::BoxFuture;
use upsert_sink::components::{AppendFile, Disk, SystemDisk};
use upsert_sink::recording::{Recording, ReplayTelemetry};
use upsert_sink::twin::{Turn, Twin};
use upsert_sink::{Components, Plugin, Settings};
use upsert_sink_core::io::{
    CommitterInput, CommitterOutput, CoordinatorInput, CoordinatorOutput, Task, WriterInput,
    WriterOutput,
};
use upsert_sink_format::error::Error;
use upsert_sink_format::id::Millis;
use upsert_sink_server::{Server, ServerSettings};
use upsert_sink_tests::live;
use upsert_sink_tests::simulation::native;

use crate::replay::scene::{BAD_INPUT, DIFFERS, expect_refused, recordings, replay};

const ACCESS_KEY: &str = "an-access-key-that-nobody-may-see";
const TOKEN: &str = "a-token-that-nobody-may-see-either";

/// Two checkpoints through a recorded sink; answers where it was recorded.
async fn round_trip(plugin: &Plugin, components: &Components, dir: &Path) -> Result<()> {
    let server = ServerSettings::new(dir.join("data"));
    let server = Server::start(server, upsert_sink_server::ServerComponents::system()).await?;
    let place = |name: &str| dir.join(name).display().to_string();
    let options = [
        ("endpoint", server.endpoint().to_string()),
        ("project", String::from("local")),
        ("tableName", String::from("t")),
        ("accessId", String::from("who")),
        ("accessKey", String::from(ACCESS_KEY)),
        ("stsToken", String::from(TOKEN)),
        ("sink.journal-dir", place("journal")),
        ("record.dir", place("recordings")),
    ];
    let options = options.map(|(name, value)| (String::from(name), value));
    let settings = Settings::from_options(options)?;
    live::round_trip(plugin, &settings, components).await?;
    server.shutdown().await?;
    Ok(())
}

#[tokio::test]
async fn rows_are_in_a_recording_and_secrets_are_not() -> Result<()> {
    let dir = tempfile::tempdir()?;
    round_trip(&Plugin::embedded()?, &Components::system(), dir.path()).await?;
    let all = recordings(&dir.path().join("recordings"))?;
    ensure!(all.len() == 1, "{all:?}");
    let bytes = fs::read(&all[0])?;
    let plain = Recording::open("it", bytes.as_slice())?.plain()?;
    let has = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|w| w == text.as_bytes());
    ensure!(has(&plain, "gone"), "a row is in it");
    for secret in [ACCESS_KEY, TOKEN] {
        ensure!(!has(&plain, secret) && !has(&bytes, secret), "`{secret}` is in it");
    }
    Ok(())
}

/// A native guest whose writer holds one byte too many, it says, at its third call.
struct Liar {
    honest: Box<dyn Twin>,
    calls: u32,
}

const LIE: u32 = 3;

impl Twin for Liar {
    fn open_writer(
        &mut self,
        now: Millis,
        task: &Task,
        states: &[Vec<u8>],
    ) -> Result<Turn<WriterOutput>, Error> {
        self.calls += 1;
        self.honest.open_writer(now, task, states)
    }

    fn writer(&mut self, now: Millis, input: WriterInput<'_>) -> Result<Turn<WriterOutput>, Error> {
        self.calls += 1;
        let turn = self.honest.writer(now, input)?;
        let held = turn.held + u64::from(self.calls == LIE);
        Ok(Turn { held, ..turn })
    }

    fn open_coordinator(
        &mut self,
        now: Millis,
        task: &Task,
        journal: &[Vec<u8>],
    ) -> Result<Turn<CoordinatorOutput>, Error> {
        self.honest.open_coordinator(now, task, journal)
    }

    fn coordinator(
        &mut self,
        now: Millis,
        input: CoordinatorInput<'_>,
    ) -> Result<Turn<CoordinatorOutput>, Error> {
        self.honest.coordinator(now, input)
    }

    fn open_committer(
        &mut self,
        task: &Task,
        journal: &[Vec<u8>],
    ) -> Result<Turn<CommitterOutput>, Error> {
        self.honest.open_committer(task, journal)
    }

    fn committer(
        &mut self,
        now: Millis,
        input: CommitterInput,
    ) -> Result<Turn<CommitterOutput>, Error> {
        self.honest.committer(now, input)
    }

    fn open_router(&mut self, task: &Task) -> Result<(), Error> {
        self.honest.open_router(task)
    }

    fn keys(&mut self, batch: &[u8]) -> Result<Vec<u32>, Error> {
        self.honest.keys(batch)
    }
}

#[tokio::test]
async fn a_call_that_came_to_something_else_is_shown() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let liar = Plugin::twin(Arc::new(|| Box::new(Liar { honest: native(), calls: 0 })));
    round_trip(&liar, &Components::system(), dir.path()).await?;
    let all = recordings(&dir.path().join("recordings"))?;
    ensure!(all.len() == 1, "{all:?}");
    expect_refused(&replay(&all[0], &[])?, BAD_INPUT, &["no component but a native one"])?;
    let finished = replay(&all[0], &["--any-component"])?;
    expect_refused(&finished, DIFFERS, &["writer 0, call 3", "expected", "got", "bytes held"])?;
    let report: serde_json::Value = serde_json::from_str(&finished.stdout)?;
    println!("{report:#}\n{}", finished.stderr);
    assert_eq!(report["equal"], false);
    let difference = &report["difference"];
    assert_eq!((&difference["instance"], &difference["call"]), (&"writer 0".into(), &3.into()));
    ensure!(difference["expected"] != difference["got"], "{difference:#}");
    // The recording is equal for the liar itself.
    let recording = Recording::open("it", File::open(&all[0])?)?;
    let replayed = recording.replay(&liar, ReplayTelemetry::Compared)?;
    ensure!(replayed.is_equal(), "{replayed:#?}");
    Ok(())
}

/// A disk on which recordings find room for so many bytes, and then none.
struct Full {
    left: Arc<AtomicUsize>,
}

struct FullFile {
    file: Box<dyn AppendFile>,
    left: Arc<AtomicUsize>,
}

impl Disk for Full {
    fn read(&self, path: &Path) -> BoxFuture<'_, io::Result<Option<Vec<u8>>>> {
        SystemDisk.read(path)
    }

    fn replace(&self, path: &Path, bytes: Vec<u8>) -> BoxFuture<'_, io::Result<()>> {
        SystemDisk.replace(path, bytes)
    }

    fn append(
        &self,
        path: &Path,
        length: Option<u64>,
    ) -> BoxFuture<'_, io::Result<Box<dyn AppendFile>>> {
        let recorded = path.extension().is_some_and(|extension| extension == "recording");
        let (opened, left) = (SystemDisk.append(path, length), Arc::clone(&self.left));
        async move {
            let file = opened.await?;
            Ok(if recorded { Box::new(FullFile { file, left }) } else { file })
        }
        .boxed()
    }

    fn lock(&self, path: &Path) -> BoxFuture<'_, io::Result<Option<Box<dyn Send + Sync>>>> {
        SystemDisk.lock(path)
    }

    fn list(&self, directory: &Path) -> BoxFuture<'_, io::Result<Vec<(String, u64)>>> {
        SystemDisk.list(directory)
    }

    fn remove(&self, path: &Path) -> BoxFuture<'_, io::Result<()>> {
        SystemDisk.remove(path)
    }
}

impl AppendFile for FullFile {
    fn append(&mut self, bytes: Vec<u8>) -> BoxFuture<'_, io::Result<()>> {
        async move {
            let left = self.left.load(Ordering::SeqCst);
            let fits = left.min(bytes.len());
            self.left.fetch_sub(fits, Ordering::SeqCst);
            self.file.append_unsynced(bytes[..fits].to_vec()).await?;
            if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }
        .boxed()
    }
}

/// Wherever the room ends, in the head or after it: the sink does not notice, and what is there
/// replays.
#[tokio::test]
async fn a_full_disk_ends_the_recording_and_not_the_sink() -> Result<()> {
    let plugin = Plugin::embedded()?;
    for room in [0, 100, 1500, 3000] {
        let dir = tempfile::tempdir()?;
        let disk = Arc::new(Full { left: Arc::new(AtomicUsize::new(room)) });
        let components = Components { disk, ..Components::system() };
        round_trip(&plugin, &components, dir.path()).await?;
        let all = recordings(&dir.path().join("recordings"))?;
        ensure!(all.len() == 1 && fs::metadata(&all[0])?.len() <= room as u64, "{room}: {all:?}");
        if room >= 1500 {
            let recording = Recording::open("it", File::open(&all[0])?)?;
            let replayed = recording.replay(&plugin, ReplayTelemetry::Compared)?;
            ensure!(replayed.is_equal(), "{replayed:#?}");
        }
    }
    Ok(())
}

/// A directory that cannot be made, and one that another sink records to.
#[tokio::test]
async fn where_nothing_can_be_recorded_the_sink_goes_on() -> Result<()> {
    let plugin = Plugin::embedded()?;
    let dir = tempfile::tempdir()?;
    fs::write(dir.path().join("recordings"), "a file in its place")?;
    round_trip(&plugin, &Components::system(), dir.path()).await?;
    let dir = tempfile::tempdir()?;
    let lock = SystemDisk.lock(&dir.path().join("recordings/record.lock")).await?;
    ensure!(lock.is_some(), "nobody else holds it");
    round_trip(&plugin, &Components::system(), dir.path()).await?;
    ensure!(recordings(&dir.path().join("recordings"))?.is_empty(), "nothing was recorded");
    Ok(())
}
