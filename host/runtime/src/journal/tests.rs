//! The promises of the journal. Invariant: each test has a directory of its own.

use super::*;

use crate::components::SystemDisk;

fn created(id: &str) -> Record {
    let (id, partition) = (String::from(id), String::from("day='1'"));
    Record::SessionCreated { id, partition, start: 1, at_ms: 5 }
}

fn state(contents: &Contents, id: &str) -> Option<SessionState> {
    contents.sessions.get(id).map(|session| session.state)
}

/// A journal with one session of each state, opened once.
async fn written(directory: &Path) -> Vec<u8> {
    let journal = open(directory, "p.t").await.expect("a new journal");
    let at_ms = 6;
    for id in ["open", "aborting", "aborted", "committed"] {
        journal.record(created(id)).await.expect("durable");
    }
    journal.record(Record::Aborting { id: "aborting".into(), at_ms }).await.expect("durable");
    journal.record(Record::Aborted { id: "aborted".into(), at_ms }).await.expect("durable");
    journal.record(Record::Committed { id: "committed".into(), at_ms }).await.expect("durable");
    std::fs::read(directory.join(FILE)).expect("the journal is there")
}

async fn open(directory: &Path, table: &str) -> Result<Arc<Journal>> {
    Journal::open(directory, table, &Components::system()).await
}

#[tokio::test]
async fn what_was_recorded_is_there_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    written(directory.path()).await;
    let contents = read(directory.path(), &SystemDisk).await.expect("whole").expect("there");
    assert_eq!(state(&contents, "open"), Some(SessionState::Open));
    assert_eq!(state(&contents, "aborting"), Some(SessionState::Aborting));
    assert_eq!(state(&contents, "aborted"), Some(SessionState::Aborted));
    assert_eq!(state(&contents, "committed"), Some(SessionState::Committed));
    assert_eq!(contents.identity.len(), 32);
}

#[tokio::test]
async fn a_journal_cut_anywhere_recovers_to_a_prefix_of_its_records() {
    let directory = tempfile::tempdir().expect("a directory");
    let whole = written(directory.path()).await;
    let path = directory.path().join(FILE);
    let (all, _) = fold(&whole, &path).expect("whole");
    let mut known = 0;
    for cut in MAGIC.len()..=whole.len() {
        let (contents, whole_bytes) = fold(&whole[..cut], &path).expect("only the tail is torn");
        assert!(whole_bytes <= cut);
        assert!(contents.sessions.len() >= known, "a longer file never knows less");
        known = contents.sessions.len();
        assert!(contents.identity.is_empty() || contents.identity == all.identity);
    }
    assert_eq!(known, 4);
}

#[tokio::test]
async fn a_torn_tail_does_not_stop_the_next_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let whole = written(directory.path()).await;
    let path = directory.path().join(FILE);
    std::fs::write(&path, &whole[..whole.len() - 3]).expect("cut");
    let journal = open(directory.path(), "p.t").await.expect("it recovers");
    assert_eq!(journal.start(), 2);
    journal.record(created("next")).await.expect("it goes on");
    drop(journal);
    let contents = read(directory.path(), &SystemDisk).await.expect("whole").expect("there");
    assert_eq!(state(&contents, "next"), Some(SessionState::Open));
    assert_eq!(state(&contents, "committed"), Some(SessionState::Open), "its last record was torn");
}

#[tokio::test]
async fn damage_in_the_middle_stops_the_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut bytes = written(directory.path()).await;
    bytes[40] ^= 1;
    std::fs::write(directory.path().join(FILE), bytes).expect("damaged");
    let error = open(directory.path(), "p.t").await.err().expect("it is refused");
    assert_eq!(error.kind, ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_second_job_on_the_same_state_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = open(directory.path(), "p.t").await.expect("the first");
    let error = open(directory.path(), "p.t").await.err().expect("it is refused");
    assert!(error.message.contains("a second job on the same state"), "{error}");
    drop(first);
    open(directory.path(), "p.t").await.expect("the lease has ended");
}

#[tokio::test]
async fn a_journal_of_another_table_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    drop(open(directory.path(), "p.t").await.expect("the first"));
    let error = open(directory.path(), "p.other").await.err().expect("it is refused");
    assert_eq!(error.kind, ErrorKind::InvalidConfig);
}

#[tokio::test]
async fn identity_stays_and_starts_rise() {
    let directory = tempfile::tempdir().expect("a directory");
    let first = open(directory.path(), "p.t").await.expect("the first");
    let (identity, nonce) = (first.identity(), first.nonce());
    drop(first);
    let second = open(directory.path(), "p.t").await.expect("the second");
    assert_eq!((second.identity(), second.start()), (identity, 2));
    assert_ne!(second.nonce(), nonce);
}

#[test]
fn outcomes_are_forgotten_after_two_days_and_open_sessions_never() {
    let mut contents = Contents { start: 3, ..Contents::default() };
    for (id, state) in [("open", SessionState::Open), ("done", SessionState::Committed)] {
        let session = Session { partition: String::new(), start: 1, state, at_ms: 0 };
        contents.sessions.insert(String::from(id), session);
    }
    contents.forget_old(KEEP_OUTCOME_MS);
    assert_eq!(contents.sessions.len(), 2);
    contents.forget_old(KEEP_OUTCOME_MS + 1);
    assert_eq!(contents.sessions.keys().collect::<Vec<_>>(), ["open"]);
}

#[tokio::test]
async fn aborted_sessions_are_told_to_the_committer_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    written(directory.path()).await;
    let journal = open(directory.path(), "p.t").await.expect("the second start");
    let ids = |sessions: Vec<JournalSession>| {
        sessions.into_iter().map(|session| session.id.0).collect::<Vec<_>>()
    };
    assert_eq!(ids(journal.for_coordinator()), ["aborting", "committed", "open"]);
    assert_eq!(ids(journal.for_committer()), ["aborted", "aborting", "committed", "open"]);
}
