//! The promises of the journal. Invariant: each test has a directory of its own.

use super::*;
use crate::components::SystemDisk;

/// A journal with four keys, of which one was appended to twice and one is forgotten, opened once.
async fn written(directory: &Path) -> Vec<u8> {
    let (journal, records) = open(directory, "p.t").await.expect("a new journal");
    assert_eq!(records, Vec::<Vec<u8>>::new());
    for (key, bytes) in
        [("a", "1"), ("b", "2"), ("c", "3"), ("gone", "4"), ("a", "5"), ("gone", "")]
    {
        append(&journal, key, bytes.as_bytes()).await.expect("durable");
    }
    append(&journal, "last", b"\0\xff").await.expect("durable");
    std::fs::read(directory.join(FILE)).expect("the journal is there")
}

async fn append(journal: &Arc<Journal>, key: &str, bytes: &[u8]) -> Result<()> {
    journal.append(String::from(key), bytes.to_vec()).await
}

async fn open(directory: &Path, table: &str) -> Result<(Arc<Journal>, Vec<Vec<u8>>)> {
    Journal::open(directory, table, &Components::system()).await
}

async fn held(directory: &Path) -> Contents {
    read(directory, &SystemDisk).await.expect("whole").expect("there")
}

fn newest() -> BTreeMap<String, Vec<u8>> {
    let records = [("a", &b"5"[..]), ("b", b"2"), ("c", b"3"), ("last", b"\0\xff")];
    records.map(|(key, bytes)| (String::from(key), bytes.to_vec())).into()
}

#[tokio::test]
async fn the_newest_record_of_each_key_is_there_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    written(directory.path()).await;
    let contents = held(directory.path()).await;
    assert_eq!((contents.records, contents.identity.len()), (newest(), 32));
    let (journal, records) = open(directory.path(), "p.t").await.expect("the second start");
    assert_eq!(records, newest().into_values().collect::<Vec<_>>());
    drop(journal);
    // The file of the second start holds no more than that.
    let bytes = std::fs::read(directory.path().join(FILE)).expect("it is there");
    let appended = String::from_utf8_lossy(&bytes).matches("appended").count();
    assert_eq!((held(directory.path()).await.records, appended), (newest(), 4));
}

/// Appends that wait at the same time share a write, and keep their order.
#[tokio::test]
async fn records_are_in_the_order_of_the_calls_whoever_is_awaited_first() {
    let directory = tempfile::tempdir().expect("a directory");
    let (journal, _) = open(directory.path(), "p.t").await.expect("a new journal");
    let append = |bytes: &[u8]| journal.append(String::from("k"), bytes.to_vec());
    let (first, second, third) = (append(b"1"), append(b"2"), append(b"3"));
    third.await.expect("durable");
    second.await.expect("durable");
    drop(first);
    assert_eq!(held(directory.path()).await.records["k"], b"3");
}

#[tokio::test]
async fn a_journal_cut_anywhere_recovers_to_a_prefix_of_its_records() {
    let directory = tempfile::tempdir().expect("a directory");
    let whole = written(directory.path()).await;
    let path = directory.path().join(FILE);
    let (all, _) = fold(&whole, &path).expect("whole");
    let mut known = BTreeMap::new();
    let mut steps = 0;
    for cut in MAGIC.len()..=whole.len() {
        let (contents, whole_bytes) = fold(&whole[..cut], &path).expect("only the tail is torn");
        assert!(whole_bytes <= cut);
        steps += usize::from(contents.records != known);
        known = contents.records;
        assert!(contents.identity.is_empty() || contents.identity == all.identity);
    }
    assert_eq!((known, steps), (newest(), 7));
}

#[tokio::test]
async fn a_torn_tail_does_not_stop_the_next_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let whole = written(directory.path()).await;
    let path = directory.path().join(FILE);
    std::fs::write(&path, &whole[..whole.len() - 3]).expect("cut");
    let (journal, _) = open(directory.path(), "p.t").await.expect("it recovers");
    assert_eq!(journal.start(), 2);
    append(&journal, "next", b"6").await.expect("it goes on");
    drop(journal);
    let records = held(directory.path()).await.records;
    assert_eq!(records.get("next").map(Vec::as_slice), Some(&b"6"[..]));
    assert!(!records.contains_key("last"), "its record was torn");
}

#[tokio::test]
async fn the_largest_key_and_record_of_the_contract_have_room() {
    let directory = tempfile::tempdir().expect("a directory");
    let (journal, _) = open(directory.path(), "p.t").await.expect("a new journal");
    // Six letters for each byte of the key, as JSON writes it.
    let (key, bytes) = ("\u{1}".repeat(256), vec![0xff; 64 << 10]);
    append(&journal, &key, &bytes).await.expect("durable");
    assert_eq!(held(directory.path()).await.records[&key], bytes);
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
async fn a_journal_of_another_version_is_refused_with_its_version_and_the_remedy() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut bytes = written(directory.path()).await;
    bytes[..8].copy_from_slice(b"USJRNL01");
    std::fs::write(directory.path().join(FILE), bytes).expect("written");
    let error = open(directory.path(), "p.t").await.err().expect("it is refused");
    assert_eq!(error.kind, ErrorKind::InvalidConfig);
    for part in ["version 01", "reads 03", "finish or restore", "`sink.journal-dir`"] {
        assert!(error.message.contains(part), "{error}");
    }
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
    let (first, _) = open(directory.path(), "p.t").await.expect("the first");
    let (identity, nonce) = (first.identity(), first.nonce());
    drop(first);
    let (second, _) = open(directory.path(), "p.t").await.expect("the second");
    assert_eq!((second.identity(), second.start()), (identity, 2));
    assert_ne!(second.nonce(), nonce);
}
