//! Coordinator, committer, route, describe: one of each for a sink. Invariant: one call, one input.

use upsert_sink_core::io::{CommitterInput, CommitterOutput, CoordinatorInput, CoordinatorOutput};
use upsert_sink_core::{bucket::Router, committer::Committer, config};
use upsert_sink_core::{coordinator::Coordinator, open::Opened};
use upsert_sink_format::id::{CheckpointId, Millis};
use upsert_sink_format::option::OptionDoc;

use crate::bindings::exports::upsert_sink::plugin::coordinator::{Message, Reply};
use crate::bindings::exports::upsert_sink::plugin::{committer, coordinator, describe, route};
use crate::bindings::upsert_sink::plugin::events::Event;
use crate::bindings::upsert_sink::plugin::types::{CheckpointOutcome, Error, Task};
use crate::role::{self, Role};
use crate::{bindings::Shell, input, output};

impl coordinator::Guest for Shell {
    fn open(now: u64, task: Task, held: Vec<Vec<u8>>) -> Result<coordinator::Progress, Error> {
        let task = input::task(task);
        Opened::of(&task)
            .and_then(|opened| Coordinator::open(Millis(now), &task, &opened.config, &held))
            .and_then(|coordinator| role::begin(Role::Coordinator(Box::new(coordinator))))
            .and_then(|()| role::coordinator(|coordinator| Ok(coordinated(coordinator))))
            .map_err(output::error)
    }

    exports! { coordinate -> coordinator::Progress:
        on_message(message: Message) => match &message {
            Message::Known(known) => CoordinatorInput::KnownCommits(known),
            Message::Request(asked) => CoordinatorInput::Requested(asked.number, &asked.body),
        };
        on_event(event: Event) => happened!(event => CoordinatorInput);
    }
}

fn coordinate(now: u64, input: CoordinatorInput<'_>) -> Result<coordinator::Progress, Error> {
    role::coordinator(|role| role.handle_input(Millis(now), input).map(|()| coordinated(role)))
        .map_err(output::error)
}

fn coordinated(coordinator: &mut Coordinator) -> coordinator::Progress {
    let mut replies = Vec::new();
    while let Some(next) = coordinator.poll_output() {
        match next {
            CoordinatorOutput::Journal(append) => output::append(append),
            CoordinatorOutput::Reply(request, body) => replies.push(Reply { request, body }),
            CoordinatorOutput::Tell(telemetry) => output::tell(telemetry),
            CoordinatorOutput::Tunnel(command) => output::command(command),
        }
    }
    output::set_timer(coordinator.deadline());
    coordinator::Progress { serving: coordinator.serving(), replies }
}

impl committer::Guest for Shell {
    fn open(_: u64, task: Task, held: Vec<Vec<u8>>) -> Result<committer::Progress, Error> {
        let task = input::task(task);
        Opened::of(&task)
            .and_then(|opened| Committer::open(&task, &opened.config, &held))
            .and_then(|committer| role::begin(Role::Committer(Box::new(committer))))
            .and_then(|()| role::committer(|committer| Ok(committed(committer))))
            .map_err(output::error)
    }

    exports! { commit -> committer::Progress:
        prepared(id: u64, held: Vec<Vec<u8>>) => CommitterInput::Prepared(CheckpointId(id), held);
        checkpoint_ended(id: u64, how: CheckpointOutcome) =>
            CommitterInput::CheckpointEnded(CheckpointId(id), input::checkpoint_outcome(how));
        on_event(event: Event) => happened!(event => CommitterInput);
    }
}

fn commit(now: u64, input: CommitterInput) -> Result<committer::Progress, Error> {
    role::committer(|role| role.handle_input(Millis(now), input).map(|()| committed(role)))
        .map_err(output::error)
}

fn committed(committer: &mut Committer) -> committer::Progress {
    let mut known = Vec::new();
    while let Some(next) = committer.poll_output() {
        match next {
            CommitterOutput::Journal(append) => output::append(append),
            CommitterOutput::Known(bytes) => known.push(bytes),
            CommitterOutput::Tell(telemetry) => output::tell(telemetry),
            CommitterOutput::Tunnel(command) => output::command(command),
        }
    }
    output::set_timer(committer.deadline());
    let pending = u32::try_from(committer.pending()).unwrap_or(u32::MAX);
    committer::Progress { pending, committed: committer.committed().0, known }
}

impl route::Guest for Shell {
    fn open(task: Task) -> Result<(), Error> {
        Router::open(&input::task(task))
            .and_then(|router| role::begin(Role::Router(Box::new(router))))
            .map_err(output::error)
    }

    fn keys(batch: Vec<u8>) -> Result<Vec<u32>, Error> {
        role::router(|router| router.keys(&batch)).map_err(output::error)
    }
}

impl describe::Guest for Shell {
    fn options() -> Vec<describe::OptionDoc> {
        let doc = |option| {
            let OptionDoc { name, value_type, default_value, bounds, doc } = option;
            describe::OptionDoc { name, value_type, default_value, bounds, doc }
        };
        config::describe().into_iter().map(doc).collect()
    }
}
