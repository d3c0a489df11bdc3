//! A client of the service without a network, and packs as a client would encode them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{Array, Int64Array, RecordBatch, StringArray};
use bytes::Bytes;
use serde_json::Value as Json;
use upsert_sink_format::hash::{Hasher, bucket_of, hash_values};
use upsert_sink_format::id::Millis;
use upsert_sink_format::record::{Op, Value, encode_values, pack_trailer};
use upsert_sink_format::schema::ColumnType;
use upsert_sink_server::components::simulated::{ManualClock, SimulatedDirectories};
use upsert_sink_server::components::{ServerComponents, simulated};
use upsert_sink_server::{Error, ServerSettings, Service};

/// Where the service keeps its data on the simulated disk.
pub(crate) const DATA: &str = "/simulated";
pub(crate) const BUCKETS: u32 = 4;
pub(crate) const HOUR: Millis = Millis(3_600_000);
pub(crate) const CREATE_TABLE: &str = "CREATE TABLE IF NOT EXISTS t \
     (id BIGINT PRIMARY KEY, v STRING) PARTITIONED BY (day STRING) \
     TBLPROPERTIES ('transactional'='true','write.bucket.num'='4')";

/// A row of table `t`; without a value it is a delete.
pub(crate) type Row = (i64, Option<&'static str>);

/// A service and what it stands on.
pub(crate) struct Site {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) disk: Arc<SimulatedDirectories>,
    pub(crate) service: Arc<Service>,
}

/// An answer of the server.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) location: String,
    /// `x-odps-end-time`.
    pub(crate) end_time: Option<String>,
    pub(crate) body: String,
    pub(crate) bytes: Bytes,
}

impl Reply {
    pub(crate) fn json(&self) -> Json {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The vendor's code of an error.
    pub(crate) fn code(&self) -> String {
        self.json()["Code"].as_str().unwrap_or_default().to_owned()
    }

    /// The text between the first such tags, as it is written.
    pub(crate) fn tag(&self, name: &str) -> String {
        let begun = self.body.split_once(&format!("<{name}>"));
        let ended = begun.and_then(|(_, rest)| rest.split_once(&format!("</{name}>")));
        ended.map(|(text, _)| text.to_owned()).unwrap_or_default()
    }

    /// The status of a session.
    pub(crate) fn session_status(&self) -> String {
        self.json()["status"].as_str().unwrap_or_default().to_owned()
    }
}

impl Site {
    /// A service on an empty disk.
    pub(crate) async fn new() -> Self {
        let clock = Arc::new(ManualClock::new(Millis(1_700_000_000_000)));
        Self::on(clock, SimulatedDirectories::new()).await.expect("an empty disk can be served")
    }

    /// A service on a disk. Segments are small, so that they roll.
    pub(crate) async fn on(
        clock: Arc<ManualClock>,
        disk: Arc<SimulatedDirectories>,
    ) -> Result<Self, Error> {
        Self::with(clock, disk, |_| {}).await
    }

    /// A service on a disk, with settings of its own.
    async fn with(
        clock: Arc<ManualClock>,
        disk: Arc<SimulatedDirectories>,
        change: impl FnOnce(&mut ServerSettings),
    ) -> Result<Self, Error> {
        let components = simulated::components(clock.clone(), disk.clone(), disk.syncs() + 7);
        let mut settings = ServerSettings { segment_bytes: 400, ..ServerSettings::new(DATA) };
        change(&mut settings);
        let service = Service::open(&settings, &components).await?;
        Ok(Self { clock, disk, service })
    }

    /// A service with table `t` and partition `a` whose queries have threads of their own, and
    /// whose clock goes, as a real one's.
    pub(crate) async fn with_query_threads() -> Self {
        let clock = Arc::new(ManualClock::new(Millis(1_700_000_000_000)));
        let disk = SimulatedDirectories::new();
        let ServerComponents { workers, clock: real, .. } = ServerComponents::system();
        let simulated = simulated::components(real, disk.clone(), 7);
        let components = ServerComponents { workers, ..simulated };
        let settings = ServerSettings::new(DATA);
        let service = Service::open(&settings, &components).await.expect("the disk is empty");
        let site = Self { clock, disk, service };
        site.sql(CREATE_TABLE).await.expect("created");
        site.sql("ALTER TABLE t ADD PARTITION (day='a')").await.expect("added");
        site
    }

    /// Another service on the disk, after this one has died.
    pub(crate) async fn restarted(self) -> Self {
        let disk = self.disk.crash(simulated::Unsynced::Lost).await;
        Self::on(self.clock, disk).await.expect("what was acknowledged is whole")
    }

    /// A service with table `t` and these partitions.
    pub(crate) async fn with_days(days: &[&str]) -> Self {
        Self::with_days_and(days, |_| {}).await
    }

    /// The same, with settings of its own.
    pub(crate) async fn with_days_and(
        days: &[&str],
        change: impl FnOnce(&mut ServerSettings),
    ) -> Self {
        let clock = Arc::new(ManualClock::new(Millis(1_700_000_000_000)));
        let site = Self::with(clock, SimulatedDirectories::new(), change).await;
        let site = site.expect("an empty disk can be served");
        site.sql(CREATE_TABLE).await.expect("created");
        for day in days {
            let add = format!("ALTER TABLE t ADD IF NOT EXISTS PARTITION (day='{day}')");
            site.sql(&add).await.expect("added");
        }
        site
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: Vec<u8>) -> Reply {
        self.call_with(method, path, &[], body).await
    }

    pub(crate) async fn call_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Reply {
        let mut request = http::Request::builder().method(method).uri(path).header("host", "h:1");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Bytes::from(body)).expect("a valid request");
        let response = self.service.respond(request).await;
        assert!(response.headers().contains_key("x-odps-request-id"), "{method} {path}");
        let header = |name: &str| response.headers().get(name)?.to_str().ok().map(str::to_owned);
        let (location, end_time) = (header("location"), header("x-odps-end-time"));
        Reply {
            status: response.status().as_u16(),
            location: location.unwrap_or_default(),
            end_time,
            body: String::from_utf8_lossy(response.body()).into_owned(),
            bytes: response.into_body(),
        }
    }

    pub(crate) async fn post_job(&self, text: &str) -> Reply {
        let job = format!(
            "<Instance><Job><Tasks><SQL><Name>n</Name><Query><![CDATA[{text};]]></Query></SQL>\
             </Tasks></Job></Instance>"
        );
        self.call("POST", INSTANCES, job.into_bytes()).await
    }

    /// Where to ask for the outcome of a job.
    pub(crate) async fn job(&self, text: &str) -> String {
        let reply = self.post_job(text).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        reply.location.strip_prefix("http://h:1").expect("our own host").to_owned()
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.call("GET", path, Vec::new()).await
    }

    pub(crate) async fn sql(&self, text: &str) -> Result<(), String> {
        let reply = self.post_job(text).await;
        if reply.status != 201 {
            return Err(reply.body);
        }
        let path = reply.location.strip_prefix("http://h:1").expect("our own host").to_owned();
        let status = self.call("GET", &format!("{path}?taskstatus"), Vec::new()).await;
        match status.body.contains("<Status>Success</Status>") {
            true => Ok(()),
            false => Err(self.call("GET", &format!("{path}?result"), Vec::new()).await.body),
        }
    }

    pub(crate) async fn create(&self, day: &str) -> Reply {
        let path = format!("{UPSERTS}?slotnum=1&partition=day%3D{day}");
        self.call("POST", &path, Vec::new()).await
    }

    /// A new session's id.
    pub(crate) async fn session(&self, day: &str) -> String {
        let reply = self.create(day).await;
        reply.json()["id"].as_str().unwrap_or_else(|| panic!("{reply:?}")).to_owned()
    }

    /// Puts rows as one pack a bucket; answers the first reply that is no success, or the last.
    pub(crate) async fn put(&self, id: &str, rows: &[Row]) -> Reply {
        let mut last = None;
        for (bucket, (pack, count)) in packs(rows) {
            let reply = self.put_pack(id, bucket, count, pack).await;
            if reply.status != 200 {
                return reply;
            }
            last = Some(reply);
        }
        last.expect("there are rows")
    }

    pub(crate) async fn put_pack(&self, id: &str, bucket: u32, count: u32, pack: Vec<u8>) -> Reply {
        let path =
            format!("{UPSERTS}?upsertid={id}&bucketid={bucket}&slotid=0&record_count={count}");
        self.call("PUT", &path, pack).await
    }

    pub(crate) async fn commit(&self, id: &str) -> Reply {
        self.call("POST", &format!("{UPSERTS}?upsertid={id}"), Vec::new()).await
    }

    pub(crate) async fn abort(&self, id: &str) -> Reply {
        self.call("DELETE", &format!("{UPSERTS}?upsertid={id}"), Vec::new()).await
    }

    pub(crate) async fn reload(&self, id: &str) -> Reply {
        self.call("GET", &format!("{UPSERTS}?upsertid={id}"), Vec::new()).await
    }

    /// Writes and commits rows.
    pub(crate) async fn write(&self, day: &str, rows: &[Row]) {
        let id = self.session(day).await;
        let put = self.put(&id, rows).await;
        assert_eq!(put.status, 200, "{put:?}");
        assert_eq!(self.commit(&id).await.session_status(), "committed");
    }

    /// All rows of `t`: day, id, value.
    pub(crate) async fn rows(&self) -> Vec<(String, i64, String)> {
        let batches = self.service.query("SELECT day, id, v FROM t ORDER BY day, id").await;
        batches.expect("a valid query").iter().flat_map(rows_of).collect()
    }
}

fn rows_of(batch: &RecordBatch) -> Vec<(String, i64, String)> {
    let text = |at: usize| batch.column(at).as_any().downcast_ref::<StringArray>().unwrap();
    let ids = batch.column(1).as_any().downcast_ref::<Int64Array>().unwrap();
    (0..batch.num_rows())
        .map(|row| (text(0).value(row).to_owned(), ids.value(row), text(2).value(row).to_owned()))
        .collect()
}

/// A row as `Site::rows` answers it.
pub(crate) fn row(day: &str, id: i64, value: &str) -> (String, i64, String) {
    (day.to_owned(), id, value.to_owned())
}

/// The bucket of a key of `t`.
pub(crate) fn bucket(id: i64) -> u32 {
    let value = Value::Int(id);
    let hash = hash_values(Hasher::Default, &[(&ColumnType::BigInt, Some(&value))]).unwrap();
    bucket_of(hash, BUCKETS).0
}

/// Rows of `t` as packs, with their number of records.
pub(crate) fn packs(rows: &[Row]) -> BTreeMap<u32, (Vec<u8>, u32)> {
    let mut by_bucket: BTreeMap<u32, Vec<Row>> = BTreeMap::new();
    for row in rows {
        by_bucket.entry(bucket(row.0)).or_default().push(*row);
    }
    by_bucket.into_iter().map(|(bucket, rows)| (bucket, (pack(&rows), rows.len() as u32))).collect()
}

/// Rows of `t` as one pack, whatever their buckets.
pub(crate) fn pack(rows: &[Row]) -> Vec<u8> {
    let values = rows.iter().map(|(id, value)| {
        let text = value.map(|v| Value::Bytes(v.as_bytes().to_vec()));
        let op = if value.is_some() { Op::Upsert } else { Op::Delete };
        (vec![Some(Value::Int(*id)), text], op)
    });
    pack_of(&[ColumnType::BigInt, ColumnType::String], values)
}

/// Records of any columns as one pack.
pub(crate) fn pack_of(
    columns: &[ColumnType],
    records: impl IntoIterator<Item = (Vec<Option<Value>>, Op)>,
) -> Vec<u8> {
    let (mut body, mut crcs) = (Vec::new(), Vec::new());
    for (values, op) in records {
        crcs.push(encode_values(columns, &values, op, &mut body));
    }
    pack_trailer(crcs.iter().copied(), crcs.len() as u32, &mut body);
    body
}

pub(crate) const INSTANCES: &str = "/api/projects/local/instances";
pub(crate) const UPSERTS: &str = "/projects/local/tables/t/upserts";
