//! Each assumption about the service, broken: what goes wrong then, and what still holds.
//!
//! The promises listed as broken are found broken, and with them tolerated every other promise
//! holds in every state that the bounds allow.

#![allow(missing_docs, reason = "the names of the tests say it")]

use upsert_sink_model::{Assumption, Bounds, Order, Plan, Promise, check};

/// Exactly these promises are broken.
#[track_caller]
fn breaks(plan: &Plan, promises: &[Promise]) {
    let mut tolerated: Vec<Promise> = Vec::new();
    loop {
        let report = check(Plan { tolerated: tolerated.clone(), ..plan.clone() }, &[]);
        println!("{tolerated:?} tolerated: {report}");
        if report.broken.is_empty() {
            break;
        }
        tolerated.extend(report.broken.iter().map(|(promise, _)| *promise));
    }
    let unexpected = tolerated.iter().find(|promise| !promises.contains(promise));
    assert_eq!(unexpected, None, "this still holds, it was said");
    let missing = promises.iter().find(|promise| !tolerated.contains(promise));
    assert_eq!(missing, None, "this was said to be broken");
}

fn bounds(checkpoints: u8, crashes: u8) -> Bounds {
    Bounds { checkpoints, crashes, failures: 2, ..Bounds::default() }
}

fn broken(assumption: Assumption, bounds: Bounds) -> Plan {
    Plan { broken: Some(assumption), bounds, ..Plan::exactly_once(&[0, 1, 0]) }
}

#[test]
fn by_arrival_a_late_copy_shows_an_old_row_and_nothing_else_goes_wrong() {
    let bounds = Bounds { late_packs: 1, ..bounds(2, 1) };
    let plan = Plan { order: Order::Arrival, bounds, ..Plan::exactly_once(&[0, 1, 0]) };
    breaks(&plan, &[Promise::Fold, Promise::End]);
}

#[test]
fn by_arrival_everything_holds_if_a_doubt_fails_the_attempt() {
    let bounds = Bounds { late_packs: 1, ..bounds(2, 1) };
    let options = vec![("sink.doubt", "fail")];
    let plan = Plan { order: Order::Arrival, options, bounds, ..Plan::exactly_once(&[0, 1, 0]) };
    breaks(&plan, &[]);
}

#[test]
fn where_a_second_session_is_refused_none_is_asked_for_and_everything_holds() {
    let bounds = Bounds { aborted: 1, late_commits: 1, ..bounds(2, 1) };
    let options = vec![("sink.session.overlap", "false")];
    let plan = Plan { one_session: true, options, bounds, ..Plan::exactly_once(&[0, 1, 0]) };
    breaks(&plan, &[]);
    // Rows wait for a commit that waits for the next checkpoint, which waits for the rows: until
    // the engine gives that one up.
    let bounds = Bounds { lost_notices: 1, ..bounds };
    breaks(&Plan { bounds, ..plan }, &[Promise::End]);
}

#[test]
fn if_ended_sessions_take_packs_an_old_row_may_be_shown() {
    let bounds = Bounds { late_packs: 1, ..bounds(2, 1) };
    let plan = broken(Assumption::EndedSessionsRefusePacks, bounds);
    breaks(&plan, &[Promise::Fold, Promise::Back, Promise::Once, Promise::Fence, Promise::End]);
}

#[test]
fn if_a_commit_is_not_atomic_it_is_seen_in_parts_and_nothing_else_goes_wrong() {
    let bounds = Bounds { late_commits: 1, ..bounds(2, 1) };
    let plan = broken(Assumption::CommitIsAtomic, bounds);
    breaks(&plan, &[Promise::Whole]);
}

#[test]
fn if_young_sessions_are_dropped_rows_are_lost_but_none_is_early_or_goes_back() {
    let bounds = Bounds { dropped: 1, ..bounds(2, 1) };
    let plan = broken(Assumption::YoungSessionsStay, bounds);
    breaks(&plan, &[Promise::Guess, Promise::Fold, Promise::End]);
}

#[test]
fn if_packs_are_repeated_on_the_way_an_old_row_may_be_shown_but_none_is_early() {
    let bounds = Bounds { late_packs: 1, ..bounds(2, 1) };
    let plan = Plan {
        broken: Some(Assumption::NobodyRepeatsPacks),
        bounds,
        ..Plan::exactly_once(&[0, 0, 1])
    };
    breaks(&plan, &[Promise::Fold, Promise::End]);
}

#[test]
fn at_least_once_converges_unless_doubts_are_passed_over() {
    let bounds = Bounds { late_packs: 1, ..bounds(2, 1) };
    let plan = Plan { bounds, ..Plan::at_least_once(&[0, 0]) };
    breaks(&plan, &[]);
    let options = vec![("sink.doubt", "continue")];
    breaks(&Plan { options, ..plan }, &[Promise::End]);
}

#[test]
fn skipping_a_lost_session_loses_its_rows_and_nothing_else() {
    let bounds = Bounds { waits: 1, dropped: 1, ..bounds(2, 1) };
    let options = vec![("sink.recover.lost-session", "skip")];
    let plan = Plan { bounds, options, ..Plan::exactly_once(&[0, 1, 0]) };
    breaks(&plan, &[Promise::Guess, Promise::Fold, Promise::End]);
}
