//! The order in which sessions are committed.
//!
//! Under the committer. Invariant: the sessions of one partition are committed in the order of
//! their names. Two copies of a moved row for a moment are better than none: unless rows moved in a
//! circle of partitions between the same two barriers, a moved row is never absent from its old
//! partition and from its new one.
//!
//! A session *loses* if rows moved out of it, and *receives* if not. The sessions whose rows
//! arrived between the same barriers are one wave, as far as all writers passed those barriers. A
//! barrier that was aborted before some writer passed it parts nothing, so sessions whose spans
//! overlap are of one wave.
//!
//! | the first session of its partition | waits, in all partitions, for |
//! |---|---|
//! | receives | the sessions of earlier waves that lose |
//! | loses | all of earlier waves; in its own, those that receive, and those its rows went to |
//!
//! In its own wave no session waits for one that stands behind it or, in a circle, for the next.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use crate::session::{SessionName, Span};

/// The state of a session on its way to be committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// A checkpoint that holds it must complete first.
    Held,
    /// It waits for its turn.
    Released,
    /// Its commit was sent.
    Committing,
}

/// One session on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting<'a> {
    /// Its name.
    pub(crate) name: &'a SessionName,
    /// The barriers between which its rows arrived.
    pub(crate) span: Span,
    /// Its state.
    pub(crate) state: State,
    /// Whether rows moved out of it.
    pub(crate) loses: bool,
    /// Partitions that some of them are known to have moved to.
    pub(crate) moved_to: &'a BTreeSet<String>,
}

/// The spans that overlap, put together, in their order.
struct Waves(Vec<Span>);

impl Waves {
    fn of(waiting: &[Waiting<'_>]) -> Self {
        let spans: BTreeSet<Span> = waiting.iter().map(|session| session.span).collect();
        let mut waves: Vec<Span> = Vec::new();
        for span in spans {
            match waves.last_mut() {
                Some(last) if last.start == span.start && last.before > span.after => {
                    last.before = last.before.max(span.before);
                }
                _ => waves.push(span),
            }
        }
        Self(waves)
    }

    /// The number of the wave of a session.
    fn at(&self, span: Span) -> usize {
        let later = |wave: &Span| (wave.start, wave.after) <= (span.start, span.after);
        self.0.partition_point(later)
    }
}

/// The sessions whose commit may be sent now, of all that wait, in the order of their names.
pub(crate) fn turns<'a>(waiting: impl Iterator<Item = Waiting<'a>>) -> Vec<SessionName> {
    let waiting: Vec<Waiting<'_>> = waiting.collect();
    let waves = Waves::of(&waiting);
    let mut firsts: Vec<(usize, Waiting<'_>)> = Vec::new();
    let mut earliest: Option<usize> = None;
    let mut losing: Option<usize> = None;
    let mut partition: Option<&str> = None;
    let mut released = true;
    for session in waiting {
        let is_first = partition != Some(session.name.partition.as_str());
        partition = Some(&session.name.partition);
        released = (released || is_first) && session.state != State::Held;
        if !released {
            continue;
        }
        let wave = waves.at(session.span);
        earliest = Some(earliest.map_or(wave, |earliest| earliest.min(wave)));
        if session.loses {
            losing = Some(losing.map_or(wave, |losing| losing.min(wave)));
        }
        if is_first {
            firsts.push((wave, session));
        }
    }
    // Behind the first of its partition there may be more, but none that could go before it does.
    let of_wave = |wanted: usize| firsts.iter().filter(move |(wave, _)| *wave == wanted);
    let receives = |wanted| of_wave(wanted).any(|(_, first)| !first.loses);
    let mut turns: Vec<&Waiting<'_>> = Vec::new();
    let mut in_a_circle: Option<&Waiting<'_>> = None;
    for (wave, first) in firsts.iter().filter(|(_, first)| first.state == State::Released) {
        if !first.loses {
            if losing.is_none_or(|losing| losing >= *wave) {
                turns.push(first);
            }
        } else if earliest == Some(*wave) && !receives(*wave) {
            let goes_to = |other: &Waiting<'_>| {
                other.name != first.name && first.moved_to.contains(&other.name.partition)
            };
            if of_wave(*wave).any(|(_, other)| goes_to(other)) {
                in_a_circle.get_or_insert(first);
            } else {
                turns.push(first);
            }
        }
    }
    let nothing_moves =
        turns.is_empty() && firsts.iter().all(|(_, first)| first.state == State::Released);
    turns.extend(in_a_circle.filter(|_| nothing_moves));
    turns.into_iter().map(|session| session.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::String;

    use upsert_sink_format::id::CheckpointId;

    use super::*;

    /// `a1` or `a1r2`: partition, barrier, rollover; then `:03` if its rows arrived between
    /// barriers 0 and 3 and not 1 and 2, `-` if it loses, `>bc` if it is known to partitions b and
    /// c, `.` if it is held, `*` if its commit was sent.
    fn turns_of(sessions: &[&str]) -> String {
        let parse = |text: &str| {
            let digit = |at: usize| text.as_bytes().get(at).map_or(0, |byte| byte - b'0');
            let rollover = text.find('r').map_or(0, |at| u32::from(digit(at + 1)));
            let state = match text {
                _ if text.contains('.') => State::Held,
                _ if text.contains('*') => State::Committing,
                _ => State::Released,
            };
            let barrier = CheckpointId(digit(1).into());
            let (after, before) = match text.find(':') {
                Some(at) => (digit(at + 1), digit(at + 2)),
                None => (digit(1), digit(1) + 1),
            };
            let after = CheckpointId(after.into());
            let before = CheckpointId(before.into());
            let span = Span { start: 1, after, before };
            let name = SessionName { partition: text[..1].into(), start: 1, barrier, rollover };
            let targets = text.split_once('>').map_or("", |(_, targets)| targets);
            let targets: BTreeSet<String> = targets.chars().map(String::from).collect();
            (name, span, state, text.contains(['-', '>']), targets)
        };
        let parsed: Vec<_> = sessions.iter().map(|text| parse(text)).collect();
        assert!(parsed.is_sorted_by(|a, b| a.0 < b.0), "pending sessions are sorted by name");
        let waiting = parsed.iter().map(|(name, span, state, loses, moved_to)| Waiting {
            name,
            span: *span,
            state: *state,
            loses: *loses,
            moved_to,
        });
        let named = turns(waiting).into_iter().map(|name| match name.rollover {
            0 => format!("{}{}", name.partition, name.barrier),
            rollover => format!("{}{}r{rollover}", name.partition, name.barrier),
        });
        named.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn of_each_partition_the_first_goes_and_those_behind_it_wait() {
        assert_eq!(turns_of(&["a0", "a1", "b1", "c0*", "c1"]), "a0 b1");
        assert_eq!(turns_of(&["a0.", "a1", "b0"]), "b0");
    }

    #[test]
    fn what_loses_waits_until_nothing_of_its_wave_receives() {
        assert_eq!(turns_of(&["a0-", "b0", "c0"]), "b0 c0");
        assert_eq!(turns_of(&["a0-", "b0*"]), "");
        assert_eq!(turns_of(&["a0-", "b0", "b0r1"]), "b0", "both sessions of b receive");
        assert_eq!(turns_of(&["a0-", "b0-"]), "a0 b0");
        assert_eq!(turns_of(&["a0-", "b0."]), "a0", "what is held is of no completed checkpoint");
    }

    #[test]
    fn what_loses_waits_for_all_of_earlier_waves() {
        assert_eq!(
            turns_of(&["a1-", "b0", "b1"]),
            "b0",
            "b1 must come before a1, and b0 before it"
        );
        assert_eq!(turns_of(&["a1-", "b0-", "b1", "c0"]), "c0");
        assert_eq!(turns_of(&["a1-", "b1"]), "b1");
    }

    #[test]
    fn what_receives_waits_for_what_loses_in_earlier_waves() {
        assert_eq!(turns_of(&["a0-", "b1"]), "a0");
        assert_eq!(turns_of(&["a0-*", "b1"]), "");
        assert_eq!(turns_of(&["a0", "b1"]), "a0 b1", "without moves, partitions are independent");
    }

    #[test]
    fn what_loses_waits_for_where_its_rows_went() {
        assert_eq!(turns_of(&["a0>b", "b0>c", "c0"]), "c0");
        assert_eq!(turns_of(&["a0>b", "b0>c"]), "b0", "from the end of a chain to its beginning");
        assert_eq!(turns_of(&["a0>b", "b0*>c"]), "");
        assert_eq!(turns_of(&["a0>b", "b1>c"]), "a0", "b1 is of a later barrier");
        assert_eq!(turns_of(&["a0>b", "b0>a", "c0>d"]), "c0", "what is in no circle goes first");
        assert_eq!(turns_of(&["a0>b", "b0>a", "c0>b"]), "a0", "a circle begins somewhere");
        assert_eq!(turns_of(&["a0>b", "b0>b"]), "b0");
    }

    /// Barrier 1 was aborted before all writers passed it: some wrote on in sessions of 0, or
    /// began those of 1 without having passed it.
    #[test]
    fn a_barrier_that_not_all_passed_parts_no_waves() {
        assert_eq!(turns_of(&["a0:02-", "b1"]), "b1");
        assert_eq!(turns_of(&["a0-", "b1:02"]), "b1");
        assert_eq!(turns_of(&["a0-", "b1", "c0:02"]), "b1 c0", "c may be of both sides");
        assert_eq!(turns_of(&["a0-", "b1", "c2:24"]), "a0", "nothing is of both sides");
        assert_eq!(turns_of(&["a0:02>b", "b0:02>c", "b1", "c1"]), "c1");
        assert_eq!(turns_of(&["a0:02>b", "b0:02>c", "b1"]), "b0", "a's rows are in b0 or in b1");
        assert_eq!(turns_of(&["a0:02>b", "b1"]), "b1");
    }

    /// In any set of sessions that wait, one can go or is under way.
    #[test]
    fn nothing_ever_waits_in_a_circle() {
        let wide = [0b0000_0000, 0b0000_0011, 0b0010_0100, 0b1100_1100, 0b1111_1111_u32];
        for (choice, wide) in (0..3_u32.pow(8)).flat_map(|choice| wide.map(|wide| (choice, wide))) {
            let sessions: Vec<String> = (0..8_u32)
                .map(|at| {
                    let partition = ["a", "b"][at as usize / 4];
                    let barrier = at % 4 / 2;
                    let rollover = at % 2;
                    let span = if wide >> at & 1 == 1 { ":02" } else { "" };
                    let loses = ["", "-", ">ab"][(choice / 3_u32.pow(at) % 3) as usize];
                    format!("{partition}{barrier}r{rollover}{span}{loses}")
                })
                .collect();
            for (from_a, from_b) in (0..=4).flat_map(|a| (4..=8).map(move |b| (a, b))) {
                let left = sessions[from_a..4].iter().chain(&sessions[from_b..]);
                let left: Vec<&str> = left.map(String::as_str).collect();
                assert!(
                    left.is_empty() || !turns_of(&left).is_empty(),
                    "{left:?} wait in a circle"
                );
            }
        }
    }
}
