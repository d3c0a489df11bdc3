//! The promises, and where each is looked at.
//!
//! The numbers are those of the invariants that the sink is held to; the words of I10 are those of
//! design §5. Invariant: after a broken promise nothing follows, unless the plan tolerates it.

use std::sync::atomic::Ordering;

use stateright::Property;

use crate::engine::Next;
use crate::message::{Failure, Journalled, JournalledAs};
use crate::plan::Rule;
use crate::tunnel::Fate;
use crate::world::{Model, World};

/// One promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Promise {
    /// I1, I10.
    Fold,
    /// I2.
    Early,
    /// I8.
    Once,
    /// I8, of what is seen at once.
    Whole,
    /// I9, of keys.
    Back,
    /// I9, of sessions.
    Order,
    /// I11.
    Guess,
    /// I12.
    Fence,
    /// I13.
    Owner,
    /// Rule 8.
    Stop,
    /// Nothing that should not happen.
    Unexpected,
    /// The end is reached; at-least-once is held to that alone.
    End,
    /// No session is left open.
    LeftOpen,
    /// Rule 6: what is done is in the journal.
    Journal,
}

/// All promises, in words.
pub const PROMISES: [(Promise, &str); 14] = [
    (Promise::Fold, "I1, I10: what a settled checkpoint shows is the fold of the input before it"),
    (Promise::Early, "I2: nothing is visible beyond the last completed checkpoint"),
    (Promise::Once, "I8: a session becomes visible once"),
    (Promise::Whole, "I8: a session becomes visible as a whole"),
    (Promise::Back, "I9: no key goes back"),
    (Promise::Order, "I9: sessions become visible in the order of their names"),
    (Promise::Guess, "I11: a commit is known only if it happened"),
    (Promise::Fence, "I12: an attempt that ended changes nothing once the next hands out sessions"),
    (Promise::Owner, "I13: a bucket of a session has one writer"),
    (Promise::Stop, "a loud stop is for a session that is lost, and can be recovered from"),
    (Promise::Unexpected, "no machine fails but for a fault"),
    (Promise::End, "what is read is settled in the end"),
    (Promise::LeftOpen, "no session is left open in the end"),
    (
        Promise::Journal,
        "rule 6: a session takes rows, an abort is sent, a commit is known in the journal first",
    ),
];

impl Promise {
    /// In words.
    pub fn text(self) -> &'static str {
        PROMISES[self as usize].1
    }
}

macro_rules! kept {
    ($($promise:ident),*) => {
        vec![$(Property::always(Promise::$promise.text(), |model: &Model, world: &World| {
            model.keeps(world, Promise::$promise)
        })),*]
    };
}

/// All promises, as the checker wants them; and that something happens at all.
pub(crate) fn properties() -> Vec<Property<Model>> {
    let mut all = kept![
        Fold, Early, Once, Whole, Back, Order, Guess, Fence, Owner, Stop, Unexpected, End,
        LeftOpen, Journal
    ];
    all.push(Property::sometimes(REACHED, |model, world| {
        !model.is_moving(world) && model.is_settled(world)
    }));
    all
}

/// The checker has to see the end at least once.
pub(crate) const REACHED: &str = "the end is reached";

impl Model {
    /// Whether a state keeps a promise. Only the first state that does not is reported, which is
    /// the nearest: the checker would go on to farther ones.
    fn keeps(&self, world: &World, promise: Promise) -> bool {
        let kept = match promise {
            Promise::End => self.is_moving(world) || self.is_settled(world),
            Promise::LeftOpen => {
                self.is_moving(world) || !self.is_settled(world) || self.open_sessions(world) == 0
            }
            _ => !world.is_broken(promise),
        };
        if kept || self.plan.tolerated.contains(&promise) {
            return true;
        }
        let bit = 1 << promise as u16;
        self.told.fetch_or(bit, Ordering::Relaxed) & bit != 0
    }

    /// Looks at what is done only when the journal has it, unless a rule about that is off.
    pub(crate) fn look_at_journal(&self, world: &mut World, durable: bool) {
        let off = [
            Rule::SessionsAreJournalled,
            Rule::AbortsAreJournalled,
            Rule::AbortsAreJournalledFirst,
            Rule::IdentityOutsideState,
            Rule::KnownIsJournalled,
            Rule::EvidenceIsJournalled,
            Rule::LeaseStopsTheStart,
        ];
        if !durable && !off.into_iter().any(|rule| self.plan.is_off(rule)) {
            self.breaks(world, Promise::Journal);
        }
    }

    /// Notes that a promise is broken, unless that is to be expected.
    pub(crate) fn breaks(&self, world: &mut World, promise: Promise) {
        if !self.plan.tolerated.contains(&promise) {
            world.breaks(promise);
        }
    }

    /// Whether something may go on without a fault, or the bounds cut this run short.
    pub(crate) fn is_moving(&self, world: &World) -> bool {
        let Some(sink) = &world.sink else { return true };
        let mut writers = 0..world.engine.parallelism;
        let moving = |writer: u8| {
            let facts = self.machines.facts(sink.writers[writer as usize]);
            facts.accepting && world.engine.next(writer, &self.plan) != Next::Nothing
        };
        let completable = world.engine.open.iter().any(|barrier| barrier.is_prepared());
        let all_read = world.engine.retained.last().map(|it| it.offset) == Some(self.plan.rows());
        let may_begin = world.left.checkpoints == 0 || !self.offsets(world).is_empty();
        let settled = all_read && self.machines.facts(sink.committer).pending == 0;
        !world.flights.is_empty()
            || !world.letters.is_empty()
            || !world.loose.is_empty()
            || writers.any(moving)
            || completable
            || (!settled && world.engine.open.is_empty() && may_begin)
    }

    /// Whether the table is the whole input, and nothing is pending.
    pub(crate) fn is_settled(&self, world: &World) -> bool {
        let Some(sink) = &world.sink else { return false };
        let last = world.engine.retained.last();
        last.is_some_and(|last| last.offset == self.plan.rows())
            && self.machines.facts(sink.committer).pending == 0
            && world.shown() == self.fold(self.plan.rows())
    }

    /// Sessions that are open at the service, but for those that a crash came to before their
    /// record: nobody was told of them.
    pub(crate) fn open_sessions(&self, world: &World) -> usize {
        let sessions = world.tunnel.sessions.iter();
        let told = sessions.filter(|session| session.recorded || session.name.is_some());
        told.filter(|session| session.fate == Fate::Open).count()
    }

    /// The table after so many rows of the input: of each key, the position plus one.
    pub(crate) fn fold(&self, rows: u8) -> Vec<u8> {
        let mut fold = vec![0; crate::task::KEYS];
        for position in 0..rows {
            fold[self.plan.log[position as usize] as usize] = position + 1;
        }
        fold
    }

    /// Looks at what is to be seen after every action.
    pub(crate) fn look(&self, world: &mut World) {
        let Some(sink) = &world.sink else { return };
        let Some(last) = world.engine.retained.last() else { return };
        if self.machines.facts(sink.committer).committed != last.id || self.plan.at_least_once {
            return;
        }
        if world.ghost.catching_up && last.offset < world.ghost.bound {
            return;
        }
        if world.shown() == self.fold(last.offset) {
            world.ghost.catching_up = false;
        } else {
            self.breaks(world, Promise::Fold);
        }
    }

    /// An attempt ended by itself: was there a reason?
    pub(crate) fn look_at_failure(&self, world: &mut World, failure: &Failure) {
        match failure {
            Failure::Unexpected(_) => self.breaks(world, Promise::Unexpected),
            Failure::Retry(_) => {
                if world.left == self.plan.bounds {
                    self.breaks(world, Promise::Unexpected);
                }
            }
            Failure::SessionLost(number) => {
                let session = &world.tunnel.sessions[*number as usize];
                let known = world.ghost.known >> number & 1 == 1;
                let journalled =
                    |state| world.journal.contains(&Journalled(*number, session.start, state));
                // A start in between was about to abort it: nobody knows what became of that.
                let retired =
                    journalled(JournalledAs::Aborting) || journalled(JournalledAs::Aborted);
                let in_doubt = world.ghost.went_back && retired;
                let lost = match session.fate {
                    Fate::Open | Fate::Half => in_doubt,
                    Fate::Dropped => true,
                    // It may have been seen by nobody, and be forgotten.
                    Fate::Committed => (session.forgotten && !known) || in_doubt,
                    Fate::Aborted => world.ghost.went_back,
                };
                if !lost || (world.engine.more && world.engine.retained.len() < 2) {
                    self.breaks(world, Promise::Stop);
                }
            }
        }
    }
}
