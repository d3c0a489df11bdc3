//! `replay-native`: a recording replayed by the core as this machine runs it, for a debugger.
//!
//! The component is replayed by `upsert-sink replay`. Invariant: the same calls, the same
//! comparison; only the guest is not in its sandbox.

use std::fs::File;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use upsert_sink::Plugin;
use upsert_sink::recording::{Recording, ReplayTelemetry};
use upsert_sink_tests::simulation::native;

fn main() -> Result<()> {
    let name = std::env::args().nth(1).context("usage: replay-native FILE")?;
    let recording = Recording::open(name.clone(), File::open(&name).context(name)?)?;
    let replayed = recording.replay(&Plugin::twin(Arc::new(native)), ReplayTelemetry::Compared)?;
    println!("{replayed:#?}");
    if !replayed.is_equal() {
        bail!("it differs");
    }
    Ok(())
}
