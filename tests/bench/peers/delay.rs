//! The second table: how fast many rows go where every pack is answered late.
//!
//! Beside each rate stands what could be reached: the client's own rate without delay, or the bytes
//! that its options let be under way for each delay, whichever is less. Invariant: rates of one
//! client and option are compared with its own.

use anyhow::Result;

use crate::answers::BUCKETS;
use crate::measure::{Bench, Runs};
use crate::order::{ASYNC, Buffers, MERGE, Order, RESET, SYNC};
use crate::peer::Kind;
use crate::{is_chosen, rounds};

const ROUNDS: usize = 3;
/// Runs that take longer are measured once: they wait, and waiting does not vary.
const LONG_S: f64 = 60.0;
const DELAYS_MS: [u64; 3] = [0, 30, 100];
const BUFFERS: [Buffers; 2] = [Buffers::Default, Buffers::Wide];

/// Who is measured: mode, name, rows, buckets that the default options let it send at once.
const CLIENTS: [(Kind, &str, &str, u64, u64); 4] = [
    (Kind::Ours, MERGE, "upsert-sink", 10_000_000, BUCKETS as u64),
    (Kind::Java, SYNC, "Java SDK, sync", 10_000_000, BUCKETS as u64),
    (Kind::Java, ASYNC, "Java SDK, async", 10_000_000, BUCKETS as u64),
    // More would take minutes, and break at its keep-alive.
    (Kind::PyOdps, RESET, "PyODPS, counter reset", 500_000, BUCKETS as u64),
];

/// One line of the table.
struct Line {
    client: usize,
    buffers: Buffers,
    delay_ms: u64,
    runs: Runs,
}

impl Line {
    fn order(&self) -> (Kind, Order) {
        let (kind, mode, _, rows, _) = CLIENTS[self.client];
        (kind, Order { rows, mode, compression: "none", buffers: self.buffers })
    }

    /// Rows a second that the bytes under way allow.
    fn allowed(&self) -> f64 {
        let concurrent = match self.buffers {
            Buffers::Default => CLIENTS[self.client].4,
            Buffers::Wide => u64::from(BUCKETS),
        };
        let bytes = (concurrent * self.buffers.bucket_bytes()) as f64;
        bytes / (self.delay_ms as f64 / 1e3) / self.runs.bytes_per_row()
    }
}

/// Measures and prints.
pub(crate) fn print(bench: &mut Bench) -> Result<()> {
    let mut lines = Vec::new();
    let clients = (0..CLIENTS.len()).filter(|client| is_chosen(CLIENTS[*client].0));
    let clients: Vec<usize> = clients.collect();
    for (buffers, delay_ms) in BUFFERS.iter().flat_map(|b| DELAYS_MS.map(|delay_ms| (*b, delay_ms)))
    {
        for client in clients.iter().copied() {
            lines.push(Line { client, buffers, delay_ms, runs: Runs::default() });
        }
    }
    for line in lines.iter().filter(|line| line.delay_ms == 0) {
        let (kind, order) = line.order();
        bench.run(kind, Order { rows: order.rows / 10, ..order }, 0, false)?;
    }
    for round in 1..=rounds(ROUNDS) {
        eprintln!("delay: round {round} of {}", rounds(ROUNDS));
        for line in &mut lines {
            let (kind, order) = line.order();
            if line.runs.count() == 0 || line.runs.wall_s() < LONG_S {
                line.runs.add(bench.run(kind, order, line.delay_ms, false)?);
            }
        }
    }
    println!("\n10,000,000 rows uncompressed (PyODPS 500,000), each pack answered after a delay;");
    println!(
        "{} rounds, one of what takes over a minute. What could be reached: the",
        rounds(ROUNDS)
    );
    println!("client's rate without delay, or bytes under way ÷ delay, whichever is less\n");
    println!(
        "| options | delay, ms | client | s | k rows/s | could be | reached | × of ours | CPU-s/M |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    lines.iter().for_each(|line| print_line(line, &lines));
    Ok(())
}

fn print_line(line: &Line, lines: &[Line]) {
    let beside = |client: usize, delay_ms: u64| {
        let found = lines.iter().find(|other| {
            (other.client, other.buffers, other.delay_ms) == (client, line.buffers, delay_ms)
        });
        found.map_or(f64::NAN, |other| other.runs.rows_per_s())
    };
    let rate = line.runs.rows_per_s();
    let bound = match line.delay_ms {
        0 => rate,
        _ => beside(line.client, 0).min(line.allowed()),
    };
    println!(
        "| {} | {} | {} | {:.1} | {:.0} | {:.0} | {:.0} % | {:.2} | {:.2} |",
        line.buffers.name(),
        line.delay_ms,
        CLIENTS[line.client].2,
        line.runs.wall_s(),
        rate / 1e3,
        bound / 1e3,
        100.0 * rate / bound,
        rate / beside(0, line.delay_ms),
        line.runs.cpu_s_per_million(),
    );
}
