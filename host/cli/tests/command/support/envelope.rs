//! Changes of people as Debezium writes them, a line each.
//!
//! Under the tests of `run` and `verify`. Invariant: each has the columns of [`JSON`], and the jobs
//! that read them have keys that are unique in the whole table.

use super::{JSON, TABLE};

/// A person before or after a change.
pub(crate) fn image(id: u64, name: &str, day: &str) -> String {
    format!("{{\"id\":{id},\"name\":\"{name}\",\"paid\":null,\"day\":\"{day}\"}}")
}

/// The person is new.
pub(crate) fn create(after: &str) -> String {
    format!("{{\"op\":\"c\",\"before\":null,\"after\":{after}}}\n")
}

/// The person has changed.
pub(crate) fn update(before: &str, after: &str) -> String {
    format!("{{\"op\":\"u\",\"before\":{before},\"after\":{after}}}\n")
}

/// The person is gone.
pub(crate) fn delete(before: &str) -> String {
    format!("{{\"op\":\"d\",\"before\":{before},\"after\":null}}\n")
}

/// The text of a job that reads these lines from a file.
pub(crate) fn job(path: &str) -> String {
    let source = JSON.replace("\"json\"", "\"debezium\"").replace("${ROWS}", path);
    let source = source.replace("op-column = \"op\"\n", "before-images = true\n");
    format!("{source}{TABLE}\"sink.key.scope\" = \"table\"\n")
}
