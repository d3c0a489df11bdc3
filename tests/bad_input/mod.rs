//! Bad input: a clear error that names what, where and the remedy; non-zero exit, nothing lost, no
//! panic.
//!
//! Each case runs the built binary, or the library where the binary has no way to give it such
//! input.

mod places;
mod scene;

use anyhow::Result;
use scene::Scene;
use upsert_sink_tests::binary;
use upsert_sink_tests::feed::Feed;

/// The line of the job that a Parquet file does without: it has its own columns.
const COLUMNS: &str = "columns = [\"id BIGINT\", \"name STRING\", \"code STRING\", \
                       \"price DECIMAL(5, 2)\", \"day STRING\"]";
const PARALLELISM: &str = "\"sink.parallelism\" = 2";

fn row(rest: &str) -> Vec<u8> {
    format!("{{\"id\":3,{rest},\"day\":\"wed\"}}\n").into_bytes()
}

#[test]
fn a_misspelt_option_is_refused_with_the_nearest_name() -> Result<()> {
    Scene::new()?.refuses_job(
        &[(PARALLELISM, "\"sink.memory.buget\" = \"64mb\"")],
        &["sink.memory.buget", "did you mean `sink.memory.budget`"],
    )
}

#[test]
fn an_option_like_no_other_is_refused_with_where_to_look() -> Result<()> {
    Scene::new()?
        .refuses_job(&[(PARALLELISM, "\"colour\" = \"red\"")], &["colour", "upsert-sink options"])
}

#[test]
fn a_wrong_unit_is_refused_with_the_right_ones() -> Result<()> {
    Scene::new()?.refuses_job(
        &[(PARALLELISM, "\"upsert.writer.buffer-size\" = \"8 apples\"")],
        &["upsert.writer.buffer-size", "8 apples"],
    )
}

#[test]
fn a_missing_key_column_is_named() -> Result<()> {
    Scene::new()?.refuses_job(&[("\"id BIGINT\", ", "")], &["id", "key"])
}

#[test]
fn a_type_that_cannot_become_the_columns_is_refused_with_both_types() -> Result<()> {
    Scene::new()?
        .refuses_job(&[("\"name STRING\"", "\"name BIGINT\"")], &["name", "BIGINT", "string"])
}

#[test]
fn a_null_key_is_refused() -> Result<()> {
    let rows = b"{\"name\":\"three\",\"day\":\"wed\"}\n";
    Scene::new()?.refuses_rows(rows, &[], &["id", "null"])
}

#[test]
fn an_over_long_varchar_is_refused_with_its_column_and_its_limit() -> Result<()> {
    Scene::new()?.refuses_rows(&row("\"code\":\"abcde\""), &[], &["code", "4"])
}

#[test]
fn a_decimal_that_does_not_fit_is_refused_with_its_line() -> Result<()> {
    Scene::new()?.refuses_rows(&row("\"price\":\"12345.678\""), &[], &["price", "line 1"])
}

#[test]
fn text_that_is_no_decimal_is_refused_with_its_line() -> Result<()> {
    Scene::new()?.refuses_rows(&row("\"price\":\"12x\""), &[], &["price", "line 1"])
}

#[test]
fn bytes_that_are_no_utf8_are_refused_with_their_line() -> Result<()> {
    let mut rows = row("\"name\":\"three\"");
    rows.extend(b"{\"id\":4,\"name\":\"\xFF\",\"day\":\"wed\"}\n");
    Scene::new()?.refuses_rows(&rows, &[], &["line 2", "UTF-8"])
}

#[test]
fn malformed_json_is_refused_with_its_line() -> Result<()> {
    let mut rows = row("\"name\":\"three\"");
    rows.extend(b"{\"id\":4,\n");
    Scene::new()?.refuses_rows(&rows, &[], &["line 2", "JSON"])
}

#[test]
fn a_truncated_parquet_file_is_refused_by_name() -> Result<()> {
    let scene = Scene::new()?;
    let sample = std::fs::read(Feed::sample().path)?;
    std::fs::write(scene.path("cut.parquet"), &sample[..sample.len() / 2])?;
    let job = scene.write_job("cut.parquet", &[("\"json\"", "\"parquet\""), (COLUMNS, "")])?;
    scene.refuses(&scene.run(&job, "state-bad")?, &["cut.parquet", "Parquet"])
}

#[test]
fn a_row_larger_than_the_buffer_is_refused() -> Result<()> {
    let small =
        "\"sink.memory.budget\" = \"1mb\"\n\"upsert.writer.bucket.buffer-size\" = \"256kb\"";
    let name = "x".repeat(3 << 20);
    let rows = row(&format!("\"name\":\"{name}\""));
    Scene::new()?.refuses_rows(
        &rows,
        &[(PARALLELISM, small)],
        &["upsert.writer.bucket.buffer-size"],
    )
}

#[test]
fn too_many_dynamic_partitions_are_refused_with_the_limit() -> Result<()> {
    let rows: String = (0..9).map(|n| format!("{{\"id\":{n},\"day\":\"d{n}\"}}\n")).collect();
    let limit = format!("{PARALLELISM}\n\"sink.dynamic-partition.limit\" = 3");
    Scene::new()?.refuses_rows(
        rows.as_bytes(),
        &[(PARALLELISM, &limit)],
        &["sink.dynamic-partition.limit", "3"],
    )
}

#[test]
fn exactly_once_on_standard_input_is_refused_with_the_remedy() -> Result<()> {
    let scene = Scene::new()?;
    let job = scene.write_job("-", &[])?;
    let finished = binary::run_on(&scene.arguments(&job, "state-bad"), &row("\"name\":\"x\""))?;
    scene.refuses(&finished, &["at-least-once"])
}
