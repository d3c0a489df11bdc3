//! The five assumptions about the service on which exactly-once rests, each tried on a table of the
//! doctor's own.
//!
//! The second part of a diagnosis. (a) Two open sessions of one partition are ordered by commit, or
//! by creation; (b) committed or aborted sessions reject late packs; (c) a commit is atomic over
//! buckets; (d) an open session in contact is never dropped; (e) no intermediary repeats a PUT on
//! its own. Invariant: what an experiment cannot see is told with its verdict; the table is dropped
//! whatever happened.

use std::collections::BTreeMap;
use std::pin::pin;

use upsert_sink_format::tunnel::{SessionInfo, SessionStatus};
use upsert_sink_tunnel::Session;

use super::scratch::{Obstacle, Row, ScratchTable, Tried};
use super::{Chart, Finding, Order, Scope};
use crate::components::Components;
use crate::settings::Settings;

const TABLE: &str = "a table and a session can be created";
const A: &str = "two open sessions of one partition are ordered by commit, or by creation";
const B: &str = "committed and aborted sessions reject late packs";
const C: &str = "a commit is atomic over buckets";
const D: &str = "an open session in contact is never dropped";
const E: &str = "no intermediary repeats a PUT on its own";

/// The facts that the advice rests on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Assumptions {
    pub(super) order: Order,
}

impl Default for Assumptions {
    fn default() -> Self {
        Self { order: Order::Unknown }
    }
}

/// None of them could be tried.
pub(super) fn untested(why: &str, chart: &mut Chart<'_>) {
    for (name, expected) in [("a", A), ("b", B), ("c", C), ("d", D), ("e", E)] {
        chart.add(Finding::untested(name, expected, why));
    }
}

/// Tries them on a scratch table; answers its name if it is left behind.
pub(super) async fn examine(
    settings: &Settings,
    components: &Components,
    scope: Scope,
    chart: &mut Chart<'_>,
    assumptions: &mut Assumptions,
) -> Option<String> {
    let scratch = match ScratchTable::prepare(settings, components).await {
        Ok(scratch) => scratch,
        Err(error) => {
            chart.add(Finding::untested("scratch", TABLE, error.to_string()));
            untested("there is no scratch table", chart);
            return None;
        }
    };
    match begin(&scratch).await {
        Ok(held) => {
            chart.add(Finding::holds(
                "scratch",
                TABLE,
                opened(scratch.name.as_str(), &held, settings),
            ));
            let (order, finding) = order(&scratch).await;
            assumptions.order = order;
            chart.add(finding);
            chart.add(or_untested("b", B, late_packs(&scratch).await));
            chart.add(or_untested("c", C, atomic(&scratch).await));
            // The last but one, so that the session is as old as it can be.
            chart.add(or_untested("d", D, contact(&scratch, &held, scope).await));
            chart.add(or_untested("e", E, repeats(&scratch).await));
        }
        Err(obstacle) => {
            let seen = format!("{}: {}", scratch.name, obstacle.text());
            chart.add(Finding::broken("scratch", TABLE, seen));
            untested("there is no scratch table to write to", chart);
        }
    }
    // Also after a failure: the table may exist although its creation was not acknowledged.
    scratch.drop_table().await.err().map(|_| scratch.name.to_string())
}

fn or_untested(name: &'static str, expected: &'static str, tried: Tried<Finding>) -> Finding {
    tried.unwrap_or_else(|obstacle| Finding::untested(name, expected, obstacle.text()))
}

/// The table, and the session that is held open all the time.
async fn begin(scratch: &ScratchTable) -> Tried<Session> {
    scratch.create().await?;
    scratch.add_partition("held").await?;
    let held = scratch.open("held").await?;
    scratch.put(&held, &[row(1, "early")]).await?;
    Ok(held)
}

fn opened(name: &str, held: &Session, settings: &Settings) -> String {
    let SessionInfo { buckets, hasher, .. } = held.info();
    let quota = match &settings.client.quota_name {
        Some(quota) => format!("quota {quota} was taken"),
        None => String::from("the default quota"),
    };
    format!("{name}: {buckets} buckets, hasher {hasher}, {quota}; sink.hasher must be {hasher}")
}

/// (a), in two experiments: the packs of the later session arrive first; the later session is
/// committed first.
async fn order(scratch: &ScratchTable) -> (Order, Finding) {
    match by_arrival(scratch).await {
        Ok(Observed::Later) => {}
        Ok(Observed::Refused(why)) => {
            let seen = format!("a second open session is refused: {why}");
            return (Order::Refused, Finding::broken("a", A, seen));
        }
        Ok(Observed::Earlier) => {
            let seen = "by arrival: a pack that arrived later won, although its session was \
                        created and committed earlier";
            return (Order::Arrival, Finding::broken("a", A, seen));
        }
        Ok(Observed::Other(found)) => {
            let seen = format!("neither session's row is there, but {found}");
            return (Order::Unknown, Finding::broken("a", A, seen));
        }
        Err(obstacle) => return (Order::Unknown, Finding::untested("a", A, obstacle.text())),
    }
    // From here on (a) is known to hold; which of the two it is, is told if it can be seen.
    match by_creation(scratch).await {
        Ok(Observed::Earlier) => (Order::Commit, Finding::holds("a", A, "by commit")),
        Ok(Observed::Later) => (Order::Creation, Finding::holds("a", A, "by creation")),
        Ok(Observed::Refused(why)) => {
            let seen = format!("sessions must be committed as they were created: {why}");
            (Order::Creation, Finding::holds("a", A, seen))
        }
        Ok(Observed::Other(found)) => {
            let seen = format!("out of order, neither session's row is there, but {found}");
            (Order::Unknown, Finding::broken("a", A, seen))
        }
        Err(obstacle) => {
            let seen = format!("not by arrival; commit or creation: {}", obstacle.text());
            (Order::Commit, Finding::holds("a", A, seen))
        }
    }
}

/// Whose row is there in the end.
enum Observed {
    Earlier,
    Later,
    Other(String),
    Refused(String),
}

const EARLIER: &str = "of the earlier session";
const LATER: &str = "of the later session";

async fn by_arrival(scratch: &ScratchTable) -> Tried<Observed> {
    scratch.add_partition("arrival").await?;
    let earlier = scratch.open("arrival").await?;
    let later = match scratch.open("arrival").await {
        Err(obstacle) if obstacle.is_rule() => return Ok(Observed::Refused(obstacle.text())),
        opened => opened?,
    };
    scratch.put(&later, &[row(1, LATER)]).await?;
    scratch.put(&earlier, &[row(1, EARLIER)]).await?;
    committed(scratch, &earlier).await?;
    committed(scratch, &later).await?;
    winner(scratch, "arrival").await
}

async fn by_creation(scratch: &ScratchTable) -> Tried<Observed> {
    scratch.add_partition("creation").await?;
    let earlier = scratch.open("creation").await?;
    let later = scratch.open("creation").await?;
    scratch.put(&earlier, &[row(1, EARLIER)]).await?;
    scratch.put(&later, &[row(1, LATER)]).await?;
    for session in [&later, &earlier] {
        match committed(scratch, session).await {
            Err(obstacle) if obstacle.is_rule() => return Ok(Observed::Refused(obstacle.text())),
            committed => committed?,
        }
    }
    winner(scratch, "creation").await
}

async fn winner(scratch: &ScratchTable, part: &str) -> Tried<Observed> {
    let rows = scratch.rows(part).await?;
    Ok(match rows.get(&1).map(String::as_str) {
        Some(EARLIER) => Observed::Earlier,
        Some(LATER) => Observed::Later,
        _ => Observed::Other(format!("{rows:?}")),
    })
}

/// (b): a copy of a pack arrives when its session has been committed, or aborted.
async fn late_packs(scratch: &ScratchTable) -> Tried<Finding> {
    scratch.add_partition("committed").await?;
    let kept = scratch.open("committed").await?;
    scratch.put(&kept, &[row(1, "kept")]).await?;
    scratch.end_but_go_on(&kept, committed(scratch, &kept)).await?;
    let after_commit = scratch.put(&kept, &[row(1, "late"), row(2, "late")]).await;
    scratch.add_partition("aborted").await?;
    let gone = scratch.open("aborted").await?;
    scratch.put(&gone, &[row(1, "gone")]).await?;
    scratch.end_but_go_on(&gone, scratch.abort(&gone)).await?;
    let after_abort = scratch.put(&gone, &[row(1, "late")]).await;
    // A commit that follows an abort must not bring the rows back either.
    let recommitted = scratch.commit(&gone).await;
    let rows = [scratch.rows("committed").await, scratch.rows("aborted").await];
    let mut broken = Vec::new();
    for (what, put) in [("a committed", &after_commit), ("an aborted", &after_abort)] {
        match put {
            Ok(()) => broken.push(format!("{what} session took a pack")),
            Err(obstacle) if obstacle.is_rule() => {}
            Err(obstacle) => return Err(obstacle.clone()),
        }
    }
    if recommitted == Ok(SessionStatus::Committed) {
        broken.push(String::from("an aborted session was committed"));
    }
    let expected = [BTreeMap::from([row(1, "kept")]), BTreeMap::new()];
    for (rows, expected) in rows.iter().zip(&expected) {
        match rows {
            Ok(rows) if rows != expected => broken.push(format!("its rows became {rows:?}")),
            _ => {}
        }
    }
    let seen = match &rows {
        [Ok(_), Ok(_)] => "both were refused, and no row came of them",
        _ => "both were refused; whether a row came of them could not be read",
    };
    Ok(match broken.is_empty() {
        true => Finding::holds("b", B, seen),
        false => Finding::broken("b", B, broken.join("; ")),
    })
}

/// (c): readers look while a session with rows in every bucket is committed.
async fn atomic(scratch: &ScratchTable) -> Tried<Finding> {
    scratch.add_partition("atomic").await?;
    let session = scratch.open("atomic").await?;
    let rows: Vec<Row> = (0..ATOMIC_ROWS).map(|key| row(key, "x")).collect();
    scratch.put(&session, &rows).await?;
    let before = scratch.rows("atomic").await?.len();
    if before > 0 {
        let seen = format!("{before} of {ATOMIC_ROWS} rows were visible before the commit");
        return Ok(Finding::broken("c", C, seen));
    }
    let (status, during) = commit_under_eyes(scratch, &session).await;
    status?;
    let after = scratch.rows("atomic").await?.len();
    let counts: Vec<usize> = during.into_iter().chain([after]).collect();
    if let Some(part) = counts.iter().find(|count| ![0, rows.len()].contains(count)) {
        let seen = format!("{part} of {ATOMIC_ROWS} rows were visible at once");
        return Ok(Finding::broken("c", C, seen));
    }
    if after != rows.len() {
        let seen = format!("the commit was acknowledged, and {after} rows are visible after it");
        return Ok(Finding::broken("c", C, seen));
    }
    let seen = format!(
        "{} reads that overlapped the commit of {ATOMIC_ROWS} rows in {} buckets saw all or none",
        counts.len() - 1,
        session.info().buckets
    );
    Ok(Finding::holds("c", C, seen))
}

/// Commits while one read follows another, and tells how many rows each has seen.
async fn commit_under_eyes(scratch: &ScratchTable, session: &Session) -> (Tried<()>, Vec<usize>) {
    let mut commit = pin!(committed(scratch, session));
    let (mut ended, mut seen) = (None, Vec::new());
    while ended.is_none() && seen.len() < READS_MAX {
        let mut read = pin!(scratch.rows("atomic"));
        // A read that has begun is always waited for: it is the one that overlaps.
        let rows = loop {
            tokio::select! {
                biased;
                rows = &mut read => break rows,
                status = &mut commit, if ended.is_none() => ended = Some(status),
            }
        };
        seen.extend(rows.map(|rows| rows.len()));
    }
    match ended {
        Some(status) => (status, seen),
        None => (commit.await, seen),
    }
}

/// (d): the session that was opened first is still there, and can be written and committed.
async fn contact(scratch: &ScratchTable, held: &Session, scope: Scope) -> Tried<Finding> {
    let span = format!("{:?} and the time of the other experiments", scope.hold);
    let lost = |why: String| Ok(Finding::broken("d", D, format!("after {span} {why}")));
    match scratch.hold(held, scope.hold).await {
        Ok(SessionStatus::Normal) => {}
        Ok(status) => return lost(format!("it is {status:?}")),
        Err(Obstacle::Refused(refusal)) => return lost(refusal.message),
        Err(obstacle) => return Err(obstacle),
    }
    scratch.put(held, &[row(2, "late")]).await?;
    committed(scratch, held).await?;
    let seen = format!(
        "open for {span}, then written and committed; longer holds (up to the 24 h of a \
         lifecycle) are not tried: give a longer --hold"
    );
    match scratch.rows("held").await {
        Ok(rows) if rows != BTreeMap::from([row(1, "early"), row(2, "late")]) => {
            lost(format!("its rows became {rows:?}"))
        }
        _ => Ok(Finding::holds("d", D, seen)),
    }
}

/// (e): each key is written twice, the second time after the first was acknowledged. A copy of the
/// first that comes later than the second would win.
async fn repeats(scratch: &ScratchTable) -> Tried<Finding> {
    scratch.add_partition("repeats").await?;
    let session = scratch.open("repeats").await?;
    for key in 0..REPEAT_ROUNDS {
        scratch.put_once(&session, &[row(key, "first")]).await?;
        scratch.put_once(&session, &[row(key, "second")]).await?;
    }
    committed(scratch, &session).await?;
    let rows = scratch.rows("repeats").await?;
    let undone = rows.values().filter(|text| *text != "second").count();
    if undone > 0 || rows.len() as i64 != REPEAT_ROUNDS {
        let seen = format!(
            "{undone} of {REPEAT_ROUNDS} keys hold what was written first, although it was \
             overwritten: their packs came twice"
        );
        return Ok(Finding::broken("e", E, seen));
    }
    let seen = format!(
        "{} packs came once, in order; an intermediary that repeats only what failed behind it \
         cannot be seen from here",
        2 * REPEAT_ROUNDS
    );
    Ok(Finding::holds("e", E, seen))
}

/// Commits; any other end than `committed` is an obstacle.
async fn committed(scratch: &ScratchTable, session: &Session) -> Tried<()> {
    match scratch.commit(session).await? {
        SessionStatus::Committed => Ok(()),
        status => Err(Obstacle::Unclear(format!("the commit ended as {status:?}"))),
    }
}

fn row(key: i64, text: &str) -> Row {
    (key, String::from(text))
}

/// Rows over all buckets of the scratch table.
const ATOMIC_ROWS: i64 = 64;
/// Reads during one commit.
const READS_MAX: usize = 20;
/// Keys that are written twice.
const REPEAT_ROUNDS: i64 = 20;
