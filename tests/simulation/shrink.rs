//! Makes a failing world smaller: fewer faults, then less input, as long as it fails.
//!
//! Used by the suite and the program when a seed fails. Invariant: what is returned was run, and
//! failed.

use super::faults::Fault;
use super::subject::Subjects;
use super::world::{Plan, Trace};

/// Runs that shrinking takes, at most.
const RUNS_MAX: u64 = 120;
/// Input that is not made smaller any more.
const CHANGES_MIN: u64 = 100;

/// The smallest world that was found to fail, beginning with one that does.
pub fn shrink(failing: &Plan, subjects: &Subjects) -> Plan {
    let fails = |plan: &Plan| super::run(plan, subjects, &Trace::new(false)).is_err();
    smallest(failing, fails)
}

fn smallest(failing: &Plan, fails: impl Fn(&Plan) -> bool) -> Plan {
    let (mut smallest, mut runs) = (failing.clone(), 0);
    let mut is_better = |plan: &Plan| {
        runs += 1;
        runs <= RUNS_MAX && fails(plan)
    };
    let mut shrunk = true;
    while shrunk {
        shrunk = false;
        let present = smallest.faults.present();
        // Half of them at once, then one by one.
        let halves = present.chunks(present.len().div_ceil(2).max(1)).map(<[Fault]>::to_vec);
        let each = present.iter().map(|fault| vec![*fault]);
        for without in halves.chain(each) {
            let mut plan = smallest.clone();
            without.iter().for_each(|fault| plan.faults.set(*fault, 0));
            if plan.faults != smallest.faults && is_better(&plan) {
                (smallest, shrunk) = (plan, true);
            }
        }
        let changes = smallest.changes / 2;
        let shorter = Plan { changes, ..smallest.clone() };
        if changes >= CHANGES_MIN && is_better(&shorter) {
            (smallest, shrunk) = (shorter, true);
        }
    }
    smallest
}

#[cfg(test)]
mod tests {
    use super::super::subject::Subject;
    use super::*;

    #[test]
    fn only_what_is_needed_to_fail_is_left() {
        let mut plan = Plan::of(7, Subject::Native);
        plan.faults.set(Fault::Lost, 9);
        let needs = |plan: &Plan| plan.faults.rate(Fault::Lost) > 0 && plan.changes > 1000;
        let smallest = smallest(&plan, needs);
        assert_eq!(smallest.faults.present(), [Fault::Lost]);
        assert!((1001..=2001).contains(&smallest.changes), "{}", smallest.changes);
    }
}
