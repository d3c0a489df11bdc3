//! Automatic major compaction: counts the commits of each partition, and asks for a compaction when
//! there were enough.
//!
//! Under the committer, which tells of every commit that becomes known. Invariant: it delays no
//! commit and fails nothing; one request is under way at a time; a count is in the journal before
//! the next one is written, so that no start begins it anew.
//!
//! | a partition | then |
//! |---|---|
//! | its count reaches `upsert.major-compact.min-commits` | it is due |
//! | it is due, and no request is under way or put off | a compaction is asked for |
//! | the service took note | the commits that were counted until it was asked are taken off |
//! | refused or in doubt | the next request waits, longer each time; it stays due |

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use upsert_sink_format::error::Error;
use upsert_sink_format::id::{Millis, Ticket};
use upsert_sink_format::sealed::{Kind, Opener, Sealer};
use upsert_sink_format::tunnel::Outcome;

use crate::io::JournalAppend;
use crate::journal::key_of;

/// The commits of a partition since its last compaction, as the journal keeps them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompactionRecord {
    /// The partition; empty for a table without partitions.
    pub partition: String,
    /// Its commits since a compaction of it was last asked for.
    pub commits: u64,
}

impl CompactionRecord {
    /// Versioned bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        Sealer::new(Kind::Compaction).text(&self.partition).u64(self.commits).seal()
    }

    /// Reads what `to_bytes` wrote.
    ///
    /// Errors: `Corrupt` for damaged bytes, `InvalidConfig` for bytes of a newer version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let mut opener = Opener::open(Kind::Compaction, bytes)?;
        let record = Self { partition: opener.text()?, commits: opener.u64()? };
        opener.finish()?;
        Ok(record)
    }

    /// The append that makes it durable.
    pub(crate) fn append(&self, ticket: Ticket) -> JournalAppend {
        let key = key_of(&format!("{KEY}{}", self.partition));
        JournalAppend { ticket, key, record: self.to_bytes() }
    }
}

/// The counts of all partitions, and the request that is under way.
#[derive(Clone, Debug)]
pub(crate) struct Compaction {
    /// `upsert.major-compact.min-commits`; none if compaction is not automatic.
    min_commits: Option<u64>,
    counts: BTreeMap<String, u64>,
    asked: Option<Asked>,
    /// Requests that failed one after another.
    failures: u32,
    /// No request before.
    not_before: Millis,
}

/// The request that is under way.
#[derive(Clone, Debug)]
struct Asked {
    partition: String,
    /// The commits that it covers.
    commits: u64,
}

impl Compaction {
    /// Goes on with the counts that the journal holds.
    ///
    /// Errors: `Corrupt` for a damaged record.
    pub(crate) fn open(min_commits: Option<u32>, journal: &[Vec<u8>]) -> Result<Self, Error> {
        let records = journal.iter().filter(|bytes| Kind::of(bytes) == Some(Kind::Compaction));
        let mut counts = BTreeMap::new();
        for bytes in records {
            let CompactionRecord { partition, commits } = CompactionRecord::from_bytes(bytes)?;
            counts.insert(partition, commits);
        }
        let min_commits = min_commits.map(u64::from);
        let not_before = Millis(0);
        Ok(Self { min_commits, counts, asked: None, failures: 0, not_before })
    }

    /// A commit of a partition has become known. Returns the count that is to be made durable; none
    /// if compaction is not automatic.
    pub(crate) fn count(&mut self, partition: &str) -> Option<CompactionRecord> {
        self.min_commits?;
        let commits = self.counts.entry(partition.into()).or_default();
        *commits = commits.saturating_add(1);
        Some(CompactionRecord { partition: partition.into(), commits: *commits })
    }

    /// The partition to ask a compaction of now, that with the most commits first.
    pub(crate) fn ask(&mut self, now: Millis) -> Option<String> {
        let least = self.min_commits?;
        if self.asked.is_some() || now < self.not_before {
            return None;
        }
        let due = self.counts.iter().filter(|(_, commits)| **commits >= least);
        let (partition, commits) = due.max_by_key(|(_, commits)| **commits)?;
        let partition = partition.clone();
        self.asked = Some(Asked { partition: partition.clone(), commits: *commits });
        Some(partition)
    }

    /// The request has an outcome. Returns the count that is left of its partition, to be made
    /// durable, or why the next request waits.
    pub(crate) fn settle(
        &mut self,
        now: Millis,
        outcome: &Outcome,
    ) -> Result<CompactionRecord, String> {
        let Asked { partition, commits } = self.asked.take().expect("a request was under way");
        let why = match outcome {
            Outcome::Done(_) => {
                self.failures = 0;
                let left = self.counts.get_mut(&partition).expect("it was counted");
                *left = left.saturating_sub(commits);
                return Ok(CompactionRecord { partition, commits: *left });
            }
            Outcome::InDoubt(why) => why.clone(),
            Outcome::Refused(refusal) => format!("{} {}", refusal.code, refusal.message),
        };
        let wait = PAUSE_FIRST.saturating_mul(1 << self.failures.min(16)).min(PAUSE_MOST);
        self.failures = self.failures.saturating_add(1);
        self.not_before = now.plus(Millis(wait));
        Err(format!(
            "the major compaction of {} was not begun ({why}); it is asked for again in {} s, and \
             commits go on",
            if partition.is_empty() { "the table" } else { &partition },
            wait / 1000
        ))
    }

    /// The time of the next request, if one is put off.
    pub(crate) fn deadline(&self) -> Option<Millis> {
        let least = self.min_commits.filter(|_| self.failures > 0 && self.asked.is_none())?;
        self.counts.values().any(|commits| *commits >= least).then_some(self.not_before)
    }
}

/// The beginning of a count's key in the journal. No id of a session holds a blank.
const KEY: &str = "compaction of ";
/// Milliseconds to wait after the first failure, doubled after each further one.
const PAUSE_FIRST: u64 = 10_000;
const PAUSE_MOST: u64 = 600_000;

#[cfg(test)]
mod tests {
    use upsert_sink_format::tunnel::{Answer, Refusal, RefusalKind};

    use super::*;

    const DONE: Outcome = Outcome::Done(Answer::None);

    fn refused() -> Outcome {
        Outcome::Refused(Refusal {
            kind: RefusalKind::SlowDown,
            code: "Busy".into(),
            message: "later".into(),
            request_id: String::new(),
            retry_after: Millis(0),
        })
    }

    fn counted(compaction: &mut Compaction, partition: &str, commits: u64) -> Vec<u8> {
        let records = (0..commits).map(|_| compaction.count(partition).expect("it is automatic"));
        records.last().expect("one at least").to_bytes()
    }

    #[test]
    fn a_partition_is_compacted_after_so_many_commits_and_one_at_a_time() {
        let mut compaction = Compaction::open(Some(3), &[]).unwrap();
        counted(&mut compaction, "a", 2);
        assert_eq!(compaction.ask(Millis(0)), None, "two are not enough");
        counted(&mut compaction, "a", 1);
        counted(&mut compaction, "b", 5);
        assert_eq!(compaction.ask(Millis(0)).as_deref(), Some("b"), "the most commits first");
        assert_eq!(compaction.ask(Millis(0)), None, "one is under way");
        counted(&mut compaction, "b", 1);
        let left = compaction.settle(Millis(0), &DONE).unwrap();
        assert_eq!((left.partition.as_str(), left.commits), ("b", 1), "what came meanwhile counts");
        assert_eq!(compaction.ask(Millis(0)).as_deref(), Some("a"));
    }

    #[test]
    fn a_count_goes_on_after_a_restart() {
        let mut compaction = Compaction::open(Some(3), &[]).unwrap();
        let bytes = counted(&mut compaction, "a", 2);
        let mut again = Compaction::open(Some(3), core::slice::from_ref(&bytes)).unwrap();
        counted(&mut again, "a", 1);
        assert_eq!(again.ask(Millis(0)).as_deref(), Some("a"));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x40;
            assert!(CompactionRecord::from_bytes(&damaged).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_failure_puts_the_next_request_off_longer_each_time_and_fails_nothing() {
        let mut compaction = Compaction::open(Some(1), &[]).unwrap();
        counted(&mut compaction, "a", 1);
        let mut now = Millis(0);
        for seconds in [10, 20, 40, 80, 160, 320, 600, 600] {
            assert_eq!(compaction.ask(now).as_deref(), Some("a"));
            let said = compaction.settle(now, &refused()).unwrap_err();
            assert!(said.contains("Busy later") && said.contains(&format!("in {seconds} s")));
            assert_eq!(compaction.ask(now), None);
            let next = compaction.deadline().expect("it stays due");
            assert_eq!(next, now.plus(Millis(seconds * 1000)));
            now = next;
        }
        assert!(compaction.ask(now).is_some());
        assert_eq!(compaction.settle(now, &DONE).unwrap().commits, 0);
        assert_eq!((compaction.ask(now), compaction.deadline()), (None, None));
    }

    #[test]
    fn nothing_is_counted_unless_it_is_automatic() {
        let mut compaction = Compaction::open(None, &[]).unwrap();
        assert_eq!(compaction.count("a"), None);
        assert_eq!((compaction.ask(Millis(0)), compaction.deadline()), (None, None));
    }
}
