//! Reads the XML that clients post: a job's one task, and the status that an instance is to have.
//!
//! Between the network and `route/instance.rs`. Invariant: whatever the XML is, nothing of it is
//! taken for what it is not, and other kinds of tasks are refused by their name.

use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::BytesRef;
use quick_xml::events::Event;

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
    let mut name = String::new();
    let mut query = String::new();
    let mut tasks: Vec<String> = Vec::new();
    walk(body, |path, text| match (path, text) {
        ([.., "Tasks", task], None) => tasks.push((*task).to_owned()),
        ([.., "Tasks", _, "Name"], Some(text)) => name.push_str(text),
        ([.., "Tasks", _, "Query"], Some(text)) => query.push_str(text),
        _ => {}
    })?;
    let kind = match tasks.as_slice() {
        [] => return Err(Refusal::invalid("the job has no task")),
        [task] if task == SQL => SQL,
        [task] if task == SESSION => SESSION,
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
    Ok(PostedTask { kind, name: name.trim().to_owned(), query })
}

/// Reads the status that an instance is to have.
pub(super) fn status(body: &str) -> Result<String, Refusal> {
    let mut status = String::new();
    walk(body, |path, text| {
        if let (["Instance", "Status"], Some(text)) = (path, text) {
            status.push_str(text);
        }
    })?;
    Ok(status.trim().to_owned())
}

/// Shows each tag with the way to it, and each text with the way to its tag.
fn walk(body: &str, mut visit: impl FnMut(&[&str], Option<&str>)) -> Result<(), Refusal> {
    let wrong = |error: &dyn std::fmt::Display| Refusal::malformed(format!("the XML: {error}"));
    let mut reader = Reader::from_str(body);
    reader.config_mut().check_end_names = true;
    let mut path: Vec<String> = Vec::new();
    loop {
        let event = reader.read_event().map_err(|error| wrong(&error))?;
        let text = match event {
            Event::Start(tag) => {
                if path.len() >= DEPTH_MAX {
                    return Err(wrong(&format!("tags are nested deeper than {DEPTH_MAX}")));
                }
                path.push(String::from_utf8_lossy(tag.local_name().as_ref()).into_owned());
                None
            }
            Event::Empty(tag) => {
                let name = String::from_utf8_lossy(tag.local_name().as_ref()).into_owned();
                let mut way: Vec<&str> = path.iter().map(String::as_str).collect();
                way.push(&name);
                visit(&way, None);
                continue;
            }
            Event::End(_) => {
                path.pop();
                continue;
            }
            Event::Text(text) => Some(text.decode().map_err(|error| wrong(&error))?.into_owned()),
            Event::CData(text) => Some(text.decode().map_err(|error| wrong(&error))?.into_owned()),
            Event::GeneralRef(entity) => Some(resolved(&entity)?),
            Event::Eof if path.is_empty() => return Ok(()),
            Event::Eof => return Err(wrong(&format!("<{}> is not closed", path.join("><")))),
            _ => continue,
        };
        let way: Vec<&str> = path.iter().map(String::as_str).collect();
        visit(&way, text.as_deref());
    }
}

fn resolved(entity: &BytesRef<'_>) -> Result<String, Refusal> {
    let wrong = |message: String| Refusal::malformed(format!("the XML: {message}"));
    let character = entity.resolve_char_ref().map_err(|error| wrong(error.to_string()))?;
    if let Some(character) = character {
        return Ok(character.to_string());
    }
    let name = entity.decode().map_err(|error| wrong(error.to_string()))?;
    let text = resolve_predefined_entity(&name);
    text.map(str::to_owned).ok_or_else(|| wrong(format!("the entity {name} is not known")))
}

const DEPTH_MAX: usize = 32;

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
