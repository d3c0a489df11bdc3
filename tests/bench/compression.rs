//! The cost and the savings of each compression of packs: on the flight feed, and on rows of text
//! that does not repeat.
//!
//! The rows go through the real sink to a local server, the packs are caught on their way, and each
//! is then compressed by each algorithm on one thread, in rounds that take turns. Prints the best
//! round. Invariant: it fails on a wrong result only, never for being slow.

use std::sync::{Arc, Mutex};

use anyhow::{Result, ensure};
use arrow_array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Method, Request, Response};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use upsert_sink::components::{SystemTransport, Transport, TransportError};
use upsert_sink::{Catalog, Components, Compression, Plugin, Settings, Sink, bare};
use upsert_sink_server::{Server, ServerSettings};
use upsert_sink_tests::clock::Stopwatch;
use upsert_sink_tests::feed::Feed;

const ROUNDS: usize = 5;
const RANDOM_ROWS: usize = 200_000;

/// The network, with a copy of every pack.
struct Caught {
    network: SystemTransport,
    packs: Mutex<Vec<Bytes>>,
}

impl Transport for Caught {
    fn send(
        &self,
        request: Request<Bytes>,
    ) -> BoxFuture<'_, Result<Response<Bytes>, TransportError>> {
        if request.method() == Method::PUT {
            self.packs.lock().expect("no holder panics").push(request.body().clone());
        }
        async move { self.network.send(request).await }.boxed()
    }
}

/// The packs of some rows, in a table of 8 buckets.
async fn packs(columns: &str, batches: &[RecordBatch]) -> Result<Vec<Bytes>> {
    let directory = tempfile::tempdir()?;
    let settings = ServerSettings::new(directory.path().join("data"));
    let server = Server::start(settings, upsert_sink_server::ServerComponents::system()).await?;
    let mut settings = Settings::local(server.endpoint(), "t", directory.path().join("journal"))?;
    settings.client.compression = Compression::Raw;
    // Every change is sent, also of keys that change again.
    settings.guest_options.push((String::from("sink.merge.enable"), String::from("false")));
    let network = SystemTransport::new();
    let caught = Arc::new(Caught { network, packs: Mutex::default() });
    let components = Components { transport: Arc::clone(&caught) as _, ..Components::system() };
    let properties = "TBLPROPERTIES ('transactional'='true', 'write.bucket.num'='8')";
    let catalog = Catalog::new(&settings, &components);
    catalog.execute(&format!("CREATE TABLE t ({columns}) {properties}")).await?;
    let builder = Sink::builder(Plugin::embedded()?, settings).schema(batches[0].schema());
    let sink = builder.components(components).open().await?;
    for batch in batches {
        sink.write(batch, &[]).await?;
    }
    sink.checkpoint(1).await?;
    sink.close().await?;
    let packs = std::mem::take(&mut *caught.packs.lock().expect("no holder panics"));
    ensure!(!packs.is_empty(), "no pack was sent");
    Ok(packs)
}

fn feed() -> Result<(Vec<RecordBatch>, String)> {
    let feed = Feed::chosen();
    let file = std::fs::File::open(&feed.path)?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)?.with_batch_size(8192).build()?;
    let mut batches = Vec::new();
    for batch in reader {
        let mut batch = batch?;
        let op = batch.schema().index_of("op")?;
        batch.remove_column(op);
        batches.push(batch);
    }
    Ok((batches, format!("flight feed, {}", feed.name)))
}

const FEED_COLUMNS: &str = "event_time TIMESTAMP_NTZ, carrier STRING NOT NULL, \
    flight INT NOT NULL, origin STRING NOT NULL, dest STRING, tailnum STRING, \
    sched_dep TIMESTAMP_NTZ, dep_delay INT, arr_delay INT, air_time INT, distance INT, \
    status STRING, day STRING, PRIMARY KEY (carrier, flight, origin)";

/// Text of letters and digits that nothing can foresee.
struct Chance(u64);

impl Chance {
    fn draw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn text(&mut self, letters: usize) -> String {
        const LETTERS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        (0..letters).map(|_| char::from(LETTERS[(self.draw() >> 40) as usize % 64])).collect()
    }
}

fn random() -> Result<Vec<RecordBatch>> {
    let mut chance = Chance(0x9E37_79B9_7F4A_7C15);
    let mut batches = Vec::new();
    for first in (0..RANDOM_ROWS as i64).step_by(8192) {
        let rows = first..(first + 8192).min(RANDOM_ROWS as i64);
        let texts = |chance: &mut Chance, letters| {
            StringArray::from_iter_values(rows.clone().map(|_| chance.text(letters)))
        };
        let (one, other) = (texts(&mut chance, 45), texts(&mut chance, 50));
        let prices = rows.clone().map(|row| row as f64 / 7.0);
        let times = rows.clone().map(|row| 1_780_000_000_000 + row);
        let times = TimestampMillisecondArray::from_iter_values(times).with_timezone("+00:00");
        let columns: [(&str, ArrayRef); 5] = [
            ("id", Arc::new(Int64Array::from_iter_values(rows.clone()))),
            ("a", Arc::new(one)),
            ("b", Arc::new(other)),
            ("price", Arc::new(Float64Array::from_iter_values(prices))),
            ("at", Arc::new(times)),
        ];
        batches.push(RecordBatch::try_from_iter_with_nullable(
            columns.map(|(name, array)| (name, array, true)),
        )?);
    }
    Ok(batches)
}

const RANDOM_COLUMNS: &str = "id BIGINT NOT NULL, a STRING, b STRING, price DOUBLE, at TIMESTAMP, \
    PRIMARY KEY (id)";

/// Seconds and bytes of one algorithm over all packs.
fn measure(compression: Compression, packs: &[Bytes]) -> (f64, usize) {
    let watch = Stopwatch::start();
    let bytes = packs.iter().map(|pack| match bare::compress(compression, pack) {
        Some(compressed) => std::hint::black_box(compressed).len(),
        None => pack.len(),
    });
    let bytes = bytes.sum();
    (watch.elapsed().as_secs_f64(), bytes)
}

async fn show(name: &str, columns: &str, batches: &[RecordBatch]) -> Result<()> {
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let packs = packs(columns, batches).await?;
    let plain: usize = packs.iter().map(Bytes::len).sum();
    let mut best = [f64::INFINITY; Compression::ALL.len()];
    let mut sizes = [0; Compression::ALL.len()];
    for _ in 0..ROUNDS {
        for (at, compression) in Compression::ALL.into_iter().enumerate() {
            let (seconds, bytes) = measure(compression, &packs);
            best[at] = best[at].min(seconds);
            sizes[at] = bytes;
        }
    }
    println!(
        "\n{name}: {rows} rows, {} packs of {:.0} KB, {:.1} bytes a row\n",
        packs.len(),
        plain as f64 / packs.len() as f64 / 1e3,
        plain as f64 / rows as f64
    );
    println!("| compression | bytes a row | of raw | CPU ns a row | MB/s | pays below, Mbit/s |");
    println!("|---|---|---|---|---|---|");
    for (at, compression) in Compression::ALL.into_iter().enumerate() {
        let (seconds, saved) = (best[at], plain - sizes[at]);
        let pays = match compression {
            Compression::Raw => String::from("–"),
            _ => format!("{:.0}", saved as f64 * 8.0 / seconds / 1e6),
        };
        let (cost, rate) = match compression {
            Compression::Raw => (0.0, String::from("–")),
            _ => (seconds * 1e9 / rows as f64, format!("{:.0}", plain as f64 / seconds / 1e6)),
        };
        println!(
            "| {} | {:.1} | {:.0} % | {cost:.0} | {rate} | {pays} |",
            compression.name(),
            sizes[at] as f64 / rows as f64,
            sizes[at] as f64 * 100.0 / plain as f64,
        );
    }
    Ok(())
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    println!("packs as the sink makes them, compressed on one thread, best of {ROUNDS} rounds;");
    println!("on a slower line than the last column, sending less is worth the time it takes");
    let (batches, name) = feed()?;
    show(&name, FEED_COLUMNS, &batches).await?;
    show("text that does not repeat", RANDOM_COLUMNS, &random()?).await
}
