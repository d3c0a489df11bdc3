//! The guest's hot path: decode columns → partition → hash → bucket → encode with CRC → buffer.
//!
//! The same core, natively and as the embedded component in its sandbox with epochs on, in rounds
//! that take turns, so that a slow moment of the machine falls on both. Prints medians and their
//! ratio. Packs are sealed, merged where that is on, but not sent; every round begins with a fresh
//! writer, so that the growth of its memory counts. Invariant: it fails on a wrong result only,
//! never for being slow.

mod workload;

use anyhow::{Result, ensure};
use upsert_sink::Plugin;
use upsert_sink::bare::BareWriter;
use upsert_sink_core::id::Millis;
use upsert_sink_core::io::WriterInput;
use upsert_sink_core::record::crc::crc32c;
use upsert_sink_core::writer::Writer;
use upsert_sink_tests::clock::Stopwatch;
use workload::{BATCH_ROWS, BATCHES, Mode, PACK};

/// Measurements of each side; the median is shown.
const ROUNDS: usize = 11;
const NOW: u64 = 1_700_000_000_000;

/// Rows a second of one side, round by round.
#[derive(Default)]
struct Rates(Vec<f64>);

impl Rates {
    fn measure(&mut self, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let watch = Stopwatch::start();
        work()?;
        self.0.push((BATCHES * BATCH_ROWS) as f64 / watch.elapsed().as_secs_f64());
        Ok(())
    }

    fn median(&mut self) -> f64 {
        self.0.sort_by(f64::total_cmp);
        self.0[self.0.len() / 2]
    }
}

fn write_native(writer: &mut Writer, batch: &[u8]) -> Result<()> {
    ensure!(writer.accepting(), "the native writer is full: nothing may be flushed here");
    writer.handle_input(Millis(NOW), WriterInput::RowsArrived(batch))?;
    while writer.poll_output().is_some() {}
    Ok(())
}

fn write_sandboxed(writer: &mut BareWriter, batch: &[u8]) -> Result<()> {
    let accepting = writer.write(NOW, batch)?;
    ensure!(accepting, "the sandboxed writer is full: nothing may be flushed here");
    Ok(())
}

fn measure(plugin: &Plugin, mode: Mode) -> Result<()> {
    let (task, batches) = (mode.task(), mode.batches());
    let (mut native, mut sandboxed) = (Rates::default(), Rates::default());
    for _ in 0..ROUNDS {
        let mut writer = Writer::open(Millis(NOW), &task, &[])?;
        while writer.poll_output().is_some() {}
        native.measure(|| batches.iter().try_for_each(|b| write_native(&mut writer, b)))?;
        drop(writer);
        let mut writer = BareWriter::open(plugin, &task)?;
        sandboxed.measure(|| batches.iter().try_for_each(|b| write_sandboxed(&mut writer, b)))?;
    }
    let (native, sandboxed) = (native.median(), sandboxed.median());
    println!(
        "| {} | {:.2} | {:.2} | {:.2} |",
        mode.name(),
        sandboxed / 1e6,
        native / 1e6,
        native / sandboxed
    );
    Ok(())
}

/// What the checksum alone costs, in the table form that the component must use and in hardware.
fn measure_checksums() {
    let bytes = vec![0x5A_u8; 1 << 20];
    let gigabytes = |sum: fn(&[u8]) -> u32| {
        let mut rates = Rates::default();
        for _ in 0..ROUNDS {
            let watch = Stopwatch::start();
            let sum = std::hint::black_box(sum(std::hint::black_box(&bytes)));
            assert_eq!(sum, crc32c(&bytes), "two ways of one checksum");
            rates.0.push(bytes.len() as f64 / watch.elapsed().as_secs_f64() / 1e9);
        }
        rates.median()
    };
    let (table, hardware) = (gigabytes(crc32c), gigabytes(crc32c::crc32c));
    println!("\nCRC-32C natively: by table {table:.2} GB/s, in hardware {hardware:.2} GB/s");
}

fn main() -> Result<()> {
    let plugin = Plugin::embedded()?;
    println!(
        "rows of 100 bytes in 8 columns, batches of {BATCH_ROWS}, 4 partitions of 16 buckets, \
         packs of {PACK},"
    );
    println!("{} rows a round, medians of {ROUNDS} rounds, one core\n", BATCHES * BATCH_ROWS);
    println!("| hot path | component, M rows/s | native, M rows/s | native ÷ component |");
    println!("|---|---|---|---|");
    for mode in Mode::ALL {
        measure(&plugin, mode)?;
    }
    measure_checksums();
    Ok(())
}
