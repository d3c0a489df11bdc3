//! The catalog: what the target table looks like, and SQL on it.
//!
//! Used by `sink.rs` when a sink is opened, and by engines that create their tables. Invariant:
//! reads and DDL only; no row goes this way.

use std::sync::Arc;

use http::Method;
use upsert_sink_format::tunnel::Refusal;
use upsert_sink_format::tunnel::RefusalKind;
use upsert_sink_format::tunnel::TableDescription;

use crate::components::BoxFuture;
use crate::components::Components;
use crate::error::Error;
use crate::error::ErrorKind;
use crate::error::Result;
use crate::metrics::Meter;
use crate::settings::Settings;
use crate::tunnel::endpoint::Endpoint;
use crate::tunnel::endpoint::Request;
use crate::tunnel::response::Verdict;
use crate::tunnel::response::judge;
use crate::tunnel::sql;
use crate::tunnel::table;

/// A connection to the catalog of a project.
pub struct Catalog {
    endpoint: Arc<Endpoint>,
}

impl Catalog {
    /// Prepares requests to the settings' endpoint; the first one connects.
    ///
    /// # Errors
    /// `InvalidConfig` if a setting is wrong.
    pub fn connect<'a>(
        settings: &'a Settings,
        components: &'a Components,
    ) -> BoxFuture<'a, Result<Self>> {
        Box::pin(async move {
            settings.check()?;
            let endpoint = Endpoint::new(settings, components, Arc::new(Meter::default()));
            Ok(Self::of(Arc::new(endpoint)))
        })
    }

    pub(crate) fn of(endpoint: Arc<Endpoint>) -> Self {
        Self { endpoint }
    }

    /// Runs one statement to its end.
    ///
    /// # Errors
    /// `InvalidConfig` with the service's message if it fails; `Retry` if its outcome is not known.
    pub fn execute<'a>(&'a self, sql: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { settled("sql", sql::run(&self.endpoint, sql).await).map(drop) })
    }

    /// Runs one query to its end, and reads the few rows that it finds, as text; a null is none.
    ///
    /// # Errors
    /// As of [`Catalog::execute`].
    pub fn rows<'a>(&'a self, sql: &'a str) -> BoxFuture<'a, Result<Vec<Vec<Option<String>>>>> {
        Box::pin(async move {
            match sql::rows(&self.endpoint, sql).await {
                Ok(rows) => Ok(rows),
                Err(verdict) => settled("sql", verdict).map(|_| Vec::new()),
            }
        })
    }

    /// The target table.
    ///
    /// # Errors
    /// `InvalidConfig` if there is no such table or it takes no upserts; `Denied`, `Retry`.
    pub fn table<'a>(&'a self) -> BoxFuture<'a, Result<TableDescription>> {
        Box::pin(async move {
            let name = self.endpoint.settings.table_name();
            let request =
                Request::new(Method::GET, self.endpoint.table_path("")).query("extended", "");
            let body = settled(&name, judge(self.endpoint.ask_catalog(request).await))?;
            table::parse(&body, &name)
        })
    }

    /// The requests sent so far.
    pub fn http_requests(&self) -> u64 {
        self.endpoint.meter.read().http_requests
    }
}

fn settled(at: &str, verdict: Verdict) -> Result<bytes::Bytes> {
    match verdict {
        Verdict::Done(body) => Ok(body),
        Verdict::Refused(refusal) => Err(refused(at, refusal)),
        Verdict::InDoubt(why) => {
            let message = format!("the service gave no clear answer: {why}; try again");
            Err(Error::new(ErrorKind::Retry, at, message))
        }
    }
}

fn refused(at: &str, refusal: Refusal) -> Error {
    let (kind, remedy) = match refusal.kind {
        RefusalKind::NotSent => (ErrorKind::Retry, "is the endpoint right, and the service up?"),
        RefusalKind::SlowDown => (ErrorKind::SlowDown, "try again later"),
        RefusalKind::Transient => (ErrorKind::Retry, "try again"),
        RefusalKind::Denied => (ErrorKind::Denied, "check `accessId` and its permissions"),
        RefusalKind::Full
        | RefusalKind::Invalid
        | RefusalKind::Moved
        | RefusalKind::NoSuchPartition
        | RefusalKind::NoSuchSession => (ErrorKind::InvalidConfig, "correct it"),
    };
    let code = if refusal.code.is_empty() { String::new() } else { format!("{}: ", refusal.code) };
    Error::new(kind, at, format!("{code}{}; {remedy}", refusal.message))
}
