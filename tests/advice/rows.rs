//! Limits on the way of rows: upstream, buffers, the network, keys, memory, types.

use anyhow::{Result, ensure};
use upsert_sink::ledger::AdviceRule;
use upsert_sink_server::ServerSettings;

use crate::advice::job::{AdvisedJob, partitioned, sets, timed};

#[tokio::test(start_paused = true)]
async fn a_sink_that_is_well_gets_no_advice() -> Result<()> {
    let mut job = AdvisedJob::new(&[("sink.parallelism", "4")]).await?;
    job.open().await?;
    for _ in 0..3 {
        job.write(2_000, 100, 3).await?;
        job.checkpoint().await?;
    }
    job.expect(&[]).await?;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn upstream_is_told_where_writers_wait_for_rows() -> Result<()> {
    let mut job = AdvisedJob::new(&[("sink.parallelism", "2")]).await?;
    job.open().await?;
    for _ in 0..12 {
        job.write(10, 100, 1).await?;
        job.pass(1_000).await;
        job.checkpoint().await?;
    }
    let record = &job.records()?[0];
    ensure!(record.times_us.waiting >= 2_000_000, "{record:#?}");
    let hint = &job.expect(&[AdviceRule::UpstreamTooSlow]).await?[0];
    ensure!(hint.option.is_none() && hint.measured.contains("(100 %)"), "{hint:#?}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn small_buffers_are_told_where_packs_are_small() -> Result<()> {
    let mut job = AdvisedJob::new(&[("upsert.writer.buffer-size", "1mb")]).await?;
    job.open().await?;
    job.write(2_000, 100, 1).await?;
    job.checkpoint().await?;
    // 128 KiB for each of 8 buckets is enough: packs are small for want of rows.
    job.expect(&[]).await?;
    let options =
        [("upsert.writer.buffer-size", "1000kb"), ("upsert.writer.bucket.buffer-size", "512kb")];
    let mut job = AdvisedJob::new(&options).await?;
    job.open().await?;
    job.write(2_000, 100, 1).await?;
    job.checkpoint().await?;
    let hint = &job.expect(&[AdviceRule::SmallBuffers]).await?[0];
    ensure!(hint.words.contains("125 KiB a bucket"), "{hint:#?}");
    sets(hint, "upsert.writer.buffer-size", "1 MiB")
}

#[tokio::test(start_paused = true)]
async fn fewer_writers_than_buckets_are_told_where_the_network_is_the_limit() -> Result<()> {
    let options = [
        ("sink.parallelism", "2"),
        ("sink.memory.budget", "1mb"),
        ("upsert.writer.bucket.buffer-size", "128kb"),
    ];
    let mut job = AdvisedJob::new(&options).await?;
    job.rule(r#"{"match": {"operation": "put"}, "do": {"delay": {"ms": 500}}}"#)?;
    job.open().await?;
    for _ in 0..80 {
        job.write(256, 1_000, 1).await?;
    }
    job.checkpoint().await?;
    let hint = &job.expect(&[AdviceRule::FewWriters]).await?[0];
    sets(hint, "sink.parallelism", "8")
}

/// A parallelism that does not divide the buckets needs no advice: it is refused.
#[tokio::test(start_paused = true)]
async fn a_parallelism_that_does_not_divide_the_buckets_is_refused() -> Result<()> {
    let mut job = AdvisedJob::new(&[("sink.parallelism", "3")]).await?;
    let Err(error) = job.open().await else { anyhow::bail!("it is accepted") };
    let words = "3 writers for 8 buckets of local.t: the number of buckets must be an integral";
    ensure!(error.to_string().contains(words), "{error}");
    ensure!(error.to_string().contains("set it to 2 or 4"), "{error}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_bucket_with_most_of_the_bytes_is_told() -> Result<()> {
    let mut job = AdvisedJob::new(&[("sink.merge.enable", "false")]).await?;
    job.open().await?;
    job.write(500, 1_000, 1).await?;
    let hot = partitioned(&[77; 2_000], 1_000, 1)?;
    job.sink()?.write(&hot, &[]).await?;
    job.checkpoint().await?;
    let hint = &job.expect(&[AdviceRule::SkewedBuckets]).await?[0];
    ensure!(hint.option.is_none() && hint.words.contains("of 8 buckets"), "{hint:#?}");
    Ok(())
}

/// Over a line that carries one pack at a time, eight at once take as long as eight in turn.
#[tokio::test(start_paused = true)]
async fn too_many_packs_at_once_are_told_where_each_only_takes_longer() -> Result<()> {
    let options = [("upsert.flush.concurrent", "8")];
    let mut job = AdvisedJob::on(ServerSettings::new("/server"), 200, &options).await?;
    job.open().await?;
    for _ in 0..10 {
        job.write(1, 100, 1).await?;
        job.checkpoint().await?;
        job.write(1_000, 100, 1).await?;
        job.checkpoint().await?;
    }
    let hint = &job.expect(&[AdviceRule::FlushConcurrency]).await?[0];
    ensure!(hint.words.contains("200 ms with 1"), "{hint:#?}");
    sets(hint, "upsert.flush.concurrent", "4")
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_makes_packs_small_is_told() -> Result<()> {
    let options = [("sink.memory.budget", "1mb")];
    let mut job = AdvisedJob::new(&options).await?;
    job.rule(r#"{"match": {"operation": "put"}, "do": {"delay": {"ms": 300}}}"#)?;
    job.open().await?;
    for _ in 0..40 {
        job.write(512, 1_000, 20).await?;
    }
    job.checkpoint().await?;
    let hint = &job.expect(&[AdviceRule::MemoryNearLimit]).await?[0];
    sets(hint, "sink.memory.budget", "2 MiB")
}

/// The same rows need the same memory again, so the limit can be put just above it.
#[tokio::test(start_paused = true)]
async fn a_sandbox_that_is_almost_full_is_told() -> Result<()> {
    let play = async |limit: &str| {
        let bucket = ("upsert.writer.bucket.buffer-size", "8mb");
        let mut job = AdvisedJob::new(&[("sandbox.memory-limit", limit), bucket]).await?;
        job.open().await?;
        job.write(40_000, 500, 1).await?;
        job.checkpoint().await?;
        anyhow::Ok(job)
    };
    let memory = play("256mb").await?.records()?[0].memory_bytes_max;
    ensure!(memory > 16 << 20, "{memory} bytes");
    let limit = memory + memory / 10;
    let hint = &play(&limit.to_string()).await?.expect(&[AdviceRule::MemoryNearLimit]).await?[0];
    ensure!(hint.option.as_deref() == Some("sandbox.memory-limit"), "{hint:#?}");
    ensure!(hint.measured.contains("(90 %)"), "{hint:#?}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn times_without_a_zone_are_told_where_the_column_holds_instants() -> Result<()> {
    for (zone, rules) in [(None, &[AdviceRule::EightHours][..]), (Some("UTC"), &[])] {
        let mut job = AdvisedJob::new(&[]).await?;
        let rows = timed(&[1, 2, 3], zone)?;
        job.open_for(&rows).await?;
        job.sink()?.write(&rows, &[]).await?;
        job.checkpoint().await?;
        if let [hint] = &job.expect(rules).await?[..] {
            ensure!(hint.measured.contains("3 rows were written"), "{hint:#?}");
            sets(hint, "type of `at`", "TIMESTAMP_LTZ")?;
        }
    }
    Ok(())
}
