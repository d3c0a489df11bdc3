//! A round trip through the sink on a real project.
//!
//! A program and not a test, so that nothing runs it by accident: `tests/run live` does, after
//! `upsert-sink doctor`. The variables are those of `tests/README.md`.

use std::env;

use anyhow::{Context, Result};
use upsert_sink::{Components, Plugin, Settings};
use upsert_sink_tests::live;

#[tokio::main]
async fn main() -> Result<()> {
    let variable = |name: &str| env::var(name).with_context(|| format!("set {name}"));
    let journals = tempfile::tempdir()?;
    let mut options = vec![
        ("endpoint", variable("UPSERT_SINK_LIVE_ENDPOINT")?),
        ("project", variable("UPSERT_SINK_LIVE_PROJECT")?),
        ("accessId", variable("ALIBABA_CLOUD_ACCESS_KEY_ID")?),
        ("accessKey", variable("ALIBABA_CLOUD_ACCESS_KEY_SECRET")?),
        ("tableName", String::from("upsert_sink_live")),
        ("sink.journal-dir", journals.path().display().to_string()),
    ];
    for (name, optional) in [
        ("stsToken", "ALIBABA_CLOUD_SECURITY_TOKEN"),
        ("tunnelEndpoint", "UPSERT_SINK_LIVE_TUNNEL_ENDPOINT"),
        ("quotaName", "UPSERT_SINK_LIVE_QUOTA"),
    ] {
        options.extend(env::var(optional).ok().map(|value| (name, value)));
    }
    let options = options.into_iter().map(|(name, value)| (String::from(name), value));
    let settings = Settings::from_options(options)?;
    live::round_trip(&Plugin::embedded()?, &settings, &Components::system()).await?;
    println!("what was written and committed was read back from {}", settings.client.project);
    Ok(())
}
