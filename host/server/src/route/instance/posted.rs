//! Reads the XML that clients post: a job's one task, and the status that an instance is to have.
//!
//! Between the network and `route/instance/mod.rs`. Invariant: whatever the XML is, nothing of it
//! is taken for what it is not, and other kinds of tasks are refused by their name.

use serde_json::Value as Json;
use upsert_sink_tunnel::xml;
use upsert_sink_tunnel::xml::XmlNode;

use crate::error::Refusal;
use crate::sql::job::{PostedTask, TaskKind};

/// Reads a job.
///
/// Errors: `MalformedXML`, `InvalidArgument` for a job of other or more tasks.
pub(super) fn read(body: &str) -> Result<PostedTask, Refusal> {
    let document = document(body)?;
    let tasks = document.find("Tasks").map(|tasks| tasks.children.as_slice()).unwrap_or_default();
    let task = match tasks {
        [] => return Err(Refusal::invalid("the job has no task")),
        [task] => task,
        tasks => {
            let message = format!("the job has {} tasks: send each as one job", tasks.len());
            return Err(Refusal::invalid(message));
        }
    };
    let kind = kind(task)?;
    let text = |name| task.child(name).map(|node| node.text.as_str()).unwrap_or_default();
    let (element, of) = (kind.element(), kind.text_element());
    if kind != TaskKind::Session && text(of).trim().is_empty() {
        return Err(Refusal::invalid(format!("the job's {element} task has no {of}")));
    }
    if kind == TaskKind::Merge {
        check_merge(task)?;
    }
    let name = text("Name").trim().to_owned();
    Ok(PostedTask { kind, name, text: text(of).to_owned() })
}

fn kind(task: &XmlNode) -> Result<TaskKind, Refusal> {
    let kinds = [TaskKind::Sql, TaskKind::Session, TaskKind::Merge];
    kinds.into_iter().find(|kind| kind.element() == task.name).ok_or_else(|| {
        let message =
            format!("a task of the kind {} is not supported: only SQL and Merge are", task.name);
        Refusal::invalid(message)
    })
}

/// A merge is a major compaction, by the setting that says so; others merge files of plain tables.
fn check_merge(task: &XmlNode) -> Result<(), Refusal> {
    let tables = task.children.iter().filter(|node| node.name == TaskKind::Merge.text_element());
    if tables.count() > 1 {
        return Err(Refusal::invalid(
            "the job's Merge task has several tables: send a job for each",
        ));
    }
    let properties = task.child("Config").map(|config| config.children.as_slice());
    let named = |property: &&XmlNode| property.child("Name").is_some_and(|n| n.text == "settings");
    let settings = properties.unwrap_or_default().iter().find(named);
    let settings = settings.and_then(|property| property.child("Value"));
    let settings = settings.map_or("{}", |value| value.text.as_str());
    let settings: Json = serde_json::from_str(settings)
        .map_err(|error| Refusal::invalid(format!("the settings of the task: {error}")))?;
    match settings[MERGE_KIND].as_str() {
        Some(MAJOR) => Ok(()),
        other => Err(Refusal::invalid(format!(
            "{MERGE_KIND} = {}: this server merges for a major compaction only; set it to {MAJOR}",
            other.unwrap_or("none")
        ))),
    }
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

/// The setting that says what a merge is for.
const MERGE_KIND: &str = "odps.merge.txn.table.compact";
const MAJOR: &str = "major_compact";

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
            let text = "a < 'b' & \"c\";".to_owned();
            Ok(PostedTask { kind: TaskKind::Sql, name: "Task".to_owned(), text })
        };
        assert_eq!(read(&job("a &lt; 'b' &amp; &#34;c&quot;;")), expected());
        assert_eq!(read(&job("<![CDATA[a < 'b' & \"c\";]]>")), expected());
    }

    #[test]
    fn other_tasks_are_refused_by_name() {
        let job = |tasks: &str| format!("<Instance><Job><Tasks>{tasks}</Tasks></Job></Instance>");
        for (tasks, code, named) in [
            ("<Cupid><Name>m</Name></Cupid>", "InvalidArgument", "Cupid"),
            ("<Merge><Name>m</Name></Merge>", "InvalidArgument", "no TableName"),
            ("<Merge><TableName>t</TableName></Merge>", "InvalidArgument", "set it to major"),
            (
                "<Merge><TableName>t</TableName><TableName>u</TableName></Merge>",
                "InvalidArgument",
                "several tables",
            ),
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
    fn a_merge_is_a_major_compaction_or_nothing() {
        let job = |settings: &str| {
            format!(
                "<Instance><Job><Tasks><Merge><Name>merge_task_for_t</Name><Config><Property>\
                 <Name>settings</Name><Value>{settings}</Value></Property></Config>\
                 <TableName>t partition(day='a')</TableName></Merge></Tasks></Job></Instance>"
            )
        };
        let settings = |kind: &str| format!("{{\"{MERGE_KIND}\":\"{kind}\"}}");
        let task = read(&job(&settings(MAJOR))).expect("a merge");
        assert_eq!((task.kind, task.name.as_str()), (TaskKind::Merge, "merge_task_for_t"));
        assert_eq!(task.text, "t partition(day='a')");
        for (settings, named) in [
            (settings("minor_compact"), "minor_compact"),
            ("{}".to_owned(), "none"),
            ("[7]".to_owned(), "none"),
            ("{".to_owned(), "settings of the task"),
        ] {
            let refusal = read(&job(&settings)).expect_err(&settings);
            assert!(refusal.message.contains(named), "{settings}: {}", refusal.message);
        }
    }

    #[test]
    fn sessions_are_known_and_a_status_is_read() {
        let job = "<Instance><Job><Tasks><SQLRT><Name>s</Name></SQLRT></Tasks></Job></Instance>";
        assert_eq!(read(job).map(|posted| posted.kind), Ok(TaskKind::Session));
        let stop = "<Instance><Status>Terminated</Status></Instance>";
        assert_eq!(status(stop), Ok("Terminated".to_owned()));
    }
}
