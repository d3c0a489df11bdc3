//! SQL through an instance: run a statement, read what a query has found.
//!
//! Between `catalog.rs` and `instance.rs`. Invariant: a result that is garbled is no result.

use crate::endpoint::Endpoint;
use crate::error::{Result, TunnelError};
use crate::instance;

/// Runs one statement to its end.
pub(crate) async fn run(endpoint: &Endpoint, text: &str) -> Result<()> {
    let id = instance::post(endpoint, job(text)).await?;
    instance::settle(endpoint, &id).await
}

/// A row of a query's result, as text; a null is none.
pub type TextRow = Vec<Option<String>>;

/// Runs one query to its end, and reads the few rows that it finds.
pub(crate) async fn rows(endpoint: &Endpoint, text: &str) -> Result<Vec<TextRow>> {
    let id = instance::post(endpoint, job(text)).await?;
    instance::settle(endpoint, &id).await?;
    let root = instance::shown(endpoint, &id, "result").await.map_err(TunnelError::in_doubt)?;
    let result = root.find("Result").map(|result| result.text.as_str()).unwrap_or_default();
    parse_rows(result).map_err(TunnelError::in_doubt)
}

/// The rows after the header.
fn parse_rows(text: &str) -> std::result::Result<Vec<TextRow>, String> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| format!("the result is garbled: {error}"))?;
        let value = |text: &str| (text != NULL).then(|| String::from(text));
        rows.push(record.iter().map(value).collect());
    }
    Ok(rows)
}

fn job(text: &str) -> String {
    let text = text.trim().trim_end_matches(';');
    instance::job(&format!(
        "<SQL><Name>AnonymousSQLTask</Name><Query>{};</Query></SQL>",
        quick_xml::escape::escape(text)
    ))
}

/// How the service writes null in a result.
const NULL: &str = "\\N";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_read_with_its_nulls_and_its_quotes() {
        let rows = parse_rows("\"id\",\"v\"\n1,\"a,\"\"b\"\"\"\n2,\\N\n").expect("valid");
        let text = |text: &str| Some(String::from(text));
        assert_eq!(rows, [vec![text("1"), text("a,\"b\"")], vec![text("2"), None]]);
        assert_eq!(parse_rows("").expect("no header, no rows"), Vec::<TextRow>::new());
        assert!(parse_rows("a,b\n1\n").is_err());
    }
}
