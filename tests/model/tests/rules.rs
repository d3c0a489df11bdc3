//! Each rule of design §5, taken away: the checker finds what goes wrong then.
//!
//! And with the rule in place, at the same bounds, it finds nothing. So no rule is there in vain.

#![allow(missing_docs, reason = "the names of the tests say it")]

use upsert_sink_model::{Bounds, Order, Plan, Promise, Rule, check};

/// With the rule off one of the promises is broken; with it on none is.
#[track_caller]
fn needs(rule: Rule, plan: Plan, promises: &[Promise]) {
    let kept = check(plan.clone(), &[]);
    println!("with {rule:?}: {kept}");
    assert!(kept.broken.is_empty(), "with {rule:?}: {kept}");
    assert!(kept.ends, "the end is never reached: the bounds are too narrow");
    let broken = check(Plan { without: Some(rule), ..plan }, promises);
    println!("without {rule:?}: {broken}");
    let found = promises.iter().any(|promise| broken.way(*promise).is_some());
    assert!(found, "without {rule:?} nothing goes wrong: {broken}");
}

fn bounds(checkpoints: u8, crashes: u8) -> Bounds {
    Bounds { checkpoints, crashes, failures: 2, ..Bounds::default() }
}

#[test]
fn without_names_rows_beyond_the_checkpoint_are_committed() {
    let plan = Plan { bounds: bounds(2, 0), ..Plan::exactly_once(&[0, 1, 0]) };
    needs(Rule::SessionsAreNamed, plan, &[Promise::Early]);
}

#[test]
fn a_session_that_is_created_ahead_loses_to_an_older_one() {
    let bounds = bounds(2, 0);
    let plan = Plan { bounds, order: Order::Creation, ..Plan::exactly_once(&[0, 1, 0]) };
    needs(Rule::AheadWriterWaits, plan, &[Promise::Fold, Promise::End]);
}

#[test]
fn a_completion_that_commits_all_shows_rows_beyond_it() {
    let plan = Plan { bounds: bounds(2, 0), in_flight: 2, ..Plan::exactly_once(&[0, 0]) };
    needs(Rule::CompletionCommitsItsOwn, plan, &[Promise::Early]);
}

#[test]
fn an_aborted_barrier_that_takes_its_sessions_along_loses_rows() {
    let bounds = Bounds { aborted: 1, ..bounds(2, 0) };
    let plan = Plan { bounds, ..Plan::exactly_once(&[0]) };
    needs(Rule::AbortedWaitsForTheNext, plan, &[Promise::Fold]);
}

#[test]
fn a_restore_that_does_not_commit_loses_rows() {
    let bounds = Bounds { lost_notices: 1, ..bounds(2, 1) };
    let plan = Plan { bounds, ..Plan::exactly_once(&[0]) };
    needs(Rule::CommittedOnRestore, plan, &[Promise::Fold]);
}

#[test]
fn a_committable_that_is_dropped_at_completion_loses_rows() {
    let bounds = bounds(2, 1);
    let plan = Plan { bounds, empty: true, ..Plan::exactly_once(&[0]) };
    needs(Rule::KeptUntilKnown, plan, &[Promise::Fold]);
}

#[test]
fn commits_that_do_not_wait_for_each_other_go_back() {
    let bounds = Bounds { lost_notices: 1, ..bounds(2, 0) };
    let plan = Plan { bounds, ..Plan::exactly_once(&[0, 0]) };
    needs(Rule::CommitsAreOrdered, plan, &[Promise::Back]);
}

#[test]
fn an_ack_that_is_taken_for_another_pack_loses_rows() {
    let bounds = Bounds { late_packs: 1, ..bounds(1, 0) };
    let plan = Plan { bounds, ..Plan::exactly_once(&[0, 0]) };
    needs(Rule::AckOfOnePack, plan, &[Promise::Fold]);
}

#[test]
fn two_packs_of_a_bucket_under_way_overtake_each_other() {
    let plan = Plan { bounds: bounds(1, 0), ..Plan::exactly_once(&[0, 0]) };
    needs(Rule::OnePackOfABucket, plan, &[Promise::Fold]);
}

#[test]
fn a_pack_that_is_not_sent_again_is_lost() {
    let bounds = Bounds { late_packs: 1, ..bounds(1, 0) };
    let plan = Plan { bounds, ..Plan::exactly_once(&[0]) };
    needs(Rule::PackKeptUntilItsAck, plan, &[Promise::Fold]);
}

#[test]
fn a_session_that_is_used_on_after_a_doubt_shows_an_old_row_for_good() {
    let bounds = Bounds { late_packs: 1, ..bounds(1, 0) };
    let plan = Plan { bounds, ..Plan::exactly_once(&[0, 0]) };
    needs(Rule::DoubtRollsOver, plan, &[Promise::Fold]);
}

#[test]
fn not_found_taken_for_a_commit_loses_rows() {
    let bounds = Bounds { waits: 1, dropped: 1, older: 1, ..bounds(1, 0) };
    let plan = Plan { bounds, ..Plan::exactly_once(&[0]) };
    needs(Rule::NotFoundIsNoEvidence, plan, &[Promise::Guess]);
}

#[test]
fn a_session_that_is_not_journalled_is_left_open() {
    let plan = Plan { bounds: bounds(1, 1), ..Plan::exactly_once(&[0]) };
    needs(Rule::SessionsAreJournalled, plan, &[Promise::LeftOpen]);
    let bounds = Bounds { late_commits: 1, ..bounds(2, 1) };
    let plan = Plan { bounds, ..Plan::at_least_once(&[0, 0]) };
    needs(Rule::SessionsAreJournalled, plan, &[Promise::End]);
}

#[test]
fn an_abort_that_is_not_journalled_is_taken_for_a_commit() {
    let bounds = Bounds { savepoints: 1, older: 1, ..bounds(2, 2) };
    let plan = Plan { bounds, forgets: true, ..Plan::exactly_once(&[0]) };
    needs(Rule::AbortsAreJournalled, plan, &[Promise::Guess]);
}

#[test]
fn an_abort_that_is_journalled_after_it_was_sent_is_taken_for_a_commit() {
    let bounds = Bounds { savepoints: 1, older: 1, late_others: 1, ..bounds(2, 2) };
    let plan = Plan { bounds, forgets: true, ..Plan::exactly_once(&[0]) };
    needs(Rule::AbortsAreJournalledFirst, plan, &[Promise::Guess]);
}

#[test]
fn predecessors_that_are_not_aborted_are_left_open() {
    let plan = Plan { bounds: bounds(1, 1), ..Plan::exactly_once(&[0]) };
    needs(Rule::PredecessorsAreAborted, plan, &[Promise::LeftOpen]);
    let bounds = Bounds { late_commits: 1, ..bounds(2, 1) };
    let plan = Plan { bounds, ..Plan::at_least_once(&[0, 0]) };
    needs(Rule::PredecessorsAreAborted, plan, &[Promise::End]);
}

#[test]
fn an_abort_that_is_not_awaited_lets_a_late_commit_go_back() {
    let bounds = Bounds { late_commits: 1, ..bounds(2, 1) };
    let plan = Plan { bounds, ..Plan::at_least_once(&[0, 0]) };
    needs(Rule::AbortsAreAwaited, plan.clone(), &[Promise::Fence]);
    let tolerated = vec![Promise::Fence];
    needs(Rule::AbortsAreAwaited, Plan { tolerated, ..plan }, &[Promise::End]);
}

#[test]
fn an_identity_that_only_the_state_holds_forgets_the_first_attempt() {
    let plan = Plan { bounds: bounds(1, 1), ..Plan::exactly_once(&[0]) };
    needs(Rule::IdentityOutsideState, plan, &[Promise::LeftOpen]);
    let bounds = Bounds { late_commits: 1, ..bounds(2, 1) };
    let plan = Plan { bounds, ..Plan::at_least_once(&[0, 0]) };
    needs(Rule::IdentityOutsideState, plan, &[Promise::End]);
}

#[test]
fn a_known_commit_that_is_not_journalled_stops_the_sink_for_nothing() {
    let bounds = Bounds { waits: 1, ..bounds(1, 1) };
    let plan = Plan { bounds, forgets: true, ..Plan::exactly_once(&[0]) };
    needs(Rule::KnownIsJournalled, plan, &[Promise::Stop]);
}

#[test]
fn a_commit_known_by_evidence_that_is_not_journalled_stops_the_sink_for_nothing() {
    let bounds = Bounds { waits: 1, late_commits: 1, ..bounds(1, 1) };
    let plan = Plan { bounds, forgets: true, ..Plan::exactly_once(&[0]) };
    needs(Rule::EvidenceIsJournalled, plan, &[Promise::Stop]);
}

#[test]
fn one_writer_that_restarts_by_itself_shows_rows_beyond_the_checkpoint() {
    let plan = Plan { bounds: bounds(1, 1), ..Plan::exactly_once(&[0, 2]) };
    needs(Rule::WritersRestartTogether, plan, &[Promise::Early]);
}

#[test]
fn a_restore_that_does_not_await_every_writer_aborts_what_it_has_to_commit() {
    let bounds = Bounds { lost_notices: 1, ..bounds(1, 1) };
    let plan = Plan { bounds, ..Plan::exactly_once(&[0, 1]) };
    needs(Rule::RestoreIsAwaited, plan, &[Promise::Stop, Promise::Fold]);
}

#[test]
fn one_retained_checkpoint_leaves_no_way_out_of_a_lost_session() {
    let bounds = Bounds { waits: 1, dropped: 1, older: 1, ..bounds(2, 0) };
    let plan = Plan { bounds, ..Plan::exactly_once(&[0, 0]) };
    needs(Rule::TwoAreRetained, plan, &[Promise::Stop]);
}

#[test]
fn two_live_attempts_go_back() {
    let plan = Plan { bounds: bounds(2, 1), ..Plan::exactly_once(&[0, 0]) };
    needs(Rule::LeaseStopsTheStart, plan, &[Promise::Back]);
}
