//! Our client beside MaxCompute's own: what a million rows cost each of them, and how fast ten
//! million go where every answer takes its time.
//!
//! READ FIRST. `order.rs` is what a client is told; `peer.rs` runs it as a process (`ours.rs`,
//! `Peer.java`, `peer.py`) and measures it from outside; `server.rs` takes what it sends
//! (`answers.rs` says what it needs to hear), `arrived.rs` and `rows.rs` check that it is the rows;
//! `measure.rs` puts these together, `cost.rs` and `delay.rs` print the two tables. Invariant: it
//! fails on a wrong result only, never for being slow.

mod answers;
mod arrived;
mod cost;
mod delay;
mod measure;
mod order;
mod ours;
mod peer;
mod rows;
mod server;

use std::path::Path;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (cost, delay) = match arguments.as_slice() {
        ["ours", endpoint, texts] => return ours::run(endpoint, Path::new(texts)),
        [] => (true, true),
        ["cost"] => (true, false),
        ["delay"] => (false, true),
        other => bail!("peers {}: say nothing, `cost` or `delay`", other.join(" ")),
    };
    let mut bench = measure::Bench::start()?;
    println!(
        "rows of a bigint key, two texts of 50 and 52 letters that do not repeat, a double, a"
    );
    println!(
        "timestamp, to 16 buckets of a server that discards them; CPU is that of the client's"
    );
    println!("process alone, from rows in memory to their commit; medians of rounds in turns");
    if cost {
        cost::print(&mut bench)?;
    }
    if delay {
        delay::print(&mut bench)?;
    }
    bench.stop();
    Ok(())
}

/// Whether a client is measured: all are, or those that `PEERS_CLIENTS` names, such as `ours,java`.
fn is_chosen(kind: peer::Kind) -> bool {
    let name = format!("{kind:?}").to_lowercase();
    let told = std::env::var("PEERS_CLIENTS");
    told.map_or(true, |told| told.split(',').any(|one| one.trim() == name))
}

/// Rounds of a table: `PEERS_ROUNDS`, or as many as it is made for.
fn rounds(of_table: usize) -> usize {
    let told = std::env::var("PEERS_ROUNDS").ok().and_then(|text| text.parse().ok());
    told.unwrap_or(of_table)
}
