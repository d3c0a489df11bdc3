//! The `writer` export: calls in, progress out.

use upsert_sink_core::io::{self, WriterInput, WriterOutput};
use upsert_sink_core::writer::Writer;
use upsert_sink_format::id::{CheckpointId, Millis};

use crate::bindings::Shell;
use crate::bindings::exports::upsert_sink::plugin::writer::{Guest, Output, Progress, Snapshot};
use crate::bindings::upsert_sink::plugin::events::Event;
use crate::bindings::upsert_sink::plugin::file_cache;
use crate::bindings::upsert_sink::plugin::types::{BarrierKind, CheckpointOutcome, Error, Task};
use crate::{input, output, role};

impl Guest for Shell {
    fn open(now: u64, task: Task, state: Vec<Vec<u8>>) -> Result<Progress, Error> {
        let cache_bytes = file_cache::quota().granted_bytes;
        let task = io::Task { cache_bytes, ..input::task(task) };
        Writer::open(Millis(now), &task, &state)
            .and_then(|writer| role::begin(role::Role::Writer(Box::new(writer))))
            .and_then(|()| role::writer(|writer| Ok(progress(writer))))
            .map_err(output::error)
    }

    exports! { call -> Progress:
        write(batch: Vec<u8>) => WriterInput::RowsArrived(&batch);
        barrier(id: u64, kind: BarrierKind) =>
            WriterInput::BarrierArrived(CheckpointId(id), same!(kind,
                BarrierKind => io::BarrierKind: Checkpoint, Savepoint));
        checkpoint_ended(id: u64, how: CheckpointOutcome) =>
            WriterInput::CheckpointEnded(CheckpointId(id), input::checkpoint_outcome(how));
        on_reply(reply: Vec<u8>) => WriterInput::Replied(&reply);
        on_event(event: Event) => happened!(event => WriterInput);
    }
}

fn call(now: u64, input: WriterInput<'_>) -> Result<Progress, Error> {
    role::writer(|writer| writer.handle_input(Millis(now), input).map(|()| progress(writer)))
        .map_err(output::error)
}

fn progress(writer: &mut Writer) -> Progress {
    let mut outputs = Vec::new();
    while let Some(next) = writer.poll_output() {
        match next {
            WriterOutput::Cache(command) => output::cache(command),
            WriterOutput::DeadLetter(lines) => outputs.push(Output::DeadLetter(lines)),
            WriterOutput::Request(request) => outputs.push(Output::Request(request)),
            WriterOutput::Restored(committables) => outputs.push(Output::Restored(committables)),
            WriterOutput::Snapshot(io::Snapshot { checkpoint, state, committables }) => {
                let checkpoint = checkpoint.0;
                outputs.push(Output::Snapshot(Snapshot { checkpoint, state, committables }));
            }
            WriterOutput::Tell(telemetry) => output::tell(telemetry),
            WriterOutput::Tunnel(command) => output::command(command),
        }
    }
    output::set_timer(writer.deadline());
    Progress { accepting: writer.accepting(), held_bytes: writer.held_bytes(), outputs }
}
