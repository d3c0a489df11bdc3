//! The first table: what a million rows cost a client, in each compression.
//!
//! Invariant: every client has carried out the same order before it is measured, checked record by
//! record, so that all of them are warm and right.

use anyhow::Result;

use crate::measure::{Bench, Runs};
use crate::order::{
    ASYNC, Buffers, CACHED, COMPRESSIONS, MERGE, Order, PLAIN, RESET, SHIPPED, SYNC,
};
use crate::peer::Kind;
use crate::rows::MILLION;
use crate::{is_chosen, rounds};

const ROUNDS: usize = 5;

/// Who is measured, and in which mode.
const CLIENTS: [(Kind, &str, &str); 6] = [
    (Kind::Ours, MERGE, "upsert-sink"),
    (Kind::Ours, PLAIN, "upsert-sink, merging off"),
    (Kind::Ours, CACHED, "upsert-sink, file cache mode"),
    (Kind::Java, SYNC, "Java SDK, sync"),
    (Kind::Java, ASYNC, "Java SDK, async"),
    (Kind::PyOdps, RESET, "PyODPS, counter reset"),
];

/// Measures and prints.
pub(crate) fn print(bench: &mut Bench) -> Result<()> {
    let clients: Vec<_> = CLIENTS.iter().filter(|client| is_chosen(client.0)).collect();
    let orders: Vec<(Kind, &str, Order)> = COMPRESSIONS
        .iter()
        .flat_map(|compression| clients.iter().map(move |client| (*client, *compression)))
        .map(|((kind, mode, name), compression)| {
            (*kind, *name, Order { rows: MILLION, mode, compression, buffers: Buffers::Default })
        })
        .collect();
    for (kind, _, order) in &orders {
        bench.run(*kind, *order, 0, true)?;
    }
    let mut runs = vec![Runs::default(); orders.len()];
    for round in 1..=rounds(ROUNDS) {
        eprintln!("cost: round {round} of {}", rounds(ROUNDS));
        for ((kind, _, order), runs) in orders.iter().zip(&mut runs) {
            runs.add(bench.run(*kind, *order, 0, false)?);
        }
    }
    println!(
        "\n1,000,000 rows, {} rounds; × is beside upsert-sink as it is, in the same",
        rounds(ROUNDS)
    );
    println!("compression\n");
    println!(
        "| compression | client | CPU-s | × | M rows/s | × | bytes a row | packs | connections |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (at, ((_, name, order), of)) in orders.iter().zip(&runs).enumerate() {
        let ours = &runs[at - at % clients.len()];
        println!(
            "| {} | {name} | {:.2} | {:.1} | {:.2} | {:.2} | {:.1} | {} | {} |",
            order.compression,
            of.cpu_s_per_million(),
            of.cpu_s_per_million() / ours.cpu_s_per_million(),
            of.rows_per_s() / 1e6,
            of.rows_per_s() / ours.rows_per_s(),
            of.bytes_per_row(),
            of.packs(),
            of.connections(),
        );
    }
    if is_chosen(Kind::PyOdps) {
        print_as_shipped(bench)?;
    }
    Ok(())
}

/// PyODPS counts buffered bytes for ever: after 64 MiB it sends every row alone, and its keep-alive
/// breaks the stream after half a minute. So this is one attempt, and no figure of speed.
fn print_as_shipped(bench: &mut Bench) -> Result<()> {
    let order =
        Order { rows: MILLION, mode: SHIPPED, compression: "none", buffers: Buffers::Default };
    bench.dismiss(Kind::PyOdps);
    let run = bench.attempt(Kind::PyOdps, order, 0, false)?;
    let (spent, arrived) = (run.spent, run.arrived);
    println!(
        "\nPyODPS as shipped, none, once: {} of 1,000,000 rows in {} packs arrived in {:.0} s, \
         {:.1} CPU-s; {}",
        arrived.records,
        arrived.packs,
        spent.wall_s,
        spent.cpu_s,
        match &spent.failed {
            Some(why) => format!("then it failed: {}", why.replace('\n', " ")),
            None => String::from("it came to its end"),
        }
    );
    bench.dismiss(Kind::PyOdps);
    Ok(())
}
