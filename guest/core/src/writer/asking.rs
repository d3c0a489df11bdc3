//! How a writer keeps the coordinator told, and learns of sessions and commits.
//!
//! Beside a row's way. Invariant: as long as a session is wanted, a commit is not known or a passed
//! barrier was not confirmed, a request is under way or will be after a pause; a reply to anything
//! but the newest request changes nothing.

use alloc::format;
use alloc::vec::Vec;

use crate::error::Error;
use crate::exchange::{Reply, Request};
use crate::id::{Millis, WriterIndex};
use crate::ignored::Ignored;
use crate::io::{Task, WriterOutput};
use crate::session::{SessionName, check_fit, check_partial};
use crate::writer::Writer;

/// After this long without a reply the writer asks again. The coordinator holds a request until it
/// has news, so this only matters for requests and replies that were lost.
const ASK_AGAIN: Millis = Millis(5_000);

/// Where the exchange with the coordinator stands.
#[derive(Clone, Debug)]
pub(crate) struct Asking {
    start: u64,
    nonce: u64,
    writer: WriterIndex,
    number: u64,
    /// Whether something has changed since the newest request.
    changed: bool,
    /// When the newest request was sent, until it is replied to.
    unanswered_since: Option<Millis>,
}

impl Asking {
    /// Nothing was asked yet; the first request is due at once, for the coordinator waits for every
    /// writer's.
    pub(crate) fn new(task: &Task) -> Self {
        Self {
            start: task.start,
            nonce: task.nonce,
            writer: task.index,
            number: 0,
            changed: true,
            unanswered_since: None,
        }
    }

    /// Something has changed that the coordinator must learn.
    pub(crate) fn tell(&mut self) {
        self.changed = true;
    }
}

impl Writer {
    /// When to ask again.
    pub(crate) fn ask_deadline(&self) -> Option<Millis> {
        self.asking.unanswered_since.map(|since| since.plus(ASK_AGAIN))
    }

    /// Asks if something changed, or if the newest request was left without a reply.
    pub(crate) fn ask_if_due(&mut self, now: Millis) {
        let late = self.ask_deadline().is_some_and(|deadline| deadline <= now);
        if !self.asking.changed && !late {
            return;
        }
        self.asking.number += 1;
        self.asking.changed = false;
        self.asking.unanswered_since = Some(now);
        let request = Request {
            start: self.asking.start,
            nonce: self.asking.nonce,
            writer: self.asking.writer,
            number: self.asking.number,
            passed: self.checkpoint.passed(),
            pending: self.committables.values().map(|held| held.session.clone()).collect(),
            wanted: self.wanted(),
        };
        self.outputs.push_back(WriterOutput::Request(request.to_bytes()));
    }

    fn wanted(&self) -> Vec<SessionName> {
        let awaited = self.partitions.iter().filter_map(|partition| partition.session.awaited());
        awaited.cloned().collect()
    }

    /// Takes the coordinator's reply.
    pub(crate) fn take_reply(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let reply = Reply::from_bytes(bytes)?;
        if (reply.start, reply.nonce) != (self.asking.start, self.asking.nonce) {
            self.ignore(Ignored::ForeignStart);
            return Ok(());
        }
        if reply.number != self.asking.number || self.asking.unanswered_since.is_none() {
            // What it grants or knows is told again in the reply to the newest request.
            self.ignore(Ignored::LateReply);
            return Ok(());
        }
        self.asking.unanswered_since = None;
        self.committables.retain(|_, held| !reply.known.contains(&held.session));
        for grant in &reply.granted {
            self.path.check_session(|buckets, hasher, columns| {
                check_fit(&grant.info, buckets, hasher, columns)
            })?;
            if let Some(rows) = &self.partial {
                check_partial(&grant.info, rows.table())?;
            }
            let mut partitions = self.partitions.iter_mut();
            if !partitions.any(|partition| partition.session.grant(grant)) {
                let message = format!("session {} was granted unasked", grant.info.id);
                return Err(Error::bug("coordinator", message));
            }
        }
        // What is still open is asked for again at once: the coordinator holds the request until it
        // knows more.
        if !self.committables.is_empty() || !self.wanted().is_empty() {
            self.asking.changed = true;
        }
        Ok(())
    }
}
