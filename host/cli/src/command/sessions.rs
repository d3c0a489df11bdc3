//! `sessions`: what is written but not committed, as the server and the sink's journal know it.
//!
//! Reads files only, beside whatever runs. Invariant: a session that both know is listed once.

use std::path::{Path, PathBuf};

use serde::Serialize;
use upsert_sink::sessions::JournalState;
use upsert_sink::{journal, sessions};

use crate::report::ReportForm;
use crate::{report, state};

/// The arguments of `sessions`.
#[derive(Debug, clap::Args)]
pub(crate) struct SessionsArguments {
    /// The server's directory
    #[arg(long, value_name = "DIR", default_value = crate::command::run::DATA)]
    data: PathBuf,
    /// A job's state directory, to ask the sink's journal too
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// How to print them
    #[arg(long, value_enum, default_value_t)]
    report: ReportForm,
}

#[derive(Debug, Serialize)]
struct SessionsDocument {
    open: Vec<SessionRow>,
}

#[derive(Debug, Serialize)]
struct SessionRow {
    id: String,
    table: Option<String>,
    partition: String,
    /// Milliseconds since the Unix epoch.
    created: Option<u64>,
    server: bool,
    journal: bool,
}

/// Lists the open sessions of a directory.
pub(crate) async fn run(arguments: SessionsArguments) -> anyhow::Result<()> {
    let recorded = upsert_sink_server::recorded_sessions(&arguments.data)?;
    let mut open: Vec<SessionRow> = recorded
        .into_iter()
        .map(|session| SessionRow {
            id: session.id,
            table: Some(session.table),
            partition: session.partition,
            created: Some(session.created),
            server: true,
            journal: false,
        })
        .collect();
    if let Some(dir) = &arguments.state {
        add_journaled(&mut open, &state::journal_dir(dir)).await?;
    }
    match arguments.report {
        ReportForm::Json => report::print_json(&SessionsDocument { open }),
        ReportForm::Text => {
            for session in &open {
                let table = session.table.as_deref().unwrap_or("?");
                println!("{}  {table}  {}", session.id, session.partition);
            }
            println!("{} open", open.len());
            Ok(())
        }
    }
}

/// Adds what the sink's journal knows of sessions that are neither committed nor aborted.
async fn add_journaled(open: &mut Vec<SessionRow>, dir: &Path) -> anyhow::Result<()> {
    let disk = upsert_sink::Components::system().disk;
    let Some(contents) = journal::read(dir, &*disk).await? else { return Ok(()) };
    for (id, session) in sessions::of(&contents)? {
        if matches!(session.state, JournalState::Committed | JournalState::Aborted) {
            continue;
        }
        if let Some(known) = open.iter_mut().find(|known| known.id == id) {
            known.journal = true;
            continue;
        }
        open.push(SessionRow {
            id,
            table: Some(contents.table.clone()),
            partition: session.partition,
            created: None,
            server: false,
            journal: true,
        });
    }
    Ok(())
}
