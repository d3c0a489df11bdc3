//! The service, as badly as it may behave: it carries out what reaches it, whenever that is, and
//! forgets and drops sessions as its rules allow.
//!
//! Invariant: a session that has ended takes no pack, and a commit shows all of a session at once,
//! unless the plan breaks just that.

use crate::message::{Answered, Name, Op, Status};
use crate::plan::{Assumption, Order, Plan};
use crate::task::{BUCKETS, KEYS};

/// The fate of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fate {
    Aborted,
    Committed,
    Dropped,
    /// The first bucket is visible; only if commits are not atomic.
    Half,
    Open,
}

/// The newest row of a key: its position plus one, zero for none, and when it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Newest {
    row: u8,
    came: u8,
}

/// One session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Session {
    /// The start that asked for it.
    pub(crate) start: u8,
    pub(crate) fate: Fate,
    /// Whether it is no longer known by its id.
    pub(crate) forgotten: bool,
    /// Whether its id was ever durable in the journal.
    pub(crate) recorded: bool,
    /// Its name, as the coordinator gave it out.
    pub(crate) name: Option<Name>,
    created: u8,
    contact: u8,
    rows: [Newest; KEYS],
    /// The writer of each bucket: start and index plus one.
    writers: [(u8, u8); BUCKETS as usize],
}

/// One visible row: its position plus one, and by what it came there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Visible {
    pub(crate) row: u8,
    session: u8,
    came: u8,
}

/// The service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Tunnel {
    pub(crate) sessions: Vec<Session>,
    pub(crate) table: [Visible; KEYS],
    came: u8,
}

/// Who asks, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker {
    pub(crate) start: u8,
    pub(crate) writer: u8,
    pub(crate) hour: u8,
}

/// The effects of a request, beside its answer.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// Rows that became visible: key, position plus one before, and now.
    pub(crate) changes: Vec<(u8, u8, u8)>,
    /// The session whose commit this was, if it had not been committed before.
    pub(crate) committed: Option<u8>,
    /// Whether only a part of a session became visible.
    pub(crate) half: bool,
    /// Whether a second session was asked for where the service has one.
    pub(crate) second_session: bool,
    /// Whether a second writer wrote to a bucket of a session.
    pub(crate) two_writers: bool,
}

impl Session {
    /// Clears its content, which has no further meaning.
    fn end(&mut self) {
        (self.created, self.contact) = (0, 0);
        (self.rows, self.writers) = Default::default();
    }
}

impl Tunnel {
    /// Carries a request out.
    pub(crate) fn apply(&mut self, plan: &Plan, op: Op, asker: Asker) -> (Answered, Done) {
        let mut done = Done::default();
        let answered = match op {
            Op::Create => {
                let open = |held: &Session| held.fate == Fate::Open;
                done.second_session = plan.one_session && self.sessions.iter().any(open);
                self.create(asker)
            }
            Op::Put { session, bucket, rows } => {
                self.put(plan, session, bucket, rows, asker, &mut done)
            }
            Op::Abort(number) | Op::Status(number) if self.is_half(number) => {
                // The service ends what it has begun.
                self.commit(plan, number, asker, &mut done);
                if matches!(op, Op::Abort(_)) { Answered::Refused } else { self.status(number) }
            }
            Op::Abort(number) => self.abort(plan, number),
            Op::Append(_) => unreachable!("the journal is no part of the service"),
            Op::Commit(number) => self.commit(plan, number, asker, &mut done),
            Op::Status(number) => self.status(number),
        };
        (answered, done)
    }

    fn is_half(&self, number: u8) -> bool {
        self.sessions[number as usize].fate == Fate::Half
    }

    fn create(&mut self, asker: Asker) -> Answered {
        let number = u8::try_from(self.sessions.len()).expect("the bounds keep it small");
        assert!(number < 32, "sessions are bits of a u32");
        self.sessions.push(Session {
            start: asker.start,
            fate: Fate::Open,
            forgotten: false,
            recorded: false,
            name: None,
            created: asker.hour,
            contact: asker.hour,
            rows: Default::default(),
            writers: Default::default(),
        });
        Answered::Session(number, Status::Normal)
    }

    fn put(
        &mut self,
        plan: &Plan,
        number: u8,
        bucket: u8,
        rows: u16,
        asker: Asker,
        done: &mut Done,
    ) -> Answered {
        let held = &mut self.sessions[number as usize];
        let ended = matches!(held.fate, Fate::Aborted | Fate::Committed | Fate::Half);
        if held.fate != Fate::Open
            && !(ended && plan.is_broken(Assumption::EndedSessionsRefusePacks))
        {
            return if held.forgotten || held.fate == Fate::Dropped {
                Answered::NoSuchSession
            } else {
                Answered::Refused
            };
        }
        let writer = (asker.start, asker.writer + 1);
        let owner = &mut held.writers[bucket as usize];
        done.two_writers = owner.1 != 0 && *owner != writer;
        *owner = writer;
        held.contact = asker.hour;
        for position in (0..plan.rows()).filter(|position| rows >> position & 1 == 1) {
            if plan.order == Order::Arrival {
                self.came += 1;
            }
            let key = plan.log[position as usize];
            self.sessions[number as usize].rows[key as usize] =
                Newest { row: position + 1, came: self.came };
            if self.sessions[number as usize].fate == Fate::Committed {
                self.show(plan, number, key, done);
            }
        }
        Answered::Done
    }

    fn abort(&mut self, plan: &Plan, number: u8) -> Answered {
        let held = &mut self.sessions[number as usize];
        match held.fate {
            _ if held.forgotten => Answered::NoSuchSession,
            Fate::Dropped => Answered::NoSuchSession,
            Fate::Committed | Fate::Half => Answered::Refused,
            Fate::Aborted | Fate::Open => {
                held.fate = Fate::Aborted;
                held.forgotten = plan.forgets;
                held.end();
                Answered::Done
            }
        }
    }

    fn commit(&mut self, plan: &Plan, number: u8, asker: Asker, done: &mut Done) -> Answered {
        let held = &mut self.sessions[number as usize];
        if held.forgotten {
            return Answered::NoSuchSession;
        }
        held.contact = asker.hour;
        let buckets = match held.fate {
            Fate::Aborted | Fate::Committed => return self.status(number),
            Fate::Dropped => return Answered::NoSuchSession,
            Fate::Open if plan.is_broken(Assumption::CommitIsAtomic) => {
                held.fate = Fate::Half;
                0..1
            }
            Fate::Half => 1..BUCKETS,
            Fate::Open => 0..BUCKETS,
        };
        let whole = buckets.end == BUCKETS;
        if whole {
            held.fate = Fate::Committed;
            held.forgotten = plan.forgets;
            done.committed = Some(number);
        }
        for key in (0..KEYS as u8).filter(|key| buckets.contains(&(key % BUCKETS))) {
            self.show(plan, number, key, done);
        }
        done.half |= !whole;
        if whole {
            self.sessions[number as usize].end();
        }
        Answered::Session(number, if whole { Status::Committed } else { Status::Committing })
    }

    fn status(&self, number: u8) -> Answered {
        let held = &self.sessions[number as usize];
        let status = match held.fate {
            Fate::Aborted => Status::Aborted,
            Fate::Committed => Status::Committed,
            Fate::Half => Status::Committing,
            Fate::Open => Status::Normal,
            Fate::Dropped => return Answered::NoSuchSession,
        };
        if held.forgotten { Answered::NoSuchSession } else { Answered::Session(number, status) }
    }

    /// Shows what a session holds of a key, if that wins.
    fn show(&mut self, plan: &Plan, number: u8, key: u8, done: &mut Done) {
        let newest = self.sessions[number as usize].rows[key as usize];
        if newest.row == 0 {
            return;
        }
        let cell = &mut self.table[key as usize];
        let wins = match plan.order {
            Order::Arrival => cell.came <= newest.came,
            Order::Commit => true,
            Order::Creation => cell.session <= number + 1,
        };
        if wins {
            done.changes.push((key, cell.row, newest.row));
            let by_creation = plan.order == Order::Creation;
            let session = if by_creation { number + 1 } else { 0 };
            *cell = Visible { row: newest.row, session, came: newest.came };
        }
    }

    /// Whether the service may drop a session now.
    pub(crate) fn may_drop(&self, plan: &Plan, number: u8, hour: u8) -> bool {
        let held = &self.sessions[number as usize];
        held.fate == Fate::Open
            && (hour - held.created >= 24
                || hour - held.contact >= 2
                || plan.is_broken(Assumption::YoungSessionsStay))
    }

    /// The service drops a session.
    pub(crate) fn drop_session(&mut self, number: u8) {
        let held = &mut self.sessions[number as usize];
        held.fate = Fate::Dropped;
        held.end();
    }
}
