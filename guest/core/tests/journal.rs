//! Coordinator and committer, opened with the records of a journal: some are forgotten, some are
//! sent again, and some stop the start.
//!
//! Beside `roles.rs`; the order of appends and operations is in the scripts. Invariant: each test
//! says every record of its journal.

mod one_column;

use upsert_sink_core::committer::Committer;
use upsert_sink_core::coordinator::Coordinator;
use upsert_sink_core::exchange::Request;
use upsert_sink_core::io::{
    Completion, CoordinatorInput, CoordinatorOutput, JournalAppend, TunnelCommand,
};
use upsert_sink_core::journal::{JournalState, SessionRecord};
use upsert_sink_core::open::Opened;
use upsert_sink_format::error::{Error, ErrorKind};
use upsert_sink_format::id::{CheckpointId, Millis, SessionId, Ticket, WriterIndex};
use upsert_sink_format::tunnel::{Answer, Operation, Outcome};

const START: u64 = 9;
const NOW: Millis = Millis(1_000 * HOUR);
const HOUR: u64 = 3_600_000;

fn coordinator(journal: &[SessionRecord]) -> Coordinator {
    let journal: Vec<Vec<u8>> = journal.iter().map(SessionRecord::to_bytes).collect();
    open_coordinator(&journal).expect("the journal is whole")
}

fn open_coordinator(journal: &[Vec<u8>]) -> Result<Coordinator, Error> {
    let task = one_column::task(START, 1);
    let config = Opened::of(&task).expect("a table and its options").config;
    Coordinator::open(NOW, &task, &config, journal)
}

/// A session that became this so many hours ago.
fn record(id: &str, start: u64, state: JournalState, hours: u64) -> SessionRecord {
    let (id, partition) = (SessionId(id.into()), String::new());
    SessionRecord { id, partition, start, state, at: Millis(NOW.0 - hours * HOUR) }
}

/// The appends, and the operations submitted to the Tunnel.
fn outputs(coordinator: &mut Coordinator) -> (Vec<JournalAppend>, Vec<Operation>) {
    let (mut appends, mut operations) = (Vec::new(), Vec::new());
    while let Some(output) = coordinator.poll_output() {
        match output {
            CoordinatorOutput::Journal(append) => appends.push(append),
            CoordinatorOutput::Tunnel(TunnelCommand::Submit(_, operation)) => {
                operations.push(operation);
            }
            CoordinatorOutput::Reply(..)
            | CoordinatorOutput::Tell(_)
            | CoordinatorOutput::Tunnel(_) => {}
        }
    }
    (appends, operations)
}

fn durable(coordinator: &mut Coordinator, ticket: Ticket) {
    let completion = Completion { ticket, outcome: Outcome::Done(Answer::None) };
    let input = CoordinatorInput::Completed(completion);
    coordinator.handle_input(NOW, input).expect("it is durable");
}

/// The only writer reports that it has restored these.
fn report(coordinator: &mut Coordinator, pending: &[&str]) {
    let pending = pending.iter().map(|id| SessionId((*id).into())).collect();
    let (passed, wanted, writer) = (CheckpointId(0), Vec::new(), WriterIndex(0));
    let request = Request { start: START, nonce: 1, writer, number: 1, passed, pending, wanted };
    let bytes = request.to_bytes();
    coordinator.handle_input(NOW, CoordinatorInput::Requested(1, &bytes)).expect("ours");
}

fn sessions(operations: &[Operation]) -> Vec<&str> {
    let aborted = operations.iter().filter_map(|operation| match operation {
        Operation::AbortSession(session) => Some(session.id.0.as_str()),
        _ => None,
    });
    aborted.collect()
}

#[test]
fn outcomes_of_earlier_starts_are_forgotten_after_two_days_and_nothing_else() {
    use JournalState::{Aborted, Aborting, Committed, Open};
    let mut coordinator = coordinator(&[
        record("old-aborted", 3, Aborted, 49),
        record("old-committed", 8, Committed, 49),
        record("old-aborting", 3, Aborting, 49),
        record("old-open", 3, Open, 49),
        record("young", 3, Committed, 48),
        record("ours", START, Committed, 49),
    ]);
    let (appends, operations) = outputs(&mut coordinator);
    let mut keys: Vec<&str> = appends.iter().map(|append| append.key.as_str()).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["old-aborted", "old-committed"]);
    assert!(appends.iter().all(|append| append.record.is_empty()) && operations.is_empty());
}

/// A journal of years would else ask for more at once than any host holds for a guest.
#[test]
fn records_are_forgotten_32_at_a_time_and_hold_up_no_session() {
    let old = |n: u64| record(&format!("s{n}"), 1, JournalState::Committed, 50);
    let journal: Vec<SessionRecord> = (0..40).map(old).chain([open("dead")]).collect();
    let mut coordinator = coordinator(&journal);
    let (first, _) = outputs(&mut coordinator);
    assert_eq!(first.len(), 32);
    report(&mut coordinator, &[]);
    let (aborting, _) = outputs(&mut coordinator);
    assert_eq!(aborting.len(), 1, "the session of a dead attempt does not wait for them");
    let mut rest = Vec::new();
    for append in &first {
        durable(&mut coordinator, append.ticket);
        rest.extend(outputs(&mut coordinator).0);
    }
    assert_eq!(rest.len(), 8);
    let mut keys: Vec<String> = first.into_iter().chain(rest).map(|append| append.key).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 40);
}

fn open(id: &str) -> SessionRecord {
    record(id, 8, JournalState::Open, 1)
}

#[test]
fn sessions_of_dead_attempts_are_aborted_once_the_intent_is_durable() {
    let half = record("half", 8, JournalState::Aborting, 1);
    let gone = record("gone", 8, JournalState::Aborted, 1);
    let known = record("known", 8, JournalState::Committed, 1);
    let mut coordinator = coordinator(&[open("dead"), open("restored"), half, gone, known]);
    assert_eq!(outputs(&mut coordinator), Default::default(), "nobody has reported");
    report(&mut coordinator, &["restored"]);
    let (appends, operations) = outputs(&mut coordinator);
    assert_eq!(sessions(&operations), ["half"], "its intent was durable before");
    let [append] = appends.as_slice() else { panic!("{appends:?}") };
    let recorded = SessionRecord::from_bytes(&append.record).expect("a record");
    let expected = SessionRecord { at: NOW, state: JournalState::Aborting, ..open("dead") };
    assert_eq!((recorded, append.key.as_str()), (expected, "dead"));
    durable(&mut coordinator, append.ticket);
    assert_eq!(sessions(&outputs(&mut coordinator).1), ["dead"]);
}

#[test]
fn a_damaged_record_or_one_of_a_newer_version_stops_the_start() {
    let task = one_column::task(START, 1);
    let config = Opened::of(&task).expect("a table and its options").config;
    let whole = open("s").to_bytes();
    let (mut damaged, mut newer) = (whole.clone(), whole.clone());
    damaged[12] ^= 1;
    newer[5] += 1;
    for (bytes, kind) in [(damaged, ErrorKind::Corrupt), (newer, ErrorKind::InvalidConfig)] {
        let journal = [whole.clone(), bytes];
        let error = open_coordinator(&journal).expect_err("it is refused");
        assert_eq!((error.kind, error.at.as_str()), (kind, "journal"), "{error}");
        let error = Committer::open(&task, &config, &journal).expect_err("it is refused");
        assert_eq!((error.kind, error.at.as_str()), (kind, "journal"), "{error}");
    }
}
