//! With all rules on and all assumptions kept, every promise holds in every state that the bounds
//! allow.
//!
//! The bounds are those that a change can wait for; `MODEL_BOUNDS=nightly` takes the wider ones
//! beside them. Both count the states that they met.

#![allow(missing_docs, reason = "the names of the tests say it")]

use upsert_sink_model::{Bounds, Order, Plan, check};

/// Every promise holds, within these bounds; at night, within the wider ones.
#[track_caller]
fn holds(plan: Plan, nightly: Plan) {
    let plan = if std::env::var_os("MODEL_BOUNDS").is_some_and(|it| it == "nightly") {
        nightly
    } else {
        plan
    };
    let (bounds, letters) = (plan.bounds, plan.letters);
    let report = check(plan, &[]);
    println!("{bounds:?}: {report}");
    for (kind, times) in allowed(&bounds, letters) {
        let happened = report.happened.contains(&kind);
        assert_eq!(happened, times > 0, "{kind}, of which the bounds have {times}");
    }
    assert!(report.broken.is_empty(), "{report}");
    assert!(report.ends, "the end is never reached: the bounds are too narrow");
}

/// The events that may happen, and how often: all of them do, and no others.
fn allowed(bounds: &Bounds, letters: bool) -> Vec<(&'static str, u8)> {
    let late = bounds.late_packs + bounds.late_commits + bounds.late_others;
    vec![
        ("a checkpoint completes", bounds.checkpoints),
        ("a notice is lost", bounds.lost_notices),
        ("a savepoint is taken", bounds.savepoints),
        ("a checkpoint is aborted", bounds.aborted),
        ("a request gets no answer", late),
        ("a request comes late", late),
        ("a message arrives", u8::from(letters)),
        ("a message is lost", bounds.lost_letters),
        ("a message is repeated", bounds.repeated_letters),
        ("an attempt begins", bounds.crashes),
        ("an older checkpoint is restored", bounds.older),
        ("hours pass", bounds.waits),
        ("a session is dropped", bounds.dropped),
        ("an append takes its time", bounds.slow_appends),
    ]
}

fn bounds(checkpoints: u8, crashes: u8) -> Bounds {
    Bounds { checkpoints, crashes, failures: 2, ..Bounds::default() }
}

/// A pack and a commit may come late, or never.
fn late(checkpoints: u8, crashes: u8) -> Bounds {
    Bounds { late_packs: 1, late_commits: 1, ..bounds(checkpoints, crashes) }
}

#[test]
fn exactly_once_through_two_crashes_with_late_packs_and_commits() {
    let plan = Plan { bounds: late(2, 2), ..Plan::exactly_once(&[0, 1, 0]) };
    holds(plan.clone(), Plan { log: &[0, 1, 0, 1], ..plan });
}

#[test]
fn exactly_once_over_a_longer_input() {
    let plan = Plan { bounds: late(2, 1), ..Plan::exactly_once(&[0, 1, 0, 1]) };
    holds(plan.clone(), Plan { log: &[0, 1, 0, 1, 0], ..plan });
}

#[test]
fn exactly_once_with_two_checkpoints_under_way_and_a_lost_notice() {
    let bounds = Bounds { lost_notices: 1, late_commits: 1, ..bounds(3, 1) };
    let plan = Plan { bounds, in_flight: 2, ..Plan::exactly_once(&[0, 1, 0]) };
    let wider = Bounds { aborted: 1, late_packs: 1, ..bounds };
    holds(plan.clone(), Plan { bounds: wider, ..plan });
}

#[test]
fn exactly_once_with_three_checkpoints_under_way_of_which_any_is_aborted() {
    let bounds = Bounds { aborted: 2, ..bounds(3, 1) };
    let plan = Plan { bounds, in_flight: 3, ..Plan::exactly_once(&[0, 1]) };
    holds(plan.clone(), Plan { log: &[0, 1, 0], ..plan });
}

#[test]
fn exactly_once_where_the_service_orders_by_creation() {
    let bounds = Bounds { aborted: 1, ..late(2, 1) };
    let order = Order::Creation;
    let plan = Plan { bounds, order, in_flight: 2, empty: true, ..Plan::exactly_once(&[0, 0]) };
    let wider = Bounds { checkpoints: 3, ..bounds };
    holds(plan.clone(), Plan { bounds: wider, ..plan });
}

#[test]
fn exactly_once_with_creations_and_aborts_that_get_no_answer() {
    let bounds = Bounds { late_others: 1, late_commits: 1, ..bounds(2, 1) };
    let plan = Plan { bounds, ..Plan::exactly_once(&[0, 1, 0]) };
    let wider = Bounds { crashes: 2, late_others: 2, ..bounds };
    holds(plan.clone(), Plan { bounds: wider, ..Plan::exactly_once(&[0, 1]) });
}

#[test]
fn exactly_once_when_appends_to_the_journal_take_their_time() {
    let bounds = Bounds { slow_appends: 2, late_commits: 1, ..bounds(2, 1) };
    let plan = Plan { bounds, ..Plan::exactly_once(&[0, 1, 0]) };
    let wider = Bounds { slow_appends: 3, late_packs: 1, late_others: 1, ..bounds };
    holds(plan.clone(), Plan { bounds: wider, ..plan });
    let plan = Plan { bounds, ..Plan::at_least_once(&[0, 0]) };
    holds(plan.clone(), Plan { log: &[0, 1, 0], ..plan });
}

#[test]
fn exactly_once_with_sessions_that_expire_or_are_forgotten() {
    let bounds = Bounds { waits: 1, dropped: 1, older: 1, late_commits: 1, ..bounds(2, 1) };
    let plan = Plan { bounds, forgets: true, ..Plan::exactly_once(&[0, 1]) };
    holds(plan.clone(), Plan { log: &[0, 1, 0], ..plan });
}

#[test]
fn exactly_once_after_an_older_checkpoint_or_a_savepoint_was_restored() {
    let bounds = Bounds { older: 1, savepoints: 1, late_commits: 1, ..bounds(2, 2) };
    let plan = Plan { bounds, ..Plan::exactly_once(&[0, 1]) };
    let wider = Bounds { checkpoints: 3, ..bounds };
    holds(plan.clone(), Plan { bounds: wider, ..plan });
}

#[test]
fn exactly_once_when_the_number_of_writers_changes() {
    let bounds = Bounds { lost_notices: 1, late_commits: 1, ..bounds(2, 2) };
    let plan = Plan { bounds, rescale: true, ..Plan::exactly_once(&[0, 1]) };
    holds(plan.clone(), Plan { log: &[0, 1, 0], ..plan });
}

#[test]
fn exactly_once_when_messages_take_their_time() {
    let plan = Plan { bounds: bounds(2, 1), letters: true, ..Plan::exactly_once(&[0]) };
    let wider = Bounds { late_packs: 1, ..bounds(2, 1) };
    holds(plan.clone(), Plan { bounds: wider, ..plan });
    let plan = Plan { bounds: bounds(1, 1), letters: true, ..Plan::exactly_once(&[0, 1]) };
    holds(plan.clone(), Plan { bounds: bounds(2, 0), ..plan });
}

#[test]
fn exactly_once_when_messages_are_lost_or_repeated() {
    let bounds = Bounds { lost_letters: 1, ..bounds(1, 0) };
    let plan = Plan { bounds, letters: true, ..Plan::exactly_once(&[0, 1]) };
    holds(plan.clone(), Plan { bounds: Bounds { crashes: 1, ..bounds }, ..plan });
    let bounds = Bounds { repeated_letters: 1, lost_letters: 1, checkpoints: 1, ..bounds };
    let plan = Plan { bounds, letters: true, ..Plan::exactly_once(&[0]) };
    holds(plan.clone(), Plan { bounds: Bounds { crashes: 1, ..bounds }, ..plan });
}

#[test]
fn exactly_once_with_packs_of_several_rows() {
    let bounds = Bounds { aborted: 1, ..late(2, 1) };
    let plan = Plan { bounds, full: false, ..Plan::exactly_once(&[0, 2, 0, 1]) };
    holds(plan.clone(), Plan { bounds: Bounds { crashes: 2, ..bounds }, ..plan });
}

#[test]
fn exactly_once_with_two_keys_in_each_bucket() {
    let bounds = Bounds { late_packs: 1, ..bounds(2, 1) };
    let plan = Plan { bounds, ..Plan::exactly_once(&[0, 2, 1, 3]) };
    holds(plan.clone(), Plan { bounds: Bounds { late_commits: 1, ..bounds }, ..plan });
}

#[test]
fn at_least_once_converges() {
    let plan = Plan { bounds: late(2, 2), ..Plan::at_least_once(&[0, 0]) };
    holds(plan.clone(), Plan { log: &[0, 1, 0], ..plan });
}

#[test]
fn at_least_once_converges_after_an_older_checkpoint_was_restored() {
    let bounds = Bounds { older: 1, savepoints: 1, late_commits: 1, ..bounds(2, 1) };
    let plan = Plan { bounds, ..Plan::at_least_once(&[0, 1, 0]) };
    holds(plan.clone(), Plan { bounds: Bounds { crashes: 2, late_packs: 1, ..bounds }, ..plan });
}
