//! A job's text: settings, then statements that change the catalog, one compaction, or one query.
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
    /// Merges files.
    Compact(ddl::CompactedTable),
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

/// Reads the table of a Merge task, such as `t`, or `t partition(day='a')`.
///
/// Errors: `Parse` for a text that is no table, or more.
pub(crate) fn parse_merged_table(text: &str) -> Result<ddl::CompactedTable, SqlFailure> {
    match parse(&format!("ALTER TABLE {text} COMPACT MAJOR"))? {
        Script::Compact(table) => Ok(table),
        Script::Changes(_) | Script::Query(_) => Err(SqlFailure::Parse(format!(
            "TableName {text:?}: write a table, and perhaps one partition (column='value', …)"
        ))),
    }
}

fn parse_statements(text: &str) -> Result<Script, String> {
    let mut changes = Vec::new();
    // The statement of a script that has no others.
    let mut only = None;
    for tokens in statements(text)? {
        if tokens.begins_with("SET") {
            check_setting(&tokens.setting()?)?;
            continue;
        }
        let script = match tokens.is_query() {
            true => Script::Query(select::parse(tokens)?),
            false => match ddl::parse(tokens)? {
                ddl::Parsed::Change(statement) => {
                    changes.push(statement);
                    continue;
                }
                ddl::Parsed::Compact(table) => Script::Compact(table),
            },
        };
        if only.replace(script).is_some() {
            return Err(ONE_STATEMENT.to_owned());
        }
    }
    match (only, changes.is_empty()) {
        (None, true) => Err("there is no statement".to_owned()),
        (None, false) => Ok(Script::Changes(changes)),
        (Some(script), true) => Ok(script),
        (Some(_), false) => Err(ONE_STATEMENT.to_owned()),
    }
}

fn check_setting(name: &str) -> Result<(), String> {
    if HARMLESS_SETTINGS.contains(&name) {
        return Ok(());
    }
    Err(format!("the setting {name} is not supported: leave it out"))
}

const ONE_STATEMENT: &str = "a script with a query or a compaction has no other statements; send \
     each as a job of its own";
/// As much as the service takes.
const SCRIPT_BYTES_MAX: usize = 2 << 20;
/// Settings that clients send along and that change nothing here.
const HARMLESS_SETTINGS: [&str; 4] = [
    "odps.sql.type.system.odps2",
    "odps.sql.allow.fullscan",
    "odps.sql.hive.compatible",
    "odps.merge.task.mode",
];

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
    fn a_merged_table_is_a_table_and_nothing_else() {
        let set = "SET odps.merge.task.mode=service; ALTER TABLE a COMPACT MAJOR;";
        assert!(matches!(parse(set), Ok(Script::Compact(_))));
        let merged = parse_merged_table("p.t partition(day='a',h='1')").expect("a partition");
        assert_eq!(merged.table.name, "t");
        assert_eq!(merged.partition.map(|values| values.len()), Some(2));
        for text in [
            "",
            "t; DROP TABLE t",
            "t ADD COLUMNS (a INT); --",
            "t COMPACT MAJOR; ALTER TABLE u",
            "t --",
            "t partition(day)",
        ] {
            assert!(parse_merged_table(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_script_is_refused() {
        for (text, named) in [
            ("", "no statement"),
            (";;", "no statement"),
            ("SET a.b=1; DROP TABLE t", "setting a.b"),
            ("SELECT 1; SELECT 2", "a job of its own"),
            ("DROP TABLE t; SELECT 2", "a job of its own"),
            ("DROP TABLE t; ALTER TABLE u COMPACT MAJOR", "a job of its own"),
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
