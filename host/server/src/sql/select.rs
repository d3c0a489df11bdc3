//! A query as MaxCompute writes it: names in backticks, strings in any quotes.
//!
//! Between `script`, which splits a text into statements, and `query/mod.rs`, which runs what was
//! read here. Invariant: only what reads is a query.

use sqlparser::ast;

use super::tokens::Tokens;

/// Reads one SELECT.
///
/// Errors, in words.
pub(crate) fn parse(tokens: Tokens) -> Result<Box<ast::Query>, String> {
    let deep = tokens.operators();
    if deep > OPERATORS_MAX {
        return Err(format!(
            "the query has {deep} operators, more than {OPERATORS_MAX}; write IN (…) for a chain \
             of OR, or send it in parts"
        ));
    }
    match tokens.parse_query()? {
        ast::Statement::Query(query) => Ok(query),
        other => Err(format!("{} is not supported", first_word(&other.to_string()))),
    }
}

/// The word that names a statement.
pub(crate) fn first_word(text: &str) -> String {
    text.split_whitespace().next().unwrap_or_default().to_owned()
}

/// Words and marks that each make a query's tree deeper, at most: planning goes down the tree on a
/// stack of 2 MiB.
const OPERATORS_MAX: usize = 500;
