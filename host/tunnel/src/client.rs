//! The client of one project: its catalog and its tables.
//!
//! The entry of this crate. Invariant: all that one client hands out shares its connections, its
//! credentials, what it has learned of the service's clock, and its counters.

use std::sync::Arc;

use http::{HeaderMap, Method};

use crate::catalog::Catalog;
use crate::components::Components;
use crate::endpoint::{Endpoint, Request};
use crate::error::Result;
use crate::metrics::ClientMetrics;
use crate::name::Name;
use crate::response::judge;
use crate::settings::ClientSettings;
use crate::table::Table;

/// A client of one project. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    endpoint: Arc<Endpoint>,
}

/// The service's answer to the simplest question: see [`Client::project`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProjectAnswer {
    /// The headers of the answer; empty if there is none.
    pub headers: HeaderMap,
    /// Whether the service knows the project and takes the credentials.
    pub known: Result<()>,
}

impl Client {
    /// Prepares requests to the settings' endpoint; the first one connects.
    pub fn new(settings: impl Into<ClientSettings>, components: &Components) -> Self {
        Self { endpoint: Arc::new(Endpoint::new(settings.into(), components)) }
    }

    /// The catalog of the project.
    pub fn catalog(&self) -> Catalog {
        Catalog::of(Arc::clone(&self.endpoint))
    }

    /// A table of the project; whether it is there is found out by the first request.
    pub fn table(&self, name: &Name) -> Table {
        Table::new(Arc::clone(&self.endpoint), name.clone())
    }

    /// Asks for the project: the least that the service can be asked, with a signature.
    pub async fn project(&self) -> ProjectAnswer {
        let request = Request::new(Method::GET, self.endpoint.project_path(""));
        let answer = self.endpoint.ask_catalog(request).await;
        let headers = answer.as_ref().map(|answer| answer.headers().clone()).unwrap_or_default();
        let name = self.endpoint.settings.project.as_str();
        let known = judge(answer).map(drop).map_err(|error| error.at(name));
        ProjectAnswer { headers, known }
    }

    /// The counters of everything that this client has handed out.
    pub fn metrics(&self) -> ClientMetrics {
        self.endpoint.meter.read()
    }
}
