//! The behaviour of the sink on such a service, and the options that it takes.
//!
//! The last part of a diagnosis. Invariant: every assumption that is broken or unknown has a
//! consequence here; an option is advised only with the value that it has now.

use super::{Finding, Order, Verdict};

/// One consequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// The option that it is about; none if no option helps.
    pub option: Option<&'static str>,
    /// The value that it should have; none if it may stay.
    pub set: Option<&'static str>,
    /// The consequence, in words.
    pub consequence: String,
}

/// The consequences of an order and of findings, for these options of the guest.
pub(super) fn of(options: &[(String, String)], order: Order, findings: &[Finding]) -> Vec<Advice> {
    let mut advice = vec![doubt(options, order), overlap(options, order)];
    for (name, consequence) in CONSEQUENCES {
        let broken =
            |finding: &&Finding| finding.name == name && finding.verdict == Verdict::Broken;
        if findings.iter().any(|finding| broken(&finding)) {
            advice.push(Advice { option: None, set: None, consequence: String::from(consequence) });
        }
    }
    advice
}

fn doubt(options: &[(String, String)], order: Order) -> Advice {
    // Without overlapping sessions there is nothing to roll over into, and the default is `fail`.
    let default = if written(options, OVERLAP) == Some("false") { "fail" } else { "rollover" };
    let is = written(options, DOUBT).unwrap_or(default);
    let (set, consequence) = match (order, is) {
        (Order::Commit | Order::Creation, "rollover") => (
            None,
            "after a pack in doubt the sink writes on in a fresh session, committed strictly \
             after the old one: no replay",
        ),
        (Order::Arrival | Order::Refused, "fail") => {
            (None, "after a pack in doubt the sink ends the attempt, and the engine replays")
        }
        (Order::Arrival, _) => (
            Some("fail"),
            "a late copy in the old session would win over newer rows in the fresh one: the \
             attempt must end instead, and the engine replay",
        ),
        (Order::Refused, _) => (
            Some("fail"),
            "there can be no fresh session beside the old one: the attempt must end instead, and \
             the engine replay",
        ),
        (Order::Unknown, "fail") => {
            (None, "the order of two open sessions is not known, and is not relied on in doubt")
        }
        (Order::Unknown, _) => (
            Some("fail"),
            "the order of two open sessions is not known: until it is, only ending the attempt \
             after a pack in doubt is safe",
        ),
        (Order::Commit | Order::Creation, "fail") => {
            (None, "safe, but `rollover` would spare the replays on this service")
        }
        (Order::Commit | Order::Creation, _) => {
            (Some("rollover"), "a late copy may undo newer rows, and nobody would notice")
        }
    };
    Advice { option: Some(DOUBT), set, consequence: now(is, set, consequence) }
}

fn overlap(options: &[(String, String)], order: Order) -> Advice {
    let is = written(options, OVERLAP).unwrap_or("true");
    let (set, consequence) = match (order, is) {
        (Order::Refused, "false") => {
            (None, "the sink waits for a commit's outcome before it opens the next session")
        }
        (Order::Refused, _) => (
            Some("false"),
            "the service refuses two open sessions of a partition: the sink must wait for a \
             commit's outcome before it opens the next",
        ),
        (_, "false") => (None, "safe; checkpoints wait for the commits of those before them"),
        (_, _) => (None, "rows of the next checkpoint flow while the last one is being committed"),
    };
    Advice { option: Some(OVERLAP), set, consequence: now(is, set, consequence) }
}

fn now(is: &str, set: Option<&str>, consequence: &str) -> String {
    match set {
        Some(value) => format!("is {is}, set it to {value}: {consequence}"),
        None => format!("may stay {is}: {consequence}"),
    }
}

fn written<'a>(options: &'a [(String, String)], name: &str) -> Option<&'a str> {
    options.iter().find(|(option, _)| option == name).map(|(_, value)| value.trim())
}

const DOUBT: &str = "sink.doubt";
const OVERLAP: &str = "sink.session.overlap";

/// Findings that no option can mend.
const CONSEQUENCES: [(&str, &str); 5] = [
    (
        "b",
        "a copy of a pack that comes late may undo newer rows: exactly-once is not kept on this \
         service, whatever is set; report it to its operator",
    ),
    (
        "c",
        "readers may see a part of a checkpoint, in some buckets before others; the table still \
         comes to the right rows",
    ),
    (
        "d",
        "a session that waits for its commit may be lost: keep at least two checkpoints, and \
         checkpoint often; a lost session stops the sink loudly",
    ),
    (
        "e",
        "copies of packs arrive that the sink has not sent and cannot doubt: switch off whatever \
         repeats requests on the way; until then exactly-once is not kept",
    ),
    ("clock", "every request will be refused until the clock is set"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    fn set(order: Order, written: &[(&str, &str)]) -> [Option<&'static str>; 2] {
        let advice = of(&options(written), order, &[]);
        [advice[0].set, advice[1].set]
    }

    #[test]
    fn what_the_design_says_of_each_order_is_advised() {
        assert_eq!(set(Order::Commit, &[]), [None, None]);
        assert_eq!(set(Order::Creation, &[]), [None, None]);
        assert_eq!(set(Order::Arrival, &[]), [Some("fail"), None]);
        assert_eq!(set(Order::Refused, &[]), [Some("fail"), Some("false")]);
        assert_eq!(set(Order::Unknown, &[]), [Some("fail"), None]);
    }

    #[test]
    fn what_is_set_already_is_not_advised_again() {
        let written = [("sink.doubt", "fail"), ("sink.session.overlap", "false")];
        for order in [Order::Arrival, Order::Refused, Order::Unknown, Order::Commit] {
            assert_eq!(set(order, &written), [None, None], "{order:?}");
        }
        assert_eq!(set(Order::Refused, &[("sink.session.overlap", "false")]), [None, None]);
        assert_eq!(set(Order::Commit, &[("sink.doubt", "continue")])[0], Some("rollover"));
    }

    #[test]
    fn every_broken_assumption_has_a_consequence() {
        for name in ["b", "c", "d", "e", "clock"] {
            let finding = Finding::broken(name, "", "");
            assert_eq!(of(&[], Order::Commit, &[finding]).len(), 3, "{name}");
        }
    }
}
