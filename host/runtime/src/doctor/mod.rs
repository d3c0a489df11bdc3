//! The doctor: whether a service is what the sink takes it for, before anything is entrusted to it.
//!
//! Beside the row's way. `basics.rs` looks at what every start needs, `assumptions.rs` tries the
//! five assumptions of the exactly-once protocol on a table of its own (`scratch.rs`), `advice.rs`
//! says what follows for the sink's options. Invariant: the user's table is read from the catalog
//! and never written; whatever goes wrong is a finding, and what was not seen is never said to
//! hold.

mod advice;
mod assumptions;
mod basics;
mod row_types;
mod scratch;

use std::fmt;
use std::time::Duration;

pub use advice::Advice;
use assumptions::Assumptions;

use crate::components::{BoxFuture, Components};
use crate::plugin::Plugin;
use crate::settings::Settings;

/// The object of a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Whether the settings name a table of the user's, whose description is then read.
    pub table: bool,
    /// Whether to create, write and drop a scratch table: without it no assumption can be tried.
    pub scratch: bool,
    /// How long to hold a session open at least.
    pub hold: Duration,
}

/// The result of a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was seen to hold, as far as the finding says.
    Holds,
    /// It was seen not to hold.
    Broken,
    /// It could not be seen.
    Untested,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Holds => "holds",
            Self::Broken => "broken",
            Self::Untested => "untested",
        })
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its short name: `clock`, or the letter of an assumption.
    pub name: &'static str,
    /// The expectation.
    pub expected: &'static str,
    /// Whether it is so.
    pub verdict: Verdict,
    /// The observation, or why there is none; and the remedy.
    pub seen: String,
}

impl Finding {
    fn holds(name: &'static str, expected: &'static str, seen: impl Into<String>) -> Self {
        Self { name, expected, verdict: Verdict::Holds, seen: seen.into() }
    }

    fn broken(name: &'static str, expected: &'static str, seen: impl Into<String>) -> Self {
        Self { name, expected, verdict: Verdict::Broken, seen: seen.into() }
    }

    fn untested(name: &'static str, expected: &'static str, seen: impl Into<String>) -> Self {
        Self { name, expected, verdict: Verdict::Untested, seen: seen.into() }
    }
}

/// How the service orders two open sessions of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// By their commits.
    Commit,
    /// By their creation.
    Creation,
    /// By the arrival of packs, whatever is committed when.
    Arrival,
    /// It refuses the second one.
    Refused,
    /// Not known.
    Unknown,
}

/// All findings, and what follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// In the order in which things were looked at.
    pub findings: Vec<Finding>,
    /// How two open sessions are ordered.
    pub order: Order,
    /// The behaviour of the sink there, and the options that must be set for it.
    pub advice: Vec<Advice>,
    /// The scratch table, if it could not be dropped.
    pub left_behind: Option<String>,
}

impl Diagnosis {
    /// Whether nothing is known to be wrong.
    pub fn is_sound(&self) -> bool {
        self.findings.iter().all(|finding| finding.verdict != Verdict::Broken)
    }
}

/// Looks at everything in scope. `tell` hears of each finding as it is made.
///
/// It keeps no journal: sessions that it leaves behind, if it is killed, end with the scratch
/// table.
pub fn examine<'a>(
    plugin: &'a Plugin,
    settings: &'a Settings,
    components: &'a Components,
    scope: Scope,
    tell: &'a mut (dyn FnMut(&Finding) + Send),
) -> BoxFuture<'a, Diagnosis> {
    Box::pin(async move {
        let mut chart = Chart { findings: Vec::new(), tell };
        let service = basics::look(plugin, settings, components, scope, &mut chart).await;
        let mut assumptions = Assumptions::default();
        let mut left_behind = None;
        match service {
            Err(why) => assumptions::untested(&why, &mut chart),
            Ok(()) if !scope.scratch => {
                assumptions::untested("no scratch table was allowed", &mut chart);
            }
            Ok(()) => {
                left_behind =
                    assumptions::examine(settings, components, scope, &mut chart, &mut assumptions)
                        .await;
            }
        }
        let advice = advice::of(&settings.guest_options, assumptions.order, &chart.findings);
        Diagnosis { findings: chart.findings, order: assumptions.order, advice, left_behind }
    })
}

/// Where findings are written down.
struct Chart<'a> {
    findings: Vec<Finding>,
    tell: &'a mut (dyn FnMut(&Finding) + Send),
}

impl Chart<'_> {
    fn add(&mut self, finding: Finding) {
        (self.tell)(&finding);
        self.findings.push(finding);
    }
}
