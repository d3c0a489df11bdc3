//! Ten thousand partitions of sixteen buckets through one writer with 64 MiB for rows: the largest
//! memory of the job's process, beside a server of its own, with a file cache and without.
//!
//! Rows come in no order, so that every partition is as warm as every other: the worst that a cache
//! of rows can meet. `PARTITIONS_ROWS` says how many rows in place of ten millions and one.
//! Invariant: it fails on a wrong result only.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use upsert_sink_tests::binary;
use upsert_sink_tests::binary::Running;

const PARTITIONS: u64 = 10_000;

/// Rows, and whether they wait on disk.
const RUNS: [(u64, bool); 2] = [(1_000_000, false), (10_000_000, true)];

/// Rows of about 145 bytes, in partitions that follow no order.
fn write_rows(path: &Path, rows: u64) -> Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    writeln!(out, "id,v,part")?;
    let mut random = fastrand::Rng::with_seed(7);
    for id in 0..rows {
        let part = random.u64(0..PARTITIONS);
        let [a, b, c, d]: [u64; 4] = std::array::from_fn(|_| random.u64(..));
        writeln!(out, "{id},{a:032x}{b:032x}{c:032x}{d:032x},p{part}")?;
    }
    Ok(out.flush()?)
}

fn serve(data: &str) -> Result<(Running, String)> {
    let mut server = Running::start(&["serve", "--data", data, "--listen", "127.0.0.1:0"])?;
    while let Some(line) = server.answer()? {
        if let Some(at) = line.find("http://") {
            let address = line[at..].split([',', ' ']).next().unwrap_or_default();
            return Ok((server, String::from(address)));
        }
    }
    anyhow::bail!("the server ended: {}", server.finish()?.stderr)
}

fn run(rows: u64, cached: bool) -> Result<Value> {
    let directory = tempfile::tempdir()?;
    let place = |name: &str| directory.path().join(name).display().to_string();
    let input = place("rows.csv");
    write_rows(Path::new(&input), rows)?;
    let (server, address) = serve(&place("data"))?;
    let sql = "id BIGINT\", \"v STRING";
    let job = format!(
        "[source]\nformat = \"csv\"\npath = \"{input}\"\ncolumns = [\"{sql}\", \"part STRING\"]\n\
         [table]\nname = \"t\"\ncolumns = [\"{sql}\"]\nprimary-key = [\"id\"]\n\
         partitioned-by = [\"part STRING\"]\nbuckets = 16\n\
         [sink]\nendpoint = \"{address}\"\nproject = \"local\"\naccessId = \"a\"\n\
         accessKey = \"b\"\n\"sink.dynamic-partition.limit\" = {PARTITIONS}\n\
         \"sink.memory.budget\" = \"64 mb\"\n\"sink.file-cached.enable\" = {cached}\n\
         \"upsert.commit.thread-num\" = 32\n"
    );
    std::fs::write(place("job.toml"), job)?;
    create_table(&place("job.toml"), &address)?;
    let (job, state) = (place("job.toml"), place("state"));
    let arguments = ["run", &job, "--state", &state, "--report", "json"];
    let interval = ["--checkpoint-interval", "1h"];
    let report = binary::run(&[arguments.as_slice(), &interval].concat())?.report()?;
    server.kill()?;
    ensure!(report["events"] == rows && report["finished"] == true, "{report}");
    Ok(report)
}

/// A job with an endpoint finds its table there.
fn create_table(job: &str, address: &str) -> Result<()> {
    let text = std::fs::read_to_string(job)?;
    ensure!(text.contains(address), "the job is of this server");
    let sql = "CREATE TABLE t (id BIGINT NOT NULL, v STRING, PRIMARY KEY (id)) PARTITIONED BY \
               (part STRING) TBLPROPERTIES ('transactional'='true', 'write.bucket.num'='16')";
    let body = format!(
        "<Instance><Job><Tasks><SQL><Name>create</Name><Query>{sql};</Query></SQL></Tasks></Job>\
         </Instance>"
    );
    let authority = address.strip_prefix("http://").context("an address")?;
    let (host, path) = authority.split_once('/').context("a path")?;
    let mut stream = std::net::TcpStream::connect(host)?;
    write!(
        stream,
        "POST /{path}/projects/local/instances HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 2"), "{answer}");
    Ok(())
}

fn main() -> Result<()> {
    let wanted = std::env::var("PARTITIONS_ROWS").ok().map(|text| text.parse()).transpose()?;
    println!("{PARTITIONS} partitions of 16 buckets, one writer, 64 MiB for rows\n");
    println!("| rows | file cache | s | peak memory, MiB | held, MiB | requests | rows/s |");
    println!("|---|---|---|---|---|---|---|");
    for (rows, cached) in RUNS {
        let rows = wanted.unwrap_or(rows);
        let report = run(rows, cached)?;
        let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
        let rate = number(&report["events_per_second"]);
        let held = report["ledger"].as_array().into_iter().flatten();
        let held = held.map(|record| number(&record["held_bytes_max"])).fold(0.0, f64::max);
        println!(
            "| {rows} | {} | {:.1} | {:.0} | {:.0} | {} | {rate:.0} |",
            if cached { "yes" } else { "no" },
            rows as f64 / rate,
            number(&report["peak_rss_bytes"]) / f64::from(1 << 20),
            held / f64::from(1 << 20),
            report["http_requests"],
        );
    }
    Ok(())
}
