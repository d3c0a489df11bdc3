//! The doctor tells what holds and what does not: over a service that keeps every promise, and over
//! ones that break a single one on purpose.
//!
//! The service is the local server; `service.rs` stands in its way and misbehaves. Invariant: each
//! fault is seen under its own name, and no other is accused.

mod service;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use service::{Fault, World};
use upsert_sink::Settings;
use upsert_sink::doctor::{self, Diagnosis, Finding, Order, Scope, Verdict};
use upsert_sink_tests::live;
use upsert_sink_tests::plugin::plugin;

const SCOPE: Scope = Scope { table: true, scratch: true, hold: Duration::from_secs(1) };

/// Looks at a world with this fault and these options.
async fn examine(fault: Fault, scope: Scope, options: &[(&str, &str)]) -> Result<Diagnosis> {
    let (world, components) = World::new(fault).await?;
    let dir = tempfile::tempdir()?;
    let journals = dir.path().display().to_string();
    let base = [
        ("endpoint", "http://h:1/api"),
        ("tunnelEndpoint", "http://h:1"),
        ("project", "local"),
        ("tableName", "t"),
        ("sink.journal-dir", journals.as_str()),
    ];
    let all = base.iter().chain(options);
    let settings =
        Settings::from_options(all.map(|(name, value)| ((*name).into(), (*value).into())))?;
    let mut told = Vec::new();
    let mut tell = |finding: &Finding| told.push(finding.clone());
    let diagnosis = doctor::examine(&plugin(), &settings, &components, scope, &mut tell).await;
    ensure!(told == diagnosis.findings, "each finding is told as it is made");
    let tables = world.tables().await;
    let is_there = tables.contains("upsert_sink_doctor");
    ensure!(is_there == diagnosis.left_behind.is_some(), "what is left behind is told: {tables}");
    ensure!(is_there || world.open_sessions() == 0, "sessions are left behind");
    Ok(diagnosis)
}

fn finding<'a>(diagnosis: &'a Diagnosis, name: &str) -> Result<&'a Finding> {
    let found = diagnosis.findings.iter().find(|finding| finding.name == name);
    found.with_context(|| format!("nothing is said of {name}"))
}

fn broken(diagnosis: &Diagnosis) -> Vec<&'static str> {
    let broken = diagnosis.findings.iter().filter(|one| one.verdict == Verdict::Broken);
    broken.map(|finding| finding.name).collect()
}

#[tokio::test(start_paused = true)]
async fn a_service_that_keeps_its_promises_is_sound() -> Result<()> {
    let diagnosis = examine(Fault::None, SCOPE, &[("sink.parallelism", "4")]).await?;
    ensure!(diagnosis.is_sound(), "{diagnosis:#?}");
    ensure!(diagnosis.order == Order::Commit, "{:?}", diagnosis.order);
    for finding in &diagnosis.findings {
        ensure!(finding.verdict == Verdict::Holds, "{finding:?}");
    }
    let names: Vec<_> = diagnosis.findings.iter().map(|finding| finding.name).collect();
    let expected = [
        "endpoint",
        "credentials",
        "project",
        "clock",
        "way",
        "table",
        "options",
        "scratch",
        "a",
        "b",
        "c",
        "d",
        "e",
    ];
    ensure!(names == expected, "{names:?}");
    ensure!(diagnosis.advice.iter().all(|advice| advice.set.is_none()), "{:?}", diagnosis.advice);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn each_broken_promise_is_told_by_its_letter_and_no_other_is_accused() -> Result<()> {
    for (fault, name, word) in [
        (Fault::OrdersByArrival, "a", "by arrival"),
        (Fault::RefusesSecondSession, "a", "second open session is refused"),
        (Fault::TakesLatePacks, "b", "took a pack"),
        (Fault::CommitsTheAborted, "b", "aborted session was committed"),
        (Fault::ShowsAPart, "c", "visible at once"),
        (Fault::ShowsTheUncommitted, "c", "before the commit"),
        (Fault::DropsSessions, "d", "Expired"),
        (Fault::RepeatsPuts, "e", "came twice"),
        (Fault::ClockBehind, "clock", "s ahead, and it refuses"),
        (Fault::DeniesKey, "credentials", "Unauthorized"),
        (Fault::Unreachable, "endpoint", "connection refused"),
        (Fault::CreatesNoTables, "scratch", "NoPermission"),
    ] {
        let diagnosis = examine(fault, SCOPE, &[]).await?;
        ensure!(broken(&diagnosis) == [name], "{fault:?}: {:#?}", diagnosis.findings);
        let seen = &finding(&diagnosis, name)?.seen;
        ensure!(seen.contains(word), "{fault:?} is told as {seen}");
        ensure!(!diagnosis.is_sound(), "{fault:?}");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_the_sink_must_be_set_to_follows_from_the_order() -> Result<()> {
    let set = |diagnosis: &Diagnosis, option: &str| {
        let advice = diagnosis.advice.iter().find(|advice| advice.option == Some(option));
        advice.and_then(|advice| advice.set)
    };
    let arrival = examine(Fault::OrdersByArrival, SCOPE, &[]).await?;
    ensure!(arrival.order == Order::Arrival, "{:?}", arrival.order);
    ensure!(set(&arrival, "sink.doubt") == Some("fail"), "{:?}", arrival.advice);
    ensure!(set(&arrival, "sink.session.overlap").is_none(), "{:?}", arrival.advice);
    let refused = examine(Fault::RefusesSecondSession, SCOPE, &[]).await?;
    ensure!(refused.order == Order::Refused, "{:?}", refused.order);
    ensure!(set(&refused, "sink.session.overlap") == Some("false"), "{:?}", refused.advice);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_seen_is_untested_and_never_said_to_hold() -> Result<()> {
    let diagnosis = examine(Fault::AnswersNoQueries, SCOPE, &[]).await?;
    ensure!(diagnosis.is_sound(), "{:?}", broken(&diagnosis));
    for name in ["a", "c", "e"] {
        let finding = finding(&diagnosis, name)?;
        ensure!(finding.verdict == Verdict::Untested, "{finding:?}");
    }
    let late = finding(&diagnosis, "b")?;
    ensure!(late.seen.contains("could not be read"), "{late:?}");
    let doubt = diagnosis.advice.iter().find(|advice| advice.option == Some("sink.doubt"));
    ensure!(doubt.is_some_and(|advice| advice.set == Some("fail")), "{:?}", diagnosis.advice);
    let proxy = examine(Fault::TellsOfAProxy, SCOPE, &[]).await?;
    let way = finding(&proxy, "way")?;
    ensure!(way.verdict == Verdict::Untested && way.seen.contains("1.1 proxy"), "{way:?}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_options_are_judged_by_the_guest_as_at_a_start() -> Result<()> {
    let writers = examine(Fault::None, SCOPE, &[("sink.parallelism", "3")]).await?;
    let options = finding(&writers, "options")?;
    ensure!(options.verdict == Verdict::Broken, "{options:?}");
    ensure!(options.seen.contains("3 writers for 8 buckets"), "{options:?}");
    let doubt = examine(Fault::None, SCOPE, &[("sink.doubt", "continue")]).await?;
    ensure!(broken(&doubt) == ["options"], "{:?}", doubt.findings);
    let fixed = examine(Fault::None, SCOPE, &[("partition", "day='1',h")]).await?;
    ensure!(fixed.is_sound(), "{:?}", fixed.findings);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn without_a_scratch_table_nothing_is_created() -> Result<()> {
    let scope = Scope { scratch: false, table: false, ..SCOPE };
    let diagnosis = examine(Fault::None, scope, &[]).await?;
    ensure!(diagnosis.is_sound(), "{:?}", broken(&diagnosis));
    let untested = diagnosis.findings.iter().filter(|one| one.verdict == Verdict::Untested);
    ensure!(untested.count() == 5, "{:#?}", diagnosis.findings);
    Ok(())
}

/// The round trip that `tests/run live` makes on a real project.
#[tokio::test(start_paused = true)]
async fn a_row_that_is_written_and_committed_is_read_back() -> Result<()> {
    let (world, components) = World::new(Fault::None).await?;
    let dir = tempfile::tempdir()?;
    let mut settings = Settings::local("http://h:1/api", "any", dir.path())?;
    settings.client.tunnel_endpoint = Some("http://h:1".parse()?);
    live::round_trip(&plugin(), &settings, &components).await?;
    ensure!(!world.tables().await.contains("upsert_sink_live"), "the table is left behind");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_table_that_cannot_be_dropped_is_named() -> Result<()> {
    let diagnosis = examine(Fault::KeepsTables, SCOPE, &[]).await?;
    let left = diagnosis.left_behind.as_deref();
    ensure!(left == Some("upsert_sink_doctor_0707070707070707"), "{left:?}");
    Ok(())
}
