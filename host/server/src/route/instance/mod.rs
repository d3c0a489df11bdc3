//! Jobs on the wire, which the vendor calls instances: post a task, then ask for its outcome.
//!
//! Between `route/mod.rs` and `jobs.rs`. Invariant: statements that change the catalog are durable,
//! or have failed, before their job is answered; a query or a compaction may still run then.

mod posted;
mod shown;

use std::net::SocketAddr;
use std::sync::Arc;

use http::StatusCode;

use crate::answer::Answer;
use crate::error::Refusal;
use crate::jobs::Jobs;
use crate::request::Request;

/// The routes of instances.
pub(crate) struct Instances {
    pub(crate) jobs: Arc<Jobs>,
    pub(crate) project: String,
    /// Where the server listens, for clients that name no host.
    pub(crate) listen: SocketAddr,
}

impl Instances {
    /// Answers `POST …/instances`: begins a job, and says where to ask for its outcome.
    pub(crate) async fn create(&self, request: &Request) -> Result<Answer, Refusal> {
        let body = std::str::from_utf8(&request.body)
            .map_err(|_| Refusal::malformed("the job's XML is no UTF-8"))?;
        let job = self.jobs.begin(posted::read(body)?).await?;
        let host = request.header("host").map_or_else(|| self.listen.to_string(), str::to_owned);
        let location = format!("http://{host}/api/projects/{}/instances/{}", self.project, job.id);
        let answer = Answer::text("").with_status(StatusCode::CREATED);
        Ok(answer.with_header("location", location))
    }

    /// Answers `GET …/instances`: all that are remembered.
    pub(crate) fn list(&self) -> Answer {
        shown::list(&self.jobs)
    }

    /// Answers `GET …/instances/{id}`, with `taskstatus`, `result` and others for more of it.
    pub(crate) async fn show(&self, request: &Request, id: &str) -> Result<Answer, Refusal> {
        shown::show(&self.jobs, request, id).await
    }

    /// Answers `PUT …/instances/{id}`: stops a job.
    pub(crate) fn stop(&self, request: &Request, id: &str) -> Result<Answer, Refusal> {
        let job = self.jobs.find(id)?;
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
        self.jobs.stop(&job)?;
        Ok(Answer::text(""))
    }
}
