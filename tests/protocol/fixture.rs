//! The recordings: requests as they were sent, and the session that was answered first.
//!
//! Reads `tests/fixtures`, made by the vendor's clients. Invariant: nothing of a request is
//! changed but the id of its session, which is the server's to give.

use std::fs;
use std::path::PathBuf;

use serde_json::Value as Json;
use upsert_sink_format::record::{DecodedRecord, decode_pack};
use upsert_sink_format::schema::ColumnType;

/// One recorded request and what the recording's server answered.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// `label/NNN_METHOD.json`.
    pub(crate) name: String,
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) status: u16,
    pub(crate) answer: String,
}

/// The table of a label, as its session describes it.
#[derive(Clone, Debug)]
pub(crate) struct Described {
    pub(crate) table: String,
    pub(crate) session: Json,
}

/// Reads a JSON file of the folder of fixtures.
pub(crate) fn read(path: &str) -> Json {
    let text = fs::read_to_string(folder().join(path)).expect("it is in the tree");
    serde_json::from_str(&text).expect("it is JSON")
}

/// All recorded labels.
pub(crate) fn labels() -> Vec<String> {
    let entries = fs::read_dir(folder().join("exchanges")).expect("a folder");
    let mut labels: Vec<String> = entries
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect();
    labels.sort();
    assert!(labels.len() >= 39, "only {} labels", labels.len());
    labels
}

/// A label's requests, in their order.
pub(crate) fn exchanges(label: &str) -> Vec<Exchange> {
    let entries = fs::read_dir(folder().join("exchanges").join(label)).expect("a folder");
    let mut files: Vec<String> = entries
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect();
    files.sort();
    files.iter().map(|file| exchange(&format!("{label}/{file}"))).collect()
}

fn exchange(name: &str) -> Exchange {
    let json = read(&format!("exchanges/{name}"));
    let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
    let headers = json["headers"].as_object().expect("headers");
    Exchange {
        name: name.to_owned(),
        method: text(&json["method"]),
        target: text(&json["target"]),
        headers: headers.iter().map(|(name, value)| (name.to_lowercase(), text(value))).collect(),
        body: bytes(&text(&json["body_hex"])),
        status: json["response"]["status"].as_u64().unwrap_or_default() as u16,
        answer: text(&json["response"]["body"]),
    }
}

impl Exchange {
    /// Whether it is a call of `…/upserts`.
    pub(crate) fn is_upsert(&self) -> bool {
        self.path().ends_with("/upserts")
    }

    /// Whether it creates a session.
    pub(crate) fn creates(&self) -> bool {
        self.is_upsert() && self.method == "POST" && self.parameter("upsertid").is_none()
    }

    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The table that it names.
    pub(crate) fn table(&self) -> Option<&str> {
        let mut parts = self.path().split('/').skip_while(|part| *part != "tables");
        parts.nth(1)
    }

    /// The parameters as they are written, sorted.
    pub(crate) fn parameters(&self) -> Vec<(String, String)> {
        parameters(self.target.split_once('?').map_or("", |(_, query)| query))
    }

    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        self.parameters().into_iter().find(|(n, _)| n == name).map(|(_, value)| value)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// The parameters of a query, sorted.
pub(crate) fn parameters(query: &str) -> Vec<(String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let mut pairs: Vec<_> = pairs.map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
    pairs.sort();
    pairs
}

/// The tables that a label writes to.
pub(crate) fn described(exchanges: &[Exchange]) -> Vec<Described> {
    let created = exchanges.iter().filter(|exchange| exchange.creates());
    created
        .map(|exchange| Described {
            table: exchange.table().expect("a table").to_owned(),
            session: serde_json::from_str(&exchange.answer).expect("a session"),
        })
        .collect()
}

impl Described {
    /// Name, type and whether it may be null, of each column.
    pub(crate) fn columns(&self) -> Vec<(String, String, bool)> {
        columns(&self.session["schema"]["columns"])
    }

    pub(crate) fn partition_columns(&self) -> Vec<(String, String, bool)> {
        columns(&self.session["schema"]["partitionKeys"])
    }

    pub(crate) fn types(&self) -> Vec<ColumnType> {
        let columns = self.columns();
        columns.iter().map(|(_, text, _)| ColumnType::parse(text).expect(text)).collect()
    }

    pub(crate) fn key(&self) -> Vec<String> {
        let names = self.session["hash_key"].as_array().expect("names");
        names.iter().map(|name| name.as_str().expect("a name").to_owned()).collect()
    }

    pub(crate) fn hasher(&self) -> &str {
        self.session["hasher"].as_str().expect("a name")
    }

    /// Where the columns of the key are.
    pub(crate) fn key_places(&self) -> Vec<usize> {
        let (columns, key) = (self.columns(), self.key());
        let place = |name: &String| columns.iter().position(|column| column.0 == *name);
        key.iter().map(|name| place(name).expect("a column")).collect()
    }

    /// The records of a plain body.
    pub(crate) fn decode(&self, body: &[u8]) -> Vec<DecodedRecord> {
        let mut records = Vec::new();
        let decoded = decode_pack(body, &self.types(), &mut |record| {
            records.push(record);
            Ok(())
        });
        decoded.expect("a whole pack");
        records
    }

    /// The statement that creates the table.
    pub(crate) fn ddl(&self) -> String {
        let column = |(name, text, nullable): &(String, String, bool)| {
            format!("`{name}` {text}{}", if *nullable { "" } else { " NOT NULL" })
        };
        let columns: Vec<String> = self.columns().iter().map(column).collect();
        let partitions: Vec<String> = self
            .partition_columns()
            .iter()
            .map(|(name, text, _)| format!("`{name}` {text}"))
            .collect();
        let partitioned = match partitions.is_empty() {
            true => String::new(),
            false => format!(" PARTITIONED BY ({})", partitions.join(", ")),
        };
        let partial = match self.session["enable_partial_update"].as_bool() {
            Some(true) => ", 'acid.partial.fields.update.enable'='true'",
            _ => "",
        };
        format!(
            "CREATE TABLE IF NOT EXISTS {} ({}, PRIMARY KEY ({})){partitioned} \
             TBLPROPERTIES ('transactional'='true', 'write.bucket.num'='4'{partial})",
            self.table,
            columns.join(", "),
            self.key().join(", ")
        )
    }
}

fn columns(columns: &Json) -> Vec<(String, String, bool)> {
    let text = |value: &Json| value.as_str().expect("a text").to_owned();
    let columns = columns.as_array().expect("columns").iter();
    columns.map(|c| (text(&c["name"]), text(&c["type"]), text(&c["nullable"]) == "true")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
    (0..hex.len()).step_by(2).map(byte).collect()
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}
