//! SQL jobs on the wire, which the vendor calls instances: post a script, then ask what became of
//! it.
//!
//! Between `service.rs`, which finds the route, and `sql/job.rs`. Invariant: statements that change
//! the catalog have been carried out, durably, or have failed before their job is answered; a
//! query may still run then.

mod posted;
mod shown;

use std::sync::Arc;
use std::time::Duration;

use futures::future::select;
use http::StatusCode;

use crate::error::Refusal;
use crate::request::Request;
use crate::service::Answer;
use crate::service::Inner;
use crate::sql::change;
use crate::sql::failure::SqlFailure;
use crate::sql::job::Asked;
use crate::sql::job::How;
use crate::sql::job::Job;
use crate::sql::job::QueryNeeds;
use crate::sql::script;
use crate::sql::script::Script;

pub(crate) use shown::list;
pub(crate) use shown::show;

/// Answers `POST …/instances`: carries the statements out or begins the query, and says where to
/// ask for the outcome.
pub(crate) async fn create(server: &Inner, request: &Request) -> Result<Answer, Refusal> {
    let body = std::str::from_utf8(&request.body)
        .map_err(|_| Refusal::malformed("the job's XML is no UTF-8"))?;
    let posted = posted::read(body)?;
    let asked = Asked {
        id: server.new_id(),
        task: posted.name,
        kind: posted.kind,
        query: posted.query,
        at_ms: server.now().0,
    };
    let job = Job::new(asked);
    server.jobs.remember(&job)?;
    match posted.kind {
        posted::SQL => run(server, &job).await,
        // The clients go on with a plain job.
        _ => job.end(How::Failed(NO_SESSIONS.to_owned()), server.now().0),
    }
    let location = format!("{}/{}", location_of(server, request), job.asked.id);
    let answer = Answer::text("").with_status(StatusCode::CREATED);
    Ok(answer.with_header("location", location))
}

async fn run(server: &Inner, job: &Arc<Job>) {
    let failed = |failure: SqlFailure| How::Failed(failure.to_string());
    let how = match script::parse(&job.asked.query) {
        Ok(Script::Changes(statements)) => {
            change::run(server, statements).await.map_or_else(failed, |()| How::Done)
        }
        Ok(Script::Query(query)) => {
            job.start_query(
                query,
                QueryNeeds {
                    workers: Arc::clone(&server.components.workers),
                    clock: Arc::clone(&server.components.clock),
                    readable: server.readable(),
                    results: Arc::clone(&server.results),
                    turns: Arc::clone(&server.jobs.turns),
                },
            );
            // Most queries end at once: their clients need not ask twice.
            let ended = std::pin::pin!(job.ended());
            select(ended, server.components.clock.sleep(PATIENCE)).await;
            return;
        }
        Err(failure) => failed(failure),
    };
    job.end(how, server.now().0);
}

/// Answers `PUT …/instances/{id}`: stops a job.
pub(crate) fn stop(server: &Inner, request: &Request, id: &str) -> Result<Answer, Refusal> {
    let job = server.jobs.get(id)?;
    if request.parameter("info").is_some() {
        let message = "setting information of an instance is not supported";
        return Err(Refusal::method(message));
    }
    let body = std::str::from_utf8(&request.body)
        .map_err(|_| Refusal::malformed("the status' XML is no UTF-8"))?;
    let status = posted::status(body)?;
    if !status.eq_ignore_ascii_case("Terminated") {
        return Err(Refusal::invalid(format!(
            "an instance can be brought to the status Terminated only, not to {status:?}"
        )));
    }
    job.cancel(server.now().0)?;
    Ok(Answer::text(""))
}

fn location_of(server: &Inner, request: &Request) -> String {
    let host =
        request.header("host").map_or_else(|| server.settings.listen.to_string(), str::to_owned);
    format!("http://{host}/api/projects/{}/instances", server.settings.project)
}

/// How long a query may run before its client is told to ask for its outcome.
const PATIENCE: Duration = Duration::from_secs(2);
const NO_SESSIONS: &str = "ODPS-1850001: interactive sessions (MCQA) are not supported by this \
     server; run the query as a plain instance";
