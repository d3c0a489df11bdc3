//! A job's text: settings, then statements that change the catalog, or one query.
//!
//! `jobs.rs` reads it and carries it out. Invariant: nothing of a script is done unless all of it
//! can be read.

use sqlparser::ast;

use super::failure::SqlFailure;
use super::tokens::statements;
use super::{ddl, select};

/// The work of a script.
#[derive(Debug)]
pub(crate) enum Script {
    /// Changes the catalog, statement by statement.
    Changes(Vec<ddl::Statement>),
    /// Reads.
    Query(Box<ast::Query>),
}

/// Reads all statements of a text.
///
/// Errors: `Parse` for the first thing that is not understood or not supported.
pub(crate) fn parse(text: &str) -> Result<Script, SqlFailure> {
    if text.len() > SCRIPT_BYTES_MAX {
        let bytes = text.len();
        return Err(SqlFailure::Parse(format!(
            "the script has {bytes} bytes, more than {SCRIPT_BYTES_MAX}; send it in parts"
        )));
    }
    parse_statements(text).map_err(SqlFailure::Parse)
}

fn parse_statements(text: &str) -> Result<Script, String> {
    let mut changes = Vec::new();
    let mut query = None;
    for tokens in statements(text)? {
        if tokens.begins_with("SET") {
            check_setting(&tokens.setting()?)?;
        } else if tokens.is_query() {
            if query.is_some() {
                return Err(ONE_QUERY.to_owned());
            }
            query = Some(select::parse(tokens)?);
        } else {
            changes.push(ddl::parse(tokens)?);
        }
    }
    match (query, changes.is_empty()) {
        (None, true) => Err("there is no statement".to_owned()),
        (None, false) => Ok(Script::Changes(changes)),
        (Some(query), true) => Ok(Script::Query(query)),
        (Some(_), false) => Err(ONE_QUERY.to_owned()),
    }
}

fn check_setting(name: &str) -> Result<(), String> {
    if HARMLESS_SETTINGS.contains(&name) {
        return Ok(());
    }
    Err(format!("the setting {name} is not supported: leave it out"))
}

const ONE_QUERY: &str = "a script with a query has no other statements; send each as a job of its \
     own";
/// As much as the service takes.
const SCRIPT_BYTES_MAX: usize = 2 << 20;
/// Settings that clients send along and that change nothing here.
const HARMLESS_SETTINGS: [&str; 3] =
    ["odps.sql.type.system.odps2", "odps.sql.allow.fullscan", "odps.sql.hive.compatible"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_come_before_statements_or_a_query() {
        let changes = parse("SET odps.sql.allow.fullscan=true; DROP TABLE a; DROP TABLE b;");
        let Ok(Script::Changes(changes)) = changes else { panic!("{changes:?}") };
        assert_eq!(changes.len(), 2);
        let text = "-- why\nset odps.sql.type.system.odps2=true;\n(SELECT 1 AS a) UNION ALL \
                    SELECT \"two;\"; ;";
        assert!(matches!(parse(text), Ok(Script::Query(_))));
        assert!(matches!(parse("WITH a AS (SELECT 1) SELECT * FROM a;"), Ok(Script::Query(_))));
    }

    #[test]
    fn what_is_no_script_is_refused() {
        for (text, named) in [
            ("", "no statement"),
            (";;", "no statement"),
            ("SET a.b=1; DROP TABLE t", "setting a.b"),
            ("SELECT 1; SELECT 2", "a job of its own"),
            ("DROP TABLE t; SELECT 2", "a job of its own"),
            ("SELECT 'a", "Unterminated"),
            ("SELECT FROM WHERE", "found"),
            ("INSERT INTO t VALUES (1)", "INSERT INTO t"),
            ("EXPLAIN SELECT 1", "EXPLAIN"),
        ] {
            match parse(text) {
                Err(SqlFailure::Parse(message)) => {
                    assert!(message.contains(named), "{text}: {message}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
        let long = format!("SELECT '{}'", "x".repeat(SCRIPT_BYTES_MAX));
        assert!(
            matches!(parse(&long), Err(SqlFailure::Parse(message)) if message.contains("in parts"))
        );
    }
}
