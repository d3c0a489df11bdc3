//! What an instance is called with, as bytes that are kept and as words for people.
//!
//! Between `instance.rs`, which is called, and `entry.rs`. Invariant: everything that a call
//! depends on is in it; what is encoded is decoded to the same.

use std::fmt;

use upsert_sink_core::io::BarrierKind;
use upsert_sink_core::io::CheckpointOutcome;
use upsert_sink_core::io::CommitterInput;
use upsert_sink_core::io::Completion;
use upsert_sink_core::io::CoordinatorInput;
use upsert_sink_core::io::Task;
use upsert_sink_core::io::WriterInput;
use upsert_sink_format::id::CheckpointId;
use upsert_sink_format::id::Millis;
use upsert_sink_format::id::Ticket;
use upsert_sink_format::id::WriterIndex;
use upsert_sink_format::tunnel::Answer;
use upsert_sink_format::tunnel::Outcome;
use upsert_sink_format::tunnel::Refusal;
use upsert_sink_format::tunnel::RefusalKind;
use upsert_sink_format::tunnel::SessionInfo;
use upsert_sink_format::tunnel::SessionStatus;
use upsert_sink_format::tunnel::TableDescription;

use crate::recording::codec::Decoder;
use crate::recording::codec::Encoder;
use crate::recording::codec::Read;

/// The argument of one call.
#[derive(Clone, Debug)]
pub(crate) enum Input<'a> {
    CommitterOpened(Task, Vec<Vec<u8>>),
    Committer(CommitterInput),
    CoordinatorOpened(Task, Vec<Vec<u8>>),
    Coordinator(CoordinatorInput<'a>),
    WriterOpened(Task, Vec<Vec<u8>>),
    Writer(WriterInput<'a>),
}

macro_rules! tags {
    ($($name:ident = $tag:literal;)+) => {
        $(const $name: u8 = $tag;)+
    };
}

tags! {
    WRITER_OPENED = 0;
    WRITER_BARRIER = 1;
    WRITER_ENDED = 2;
    WRITER_COMPLETED = 3;
    WRITER_REPLIED = 4;
    WRITER_ROWS = 5;
    WRITER_TIMER = 6;
    COORDINATOR_OPENED = 16;
    COORDINATOR_COMPLETED = 17;
    COORDINATOR_KNOWN = 18;
    COORDINATOR_REQUESTED = 19;
    COORDINATOR_TIMER = 20;
    COMMITTER_OPENED = 32;
    COMMITTER_ENDED = 33;
    COMMITTER_COMPLETED = 34;
    COMMITTER_PREPARED = 35;
    COMMITTER_TIMER = 36;
}

/// An enum without data, as its place in a list of all its variants.
macro_rules! places {
    ($all:ident: $kind:ident [$($variant:ident),+]) => {
        const $all: &[$kind] = &[$($kind::$variant),+];
    };
}

places! { BARRIERS: BarrierKind [Checkpoint, Savepoint] }
places! { ENDS: CheckpointOutcome [Aborted, Completed] }
places! {
    STATUSES: SessionStatus [Aborted, Committed, Committing, Critical, Expired, Normal]
}
places! {
    REFUSALS: RefusalKind [
        Denied, Full, Invalid, Moved, NoSuchPartition, NoSuchSession, NotSent, SlowDown, Transient
    ]
}

impl<'a> Input<'a> {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::default();
        match self {
            Self::WriterOpened(task, states) => {
                out.byte(WRITER_OPENED);
                out.task(task);
                out.lists(states);
            }
            Self::CoordinatorOpened(task, journal) => {
                out.byte(COORDINATOR_OPENED);
                out.task(task);
                out.lists(journal);
            }
            Self::CommitterOpened(task, journal) => {
                out.byte(COMMITTER_OPENED);
                out.task(task);
                out.lists(journal);
            }
            Self::Writer(input) => out.writer(input),
            Self::Coordinator(input) => out.coordinator(input),
            Self::Committer(input) => out.committer(input),
        }
        out.0
    }

    pub(crate) fn decode(bytes: &'a [u8]) -> Read<Self> {
        let mut read = Decoder(bytes);
        let input = match read.byte()? {
            WRITER_OPENED => Self::WriterOpened(read.task()?, read.lists()?),
            COORDINATOR_OPENED => Self::CoordinatorOpened(read.task()?, read.lists()?),
            COMMITTER_OPENED => Self::CommitterOpened(read.task()?, read.lists()?),
            tag @ ..COORDINATOR_OPENED => Self::Writer(read.writer(tag)?),
            tag @ ..COMMITTER_OPENED => Self::Coordinator(read.coordinator(tag)?),
            tag => Self::Committer(read.committer(tag)?),
        };
        read.end().map(|()| input)
    }

    /// Rows in it, as the header of a batch counts them.
    pub(crate) fn rows(&self) -> u64 {
        match self {
            Self::Writer(WriterInput::RowsArrived(batch)) => rows(batch),
            _ => 0,
        }
    }
}

fn rows(batch: &[u8]) -> u64 {
    let counted = batch.get(8..12).and_then(|bytes| bytes.first_chunk());
    counted.map_or(0, |bytes| u64::from(u32::from_le_bytes(*bytes)))
}

impl fmt::Display for Input<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = |lists: &[Vec<u8>]| lists.iter().map(Vec::len).sum::<usize>();
        match self {
            Self::WriterOpened(task, states) => {
                let (start, count) = (task.start, states.len());
                write!(f, "open, start {start}, {count} states of {} bytes", bytes(states))
            }
            Self::CoordinatorOpened(task, journal) | Self::CommitterOpened(task, journal) => {
                let (start, count) = (task.start, journal.len());
                write!(f, "open, start {start}, {count} records of {} bytes", bytes(journal))
            }
            Self::Writer(WriterInput::BarrierArrived(id, kind)) => {
                write!(f, "barrier {id} of a {kind:?}")
            }
            Self::Writer(WriterInput::CheckpointEnded(id, how))
            | Self::Committer(CommitterInput::CheckpointEnded(id, how)) => {
                write!(f, "checkpoint {id}: {how:?}")
            }
            Self::Writer(WriterInput::Completed(Completion { ticket, outcome }))
            | Self::Coordinator(CoordinatorInput::Completed(Completion { ticket, outcome }))
            | Self::Committer(CommitterInput::Completed(Completion { ticket, outcome })) => {
                write!(f, "ticket {ticket}: {outcome:?}")
            }
            Self::Writer(WriterInput::Replied(reply)) => write!(f, "reply, {} bytes", reply.len()),
            Self::Writer(WriterInput::RowsArrived(batch)) => {
                write!(f, "{} rows, {} bytes", rows(batch), batch.len())
            }
            Self::Coordinator(CoordinatorInput::KnownCommits(known)) => {
                write!(f, "known commits, {} bytes", known.len())
            }
            Self::Coordinator(CoordinatorInput::Requested(request, body)) => {
                write!(f, "request {request}, {} bytes", body.len())
            }
            Self::Committer(CommitterInput::Prepared(id, committables)) => {
                let (count, bytes) = (committables.len(), bytes(committables));
                write!(f, "checkpoint {id} prepared, {count} committables of {bytes} bytes")
            }
            Self::Writer(WriterInput::TimerFired)
            | Self::Coordinator(CoordinatorInput::TimerFired)
            | Self::Committer(CommitterInput::TimerFired) => f.write_str("timer"),
        }
    }
}

impl Encoder {
    fn place<T: PartialEq>(&mut self, all: &[T], one: &T) {
        let place = all.iter().position(|other| other == one);
        let place = place.and_then(|place| u8::try_from(place).ok());
        self.byte(place.expect("every variant is in its list"));
    }

    fn task(&mut self, task: &Task) {
        self.text(&task.identity);
        self.number(task.start);
        self.number(task.nonce);
        self.number(u64::from(task.parallelism));
        self.number(u64::from(task.index.0));
        let pair = |out: &mut Self, (first, second): &(String, String)| {
            out.text(first);
            out.text(second);
        };
        self.list(&task.options, pair);
        self.list(&task.columns, pair);
        self.text(&task.table.name);
        self.columns(&task.table.columns);
        self.columns(&task.table.partition_columns);
        self.list(&task.table.primary_key, |out, name| out.text(name));
        self.number(u64::from(task.table.buckets));
        self.flag(task.local);
        self.number(task.checkpoint_interval.0);
        self.flag(task.before_images);
    }

    fn lists(&mut self, lists: &[Vec<u8>]) {
        self.list(lists, |out, bytes| out.bytes(bytes));
    }

    fn writer(&mut self, input: &WriterInput<'_>) {
        match input {
            WriterInput::BarrierArrived(id, kind) => {
                self.byte(WRITER_BARRIER);
                self.number(id.0);
                self.place(BARRIERS, kind);
            }
            WriterInput::CheckpointEnded(id, how) => {
                self.byte(WRITER_ENDED);
                self.number(id.0);
                self.place(ENDS, how);
            }
            WriterInput::Completed(completion) => {
                self.byte(WRITER_COMPLETED);
                self.completion(completion);
            }
            WriterInput::Replied(reply) => {
                self.byte(WRITER_REPLIED);
                self.bytes(reply);
            }
            WriterInput::RowsArrived(batch) => {
                self.0.reserve_exact(batch.len() + 9);
                self.byte(WRITER_ROWS);
                self.bytes(batch);
            }
            WriterInput::TimerFired => self.byte(WRITER_TIMER),
        }
    }

    fn coordinator(&mut self, input: &CoordinatorInput<'_>) {
        match input {
            CoordinatorInput::Completed(completion) => {
                self.byte(COORDINATOR_COMPLETED);
                self.completion(completion);
            }
            CoordinatorInput::KnownCommits(known) => {
                self.byte(COORDINATOR_KNOWN);
                self.bytes(known);
            }
            CoordinatorInput::Requested(request, body) => {
                self.byte(COORDINATOR_REQUESTED);
                self.number(*request);
                self.bytes(body);
            }
            CoordinatorInput::TimerFired => self.byte(COORDINATOR_TIMER),
        }
    }

    fn committer(&mut self, input: &CommitterInput) {
        match input {
            CommitterInput::CheckpointEnded(id, how) => {
                self.byte(COMMITTER_ENDED);
                self.number(id.0);
                self.place(ENDS, how);
            }
            CommitterInput::Completed(completion) => {
                self.byte(COMMITTER_COMPLETED);
                self.completion(completion);
            }
            CommitterInput::Prepared(id, committables) => {
                self.byte(COMMITTER_PREPARED);
                self.number(id.0);
                self.lists(committables);
            }
            CommitterInput::TimerFired => self.byte(COMMITTER_TIMER),
        }
    }

    fn completion(&mut self, completion: &Completion) {
        self.number(completion.ticket.0);
        match &completion.outcome {
            Outcome::Done(Answer::None) => self.byte(0),
            Outcome::Done(Answer::Session(session)) => {
                self.byte(1);
                self.text(&session.id.0);
                self.place(STATUSES, &session.status);
                self.number(u64::from(session.buckets));
                self.text(&session.hasher);
                self.list(&session.hash_key, |out, name| out.text(name));
                self.columns(&session.columns);
                self.list(&session.column_ids, |out, id| out.number(id.cast_unsigned()));
                self.flag(session.partial_update);
            }
            Outcome::InDoubt(why) => {
                self.byte(2);
                self.text(why);
            }
            Outcome::Refused(refusal) => {
                self.byte(3);
                self.place(REFUSALS, &refusal.kind);
                self.text(&refusal.code);
                self.text(&refusal.message);
                self.text(&refusal.request_id);
                self.number(refusal.retry_after.0);
            }
            Outcome::Done(Answer::Bytes(bytes)) => {
                self.byte(4);
                self.bytes(bytes);
            }
        }
    }
}

impl<'a> Decoder<'a> {
    fn place<T: Copy>(&mut self, all: &[T]) -> Read<T> {
        let place = usize::from(self.byte()?);
        all.get(place).copied().ok_or("a word is not known")
    }

    fn task(&mut self) -> Read<Task> {
        let pair = |read: &mut Self| Ok((read.text()?, read.text()?));
        Ok(Task {
            identity: self.text()?,
            start: self.number()?,
            nonce: self.number()?,
            parallelism: self.small()?,
            index: WriterIndex(self.small()?),
            options: self.list(pair)?,
            columns: self.list(pair)?,
            table: TableDescription {
                name: self.text()?,
                columns: self.columns()?,
                partition_columns: self.columns()?,
                primary_key: self.list(Self::text)?,
                buckets: self.small()?,
            },
            local: self.flag()?,
            checkpoint_interval: Millis(self.number()?),
            before_images: self.flag()?,
        })
    }

    fn lists(&mut self) -> Read<Vec<Vec<u8>>> {
        self.list(|read| Ok(read.bytes()?.to_vec()))
    }

    fn writer(&mut self, tag: u8) -> Read<WriterInput<'a>> {
        Ok(match tag {
            WRITER_BARRIER => {
                WriterInput::BarrierArrived(CheckpointId(self.number()?), self.place(BARRIERS)?)
            }
            WRITER_ENDED => {
                WriterInput::CheckpointEnded(CheckpointId(self.number()?), self.place(ENDS)?)
            }
            WRITER_COMPLETED => WriterInput::Completed(self.completion()?),
            WRITER_REPLIED => WriterInput::Replied(self.bytes()?),
            WRITER_ROWS => WriterInput::RowsArrived(self.bytes()?),
            WRITER_TIMER => WriterInput::TimerFired,
            _ => return Err("a call of a writer is not known"),
        })
    }

    fn coordinator(&mut self, tag: u8) -> Read<CoordinatorInput<'a>> {
        Ok(match tag {
            COORDINATOR_COMPLETED => CoordinatorInput::Completed(self.completion()?),
            COORDINATOR_KNOWN => CoordinatorInput::KnownCommits(self.bytes()?),
            COORDINATOR_REQUESTED => CoordinatorInput::Requested(self.number()?, self.bytes()?),
            COORDINATOR_TIMER => CoordinatorInput::TimerFired,
            _ => return Err("a call of a coordinator is not known"),
        })
    }

    fn committer(&mut self, tag: u8) -> Read<CommitterInput> {
        Ok(match tag {
            COMMITTER_ENDED => {
                CommitterInput::CheckpointEnded(CheckpointId(self.number()?), self.place(ENDS)?)
            }
            COMMITTER_COMPLETED => CommitterInput::Completed(self.completion()?),
            COMMITTER_PREPARED => {
                CommitterInput::Prepared(CheckpointId(self.number()?), self.lists()?)
            }
            COMMITTER_TIMER => CommitterInput::TimerFired,
            _ => return Err("a call of a committer is not known"),
        })
    }

    fn completion(&mut self) -> Read<Completion> {
        let ticket = Ticket(self.number()?);
        let outcome = match self.byte()? {
            0 => Outcome::Done(Answer::None),
            1 => Outcome::Done(Answer::Session(SessionInfo {
                id: self.session()?,
                status: self.place(STATUSES)?,
                buckets: self.small()?,
                hasher: self.text()?,
                hash_key: self.list(Self::text)?,
                columns: self.columns()?,
                column_ids: self.list(|read| Ok(read.number()?.cast_signed()))?,
                partial_update: self.flag()?,
            })),
            2 => Outcome::InDoubt(self.text()?),
            3 => Outcome::Refused(Refusal {
                kind: self.place(REFUSALS)?,
                code: self.text()?,
                message: self.text()?,
                request_id: self.text()?,
                retry_after: Millis(self.number()?),
            }),
            4 => Outcome::Done(Answer::Bytes(self.bytes()?.to_vec())),
            _ => return Err("an outcome is not known"),
        };
        Ok(Completion { ticket, outcome })
    }
}
