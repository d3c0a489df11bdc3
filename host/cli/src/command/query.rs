//! `query`: one SELECT over the tables of a data directory.
//!
//! Reads the files beside a running server or without one; refused in a build without the feature
//! `query`. Invariant: numbers are numbers in JSON, exact to the last digit.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_json::LineDelimitedWriter;
use arrow_schema::{DataType, Field, Schema};
use upsert_sink_server::Error;

use crate::failure::bad_input;
use crate::report::ReportForm;

/// How to get a build that answers.
const NO_SELECT: &str = "this build has no SELECT, so that it is compiled in half of the time; run \
                         `cargo run --release --features query -- query …`";

/// The arguments of `query`.
#[derive(Debug, clap::Args)]
pub(crate) struct QueryArguments {
    /// A SELECT, such as "SELECT count(*) FROM flights"
    sql: String,
    /// The server's directory
    #[arg(long, value_name = "DIR", default_value = crate::command::run::DATA)]
    data: PathBuf,
    /// How to print the result
    #[arg(long, value_enum, default_value_t)]
    report: ReportForm,
}

/// Runs the query and prints its result.
pub(crate) async fn run(arguments: QueryArguments) -> anyhow::Result<()> {
    let sql = &arguments.sql;
    let answer = upsert_sink_server::query(&arguments.data, sql).await;
    let batches = answer.map_err(advised).with_context(|| format!("query {sql:?}"))?;
    let mut out = std::io::stdout().lock();
    match arguments.report {
        ReportForm::Text => {
            writeln!(out, "{}", arrow_cast::pretty::pretty_format_batches(&batches)?)?
        }
        ReportForm::Json => write_document(&batches, &mut out)?,
    }
    Ok(())
}

/// Says what to do where this program cannot answer any query.
fn advised(error: Error) -> anyhow::Error {
    match error {
        Error::NoSelect => bad_input(NO_SELECT),
        error => error.into(),
    }
}

/// `{"columns": [names], "rows": [[values]]}`, one row per line.
fn write_document(batches: &[RecordBatch], out: &mut impl Write) -> anyhow::Result<()> {
    let schema = batches.first().map(RecordBatch::schema);
    let fields = schema.iter().flat_map(|schema| schema.fields().iter());
    let names: Vec<&str> = fields.map(|field| field.name().as_str()).collect();
    write!(out, "{{\n  \"columns\": {},\n  \"rows\": [", serde_json::to_string(&names)?)?;
    let mut separator = "";
    for batch in batches {
        let columns: Result<Vec<_>, _> = batch.columns().iter().map(json_values).collect();
        let columns = columns?;
        for row in 0..batch.num_rows() {
            let values: Vec<&str> = columns.iter().map(|values| values[row].as_str()).collect();
            write!(out, "{separator}\n    [{}]", values.join(", "))?;
            separator = ",";
        }
    }
    writeln!(out, "\n  ]\n}}")?;
    Ok(())
}

/// Each value of a column as JSON.
fn json_values(column: &ArrayRef) -> anyhow::Result<Vec<String>> {
    if column.data_type().is_nested() {
        return nested_values(column);
    }
    let is_number = matches!(
        column.data_type(),
        DataType::Decimal32(_, _)
            | DataType::Decimal64(_, _)
            | DataType::Decimal128(_, _)
            | DataType::Decimal256(_, _)
            | DataType::Boolean
    ) || column.data_type().is_integer()
        || column.data_type().is_floating();
    let options = FormatOptions::new();
    let formatter = ArrayFormatter::try_new(column, &options)?;
    let mut values = Vec::with_capacity(column.len());
    for row in 0..column.len() {
        let text = formatter.value(row).try_to_string()?;
        // NaN and infinities have no number in JSON.
        let bare = is_number && !text.contains(['N', 'i']);
        values.push(match column.is_null(row) {
            true => String::from("null"),
            false if bare || column.data_type() == &DataType::Boolean => text,
            false => serde_json::to_string(&text)?,
        });
    }
    Ok(values)
}

fn nested_values(column: &ArrayRef) -> anyhow::Result<Vec<String>> {
    let field = Field::new("v", column.data_type().clone(), true);
    let batch = RecordBatch::try_new(Schema::new(vec![field]).into(), vec![column.clone()])?;
    let mut lines = LineDelimitedWriter::new(Vec::new());
    lines.write(&batch)?;
    lines.finish()?;
    let text = String::from_utf8(lines.into_inner())?;
    let value = |line: &str| {
        line.strip_prefix("{\"v\":").and_then(|v| v.strip_suffix('}')).map(String::from)
    };
    Ok(text.lines().map(|line| value(line).unwrap_or_else(|| String::from("null"))).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::types::Int32Type;
    use arrow_array::{Decimal128Array, Float64Array, Int64Array, ListArray, StringArray};

    use super::*;
    use crate::failure::exit_code;

    #[test]
    fn a_build_without_queries_says_how_to_get_one_that_has_them() {
        let error = Err::<(), _>(advised(Error::NoSelect)).context("query \"SELECT 1\"");
        let error = error.expect_err("it is refused");
        assert_eq!(exit_code(&error), 2);
        let message = format!("{error:#}");
        assert!(message.contains("cargo run --release --features query -- query"), "{message}");
        assert_eq!(exit_code(&advised(Error::Query(String::from("x")))), 1);
    }

    #[test]
    fn numbers_stay_numbers() {
        let decimal = Decimal128Array::from(vec![Some(12_345_678_901_234_567_890_i128), None]);
        let decimal = decimal.with_precision_and_scale(38, 2).expect("fits");
        let list =
            ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None]);
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("n", Arc::new(Int64Array::from(vec![Some(328_521), None]))),
            ("d", Arc::new(decimal)),
            ("f", Arc::new(Float64Array::from(vec![1.5, f64::NAN]))),
            ("s", Arc::new(StringArray::from(vec!["a\"b", "12"]))),
            ("l", Arc::new(list)),
        ];
        let batch = RecordBatch::try_from_iter(columns).expect("equal lengths");
        let mut text = Vec::new();
        write_document(&[batch], &mut text).expect("written");
        let text = String::from_utf8(text).expect("UTF-8");
        assert!(
            text.contains("[328521, 123456789012345678.90, 1.5, \"a\\\"b\", [1,null]]"),
            "{text}"
        );
        assert!(text.contains("[null, null, \"NaN\", \"12\", null]"), "{text}");
        serde_json::from_str::<serde_json::Value>(&text).expect("a document");
    }
}
