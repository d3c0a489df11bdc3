//! Places that cannot be used: directories, ports, states, components, batches.

use std::fs;
use std::net::TcpListener;

use anyhow::{Context, Result};
use upsert_sink::bare::BareWriter;
use upsert_sink::{ErrorKind, Plugin, TableDescription};
use upsert_sink_core::io::Task;
use upsert_sink_format::batch::{BatchBuilder, ColumnBuilder};
use upsert_sink_format::id::{Millis, WriterIndex};
use upsert_sink_format::tunnel::ColumnDescription;
use upsert_sink_tests::binary::{self, Running};
use upsert_sink_tests::plugin::plugin;

use crate::bad_input::scene::{Scene, assert_refused};

/// Root may write anywhere, so the directory lies under a file.
#[test]
fn a_data_directory_that_cannot_be_written_is_named() -> Result<()> {
    let scene = Scene::new()?;
    fs::write(scene.path("file"), "not a directory")?;
    let job = scene.write_job("good.json", &[])?;
    let (data, state) = (scene.text("file/data"), scene.text("state-bad"));
    let finished = binary::run(&["run", &job, "--data", &data, "--state", &state])?;
    scene.refuses(&finished, &[data.as_str()])
}

#[test]
fn a_state_directory_that_cannot_be_written_is_named() -> Result<()> {
    let scene = Scene::new()?;
    fs::write(scene.path("file"), "not a directory")?;
    let job = scene.write_job("good.json", &[])?;
    let finished = scene.run(&job, "file/state")?;
    scene.refuses(&finished, &[scene.text("file/state").as_str()])
}

/// Whatever is wrong with the directory of a file cache, no row is taken before it is told.
#[test]
fn a_cache_directory_that_cannot_be_used_is_named_with_the_remedy() -> Result<()> {
    let scene = Scene::new()?;
    fs::write(scene.path("file"), "not a directory")?;
    std::os::unix::fs::symlink(scene.path("data"), scene.path("link"))?;
    for wrong in ["file", "file/below", "link"] {
        let directory = scene.text(wrong);
        let option = format!("[sink]\n\"sink.file-cached.tmp.dirs\" = {directory:?}\n");
        let words = ["sink.file-cached.tmp.dirs", directory.as_str(), "name a directory"];
        scene.refuses_job(&[("[sink]\n", option.as_str())], &words)?;
    }
    assert_eq!(fs::read_to_string(scene.path("file"))?, "not a directory", "it is left alone");
    for (options, words) in [
        ("\"sandbox.cache-limit\" = \"0\"", ["sink.file-cached.enable", "sandbox.cache-limit"]),
        ("\"sandbox.cache-limit\" = \"lots\"", ["sandbox.cache-limit = lots", "0 to 1024 gb"]),
        ("\"sink.file-cached.writer.num\" = 0", ["sink.file-cached.writer.num", "1 to 1024"]),
        ("\"sink.file-cached.memory\" = \"1 kb\"", ["sink.file-cached.memory", "128 KiB"]),
    ] {
        let changed = format!("[sink]\n\"sink.file-cached.enable\" = true\n{options}\n");
        scene.refuses_job(&[("[sink]\n", changed.as_str())], &words)?;
    }
    Ok(())
}

/// Starts a server and waits until it says where it listens.
fn serve(data: &str) -> Result<Running> {
    let mut server = Running::start(&["serve", "--data", data, "--listen", "127.0.0.1:0"])?;
    while let Some(line) = server.answer()? {
        if line.contains("http://127.0.0.1:") {
            return Ok(server);
        }
    }
    let ended = server.finish()?;
    anyhow::bail!("the server ended: {}", ended.stderr)
}

#[test]
fn a_second_server_on_one_directory_is_refused() -> Result<()> {
    let scene = Scene::new()?;
    let data = scene.text("data");
    let first = serve(&data)?;
    let second = binary::run(&["serve", "--data", &data, "--listen", "127.0.0.1:0"])?;
    assert_refused(&second, &[data.as_str()]);
    drop(first);
    scene.refuses(&second, &[])
}

#[test]
fn a_port_in_use_is_named() -> Result<()> {
    let scene = Scene::new()?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let finished = binary::run(&["serve", "--data", &scene.text("data"), "--listen", &address])?;
    scene.refuses(&finished, &[address.as_str()])
}

/// The first job is slow, and holds its state while the second one comes.
#[test]
fn a_second_job_on_the_same_state_is_refused() -> Result<()> {
    let scene = Scene::new()?;
    let rows: String = (10..1000).map(|n| format!("{{\"id\":{n},\"day\":\"wed\"}}\n")).collect();
    fs::write(scene.path("slow.json"), rows)?;
    let job = scene.write_job("slow.json", &[])?;
    let state = scene.text("state-shared");
    let data = scene.text("other-data");
    let slow = ["run", &job, "--data", &data, "--state", &state, "--rate", "1/s"];
    let mut first = Running::start(&slow)?;
    first.line()?.context("the first job tells that it begins")?;
    let second = scene.run(&job, "state-shared")?;
    first.kill()?;
    scene.refuses(&second, &[state.as_str()])
}

#[test]
fn a_state_file_of_a_newer_version_is_refused() -> Result<()> {
    let scene = Scene::new()?;
    let mut changed = 0;
    for entry in fs::read_dir(scene.path("state-good"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "state") {
            let mut bytes = fs::read(&path)?;
            // Four letters and the kind, then the version.
            bytes[5] = 99;
            fs::write(&path, bytes)?;
            changed += 1;
        }
    }
    assert!(changed > 0, "a finished job leaves state files");
    let job = scene.write_job("good.json", &[])?;
    scene.refuses(&scene.run(&job, "state-good")?, &["version 99", "newer"])
}

#[test]
fn a_file_that_changed_under_its_state_is_refused() -> Result<()> {
    let scene = Scene::new()?;
    let text = fs::read_to_string(scene.path("good.json"))?.replace("one", "uno");
    fs::write(scene.path("good.json"), text)?;
    let job = scene.write_job("good.json", &[])?;
    scene.refuses(&scene.run(&job, "state-good")?, &["good.json", "changed"])
}

/// The smallest component that imports an instance of this name: preamble, one type, one import.
fn importing(name: &str) -> Vec<u8> {
    let length = u8::try_from(name.len()).expect("a short name");
    let mut component = b"\0asm\x0d\0\x01\0\x07\x03\x01\x42\x00".to_vec();
    component.extend([0x0a, length + 5, 1, 0, length]);
    component.extend(name.as_bytes());
    component.extend([5, 0]);
    component
}

#[test]
fn a_component_that_imports_more_than_it_may_is_refused_by_the_import() {
    let loaded = Plugin::load(&importing("wasi:sockets/tcp@0.2.0"));
    let error = loaded.err().expect("it is refused");
    assert_eq!(error.kind, ErrorKind::Denied);
    assert!(error.to_string().contains("wasi:sockets/tcp@0.2.0"), "{error}");
}

#[test]
fn bytes_that_are_no_component_are_refused() {
    let error = Plugin::load(b"no component").err().expect("it is refused");
    assert_eq!(error.kind, ErrorKind::Corrupt);
}

fn task() -> Task {
    let id = ColumnDescription { name: "id".into(), column_type: "bigint".into(), nullable: false };
    let table = TableDescription {
        name: "t".into(),
        columns: vec![id],
        partition_columns: Vec::new(),
        primary_key: vec!["id".into()],
        buckets: 1,
    };
    Task {
        identity: "sink".into(),
        start: 1,
        nonce: 1,
        parallelism: 1,
        index: WriterIndex(0),
        options: Vec::new(),
        columns: vec![("id".into(), "BIGINT".into())],
        table,
        local: true,
        checkpoint_interval: Millis(0),
        before_images: false,
        cache_bytes: 0,
    }
}

/// Whatever byte of its header is wrong or missing, the whole batch is refused, without a trap.
#[test]
fn a_corrupt_batch_is_refused_and_the_sandbox_holds() -> Result<()> {
    let plugin = plugin();
    let good = BatchBuilder::new(2).column(ColumnBuilder::int64([Some(1), Some(2)])).build();
    assert!(BareWriter::open(&plugin, &task())?.write(1, &good)?);
    let mut damaged: Vec<Vec<u8>> = (0..good.len()).map(|end| good[..end].to_vec()).collect();
    damaged.extend((0..32).map(|at| {
        let mut batch = good.clone();
        batch[at] ^= 0x80;
        batch
    }));
    for batch in damaged {
        let refused = BareWriter::open(&plugin, &task())?.write(1, &batch);
        let error = refused.err().context("a damaged batch was taken")?;
        assert_eq!(error.kind, ErrorKind::Corrupt, "{error}");
        assert!(!error.to_string().contains("trap"), "{error}");
    }
    Ok(())
}
