//! The features that this server has, and the assumptions of the sink about the service that it
//! upholds.
//!
//! Asked by `doctor` and by tests. Invariant: each value is what the server's own tests show.

use serde_json::json;

use crate::answer::Answer;
use crate::request::FAULTS_PATH;
use crate::settings::ServerSettings;
use crate::{fault, query};

/// Answers `GET /capabilities`.
pub(crate) fn describe(settings: &ServerSettings) -> Answer {
    let held = |text: &str, value: bool| json!({ "assumption": text, "value": value });
    let assumption = |text: &str| held(text, true);
    let select = query::check().is_ok().then_some("SELECT");
    let statements: Vec<&str> = CHANGES.into_iter().chain(select).collect();
    let body = json!({
        "server": "upsert-sink-server",
        "version": env!("CARGO_PKG_VERSION"),
        "supported": {
            "upsert": ["create", "reload", "put", "commit", "abort"],
            "content_encoding": ["none", "deflate", "x-snappy-framed", "x-lz4-frame", "zstd"],
            "hasher": ["default"],
            "statements": statements,
            "tasks": ["SQL", "Merge"],
            "instances": ["create", "status", "result", "source", "stop"],
            "download": ["table", "instance"],
            "download_format": ["records"],
            "result_text_rows_max": 10_000,
            "clients": ["PyODPS 0.13.2", "odps-sdk-core 0.57.1-public", "odps-jdbc 3.4.2"],
            "partial_update": true,
            "compaction": true,
            "time_travel": false,
            "interactive_sessions": false,
            "storage_api": false,
        },
        // For tests of clients: what goes wrong by rule, and the quotas that `serve` can set.
        "faults": {
            "route": format!("/{FAULTS_PATH}"),
            "methods": ["GET", "POST", "DELETE"],
            "from": "loopback",
            "kinds": fault::FAULTS,
        },
        "quotas": ["slots", "bucket_bytes_per_second"],
        "assumptions": {
            "a": held(
                "two open sessions of one partition are ordered by commit",
                !settings.one_session,
            ),
            "b": assumption("committed and aborted sessions reject late packs"),
            "c": assumption("a commit is atomic over buckets"),
            "d": assumption("an open session younger than its lifecycle is never dropped"),
            "e": assumption("no intermediary repeats a PUT on its own"),
        },
    });
    Answer::json(body.to_string())
}

/// The statements that every build carries out.
const CHANGES: [&str; 6] = [
    "CREATE TABLE",
    "ALTER TABLE ADD PARTITION",
    "ALTER TABLE ADD COLUMNS",
    "ALTER TABLE COMPACT MAJOR",
    "TRUNCATE TABLE",
    "DROP TABLE",
];
