//! The input of a random schedule, and the rows that the table may show of it.
//!
//! Invariant: the value of a row is its position in the input, so that every copy of it can be
//! known; the rules for the table follow from the input alone.

use std::collections::{BTreeMap, BTreeSet};

use upsert_sink_format::batch::RowKind;

/// Small, seeded and good enough to choose faults.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    pub(crate) fn one_in(&mut self, chances: usize) -> bool {
        self.below(chances) == 0
    }
}

/// One change of the input.
struct Change {
    day: &'static str,
    key: i64,
    kind: RowKind,
}

/// The input.
pub(crate) struct History {
    changes: Vec<Change>,
}

/// Rows move in one direction for so many changes, then in the other: between two barriers of one
/// such span they do not move in a circle.
const ONE_WAY: usize = 40;

impl History {
    /// Upserts of few keys, each of two partitions.
    pub(crate) fn of_upserts(dice: &mut Dice) -> Self {
        let change = |day, key| Change { day, key, kind: RowKind::Insert };
        let changes = (0..120).map(|_| change(["x", "y"][dice.below(2)], dice.below(3) as i64));
        Self { changes: changes.collect() }
    }

    /// Rows with keys of the whole table, which change, move and go.
    pub(crate) fn of_moves(dice: &mut Dice) -> Self {
        let mut changes: Vec<Change> = Vec::new();
        let mut at: BTreeMap<i64, &'static str> = BTreeMap::new();
        while changes.len() < 160 {
            let mut change = |day, key, kind| changes.push(Change { day, key, kind });
            let key = dice.below(5) as i64;
            let Some(day) = at.get(&key).copied() else {
                let day = ["x", "y", "z"][dice.below(3)];
                at.insert(key, day);
                change(day, key, RowKind::Insert);
                continue;
            };
            if dice.one_in(12) {
                at.remove(&key);
                change(day, key, RowKind::Delete);
                continue;
            }
            change(day, key, RowKind::UpdateBefore);
            let targets: &[&str] = match ((changes.len() / ONE_WAY).is_multiple_of(2), day) {
                (true, "x") => &["y", "z"],
                (true, "y") => &["z"],
                (false, "z") => &["x", "y"],
                (false, "y") => &["x"],
                _ => &[day],
            };
            let towards = targets[dice.below(targets.len())];
            let day = if dice.one_in(2) { towards } else { day };
            at.insert(key, day);
            changes.push(Change { day, key, kind: RowKind::UpdateAfter });
        }
        Self { changes }
    }

    pub(crate) fn len(&self) -> usize {
        self.changes.len()
    }

    /// The key of a change.
    pub(crate) fn key(&self, position: usize) -> i64 {
        self.changes[position].key
    }

    /// The number of changes that are read at once: a before-image and its after-image stay
    /// together.
    pub(crate) fn at_once(&self, position: usize) -> usize {
        if self.changes[position].kind == RowKind::UpdateBefore { 2 } else { 1 }
    }

    /// A change as `World::write` takes it.
    pub(crate) fn row(&self, position: usize) -> String {
        let Change { day, key, kind } = &self.changes[position];
        match kind {
            RowKind::Insert => format!("{day}:{}", row(*key, position)),
            RowKind::UpdateBefore => format!("{day}:<{key}"),
            RowKind::UpdateAfter => format!("{day}:>{}", row(*key, position)),
            RowKind::Delete => format!("{day}:-{key}"),
        }
    }

    /// The table after so many changes, as `Tunnel::table` shows it.
    pub(crate) fn fold(&self, changes: usize) -> Vec<String> {
        let mut fold = BTreeMap::new();
        for (position, change) in self.changes[..changes].iter().enumerate() {
            let at = (change.day, change.key);
            if change.kind.removes() {
                fold.remove(&at);
            } else {
                fold.insert(at, position);
            }
        }
        let line = |((day, key), position): (&(&str, i64), &usize)| {
            format!("day='{day}' {}", row(*key, *position))
        };
        fold.iter().map(line).collect()
    }

    /// A key that is somewhere in the table after each number of changes between these two, but
    /// nowhere in this view. None is looked for if between them no rows move, or rows move in a
    /// circle of partitions; then the answer is an error.
    pub(crate) fn absent(
        &self,
        view: &[String],
        from: usize,
        to: usize,
    ) -> Result<Option<i64>, ()> {
        let mut moves: BTreeSet<(&str, &str)> = BTreeSet::new();
        let (mut alive, mut ever_gone) = (BTreeSet::new(), BTreeSet::new());
        let keys: BTreeSet<i64> = self.changes.iter().map(|change| change.key).collect();
        for (position, change) in self.changes[..to].iter().enumerate() {
            if change.kind == RowKind::UpdateBefore && position >= from {
                let (old, new) = (change.day, self.changes[position + 1].day);
                moves.extend((old != new).then_some((old, new)));
            }
            match change.kind {
                RowKind::Insert | RowKind::UpdateAfter => alive.insert(change.key),
                RowKind::UpdateBefore => false,
                RowKind::Delete => alive.remove(&change.key),
            };
            if position + 1 >= from {
                ever_gone.extend(keys.difference(&alive).copied());
            }
        }
        if from == 0 {
            ever_gone.extend(&keys);
        }
        if moves.is_empty() || has_circle(moves) {
            return Err(());
        }
        let shown: BTreeSet<i64> = view.iter().map(|line| parse(line).1).collect();
        Ok(keys.into_iter().find(|key| !ever_gone.contains(key) && !shown.contains(key)))
    }
}

/// Whether some moves lead back to their beginning.
fn has_circle(mut moves: BTreeSet<(&str, &str)>) -> bool {
    loop {
        let from: BTreeSet<&str> = moves.iter().map(|(from, _)| *from).collect();
        let before = moves.len();
        moves.retain(|(_, to)| from.contains(to));
        if moves.len() == before {
            return !moves.is_empty();
        }
    }
}

/// A row of half a bucket's buffer.
fn row(key: i64, position: usize) -> String {
    format!("{key}={position:0>600}")
}

/// Partition, key and position of a row of the table.
pub(crate) fn parse(line: &str) -> (&str, i64, usize) {
    let (day, row) = line.split_once(' ').unwrap();
    let (key, position) = row.split_once('=').unwrap();
    (day, key.parse().unwrap(), position.parse().unwrap())
}
