//! Names and values, as statements write them.
//!
//! Under `ddl`. Invariant: a name is in lower case, and a string is never taken for one.

use sqlparser::ast::{Expr, Ident, ObjectName, ObjectNamePart, Value, ValueWithSpan};

/// A table's name, perhaps with its project and schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableName {
    pub(crate) project: Option<String>,
    pub(crate) schema: Option<String>,
    pub(crate) name: String,
}

/// A table's name.
///
/// Errors, in words: a name of too many parts.
pub(super) fn table_name(name: ObjectName) -> Result<TableName, String> {
    let mut parts = Vec::new();
    for part in name.0 {
        match part {
            ObjectNamePart::Identifier(part) => parts.push(self::name(part)?),
            ObjectNamePart::Function(_) => return Err(format!("{part} is no name")),
        }
    }
    let name = parts.pop().unwrap_or_default();
    let mut parts = parts.into_iter();
    let project = parts.next();
    let schema = parts.next();
    match parts.next() {
        Some(_) => Err(format!("{name} has more parts than project, schema and table")),
        None => Ok(TableName { project, schema, name }),
    }
}

/// A name, in backticks or not, in lower case.
pub(super) fn name(ident: Ident) -> Result<String, String> {
    match ident.quote_style {
        None | Some('`') => Ok(ident.value.to_ascii_lowercase()),
        Some(_) => Err(format!("at \"{ident}\": a name is expected")),
    }
}

/// A string, or a number as it is written.
pub(super) fn literal(value: Expr) -> Result<String, String> {
    match value {
        Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. })
        | Expr::Value(ValueWithSpan { value: Value::Number(text, _), .. }) => Ok(text),
        other => Err(format!("at \"{other}\": a string or a number is expected")),
    }
}
