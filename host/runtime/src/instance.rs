//! One instance of the plugin in its own sandbox, with the calls that each role has.
//!
//! Between `driver.rs` and the guest, noted by `recording/` if the sink is recorded. Invariant:
//! after a trap or an error the instance is not called again.

use std::collections::BTreeMap;
use std::sync::Arc;

use upsert_sink_core::io;
use upsert_sink_core::io::{
    CheckpointOutcome, CommitterInput, Completion, CoordinatorInput, WriterInput,
};
use upsert_sink_format::id::{CheckpointId, Millis};
use upsert_sink_format::option::OptionDoc;
use wasmtime::Store;

use crate::bindings::events::Event;
use crate::bindings::{Sink, committer, coordinator, describe, types, writer};
use crate::capability::Capabilities;
use crate::capability::grant::Grant;
use crate::capability::outputs::CallOutputs;
use crate::capability::watch::{Called, Watch};
use crate::components::Clock;
use crate::error::{Error, Result, trapped};
use crate::file_cache::FileCache;
use crate::ledger::part::InstancePart;
use crate::plugin::{Code, Plugin};
use crate::recording::input::Input;
use crate::recording::recorder::InstanceRecorder;
use crate::sandbox::Limits;
use crate::twin::Twin;
use crate::{sandbox, twin};

/// A guest that is alive, or has ended with an error.
pub(crate) struct Instance {
    name: String,
    guest: Guest,
    watch: Watch,
    recorder: Option<InstanceRecorder>,
    /// The state that its last call left it in, for a watcher.
    state: &'static str,
    ended: bool,
    /// Times its calls; they take no time without it.
    clock: Option<Arc<dyn Clock>>,
    /// Its measurements since they were last taken.
    pub(crate) part: InstancePart,
}

/// The answers of a component.
type Answered<T> = std::result::Result<T, types::Error>;

enum Guest {
    Component(Box<Store<Capabilities>>, Box<Sink>),
    Twin(Box<Capabilities>, Box<dyn Twin>),
}

impl Instance {
    /// A fresh instance, called `name` in messages.
    pub(crate) fn new(plugin: &Plugin, name: String, limits: Limits, grant: Grant) -> Result<Self> {
        let watch = plugin.watch().clone();
        let capabilities = Capabilities::new(name.clone(), limits, grant, watch.clone());
        let guest = match plugin.code() {
            Code::Component(engine, pre) => {
                let mut store = sandbox::store(engine, capabilities);
                let sink = pre.instantiate(&mut store).map_err(|error| trapped(&name, &error))?;
                Guest::Component(Box::new(store), Box::new(sink))
            }
            Code::Twin(make) => Guest::Twin(Box::new(capabilities), make()),
        };
        Ok(Self {
            name,
            guest,
            watch,
            recorder: None,
            state: "new",
            ended: false,
            clock: None,
            part: InstancePart::default(),
        })
    }

    /// The same, measured from now on.
    pub(crate) fn timed(self, clock: &Arc<dyn Clock>) -> Self {
        let part = InstancePart::begin(clock.now_us());
        Self { clock: Some(Arc::clone(clock)), part, ..self }
    }

    /// The same, with a file cache if there is one.
    pub(crate) fn cached(mut self, cache: Option<FileCache>) -> Self {
        if let Some(cache) = cache {
            self.capabilities().lend_cache(Arc::new(cache));
        }
        self
    }

    /// The same, with its calls recorded if there is a recorder.
    pub(crate) fn recorded(mut self, recorder: Option<InstanceRecorder>) -> Self {
        if recorder.is_some() {
            self.keep_outputs();
        }
        Self { recorder, ..self }
    }

    /// From now on what a call comes to is kept until it is taken.
    pub(crate) fn keep_outputs(&mut self) {
        self.capabilities().outputs = Some(CallOutputs::default());
    }

    /// The result of the last call.
    pub(crate) fn take_outputs(&mut self) -> CallOutputs {
        self.capabilities().outputs.replace(CallOutputs::default()).unwrap_or_default()
    }

    /// The things that the host keeps for it.
    pub(crate) fn capabilities(&mut self) -> &mut Capabilities {
        match &mut self.guest {
            Guest::Component(store, _) => store.data_mut(),
            Guest::Twin(capabilities, _) => capabilities,
        }
    }

    /// One call with this input, of a component or of a twin.
    fn call<I, T>(
        &mut self,
        now_ms: u64,
        (event, operation): (&'static str, &'static str),
        input: I,
        component: impl FnOnce(&Sink, &mut Store<Capabilities>, I) -> wasmtime::Result<Answered<T>>,
        twin: impl FnOnce(&mut dyn Twin, &mut Capabilities, I) -> wasmtime::Result<Result<T>>,
    ) -> Result<T> {
        if self.ended {
            return Err(Error::bug(&self.name, "an instance that has ended was called"));
        }
        let state = self.state;
        self.watch.called(&Called { instance: &self.name, state, event, operation });
        self.capabilities().begin_call(now_ms);
        let began_us = self.now_us();
        let called = match &mut self.guest {
            Guest::Component(store, sink) => {
                sandbox::begin_call(store);
                component(sink, store, input).map(|called| called.map_err(Error::from))
            }
            Guest::Twin(capabilities, guest) => twin(guest.as_mut(), capabilities, input),
        };
        let called = called.unwrap_or_else(|error| Err(trapped(&self.name, &error)));
        self.part.times.guest += self.now_us().saturating_sub(began_us);
        self.ended = called.is_err();
        called
    }
}

/// Its measurements.
impl Instance {
    /// The time, as far as it is measured.
    pub(crate) fn now_us(&self) -> u64 {
        self.clock.as_ref().map_or(0, |clock| clock.now_us())
    }

    /// The guest's counts since the last time.
    pub(crate) fn take_counters(&mut self) -> BTreeMap<String, u64> {
        let counters = self.capabilities().telemetry.take_counters();
        self.part.counted(&counters);
        counters
    }

    /// The measurements since the last time. The guest's counts are taken first.
    pub(crate) fn take_part(&mut self) -> InstancePart {
        let memory_bytes = self.capabilities().memory_bytes() as u64;
        self.part.memory_bytes_max = self.part.memory_bytes_max.max(memory_bytes);
        let now_us = self.now_us();
        self.part.take(now_us)
    }
}

/// The notes of its calls.
impl Instance {
    /// It is about to be called. Nothing is made of the input if nobody records it.
    fn begin<'a>(&mut self, now_ms: u64, input: impl FnOnce() -> Input<'a>) {
        let Some(recorder) = &mut self.recorder else { return };
        if recorder.is_on() && !self.ended {
            recorder.begin(now_ms, &input());
        } else {
            self.recorder = None;
            self.capabilities().outputs = None;
        }
    }

    /// A call is over.
    fn end<T>(&mut self, progress: &Result<T>, returned: impl FnOnce(&mut CallOutputs, &T)) {
        self.capabilities().note(|outputs| match progress {
            Ok(progress) => returned(outputs, progress),
            Err(error) => outputs.failed(error),
        });
        if self.recorder.is_none() {
            return;
        }
        let outputs = self.take_outputs();
        if let Some(recorder) = &mut self.recorder {
            recorder.end(outputs);
        }
    }
}

/// The calls of a writer.
impl Instance {
    pub(crate) fn writer_open(
        &mut self,
        now_ms: u64,
        task: &io::Task,
        state: &[Vec<u8>],
    ) -> Result<writer::Progress> {
        self.begin(now_ms, || Input::WriterOpened(task.clone(), state.to_vec()));
        self.capabilities().grant_cache(task.cache_bytes);
        let component = |sink: &Sink, store: &mut Store<Capabilities>, ()| {
            let task = types::Task::from(task);
            sink.upsert_sink_plugin_writer().call_open(store, now_ms, &task, state)
        };
        let progress = self.call(now_ms, ("open", ""), (), component, |twin, host, ()| {
            twin::open_writer(host, twin, Millis(now_ms), task, state)
        });
        self.left_writer(progress)
    }

    pub(crate) fn writer(
        &mut self,
        now_ms: u64,
        input: WriterInput<'_>,
    ) -> Result<writer::Progress> {
        self.begin(now_ms, || Input::Writer(input.clone()));
        let event = match &input {
            WriterInput::BarrierArrived(_, io::BarrierKind::Checkpoint) => ("barrier", ""),
            WriterInput::BarrierArrived(_, io::BarrierKind::Savepoint) => ("savepoint", ""),
            WriterInput::CheckpointEnded(_, outcome) => (ended(*outcome), ""),
            WriterInput::Completed(completion) => self.completed(completion),
            WriterInput::Replied(_) => ("replied", ""),
            WriterInput::RowsArrived(_) => ("rows", ""),
            WriterInput::TimerFired => ("timer", ""),
        };
        let component = |sink: &Sink, store: &mut Store<Capabilities>, input: WriterInput<'_>| {
            let guest = sink.upsert_sink_plugin_writer();
            match input {
                WriterInput::BarrierArrived(CheckpointId(id), kind) => {
                    guest.call_barrier(store, now_ms, id, kind.into())
                }
                WriterInput::CheckpointEnded(CheckpointId(id), outcome) => {
                    guest.call_checkpoint_ended(store, now_ms, id, outcome.into())
                }
                WriterInput::Completed(completion) => {
                    guest.call_on_event(store, now_ms, &Event::from(completion))
                }
                WriterInput::Replied(reply) => guest.call_on_reply(store, now_ms, reply),
                WriterInput::RowsArrived(batch) => guest.call_write(store, now_ms, batch),
                WriterInput::TimerFired => guest.call_on_event(store, now_ms, &Event::Timer),
            }
        };
        let progress = self.call(now_ms, event, input, component, |twin, host, input| {
            twin::writer(host, twin.writer(Millis(now_ms), input))
        });
        self.left_writer(progress)
    }

    fn left_writer(&mut self, progress: Result<writer::Progress>) -> Result<writer::Progress> {
        self.end(&progress, CallOutputs::writer);
        let progress = progress?;
        self.state = if progress.accepting { "accepting" } else { "full" };
        Ok(progress)
    }
}

/// The calls of the coordinator.
impl Instance {
    pub(crate) fn coordinator_open(
        &mut self,
        now_ms: u64,
        task: &io::Task,
        journal: &[Vec<u8>],
    ) -> Result<coordinator::Progress> {
        self.begin(now_ms, || Input::CoordinatorOpened(task.clone(), journal.to_vec()));
        let component = |sink: &Sink, store: &mut Store<Capabilities>, ()| {
            let task = types::Task::from(task);
            sink.upsert_sink_plugin_coordinator().call_open(store, now_ms, &task, journal)
        };
        let progress = self.call(now_ms, ("open", ""), (), component, |twin, host, ()| {
            twin::coordinator(host, twin.open_coordinator(Millis(now_ms), task, journal))
        });
        self.left_coordinator(progress)
    }

    pub(crate) fn coordinator(
        &mut self,
        now_ms: u64,
        input: CoordinatorInput<'_>,
    ) -> Result<coordinator::Progress> {
        self.begin(now_ms, || Input::Coordinator(input.clone()));
        let event = match &input {
            CoordinatorInput::Completed(completion) => self.completed(completion),
            CoordinatorInput::KnownCommits(_) => ("known", ""),
            CoordinatorInput::Requested(..) => ("requested", ""),
            CoordinatorInput::TimerFired => ("timer", ""),
        };
        let component = |sink: &Sink,
                         store: &mut Store<Capabilities>,
                         input: CoordinatorInput<'_>| {
            let guest = sink.upsert_sink_plugin_coordinator();
            match input {
                CoordinatorInput::Completed(completion) => {
                    guest.call_on_event(store, now_ms, &Event::from(completion))
                }
                CoordinatorInput::KnownCommits(known) => {
                    let message = coordinator::Message::Known(known.to_vec());
                    guest.call_on_message(store, now_ms, &message)
                }
                CoordinatorInput::Requested(number, body) => {
                    let asked = coordinator::Request { number, body: body.to_vec() };
                    let message = coordinator::Message::Request(asked);
                    guest.call_on_message(store, now_ms, &message)
                }
                CoordinatorInput::TimerFired => guest.call_on_event(store, now_ms, &Event::Timer),
            }
        };
        let progress = self.call(now_ms, event, input, component, |twin, host, input| {
            twin::coordinator(host, twin.coordinator(Millis(now_ms), input))
        });
        self.left_coordinator(progress)
    }

    fn left_coordinator(
        &mut self,
        progress: Result<coordinator::Progress>,
    ) -> Result<coordinator::Progress> {
        self.end(&progress, CallOutputs::coordinator);
        let progress = progress?;
        self.state = if progress.serving { "serving" } else { "waiting" };
        Ok(progress)
    }
}

/// The calls of the committer.
impl Instance {
    pub(crate) fn committer_open(
        &mut self,
        now_ms: u64,
        task: &io::Task,
        journal: &[Vec<u8>],
    ) -> Result<committer::Progress> {
        self.begin(now_ms, || Input::CommitterOpened(task.clone(), journal.to_vec()));
        let component = |sink: &Sink, store: &mut Store<Capabilities>, ()| {
            let task = types::Task::from(task);
            sink.upsert_sink_plugin_committer().call_open(store, now_ms, &task, journal)
        };
        let progress = self.call(now_ms, ("open", ""), (), component, |twin, host, ()| {
            twin::committer(host, twin.open_committer(task, journal))
        });
        self.left_committer(progress)
    }

    pub(crate) fn committer(
        &mut self,
        now_ms: u64,
        input: CommitterInput,
    ) -> Result<committer::Progress> {
        self.begin(now_ms, || Input::Committer(input.clone()));
        let event = match &input {
            CommitterInput::CheckpointEnded(_, outcome) => (ended(*outcome), ""),
            CommitterInput::Completed(completion) => self.completed(completion),
            CommitterInput::Prepared(..) => ("prepared", ""),
            CommitterInput::TimerFired => ("timer", ""),
        };
        let component = |sink: &Sink, store: &mut Store<Capabilities>, input: CommitterInput| {
            let guest = sink.upsert_sink_plugin_committer();
            match input {
                CommitterInput::CheckpointEnded(CheckpointId(id), outcome) => {
                    guest.call_checkpoint_ended(store, now_ms, id, outcome.into())
                }
                CommitterInput::Completed(completion) => {
                    guest.call_on_event(store, now_ms, &Event::from(completion))
                }
                CommitterInput::Prepared(CheckpointId(id), committables) => {
                    guest.call_prepared(store, now_ms, id, &committables)
                }
                CommitterInput::TimerFired => guest.call_on_event(store, now_ms, &Event::Timer),
            }
        };
        let progress = self.call(now_ms, event, input, component, |twin, host, input| {
            twin::committer(host, twin.committer(Millis(now_ms), input))
        });
        self.left_committer(progress)
    }

    fn left_committer(
        &mut self,
        progress: Result<committer::Progress>,
    ) -> Result<committer::Progress> {
        self.end(&progress, CallOutputs::committer);
        let progress = progress?;
        self.state = if progress.pending > 0 { "committing" } else { "idle" };
        Ok(progress)
    }

    /// The event of an outcome, and its operation. One of a ticket that is released has none.
    fn completed(&mut self, completion: &Completion) -> (&'static str, &'static str) {
        let operation = self.capabilities().tickets.operation_name(completion.ticket.0);
        (twin::outcome(&completion.outcome), operation)
    }
}

/// The pure calls.
impl Instance {
    pub(crate) fn route_open(&mut self, task: &io::Task) -> Result<()> {
        let component = |sink: &Sink, store: &mut Store<Capabilities>, ()| {
            sink.upsert_sink_plugin_route().call_open(store, &types::Task::from(task))
        };
        self.call(0, ("open", ""), (), component, |twin, _, ()| Ok(twin.open_router(task)))
    }

    /// The key of each row.
    pub(crate) fn keys(&mut self, batch: &[u8]) -> Result<Vec<u32>> {
        let component = |sink: &Sink, store: &mut Store<Capabilities>, ()| {
            sink.upsert_sink_plugin_route().call_keys(store, batch)
        };
        self.call(0, ("rows", ""), (), component, |twin, _, ()| Ok(twin.keys(batch)))
    }

    /// The guest's options. A twin has those of the component, which it does not tell.
    pub(crate) fn options(&mut self) -> Result<Vec<describe::OptionDoc>> {
        let component = |sink: &Sink, store: &mut Store<Capabilities>, ()| {
            sink.upsert_sink_plugin_describe().call_options(store).map(Ok)
        };
        self.call(0, ("options", ""), (), component, |_, _, ()| Ok(Ok(Vec::new())))
    }
}

impl Plugin {
    /// The options of the guest, sorted by name. Those of the host are
    /// [`crate::Settings::describe`].
    ///
    /// # Errors
    /// `Bug` if the component traps.
    pub fn options(&self) -> Result<Vec<OptionDoc>> {
        let name = String::from("describe");
        let mut instance = Instance::new(self, name, Limits::default(), Grant::NONE)?;
        let options = instance.options()?.into_iter().map(|option| OptionDoc {
            name: option.name,
            value_type: option.value_type,
            default_value: option.default_value,
            bounds: option.bounds,
            doc: option.doc,
        });
        Ok(options.collect())
    }
}

fn ended(outcome: CheckpointOutcome) -> &'static str {
    match outcome {
        CheckpointOutcome::Aborted => "checkpoint aborted",
        CheckpointOutcome::Completed => "checkpoint completed",
    }
}
