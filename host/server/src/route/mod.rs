//! The table of routes: a method and a path, and the function that answers there.
//!
//! Between `admission.rs` and the files in here, one for each kind of resource, which parse, call
//! and render. Invariant: a path below a project is looked up only if there are that project and
//! its schema; a route gets of the server what it uses, and holds no state of its own.

pub(crate) mod capabilities;
pub(crate) mod download;
pub(crate) mod fault;
pub(crate) mod instance;
pub(crate) mod project;
pub(crate) mod side;
pub(crate) mod table;
pub(crate) mod upsert;

use std::future::ready;
use std::sync::Arc;

use futures::future::BoxFuture;
use http::Method;

use self::download::Downloads;
use self::instance::Instances;
use self::upsert::Upserts;
use crate::answer::Answer;
use crate::components::Clock;
use crate::error::Refusal;
use crate::fault::Faults;
use crate::request::Request;
use crate::sessions::Sessions;
use crate::settings::ServerSettings;
use crate::stats::{Counters, Stats};
use crate::tables::Tables;

/// The things that routes work on; a route gets those that it names.
pub(crate) struct Resources {
    pub(crate) settings: ServerSettings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) tables: Arc<Tables>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) upserts: Upserts,
    pub(crate) instances: Instances,
    pub(crate) downloads: Downloads,
    pub(crate) faults: Arc<Faults>,
}

impl Resources {
    /// The counts since the start.
    pub(crate) fn stats(&self) -> Stats {
        self.counters.stats(self.sessions.open_count(), self.tables.catalog().version)
    }
}

/// All routes. A download's request is looked up before the others of its path.
static ROUTES: [HttpRoute; 22] = [
    on(Method::GET, RoutePlace::Uncounted, "stats", |server, _, _| at_once(stats(server))),
    any(RoutePlace::Uncounted, "__faults/{…}", |server, request, rest| {
        at_once(fault::respond(&server.faults, request, &rest))
    }),
    on(Method::GET, RoutePlace::Server, "healthz", |_, _, _| at_once(Ok(Answer::text("ok")))),
    on(Method::GET, RoutePlace::Server, "readyz", |_, _, _| at_once(Ok(Answer::text("ok")))),
    on(Method::GET, RoutePlace::Server, "capabilities", |server, _, _| {
        at_once(Ok(capabilities::describe(&server.settings)))
    }),
    on(Method::GET, RoutePlace::Server, "tenants", |server, _, _| {
        at_once(Ok(side::tenant(&server.settings.project)))
    }),
    on(Method::GET, RoutePlace::Server, "logview/host", |server, request, _| {
        at_once(Ok(side::web_host(server.settings.listen, request)))
    }),
    on(Method::GET, RoutePlace::Server, "webconsole/host", |server, request, _| {
        at_once(Ok(side::web_host(server.settings.listen, request)))
    }),
    on(Method::GET, RoutePlace::Server, "projects", |server, _, _| {
        at_once(Ok(project::list(&server.settings.project)))
    }),
    on(Method::GET, RoutePlace::Project, "", |server, _, _| {
        at_once(Ok(project::describe(&server.settings.project, server.clock.now())))
    }),
    on(Method::GET, RoutePlace::Project, "tunnel", |server, request, _| {
        at_once(Ok(project::tunnel(server.settings.listen, request)))
    }),
    on(Method::POST, RoutePlace::Project, "authorization", |_, request, _| {
        at_once(side::authorize(request))
    }),
    on(Method::PUT, RoutePlace::Project, "logs", |_, _, _| at_once(Ok(Answer::text("")))),
    on(Method::POST, RoutePlace::Project, "instances", |server, request, _| {
        Box::pin(server.instances.create(request))
    }),
    on(Method::GET, RoutePlace::Project, "instances", |server, _, _| {
        at_once(Ok(server.instances.list()))
    }),
    download(RoutePlace::Project, "instances/{id}", |server, request, names| {
        Box::pin(server.downloads.of_instance(request, names[0]))
    }),
    on(Method::GET, RoutePlace::Project, "instances/{id}", |server, request, names| {
        Box::pin(server.instances.show(request, names[0]))
    }),
    on(Method::PUT, RoutePlace::Project, "instances/{id}", |server, request, names| {
        at_once(server.instances.stop(request, names[0]))
    }),
    on(Method::GET, RoutePlace::Schema, "tables", |server, request, _| {
        at_once(table::list(&server.tables, request))
    }),
    download(RoutePlace::Schema, "tables/{table}", |server, request, names| {
        Box::pin(server.downloads.of_table(request, names[0]))
    }),
    on(Method::GET, RoutePlace::Schema, "tables/{table}", |server, request, names| {
        at_once(table::show(&server.tables, request, names[0]))
    }),
    any(RoutePlace::Schema, "tables/{table}/upserts", |server, request, names| {
        Box::pin(server.upserts.respond(request, names[0]))
    }),
];

/// One route.
struct HttpRoute {
    /// None for a route that looks at the method itself.
    method: Option<Method>,
    place: RoutePlace,
    /// Below the place; `{…}` at the end stands for any number of parts, `{name}` for one.
    path: &'static str,
    /// Whether only requests of a download are meant.
    is_download: bool,
    respond: Respond,
}

/// Answers a request, whose path has these names in the places of a route's.
type Respond =
    for<'a> fn(&'a Resources, &'a Request, Vec<&'a str>) -> BoxFuture<'a, Result<Answer, Refusal>>;

/// The path that a route's own path stands below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RoutePlace {
    /// `/`, for whoever tests a server: neither counted nor bounded like a client's requests.
    Uncounted,
    /// `/`
    Server,
    /// `/projects/{project}`
    Project,
    /// `/projects/{project}` or `/projects/{project}/schemas/{schema}`
    Schema,
}

const fn on(method: Method, place: RoutePlace, path: &'static str, respond: Respond) -> HttpRoute {
    HttpRoute { method: Some(method), place, path, is_download: false, respond }
}

const fn any(place: RoutePlace, path: &'static str, respond: Respond) -> HttpRoute {
    HttpRoute { method: None, place, path, is_download: false, respond }
}

const fn download(place: RoutePlace, path: &'static str, respond: Respond) -> HttpRoute {
    HttpRoute { method: None, place, path, is_download: true, respond }
}

fn at_once<'a>(answer: Result<Answer, Refusal>) -> BoxFuture<'a, Result<Answer, Refusal>> {
    Box::pin(ready(answer))
}

/// The route of a request.
pub(crate) struct Found<'r> {
    route: &'static HttpRoute,
    names: Vec<&'r str>,
}

/// Looks a request up.
///
/// Errors: `RequestEntityTooLarge`, `NoSuchProject`, `NoSuchSchema`, `NoSuchResource`.
pub(crate) fn find<'r>(server: &Resources, request: &'r Request) -> Result<Found<'r>, Refusal> {
    let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
    if let Some(found) = look_up(&[RoutePlace::Uncounted], request, &path) {
        return Ok(found);
    }
    if request.body.len() > server.settings.body_bytes_max {
        return Err(Refusal::body_too_large(server.settings.body_bytes_max));
    }
    let ["projects", name, below @ ..] = &path[..] else {
        return look_up(&[RoutePlace::Server], request, &path)
            .ok_or_else(|| unknown(request, &path));
    };
    let project = &server.tables.project;
    project.check(name)?;
    if let Some(schema) = request.parameter("curr_schema") {
        project.check_schema(schema)?;
    }
    let (places, path): (&[RoutePlace], _) = match below {
        ["schemas", schema, below @ ..] => {
            project.check_schema(schema)?;
            (&[RoutePlace::Schema], below)
        }
        below => (&[RoutePlace::Project, RoutePlace::Schema], below),
    };
    look_up(places, request, path).ok_or_else(|| unknown(request, path))
}

fn look_up<'r>(places: &[RoutePlace], request: &Request, path: &[&'r str]) -> Option<Found<'r>> {
    ROUTES.iter().filter(|route| places.contains(&route.place)).find_map(|route| {
        let fits = route.method.as_ref().is_none_or(|method| *method == request.method)
            && (!route.is_download || request.is_download());
        let names = if fits { route.names(path)? } else { return None };
        Some(Found { route, names })
    })
}

fn unknown(request: &Request, path: &[&str]) -> Refusal {
    let message = format!(
        "{} /{} is not supported by this server; /capabilities says what is",
        request.method,
        path.join("/")
    );
    Refusal::no_such("NoSuchResource", message)
}

impl HttpRoute {
    /// The parts of a path that stand in the places of the route's names, if the path is its own.
    fn names<'r>(&self, path: &[&'r str]) -> Option<Vec<&'r str>> {
        let mut names = Vec::new();
        let mut path = path.iter().copied();
        for part in self.path.split('/').filter(|part| !part.is_empty()) {
            if part == REST {
                names.extend(path.by_ref());
                continue;
            }
            let found = path.next()?;
            match part.starts_with('{') {
                true => names.push(found),
                false if part == found => {}
                false => return None,
            }
        }
        path.next().is_none().then_some(names)
    }
}

impl<'r> Found<'r> {
    /// Whether the request counts as a client's.
    pub(crate) fn is_counted(&self) -> bool {
        self.route.place != RoutePlace::Uncounted
    }

    pub(crate) async fn answer(
        self,
        server: &'r Resources,
        request: &'r Request,
    ) -> Result<Answer, Refusal> {
        (self.route.respond)(server, request, self.names).await
    }
}

fn stats(server: &Resources) -> Result<Answer, Refusal> {
    let stats = serde_json::to_string(&server.stats());
    Ok(Answer::json(stats.expect("numbers are always JSON")))
}

const REST: &str = "{…}";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::FAULTS_PATH;

    #[test]
    fn a_path_is_compared_part_by_part() {
        let route = any(RoutePlace::Schema, "tables/{table}/upserts", |_, _, _| {
            at_once(Ok(Answer::text("")))
        });
        assert_eq!(route.names(&["tables", "t", "upserts"]), Some(vec!["t"]));
        assert_eq!(route.names(&["tables", "t"]), None);
        assert_eq!(route.names(&["tables", "t", "upserts", "more"]), None);
        assert_eq!(route.names(&["table", "t", "upserts"]), None);
        let rest = any(RoutePlace::Uncounted, "a/{…}", |_, _, _| at_once(Ok(Answer::text(""))));
        assert_eq!(rest.names(&["a"]), Some(vec![]));
        assert_eq!(rest.names(&["a", "b", "c"]), Some(vec!["b", "c"]));
    }

    #[test]
    fn the_routes_of_faults_are_where_rules_never_apply() {
        let faults = ROUTES.iter().filter(|route| route.path.starts_with(FAULTS_PATH));
        assert_eq!(faults.count(), 1);
    }
}
