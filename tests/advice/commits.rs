//! Limits of commits, partitions and quotas.

use std::num::NonZeroU32;
use std::time::Duration;

use anyhow::{Result, ensure};
use upsert_sink::components::Clock;
use upsert_sink::ledger::AdviceRule;
use upsert_sink_server::{Quotas, ServerSettings};

use crate::advice::job::{AdvisedJob, BUCKETS, sets};

/// Commits as slow as the real service's.
const SLOW: &str = r#"{"match": {"operation": "commit"}, "do": {"delay": {"ms": 2500}}}"#;

#[tokio::test(start_paused = true)]
async fn too_many_partitions_are_told_where_commits_take_longer_than_the_interval() -> Result<()> {
    let mut job = AdvisedJob::new(&[]).await?;
    job.rule(SLOW)?;
    job.interval = Duration::from_secs(6);
    job.open().await?;
    job.write(40 * BUCKETS, 10, 40).await?;
    job.checkpoint().await?;
    let record = &job.records()?[0];
    let commits = &record.commits;
    ensure!((record.partitions, commits.count, commits.at_once_max) == (40, 40, 16), "{record:#?}");
    ensure!((commits.median_ms, commits.slowest.len()) == (2_500, 5), "{record:#?}");
    ensure!((7_500_000..8_000_000).contains(&record.times_us.commit), "{record:#?}");
    let hint = &job.expect(&[AdviceRule::ManyPartitions]).await?[0];
    ensure!(hint.words.contains("7.5 s against an interval of 6.0 s"), "{hint:#?}");
    sets(hint, "upsert.commit.thread-num", "20")
}

#[tokio::test(start_paused = true)]
async fn commit_threads_over_32_are_told_where_so_many_commits_are_under_way() -> Result<()> {
    for (partitions, rules) in [(40, &[AdviceRule::CommitThreads][..]), (30, &[])] {
        let mut job = AdvisedJob::new(&[("upsert.commit.thread-num", "48")]).await?;
        job.rule(SLOW)?;
        job.open().await?;
        job.write(partitions * BUCKETS, 10, partitions).await?;
        job.checkpoint().await?;
        if let [hint] = &job.expect(rules).await?[..] {
            ensure!(hint.measured.contains("40 commits were under way"), "{hint:#?}");
            sets(hint, "upsert.commit.thread-num", "32")?;
        }
    }
    Ok(())
}

/// A partition commits once in 2.5 s at best; the engine waits when two checkpoints are behind.
#[tokio::test(start_paused = true)]
async fn checkpoints_that_outrun_their_commits_are_told() -> Result<()> {
    let mut job = AdvisedJob::new(&[]).await?;
    job.rule(SLOW)?;
    job.interval = Duration::from_secs(1);
    job.open().await?;
    for _ in 0..8 {
        job.write(10, 10, 1).await?;
        job.pass(1_000).await;
        let since_ms = job.clock.now_ms();
        let newest = job.records()?.last().map_or(0, |record| record.id);
        if job.complete().await? > newest + 1 {
            job.sink()?.committed(newest + 1).await?;
            let waited_ms = job.clock.now_ms() - since_ms;
            job.sink()?.checkpoint_delayed(Duration::from_millis(waited_ms));
        }
    }
    job.checkpoint().await?;
    let hint = &job.expect(&[AdviceRule::CommitsOutrun]).await?[0];
    ensure!(hint.words.contains("were held back"), "{hint:#?}");
    ensure!(hint.option.as_deref() == Some("checkpoint interval"), "{hint:#?}");
    Ok(())
}

/// Two checkpoints want more slots together than the project has, until the first is committed.
#[tokio::test(start_paused = true)]
async fn a_quota_is_told_with_the_requests_that_it_refused() -> Result<()> {
    let mut settings = ServerSettings::new("/server");
    settings.quotas = Quotas { slots: NonZeroU32::new(6), ..Quotas::default() };
    let options = [("sink.parallelism", "2"), ("upsert.writer.bucket.buffer-size", "1kb")];
    let mut job = AdvisedJob::on(settings, 0, &options).await?;
    job.open().await?;
    job.write(40 * BUCKETS, 100, 4).await?;
    let first = job.barrier().await?;
    job.write(40 * BUCKETS, 100, 4).await?;
    job.pass(3_000).await;
    job.sink()?.checkpoint_completed(first).await?;
    job.checkpoint().await?;
    let record = job.records()?.pop().unwrap_or_default();
    ensure!(record.requests.slowed_down >= 2, "{record:#?}");
    ensure!(record.times_us.slots > 0, "{record:#?}");
    let hints = job.expect(&[AdviceRule::SmallBuffers, AdviceRule::QuotaReached]).await?;
    sets(&hints[1], "sink.parallelism", "1")
}
