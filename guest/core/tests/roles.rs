//! Machines alone, a coordinator and a committer above all, each handed what does not fit: another
//! sink's, another start's, late, too early, refused for good, or without an answer for too long.
//!
//! Invariant: nothing that is refused is ever committed or granted.

mod one_column;

use upsert_sink_core::committer::Committer;
use upsert_sink_core::coordinator::Coordinator;
use upsert_sink_core::exchange::{Reply, Request};
use upsert_sink_core::io::{
    CheckpointOutcome, CommitterInput, CommitterOutput, Completion, CoordinatorInput,
    CoordinatorOutput, Telemetry, TunnelCommand, WriterInput,
};
use upsert_sink_core::open::Opened;
use upsert_sink_core::session::{Committable, SessionName};
use upsert_sink_core::writer::Writer;
use upsert_sink_format::error::{Error, ErrorKind};
use upsert_sink_format::id::{CheckpointId, Millis, SessionId, Ticket, WriterIndex};
use upsert_sink_format::tunnel::{
    Answer, Operation, Outcome, Refusal, RefusalKind, SessionInfo, SessionRef, SessionStatus,
};

const IDENTITY: &str = "sink";
const START: u64 = 3;
const NONCE: u64 = 1;
const NOW: Millis = Millis(1_000);

fn committer() -> Committer {
    let task = one_column::task(START, 1);
    let opened = Opened::of(&task).expect("a table and its options");
    Committer::open(&task, &opened.config, &[]).expect("an empty journal")
}

fn coordinator(parallelism: u32) -> Coordinator {
    let task = one_column::task(START, parallelism);
    let opened = Opened::of(&task).expect("a table and its options");
    Coordinator::open(NOW, &task, &opened.config, &[]).expect("an empty journal")
}

fn committable(identity: &str, start: u64, barrier: u64) -> Vec<u8> {
    let name = SessionName {
        partition: String::new(),
        start,
        barrier: CheckpointId(barrier),
        rollover: 0,
    };
    let committable = Committable {
        identity: identity.into(),
        name,
        session: SessionId(format!("s{barrier}")),
        created_at: NOW,
        contact_at: NOW,
        lifecycle_hours: 24,
        packs: 1,
        records: 1,
        moved_out: 0,
        moved_to: Default::default(),
        after: CheckpointId(barrier),
        before: CheckpointId(barrier + 1),
    };
    committable.to_bytes()
}

fn prepared(checkpoint: u64, held: &[Vec<u8>]) -> CommitterInput {
    CommitterInput::Prepared(CheckpointId(checkpoint), held.to_vec())
}

fn completed(checkpoint: u64) -> CommitterInput {
    CommitterInput::CheckpointEnded(CheckpointId(checkpoint), CheckpointOutcome::Completed)
}

/// A definite no of the service.
fn refused(kind: RefusalKind) -> Outcome {
    let (code, message, request_id) = ("Code".into(), "said so".into(), "r".into());
    Outcome::Refused(Refusal { kind, code, message, request_id, retry_after: Millis(0) })
}

/// Commits that are sent, and reasons for which something was ignored.
fn told(committer: &mut Committer) -> Vec<String> {
    let told = core::iter::from_fn(|| committer.poll_output());
    let told = told.filter_map(|output| match output {
        CommitterOutput::Tunnel(TunnelCommand::Submit(_, Operation::CommitSession(session))) => {
            Some(session.id.0)
        }
        CommitterOutput::Tell(Telemetry::Count(counter, _)) => Some(counter.into()),
        _ => None,
    });
    told.collect()
}

#[test]
fn a_committable_that_does_not_fit_is_refused_with_what_differs() {
    let refused = |checkpoint, held, kind, named: &str| {
        let mut committer = committer();
        let error = committer.handle_input(NOW, prepared(checkpoint, &[held])).expect_err(named);
        assert!(error.kind == kind && error.message.contains(named), "{error:?}");
        assert_eq!((committer.pending(), told(&mut committer)), (0, Vec::new()), "{named}");
    };
    let (config, bug) = (ErrorKind::InvalidConfig, ErrorKind::Bug);
    refused(5, committable("another", START, 4), config, "the checkpoint is of sink another");
    refused(5, committable(IDENTITY, START + 1, 4), config, "the journal only knows of 3");
    refused(5, committable(IDENTITY, START, 5), bug, "which comes after it");
    refused(5, committable(IDENTITY, START, 6), bug, "which comes after it");
    let mut damaged = committable(IDENTITY, START, 4);
    damaged[20] ^= 1;
    refused(5, damaged, ErrorKind::Corrupt, "its checksum does not match");
}

#[test]
fn barriers_of_an_earlier_start_say_nothing_of_this_one() {
    let mut committer = committer();
    committer.handle_input(NOW, prepared(5, &[committable(IDENTITY, START - 1, 9)])).expect("old");
    committer.handle_input(NOW, completed(5)).expect("completed");
    assert_eq!(told(&mut committer), ["s9"]);
}

#[test]
fn a_notice_that_comes_late_takes_nothing_back() {
    let mut committer = committer();
    committer.handle_input(NOW, prepared(5, &[committable(IDENTITY, START, 4)])).expect("fits");
    let told = [6, 5, 6].map(|checkpoint| {
        committer.handle_input(NOW, completed(checkpoint)).expect("completed");
        told(&mut committer)
    });
    let late = "upsert_sink.ignored.ended_before";
    assert_eq!(told.concat(), ["s4", late, late]);
    assert_eq!(committer.committed(), CheckpointId(4), "one commit of 5 is not known yet");
}

/// A committer with one commit under way, and its ticket.
fn committing() -> (Committer, Ticket) {
    let mut committer = committer();
    committer.handle_input(NOW, prepared(5, &[committable(IDENTITY, START, 4)])).expect("fits");
    committer.handle_input(NOW, completed(5)).expect("completed");
    let told = core::iter::from_fn(|| committer.poll_output());
    let tickets = told.filter_map(|output| match output {
        CommitterOutput::Tunnel(TunnelCommand::Submit(ticket, _)) => Some(ticket),
        _ => None,
    });
    let ticket = tickets.last().expect("its turn has come");
    (committer, ticket)
}

#[test]
fn a_commit_refused_for_good_says_whose_fault_it_is() {
    for (kind, expected) in [
        (RefusalKind::Denied, ErrorKind::Denied),
        (RefusalKind::Invalid, ErrorKind::Retry),
        (RefusalKind::NoSuchPartition, ErrorKind::Retry),
    ] {
        let (mut committer, ticket) = committing();
        let input = CommitterInput::Completed(Completion { ticket, outcome: refused(kind) });
        let error = committer.handle_input(NOW, input).expect_err("refused");
        assert!(error.kind == expected && error.message.contains("its rows are kept"), "{error:?}");
        assert_eq!(committer.pending(), 1, "it may be committed by a later start");
    }
}

#[test]
fn a_commit_may_be_in_doubt_for_the_whole_timeout_and_no_longer() {
    let patience = Millis(600_000);
    let doubt_after = |span| {
        let (mut committer, ticket) = committing();
        let outcome = Outcome::InDoubt("no answer".into());
        let input = CommitterInput::Completed(Completion { ticket, outcome });
        committer.handle_input(NOW.plus(span), input)
    };
    for span in [Millis(0), Millis(1), patience] {
        doubt_after(span).expect("it is asked for again");
    }
    for span in [patience.plus(Millis(1)), patience.plus(patience)] {
        let error = doubt_after(span).expect_err("nobody waits for ever");
        assert!(error.kind == ErrorKind::Retry && error.message.contains("600 s"), "{error:?}");
    }
}

/// Asks for the session of no partition and barrier 0; answers the replies, with what each was to.
fn ask(
    coordinator: &mut Coordinator,
    host_number: u64,
    request: &Request,
) -> Result<Vec<(u64, Reply)>, Error> {
    let bytes = request.to_bytes();
    coordinator.handle_input(NOW, CoordinatorInput::Requested(host_number, &bytes))?;
    let told = core::iter::from_fn(|| coordinator.poll_output());
    let replies = told.filter_map(|output| match output {
        CoordinatorOutput::Reply(number, body) => Some((number, body)),
        _ => None,
    });
    replies.map(|(number, body)| Reply::from_bytes(&body).map(|reply| (number, reply))).collect()
}

fn request(writer: u32, number: u64) -> Request {
    let (start, nonce, writer) = (START, NONCE, WriterIndex(writer));
    let (passed, pending) = (CheckpointId(0), Vec::new());
    let wanted = vec![SessionName::first_of("")];
    Request { start, nonce, writer, number, passed, pending, wanted }
}

#[test]
fn a_request_of_another_start_is_answered_with_nothing_and_forgotten() {
    let mut coordinator = coordinator(1);
    let ours = request(0, 1);
    for theirs in [
        Request { start: START - 1, ..ours.clone() },
        Request { start: START + 1, ..ours.clone() },
        Request { nonce: NONCE + 1, ..ours.clone() },
    ] {
        let replies = ask(&mut coordinator, 7, &theirs).expect("no bug of ours");
        let [(7, reply)] = replies.as_slice() else { panic!("{replies:?}") };
        assert_eq!((reply.start, reply.nonce, reply.number), (theirs.start, theirs.nonce, 1));
        assert!(reply.granted.is_empty() && reply.known.is_empty());
        assert!(!coordinator.serving(), "its own writer has not reported");
    }
    ask(&mut coordinator, 8, &ours).expect("ours");
    assert!(coordinator.serving());
}

#[test]
fn sessions_are_handed_out_when_every_writer_has_reported() {
    let mut coordinator = coordinator(2);
    ask(&mut coordinator, 1, &request(0, 1)).expect("ours");
    assert!(!coordinator.serving(), "the other may have restored sessions");
    ask(&mut coordinator, 2, &request(1, 1)).expect("ours");
    assert!(coordinator.serving());
    let error = ask(&mut coordinator, 3, &request(2, 1)).expect_err("there are two");
    assert!(error.kind == ErrorKind::Bug && error.message.contains("2 writers"), "{error:?}");
}

#[test]
fn an_older_request_is_answered_at_once_and_changes_nothing() {
    let mut coordinator = coordinator(1);
    let newest = Request { passed: CheckpointId(4), ..request(0, 3) };
    assert!(ask(&mut coordinator, 1, &newest).expect("ours").is_empty(), "there is no news yet");
    let replies = ask(&mut coordinator, 2, &request(0, 2)).expect("late");
    let [(2, reply)] = replies.as_slice() else { panic!("{replies:?}") };
    assert_eq!(reply.number, 3, "it tells which request it answers");
    // The same again takes the place of the one that still waits.
    let replies = ask(&mut coordinator, 3, &newest).expect("repeated");
    let [(1, reply)] = replies.as_slice() else { panic!("{replies:?}") };
    assert_eq!(reply.number, 3);
}

/// The operations that the coordinator has submitted, with their tickets. Its appends to the
/// journal are durable at once.
fn submitted(coordinator: &mut Coordinator) -> Vec<(Ticket, Operation)> {
    let (mut submitted, mut appended) = (Vec::new(), Vec::new());
    loop {
        while let Some(output) = coordinator.poll_output() {
            match output {
                CoordinatorOutput::Journal(append) => appended.push(append.ticket),
                CoordinatorOutput::Tunnel(TunnelCommand::Submit(ticket, operation)) => {
                    submitted.push((ticket, operation));
                }
                CoordinatorOutput::Reply(..)
                | CoordinatorOutput::Tell(_)
                | CoordinatorOutput::Tunnel(_) => {}
            }
        }
        let Some(ticket) = appended.pop() else { return submitted };
        let durable = Completion { ticket, outcome: Outcome::Done(Answer::None) };
        let durable = CoordinatorInput::Completed(durable);
        coordinator.handle_input(NOW, durable).expect("it is durable");
    }
}

/// A coordinator that is creating the sessions of these names.
fn creating(wanted: &[SessionName]) -> (Coordinator, Vec<(Ticket, Operation)>) {
    let mut coordinator = coordinator(1);
    let passed = wanted.iter().map(|name| name.barrier).max().unwrap_or_default();
    let asked = Request { wanted: wanted.to_vec(), passed, ..request(0, 1) };
    let bytes = asked.to_bytes();
    coordinator.handle_input(NOW, CoordinatorInput::Requested(1, &bytes)).expect("ours");
    let submitted = submitted(&mut coordinator);
    assert_eq!(submitted.len(), wanted.len(), "{submitted:?}");
    (coordinator, submitted)
}

fn name(partition: &str, barrier: u64) -> SessionName {
    SessionName { barrier: CheckpointId(barrier), ..SessionName::first_of(partition) }
}

#[test]
fn a_creation_may_be_in_doubt_for_the_whole_timeout_and_no_longer() {
    let patience = Millis(600_000);
    let doubt_after = |span| {
        let (mut coordinator, submitted) = creating(&[name("", 0)]);
        let outcome = Outcome::InDoubt("no answer".into());
        let completion = Completion { ticket: submitted[0].0, outcome };
        coordinator.handle_input(NOW.plus(span), CoordinatorInput::Completed(completion))
    };
    for span in [Millis(0), Millis(1), patience] {
        doubt_after(span).expect("it is asked for again");
    }
    let error = doubt_after(patience.plus(Millis(1))).expect_err("nobody waits for ever");
    assert!(error.kind == ErrorKind::Retry && error.message.contains("600 s"), "{error:?}");
}

/// A service that creates a partition and never shows it would else be asked thousands of times a
/// second, for ever.
#[test]
fn a_partition_that_is_created_and_never_there_is_waited_for_and_no_longer_than_the_timeout() {
    let patience = Millis(600_000);
    let missing_after = |span| {
        let (mut coordinator, first) = creating(&[name("day='x'", 0)]);
        let mut complete = |now, ticket, outcome| {
            let completion = Completion { ticket, outcome };
            coordinator.handle_input(now, CoordinatorInput::Completed(completion))?;
            Ok::<_, Error>(submitted(&mut coordinator))
        };
        let missing = || refused(RefusalKind::NoSuchPartition);
        let second = complete(NOW, first[0].0, missing()).expect("it is created");
        assert!(matches!(&second[..], [(_, Operation::CreatePartition(_))]), "{second:?}");
        let third = complete(NOW, second[0].0, Outcome::Done(Answer::None)).expect("created");
        assert!(matches!(&third[..], [(_, Operation::CreateSession { .. })]), "{third:?}");
        let later = complete(NOW.plus(span), third[0].0, missing())?;
        assert!(later.is_empty(), "nothing is sent before a pause: {later:?}");
        let deadline = coordinator.deadline().expect("another attempt");
        assert!(deadline > NOW.plus(span), "{deadline:?}");
        Ok(())
    };
    for span in [Millis(0), patience] {
        missing_after(span).expect("it may be there soon");
    }
    let error: Error = missing_after(patience.plus(Millis(1))).expect_err("nobody waits for ever");
    assert_eq!(error.kind, ErrorKind::Retry);
    assert!(error.message.contains("600 s") && error.message.contains("said so"), "{error:?}");
}

/// Only a second session of the same partition can be refused for being a second one.
#[test]
fn a_refused_creation_names_the_overlap_only_where_there_is_one() {
    let advice_after = |wanted: &[SessionName]| {
        let (mut coordinator, submitted) = creating(wanted);
        let outcome = refused(RefusalKind::Invalid);
        let completion = Completion { ticket: submitted[0].0, outcome };
        let refused = coordinator.handle_input(NOW, CoordinatorInput::Completed(completion));
        refused.expect_err("refused").message.contains("sink.session.overlap = false")
    };
    assert!(!advice_after(&[name("day='x'", 0)]));
    assert!(!advice_after(&[name("day='x'", 0), name("day='y'", 0)]));
    assert!(advice_after(&[name("day='x'", 0), name("day='x'", 1)]));
}

/// The service's word that a session was created, as asked for by this ticket.
fn created(ticket: Ticket, id: &str) -> CoordinatorInput<'static> {
    let info = SessionInfo {
        id: SessionId(id.into()),
        status: SessionStatus::Normal,
        buckets: 4,
        hasher: "default".into(),
        hash_key: Vec::new(),
        columns: Vec::new(),
        column_ids: Vec::new(),
        partial_update: false,
    };
    let outcome = Outcome::Done(Answer::Session(info));
    CoordinatorInput::Completed(Completion { ticket, outcome })
}

/// The operations submitted when the only writer, which wants nothing, has passed a barrier.
fn passes(coordinator: &mut Coordinator, number: u64, passed: u64) -> Vec<Operation> {
    let (passed, wanted) = (CheckpointId(passed), Vec::new());
    let bytes = Request { passed, wanted, ..request(0, number) }.to_bytes();
    coordinator.handle_input(NOW, CoordinatorInput::Requested(number, &bytes)).expect("ours");
    submitted(coordinator).into_iter().map(|(_, operation)| operation).collect()
}

/// The host keeps an operation, to repeat it, until it is released.
#[test]
fn an_operation_that_is_over_is_released() {
    let (mut coordinator, tickets) = creating(&[name("", 0)]);
    let ticket = tickets[0].0;
    coordinator.handle_input(NOW, created(ticket, "s")).expect("created");
    let release = CoordinatorOutput::Tunnel(TunnelCommand::Release(ticket));
    assert!(core::iter::from_fn(|| coordinator.poll_output()).any(|told| told == release));
}

/// It was created because it was wanted: its first pack may be on its way.
#[test]
fn a_session_of_the_newest_barrier_is_kept_although_nobody_holds_rows_in_it() {
    let (mut coordinator, tickets) = creating(&[name("", 0)]);
    coordinator.handle_input(NOW, created(tickets[0].0, "s")).expect("created");
    assert!(submitted(&mut coordinator).is_empty());
    assert!(passes(&mut coordinator, 2, 0).is_empty());
    let session = SessionRef { id: SessionId("s".into()), partition: String::new() };
    let retired = passes(&mut coordinator, 3, 1);
    assert_eq!(retired, [Operation::AbortSession(session)], "nobody can write to it now");
}

/// As many as the service may be asked at a time; the others follow when one is answered.
#[test]
fn sessions_are_created_and_retired_32_at_a_time() {
    let wanted: Vec<_> = (0..33).map(|day| name(&format!("day='{day}'"), 0)).collect();
    let mut coordinator = coordinator(1);
    let asked = Request { wanted, ..request(0, 1) }.to_bytes();
    coordinator.handle_input(NOW, CoordinatorInput::Requested(1, &asked)).expect("ours");
    let creations = submitted(&mut coordinator);
    assert_eq!(creations.len(), 32);
    let mut create = |ticket: Ticket| {
        let done = created(ticket, &ticket.0.to_string());
        coordinator.handle_input(NOW, done).expect("created");
        submitted(&mut coordinator)
    };
    let others: Vec<_> = creations.iter().flat_map(|(ticket, _)| create(*ticket)).collect();
    let [(last, _)] = others[..] else { panic!("the 33rd is not created") };
    assert_eq!(create(last), []);
    assert_eq!(passes(&mut coordinator, 2, 1).len(), 32);
}

#[test]
#[should_panic(expected = "an output that is left is carried out too late")]
fn a_writer_takes_no_input_before_its_outputs_are_drained() {
    let mut writer =
        Writer::open(NOW, &one_column::task(START, 1), &[]).expect("a task that is right");
    let _ = writer.handle_input(NOW, WriterInput::TimerFired);
}

#[test]
#[should_panic(expected = "an output that is left is carried out too late")]
fn a_coordinator_takes_no_input_before_its_outputs_are_drained() {
    let (mut coordinator, tickets) = creating(&[name("", 0)]);
    coordinator.handle_input(NOW, created(tickets[0].0, "s")).expect("drained before");
    let _ = coordinator.handle_input(NOW, CoordinatorInput::TimerFired);
}

#[test]
#[should_panic(expected = "an output that is left is carried out too late")]
fn a_committer_takes_no_input_before_its_outputs_are_drained() {
    let mut committer = committer();
    committer.handle_input(NOW, prepared(5, &[committable(IDENTITY, START, 4)])).expect("fits");
    committer.handle_input(NOW, completed(5)).expect("nothing is committed before");
    let _ = committer.handle_input(NOW, CommitterInput::TimerFired);
}
