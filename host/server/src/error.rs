//! Errors: those before a server can answer (`Error`), and those that it answers (`Refusal`).
//!
//! Every route ends here when it does not succeed; `answer.rs` renders a refusal as JSON on the
//! Tunnel's plane and as XML on the other. Invariant: a refusal's code is one of the vendor's, and
//! its message names the thing, the rule and the remedy.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use http::StatusCode;
use serde::Serialize;

use crate::table::read_error::ReadError;

/// Why a server does not start, or a directory cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another server has the directory.
    #[error(
        "data directory {path}: another server is using it; stop that one, or give this one \
         another directory"
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The directory cannot be opened.
    #[error("data directory {path}: {source}; it must be a directory that this user may write to")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The error of the file system.
        source: io::Error,
    },
    /// There is nothing to read.
    #[error(
        "data directory {path}: there are no tables here; name the directory that a server was \
         started with"
    )]
    NoTables {
        /// The directory.
        path: PathBuf,
    },
    /// The address cannot be listened on.
    #[error("address {address}: {source}; choose another one, or port 0 for any free port")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The error of the network.
        source: io::Error,
    },
    /// Anybody could ask.
    #[error(
        "address {address}: other machines reach it, and every key would be accepted; listen on \
         127.0.0.1, or demand signatures with `--auth strict`"
    )]
    OpenToOthers {
        /// The address.
        address: SocketAddr,
    },
    /// The keys cannot be read.
    #[error(
        "keys: {0}; they must be a JSON list of objects with `AccessKeyId`, `AccessKeySecret` and, \
         for temporary keys, `SecurityToken` and `Expiration`"
    )]
    Keys(String),
    /// A file is not what its checksum says.
    #[error("{file}: {message}; acknowledged rows may be lost: restore the directory from a copy")]
    Damaged {
        /// The file, within the data directory.
        file: String,
        /// The damage.
        message: String,
    },
    /// The directory was written by a newer version.
    #[error(
        "{file}: format {found} is newer than {known}, which this version reads; use the newer \
         version"
    )]
    TooNew {
        /// The file, within the data directory.
        file: String,
        /// Its format.
        found: u32,
        /// The newest that is known.
        known: u32,
    },
    /// Reading or writing failed.
    #[error("{file}: {message}")]
    Disk {
        /// The file, within the data directory.
        file: String,
        /// The failure.
        message: String,
    },
    /// A query is wrong, or is no query.
    #[error("query: {0}")]
    Query(String),
    /// Queries are not part of this program.
    #[error("this build has no SELECT; build it with `cargo build --release --features query`")]
    NoSelect,
    /// There is no such table.
    #[error("there is no table {table}; create it with CREATE TABLE")]
    NoTable {
        /// The name that was asked for.
        table: String,
    },
    /// A table has no such column.
    #[error("table {table} has no column {column}; it has {known}")]
    NoColumn {
        /// The table.
        table: String,
        /// The name that was asked for.
        column: String,
        /// The columns that there are.
        known: String,
    },
    /// Rows cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Rules of faults are wrong.
    #[error("fault rules: {0}")]
    Faults(String),
}

impl Error {
    /// A failed operation on a file.
    pub(crate) fn disk(file: impl Into<String>, source: impl ToString) -> Self {
        Self::Disk { file: file.into(), message: source.to_string() }
    }

    /// A directory that could not be opened.
    pub(crate) fn opening(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::WouldBlock => Self::InUse { path },
            _ => Self::Directory { path, source },
        }
    }

    pub(crate) fn damaged(file: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Damaged { file: file.into(), message: message.into() }
    }
}

/// A request that is answered with an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

/// Which clients ask, and so how an error is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plane {
    /// Errors in XML.
    Odps,
    /// Errors in JSON.
    Tunnel,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidArgument", message)
    }

    pub(crate) fn invalid_partition(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidPartitionSpec", message)
    }

    pub(crate) fn invalid_columns(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidColumnSpec", message)
    }

    pub(crate) fn invalid_range(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidRowRange", message)
    }

    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "MalformedXML", message)
    }

    pub(crate) fn corrupted(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "CorruptedDataStream", message)
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "StatusConflict", message)
    }

    /// The request is not signed as requests are.
    pub(crate) fn unsigned(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "Unauthorized", message)
    }

    /// The request is signed by nobody who may ask.
    pub(crate) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", message)
    }

    /// The request is signed for another time. The code is spelled as the vendor spells it.
    pub(crate) fn skewed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "RequestTimeTooSkewd", message)
    }

    /// A state that a thing cannot be brought into.
    pub(crate) fn state(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "InvalidStateSetting", message)
    }

    /// A job that cannot give what is asked of it.
    pub(crate) fn instance(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(crate) fn too_many(message: impl Into<String>) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "QPSExceeded", message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", message)
    }

    pub(crate) fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message)
    }

    /// A body with more bytes than this.
    pub(crate) fn body_too_large(max: usize) -> Self {
        Self::too_large(format!("a body may have {max} bytes; send less at once"))
    }

    pub(crate) fn too_slow(message: impl Into<String>) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "RequestTimeout", message)
    }

    pub(crate) fn denied(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "NoPermission", message)
    }

    pub(crate) fn no_such(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    pub(crate) fn method(message: impl Into<String>) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
    }

    /// The body of the answer, and its content type.
    pub(crate) fn render(&self, plane: Plane, request_id: &str) -> (String, &'static str) {
        error_body(self.code, &self.message, plane, request_id)
    }
}

/// The body of an error, as clients of each plane read it, and its content type.
pub(crate) fn error_body(
    code: &str,
    message: &str,
    plane: Plane,
    request_id: &str,
) -> (String, &'static str) {
    match plane {
        Plane::Tunnel => {
            #[derive(Serialize)]
            #[serde(rename_all = "PascalCase")]
            struct ErrorBody<'a> {
                code: &'a str,
                message: &'a str,
                request_id: &'a str,
            }
            let body = ErrorBody { code, message, request_id };
            let text = serde_json::to_string(&body).expect("strings are always JSON");
            (text, "application/json")
        }
        Plane::Odps => {
            let text = format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code>\
                 <Message>{}</Message><RequestId>{request_id}</RequestId>\
                 <HostId>localhost</HostId></Error>",
                upsert_sink_tunnel::xml::escaped(&printable(message)),
            );
            (text, "application/xml")
        }
    }
}

/// Text without control characters, which a client may have sent and a terminal would obey.
fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\t' => printable.push(character),
            _ if character.is_control() => printable.extend(character.escape_default()),
            _ => printable.push(character),
        }
    }
    printable
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::Query(message) => Self::invalid(message),
            Error::Read(error) => Self::invalid(error.to_string()),
            error => Self::internal(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_sent_cannot_break_the_xml_of_its_refusal() {
        let refusal = Refusal::invalid("/a\u{0}\u{1b}<b>\n&");
        let (body, _) = refusal.render(Plane::Odps, "r1");
        assert!(body.contains("<Message>/a\\u{0}\\u{1b}&lt;b&gt;\n&amp;</Message>"), "{body}");
    }
}
