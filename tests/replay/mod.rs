//! A production incident becomes a test: what a sink was called with is recorded, and comes to the
//! same when it is replayed, of the component and of the native core.
//!
//! The binary records and replays; `embedded.rs` does so through the library, with disks that fail
//! and guests that do something else. Invariant: every replay is of a file that a real sink has
//! written while it ran.

mod embedded;
mod scene;

use std::fs::{self, File};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use anyhow::{Result, ensure};
use scene::{BAD_INPUT, Scene, expect_refused, replay};
use serde_json::{Value, json};
use upsert_sink::Plugin;
use upsert_sink::recording::{Recording, RecordingEnd, ReplayTelemetry, Replayed};
use upsert_sink_tests::binary::{self, Running};
use upsert_sink_tests::feed::Feed;
use upsert_sink_tests::simulation::native;

/// One recorded run of the sample feed, for all tests that only read it.
fn recorded() -> &'static Scene {
    static RECORDED: OnceLock<Scene> = OnceLock::new();
    RECORDED.get_or_init(|| {
        let scene = Scene::new("").expect("a scene");
        let report = scene.run("a").expect("the job runs");
        assert_eq!(report["events"], 80_406);
        scene
    })
}

fn sum(values: &Value) -> u64 {
    values.as_object().into_iter().flatten().filter_map(|(_, value)| value.as_u64()).sum()
}

#[test]
fn a_recorded_job_comes_to_the_same_when_it_is_replayed() -> Result<()> {
    let recording = recorded().recording()?;
    let report = replay(&recording, &[])?.report()?;
    println!("{report:#}");
    assert_eq!(report["equal"], true);
    assert_eq!(report["ended"], "closed");
    assert_eq!(report["rows"], Feed::sample().events);
    assert_eq!(report["recorded_component"], report["component"]);
    let instances = report["instances"].as_object().map(|all| all.keys().cloned().collect());
    let expected = ["committer", "coordinator", "writer 0", "writer 1", "writer 2", "writer 3"];
    assert_eq!(instances, Some(expected.map(String::from).to_vec()));
    assert_eq!(report["calls"], sum(&report["instances"]));
    assert_eq!(replay(&recording, &[])?.report()?["digest"], report["digest"]);
    Ok(())
}

fn replay_here(recording: &Path, plugin: &Plugin) -> Result<Replayed> {
    let name = recording.display().to_string();
    Ok(Recording::open(name, File::open(recording)?)?.replay(plugin, ReplayTelemetry::Compared)?)
}

#[test]
fn the_native_core_comes_to_what_the_component_came_to() -> Result<()> {
    let recording = recorded().recording()?;
    let component = replay_here(&recording, &Plugin::embedded()?)?;
    let native = replay_here(&recording, &Plugin::twin(Arc::new(native)))?;
    ensure!(native.is_equal() && native.ended == Some(RecordingEnd::Closed), "{native:#?}");
    ensure!(native == component, "{native:#?}\n{component:#?}");
    Ok(())
}

/// Every place of a file is under a checksum.
#[test]
fn a_flipped_byte_is_found_with_the_file_and_its_place() -> Result<()> {
    let bytes = fs::read(recorded().recording()?)?;
    for (name, flipped) in [
        ("magic", 0),
        ("head", 40),
        ("middle", bytes.len() / 2),
        ("third quarter", bytes.len() / 4 * 3),
        ("last", bytes.len() - 1),
    ] {
        let mut damaged = bytes.clone();
        damaged[flipped] ^= 0x10;
        let path = recorded().file(&format!("{name}.recording"), &damaged)?;
        let finished = replay(&path, &[])?;
        let file = path.display().to_string();
        if flipped == 0 {
            expect_refused(&finished, BAD_INPUT, &[&file, "no recording"])?;
            continue;
        }
        expect_refused(&finished, BAD_INPUT, &[&file, "damaged at byte "])?;
        let said = finished.stderr.split("damaged at byte ").nth(1).unwrap_or_default();
        let said: String = said.chars().take_while(char::is_ascii_digit).collect();
        let block: usize = said.parse()?;
        ensure!(block <= flipped && flipped - block < 2 << 20, "{flipped}: {}", finished.stderr);
    }
    Ok(())
}

#[test]
fn a_cut_recording_replays_to_its_last_whole_block() -> Result<()> {
    let bytes = fs::read(recorded().recording()?)?;
    let whole = replay(&recorded().recording()?, &[])?.report()?;
    let mut calls = 0;
    for cut in [bytes.len() / 3, bytes.len() / 2, bytes.len() - 1] {
        let path = recorded().file(&format!("{cut}.recording"), &bytes[..cut])?;
        let report = replay(&path, &[])?.report()?;
        assert_eq!((&report["equal"], &report["ended"]), (&json!(true), &json!("torn")));
        let (at, replayed) = (report["torn_at"].as_u64(), report["calls"].as_u64());
        ensure!(at.is_some_and(|at| at < cut as u64), "{report:#}");
        ensure!(replayed.is_some_and(|replayed| replayed > calls), "{report:#}");
        calls = replayed.unwrap_or_default();
    }
    // Only the mark of its end was cut off at last.
    assert_eq!(Some(calls), whole["calls"].as_u64());
    Ok(())
}

/// The same code with one more section, which says nothing, is another component.
#[test]
fn another_component_is_refused_unless_it_is_asked_for() -> Result<()> {
    let recording = recorded().recording()?;
    let same = recorded().dir.path().join("same.wasm").display().to_string();
    let written = binary::run(&["inspect", "--write", &same, "--report", "json"])?.report()?;
    let report = replay(&recording, &["--component", &same])?.report()?;
    assert_eq!(report["component"], written["sha256"]);
    let mut other = fs::read(&same)?;
    other.extend([0, 4, 3, b'x', b'y', b'z']);
    let other = recorded().file("other.wasm", &other)?.display().to_string();
    let refused = replay(&recording, &["--component", &other])?;
    let sha256 = written["sha256"].as_str().unwrap_or_default();
    expect_refused(&refused, BAD_INPUT, &[sha256, "--component FILE", "--any-component"])?;
    let report = replay(&recording, &["--component", &other, "--any-component"])?.report()?;
    assert_eq!(report["equal"], true);
    assert_ne!(report["component"], report["recorded_component"]);
    Ok(())
}

#[test]
fn what_is_no_recording_is_refused_in_words() -> Result<()> {
    let scene = Scene::new("")?;
    let missing = scene.dir.path().join("missing");
    expect_refused(&replay(&missing, &[])?, BAD_INPUT, &["missing", "record.dir"])?;
    for (name, bytes) in [("empty", &b""[..]), ("text", b"not at all a recording")] {
        let path = scene.file(name, bytes)?;
        expect_refused(&replay(&path, &[])?, BAD_INPUT, &[name, "this is no recording"])?;
    }
    let path = scene.file("newer", b"USRECD99 and what a later host knows")?;
    expect_refused(&replay(&path, &[])?, BAD_INPUT, &["newer", "version 99", "reads 03"])?;
    Ok(())
}

/// The recording of a killed run, and that of the run after it, which was restored.
#[test]
fn a_killed_run_replays_up_to_where_it_was_killed() -> Result<()> {
    let scene = Scene::new("")?;
    let slow = ["--checkpoint-interval", "100ms", "--rate", "40000/s"];
    let mut running = Running::start(&scene.arguments("a", &slow))?;
    let mut committed = 0;
    while committed < 3 {
        let line = running.line()?;
        let line = line.unwrap_or_else(|| panic!("it ended after {committed} checkpoints"));
        committed += u32::from(line.contains(": committed at event "));
    }
    running.kill()?;
    let killed = scene.recording()?;
    let report = replay(&killed, &[])?.report()?;
    println!("{report:#}");
    assert_eq!(report["equal"], true);
    ensure!(report["ended"] == "torn" || report["ended"] == "broken-off", "{report:#}");
    ensure!(report["rows"].as_u64().is_some_and(|rows| rows > 0), "{report:#}");
    scene.run("a")?;
    let all = scene.recordings()?;
    ensure!(all.len() == 2 && all[0] == killed, "{all:?}");
    let report = replay(&all[1], &[])?.report()?;
    assert_eq!((&report["equal"], &report["ended"]), (&json!(true), &json!("closed")));
    assert_eq!(report["start"], 2);
    Ok(())
}

/// A start that is too large alone is kept from its beginning; the starts before it are dropped.
#[test]
fn recordings_stay_within_their_bound_and_replay_from_their_beginning() -> Result<()> {
    const BOUND: u64 = 1 << 20;
    let scene = Scene::new("\"record.bytes-max\" = \"1 mb\"")?;
    for name in ["a", "b"] {
        let report = scene.run(name)?;
        assert_eq!(report["rows"], 26_483, "the job does not notice");
        let all = scene.recordings()?;
        assert_eq!(all.len(), 1, "{all:?}");
        let bytes: u64 = all.iter().flat_map(fs::metadata).map(|file| file.len()).sum();
        ensure!(bytes <= BOUND && bytes > BOUND / 2, "{bytes} bytes");
        let report = replay(&all[0], &[])?.report()?;
        println!("{bytes} bytes: {report:#}");
        assert_eq!(report["equal"], true);
        assert_eq!(report["writers_stopped"], true);
        ensure!(report["rows"].as_u64() < Some(Feed::sample().events), "{report:#}");
    }
    Ok(())
}
