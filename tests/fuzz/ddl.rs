//! Statements that change the local server's catalog: `sql/ddl.rs`.
//!
//! An input is the text of statements. Promises: what is understood means the same in its fixed
//! spelling; a refusal is in words and not longer than what it is about; memory is bounded.

use anyhow::{Result, ensure};
use upsert_sink_server::readers;
use upsert_sink_tests::fuzz::shape;

use crate::Memory;

pub(crate) const WORDS: &[&str] = &[
    " CREATE TABLE ",
    " IF NOT EXISTS ",
    " DROP TABLE ",
    " IF EXISTS ",
    " ALTER TABLE ",
    " ADD ",
    " PARTITION ",
    " PARTITIONED BY ",
    " COMPACT MAJOR ",
    " PRIMARY KEY ",
    " NOT NULL ",
    " COMMENT ",
    " TBLPROPERTIES ",
    "'transactional'='true'",
    "'write.bucket.num'='4'",
    " BIGINT ",
    " STRING ",
    " DECIMAL(38,18) ",
    " ARRAY<",
    " MAP<STRING,",
    " STRUCT<a:",
    "SET odps.sql.type.system.odps2=true;",
    "--\n",
    "/*",
    "*/",
    "`",
    "\"",
    "\\'",
    "''",
    ";",
    "(",
    ")",
    ",",
    ">>",
    "💥",
];

/// A token is an enum of a few words with a text of its own, and each list doubles as it grows.
const MEMORY: Memory = Memory { fixed: 64 << 10, per_byte: 1_500 };

pub(crate) fn body(input: &[u8]) -> Result<String> {
    let text = String::from_utf8_lossy(input);
    match MEMORY.bounds(input, || readers::ddl(&text))? {
        Ok(statements) => {
            ensure!(!statements.is_empty(), "understood, but there is no statement");
            for one in &statements {
                let Some(sql) = &one.sql else { continue };
                let again = readers::ddl(sql).map_err(|refused| {
                    anyhow::anyhow!("{} is refused as {sql:?}: {refused}", one.meaning)
                })?;
                let same = again.len() == 1 && again[0].meaning == one.meaning;
                ensure!(same, "{} became {again:?} by way of {sql:?}", one.meaning);
            }
            let kinds = statements.iter().map(|one| &one.meaning[..6]);
            Ok(format!("understood {:?}", kinds.take(4).collect::<Vec<_>>()))
        }
        Err(refusal) => {
            ensure!(!refusal.is_empty(), "it is refused without a word");
            let bound = 4 * text.len() + 500;
            ensure!(refusal.len() <= bound, "{} bytes say what is wrong", refusal.len());
            Ok(shape(&refusal))
        }
    }
}
