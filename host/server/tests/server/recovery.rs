//! Everything that was acknowledged survives: a restart, a kill, and a loss of power at every sync.

use std::collections::BTreeMap;
use std::path::Path;

use upsert_sink_server::Error;
use upsert_sink_server::components::simulated::{LastSync, SimulatedDirectories, Unsynced};
use upsert_sink_server::components::{Access, Directories};

use crate::support::{DATA, Row, Site, row};

#[tokio::test]
async fn a_restart_keeps_open_sessions_and_their_packs() {
    let site = Site::with_days(&["a"]).await;
    let (open, aborted) = (site.session("a").await, site.session("a").await);
    assert_eq!(site.put(&open, &[(1, Some("x")), (2, Some("y"))]).await.status, 200);
    assert_eq!(site.abort(&aborted).await.status, 200);
    let disk = site.disk.crash(Unsynced::Lost).await;
    let site = Site::on(site.clock, disk).await.expect("recovered");
    assert_eq!(site.reload(&open).await.session_status(), "normal");
    assert_eq!(site.reload(&aborted).await.session_status(), "aborted");
    assert_eq!(site.service.open_sessions().len(), 1);
    assert_eq!(site.put(&open, &[(1, Some("z"))]).await.status, 200);
    assert_eq!(site.commit(&open).await.session_status(), "committed");
    assert_eq!(site.rows().await, [row("a", 1, "z"), row("a", 2, "y")]);
}

/// One bit of a file of the spool, as an ageing disk changes it.
async fn damage(disk: &SimulatedDirectories, at: u64) {
    let directory = disk.open(Path::new(DATA), Access::Read).expect("it is there");
    let name = "spool/00000000000000000001.packs";
    let length = directory.length(name).await.expect("packs were written");
    let size = usize::try_from(length).expect("a small file");
    let mut bytes = directory.read(name, 0, size).await.expect("read").to_vec();
    bytes[usize::try_from(at.min(length - 1)).expect("a small file")] ^= 1;
    directory.truncate(name, 0).await.expect("emptied");
    directory.append(name, bytes.into()).await.expect("written again");
    directory.sync(name).await.expect("synced");
}

/// A torn end is cut, since nobody was told of it; what a later record calls durable is not.
#[tokio::test]
async fn a_record_that_was_acknowledged_and_is_damaged_is_told_and_not_cut() {
    let site = Site::with_days_and(&["a"], |settings| settings.segment_bytes = 1 << 20).await;
    let session = site.session("a").await;
    for round in 0..3 {
        assert_eq!(site.put(&session, &[(round, Some("x"))]).await.status, 200);
    }
    for at in [8, 12, 20, 40, 100] {
        let disk = site.disk.crash(Unsynced::Lost).await;
        damage(&disk, at).await;
        let error = Site::on(site.clock.clone(), disk).await.map(drop).expect_err("damaged");
        let message = error.to_string();
        let named = message.contains("spool/00000000000000000001.packs")
            && message.contains("does not match its checksum");
        assert!(named, "byte {at}: {message}");
    }
    let disk = site.disk.crash(Unsynced::Lost).await;
    damage(&disk, u64::MAX).await;
    let site = Site::on(site.clock, disk).await.expect("its end may be torn");
    assert_eq!(site.reload(&session).await.session_status(), "normal");
}

#[tokio::test]
async fn an_aborted_session_stays_aborted_after_its_segment_is_gone() {
    let site = Site::with_days(&["a"]).await;
    let aborted = site.session("a").await;
    assert_eq!(site.abort(&aborted).await.status, 200);
    for round in 0..20 {
        site.write("a", &[(round, Some("x"))]).await;
    }
    let disk = site.disk.crash(Unsynced::Lost).await;
    let site = Site::on(site.clock, disk).await.expect("recovered");
    assert_eq!(site.reload(&aborted).await.session_status(), "aborted");
}

#[tokio::test]
async fn a_second_server_on_a_directory_is_refused() {
    let site = Site::with_days(&[]).await;
    let second = Site::on(site.clock.clone(), site.disk.clone()).await.map(drop);
    assert!(matches!(second, Err(Error::InUse { .. })), "{second:?}");
    let (clock, disk) = (site.clock.clone(), site.disk.clone());
    drop(site);
    Site::on(clock, disk).await.expect("the directory is free again");
}

/// One step of a client that goes on where it was after the server comes back.
#[derive(Clone, Copy, Debug)]
enum Step {
    Sql(&'static str),
    Create(&'static str, &'static str),
    Put(&'static str, &'static [Row]),
    Commit(&'static str),
    Abort(&'static str),
}

const SCRIPT: &[Step] = &[
    Step::Sql(crate::support::CREATE_TABLE),
    Step::Sql("ALTER TABLE t ADD IF NOT EXISTS PARTITION (day='a') PARTITION (day='b')"),
    Step::Create("s1", "a"),
    Step::Create("s2", "b"),
    Step::Put("s1", &[(1, Some("s1")), (2, Some("s1")), (3, Some("s1"))]),
    Step::Put("s2", &[(1, Some("s2")), (9, Some("s2"))]),
    Step::Commit("s1"),
    Step::Create("s3", "a"),
    Step::Put("s3", &[(1, Some("s3")), (2, None)]),
    Step::Create("s4", "a"),
    Step::Put("s4", &[(1, Some("never")), (3, Some("never"))]),
    Step::Abort("s4"),
    Step::Commit("s3"),
    Step::Put("s2", &[(9, None), (8, Some("s2"))]),
    Step::Commit("s2"),
    Step::Create("s5", "b"),
    Step::Put("s5", &[(1, Some("s5"))]),
    Step::Commit("s5"),
];

/// The state that the client knows.
#[derive(Clone, Default)]
struct Client {
    ids: BTreeMap<&'static str, (String, &'static str)>,
    packs: BTreeMap<&'static str, Vec<Row>>,
    ended: BTreeMap<&'static str, &'static str>,
    visible: BTreeMap<(&'static str, i64), &'static str>,
}

impl Client {
    /// Answers whether the step was acknowledged.
    async fn take(&mut self, site: &Site, step: Step) -> bool {
        match step {
            Step::Sql(text) => site.sql(text).await.is_ok(),
            Step::Create(name, day) => {
                let reply = site.create(day).await;
                if reply.status == 200 {
                    let id = reply.json()["id"].as_str().unwrap().to_owned();
                    self.ids.insert(name, (id, day));
                }
                reply.status == 200
            }
            Step::Put(name, rows) => {
                let reply = site.put(&self.ids[name].0, rows).await;
                let acknowledged = reply.status == 200;
                assert!(acknowledged || site.disk.has_failed(), "{name}: {reply:?}");
                if acknowledged {
                    self.packs.entry(name).or_default().extend(rows);
                }
                acknowledged
            }
            Step::Commit(name) => {
                let reply = site.commit(&self.ids[name].0).await;
                let done = reply.status == 200 && reply.session_status() == "committed";
                if done {
                    self.committed(name);
                }
                done
            }
            Step::Abort(name) => {
                let done = site.abort(&self.ids[name].0).await.status == 200;
                if done {
                    self.ended.insert(name, "aborted");
                }
                done
            }
        }
    }

    fn committed(&mut self, name: &'static str) {
        let day = self.ids[name].1;
        for (id, value) in self.packs.get(name).into_iter().flatten() {
            match value {
                Some(value) => drop(self.visible.insert((day, *id), value)),
                None => drop(self.visible.remove(&(day, *id))),
            }
        }
        self.ended.insert(name, "committed");
    }

    fn expected(&self) -> Vec<(String, i64, String)> {
        self.visible.iter().map(|((day, id), value)| row(day, *id, value)).collect()
    }

    /// Everything acknowledged is there; of the step in doubt, all or nothing is.
    async fn check(&self, site: &Site, in_doubt: Step, place: &str) {
        for (name, (id, _)) in &self.ids {
            let status = site.reload(id).await.session_status();
            let maybe = match in_doubt {
                Step::Commit(doubtful) if doubtful == *name => "committed",
                Step::Abort(doubtful) if doubtful == *name => "aborted",
                _ => "normal",
            };
            match self.ended.get(name) {
                Some(ended) => assert_eq!(status, *ended, "{place}: {name}"),
                None => assert!(status == "normal" || status == maybe, "{place}: {name} {status}"),
            }
        }
        if self.ids.is_empty() {
            return;
        }
        let mut after = self.clone();
        if let Step::Commit(name) = in_doubt {
            after.committed(name);
        }
        let rows = site.rows().await;
        assert!(rows == self.expected() || rows == after.expected(), "{place}: {rows:?}");
    }
}

#[tokio::test]
async fn a_crash_at_any_sync_loses_nothing_acknowledged_and_shows_nothing_early() {
    for unsynced in [Unsynced::Lost, Unsynced::Torn, Unsynced::Kept] {
        for effective in [false, true] {
            let mut number = 0;
            while crash_once(LastSync { number, effective }, unsynced).await {
                number += 1;
            }
            assert!(number >= 30, "only {number} syncs were interrupted");
        }
    }
}

/// Runs the script with one crash; answers false once there was none any more.
async fn crash_once(last: LastSync, unsynced: Unsynced) -> bool {
    let place = format!("{last:?} {unsynced:?}");
    let clock = Site::new().await.clock;
    let disk = SimulatedDirectories::new();
    disk.fail_at(last);
    let mut client = Client::default();
    let mut steps = SCRIPT.iter().copied().peekable();
    if let Ok(site) = Site::on(clock.clone(), disk.clone()).await {
        while let Some(step) = steps.peek().copied() {
            if !client.take(&site, step).await {
                assert!(disk.has_failed(), "{place}: {step:?} was refused by a working disk");
                break;
            }
            steps.next();
        }
    }
    let crashed = disk.has_failed();
    let site = Site::on(clock, disk.crash(unsynced).await).await;
    let site = site.unwrap_or_else(|error| panic!("{place}: {error}"));
    client.check(&site, steps.peek().copied().unwrap_or(SCRIPT[0]), &place).await;
    for step in steps {
        assert!(client.take(&site, step).await, "{place}: {step:?} after the restart");
    }
    let expected = [row("a", 1, "s3"), row("a", 3, "s1"), row("b", 1, "s5"), row("b", 8, "s2")];
    assert_eq!(site.rows().await, expected, "{place}");
    crashed
}
