//! Reads the XML that clients post: a job's one task, and the status that an instance is to have.
//!
//! Between the network and `route/instance/mod.rs`. Invariant: whatever the XML is, nothing of it
//! is taken for what it is not, and other kinds of tasks are refused by their name.

use upsert_sink_tunnel::xml;
use upsert_sink_tunnel::xml::XmlNode;

use crate::error::Refusal;
use crate::sql::job::PostedTask;

/// Tasks that carry out a script.
pub(super) const SQL: &str = "SQL";
/// Tasks that open an interactive session.
const SESSION: &str = "SQLRT";

/// Reads a job.
///
/// Errors: `MalformedXML`, `InvalidArgument` for a job of other or more tasks.
pub(super) fn read(body: &str) -> Result<PostedTask, Refusal> {
    let document = document(body)?;
    let tasks = document.find("Tasks").map(|tasks| tasks.children.as_slice()).unwrap_or_default();
    let names: Vec<&str> = tasks.iter().map(|task| task.name.as_str()).collect();
    let text = |name| tasks.iter().find_map(|task| task.child(name)).map(|node| node.text.as_str());
    let query = text("Query").unwrap_or_default();
    let kind = match names.as_slice() {
        [] => return Err(Refusal::invalid("the job has no task")),
        [SQL] => SQL,
        [SESSION] => SESSION,
        [task] => {
            let message = format!("a task of the kind {task} is not supported: only SQL is");
            return Err(Refusal::invalid(message));
        }
        tasks => {
            let message = format!("the job has {} tasks: send each as one job", tasks.len());
            return Err(Refusal::invalid(message));
        }
    };
    if kind == SQL && query.trim().is_empty() {
        return Err(Refusal::invalid("the job's SQL task has no Query"));
    }
    let name = text("Name").unwrap_or_default().trim().to_owned();
    Ok(PostedTask { kind, name, query: query.to_owned() })
}

/// Reads the status that an instance is to have.
pub(super) fn status(body: &str) -> Result<String, Refusal> {
    let document = document(body)?;
    let status = document.child("Instance").and_then(|instance| instance.child("Status"));
    Ok(status.map(|status| status.text.trim().to_owned()).unwrap_or_default())
}

fn document(body: &str) -> Result<XmlNode, Refusal> {
    xml::document(body).map_err(|error| Refusal::malformed(format!("the XML: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_found_however_a_client_escapes_them() {
        let job = |query: &str| {
            format!(
                "<?xml version=\"1.0\"?><Instance><Job><Priority>9</Priority><Tasks><SQL>\
                 <Name>Task</Name><Config><Property><Name>settings</Name><Value>{{}}</Value>\
                 </Property></Config><Query>{query}</Query></SQL></Tasks></Job></Instance>"
            )
        };
        let expected = || {
            let query = "a < 'b' & \"c\";".to_owned();
            Ok(PostedTask { kind: SQL, name: "Task".to_owned(), query })
        };
        assert_eq!(read(&job("a &lt; 'b' &amp; &#34;c&quot;;")), expected());
        assert_eq!(read(&job("<![CDATA[a < 'b' & \"c\";]]>")), expected());
    }

    #[test]
    fn other_tasks_are_refused_by_name() {
        let job = |tasks: &str| format!("<Instance><Job><Tasks>{tasks}</Tasks></Job></Instance>");
        for (tasks, code, named) in [
            ("<Merge><Name>m</Name></Merge>", "InvalidArgument", "Merge"),
            (
                "<SQL><Query>a</Query></SQL><SQL><Query>b</Query></SQL>",
                "InvalidArgument",
                "2 tasks",
            ),
            ("<SQL/>", "InvalidArgument", "no Query"),
            ("", "InvalidArgument", "no task"),
            ("<SQL><Query>&bomb;</Query></SQL>", "MalformedXML", "bomb"),
            ("<SQL><Query>a</SQL></Query>", "MalformedXML", "expected"),
            ("<SQL>", "MalformedXML", "expected"),
        ] {
            let refusal = read(&job(tasks)).expect_err(tasks);
            assert_eq!(refusal.code, code, "{tasks}: {}", refusal.message);
            assert!(refusal.message.contains(named), "{tasks}: {}", refusal.message);
        }
        assert_eq!(read("<Instance").unwrap_err().code, "MalformedXML");
        assert_eq!(read("no XML").unwrap_err().code, "InvalidArgument");
        let deep = format!("{}{}", "<a>".repeat(100_000), "</a>".repeat(100_000));
        assert_eq!(read(&deep).unwrap_err().code, "MalformedXML");
    }

    #[test]
    fn sessions_are_known_and_a_status_is_read() {
        let job = "<Instance><Job><Tasks><SQLRT><Name>s</Name></SQLRT></Tasks></Job></Instance>";
        assert_eq!(read(job).map(|posted| posted.kind), Ok(SESSION));
        let stop = "<Instance><Status>Terminated</Status></Instance>";
        assert_eq!(status(stop), Ok("Terminated".to_owned()));
    }
}
