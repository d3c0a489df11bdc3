//! Our own client, as a process of its own like the others: the component in its sandbox, through
//! the host library.
//!
//! Batches are made when it starts. Each kind of order has a sink of its own, which stays open as
//! that of a job does: its second run is warm. A run is what a checkpoint interval is: rows handed
//! over, packs, signed, acknowledged, a checkpoint, a commit. Invariant: it uses the library as an
//! engine would, with nothing left out.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::BufRead;
use std::path::Path;

use anyhow::{Context, Result};
use arrow_array::RecordBatch;
use tempfile::TempDir;
use upsert_sink::{CacheSettings, Compression, Plugin, Settings, Sink};

use crate::order::{Buffers, CACHED, Order, PLAIN};
use crate::rows::{MILLION, Rows, of_million};

/// A sink that stays open, and its journal.
struct Job {
    sink: Sink,
    _journal: TempDir,
    checkpoint: u64,
}

/// Carries out orders until there are none.
pub(crate) fn run(endpoint: &str, texts: &Path) -> Result<()> {
    let batches = Rows::read(texts)?.batches()?;
    let plugin = Plugin::embedded()?;
    let mut building = tokio::runtime::Builder::new_multi_thread();
    let runtime = building.worker_threads(2).enable_all().build()?;
    let mut jobs = BTreeMap::new();
    let mut lines = std::io::stdin().lock().lines();
    while let Some(line) = lines.next() {
        let line = line?;
        let order = Order::from_line(&line).with_context(|| format!("no order: {line}"))?;
        let job = match jobs.entry(Order { rows: 0, ..order }.to_line()) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(place) => {
                let opening = Job::open(&plugin, endpoint, order, &batches[0]);
                place.insert(runtime.block_on(opening)?)
            }
        };
        println!("ready");
        lines.next().context("nobody says go")??;
        let written = runtime.block_on(job.write(&batches, order.rows));
        println!("{}", answer(&written));
    }
    for job in jobs.into_values() {
        runtime.block_on(job.sink.close())?;
    }
    Ok(())
}

fn answer(written: &Result<()>) -> serde_json::Value {
    match written {
        Ok(()) => serde_json::json!({}),
        Err(error) => serde_json::json!({ "error": format!("{error:#}") }),
    }
}

impl Job {
    async fn open(
        plugin: &Plugin,
        endpoint: &str,
        order: Order,
        rows: &RecordBatch,
    ) -> Result<Self> {
        let journal = tempfile::tempdir()?;
        let settings = settings(endpoint, order, journal.path());
        let builder = Sink::builder(plugin.clone(), settings).schema(rows.schema());
        Ok(Self { sink: builder.open().await?, _journal: journal, checkpoint: 0 })
    }

    async fn write(&mut self, batches: &[RecordBatch], rows: u64) -> Result<()> {
        for million in 0..rows.div_ceil(MILLION) {
            let mut left = (rows - million * MILLION).min(MILLION);
            for batch in batches {
                let batch = of_million(batch, million)?;
                let taken = (batch.num_rows() as u64).min(left);
                left -= taken;
                self.sink.write(&batch.slice(0, taken as usize), &[]).await?;
            }
        }
        self.checkpoint += 1;
        // An engine would store it.
        let _checkpoint = self.sink.checkpoint(self.checkpoint).await?;
        self.sink.checkpoint_completed(self.checkpoint).await?;
        self.sink.committed(self.checkpoint).await?;
        Ok(())
    }
}

fn settings(endpoint: &str, order: Order, journal: &Path) -> Settings {
    let mut settings = Settings::local(endpoint, "bench", journal).expect("valid settings");
    settings.client.compression = match order.compression {
        "lz4" => Compression::Lz4,
        "zlib" => Compression::Zlib,
        _ => Compression::Raw,
    };
    let mut option = |name: &str, value: &str| {
        settings.guest_options.push((String::from(name), String::from(value)));
    };
    if order.mode == PLAIN {
        option("sink.merge.enable", "false");
    }
    if order.mode == CACHED {
        option("sink.file-cached.enable", "true");
        let directories = vec![journal.join("cache")];
        settings.cache = Some(CacheSettings { directories, bytes: 1 << 30 });
    }
    if order.buffers == Buffers::Wide {
        option("upsert.flush.concurrent", "16");
        option("upsert.writer.bucket.buffer-size", "4 mb");
        // All buckets are full at about the same moment, and fill again while they are sent.
        option("upsert.writer.buffer-size", "128 mb");
        option("sink.memory.budget", "192 mb");
        settings.limits.memory_bytes = 512 << 20;
    }
    settings
}
