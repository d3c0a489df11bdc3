//! The sink that runs in a world: the component that ships, or the native core as its twin.
//!
//! Both stand behind the runtime's own instances. Invariant: the twin's shell decides nothing: it
//! turns a call into an input and drains the outputs, as `guest/component` does.

use std::sync::{Arc, OnceLock};

use upsert_sink::Plugin;
use upsert_sink::twin::{Turn, Twin};
use upsert_sink_core::bucket::Router;
use upsert_sink_core::committer::Committer;
use upsert_sink_core::coordinator::Coordinator;
use upsert_sink_core::io::{
    CommitterInput, CommitterOutput, CoordinatorInput, CoordinatorOutput, Task, WriterInput,
    WriterOutput,
};
use upsert_sink_core::open::Opened;
use upsert_sink_core::writer::Writer;
use upsert_sink_format::error::Error;
use upsert_sink_format::id::Millis;

/// The sink that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The component that ships, in its sandbox.
    Component,
    /// The core, compiled for this machine.
    Native,
}

/// Both, ready to be instantiated.
pub struct Subjects {
    component: OnceLock<Plugin>,
    native: Plugin,
}

impl Subjects {
    /// The component is compiled when it is first needed, once for all worlds.
    #[allow(clippy::new_without_default, reason = "there is nothing usual about them")]
    pub fn new() -> Self {
        let native = Plugin::twin(Arc::new(native));
        Self { component: OnceLock::new(), native }
    }

    pub(crate) fn plugin(&self, subject: Subject) -> Plugin {
        let embedded = || Plugin::embedded().expect("the component that ships can be loaded");
        match subject {
            Subject::Component => self.component.get_or_init(embedded).clone(),
            Subject::Native => self.native.clone(),
        }
    }
}

/// The native core of one instance.
pub fn native() -> Box<dyn Twin> {
    Box::new(Native::default())
}

/// The one machine of an instance.
#[derive(Default)]
enum Native {
    #[default]
    None,
    Committer(Box<Committer>),
    Coordinator(Box<Coordinator>),
    Router(Box<Router>),
    Writer(Box<Writer>),
}

fn no_such() -> Error {
    Error::bug("host", "this instance holds no such role")
}

fn written(writer: &mut Writer) -> Turn<WriterOutput> {
    let mut outputs = Vec::new();
    while let Some(next) = writer.poll_output() {
        outputs.push(next);
    }
    let (ready, held, deadline) = (writer.accepting(), writer.held_bytes(), writer.deadline());
    Turn { ready, held, committed: 0, deadline, outputs }
}

fn coordinated(coordinator: &mut Coordinator) -> Turn<CoordinatorOutput> {
    let mut outputs = Vec::new();
    while let Some(next) = coordinator.poll_output() {
        outputs.push(next);
    }
    let (ready, deadline) = (coordinator.serving(), coordinator.deadline());
    Turn { ready, held: 0, committed: 0, deadline, outputs }
}

fn committed(committer: &mut Committer) -> Turn<CommitterOutput> {
    let mut outputs = Vec::new();
    while let Some(next) = committer.poll_output() {
        outputs.push(next);
    }
    let (held, committed) = (committer.pending() as u64, committer.committed().0);
    Turn { ready: true, held, committed, deadline: committer.deadline(), outputs }
}

impl Twin for Native {
    fn open_writer(
        &mut self,
        now: Millis,
        task: &Task,
        states: &[Vec<u8>],
    ) -> Result<Turn<WriterOutput>, Error> {
        let mut writer = Box::new(Writer::open(now, task, states)?);
        let turn = written(&mut writer);
        *self = Self::Writer(writer);
        Ok(turn)
    }

    fn writer(&mut self, now: Millis, input: WriterInput<'_>) -> Result<Turn<WriterOutput>, Error> {
        let Self::Writer(writer) = self else { return Err(no_such()) };
        writer.handle_input(now, input)?;
        Ok(written(writer))
    }

    fn open_coordinator(
        &mut self,
        now: Millis,
        task: &Task,
        journal: &[Vec<u8>],
    ) -> Result<Turn<CoordinatorOutput>, Error> {
        let opened = Opened::of(task)?;
        let mut coordinator = Box::new(Coordinator::open(now, task, &opened.config, journal)?);
        let turn = coordinated(&mut coordinator);
        *self = Self::Coordinator(coordinator);
        Ok(turn)
    }

    fn coordinator(
        &mut self,
        now: Millis,
        input: CoordinatorInput<'_>,
    ) -> Result<Turn<CoordinatorOutput>, Error> {
        let Self::Coordinator(coordinator) = self else { return Err(no_such()) };
        coordinator.handle_input(now, input)?;
        Ok(coordinated(coordinator))
    }

    fn open_committer(
        &mut self,
        task: &Task,
        journal: &[Vec<u8>],
    ) -> Result<Turn<CommitterOutput>, Error> {
        let opened = Opened::of(task)?;
        let mut committer = Box::new(Committer::open(task, &opened.config, journal)?);
        let turn = committed(&mut committer);
        *self = Self::Committer(committer);
        Ok(turn)
    }

    fn committer(
        &mut self,
        now: Millis,
        input: CommitterInput,
    ) -> Result<Turn<CommitterOutput>, Error> {
        let Self::Committer(committer) = self else { return Err(no_such()) };
        committer.handle_input(now, input)?;
        Ok(committed(committer))
    }

    fn open_router(&mut self, task: &Task) -> Result<(), Error> {
        *self = Self::Router(Box::new(Router::open(task)?));
        Ok(())
    }

    fn keys(&mut self, batch: &[u8]) -> Result<Vec<u32>, Error> {
        let Self::Router(router) = self else { return Err(no_such()) };
        router.keys(batch)
    }
}
