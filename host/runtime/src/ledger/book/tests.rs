//! The promises of the book: nothing that was measured is lost, counted twice, or put elsewhere.

use upsert_sink_core::io::CheckpointOutcome::{Aborted, Completed};
use upsert_sink_format::tunnel::{Answer, Outcome};

use super::*;
use crate::ledger::part::Trial;

fn part(rows: u64, sessions: &[(&str, &str)]) -> InstancePart {
    let sessions = sessions.iter().map(|(id, day)| ((*id).into(), (*day).into()));
    InstancePart { rows, sessions: sessions.collect(), ..InstancePart::default() }
}

/// The record of its commit is durable in the journal after so long.
fn commits(book: &mut Book, session: &str, took_us: u64, known_ms: Option<u64>) {
    book.commit_attempted(&Measured {
        operation: None,
        journal_key: Some(session),
        outcome: &Outcome::Done(Answer::None),
        known_ms,
        trial: Trial::default(),
        took_us,
        at_once: 1,
    });
}

fn passes(book: &mut Book, id: u64, parts: [InstancePart; 2]) {
    book.barrier(id, CheckpointKind::Checkpoint, id * 1_000);
    for part in parts {
        book.hand_over(id, part, id * 1_000 + 100);
    }
}

fn rows(book: &Book) -> Vec<(u64, u64)> {
    book.records().iter().map(|record| (record.id, record.rows)).collect()
}

#[test]
fn each_writers_part_is_in_the_checkpoint_that_it_was_handed_over_for() {
    let mut book = Book::new(3, 2);
    book.delayed(7);
    book.barrier(1, CheckpointKind::Checkpoint, 2_000_000);
    book.aside(InstancePart { dead_letters: 1, ..part(0, &[]) });
    book.hand_over(1, part(10, &[("a", "x"), ("b", "y")]), 2_000_100);
    book.hand_over(1, part(5, &[("a", "x")]), 2_000_300);
    book.aside(InstancePart { dead_letters: 8, ..part(0, &[]) });
    book.ended(1, Completed, 2_000_400);
    book.committed(1, 2_000_900);
    let record = &book.records()[0];
    assert_eq!((record.id, record.start, record.writers), (1, 3, 2));
    assert_eq!((record.rows, record.dead_letters, record.partitions), (15, 1, 2));
    let times = &record.times_us;
    assert_eq!((times.flush, times.commit, times.delayed), (300, 500, 7));
    assert_eq!(record.barrier_ms, 2_000);
    passes(&mut book, 2, [part(1, &[]), part(1, &[])]);
    book.ended(2, Completed, 2_500);
    book.committed(2, 2_600);
    assert_eq!(book.records()[1].dead_letters, 8);
}

#[test]
fn what_an_aborted_checkpoint_measured_is_in_the_next_record() {
    let mut book = Book::new(1, 2);
    book.delayed(9);
    book.barrier(1, CheckpointKind::Checkpoint, 1_000);
    book.hand_over(1, part(10, &[("a", "x")]), 1_100);
    book.ended(1, Aborted, 1_200);
    book.hand_over(1, part(3, &[("b", "y")]), 1_300);
    passes(&mut book, 2, [part(20, &[]), part(30, &[])]);
    book.ended(2, Completed, 2_200);
    commits(&mut book, "a", 5, Some(4));
    book.committed(2, 2_300);
    assert_eq!(rows(&book), [(2, 63)]);
    let record = &book.records()[0];
    assert_eq!((record.partitions, record.commits.count), (2, 1));
    assert_eq!((record.times_us.disk, record.times_us.delayed), (5, 9));
}

#[test]
fn a_commit_is_in_the_checkpoint_of_its_session_however_late_it_comes() {
    let mut book = Book::new(1, 2);
    passes(&mut book, 1, [part(1, &[("a", "x")]), part(1, &[])]);
    book.ended(1, Completed, 1_200);
    passes(&mut book, 2, [part(2, &[("b", "x")]), part(2, &[])]);
    book.ended(2, Completed, 2_200);
    commits(&mut book, "b", 70, Some(70));
    commits(&mut book, "a", 30, Some(30));
    book.committed(1, 3_000);
    book.committed(2, 4_000);
    let durations: Vec<_> = book.records().iter().map(|one| one.commits.max_ms).collect();
    assert_eq!(durations, [30, 70]);
}

#[test]
fn a_savepoint_has_its_record_and_the_next_checkpoint_its_commits() {
    let mut book = Book::new(1, 2);
    book.barrier(1, CheckpointKind::Savepoint, 1_000);
    book.hand_over(1, part(1, &[("a", "x")]), 1_100);
    book.hand_over(1, part(1, &[]), 1_200);
    passes(&mut book, 2, [part(2, &[("b", "x")]), part(2, &[])]);
    book.ended(2, Completed, 2_200);
    commits(&mut book, "a", 1, Some(1));
    commits(&mut book, "b", 1, Some(1));
    book.committed(2, 3_000);
    assert_eq!(rows(&book), [(1, 2), (2, 4)]);
    let counts: Vec<_> = book.records().iter().map(|record| record.commits.count).collect();
    assert_eq!(counts, [0, 2]);
}

#[test]
fn commits_of_an_earlier_start_are_in_the_record_of_the_restored_checkpoint() {
    let mut book = Book::new(2, 2);
    book.restored(8, 5_000);
    commits(&mut book, "unknown", 4, Some(6));
    book.committed(8, 5_500);
    let record = &book.records()[0];
    assert_eq!((record.id, record.kind, record.rows), (8, CheckpointKind::Restored, 0));
    assert_eq!((record.commits.count, record.times_us.commit), (1, 500));
}

#[test]
fn records_are_bounded_and_the_totals_hold_all_of_them() {
    let mut book = Book::new(1, 1);
    for id in 1..=300 {
        book.barrier(id, CheckpointKind::Checkpoint, id);
        let buckets = (0..100).map(|bucket| (bucket, u64::from(bucket) + 1)).collect();
        book.hand_over(id, InstancePart { buckets, ..part(1, &[("a", "x")]) }, id);
        book.ended(id, Completed, id);
        for ms in 0..10 {
            commits(&mut book, "a", 1, Some(ms));
        }
        book.committed(id, id);
    }
    assert_eq!((book.records().len(), book.totals().rows), (RECORDS_MAX, 300));
    assert!(book.sessions.is_empty() && book.open.is_empty());
    let record = &book.records()[0];
    assert_eq!((record.buckets.count, record.buckets.total), (100, 5_050));
    assert_eq!(record.buckets.largest.len(), BUCKETS_LISTED_MAX);
    assert_eq!(record.buckets.largest[0], (99, 100));
    let slowest: Vec<u64> = record.commits.slowest.iter().map(|slow| slow.ms).collect();
    assert_eq!(slowest, [9, 8, 7, 6, 5]);
    assert_eq!((record.commits.median_ms, record.commits.count), (4, 10));
}
