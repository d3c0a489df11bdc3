//! Whoever looks at the table at every commit, and knows from the input alone what it may show.
//!
//! Reads the commits that it has not seen, keeps the view that follows from them, and asks one
//! family of promises after the other. Invariant: nothing here knows how the sink works; the first
//! promise that is broken is kept.

mod evidence;
mod fold;
mod moves;
mod order;
mod sessions;
mod visibility;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use arrow_array::{Int8Array, Int64Array, RecordBatch, StringArray};
pub(crate) use evidence::evidence;
pub(crate) use sessions::left_open;
use upsert_sink_server::Service;
use upsert_sink_server::audit::{Committed, Seen};

use self::moves::Moves;
use self::order::Order;
use super::feed::{DAYS, Feed, Key};
use super::world::Promise;

/// A reader's view: the change of the input that each row shows.
pub(crate) type View = BTreeMap<Key, u64>;

/// All promises, checked against one input.
#[derive(Debug)]
pub(crate) struct Checker {
    feed: Arc<Feed>,
    promise: Promise,
    seen: Seen,
    view: View,
    sessions: BTreeSet<String>,
    order: Order,
    moves: Moves,
    /// How many changes were before the newest checkpoint that ever completed.
    completed: u64,
    broken: Option<String>,
    /// How often a view was checked.
    pub(crate) views: u64,
}

impl Checker {
    /// A checker of an input that is known in advance.
    pub(crate) fn new(feed: &Arc<Feed>, promise: Promise) -> Self {
        Self {
            feed: Arc::clone(feed),
            promise,
            seen: Seen::default(),
            view: View::new(),
            sessions: BTreeSet::new(),
            order: Order::default(),
            moves: Moves::default(),
            completed: 0,
            broken: None,
            views: 0,
        }
    }

    /// A checkpoint is complete, with so many changes before it.
    pub(crate) fn completed(&mut self, changes: u64) {
        self.completed = self.completed.max(changes);
    }

    /// An older checkpoint is restored: what came after it is committed once more.
    pub(crate) fn restored_older(&mut self, changes: u64) {
        self.order.begin_replay(changes);
    }

    /// Whether an older checkpoint was restored, and the table may still go back.
    pub(crate) fn is_replaying(&self) -> bool {
        self.order.is_replaying()
    }

    /// How many changes were before the newest checkpoint that ever completed.
    pub(crate) fn newest(&self) -> u64 {
        self.completed
    }

    /// In how many views moved rows were looked for.
    pub(crate) fn moves_seen(&self) -> u64 {
        self.moves.seen
    }

    /// Keeps the first promise that was broken.
    pub(crate) fn broken(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    /// The first promise that was broken.
    pub(crate) fn verdict(&self) -> Result<()> {
        match &self.broken {
            None => Ok(()),
            Some(what) => Err(anyhow::anyhow!("{what}")),
        }
    }

    /// Reads what was committed since the last time.
    pub(crate) async fn look(&mut self, service: &Service) {
        let mut seen = std::mem::take(&mut self.seen);
        let fresh = service.committed("t", &mut seen).await;
        self.seen = seen;
        let looked = match fresh {
            Ok(fresh) if fresh.is_empty() => Ok(()),
            Ok(fresh) => self.take(&fresh),
            Err(error) => Err(anyhow::Error::from(error)),
        };
        if let Err(error) = looked {
            self.broken(format!("{error:#}"));
        }
    }

    fn take(&mut self, fresh: &[Committed]) -> Result<()> {
        for commit in fresh {
            let first = self.sessions.insert(commit.session.clone());
            ensure!(first, "session {} was committed twice", commit.session);
            let rows = rows(commit)?;
            for (key, shown) in &rows {
                match shown {
                    Some(number) => self.view.insert(*key, *number),
                    None => self.view.remove(key),
                };
            }
            self.views += 1;
            for (key, shown) in rows {
                visibility::origin(&self.feed, key, shown)?;
                if !self.promise.at_least_once {
                    self.order.check(&self.feed, key, shown, self.completed)?;
                }
            }
        }
        let may_move = self.promise.moves && !self.promise.at_least_once;
        if may_move && !self.order.is_replaying() {
            self.moves.check(&self.feed, &self.view, self.completed)?;
        }
        Ok(())
    }

    /// Everything before so many changes is known to be committed.
    pub(crate) fn all_committed(&mut self, changes: u64) -> Result<()> {
        fold::equal(&self.feed, &self.view, changes)?;
        if changes >= self.completed {
            self.order.end_replay();
        }
        Ok(())
    }

    /// Whether a query shows the same rows.
    pub(crate) fn shows(&self, batches: &[RecordBatch]) -> Result<bool> {
        let mut view = View::new();
        for batch in batches {
            let days = column::<StringArray>(batch, "day")?;
            let ids = column::<Int64Array>(batch, "id")?;
            let numbers = column::<Int64Array>(batch, "seq")?;
            for row in 0..batch.num_rows() {
                let key = (day(days.value(row))?, ids.value(row));
                let twice = view.insert(key, u64::try_from(numbers.value(row))?);
                ensure!(twice.is_none(), "{key:?} is there twice");
            }
        }
        Ok(view == self.view)
    }
}

/// The state in which a commit leaves each of its keys.
fn rows(commit: &Committed) -> Result<BTreeMap<Key, Option<u64>>> {
    let day = day(commit.partition.first().map_or("", String::as_str))?;
    let mut rows = BTreeMap::new();
    for batch in &commit.rows {
        let ids = column::<Int64Array>(batch, "id")?;
        let numbers = column::<Int64Array>(batch, "seq")?;
        let operations = column::<Int8Array>(batch, "__operation")?;
        for row in 0..batch.num_rows() {
            let shown = match operations.value(row) {
                85 => Some(u64::try_from(numbers.value(row))?),
                _ => None,
            };
            rows.insert((day, ids.value(row)), shown);
        }
    }
    Ok(rows)
}

fn day(value: &str) -> Result<u8> {
    let found = DAYS.iter().position(|day| *day == value);
    let found = found.with_context(|| format!("{value:?} was never in the input"))?;
    Ok(u8::try_from(found)?)
}

fn column<'a, T: 'static>(batch: &'a RecordBatch, name: &str) -> Result<&'a T> {
    let column = batch.column_by_name(name).with_context(|| format!("no column {name}"))?;
    column.as_any().downcast_ref().with_context(|| format!("{name} is {}", column.data_type()))
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use upsert_sink::RowKind;

    use crate::simulation::feed::{Change, Feed};

    /// One key: inserted, updated, deleted, inserted.
    pub(super) fn feed() -> Arc<Feed> {
        let change = |kind| Change { key: (0, 1), kind };
        let kinds = [RowKind::Insert, RowKind::UpdateAfter, RowKind::Delete, RowKind::Insert];
        Feed::new(kinds.map(change).to_vec())
    }
}
