//! Our client's requests for the rows that the vendor's clients were given, beside theirs.
//!
//! The rows go through the real sink, component and all, to the recording's server. Invariant: with
//! merging off our packs decode to the very records of theirs, bucket by bucket; with merging on
//! they fold to the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request};
use upsert_sink::{Settings, Sink};
use upsert_sink_format::record::{DecodedRecord, Op};
use upsert_sink_tests::plugin::plugin;

use crate::protocol::fixture::{Described, Exchange, described, exchanges};
use crate::protocol::rows;
use crate::protocol::scripted::{Scripted, query};

/// Labels with plain bodies and full rows: every type, both hashers, partitions, deletes.
const LABELS: [&str; 8] = [
    "java_basic_4buckets",
    "py_basic_4buckets",
    "java_partitioned",
    "py_partitioned",
    "java_types",
    "py_types",
    "java_legacy_hasher",
    "py_legacy_hasher",
];

/// Records by bucket.
type Packs = BTreeMap<String, Vec<DecodedRecord>>;

/// One label: what was sent then, and what is sent now.
struct Compared {
    theirs: Vec<Exchange>,
    described: Described,
    service: Arc<Scripted>,
}

impl Compared {
    async fn run(label: &str, merge: bool) -> Self {
        let theirs = exchanges(label);
        let described = described(&theirs).remove(0);
        let service = Scripted::new(&described);
        let compared = Self { theirs, described, service };
        compared.write(merge).await;
        compared
    }

    fn created(&self) -> &Exchange {
        self.theirs.iter().find(|exchange| exchange.creates()).expect("a session")
    }

    fn settings(&self, journal: &std::path::Path, merge: bool) -> Settings {
        let created = self.created();
        let lifecycle = created.parameter("lifecycle").unwrap_or_else(|| String::from("24"));
        let pairs = [
            ("endpoint", String::from("http://127.0.0.1:18899/api")),
            ("project", String::from("proj")),
            ("tableName", self.described.table.clone()),
            ("accessId", String::from("testAccessId")),
            ("accessKey", String::from("testAccessKey")),
            ("quotaName", created.parameter("quotaName").unwrap_or_default()),
            ("compressAlgorithm", String::from("raw")),
            ("sink.journal-dir", journal.display().to_string()),
            ("sink.merge.enable", merge.to_string()),
            ("sink.hasher", self.described.hasher().to_owned()),
            ("sink.session.lifecycle", format!("{lifecycle} h")),
            ("upsert.write.slot-num", created.parameter("slotnum").expect("a number")),
        ];
        let pairs = pairs.into_iter().map(|(name, value)| (name.to_owned(), value));
        Settings::from_options(pairs).expect("valid options")
    }

    /// Writes the recorded rows, pack by pack, and commits them.
    async fn write(&self, merge: bool) {
        let directory = tempfile::tempdir().expect("a directory");
        let settings = self.settings(directory.path(), merge);
        let columns = self.described.columns().into_iter().map(|(name, ..)| name);
        let columns: Vec<_> = columns.zip(self.described.types()).collect();
        let spec = self.created().parameter("partition").unwrap_or_default();
        let partition: Vec<_> = spec
            .split_once("%3D")
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into_iter()
            .collect();
        let records: Vec<_> = self.recorded().into_values().flatten().collect();
        let (batch, kinds) = rows::batch(&columns, &partition, &records);
        let builder = Sink::builder(plugin(), settings).schema(batch.schema());
        let opened = builder.components(self.service.components()).open().await;
        let sink = opened.expect("the sink opens");
        sink.write(&batch, &kinds).await.expect("the rows are taken");
        sink.checkpoint(1).await.expect("the barrier passes");
        sink.checkpoint_completed(1).await.expect("told");
        sink.committed(1).await.expect("it is committed");
        sink.close().await.expect("it ends well");
    }

    fn puts(&self) -> impl Iterator<Item = &Exchange> {
        self.theirs.iter().filter(|exchange| exchange.method == "PUT")
    }

    fn recorded(&self) -> Packs {
        let mut packs = Packs::new();
        for exchange in self.puts() {
            let bucket = exchange.parameter("bucketid").expect("a bucket");
            packs.entry(bucket).or_default().extend(self.described.decode(&exchange.body));
        }
        packs
    }

    fn sent(&self) -> Packs {
        let mut packs = Packs::new();
        for request in self.service.requests(&Method::PUT, true) {
            let records = self.described.decode(request.body());
            assert_eq!(query(&request)["record_count"], records.len().to_string());
            packs.entry(query(&request)["bucketid"].clone()).or_default().extend(records);
        }
        packs
    }

    /// The last record of each key.
    fn fold(&self, packs: &Packs) -> BTreeMap<String, DecodedRecord> {
        let places = self.described.key_places();
        let mut last = BTreeMap::new();
        for record in packs.values().flatten() {
            let key: Vec<_> = places.iter().map(|place| &record.values[*place]).collect();
            last.insert(format!("{key:?}"), record.clone());
        }
        last
    }
}

#[tokio::test]
async fn with_merging_off_our_packs_hold_the_records_of_theirs() {
    for label in LABELS {
        let compared = Compared::run(label, false).await;
        let (ours, theirs) = (compared.sent(), compared.recorded());
        assert!(!theirs.is_empty(), "{label}");
        assert_eq!(ours, theirs, "{label}");
    }
}

#[tokio::test]
async fn with_merging_on_our_packs_fold_to_the_same() {
    let mut merged = 0;
    for label in LABELS {
        let compared = Compared::run(label, true).await;
        let (ours, theirs) = (compared.sent(), compared.recorded());
        assert_eq!(compared.fold(&ours), compared.fold(&theirs), "{label}");
        let records = |packs: &Packs| packs.values().flatten().count();
        merged += records(&theirs) - records(&ours);
    }
    assert!(merged > 0, "some keys were written twice");
}

#[tokio::test]
async fn java_would_have_sent_our_very_bytes() {
    for label in LABELS.iter().filter(|label| label.starts_with("java")) {
        let compared = Compared::run(label, false).await;
        let ours = compared.service.requests(&Method::PUT, true);
        let bodies =
            |bodies: Vec<(String, Vec<u8>)>| bodies.into_iter().collect::<BTreeMap<_, _>>();
        let ours = ours.iter().map(|one| (query(one)["bucketid"].clone(), one.body().to_vec()));
        let theirs = compared.puts().map(|exchange| {
            (exchange.parameter("bucketid").expect("a bucket"), exchange.body.clone())
        });
        assert_eq!(bodies(ours.collect()), bodies(theirs.collect()), "{label}");
    }
}

/// The parameters without the value of `upsertid`, which differs from session to session.
fn comparable(parameters: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut parameters = parameters;
    for (name, value) in &mut parameters {
        if name == "upsertid" {
            value.clear();
        }
    }
    parameters
}

#[tokio::test]
async fn our_requests_carry_the_parameters_of_theirs() {
    for label in LABELS {
        let compared = Compared::run(label, false).await;
        let theirs = |exchange: &Exchange| comparable(exchange.parameters().into_iter().collect());
        let ours = |request: &Request<Bytes>| comparable(query(request));
        // The lifecycle is always said: what the service takes without it is not ours to know.
        let mut created = theirs(compared.created());
        created.entry(String::from("lifecycle")).or_insert_with(|| String::from("24"));
        let sent = compared.service.requests(&Method::POST, false);
        assert_eq!(sent.iter().map(ours).collect::<Vec<_>>(), [created], "{label}");
        let by_bucket = |all: Vec<BTreeMap<String, String>>| -> BTreeMap<_, _> {
            all.into_iter().map(|one| (one["bucketid"].clone(), one)).collect()
        };
        let sent = compared.service.requests(&Method::PUT, true);
        let sent = by_bucket(sent.iter().map(ours).collect());
        assert_eq!(sent, by_bucket(compared.puts().map(theirs).collect()), "{label}");
        let is_commit = |exchange: &&Exchange| exchange.method == "POST" && !exchange.creates();
        let commit = compared.theirs.iter().filter(|exchange| exchange.is_upsert());
        let commit = commit.clone().find(is_commit).expect("a commit");
        let sent = compared.service.requests(&Method::POST, true);
        assert_eq!(sent.len(), 3, "committing twice, then committed");
        assert!(sent.iter().all(|request| ours(request) == theirs(commit)), "{label}");
    }
}

#[tokio::test]
async fn our_requests_carry_the_headers_of_theirs_that_matter() {
    for label in LABELS {
        let compared = Compared::run(label, false).await;
        let header = |request: &Request<Bytes>, name: &str| {
            let value = request.headers().get(name);
            value.map(|value| value.to_str().expect("text").to_owned())
        };
        let theirs = |method: &str, name: &str| {
            let of = compared.theirs.iter().filter(|exchange| exchange.is_upsert());
            let mut of = of.filter(|exchange| exchange.method == method);
            of.next_back().and_then(|exchange| exchange.header(name)).map(str::to_owned)
        };
        for (method, of_session) in
            [(Method::POST, false), (Method::PUT, true), (Method::POST, true)]
        {
            let requests = compared.service.requests(&method, of_session);
            assert!(!requests.is_empty(), "{label} {method}");
            for request in &requests {
                for name in [
                    "x-odps-tunnel-version",
                    "odps-tunnel-date-transform",
                    "odps-tunnel-sdk-support-schema-evolution",
                ] {
                    let expected = theirs(method.as_str(), name);
                    assert!(expected.is_some(), "{label} {name}");
                    assert_eq!(header(request, name), expected, "{label} {method} {name}");
                }
                let routed = theirs(method.as_str(), "odps-tunnel-routed-server");
                let routed = routed.filter(|_| of_session);
                assert_eq!(
                    header(request, "odps-tunnel-routed-server"),
                    routed,
                    "{label} {method}"
                );
                let length = request.body().len().to_string();
                assert_eq!(header(request, "content-length"), Some(length), "never in chunks");
                assert_eq!(header(request, "content-encoding"), None);
                let signed = header(request, "authorization").expect("it is signed");
                assert!(signed.starts_with("ODPS testAccessId:"), "{signed}");
                assert!(header(request, "date").is_some_and(|date| date.ends_with(" GMT")));
                assert_eq!(header(request, "user-agent"), header(request, "x-odps-user-agent"));
            }
        }
    }
}

#[test]
fn a_fold_tells_an_upsert_from_a_delete() {
    let described = described(&exchanges("java_basic_4buckets")).remove(0);
    let record = |op| DecodedRecord { op, values: vec![None; 4], value_columns: Vec::new() };
    let compared = Compared { theirs: Vec::new(), service: Scripted::new(&described), described };
    let packs = |ops: [Op; 2]| Packs::from([(String::from("0"), ops.map(record).to_vec())]);
    let (one, other) = (packs([Op::Upsert, Op::Delete]), packs([Op::Delete, Op::Upsert]));
    assert_ne!(compared.fold(&one), compared.fold(&other));
}
