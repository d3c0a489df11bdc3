//! What the coordinator makes of outcomes: of its operations at the Tunnel, and of its appends to
//! the journal.
//!
//! The second half of `coordinator.rs`: operations begin there and end here. Invariant: an outcome
//! in doubt is repeated, but for an append, after which nothing may be told: the attempt ends.

use alloc::format;
use alloc::string::String;

use super::{Coordinator, Phase, Purpose, Recorded, Retired, Standing};
use crate::ignored::Ignored;
use crate::io::{Completion, Level, TunnelCommand};
use crate::journal::{self, JournalState};
use crate::session::{Grant, SessionName};
use upsert_sink_format::error::{Error, ErrorKind};
use upsert_sink_format::id::{Millis, Ticket};
use upsert_sink_format::tunnel::{
    Answer, Operation, Outcome, Refusal, RefusalKind, SessionInfo, SessionRef, SessionStatus,
};

impl Coordinator {
    pub(super) fn complete(&mut self, now: Millis, completion: Completion) -> Result<(), Error> {
        let Completion { ticket, outcome } = completion;
        let Some(held) = self.operations.under_way(ticket) else {
            self.ignore(Ignored::LateOutcome);
            return Ok(());
        };
        let purpose = held.purpose.clone();
        if let Purpose::Journal(recorded) = purpose {
            return self.recorded(now, ticket, recorded, &outcome);
        }
        match outcome {
            Outcome::Done(answer) => self.done(now, ticket, purpose, answer),
            Outcome::InDoubt(doubt) => {
                // Repeating is harmless for all four: a session that was created without our
                // learning its id holds nothing, and its lifecycle ends it.
                let wait = held.attempts.after_doubt();
                self.put_off(now, ticket, wait, &doubt)
            }
            Outcome::Refused(refusal) => self.refused(now, ticket, purpose, &refusal),
        }
    }

    /// An append to the journal has an outcome.
    fn recorded(
        &mut self,
        now: Millis,
        ticket: Ticket,
        recorded: Recorded,
        outcome: &Outcome,
    ) -> Result<(), Error> {
        journal::check_durable(place_of_record(&recorded), outcome)?;
        self.operations.finish(ticket);
        match recorded {
            Recorded::Aborting(retired) => self.send_abort(now, retired),
            Recorded::Created(grant) => {
                self.sessions.insert(grant.name.clone(), Standing::Open(grant));
            }
            Recorded::Ended(_) => {}
            Recorded::Forgotten(_) => {
                self.forgetting -= 1;
                self.forget_past(now);
            }
        }
        Ok(())
    }

    fn done(
        &mut self,
        now: Millis,
        ticket: Ticket,
        purpose: Purpose,
        answer: Answer,
    ) -> Result<(), Error> {
        match (purpose, answer) {
            (Purpose::CreateSession(name, created_at), Answer::Session(info)) => {
                self.finish(ticket);
                let session = SessionRef { id: info.id.clone(), partition: name.partition.clone() };
                let of = (session, name.start);
                let grant = Grant { name, created_at, info };
                self.record(now, of, JournalState::Open, Recorded::Created(grant));
            }
            (Purpose::CreatePartition(name), Answer::None | Answer::Session(_)) => {
                self.finish(ticket);
                self.create(now, name);
            }
            (Purpose::AbortSession(retired), Answer::None | Answer::Session(_)) => {
                self.finish(ticket);
                self.gone(now, retired, JournalState::Aborted);
            }
            (Purpose::SessionStatus(retired), Answer::Session(info)) => {
                self.finish(ticket);
                self.status(now, retired, &info);
            }
            (Purpose::CreateSession(..) | Purpose::SessionStatus(_), Answer::None)
            | (_, Answer::Bytes(_)) => {
                return Err(Error::bug("tunnel", "the host answered without a session"));
            }
            (Purpose::Journal(_), Answer::None | Answer::Session(_)) => {
                return Err(Error::bug("coordinator", "a record was taken for an operation"));
            }
        }
        Ok(())
    }

    /// What a session is that could not be aborted.
    fn status(&mut self, now: Millis, retired: Retired, info: &SessionInfo) {
        match info.status {
            SessionStatus::Committed => {
                let line = format!(
                    "session {} of {} was to be retired, but it is committed",
                    retired.session.id, retired.session.partition
                );
                self.log(Level::Warn, line);
                self.gone(now, retired, JournalState::Committed);
            }
            SessionStatus::Aborted | SessionStatus::Expired => {
                self.gone(now, retired, JournalState::Aborted);
            }
            // The intent is durable already.
            SessionStatus::Committing | SessionStatus::Critical | SessionStatus::Normal => {
                self.send_abort(now, retired);
            }
        }
    }

    fn refused(
        &mut self,
        now: Millis,
        ticket: Ticket,
        purpose: Purpose,
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
                let held = self.operations.under_way(ticket).expect("looked up by the caller");
                let wait = held.attempts.after_refusal(refusal);
                self.put_off(now, ticket, wait, &refusal.message)
            }
            (RefusalKind::NoSuchPartition, Purpose::CreateSession(name, _)) => {
                self.finish(ticket);
                let operation = Operation::CreatePartition(name.partition.clone());
                self.submit(now, Purpose::CreatePartition(name), operation);
                Ok(())
            }
            (RefusalKind::Invalid, Purpose::CreateSession(name, _)) if !self.overlap => {
                self.blocked(now, ticket, &name, refusal)
            }
            (
                RefusalKind::NoSuchPartition | RefusalKind::NoSuchSession,
                Purpose::AbortSession(retired) | Purpose::SessionStatus(retired),
            ) => {
                self.finish(ticket);
                self.gone(now, retired, JournalState::Aborted);
                Ok(())
            }
            (RefusalKind::Invalid, Purpose::AbortSession(retired)) => {
                self.finish(ticket);
                let operation = Operation::SessionStatus(retired.session.clone());
                self.submit(now, Purpose::SessionStatus(retired), operation);
                Ok(())
            }
            (
                RefusalKind::Denied
                | RefusalKind::Full
                | RefusalKind::Invalid
                | RefusalKind::NoSuchPartition
                | RefusalKind::NoSuchSession,
                purpose,
            ) => Err(self.refusal_error(&purpose, refusal)),
        }
    }

    /// The partition may have an open session that nobody knows of: one whose creation got no
    /// answer. It ends by its age, so this is asked again.
    fn blocked(
        &mut self,
        now: Millis,
        ticket: Ticket,
        name: &SessionName,
        refusal: &Refusal,
    ) -> Result<(), Error> {
        let held = self.operations.under_way(ticket).expect("looked up by the caller");
        let wait = held.attempts.after_refusal(refusal);
        let cause = format!(
            "{} {} (request {}); if a session whose creation got no answer is in the way, it ends \
             after sink.session.lifecycle = {} h",
            refusal.code, refusal.message, refusal.request_id, self.lifecycle_hours
        );
        self.log(Level::Warn, format!("partition {}: no new session: {cause}", name.partition));
        self.put_off(now, ticket, wait, &cause)
    }

    /// Makes another attempt later, unless the service has been without a clear word for too long.
    fn put_off(
        &mut self,
        now: Millis,
        ticket: Ticket,
        wait: Millis,
        cause: &str,
    ) -> Result<(), Error> {
        let held = self.operations.under_way(ticket).expect("looked up by the caller");
        if now.since(held.begun) > self.patience {
            let message = format!(
                "not done after {} s, the last cause being: {cause}; start again later",
                self.patience.0 / 1000
            );
            return Err(Error::new(ErrorKind::Retry, place(&held.purpose), message));
        }
        self.operations.wait(ticket, now.plus(wait));
        Ok(())
    }

    fn refusal_error(&self, purpose: &Purpose, refusal: &Refusal) -> Error {
        let mut error = refusal_error(purpose, refusal);
        if let (Purpose::CreateSession(name, _), RefusalKind::Invalid) = (purpose, refusal.kind)
            && self.of_partition(&name.partition).any(|(other, _)| other != name)
        {
            error.message.push_str(
                "; if the service refuses a second open session of a partition, set \
                 sink.session.overlap = false",
            );
        }
        error
    }

    /// A session has ended. Nothing waits for its record: without it the next start would abort it
    /// once more.
    fn gone(&mut self, now: Millis, retired: Retired, state: JournalState) {
        let Retired { session, start, name } = retired;
        if let Phase::Recovering { retiring, .. } = &mut self.phase {
            retiring.remove(&session.id);
        }
        if let Some(name) = &name {
            self.sessions.remove(name);
        }
        let ended = Recorded::Ended(session.id.clone());
        self.record(now, (session, start), state, ended);
    }

    fn finish(&mut self, ticket: Ticket) {
        self.operations.finish(ticket);
        self.tunnel(TunnelCommand::Release(ticket));
    }
}

fn place(purpose: &Purpose) -> String {
    match purpose {
        Purpose::AbortSession(Retired { session, .. })
        | Purpose::SessionStatus(Retired { session, .. }) => {
            format!("session {}, partition {}", session.id, session.partition)
        }
        Purpose::Journal(recorded) => place_of_record(recorded),
        Purpose::CreatePartition(name) | Purpose::CreateSession(name, _) => {
            format!("partition {}", name.partition)
        }
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

fn refusal_error(purpose: &Purpose, refusal: &Refusal) -> Error {
    let kind = match refusal.kind {
        RefusalKind::Denied => ErrorKind::Denied,
        RefusalKind::Full
        | RefusalKind::Invalid
        | RefusalKind::Moved
        | RefusalKind::NoSuchPartition
        | RefusalKind::NoSuchSession
        | RefusalKind::NotSent
        | RefusalKind::SlowDown
        | RefusalKind::Transient => ErrorKind::InvalidConfig,
    };
    let what = match purpose {
        Purpose::AbortSession(..) => "abort a session",
        Purpose::CreatePartition(_) => "create the partition",
        Purpose::CreateSession(..) => "create a session",
        Purpose::Journal(_) => "take a record",
        Purpose::SessionStatus(..) => "tell a session's status",
    };
    let message = format!(
        "the service refused to {what}: {} {} (request {}); correct the table or the permissions",
        refusal.code, refusal.message, refusal.request_id
    );
    Error::new(kind, place(purpose), message)
}
