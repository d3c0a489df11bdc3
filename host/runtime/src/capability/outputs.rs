//! The outputs of a guest's call: every import that it called with its arguments, in order, and
//! what it returned.
//!
//! Noted by `capability/` and `instance.rs` while the guest runs, made into text and a digest later
//! and elsewhere. Invariant: bytes are shown by their length and digest, so that text stays short;
//! the digest is over everything, the text that is kept may be cut.

use std::fmt::Write;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::bindings::{committer, coordinator, telemetry, writer};
use crate::error::{Error, escape};
use crate::operation::{Operation, SubmittedBody};

/// The outputs of one call so far.
#[derive(Debug, Default)]
pub(crate) struct CallOutputs {
    /// Its requests to the host, and its result.
    effects: Vec<Line>,
    /// Its lines and counts for the operator.
    telemetry: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    text: String,
    bytes: Option<Bytes>,
}

/// The imports that a guest calls.
impl CallOutputs {
    pub(crate) fn submitted(&mut self, ticket: u64, operation: &Operation) {
        let name = operation.name();
        match operation {
            Operation::CreatePartition(partition) => {
                self.act(format!("submit {ticket} {name} {partition}"));
            }
            Operation::CreateSession { partition, lifecycle_hours, slots } => self.act(format!(
                "submit {ticket} {name} partition {partition} for {lifecycle_hours} h, \
                 slots {slots}"
            )),
            Operation::PutPack(pack) => {
                let (session, partition) = (&pack.session.id, &pack.session.partition);
                let (bucket, records) = (pack.bucket, pack.records);
                let text = format!(
                    "submit {ticket} {name} session {session} partition {partition} bucket \
                     {bucket} records {records}"
                );
                match &pack.body {
                    // Shared with the operation, which goes on its way meanwhile.
                    SubmittedBody::Held(body) => {
                        self.effects.push(Line { text, bytes: body.plain_form() });
                    }
                    SubmittedBody::Cached(cached) => self.act(format!("{text}, {cached:?}")),
                }
            }
            Operation::CompactPartition(partition) => {
                self.act(format!("submit {ticket} {name} {partition}"));
            }
            Operation::CommitSession(session)
            | Operation::AbortSession(session)
            | Operation::SessionStatus(session) => {
                let (id, partition) = (&session.id, &session.partition);
                self.act(format!("submit {ticket} {name} session {id} partition {partition}"));
            }
        }
    }

    pub(crate) fn appended(&mut self, ticket: u64, key: &str, bytes: &[u8]) {
        self.act_on(&format!("journal-append {ticket} key {key}"), bytes);
    }

    /// Bytes that are not kept are noted by their number only.
    pub(crate) fn not_appended(&mut self, ticket: u64, key: usize, bytes: usize) {
        self.act(format!("journal-append {ticket} key of {key} bytes, {bytes} bytes"));
    }

    /// The same of the file cache.
    pub(crate) fn cached(&mut self, ticket: u64, name: &str, segment: u64, bytes: u64) {
        self.act(format!("{name} {ticket} segment {segment}, {bytes} bytes"));
    }

    pub(crate) fn segment_dropped(&mut self, segment: u64) {
        self.act(format!("drop-segment {segment}"));
    }

    pub(crate) fn repeated(&mut self, ticket: u64) {
        self.act(format!("repeat {ticket}"));
    }

    pub(crate) fn released(&mut self, ticket: u64) {
        self.act(format!("release {ticket}"));
    }

    pub(crate) fn timer_set(&mut self, deadline_ms: Option<u64>) {
        self.act(match deadline_ms {
            Some(deadline_ms) => format!("timer at {deadline_ms}"),
            None => String::from("no timer"),
        });
    }

    pub(crate) fn logged(&mut self, level: telemetry::Level, message: &str) {
        self.telemetry.push(Line { text: format!("log {level:?} {message}"), bytes: None });
    }

    pub(crate) fn counted(&mut self, name: &str, value: u64) {
        self.telemetry.push(Line { text: format!("count {name} {value}"), bytes: None });
    }
}

/// The results of calls.
impl CallOutputs {
    pub(crate) fn writer(&mut self, progress: &writer::Progress) {
        for output in &progress.outputs {
            match output {
                writer::Output::DeadLetter(lines) => self.act_on("dead letter", lines),
                writer::Output::Request(body) => self.act_on("request", body),
                writer::Output::Restored(committables) => self.lists("restored", committables),
                writer::Output::Snapshot(taken) => {
                    self.act_on(&format!("snapshot {}", taken.checkpoint), &taken.state);
                    self.lists("committable", &taken.committables);
                }
            }
        }
        let (accepting, held) = (progress.accepting, progress.held_bytes);
        self.act(format!("returned, accepting {accepting}, {held} bytes held"));
    }

    pub(crate) fn coordinator(&mut self, progress: &coordinator::Progress) {
        for reply in &progress.replies {
            self.act_on(&format!("reply to {}", reply.request), &reply.body);
        }
        self.act(format!("returned, serving {}", progress.serving));
    }

    pub(crate) fn committer(&mut self, progress: &committer::Progress) {
        self.lists("known", &progress.known);
        let (pending, committed) = (progress.pending, progress.committed);
        self.act(format!("returned, {pending} pending, committed up to {committed}"));
    }

    pub(crate) fn failed(&mut self, error: &Error) {
        self.act(format!("failed with {:?} at {}: {}", error.kind, error.at, error.message));
    }

    fn act(&mut self, text: String) {
        self.effects.push(Line { text, bytes: None });
    }

    fn act_on(&mut self, text: &str, bytes: &[u8]) {
        let bytes = Some(Bytes::copy_from_slice(bytes));
        self.effects.push(Line { text: String::from(text), bytes });
    }

    fn lists(&mut self, text: &str, lists: &[Vec<u8>]) {
        lists.iter().for_each(|bytes| self.act_on(text, bytes));
    }

    /// The memory that it holds, about.
    pub(crate) fn held_bytes(&self) -> usize {
        let lines = self.effects.iter().chain(&self.telemetry);
        lines.map(|line| 64 + line.text.len() + line.bytes.as_ref().map_or(0, Bytes::len)).sum()
    }

    /// As it is kept and compared.
    pub(crate) fn finish(&self) -> KeptOutputs {
        KeptOutputs { effects: Shown::of(&self.effects), telemetry: Shown::of(&self.telemetry) }
    }
}

/// The outputs of a call, as they are kept and compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptOutputs {
    /// Its requests to the host, and its result.
    pub(crate) effects: Shown,
    /// Its lines and counts for the operator.
    pub(crate) telemetry: Shown,
}

/// Lines, perhaps cut, and a digest of them as they were.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shown {
    pub(crate) digest: [u8; DIGEST_BYTES],
    pub(crate) lines: Vec<String>,
}

impl Shown {
    fn of(lines: &[Line]) -> Self {
        let mut digest = Sha256::new();
        let mut shown = Vec::with_capacity(lines.len().min(LINES_MAX));
        for line in lines {
            let mut text = line.text.clone();
            if let Some(bytes) = &line.bytes {
                write!(text, ", {} bytes, sha256 ", bytes.len()).expect(TEXT_TAKES_ALL);
                for byte in &Sha256::digest(bytes)[..DIGEST_BYTES] {
                    write!(text, "{byte:02x}").expect(TEXT_TAKES_ALL);
                }
            }
            digest.update((text.len() as u64).to_le_bytes());
            digest.update(&text);
            if shown.len() < LINES_MAX {
                shown.push(escape(&text, LINE_CHARACTERS_MAX));
            }
        }
        let digest = *digest.finalize().first_chunk().expect("SHA-256 has more bytes");
        Self { digest, lines: shown }
    }

    /// The first line that differs from that of `other`, of each; none if they are the same.
    pub(crate) fn first_difference(&self, other: &Self) -> Option<(String, String)> {
        if self.digest == other.digest {
            return None;
        }
        let lines = self.lines.len().max(other.lines.len());
        let line = |shown: &Self, at: usize| {
            shown.lines.get(at).cloned().unwrap_or_else(|| String::from(NOTHING))
        };
        let differs = (0..lines).find(|at| self.lines.get(*at) != other.lines.get(*at));
        Some(match differs {
            Some(at) => (line(self, at), line(other, at)),
            None => (String::from(BEYOND), String::from(BEYOND)),
        })
    }
}

const DIGEST_BYTES: usize = 16;
const LINES_MAX: usize = 256;
const LINE_CHARACTERS_MAX: usize = 400;
const NOTHING: &str = "(nothing)";
const BEYOND: &str = "(something else, beyond the text that was kept)";
const TEXT_TAKES_ALL: &str = "a string takes all that is written";
