//! A writer that receives word of a commit too early. Replies may come from another process, so
//! that this is an error that ends the attempt, and no panic.

mod one_column;

use upsert_sink_core::exchange::{Reply, Request};
use upsert_sink_core::io::{
    BarrierKind, CheckpointOutcome, Completion, TunnelCommand, WriterInput, WriterOutput,
};
use upsert_sink_core::session::Grant;
use upsert_sink_core::writer::Writer;
use upsert_sink_format::batch::{BatchBuilder, ColumnBuilder};
use upsert_sink_format::error::ErrorKind;
use upsert_sink_format::id::{CheckpointId, Millis, SessionId};
use upsert_sink_format::tunnel::{Answer, Outcome, SessionInfo, SessionStatus};

const NOW: Millis = Millis(1_000);

fn session() -> SessionInfo {
    SessionInfo {
        id: SessionId("s".into()),
        status: SessionStatus::Normal,
        buckets: 4,
        hasher: "default".into(),
        hash_key: vec!["id".into()],
        columns: vec![one_column::column()],
        column_ids: Vec::new(),
        partial_update: false,
    }
}

fn outputs(writer: &mut Writer, input: WriterInput<'_>) -> Vec<WriterOutput> {
    writer.handle_input(NOW, input).expect("it fits");
    core::iter::from_fn(|| writer.poll_output()).collect()
}

/// The newest request among outputs.
fn request(outputs: &[WriterOutput]) -> Request {
    let mut requests = outputs.iter().filter_map(|output| match output {
        WriterOutput::Request(bytes) => Some(Request::from_bytes(bytes).expect("a request")),
        _ => None,
    });
    requests.next_back().expect("it asks")
}

fn reply(to: &Request, granted: Vec<Grant>, known: Vec<SessionId>) -> Vec<u8> {
    Reply { start: 1, nonce: 1, number: to.number, granted, known }.to_bytes()
}

#[test]
fn a_commit_told_before_its_last_acknowledgement_is_an_error_that_names_the_partition() {
    let mut writer = Writer::open(NOW, &one_column::task(1, 1), &[]).expect("a task that is right");
    while writer.poll_output().is_some() {}
    let rows = BatchBuilder::new(1).column(ColumnBuilder::int64([Some(7)])).build();
    outputs(&mut writer, WriterInput::RowsArrived(&rows));
    let barrier = WriterInput::BarrierArrived(CheckpointId(1), BarrierKind::Checkpoint);
    let asked = request(&outputs(&mut writer, barrier));
    let name = asked.wanted.first().expect("a session is wanted").clone();
    let grant = Grant { name, created_at: NOW, info: session() };
    let sent = outputs(&mut writer, WriterInput::Replied(&reply(&asked, vec![grant], vec![])));
    let ticket = sent.iter().find_map(|output| match output {
        WriterOutput::Tunnel(TunnelCommand::Submit(ticket, _)) => Some(*ticket),
        _ => None,
    });
    let aborted = WriterInput::CheckpointEnded(CheckpointId(1), CheckpointOutcome::Aborted);
    let asked = request(&outputs(&mut writer, aborted));
    let early = reply(&asked, vec![], vec![session().id]);
    outputs(&mut writer, WriterInput::Replied(&early));
    let ticket = ticket.expect("a pack is under way");
    let completion = Completion { ticket, outcome: Outcome::Done(Answer::None) };
    let error =
        writer.handle_input(NOW, WriterInput::Completed(completion)).expect_err("too early");
    assert_eq!(error.kind, ErrorKind::Bug);
    assert!(error.message.contains("while a pack of it was under way"), "{error:?}");
}
