//! Our packs in every encoding, through the real client over a real network to the real server.
//!
//! Invariant: the table is the same in each, and the header says what the bytes are.

use std::sync::{Arc, Mutex};

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response};
use upsert_sink::components::{Components, SystemTransport, Transport, TransportError};
use upsert_sink::{Compression, Sink};
use upsert_sink_tests::plugin::plugin;

use crate::protocol::fixture::{described, exchanges};
use crate::protocol::local::Local;

/// The network, with a list of the packs that went through it.
struct Watched {
    network: SystemTransport,
    packs: Mutex<Vec<(String, usize)>>,
}

impl Transport for Watched {
    fn send(
        &self,
        request: Request<Bytes>,
    ) -> BoxFuture<'_, Result<Response<Bytes>, TransportError>> {
        if request.method() == http::Method::PUT {
            let encoding = request.headers().get("content-encoding");
            let encoding = encoding.map_or("", |value| value.to_str().expect("text"));
            let pack = (encoding.to_owned(), request.body().len());
            self.packs.lock().expect("no holder panics").push(pack);
        }
        async move { self.network.send(request).await }.boxed()
    }
}

fn rows() -> RecordBatch {
    let ids = Int64Array::from_iter_values(0..20_000);
    let keys = StringArray::from_iter_values((0..20_000).map(|id| format!("key {id}")));
    let values = StringArray::from_iter_values((0..20_000).map(|id| format!("value {}", id % 7)));
    let numbers = Int64Array::from_iter((0..20_000).map(|id| (id % 3 > 0).then_some(id)));
    let columns: [(&str, ArrayRef); 4] = [
        ("id", Arc::new(ids)),
        ("k", Arc::new(keys)),
        ("v", Arc::new(values)),
        ("n", Arc::new(numbers)),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(n, a)| (n, a, true))).expect("rows")
}

#[tokio::test]
async fn rows_arrive_whole_in_every_encoding() {
    let described = described(&exchanges("java_basic_4buckets")).remove(0);
    let mut sizes = Vec::new();
    for compression in Compression::ALL {
        let local = Local::start().await;
        local.create(&described).await;
        let mut settings = local.settings(&described.table);
        settings.client.compression = compression;
        let watched =
            Arc::new(Watched { network: SystemTransport::new(), packs: Mutex::default() });
        let components =
            Components { transport: Arc::clone(&watched) as _, ..Components::system() };
        let batch = rows();
        let builder = Sink::builder(plugin(), settings).schema(batch.schema());
        let sink = builder.components(components).open().await.expect("the sink opens");
        sink.write(&batch, &[]).await.expect("the rows are taken");
        sink.checkpoint(1).await.expect("the barrier passes");
        sink.checkpoint_completed(1).await.expect("told");
        sink.committed(1).await.expect("it is committed");
        sink.close().await.expect("it ends well");
        let sql =
            "SELECT count(*), sum(id), sum(n), count(DISTINCT k), min(v), max(v) FROM t_basic";
        let found = local.query(sql).await;
        let numbers = ["20000", "199990000", "133326667", "20000", "value 0", "value 6"];
        assert_eq!(found, [numbers], "{compression:?}");
        let packs = std::mem::take(&mut *watched.packs.lock().expect("no holder panics"));
        let expected = match compression {
            Compression::Raw => "",
            Compression::Zlib => "deflate",
            Compression::Snappy => "x-snappy-framed",
            Compression::Lz4 => "x-lz4-frame",
            Compression::Zstd => "zstd",
            other => panic!("{other:?} has no name here"),
        };
        assert!(packs.iter().all(|(encoding, _)| encoding == expected), "{packs:?}");
        sizes.push(packs.iter().map(|(_, bytes)| bytes).sum::<usize>());
    }
    assert!(sizes[1..].iter().all(|bytes| *bytes < sizes[0] / 2), "{sizes:?}");
}
