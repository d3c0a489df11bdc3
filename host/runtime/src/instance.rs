//! One instance of the plugin in its own sandbox, with the calls that each role has.
//!
//! Between `driver.rs` and the guest. Invariant: after a trap or an error the instance is not
//! called again.

use upsert_sink_core::io;
use wasmtime::Store;

use crate::bindings::Sink;
use crate::bindings::committer;
use crate::bindings::coordinator;
use crate::bindings::describe;
use crate::bindings::tunnel;
use crate::bindings::types;
use crate::bindings::writer;
use crate::capability::Capabilities;
use crate::capability::grant::Grant;
use crate::error::Error;
use crate::error::Result;
use crate::error::trapped;
use crate::plugin::Plugin;
use crate::sandbox;
use crate::sandbox::Limits;

/// A guest that is alive, or has ended with an error.
pub(crate) struct Instance {
    name: String,
    store: Store<Capabilities>,
    sink: Sink,
    ended: bool,
}

impl Instance {
    /// A fresh instance, called `name` in messages.
    pub(crate) fn new(plugin: &Plugin, name: String, limits: Limits, grant: Grant) -> Result<Self> {
        let capabilities = Capabilities::new(name.clone(), limits, grant);
        let mut store = sandbox::store(plugin.engine(), capabilities);
        let sink = plugin.pre().instantiate(&mut store).map_err(|error| trapped(&name, &error))?;
        Ok(Self { name, store, sink, ended: false })
    }

    /// What the host keeps for it.
    pub(crate) fn capabilities(&mut self) -> &mut Capabilities {
        self.store.data_mut()
    }

    fn call<T>(
        &mut self,
        now_ms: u64,
        call: impl FnOnce(&Sink, &mut Store<Capabilities>) -> wasmtime::Result<T>,
    ) -> Result<T> {
        if self.ended {
            return Err(Error::bug(&self.name, "an instance that has ended was called"));
        }
        self.store.data_mut().begin_call(now_ms);
        sandbox::begin_call(&mut self.store);
        call(&self.sink, &mut self.store).map_err(|error| {
            self.ended = true;
            trapped(&self.name, &error)
        })
    }

    fn finish<T>(&mut self, result: std::result::Result<T, types::Error>) -> Result<T> {
        result.map_err(|error| {
            self.ended = true;
            Error::from(error)
        })
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
        let task = types::Task::from(task);
        let called = self.call(now_ms, |sink, store| {
            sink.upsert_sink_plugin_writer().call_open(store, now_ms, &task, state)
        })?;
        self.finish(called)
    }

    pub(crate) fn write(&mut self, now_ms: u64, batch: &[u8]) -> Result<writer::Progress> {
        let called = self.call(now_ms, |sink, store| {
            sink.upsert_sink_plugin_writer().call_write(store, now_ms, batch)
        })?;
        self.finish(called)
    }

    pub(crate) fn barrier(
        &mut self,
        now_ms: u64,
        checkpoint: u64,
        kind: io::BarrierKind,
    ) -> Result<writer::Progress> {
        let called = self.call(now_ms, |sink, store| {
            let writer = sink.upsert_sink_plugin_writer();
            writer.call_barrier(store, now_ms, checkpoint, kind.into())
        })?;
        self.finish(called)
    }

    pub(crate) fn writer_checkpoint_ended(
        &mut self,
        now_ms: u64,
        checkpoint: u64,
        outcome: io::CheckpointOutcome,
    ) -> Result<writer::Progress> {
        let called = self.call(now_ms, |sink, store| {
            let writer = sink.upsert_sink_plugin_writer();
            writer.call_checkpoint_ended(store, now_ms, checkpoint, outcome.into())
        })?;
        self.finish(called)
    }

    pub(crate) fn writer_completion(
        &mut self,
        now_ms: u64,
        completion: &tunnel::Completion,
    ) -> Result<writer::Progress> {
        let called = self.call(now_ms, |sink, store| {
            sink.upsert_sink_plugin_writer().call_on_completion(store, now_ms, completion)
        })?;
        self.finish(called)
    }

    pub(crate) fn writer_reply(&mut self, now_ms: u64, reply: &[u8]) -> Result<writer::Progress> {
        let called = self.call(now_ms, |sink, store| {
            sink.upsert_sink_plugin_writer().call_on_reply(store, now_ms, reply)
        })?;
        self.finish(called)
    }

    pub(crate) fn writer_timer(&mut self, now_ms: u64) -> Result<writer::Progress> {
        let called = self.call(now_ms, |sink, store| {
            sink.upsert_sink_plugin_writer().call_on_timer(store, now_ms)
        })?;
        self.finish(called)
    }
}

/// The calls of the coordinator.
impl Instance {
    pub(crate) fn coordinator_open(
        &mut self,
        now_ms: u64,
        task: &io::Task,
        journal: &[io::JournalSession],
    ) -> Result<coordinator::Progress> {
        let task = types::Task::from(task);
        let journal = sessions(journal);
        let called = self.call(now_ms, |sink, store| {
            sink.upsert_sink_plugin_coordinator().call_open(store, now_ms, &task, &journal)
        })?;
        self.finish(called)
    }

    pub(crate) fn coordinator_request(
        &mut self,
        now_ms: u64,
        request: u64,
        body: &[u8],
    ) -> Result<coordinator::Progress> {
        let called = self.call(now_ms, |sink, store| {
            sink.upsert_sink_plugin_coordinator().call_on_request(store, now_ms, request, body)
        })?;
        self.finish(called)
    }

    pub(crate) fn coordinator_known(
        &mut self,
        now_ms: u64,
        known: &[u8],
    ) -> Result<coordinator::Progress> {
        let called = self.call(now_ms, |sink, store| {
            sink.upsert_sink_plugin_coordinator().call_on_known(store, now_ms, known)
        })?;
        self.finish(called)
    }

    pub(crate) fn coordinator_completion(
        &mut self,
        now_ms: u64,
        completion: &tunnel::Completion,
    ) -> Result<coordinator::Progress> {
        let called = self.call(now_ms, |sink, store| {
            sink.upsert_sink_plugin_coordinator().call_on_completion(store, now_ms, completion)
        })?;
        self.finish(called)
    }

    pub(crate) fn coordinator_timer(&mut self, now_ms: u64) -> Result<coordinator::Progress> {
        let called = self.call(now_ms, |sink, store| {
            sink.upsert_sink_plugin_coordinator().call_on_timer(store, now_ms)
        })?;
        self.finish(called)
    }
}

/// The calls of the committer.
impl Instance {
    pub(crate) fn committer_open(
        &mut self,
        now_ms: u64,
        task: &io::Task,
        journal: &[io::JournalSession],
    ) -> Result<committer::Progress> {
        let task = types::Task::from(task);
        let journal = sessions(journal);
        let called = self.call(now_ms, |sink, store| {
            sink.upsert_sink_plugin_committer().call_open(store, now_ms, &task, &journal)
        })?;
        self.finish(called)
    }

    pub(crate) fn prepared(
        &mut self,
        now_ms: u64,
        checkpoint: u64,
        committables: &[Vec<u8>],
    ) -> Result<committer::Progress> {
        let called = self.call(now_ms, |sink, store| {
            let committer = sink.upsert_sink_plugin_committer();
            committer.call_prepared(store, now_ms, checkpoint, committables)
        })?;
        self.finish(called)
    }

    pub(crate) fn committer_checkpoint_ended(
        &mut self,
        now_ms: u64,
        checkpoint: u64,
        outcome: io::CheckpointOutcome,
    ) -> Result<committer::Progress> {
        let called = self.call(now_ms, |sink, store| {
            let committer = sink.upsert_sink_plugin_committer();
            committer.call_checkpoint_ended(store, now_ms, checkpoint, outcome.into())
        })?;
        self.finish(called)
    }

    pub(crate) fn committer_completion(
        &mut self,
        now_ms: u64,
        completion: &tunnel::Completion,
    ) -> Result<committer::Progress> {
        let called = self.call(now_ms, |sink, store| {
            sink.upsert_sink_plugin_committer().call_on_completion(store, now_ms, completion)
        })?;
        self.finish(called)
    }

    pub(crate) fn committer_timer(&mut self, now_ms: u64) -> Result<committer::Progress> {
        let called = self.call(now_ms, |sink, store| {
            sink.upsert_sink_plugin_committer().call_on_timer(store, now_ms)
        })?;
        self.finish(called)
    }
}

/// The pure calls.
impl Instance {
    pub(crate) fn route_open(&mut self, task: &io::Task) -> Result<()> {
        let task = types::Task::from(task);
        let called =
            self.call(0, |sink, store| sink.upsert_sink_plugin_route().call_open(store, &task))?;
        self.finish(called)
    }

    /// The writer of each row.
    pub(crate) fn route(&mut self, batch: &[u8]) -> Result<Vec<u32>> {
        let called =
            self.call(0, |sink, store| sink.upsert_sink_plugin_route().call_route(store, batch))?;
        self.finish(called)
    }

    /// The guest's options.
    pub(crate) fn options(&mut self) -> Result<Vec<describe::OptionDoc>> {
        self.call(0, |sink, store| sink.upsert_sink_plugin_describe().call_options(store))
    }
}

fn sessions(journal: &[io::JournalSession]) -> Vec<types::JournalSession> {
    journal.iter().map(types::JournalSession::from).collect()
}
