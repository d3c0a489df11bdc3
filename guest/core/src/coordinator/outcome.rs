//! The outcomes of the coordinator's operations at the Tunnel, and of its appends to the journal.
//!
//! Operations begin in the coordinator and in `recovery`, and end here. Invariant: an outcome in
//! doubt is repeated, but for an append, after which nothing may be handed out: the attempt ends.

use alloc::format;
use alloc::string::String;

use upsert_sink_format::error::{Error, ErrorKind};
use upsert_sink_format::id::Millis;
use upsert_sink_format::tunnel::{Answer, Operation, Outcome, Refusal, RefusalKind, SessionRef};

use super::recovery::Retired;
use super::{Coordinator, PartitionFrom, Recorded, SessionOperation, Standing};
use crate::io::{Completion, Level};
use crate::journal::{self, JournalState};
use crate::operation::{Purpose, Submitted};
use crate::retry::Pause;
use crate::session::{Grant, SessionName};

impl Coordinator {
    pub(super) fn complete(&mut self, now: Millis, completion: Completion) -> Result<(), Error> {
        let Some((operation, outcome)) = self.operations.take(completion, &mut self.outputs) else {
            return Ok(());
        };
        match (operation.purpose.clone(), outcome) {
            (SessionOperation::Journal(recorded), outcome) => {
                self.recorded(now, recorded, &outcome)
            }
            (_, Outcome::Done(answer)) => {
                let purpose = operation.release(&mut self.outputs);
                self.done(now, purpose, answer)
            }
            // Repeating is harmless for all four: a session that was created without our learning
            // its id holds nothing, and its lifecycle ends it.
            (_, Outcome::InDoubt(doubt)) => {
                self.operations.put_off(now, operation, Pause::Doubt, &doubt)
            }
            (purpose, Outcome::Refused(refusal)) => self.refused(now, operation, purpose, &refusal),
        }
    }

    /// An append to the journal has an outcome.
    fn recorded(
        &mut self,
        now: Millis,
        recorded: Recorded,
        outcome: &Outcome,
    ) -> Result<(), Error> {
        journal::check_durable(place_of_record(&recorded), outcome)?;
        match recorded {
            Recorded::Aborting(retired) => self.send_abort(now, retired),
            Recorded::Created(grant) => {
                if grant.name.barrier < self.passed_by_all() {
                    // All have left it meanwhile: nobody may want it any more.
                    self.agenda.make_stale();
                }
                self.sessions.insert(grant.name.clone(), Standing::Open(grant));
                self.waiting().for_each(|view| view.news.add_opened());
            }
            Recorded::Ended(_) => {}
            Recorded::Forgotten(_) => self.forget_past(now),
        }
        Ok(())
    }

    fn done(
        &mut self,
        now: Millis,
        purpose: SessionOperation,
        answer: Answer,
    ) -> Result<(), Error> {
        match (purpose, answer) {
            (SessionOperation::CreateSession(name, created_at, _), Answer::Session(info)) => {
                let session = SessionRef { id: info.id.clone(), partition: name.partition.clone() };
                let of = (session, name.start);
                let grant = Grant { name, created_at, info };
                self.record(now, of, JournalState::Open, Recorded::Created(grant));
            }
            (SessionOperation::CreatePartition(name), Answer::None | Answer::Session(_)) => {
                self.create(now, name, PartitionFrom::Creation);
            }
            (SessionOperation::AbortSession(retired), Answer::None | Answer::Session(_)) => {
                self.gone(now, retired, JournalState::Aborted);
            }
            (SessionOperation::SessionStatus(retired), Answer::Session(info)) => {
                self.retire_by_status(now, retired, &info);
            }
            (
                SessionOperation::CreateSession(..) | SessionOperation::SessionStatus(_),
                Answer::None,
            )
            | (_, Answer::Bytes(_)) => {
                return Err(Error::bug("tunnel", "the host answered without a session"));
            }
            (SessionOperation::Journal(_), Answer::None | Answer::Session(_)) => {
                return Err(Error::bug("coordinator", "a record was taken for an operation"));
            }
        }
        Ok(())
    }

    fn refused(
        &mut self,
        now: Millis,
        operation: Submitted<SessionOperation>,
        purpose: SessionOperation,
        refusal: &Refusal,
    ) -> Result<(), Error> {
        match (refusal.kind, purpose) {
            (
                RefusalKind::Moved
                | RefusalKind::NotSent
                | RefusalKind::SlowDown
                | RefusalKind::Transient,
                _,
            ) => {
                let pause = Pause::Refused(refusal);
                self.operations.put_off(now, operation, pause, &refusal.message)
            }
            (
                RefusalKind::NoSuchPartition,
                SessionOperation::CreateSession(name, _, PartitionFrom::Before),
            ) => {
                operation.release(&mut self.outputs);
                let operation = Operation::CreatePartition(name.partition.clone());
                self.submit(now, SessionOperation::CreatePartition(name), operation);
                Ok(())
            }
            // The service may be slow to show what it created. It is waited for, not created again:
            // the two would follow each other without a pause or an end.
            (
                RefusalKind::NoSuchPartition,
                SessionOperation::CreateSession(_, _, PartitionFrom::Creation),
            ) => {
                let cause = format!(
                    "the service answered that it created the partition, and then that there is \
                     none: {} {} (request {})",
                    refusal.code, refusal.message, refusal.request_id
                );
                self.operations.put_off(now, operation, Pause::Refused(refusal), &cause)
            }
            (RefusalKind::Invalid, SessionOperation::CreateSession(name, ..)) if !self.overlap => {
                self.blocked(now, operation, &name, refusal)
            }
            (
                RefusalKind::NoSuchPartition | RefusalKind::NoSuchSession,
                SessionOperation::AbortSession(retired) | SessionOperation::SessionStatus(retired),
            ) => {
                operation.release(&mut self.outputs);
                self.gone(now, retired, JournalState::Aborted);
                Ok(())
            }
            (RefusalKind::Invalid, SessionOperation::AbortSession(retired)) => {
                operation.release(&mut self.outputs);
                let operation = Operation::SessionStatus(retired.session.clone());
                self.submit(now, SessionOperation::SessionStatus(retired), operation);
                Ok(())
            }
            (
                RefusalKind::Denied
                | RefusalKind::Full
                | RefusalKind::Invalid
                | RefusalKind::NoSuchPartition
                | RefusalKind::NoSuchSession,
                _,
            ) => Err(self.refusal_error(&operation, refusal)),
        }
    }

    /// The partition may have an open session that nobody knows of: one whose creation got no
    /// answer. It ends by its age, so this is asked again.
    fn blocked(
        &mut self,
        now: Millis,
        operation: Submitted<SessionOperation>,
        name: &SessionName,
        refusal: &Refusal,
    ) -> Result<(), Error> {
        let cause = format!(
            "{} {} (request {}); if a session whose creation got no answer is in the way, it ends \
             after sink.session.lifecycle = {} h",
            refusal.code, refusal.message, refusal.request_id, self.lifecycle_hours
        );
        self.outputs
            .log(Level::Warn, format!("partition {}: no new session: {cause}", name.partition));
        self.operations.put_off(now, operation, Pause::Refused(refusal), &cause)
    }

    fn refusal_error(&self, operation: &Submitted<SessionOperation>, refusal: &Refusal) -> Error {
        let what = match &operation.purpose {
            SessionOperation::AbortSession(..) => "to abort a session",
            SessionOperation::CreatePartition(_) => "to create the partition",
            SessionOperation::CreateSession(..) => "to create a session",
            SessionOperation::Journal(_) => "to take a record",
            SessionOperation::SessionStatus(..) => "to tell a session's status",
        };
        let mut remedy = String::from("correct the table or the permissions");
        if let SessionOperation::CreateSession(name, ..) = &operation.purpose
            && refusal.kind == RefusalKind::Invalid
            && self.of_partition(&name.partition).any(|(other, _)| other != name)
        {
            remedy.push_str(
                "; if the service refuses a second open session of a partition, set \
                 sink.session.overlap = false",
            );
        }
        operation.refused(refusal, ErrorKind::InvalidConfig, what, &remedy)
    }
}

impl Purpose for SessionOperation {
    type Patience = Millis;

    fn place(&self) -> String {
        match self {
            Self::AbortSession(Retired { session, .. })
            | Self::SessionStatus(Retired { session, .. }) => {
                format!("session {}, partition {}", session.id, session.partition)
            }
            Self::Journal(recorded) => place_of_record(recorded),
            Self::CreatePartition(name) | Self::CreateSession(name, ..) => {
                format!("partition {}", name.partition)
            }
        }
    }

    fn overdue(limit: Millis, _attempts: u32, time: Millis, cause: &str) -> Option<String> {
        let seconds = limit.0 / 1000;
        (time > limit).then(|| {
            format!("not done after {seconds} s, the last cause being: {cause}; start again later")
        })
    }
}

fn place_of_record(recorded: &Recorded) -> String {
    match recorded {
        Recorded::Aborting(Retired { session, .. }) => {
            format!("session {}, partition {}", session.id, session.partition)
        }
        Recorded::Created(grant) => {
            format!("session {}, partition {}", grant.info.id, grant.name.partition)
        }
        Recorded::Ended(session) => format!("session {session}"),
        Recorded::Forgotten(key) => format!("the record of {key}"),
    }
}
