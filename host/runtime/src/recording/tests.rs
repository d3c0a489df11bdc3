//! The promises of recordings that need no guest. Invariant: each test has a directory of its own.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use upsert_sink_core::io::{
    BarrierKind, CheckpointOutcome, CommitterInput, Completion, CoordinatorInput, Task, WriterInput,
};
use upsert_sink_format::id::{CheckpointId, Millis, SessionId, Ticket, WriterIndex};
use upsert_sink_format::tunnel::{
    Answer, ColumnDescription, Outcome, Refusal, RefusalKind, SessionInfo, SessionStatus,
    TableDescription,
};

use super::*;
use crate::capability::outputs::CallOutputs;
use crate::components::{AppendFile, BoxFuture, Components, Disk, SystemDisk};
use crate::plugin::Plugin;
use crate::recording::entry::{MAGIC, RecordedEntry};
use crate::recording::input::Input;
use crate::recording::read::FileEnd;
use crate::settings::Settings;

fn text(text: &str) -> String {
    String::from(text)
}

fn task() -> Task {
    let column = |name: &str| ColumnDescription {
        name: text(name),
        column_type: text("bigint"),
        nullable: name == "v",
    };
    Task {
        identity: text("abc"),
        start: 3,
        nonce: 4,
        parallelism: 2,
        index: WriterIndex(1),
        options: vec![(text("sink.parallelism"), text("2"))],
        columns: vec![(text("id"), text("BIGINT"))],
        table: TableDescription {
            name: text("p.t"),
            columns: vec![column("id"), column("v")],
            partition_columns: vec![column("day")],
            primary_key: vec![text("id")],
            buckets: 16,
        },
        local: true,
        checkpoint_interval: Millis(1000),
        before_images: false,
        cache_bytes: 0,
    }
}

fn completions() -> Vec<Completion> {
    let session = SessionInfo {
        id: SessionId(text("s")),
        status: SessionStatus::Committing,
        buckets: 4,
        hasher: text("default"),
        hash_key: vec![text("id")],
        columns: Vec::new(),
        column_ids: vec![0, -1],
        partial_update: true,
    };
    let refusal = Refusal {
        kind: RefusalKind::SlowDown,
        code: text("SlotExceeded"),
        message: text("later"),
        request_id: text("r"),
        retry_after: Millis(7),
    };
    let outcomes = [
        Outcome::Done(Answer::Bytes(vec![8, 7])),
        Outcome::Done(Answer::None),
        Outcome::Done(Answer::Session(session)),
        Outcome::InDoubt(text("cut")),
        Outcome::Refused(Refusal { kind: RefusalKind::Full, ..refusal.clone() }),
        Outcome::Refused(refusal),
    ];
    outcomes.map(|outcome| Completion { ticket: Ticket(9), outcome }).to_vec()
}

fn inputs() -> Vec<Input<'static>> {
    let journal = [vec![9; 3], Vec::new()];
    let id = CheckpointId(5);
    let mut inputs = vec![
        Input::WriterOpened(task(), vec![vec![1, 2], Vec::new()]),
        Input::CoordinatorOpened(task(), journal.to_vec()),
        Input::CommitterOpened(task(), journal.to_vec()),
        Input::Writer(WriterInput::BarrierArrived(id, BarrierKind::Savepoint)),
        Input::Writer(WriterInput::CheckpointEnded(id, CheckpointOutcome::Aborted)),
        Input::Writer(WriterInput::Replied(b"reply")),
        Input::Writer(WriterInput::RowsArrived(b"USRB\x01\0\x01\0\x07\0\0\0")),
        Input::Writer(WriterInput::TimerFired),
        Input::Coordinator(CoordinatorInput::KnownCommits(b"known")),
        Input::Coordinator(CoordinatorInput::Requested(8, b"asks")),
        Input::Coordinator(CoordinatorInput::TimerFired),
        Input::Committer(CommitterInput::CheckpointEnded(id, CheckpointOutcome::Completed)),
        Input::Committer(CommitterInput::Prepared(id, vec![vec![3]])),
        Input::Committer(CommitterInput::TimerFired),
    ];
    for completion in completions() {
        inputs.push(Input::Writer(WriterInput::Completed(completion.clone())));
        inputs.push(Input::Coordinator(CoordinatorInput::Completed(completion.clone())));
        inputs.push(Input::Committer(CommitterInput::Completed(completion)));
    }
    inputs
}

#[test]
fn every_input_is_read_as_it_was_written_and_none_that_is_cut() {
    for input in inputs() {
        let bytes = input.encode();
        let read = Input::decode(&bytes).expect("it was just written");
        assert_eq!(format!("{read:?}"), format!("{input:?}"));
        assert_eq!(read.to_string(), input.to_string());
        assert!((0..bytes.len()).all(|cut| Input::decode(&bytes[..cut]).is_err()), "{input}");
        let longer = [bytes.as_slice(), &[0]].concat();
        assert!(Input::decode(&longer).is_err(), "{input}");
    }
    assert_eq!(inputs().iter().map(Input::rows).sum::<u64>(), 7);
}

fn settings(directory: &Path, bytes_max: u64) -> Settings {
    let settings = Settings::local("http://127.0.0.1:1/api", "t", directory.join("journal"))
        .expect("valid settings");
    let record_dir = Some(directory.to_path_buf());
    Settings { record_dir, record_bytes_max: bytes_max, ..settings }
}

async fn recorder(settings: &Settings, components: &Components, start: u64) -> Recorder {
    let plugin = Plugin::twin(Arc::new(|| unreachable!("no instance is made")));
    let task = Task { start, ..task() };
    let head =
        Head::of(plugin.inspect().sha256, &settings.limits, &task, 1_700_000_000_000 + start);
    Recorder::start(settings, components, head).await
}

/// Bytes that no compression makes smaller.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(10_000).collect()
}

/// Calls of a writer with a batch, and of the committer with nothing, in turn.
async fn record(recorder: &Recorder, calls: u64) {
    let mut writer = recorder.of(RoleName::Writer(0)).expect("it records");
    let mut committer = recorder.of(RoleName::Committer).expect("it records");
    for call in 0..calls {
        recorder.room().await;
        writer.begin(call, &Input::Writer(WriterInput::RowsArrived(&noise(call))));
        writer.end(CallOutputs::default());
        committer.begin(call, &Input::Committer(CommitterInput::TimerFired));
        committer.end(CallOutputs::default());
        recorder.flush().await;
    }
    recorder.finish().await;
}

fn files(directory: &Path) -> Vec<(PathBuf, u64)> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let recordings = paths.filter(|path| path.extension().is_some_and(|e| e == "recording"));
    let sized = recordings.map(|path| {
        let bytes = std::fs::metadata(&path).expect("it is there").len();
        (path, bytes)
    });
    let mut sized: Vec<_> = sized.collect();
    sized.sort();
    sized
}

/// How many calls of writers and of the others a file holds, and its other entries.
fn contents(path: &Path) -> (u64, u64, Vec<String>) {
    let file = std::fs::File::open(path).expect("it is there");
    let mut recording = Recording::open("it", file).expect("a recording");
    let (mut writers, mut others, mut marks) = (0, 0, Vec::new());
    while let Ok(block) = recording.block().expect("whole") {
        let mut rest = block.as_slice();
        while !rest.is_empty() {
            match recording.entry(&mut rest).expect("an entry") {
                RecordedEntry::Called(call) if call.role.is_writer() => writers += 1,
                RecordedEntry::Called(_) => others += 1,
                mark => marks.push(format!("{mark:?}")),
            }
        }
    }
    (writers, others, marks)
}

#[tokio::test]
async fn what_is_recorded_is_there_in_order_and_closed() {
    let directory = tempfile::tempdir().expect("a directory");
    let components = Components::system();
    let recorder = recorder(&settings(directory.path(), 1 << 20), &components, 1).await;
    record(&recorder, 10).await;
    let files = files(directory.path());
    assert_eq!(contents(&files[0].0), (10, 10, vec![text("Closed")]));
}

#[tokio::test]
async fn the_oldest_start_is_dropped_whole_and_the_bound_holds() {
    let directory = tempfile::tempdir().expect("a directory");
    let settings = settings(directory.path(), 400_000);
    for start in 1..=6 {
        let recorder = recorder(&settings, &Components::system(), start).await;
        record(&recorder, 12).await;
        let files = files(directory.path());
        assert!(files.iter().map(|(_, bytes)| bytes).sum::<u64>() <= 400_000, "{files:?}");
        let whole = (12, 12, vec![text("Closed")]);
        assert!(files.iter().all(|(path, _)| contents(path) == whole), "{files:?}");
        let newest = format!("start-{start}.recording");
        let kept = files.last().is_some_and(|(path, _)| path.to_string_lossy().contains(&newest));
        assert!(kept && files.len() == usize::min(start as usize, 3), "{files:?}");
    }
}

#[tokio::test]
async fn a_start_that_is_too_large_keeps_its_beginning_and_its_control_plane() {
    let directory = tempfile::tempdir().expect("a directory");
    let bound = 200_000;
    let settings = settings(directory.path(), bound);
    record(&recorder(&settings, &Components::system(), 1).await, 60).await;
    let first = files(directory.path());
    assert!(first[0].1 <= bound, "{first:?}");
    let (writers, others, marks) = contents(&first[0].0);
    assert!((15..20).contains(&writers), "{writers} calls of a writer");
    assert_eq!((others, marks), (60, vec![text("WritersStopped"), text("Closed")]));
    // And when not even that fits, it says so.
    let recorder = recorder(&settings, &Components::system(), 2).await;
    let mut committer = recorder.of(RoleName::Committer).expect("it records");
    let mut call = 0;
    while committer.is_on() {
        let held = CommitterInput::Prepared(CheckpointId(1), vec![noise(call)]);
        committer.begin(call, &Input::Committer(held));
        committer.end(CallOutputs::default());
        recorder.flush().await;
        call += 1;
    }
    recorder.finish().await;
    let files = files(directory.path());
    let (_, others, marks) = contents(&files[0].0);
    assert!(files.len() == 1 && files[0].1 <= bound && others > 10, "{files:?}, {others}");
    assert_eq!(marks.last(), Some(&text("Stopped")));
}

#[tokio::test]
async fn damage_is_told_from_a_cut_at_every_byte() {
    let directory = tempfile::tempdir().expect("a directory");
    let recorder = recorder(&settings(directory.path(), 1 << 20), &Components::system(), 1).await;
    let mut committer = recorder.of(RoleName::Committer).expect("it records");
    for input in inputs() {
        committer.begin(1, &input);
        committer.end(CallOutputs::default());
        recorder.flush().await;
    }
    recorder.finish().await;
    let whole = std::fs::read(&files(directory.path())[0].0).expect("it is there");
    let read = |bytes: &[u8]| -> crate::error::Result<FileEnd> {
        let mut recording = Recording::open("it", bytes)?;
        loop {
            if let Err(end) = recording.block()? {
                return Ok(end);
            }
        }
    };
    assert_eq!(read(&whole), Ok(FileEnd::Whole));
    for index in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[index] ^= 0x10;
        let error = read(&damaged).expect_err("a flipped byte is found");
        assert!(error.at == "it", "byte {index}: {error}");
        match read(&whole[..index]) {
            Ok(FileEnd::Torn(at)) => assert!(at < index as u64),
            Ok(FileEnd::Whole) => {}
            Err(error) => assert!(index < 500, "only a head cannot be cut: {index}, {error}"),
        }
    }
    let reserved = [whole.as_slice(), &[0; 4096]].concat();
    assert_eq!(read(&reserved), Ok(FileEnd::Torn(whole.len() as u64)));
}

/// A disk that never ends a write of a recording.
struct Stuck;

struct StuckFile;

impl Disk for Stuck {
    fn read(&self, path: &Path) -> BoxFuture<'_, io::Result<Option<Vec<u8>>>> {
        SystemDisk.read(path)
    }

    fn replace(&self, path: &Path, bytes: Vec<u8>) -> BoxFuture<'_, io::Result<()>> {
        SystemDisk.replace(path, bytes)
    }

    fn append(&self, _: &Path, _: Option<u64>) -> BoxFuture<'_, io::Result<Box<dyn AppendFile>>> {
        Box::pin(async { Ok(Box::new(StuckFile) as Box<dyn AppendFile>) })
    }

    fn lock(&self, path: &Path) -> BoxFuture<'_, io::Result<Option<Box<dyn Send + Sync>>>> {
        SystemDisk.lock(path)
    }

    fn list(&self, _: &Path) -> BoxFuture<'_, io::Result<Vec<(String, u64)>>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}

impl AppendFile for StuckFile {
    fn append(&mut self, bytes: Vec<u8>) -> BoxFuture<'_, io::Result<()>> {
        match bytes.starts_with(MAGIC) {
            true => Box::pin(async { Ok(()) }),
            false => Box::pin(std::future::pending()),
        }
    }
}

/// In virtual time: the sink waits once, and then never again.
#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_ends_the_recording_and_not_the_sink() {
    let directory = tempfile::tempdir().expect("a directory");
    let components = Components { disk: Arc::new(Stuck), ..Components::system() };
    let recorder = recorder(&settings(directory.path(), 1 << 30), &components, 1).await;
    let mut writer = recorder.of(RoleName::Writer(0)).expect("it records");
    let batch = vec![0; 1 << 20];
    let mut calls = 0;
    while writer.is_on() {
        recorder.room().await;
        writer.begin(calls, &Input::Writer(WriterInput::RowsArrived(&batch)));
        writer.end(CallOutputs::default());
        calls += 1;
    }
    assert!((32..40).contains(&calls), "{calls} calls of 1 MiB were held");
    let before_ms = components.clock.now_ms();
    recorder.room().await;
    recorder.flush().await;
    recorder.finish().await;
    assert_eq!(components.clock.now_ms(), before_ms);
}
