//! The guest's hot path: decode columns → partition → hash → bucket → encode with CRC → buffer.
//!
//! The same core, natively and as the embedded component in its sandbox with epochs on, in rounds
//! that take turns, so that a slow moment of the machine falls on both. Prints medians and their
//! ratio. Batches are taken as engines hand them over, just made. Packs are sealed, merged where
//! that is on, handed to the host and acknowledged there, but not sent. Two tables: of writers that
//! have run for a while, and of writers that have just begun and whose memory still grows. Given a
//! file, the component is taken from there. Invariant: it fails on a wrong result only, never for
//! being slow.

mod side;
mod workload;

use std::time::Duration;

use anyhow::{Result, ensure};
use side::{Bench, Native, Sandboxed, Side};
use upsert_sink::Plugin;
use upsert_sink_format::record::crc::crc32c;
use upsert_sink_tests::clock::Stopwatch;
use workload::{BATCH_ROWS, BATCHES, Mode, PACK};

/// Measurements of each side; the median is shown.
const ROUNDS: usize = 11;

/// Rows a second of one side, round by round.
#[derive(Default)]
struct Rates(Vec<f64>);

impl Rates {
    fn note(&mut self, taken: Duration) {
        self.0.push((BATCHES * BATCH_ROWS) as f64 / taken.as_secs_f64());
    }

    fn median(&mut self) -> f64 {
        self.0.sort_by(f64::total_cmp);
        self.0[self.0.len() / 2]
    }
}

/// Whether a writer has run for a while when it is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    Fresh,
    Warm,
}

/// A writer of each side, and what was measured of it.
struct Pair<'a> {
    plugin: &'a Plugin,
    mode: Mode,
    batches: Vec<Vec<u8>>,
}

impl Pair<'_> {
    fn native(&self, start: Start) -> Result<Bench<Native>> {
        let task = self.mode.task();
        self.begun(Bench::new(Native::open(&task)?, &task)?, start)
    }

    fn sandboxed(&self, start: Start) -> Result<Bench<Sandboxed>> {
        let task = self.mode.task();
        self.begun(Bench::new(Sandboxed::open(self.plugin, &task)?, &task)?, start)
    }

    fn begun<S: Side>(&self, mut bench: Bench<S>, start: Start) -> Result<Bench<S>> {
        if start == Start::Warm {
            bench.run(&self.batches)?;
        }
        Ok(bench)
    }

    fn measure(&self, start: Start) -> Result<()> {
        let (mut native, mut sandboxed) = (Rates::default(), Rates::default());
        let (mut left, mut right) = (self.native(start)?, self.sandboxed(start)?);
        for round in 0..ROUNDS {
            if start == Start::Fresh && round > 0 {
                (left, right) = (self.native(start)?, self.sandboxed(start)?);
            }
            native.note(left.run(&self.batches)?);
            sandboxed.note(right.run(&self.batches)?);
            ensure!(left.packs == right.packs, "both sides seal the same packs");
            ensure!(left.packs > 0, "packs are sealed and acknowledged");
        }
        let (native, sandboxed) = (native.median(), sandboxed.median());
        println!(
            "| {} | {:.2} | {:.2} | {:.2} |",
            self.mode.name(),
            sandboxed / 1e6,
            native / 1e6,
            native / sandboxed
        );
        Ok(())
    }
}

/// The cost of the checksum alone, in the table form that the component must use and in hardware.
fn measure_checksums() {
    let bytes = vec![0x5A_u8; 1 << 20];
    let gigabytes = |sum: fn(&[u8]) -> u32| {
        let mut rates = Rates::default();
        for _ in 0..ROUNDS {
            let watch = Stopwatch::start();
            let sum = std::hint::black_box(sum(std::hint::black_box(&bytes)));
            rates.0.push(bytes.len() as f64 / watch.elapsed().as_secs_f64() / 1e9);
            assert_eq!(sum, crc32c(&bytes), "two ways of one checksum");
        }
        rates.median()
    };
    let (table, hardware) = (gigabytes(crc32c), gigabytes(crc32c::crc32c));
    println!("\nCRC-32C natively: by table {table:.2} GB/s, in hardware {hardware:.2} GB/s");
}

fn main() -> Result<()> {
    let plugin = match std::env::args_os().nth(1) {
        None => Plugin::embedded()?,
        Some(component) => Plugin::load(&std::fs::read(component)?)?,
    };
    println!(
        "rows of 100 bytes in 8 columns, batches of {BATCH_ROWS}, 4 partitions of 16 buckets, \
         packs of {PACK},"
    );
    println!("{} rows a round, medians of {ROUNDS} rounds, one core", BATCHES * BATCH_ROWS);
    for (start, title) in [(Start::Warm, "running"), (Start::Fresh, "just begun")] {
        println!(
            "\n| hot path, {title} | component, M rows/s | native, M rows/s | native ÷ component |"
        );
        println!("|---|---|---|---|");
        for mode in Mode::ALL {
            Pair { plugin: &plugin, mode, batches: mode.batches() }.measure(start)?;
        }
    }
    measure_checksums();
    Ok(())
}
