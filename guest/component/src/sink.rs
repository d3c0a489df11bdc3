//! What a sink has once: coordinator, committer, route, describe. Invariant: one call, one input.

use upsert_sink_core::id::{CheckpointId, Millis};
use upsert_sink_core::io::{CommitterInput, CommitterOutput, CoordinatorInput, CoordinatorOutput};
use upsert_sink_core::{bucket::Router, committer::Committer, config};
use upsert_sink_core::{coordinator::Coordinator, open::Opened};

use crate::bindings::exports::upsert_sink::plugin::coordinator::Reply;
use crate::bindings::exports::upsert_sink::plugin::{committer, coordinator, describe, route};
use crate::bindings::upsert_sink::plugin::tunnel::Completion;
use crate::bindings::upsert_sink::plugin::types::{CheckpointOutcome, Error, JournalSession, Task};
use crate::role::{self, Role};
use crate::{bindings::Shell, input, output};

impl coordinator::Guest for Shell {
    fn open(_: u64, task: Task, j: Vec<JournalSession>) -> Result<coordinator::Progress, Error> {
        let task = input::task(task);
        Opened::of(&task)
            .map(|opened| Coordinator::open(&task, &opened.config, input::journal(j)))
            .and_then(|coordinator| role::begin(Role::Coordinator(Box::new(coordinator))))
            .and_then(|()| role::coordinator(|coordinator| Ok(coordinated(coordinator))))
            .map_err(output::error)
    }

    exports! { coordinate -> coordinator::Progress:
        on_request(number: u64, body: Vec<u8>) => CoordinatorInput::Requested(number, &body);
        on_known(known: Vec<u8>) => CoordinatorInput::KnownCommits(&known);
        on_completion(done: Completion) => CoordinatorInput::Completed(input::completion(done));
        on_timer() => CoordinatorInput::TimerFired;
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
            CoordinatorOutput::Reply(request, body) => replies.push(Reply { request, body }),
            CoordinatorOutput::Tell(telemetry) => output::tell(telemetry),
            CoordinatorOutput::Tunnel(command) => output::command(command),
        }
    }
    output::set_timer(coordinator.deadline());
    coordinator::Progress { serving: coordinator.serving(), replies }
}

impl committer::Guest for Shell {
    fn open(_: u64, task: Task, j: Vec<JournalSession>) -> Result<committer::Progress, Error> {
        let task = input::task(task);
        Opened::of(&task)
            .map(|opened| Committer::open(&task, &opened.config, input::journal(j)))
            .and_then(|committer| role::begin(Role::Committer(Box::new(committer))))
            .and_then(|()| role::committer(|committer| Ok(committed(committer))))
            .map_err(output::error)
    }

    exports! { commit -> committer::Progress:
        prepared(id: u64, held: Vec<Vec<u8>>) => CommitterInput::Prepared(CheckpointId(id), held);
        checkpoint_ended(id: u64, how: CheckpointOutcome) =>
            CommitterInput::CheckpointEnded(CheckpointId(id), input::checkpoint_outcome(how));
        on_completion(done: Completion) => CommitterInput::Completed(input::completion(done));
        on_timer() => CommitterInput::TimerFired;
    }
}

fn commit(now: u64, input: CommitterInput) -> Result<committer::Progress, Error> {
    role::committer(|role| role.handle_input(Millis(now), input).map(|()| committed(role)))
        .map_err(output::error)
}

fn committed(committer: &mut Committer) -> committer::Progress {
    let (mut committed_sessions, mut known) = (Vec::new(), Vec::new());
    while let Some(next) = committer.poll_output() {
        match next {
            CommitterOutput::Committed(session) => committed_sessions.push(session.0),
            CommitterOutput::Known(bytes) => known.push(bytes),
            CommitterOutput::Tell(telemetry) => output::tell(telemetry),
            CommitterOutput::Tunnel(command) => output::command(command),
        }
    }
    output::set_timer(committer.deadline());
    let pending = u32::try_from(committer.pending()).unwrap_or(u32::MAX);
    committer::Progress { pending, committed: committer.committed().0, committed_sessions, known }
}

impl route::Guest for Shell {
    fn open(task: Task) -> Result<(), Error> {
        Router::open(&input::task(task))
            .and_then(|router| role::begin(Role::Router(Box::new(router))))
            .map_err(output::error)
    }

    fn route(batch: Vec<u8>) -> Result<Vec<u32>, Error> {
        role::router(|router| router.route(&batch)).map_err(output::error)
    }
}

impl describe::Guest for Shell {
    fn options() -> Vec<describe::OptionDoc> {
        let doc = |option: config::OptionDoc| describe::OptionDoc {
            name: option.name.into(),
            value_type: option.value_type.into(),
            default_value: option.default.into(),
            bounds: option.bounds.into(),
            doc: option.doc.into(),
        };
        config::describe().into_iter().map(doc).collect()
    }
}
