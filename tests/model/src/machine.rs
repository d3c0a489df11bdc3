//! The production machines, each state of them kept once under a number.
//!
//! A step of a machine is made once for each state and input, and looked up from then on: machines
//! are pure. Invariant: two machines have the same number exactly if all that can change what they
//! do is the same, which is what their `Debug` shows (its 128-bit digest stands for the text).

use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};

use upsert_sink_core::committer::Committer;
use upsert_sink_core::coordinator::Coordinator;
use upsert_sink_core::exchange::{Known, Reply, Request};
use upsert_sink_core::io::{
    CommitterInput, CommitterOutput, CoordinatorInput, CoordinatorOutput, Snapshot, WriterInput,
    WriterOutput,
};
use upsert_sink_core::open::Opened;
use upsert_sink_core::session::Committable;
use upsert_sink_core::writer::Writer;
use upsert_sink_format::error::Error;
use upsert_sink_format::id::{CheckpointId, Millis};
use upsert_sink_format::sealed::{Kind, Opener, Sealer};

use crate::message::{
    Asked, Blob, Effect, Failure, Input, Name, Opening, Role, append_effect, checkpoint,
    completion, failure, name, outcome, plain_writer_input, records, small, tunnel_effect,
};
use crate::plan::Plan;
use crate::task::{Rows, session_number, task};

/// The number of a machine in one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct MachineId(u32);

/// The result of one input.
#[derive(Debug)]
pub(crate) struct Stepped {
    pub(crate) next: MachineId,
    pub(crate) effects: Vec<Effect>,
    pub(crate) failure: Option<Failure>,
}

/// The facts that a machine reports of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub(crate) accepting: bool,
    pub(crate) committed: u8,
    pub(crate) deadline: Option<u64>,
    pub(crate) pending: usize,
    pub(crate) serving: bool,
}

#[derive(Clone, Debug)]
enum Machine {
    Committer(Committer),
    Coordinator(Coordinator),
    Writer(Box<Writer>),
}

/// All machines that were met.
#[derive(Debug)]
pub(crate) struct Machines {
    plan: Plan,
    rows: Rows,
    met: Mutex<Met>,
}

#[derive(Debug, Default)]
struct Met {
    machines: Vec<(Arc<Machine>, Facts)>,
    by_digest: HashMap<(u64, u64), MachineId>,
    opened: HashMap<(Opening, u64), Arc<Stepped>>,
    steps: HashMap<(MachineId, u64, Input), Arc<Stepped>>,
    blobs: Vec<Arc<[u8]>>,
    blob_ids: HashMap<Arc<[u8]>, Blob>,
}

impl Machines {
    pub(crate) fn new(plan: Plan) -> Self {
        Self { rows: Rows::new(&plan), plan, met: Mutex::default() }
    }

    fn met(&self) -> std::sync::MutexGuard<'_, Met> {
        self.met.lock().expect("no step panics while it holds this")
    }

    /// How many states of machines, and how many steps of them, were met.
    pub(crate) fn size(&self) -> (usize, usize) {
        let met = self.met();
        (met.machines.len(), met.steps.len())
    }

    pub(crate) fn facts(&self, id: MachineId) -> Facts {
        self.met().machines[id.0 as usize].1
    }

    /// Opens a machine, or looks up what that gave.
    pub(crate) fn open(&self, opening: &Opening, now: u64) -> Arc<Stepped> {
        let mut met = self.met();
        let at = (opening.clone(), now);
        if let Some(stepped) = met.opened.get(&at) {
            return stepped.clone();
        }
        let machine = match self.opened(opening, now, &met) {
            Ok(machine) => machine,
            Err(error) => panic!("a machine cannot be opened: {error}"),
        };
        let stepped = Arc::new(met.take(machine, Ok(())));
        met.opened.insert(at, stepped.clone());
        stepped
    }

    fn opened(&self, opening: &Opening, now: u64, met: &Met) -> Result<Machine, Error> {
        let Opening { role, start, launch, parallelism } = opening;
        let index = if let Role::Writer(index, _) = role { *index } else { 0 };
        let task = task(&self.plan, *start, *launch, *parallelism, index);
        let config = Opened::of(&task)?.config;
        Ok(match role {
            Role::Committer(journal) => {
                Machine::Committer(Committer::open(&task, &config, &records(journal, now))?)
            }
            Role::Coordinator(journal) => {
                let records = records(journal, now);
                Machine::Coordinator(Coordinator::open(Millis(now), &task, &config, &records)?)
            }
            Role::Writer(_, states) => {
                let states: Vec<Vec<u8>> = states.iter().map(|id| met.bytes(*id)).collect();
                Machine::Writer(Box::new(Writer::open(Millis(now), &task, &states)?))
            }
        })
    }

    /// Gives a machine one input, or looks up what that gave.
    pub(crate) fn step(&self, id: MachineId, now: u64, input: Input) -> Arc<Stepped> {
        let mut met = self.met();
        let at = (id, now, input);
        if let Some(stepped) = met.steps.get(&at) {
            return stepped.clone();
        }
        let mut machine = Machine::clone(&met.machines[id.0 as usize].0);
        let told = self.tell(&mut machine, now, &at.2, &met);
        let stepped = Arc::new(met.take(machine, told));
        met.steps.insert(at, stepped.clone());
        stepped
    }

    fn tell(&self, machine: &mut Machine, now: u64, input: &Input, met: &Met) -> Result<(), Error> {
        let now = Millis(now);
        match machine {
            Machine::Writer(writer) => match input {
                Input::Replied(reply) => {
                    let reply = met.bytes(*reply);
                    writer.handle_input(now, WriterInput::Replied(&reply))
                }
                Input::Row { key, position, full } => {
                    let batch = self.rows.batch(*key, *position, *full);
                    writer.handle_input(now, WriterInput::RowsArrived(&batch))
                }
                input => writer.handle_input(now, plain_writer_input(input)),
            },
            Machine::Coordinator(coordinator) => match input {
                Input::Completed(ticket, answered) => {
                    let completion = completion(*ticket, *answered);
                    coordinator.handle_input(now, CoordinatorInput::Completed(completion))
                }
                Input::Known(known) => {
                    let known = met.bytes(*known);
                    coordinator.handle_input(now, CoordinatorInput::KnownCommits(&known))
                }
                Input::Requested(writer, request) => {
                    let request = met.bytes(*request);
                    let input = CoordinatorInput::Requested((*writer).into(), &request);
                    coordinator.handle_input(now, input)
                }
                Input::Timer => coordinator.handle_input(now, CoordinatorInput::TimerFired),
                other => panic!("no coordinator is told {other:?}"),
            },
            Machine::Committer(committer) => {
                let input = match input {
                    Input::Completed(ticket, answered) => {
                        CommitterInput::Completed(completion(*ticket, *answered))
                    }
                    Input::Ended(id, completed) => {
                        CommitterInput::CheckpointEnded(checkpoint(*id), outcome(*completed))
                    }
                    Input::Prepared(id, committables) => {
                        let bytes = committables.iter().map(|id| met.bytes(*id)).collect();
                        CommitterInput::Prepared(checkpoint(*id), bytes)
                    }
                    Input::Timer => CommitterInput::TimerFired,
                    other => panic!("no committer is told {other:?}"),
                };
                committer.handle_input(now, input)
            }
        }
    }

    /// The number of a byte string.
    pub(crate) fn blob(&self, bytes: Vec<u8>) -> Blob {
        self.met().blob(bytes)
    }

    /// The bytes of a number.
    pub(crate) fn bytes(&self, blob: Blob) -> Vec<u8> {
        self.met().bytes(blob)
    }

    /// The session that a committable is of, and its name.
    pub(crate) fn committable(&self, blob: Blob) -> (u8, Name) {
        let committable = Committable::from_bytes(&self.bytes(blob)).expect("a writer wrote it");
        (session_number(&committable.session), name(&committable.name))
    }

    /// A writer's state without the committables of these sessions.
    pub(crate) fn without(&self, state: Blob, sessions: u32) -> Blob {
        let bytes = self.bytes(state);
        let mut opener = Opener::open(Kind::Writer, &bytes).expect("a writer wrote it");
        let identity = opener.text().expect("it begins with the identity");
        let held = opener.list(|opener| opener.bytes().map(<[u8]>::to_vec)).expect("then a list");
        let kept: Vec<Vec<u8>> = held
            .into_iter()
            .filter(|bytes| {
                let committable = Committable::from_bytes(bytes).expect("a writer wrote it");
                sessions >> session_number(&committable.session) & 1 == 0
            })
            .collect();
        let write = |sealer: &mut Sealer, bytes: &Vec<u8>| {
            sealer.bytes(bytes);
        };
        self.blob(Sealer::new(Kind::Writer).text(&identity).list(&kept, write).seal())
    }
}

impl Met {
    fn bytes(&self, blob: Blob) -> Vec<u8> {
        self.blobs[blob.0 as usize].to_vec()
    }

    fn blob(&mut self, bytes: Vec<u8>) -> Blob {
        if let Some(id) = self.blob_ids.get(bytes.as_slice()) {
            return *id;
        }
        let id = Blob(u32::try_from(self.blobs.len()).expect("far fewer are met"));
        let bytes: Arc<[u8]> = bytes.into();
        self.blobs.push(bytes.clone());
        self.blob_ids.insert(bytes, id);
        id
    }

    /// Takes what a machine wants done, and keeps the machine.
    fn take(&mut self, mut machine: Machine, told: Result<(), Error>) -> Stepped {
        let mut effects = Vec::new();
        match &mut machine {
            Machine::Writer(writer) => {
                while let Some(output) = writer.poll_output() {
                    effects.extend(self.writer_effect(output));
                }
            }
            Machine::Coordinator(coordinator) => {
                while let Some(output) = coordinator.poll_output() {
                    effects.extend(match output {
                        CoordinatorOutput::Journal(append) => Some(append_effect(&append)),
                        CoordinatorOutput::Reply(writer, body) => Some(self.reply(writer, body)),
                        CoordinatorOutput::Tell(_) => None,
                        CoordinatorOutput::Tunnel(command) => Some(tunnel_effect(command)),
                    });
                }
            }
            Machine::Committer(committer) => {
                while let Some(output) = committer.poll_output() {
                    effects.extend(match output {
                        CommitterOutput::Journal(append) => Some(append_effect(&append)),
                        CommitterOutput::Known(body) => Some(self.known(body)),
                        CommitterOutput::Tell(_) => None,
                        CommitterOutput::Tunnel(command) => Some(tunnel_effect(command)),
                    });
                }
            }
        }
        let failure = told.err().map(|error| failure(&error));
        Stepped { next: self.keep(machine), effects, failure }
    }

    fn writer_effect(&mut self, output: WriterOutput) -> Option<Effect> {
        Some(match output {
            WriterOutput::DeadLetter(_) => panic!("no row of the input is wrong"),
            WriterOutput::Request(body) => {
                let request = Request::from_bytes(&body).expect("a writer wrote it");
                Effect::Request(Asked {
                    body: self.blob(body),
                    number: request.number,
                    passed: small(request.passed.0),
                    wanted: request.wanted.iter().map(name).collect(),
                })
            }
            WriterOutput::Restored(held) => {
                Effect::Restored(held.into_iter().map(|bytes| self.blob(bytes)).collect())
            }
            WriterOutput::Snapshot(Snapshot { checkpoint, state, committables }) => {
                let held = committables.into_iter().map(|bytes| self.blob(bytes)).collect();
                Effect::Snapshot(small(checkpoint.0), self.blob(state), held)
            }
            WriterOutput::Cache(_) => unreachable!("no file cache is granted here"),
            WriterOutput::Tell(_) => return None,
            WriterOutput::Tunnel(command) => tunnel_effect(command),
        })
    }

    fn reply(&mut self, writer: u64, body: Vec<u8>) -> Effect {
        let reply = Reply::from_bytes(&body).expect("a coordinator wrote it");
        let granted = reply.granted.iter();
        let granted = granted.map(|grant| (session_number(&grant.info.id), name(&grant.name)));
        Effect::Reply(small(writer), self.blob(body), granted.collect())
    }

    fn known(&mut self, body: Vec<u8>) -> Effect {
        let known = Known::from_bytes(&body).expect("a committer wrote it");
        let sessions = known.sessions.iter().map(session_number).collect();
        Effect::Known(self.blob(body), sessions)
    }

    fn keep(&mut self, machine: Machine) -> MachineId {
        let mut digest = Digest::default();
        fmt::write(&mut digest, format_args!("{machine:?}")).expect("a digest takes all");
        let digest = (digest.0.finish(), digest.1.finish());
        if let Some(id) = self.by_digest.get(&digest) {
            return *id;
        }
        let id = MachineId(u32::try_from(self.machines.len()).expect("far fewer are met"));
        let facts = facts(&machine);
        self.machines.push((Arc::new(machine), facts));
        self.by_digest.insert(digest, id);
        id
    }
}

/// Two hashes of one text.
#[derive(Clone)]
struct Digest(DefaultHasher, DefaultHasher);

impl Default for Digest {
    fn default() -> Self {
        let mut second = DefaultHasher::new();
        0x5eed_u64.hash(&mut second);
        Self(DefaultHasher::new(), second)
    }
}

impl fmt::Write for Digest {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        self.1.write(text.as_bytes());
        Ok(())
    }
}

fn facts(machine: &Machine) -> Facts {
    let (accepting, committed, pending, serving, deadline) = match machine {
        Machine::Committer(it) => (false, it.committed(), it.pending(), false, it.deadline()),
        Machine::Coordinator(it) => (false, CheckpointId(0), 0, it.serving(), it.deadline()),
        Machine::Writer(it) => (it.accepting(), CheckpointId(0), 0, false, it.deadline()),
    };
    let (committed, deadline) = (small(committed.0), deadline.map(|deadline| deadline.0));
    Facts { accepting, committed, deadline, pending, serving }
}
