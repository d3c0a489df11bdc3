//! The journal of a script's world: records that are durable at once, or when a command says so.
//!
//! Beside `world.rs`. Invariant: what is durable survives a crash, and nothing else does.

use upsert_sink_core::io::JournalAppend;
use upsert_sink_core::journal::{JournalState, SessionRecord};
use upsert_sink_format::error::Error;
use upsert_sink_format::tunnel::{Answer, Outcome};

use super::world::{Owner, World};

impl World {
    /// An append is noted; it is handed back if it is durable at once.
    pub(super) fn append(&mut self, owner: Owner, append: JournalAppend) -> Option<JournalAppend> {
        if !self.slow_journal {
            return Some(append);
        }
        self.told.push(format!("appends {}", record_label(&append)));
        self.appends.push((owner, append));
        None
    }

    /// A record is durable, and its owner learns of it.
    pub(super) fn written(&mut self, owner: Owner, append: JournalAppend) -> Result<(), Error> {
        let ticket = append.ticket;
        self.write(append);
        self.complete(owner, ticket, Outcome::Done(Answer::None))
    }

    /// A record is durable, and nobody has learned of it.
    fn write(&mut self, append: JournalAppend) {
        match append.record.is_empty() {
            true => self.journal.remove(&append.key),
            false => self.journal.insert(append.key, append.record),
        };
    }

    /// Appends that are not durable yet, by label.
    pub(crate) fn append_labels(&self) -> Vec<String> {
        self.appends.iter().map(|(_, append)| record_label(append)).collect()
    }

    /// The append at this place becomes durable and, if `told`, its owner receives the outcome.
    pub(crate) fn make_durable(&mut self, at: usize, told: bool) -> Result<(), Error> {
        let (owner, append) = self.appends.remove(at);
        if told {
            return self.written(owner, append);
        }
        self.write(append);
        Ok(())
    }

    /// The append at this place gets this outcome, whether it is durable or not.
    pub(crate) fn fail_append(
        &mut self,
        at: usize,
        durable: bool,
        outcome: Outcome,
    ) -> Result<(), Error> {
        let (owner, append) = self.appends.remove(at);
        let ticket = append.ticket;
        if durable {
            self.write(append);
        }
        self.complete(owner, ticket, outcome)
    }

    /// Takes back what the journal knows of a commit, as if the host had died before it wrote it.
    pub(crate) fn unjournal(&mut self, id: &str) {
        let held = self.journal.get_mut(id).expect("a session of the journal");
        let record = SessionRecord::from_bytes(held).expect("it is whole");
        *held = SessionRecord { state: JournalState::Open, ..record }.to_bytes();
    }

    /// The durable records, by key.
    pub(crate) fn journal(&self) -> Vec<String> {
        let line = |(key, bytes): (&String, &Vec<u8>)| {
            let record = SessionRecord::from_bytes(bytes).expect("a machine wrote it");
            format!("{key} of start {} is {:?}", record.start, record.state)
        };
        self.journal.iter().map(line).collect()
    }

    /// Sessions that the journal knows and that are open.
    pub(crate) fn journalled_and_open(&self) -> Vec<&str> {
        let open = self.tunnel.open_sessions().into_iter();
        open.filter(|id| self.journal.contains_key(*id)).collect()
    }
}

fn record_label(append: &JournalAppend) -> String {
    match SessionRecord::from_bytes(&append.record) {
        Ok(record) => format!("{:?} {}", record.state, record.id).to_lowercase(),
        Err(_) => format!("nothing for {}", append.key),
    }
}
