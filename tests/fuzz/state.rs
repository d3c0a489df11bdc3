//! Everything that survives a failure: the guest's states, messages and records of the journal, and
//! an engine's checkpoint.
//!
//! The first byte of an input picks the reader; if the second is odd, the rest gets its right
//! checksum, so that changes reach the fields behind it. Promises: what is read is read alike when
//! it is written again, a writer's snapshot is a fixed point of restore and barrier, and a refusal
//! says that something is damaged, newer, or of another sink.

use anyhow::{Context, Result, ensure};
use upsert_sink::Checkpoint;
use upsert_sink_core::exchange::{Known, Reply, Request};
use upsert_sink_core::io::{BarrierKind, Task, WriterInput, WriterOutput};
use upsert_sink_core::journal::SessionRecord;
use upsert_sink_core::session::Committable;
use upsert_sink_core::writer::Writer;
use upsert_sink_format::error::{Error, ErrorKind};
use upsert_sink_format::id::{CheckpointId, Millis, WriterIndex};
use upsert_sink_format::sealed::{Kind, Sealer};
use upsert_sink_format::tunnel::{ColumnDescription, TableDescription};
use upsert_sink_tests::fuzz::shape;

use crate::Memory;

/// Lists of small items double as they grow, and a text is copied once; a writer has buffers.
const MEMORY: Memory = Memory { fixed: 1 << 20, per_byte: 100 };
const IDENTITY: &str = "sink";

pub(crate) fn body(input: &[u8]) -> Result<String> {
    let [which, sealed, rest @ ..] = input else { return Ok(String::from("nothing")) };
    let mut bytes = rest.to_vec();
    if sealed % 2 == 1 {
        bytes.extend(crc32c::crc32c(rest).to_le_bytes());
    }
    let bytes = bytes.as_slice();
    match which % 8 {
        0 => round_trip(input, bytes, Request::from_bytes, Request::to_bytes),
        1 => round_trip(input, bytes, Reply::from_bytes, Reply::to_bytes),
        2 => round_trip(input, bytes, Known::from_bytes, Known::to_bytes),
        3 => round_trip(input, bytes, Committable::from_bytes, Committable::to_bytes),
        4 => round_trip(input, bytes, Checkpoint::from_bytes, Checkpoint::to_bytes),
        5 => restore(input, bytes),
        6 => restore(input, &around(bytes)),
        _ => round_trip(input, bytes, SessionRecord::from_bytes, SessionRecord::to_bytes),
    }
}

fn round_trip<T: PartialEq + std::fmt::Debug>(
    input: &[u8],
    bytes: &[u8],
    read: impl Fn(&[u8]) -> Result<T, Error>,
    write: impl Fn(&T) -> Vec<u8>,
) -> Result<String> {
    match MEMORY.bounds(input, || read(bytes))? {
        Ok(found) => {
            let again = read(&write(&found)).context("what was read is refused")?;
            ensure!(again == found, "{found:?} became {again:?}");
            Ok(String::from("read"))
        }
        Err(error) => refused(&error),
    }
}

fn refused(error: &Error) -> Result<String> {
    let named = match error.kind {
        ErrorKind::Corrupt => error.message.contains("damaged"),
        ErrorKind::InvalidConfig => ["newer", "version", "of sink", "of start"]
            .iter()
            .any(|word| error.message.contains(word)),
        _ => false,
    };
    ensure!(named && !error.at.is_empty(), "a state is refused as {error:?}");
    Ok(shape(&error.message))
}

/// A writer's state that holds one committable of these bytes.
fn around(committable: &[u8]) -> Vec<u8> {
    let write = |sealer: &mut Sealer, bytes: &&[u8]| {
        sealer.bytes(bytes);
    };
    Sealer::new(Kind::Writer).text(IDENTITY).list(&[committable], write).seal()
}

fn restore(input: &[u8], state: &[u8]) -> Result<String> {
    let states = [state.to_vec()];
    let opened = MEMORY.bounds(input, || Writer::open(Millis(1), &task(), &states))?;
    let writer = match opened {
        Ok(writer) => writer,
        Err(error) => return refused(&error),
    };
    let (state, committables) = snapshot(writer)?;
    let again = Writer::open(Millis(1), &task(), std::slice::from_ref(&state))?;
    let (state_again, committables_again) = snapshot(again)?;
    ensure!(state == state_again && committables == committables_again, "it changed by itself");
    for bytes in &committables {
        Committable::from_bytes(bytes).context("a committable of a snapshot is refused")?;
    }
    Ok(format!("restored {}", committables.len().min(3)))
}

/// The snapshot that a restored writer hands out at its first barrier.
fn snapshot(mut writer: Writer) -> Result<(Vec<u8>, Vec<Vec<u8>>)> {
    while writer.poll_output().is_some() {}
    writer.handle_input(
        Millis(2),
        WriterInput::BarrierArrived(CheckpointId(1), BarrierKind::Checkpoint),
    )?;
    let mut taken = None;
    while let Some(output) = writer.poll_output() {
        if let WriterOutput::Snapshot(snapshot) = output {
            taken = Some((snapshot.state, snapshot.committables));
        }
    }
    taken.context("a writer without rows passes a barrier at once")
}

fn task() -> Task {
    let column = ColumnDescription {
        name: String::from("id"),
        column_type: String::from("bigint"),
        nullable: false,
    };
    let table = TableDescription {
        name: String::from("p.t"),
        columns: vec![column],
        partition_columns: Vec::new(),
        primary_key: vec![String::from("id")],
        buckets: 4,
    };
    Task {
        identity: String::from(IDENTITY),
        // Above the starts of any committable that could be of this sink.
        start: 1 << 62,
        nonce: 1,
        parallelism: 1,
        index: WriterIndex(0),
        options: Vec::new(),
        columns: vec![(String::from("id"), String::from("BIGINT"))],
        table,
        local: true,
        checkpoint_interval: Millis(0),
        before_images: false,
        cache_bytes: 0,
    }
}
