//! SQL jobs, which the vendor calls instances: post a statement, then ask what became of it.
//!
//! The way in which tables and partitions are created. Invariant: a statement has been carried out,
//! durably, or has failed before its job is answered; a job is remembered until [`REMEMBERED_MAX`]
//! others came after it.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::time::Duration;
use std::time::UNIX_EPOCH;

use http::StatusCode;
use quick_xml::Reader;
use quick_xml::escape::escape;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::BytesRef;
use quick_xml::events::Event;

use super::project::OWNER;
use super::table::cdata;
use crate::error::Refusal;
use crate::request::Request;
use crate::service::Answer;
use crate::service::Inner;
use crate::sql::ddl;
use crate::table::catalog::Catalog;
use crate::table::catalog::Change;
use crate::table::log::NotWritten;
use crate::table::partition;

/// The jobs of this start.
#[derive(Debug, Default)]
pub(crate) struct SqlInstances {
    by_id: BTreeMap<String, SqlInstance>,
    oldest_first: VecDeque<String>,
}

/// A job that has ended.
#[derive(Clone, Debug)]
struct SqlInstance {
    task: String,
    query: String,
    at_ms: u64,
    /// What it says, or why it failed.
    result: Result<String, String>,
}

/// Answers `POST …/instances`: carries the statements out, and says where to ask for the outcome.
pub(crate) async fn create(server: &Inner, request: &Request) -> Result<Answer, Refusal> {
    let body = std::str::from_utf8(&request.body)
        .map_err(|_| Refusal::invalid("the job's XML is no UTF-8"))?;
    let (task, query) = sql_task(body).map_err(Refusal::invalid)?;
    let now = server.now().0;
    let result = match ddl::parse(&query) {
        Ok(statements) => run(server, statements).await,
        Err(message) => Err(format!("ODPS-0130161:[0,0] Parse exception - {message}")),
    };
    let id = format!("{now:013}{:016x}", server.components.entropy.draw());
    let location = format!("{}/{id}", location_of(server, request));
    server.sql_instances().remember(id, SqlInstance { task, query, at_ms: now, result });
    let mut answer = Answer::xml(String::new()).with_header("location", location);
    answer.body = String::new();
    answer.status = StatusCode::CREATED;
    Ok(answer)
}

/// Answers `GET …/instances/{id}`, with `taskstatus`, `result` or `source`.
pub(crate) fn show(server: &Inner, request: &Request, id: &str) -> Result<Answer, Refusal> {
    let instances = server.sql_instances();
    let job = instances.by_id.get(id).ok_or_else(|| {
        let message = format!("there is no instance {id}; this server forgets them at a restart");
        Refusal::no_such("NoSuchInstance", message)
    })?;
    let name = format!("<Name>{}</Name>", escape(&job.task));
    let time = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(job.at_ms));
    let body = if request.parameter("taskstatus").is_some() {
        let status = if job.result.is_ok() { "Success" } else { "Failed" };
        format!(
            "<Instance><Status>Terminated</Status><Tasks><Task Type=\"SQL\">{name}\
             <StartTime>{time}</StartTime><EndTime>{time}</EndTime><Status>{status}</Status>\
             <Histories/></Task></Tasks></Instance>"
        )
    } else if request.parameter("result").is_some() {
        let (Ok(text) | Err(text)) = &job.result;
        format!(
            "<Instance><Tasks><Task Type=\"SQL\">{name}<Result Format=\"text\">{}</Result></Task>\
             </Tasks></Instance>",
            cdata(text)
        )
    } else if request.parameter("source").is_some() {
        format!(
            "<Instance><Job><Tasks><SQL>{name}<Query>{}</Query></SQL></Tasks></Job></Instance>",
            cdata(&job.query)
        )
    } else {
        "<Instance><Status>Terminated</Status></Instance>".to_owned()
    };
    let answer = Answer::xml(body).with_header("x-odps-owner", OWNER.to_owned());
    Ok(answer.with_header("x-odps-start-time", time.clone()).with_header("x-odps-end-time", time))
}

impl SqlInstances {
    fn remember(&mut self, id: String, job: SqlInstance) {
        self.oldest_first.push_back(id.clone());
        self.by_id.insert(id, job);
        if self.oldest_first.len() > REMEMBERED_MAX {
            let oldest = self.oldest_first.pop_front().expect("it was just longer");
            self.by_id.remove(&oldest);
        }
    }
}

fn location_of(server: &Inner, request: &Request) -> String {
    let host =
        request.header("host").map_or_else(|| server.settings.listen.to_string(), str::to_owned);
    format!("http://{host}/api/projects/{}/instances", server.settings.project)
}

/// The name and the statements of the job's one SQL task.
fn sql_task(body: &str) -> Result<(String, String), String> {
    let mut reader = Reader::from_str(body);
    let mut path: Vec<String> = Vec::new();
    let (mut name, mut query, mut other) = (String::new(), None::<String>, None);
    loop {
        let event = reader.read_event().map_err(|error| format!("the job's XML: {error}"))?;
        let text = match event {
            Event::Start(tag) => {
                let tag = String::from_utf8_lossy(tag.local_name().as_ref()).into_owned();
                if path.last().is_some_and(|parent| parent == "Tasks") && tag != "SQL" {
                    other = Some(tag.clone());
                }
                path.push(tag);
                continue;
            }
            Event::End(_) => {
                path.pop();
                continue;
            }
            Event::Text(text) => text.decode().map_err(|error| error.to_string())?.into_owned(),
            Event::CData(text) => text.decode().map_err(|error| error.to_string())?.into_owned(),
            Event::GeneralRef(entity) => resolved(&entity)?,
            Event::Eof => break,
            _ => continue,
        };
        match path.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            [.., "SQL", "Name"] => name.push_str(&text),
            [.., "SQL", "Query"] => query.get_or_insert_default().push_str(&text),
            _ => {}
        }
    }
    match (query, other) {
        (Some(query), _) => Ok((name.trim().to_owned(), query)),
        (None, Some(tag)) => Err(format!("a task of the kind {tag} is not supported: only SQL is")),
        (None, None) => Err("the job has no SQL task with a Query".to_owned()),
    }
}

fn resolved(entity: &BytesRef<'_>) -> Result<String, String> {
    if let Some(character) = entity.resolve_char_ref().map_err(|error| error.to_string())? {
        return Ok(character.to_string());
    }
    let name = entity.decode().map_err(|error| error.to_string())?;
    let text = resolve_predefined_entity(&name);
    text.map(str::to_owned).ok_or_else(|| format!("the entity {name} is not known"))
}

async fn run(server: &Inner, statements: Vec<ddl::Statement>) -> Result<String, String> {
    for statement in statements {
        run_one(server, statement)
            .await
            .map_err(|message| format!("ODPS-0130131:[0,0] {message}"))?;
    }
    Ok("OK".to_owned())
}

async fn run_one(server: &Inner, statement: ddl::Statement) -> Result<(), String> {
    let table = match &statement {
        ddl::Statement::AddPartitions { table, .. }
        | ddl::Statement::CreateTable { table, .. }
        | ddl::Statement::DropTable { table, .. } => table,
    };
    if let Some(project) = table.project.as_ref().filter(|p| **p != server.settings.project) {
        return Err(format!(
            "there is no project {project} here, only {}",
            server.settings.project
        ));
    }
    if let Some(schema) = &table.schema {
        crate::service::check_schema(schema).map_err(|refusal| refusal.message)?;
    }
    let dropped = match &statement {
        ddl::Statement::DropTable { table, .. } => {
            server.log.catalog().table(&table.name).ok().map(|t| t.definition.id.clone())
        }
        _ => None,
    };
    match server.log.change(|catalog| decide(catalog, statement)).await {
        Ok(_) => {}
        Err(NotWritten::Decided(message)) => return Err(message),
        Err(NotWritten::Failed(error) | NotWritten::InDoubt(error)) => {
            return Err(error.to_string());
        }
    }
    match dropped {
        Some(id) => super::upsert::abort_all(server, &id).await.map_err(|error| error.to_string()),
        None => Ok(()),
    }
}

/// What a statement changes, if anything.
fn decide(catalog: &Catalog, statement: ddl::Statement) -> Result<Option<Change>, String> {
    match statement {
        ddl::Statement::CreateTable { table, if_not_exists, mut definition } => {
            if catalog.tables.contains_key(&table.name) {
                return match if_not_exists {
                    true => Ok(None),
                    false => Err(format!(
                        "table {} exists; write CREATE TABLE IF NOT EXISTS",
                        table.name
                    )),
                };
            }
            // The version of the record that creates it names a table for ever.
            definition.id = format!("{}-{}", table.name, catalog.version + 1);
            Ok(Some(Change::CreateTable(definition)))
        }
        ddl::Statement::DropTable { table, if_exists } => match catalog.table(&table.name) {
            Ok(table) => Ok(Some(Change::DropTable { table_id: table.definition.id.clone() })),
            Err(_) if if_exists => Ok(None),
            Err(refusal) => Err(refusal.message),
        },
        ddl::Statement::AddPartitions { table, if_not_exists, partitions } => {
            add_partitions(catalog, &table.name, if_not_exists, partitions)
        }
    }
}

fn add_partitions(
    catalog: &Catalog,
    name: &str,
    if_not_exists: bool,
    wanted: Vec<ddl::NamedValues>,
) -> Result<Option<Change>, String> {
    let table = catalog.table(name).map_err(|refusal| refusal.message)?;
    let columns = &table.schema.partition_columns;
    let mut partitions = Vec::new();
    for mut named in wanted {
        let mut values = Vec::with_capacity(columns.len());
        for column in columns {
            let at = named.iter().position(|(name, _)| *name == column.name);
            let at =
                at.ok_or_else(|| format!("the partition column {} is missing", column.name))?;
            values.push(partition::check_value(column, named.swap_remove(at).1)?);
        }
        if let Some((name, _)) = named.first() {
            return Err(format!("table {} has no partition column {name}", table.definition.name));
        }
        let spec = partition::display(&table.schema, &values);
        match table.partitions.contains_key(&values) {
            false if columns.is_empty() => return Err(format!("table {name} has no partitions")),
            false => partitions.push(values),
            true if if_not_exists => {}
            true => {
                return Err(format!("partition {spec} exists; write ADD IF NOT EXISTS PARTITION"));
            }
        }
    }
    let table_id = table.definition.id.clone();
    Ok((!partitions.is_empty()).then_some(Change::AddPartitions { table_id, partitions }))
}

/// Jobs whose outcome is kept.
const REMEMBERED_MAX: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_found_however_a_client_escapes_them() {
        let job = |query: &str| {
            format!(
                "<?xml version=\"1.0\"?><Instance><Job><Priority>9</Priority><Tasks><SQL>\
                 <Name>Task</Name><Config><Property><Name>settings</Name><Value>{{}}</Value>\
                 </Property></Config><Query>{query}</Query></SQL></Tasks></Job></Instance>"
            )
        };
        let expected = Ok(("Task".to_owned(), "a < 'b' & \"c\";".to_owned()));
        assert_eq!(sql_task(&job("a &lt; 'b' &amp; &#34;c&quot;;")), expected);
        assert_eq!(sql_task(&job("<![CDATA[a < 'b' & \"c\";]]>")), expected);
    }

    #[test]
    fn other_tasks_are_refused_by_name() {
        let job = "<Instance><Job><Tasks><Merge><Name>m</Name></Merge></Tasks></Job></Instance>";
        assert!(sql_task(job).unwrap_err().contains("Merge"));
        assert!(sql_task("<Instance/>").is_err());
        assert!(sql_task("<Instance").is_err());
    }
}
