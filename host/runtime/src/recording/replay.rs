//! The replay of a recording: the same calls again, offline, and whether they come to the same.
//!
//! After `read.rs`, above `instance.rs`. Invariant: instances are given what the recorded ones were
//! given, through the same sandbox and capabilities; nothing they ask for is carried out.

use std::collections::BTreeMap;
use std::io::Read;

use sha2::{Digest, Sha256};
use upsert_sink_core::io::{CommitterInput, Completion, CoordinatorInput, WriterInput};

use crate::capability::outputs::KeptOutputs;
use crate::error::{Error, Result};
use crate::instance::Instance;
use crate::plugin::Plugin;
use crate::recording::entry::{Call, RecordedEntry, RoleName};
use crate::recording::input::Input;
use crate::recording::read::{FileEnd, Recording};

/// Whether log lines and counters must be the same too. Another version of a guest may tell other
/// things and still do the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayTelemetry {
    /// They must.
    Compared,
    /// They may differ.
    Ignored,
}

/// The result of a replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// Calls that were compared, all instances together.
    pub calls: u64,
    /// Calls of each instance, by its name.
    pub instances: BTreeMap<String, u64>,
    /// Rows that writers were given.
    pub rows: u64,
    /// Over what all these calls came to, in their order: the same for the same recording and the
    /// same guest.
    pub digest: String,
    /// The first call that came to something else; nothing after it was compared.
    pub difference: Option<Difference>,
    /// How the recording ends; none if a difference was found before.
    pub ended: Option<RecordingEnd>,
    /// Whether writers are recorded up to a point only, for want of room.
    pub writers_stopped: bool,
}

/// A call that came to something else than it had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The instance, such as `writer 3`.
    pub instance: String,
    /// Its call of this number, from one, which is its opening.
    pub call: u64,
    /// The time that it was told.
    pub now_ms: u64,
    /// Its argument, in words.
    pub input: String,
    /// The first thing that differs, as it was recorded.
    pub expected: String,
    /// And as it is now.
    pub got: String,
}

/// How a recording ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordingEnd {
    /// The sink was closed, or had failed and was gone.
    Closed,
    /// There was no more room in `record.bytes-max`.
    Full,
    /// It breaks off between two writes: the sink was killed, or still runs.
    BrokenOff,
    /// It breaks off within a write, which begins at this byte.
    Torn(u64),
}

impl Replayed {
    /// Whether every call came to the same.
    pub fn is_equal(&self) -> bool {
        self.difference.is_none()
    }
}

impl<R: Read> Recording<R> {
    /// Calls instances of `plugin` as the recorded ones were called, up to the end or to the first
    /// difference. Whether it is the component of the recording is for the caller to look at.
    ///
    /// # Errors
    /// `Corrupt` naming the byte, where the file is damaged.
    pub fn replay(mut self, plugin: &Plugin, telemetry: ReplayTelemetry) -> Result<Replayed> {
        let mut stage = Stage::new(plugin, telemetry);
        loop {
            let block = match self.block().map_err(|error| stage.so_far(error))? {
                Ok(block) => block,
                Err(end) => {
                    let ended = match end {
                        FileEnd::Whole => RecordingEnd::BrokenOff,
                        FileEnd::Torn(at) => RecordingEnd::Torn(at),
                    };
                    return Ok(stage.end(Some(ended)));
                }
            };
            let mut rest = block.as_slice();
            while !rest.is_empty() {
                match self.entry(&mut rest)? {
                    RecordedEntry::Called(call) => {
                        if stage.play(&self, &call)? {
                            return Ok(stage.end(None));
                        }
                    }
                    RecordedEntry::WritersStopped => stage.replayed.writers_stopped = true,
                    RecordedEntry::Closed => return Ok(stage.end(Some(RecordingEnd::Closed))),
                    RecordedEntry::Stopped => return Ok(stage.end(Some(RecordingEnd::Full))),
                }
            }
        }
    }
}

/// The instances of a replay.
struct Stage<'a> {
    plugin: &'a Plugin,
    telemetry: ReplayTelemetry,
    actors: BTreeMap<RoleName, Actor>,
    digest: Sha256,
    replayed: Replayed,
}

/// One instance, and the attempts that it has asked for.
struct Actor {
    instance: Instance,
    attempts: BTreeMap<u64, u64>,
    calls: u64,
}

impl<'a> Stage<'a> {
    fn new(plugin: &'a Plugin, telemetry: ReplayTelemetry) -> Self {
        let replayed = Replayed {
            calls: 0,
            instances: BTreeMap::new(),
            rows: 0,
            digest: String::new(),
            difference: None,
            ended: None,
            writers_stopped: false,
        };
        Self { plugin, telemetry, actors: BTreeMap::new(), digest: Sha256::new(), replayed }
    }

    /// Makes one call; tells whether it came to something else.
    fn play<R: Read>(&mut self, recording: &Recording<R>, call: &Call<'_>) -> Result<bool> {
        let input = Input::decode(call.input).map_err(|what| recording.damaged(what))?;
        let wrong = |what: String| recording.damaged(&what);
        let (role, number) = (call.role, call.number);
        if number == 1 {
            let limits = recording.head().sandbox.limits();
            let actor = Actor::new(self.plugin, role, limits)?;
            if self.actors.insert(role, actor).is_some() {
                return Err(wrong(format!("{role} is opened twice")));
            }
        }
        let actor = self.actors.get_mut(&role);
        let actor = actor.ok_or_else(|| wrong(format!("{role} is called before it is opened")))?;
        actor.calls += 1;
        if actor.calls != number {
            let calls = actor.calls;
            return Err(wrong(format!("call {calls} of {role} is missing, {number} follows")));
        }
        let argument = input.to_string();
        let rows = input.rows();
        let outputs = actor.call(call.now_ms, input);
        self.replayed.calls += 1;
        self.replayed.rows += rows;
        *self.replayed.instances.entry(role.to_string()).or_default() += 1;
        self.digest.update(outputs.effects.digest);
        let Some((expected, got)) = self.difference(&call.outputs, &outputs) else {
            return Ok(false);
        };
        let (instance, now_ms) = (role.to_string(), call.now_ms);
        let difference =
            Difference { instance, call: number, now_ms, input: argument, expected, got };
        self.replayed.difference = Some(difference);
        Ok(true)
    }

    fn difference(
        &self,
        recorded: &KeptOutputs,
        outputs: &KeptOutputs,
    ) -> Option<(String, String)> {
        let effects = recorded.effects.first_difference(&outputs.effects);
        effects.or_else(|| match self.telemetry {
            ReplayTelemetry::Compared => recorded.telemetry.first_difference(&outputs.telemetry),
            ReplayTelemetry::Ignored => None,
        })
    }

    fn end(self, ended: Option<RecordingEnd>) -> Replayed {
        let digest = self.digest.finalize();
        let digest = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Replayed { ended, digest, ..self.replayed }
    }

    /// The result before the file turned out to be damaged.
    fn so_far(&self, error: Error) -> Error {
        let message =
            format!("{}; {} calls before it are equal", error.message, self.replayed.calls);
        Error::new(error.kind, error.at, message)
    }
}

impl Actor {
    fn new(plugin: &Plugin, role: RoleName, limits: crate::sandbox::Limits) -> Result<Self> {
        let mut instance = Instance::new(plugin, role.to_string(), limits, role.grant())?;
        instance.keep_outputs();
        Ok(Self { instance, attempts: BTreeMap::new(), calls: 0 })
    }

    /// The outputs of a call; an error of the guest is one of them.
    fn call(&mut self, now_ms: u64, input: Input<'_>) -> KeptOutputs {
        if let Some(ticket) = completed(&input)
            && let Some(number) = self.attempts.remove(&ticket)
        {
            self.instance.capabilities().tickets.settle(ticket, number);
        }
        let instance = &mut self.instance;
        let _noted = match input {
            Input::WriterOpened(task, states) => {
                instance.writer_open(now_ms, &task, &states).map(drop)
            }
            Input::Writer(input) => instance.writer(now_ms, input).map(drop),
            Input::CoordinatorOpened(task, journal) => {
                instance.coordinator_open(now_ms, &task, &journal).map(drop)
            }
            Input::Coordinator(input) => instance.coordinator(now_ms, input).map(drop),
            Input::CommitterOpened(task, journal) => {
                instance.committer_open(now_ms, &task, &journal).map(drop)
            }
            Input::Committer(input) => instance.committer(now_ms, input).map(drop),
        };
        let capabilities = self.instance.capabilities();
        let due = capabilities.tickets.take_due(now_ms);
        let answered = capabilities.tickets.take_answered();
        self.attempts.extend(due.iter().map(|attempt| (attempt.ticket, attempt.number)));
        self.attempts.extend(answered.iter().map(|attempt| (attempt.ticket, attempt.number)));
        capabilities.telemetry.take_counters();
        self.instance.take_outputs().finish()
    }
}

/// The ticket whose outcome a call brings.
fn completed(input: &Input<'_>) -> Option<u64> {
    match input {
        Input::Writer(WriterInput::Completed(Completion { ticket, .. }))
        | Input::Coordinator(CoordinatorInput::Completed(Completion { ticket, .. }))
        | Input::Committer(CommitterInput::Completed(Completion { ticket, .. })) => Some(ticket.0),
        _ => None,
    }
}
