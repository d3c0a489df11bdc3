//! A job file: what to read, which table it is, and the options of the sink.
//!
//! `command/run.rs` reads one. Invariant: a `Job` is complete and consistent in itself; everything
//! that is wrong with the file is an error that names the file, the key and the remedy.

use std::collections::BTreeMap;
use std::path::Path;

use arrow_schema::{Field, Schema, SchemaRef};
use serde::Deserialize;
use upsert_sink::{NewColumn, NewTable};

use crate::failure::bad_input;
use crate::source::csv::{CsvLayout, Naming};
use crate::source::files;
use crate::source::kinds::OpColumn;
use crate::source::types::parse_column;

/// A parsed job file.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// The file's name without its ending.
    pub(crate) name: String,
    /// Paths with their variables replaced.
    pub(crate) paths: Vec<String>,
    /// How they are read.
    pub(crate) format: Format,
    /// Whether every update comes with its before-image.
    pub(crate) before_images: bool,
    /// The table, if the job describes it.
    pub(crate) table: Option<JobTable>,
    /// Options of the sink by their documented names.
    pub(crate) options: BTreeMap<String, String>,
}

/// How input is read.
#[derive(Clone, Debug)]
pub(crate) enum Format {
    /// Parquet files.
    Parquet {
        /// The columns to take; none means all but the op column.
        columns: Option<Vec<String>>,
        /// Which column says what a row does.
        op: Option<OpColumn>,
    },
    /// One JSON object per line.
    Json {
        /// The columns, every one nullable: the table's rules are the sink's to check.
        schema: SchemaRef,
        /// Which column says what a row does.
        op: Option<OpColumn>,
    },
    /// One row per CSV record.
    Csv {
        /// The columns, every one nullable.
        schema: SchemaRef,
        /// Which column says what a row does.
        op: Option<OpColumn>,
        /// How the files are written.
        layout: CsvLayout,
    },
    /// One Debezium envelope per line.
    Debezium {
        /// The columns of `before` and `after`.
        schema: SchemaRef,
    },
}

/// The table as the job describes it, for the embedded server to create it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct JobTable {
    /// The table's name.
    pub(crate) name: String,
    /// `name TYPE [NOT NULL]` of each column that is no partition column.
    pub(crate) columns: Vec<String>,
    /// Names of the columns of the primary key.
    pub(crate) primary_key: Vec<String>,
    /// `name TYPE` of each partition column.
    #[serde(default)]
    pub(crate) partitioned_by: Vec<String>,
    /// Buckets of a partition.
    pub(crate) buckets: u32,
}

/// The relation of rows to a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowForm {
    /// Each replaces the one before.
    Whole,
    /// Each may set some columns only, which the table must allow.
    Partial,
}

impl RowForm {
    /// The options of the sink that concern its rows.
    pub(crate) fn of(options: &BTreeMap<String, String>) -> Self {
        let partial = options.get("upsert.partial-column.enable");
        match partial.is_some_and(|value| value.trim().eq_ignore_ascii_case("true")) {
            true => Self::Partial,
            false => Self::Whole,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct JobFile {
    source: SourceTable,
    table: Option<JobTable>,
    #[serde(default)]
    sink: toml::Table,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct SourceTable {
    format: FormatName,
    path: Option<String>,
    paths: Option<Vec<String>>,
    columns: Option<Vec<String>>,
    op_column: Option<String>,
    ops: Option<BTreeMap<String, String>>,
    #[serde(default)]
    before_images: bool,
    header: Option<bool>,
    fields: Option<Vec<String>>,
    delimiter: Option<String>,
    quote: Option<String>,
    null_text: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum FormatName {
    Parquet,
    Csv,
    Json,
    Debezium,
}

impl Job {
    /// Reads a job file. Variables in paths are looked up in the environment.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            bad_input(format!("job file {}: {error}; name a job file", path.display()))
        })?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Self::parse(&name, &text, &|name| std::env::var(name).ok())
            .map_err(|error| bad_input(format!("job file {}: {error}", path.display())))
    }

    /// Parses the text of a job file.
    pub(crate) fn parse(
        name: &str,
        text: &str,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> anyhow::Result<Self> {
        let file: JobFile =
            toml::from_str(text).map_err(|error| bad_input(error.to_string().trim_end()))?;
        let mut paths = Vec::new();
        for path in file.source.paths()? {
            paths.push(files::expand(&path, variable)?);
        }
        let format = file.source.format()?;
        file.source.check_before_images(&format)?;
        if let Some(table) = &file.table {
            table.check()?;
        }
        let mut options = BTreeMap::new();
        flatten("", &file.sink, &mut options)?;
        let (name, before_images) = (String::from(name), file.source.before_images);
        Ok(Self { name, paths, format, before_images, table: file.table, options })
    }
}

impl SourceTable {
    fn paths(&self) -> anyhow::Result<Vec<String>> {
        match (&self.path, &self.paths) {
            (Some(path), None) => Ok(vec![path.clone()]),
            (None, Some(paths)) if !paths.is_empty() => Ok(paths.clone()),
            _ => Err(bad_input(
                "[source]: give either `path = \"…\"` or `paths = [\"…\", …]`; `-` is standard \
                input",
            )),
        }
    }

    fn format(&self) -> anyhow::Result<Format> {
        let op = self.op()?;
        self.check_keys_of_csv()?;
        match self.format {
            FormatName::Csv => {
                let schema = self.schema()?;
                let layout = self.csv_layout(&schema, op.as_ref())?;
                Ok(Format::Csv { schema, op, layout })
            }
            FormatName::Parquet if self.paths()?.iter().any(|path| path == "-") => Err(bad_input(
                "[source] path = \"-\": Parquet is read from its end, so from files only; use JSON \
                or CSV",
            )),
            FormatName::Parquet => Ok(Format::Parquet { columns: self.columns.clone(), op }),
            FormatName::Json => Ok(Format::Json { schema: self.schema()?, op }),
            FormatName::Debezium if op.is_some() => Err(bad_input(
                "[source] op-column: an envelope has its own `op`; remove op-column, or set \
                format = \"json\"",
            )),
            FormatName::Debezium => Ok(Format::Debezium { schema: self.schema()? }),
        }
    }

    /// Who promises before-images must be able to have some.
    fn check_before_images(&self, format: &Format) -> anyhow::Result<()> {
        let has_some = match format {
            Format::Parquet { op, .. } | Format::Csv { op, .. } | Format::Json { op, .. } => {
                op.as_ref().is_some_and(OpColumn::has_before_images)
            }
            Format::Debezium { .. } => true,
        };
        if has_some || !self.before_images {
            return Ok(());
        }
        Err(bad_input(
            "[source] before-images = true: no value of an op column means `update-before`; set \
            op-column, and map one in [source.ops], or remove before-images",
        ))
    }

    fn check_keys_of_csv(&self) -> anyhow::Result<()> {
        let given = [
            ("header", self.header.is_some()),
            ("fields", self.fields.is_some()),
            ("delimiter", self.delimiter.is_some()),
            ("quote", self.quote.is_some()),
            ("null-text", self.null_text.is_some()),
        ];
        match given.iter().find(|(_, is_given)| *is_given) {
            Some((key, _)) if self.format != FormatName::Csv => Err(bad_input(format!(
                "[source] {key}: it is a key of CSV; remove it, or set format = \"csv\""
            ))),
            _ => Ok(()),
        }
    }

    fn csv_layout(&self, schema: &SchemaRef, op: Option<&OpColumn>) -> anyhow::Result<CsvLayout> {
        let naming = match (self.header, &self.fields) {
            (None | Some(true), None) => Naming::Header,
            (None | Some(false), Some(names)) => Naming::Job(names.clone()),
            (Some(false), None) if op.is_none() => {
                Naming::Job(schema.fields().iter().map(|field| field.name().clone()).collect())
            }
            (Some(false), None) => {
                return Err(bad_input(
                    "[source] header = false: which field is the op column? set fields = \
                     [\"name\", …] in the order of the file",
                ));
            }
            (Some(true), Some(_)) => {
                return Err(bad_input(
                    "[source] fields: the header names the fields; remove fields, or set header = \
                     false",
                ));
            }
        };
        let delimiter = symbol("delimiter", self.delimiter.as_deref().unwrap_or(","))?;
        let quote = match self.quote.as_deref() {
            Some("") => None,
            quote => Some(symbol("quote", quote.unwrap_or("\""))?),
        };
        if Some(delimiter) == quote {
            return Err(bad_input(
                "[source] quote: it is the delimiter, too; set them to different characters",
            ));
        }
        let null_text = self.null_text.clone().unwrap_or_default();
        if let Naming::Job(names) = &naming {
            check_fields(names, schema, op)?;
        }
        Ok(CsvLayout { naming, delimiter, quote, null_text })
    }

    fn op(&self) -> anyhow::Result<Option<OpColumn>> {
        match (&self.op_column, &self.ops) {
            (None, None) => Ok(None),
            (None, Some(_)) => Err(bad_input(
                "[source.ops]: these are values of which column? set op-column = \"…\"",
            )),
            (Some(name), None) => Ok(Some(OpColumn::new(name))),
            (Some(name), Some(values)) => OpColumn::with_values(name, values)
                .map(Some)
                .map_err(|fault| bad_input(format!("[source.ops]: {fault}"))),
        }
    }

    fn schema(&self) -> anyhow::Result<SchemaRef> {
        let Some(columns) = self.columns.as_ref().filter(|columns| !columns.is_empty()) else {
            return Err(bad_input(
                "[source] columns: text has no types of its own; set columns = [\"name TYPE\", …]",
            ));
        };
        let mut fields: Vec<Field> = Vec::with_capacity(columns.len());
        for column in columns {
            let field = parse_column(column)
                .map_err(|fault| bad_input(format!("[source] columns: {fault}")))?;
            if fields.iter().any(|before| before.name() == field.name()) {
                let name = field.name();
                return Err(bad_input(format!("[source] columns: `{name}` is there twice")));
            }
            fields.push(field.with_nullable(true));
        }
        Ok(SchemaRef::new(Schema::new(fields)))
    }
}

impl JobTable {
    /// The columns are understood, and the key is among them.
    fn check(&self) -> anyhow::Result<()> {
        let names: Vec<&str> = self.columns.iter().map(|column| column_name(column)).collect();
        for key in &self.primary_key {
            if !names.contains(&key.as_str()) {
                let columns = names.join(", ");
                return Err(bad_input(format!(
                    "[table] primary-key: `{key}` is none of the columns {columns}"
                )));
            }
        }
        if self.primary_key.is_empty() {
            return Err(bad_input(
                "[table] primary-key: a Delta table needs one; name its columns",
            ));
        }
        if self.buckets == 0 {
            return Err(bad_input("[table] buckets = 0: a table has at least one bucket"));
        }
        self.new_table(RowForm::Whole).map(drop)
    }

    /// The table that is to be created.
    pub(crate) fn new_table(&self, rows: RowForm) -> anyhow::Result<NewTable> {
        let columns = parsed("columns", &self.columns)?;
        let key = self.primary_key.clone();
        let name = self.name.parse();
        let name = name.map_err(|error| bad_input(format!("[table] name: {error}")))?;
        let mut table = NewTable::new(name, columns, key, self.buckets);
        table.partition_columns = parsed("partitioned-by", &self.partitioned_by)?;
        table.partial_update = rows == RowForm::Partial;
        Ok(table)
    }

    /// The names of the partition columns.
    pub(crate) fn partition_names(&self) -> Vec<String> {
        self.partitioned_by.iter().map(|column| String::from(column_name(column))).collect()
    }

    /// The names of the other columns.
    pub(crate) fn column_names(&self) -> Vec<String> {
        self.columns.iter().map(|column| String::from(column_name(column))).collect()
    }
}

fn parsed(key: &str, columns: &[String]) -> anyhow::Result<Vec<NewColumn>> {
    let parse = |text: &String| {
        NewColumn::parse(text).map_err(|error| bad_input(format!("[table] {key}: {error}")))
    };
    columns.iter().map(parse).collect()
}

fn column_name(definition: &str) -> &str {
    definition.split_whitespace().next().unwrap_or_default().trim_matches('`')
}

/// One ASCII character that is no end of line.
fn symbol(key: &str, text: &str) -> anyhow::Result<u8> {
    match text.as_bytes() {
        [byte] if byte.is_ascii() && !matches!(byte, b'\r' | b'\n') => Ok(*byte),
        _ => Err(bad_input(format!(
            "[source] {key} = {text:?}: it must be one ASCII character, such as \",\" or \"\\t\""
        ))),
    }
}

/// Whatever the job reads is among the fields that it names.
fn check_fields(names: &[String], schema: &Schema, op: Option<&OpColumn>) -> anyhow::Result<()> {
    let columns = schema.fields().iter().map(|field| field.name());
    for column in columns.chain(op.map(|op| &op.name)) {
        if !names.contains(column) {
            return Err(bad_input(format!(
                "[source] fields: `{column}` is none of them; name the fields in the order of the \
                 file"
            )));
        }
    }
    match (1..names.len()).find(|at| names[..*at].contains(&names[*at])) {
        Some(at) => Err(bad_input(format!("[source] fields: `{}` is there twice", names[at]))),
        None => Ok(()),
    }
}

/// Options may be written as quoted names or as TOML's dotted keys.
fn flatten(
    prefix: &str,
    table: &toml::Table,
    options: &mut BTreeMap<String, String>,
) -> anyhow::Result<()> {
    for (key, value) in table {
        let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        let text = match value {
            toml::Value::String(text) => text.clone(),
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Float(number) => number.to_string(),
            toml::Value::Boolean(flag) => flag.to_string(),
            toml::Value::Table(inner) => {
                flatten(&name, inner, options)?;
                continue;
            }
            toml::Value::Array(_) | toml::Value::Datetime(_) => {
                return Err(bad_input(format!(
                    "[sink] {name} = {value}: an option is text, a number or a boolean"
                )));
            }
        };
        options.insert(name, text);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> anyhow::Result<Job> {
        Job::parse("job", text, &|name| (name == "FEED").then(|| String::from("/feed")))
    }

    #[test]
    fn a_whole_job_is_understood() {
        let job = parse(
            r#"
            [source]
            format = "json"
            paths = ["${FEED}/*.json"]
            columns = ["id BIGINT NOT NULL", "v STRING"]
            op-column = "op"
            ops = { put = "update", del = "delete" }
            [table]
            name = "t"
            columns = ["id BIGINT", "v STRING"]
            primary-key = ["id"]
            partitioned-by = ["day STRING"]
            buckets = 4
            [sink]
            "sink.parallelism" = 2
            upsert.writer.buffer-size = "8mb"
            "#,
        )
        .expect("valid");
        assert_eq!(job.paths, ["/feed/*.json"]);
        assert_eq!(job.options["sink.parallelism"], "2");
        assert_eq!(job.options["upsert.writer.buffer-size"], "8mb");
        let table = job.table.expect("described");
        let whole = table.new_table(RowForm::Whole).expect("its columns are understood");
        let names = whole.columns.iter().map(|column| column.name.as_str());
        assert_eq!(names.collect::<Vec<_>>(), ["id", "v"]);
        assert_eq!((whole.primary_key, whole.buckets), (vec![String::from("id")], 4));
        assert_eq!(whole.partition_columns[0].name, "day");
        let partial = table.new_table(RowForm::Partial).expect("its columns are understood");
        assert!(partial.partial_update && !whole.partial_update);
        let Format::Json { schema, op } = job.format else { panic!("it is JSON") };
        assert!(schema.field(0).is_nullable() && op.is_some());
    }

    /// The first job that a text of Markdown shows.
    fn shown_in(markdown: &str) -> Job {
        let text = markdown.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next());
        parse(text.expect("it shows a job")).expect("valid")
    }

    #[test]
    fn the_jobs_that_readmes_show_are_understood() {
        let short = shown_in(include_str!("../../../README.md"));
        assert!(matches!(short.format, Format::Csv { op: Some(_), .. }) && short.table.is_some());
        let long = shown_in(include_str!("../README.md"));
        let Format::Csv { layout, op, .. } = long.format else { panic!("it is CSV") };
        assert_eq!((layout.delimiter, layout.null_text.as_str()), (b';', "\\N"));
        assert!(op.is_some() && long.table.is_some());
    }

    #[test]
    fn every_mistake_names_its_key() {
        let source = "[source]\nformat = \"parquet\"\npath = \"a\"\n";
        let csv = source.replace("parquet", "csv") + "columns = [\"id BIGINT\"]\n";
        for (text, part) in [
            (String::new(), "source"),
            (format!("{source}colums = []\n"), "colums"),
            (format!("{source}[sinks]\n"), "sinks"),
            (source.replace("parquet", "cvs"), "cvs"),
            (source.replace("parquet", "csv"), "columns"),
            (format!("{source}delimiter = \";\"\n"), "delimiter"),
            (format!("{csv}delimiter = \";;\"\n"), "delimiter = \";;\""),
            (format!("{csv}quote = \",\"\n"), "quote"),
            (format!("{csv}header = true\nfields = [\"id\"]\n"), "fields"),
            (format!("{csv}fields = [\"ident\"]\n"), "`id` is none of them"),
            (format!("{csv}fields = [\"id\", \"id\"]\n"), "`id` is there twice"),
            (format!("{csv}header = false\nop-column = \"op\"\n"), "which field is the op"),
            (source.replace("\"a\"", "\"${NOPE}\""), "NOPE is not set"),
            (source.replace("path", "paths"), "paths"),
            (source.replace("\"a\"", "\"-\""), "from files only"),
            (source.replace("parquet", "json"), "columns"),
            (format!("{source}ops = {{ a = \"insert\" }}\n"), "op-column"),
            (format!("{source}before-images = true\n"), "update-before"),
            (
                format!(
                    "{source}op-column = \"op\"\nops = {{ a = \"insert\" }}\nbefore-images = true\n"
                ),
                "before-images",
            ),
            (format!("{source}op-column = \"op\"\nops = {{ a = \"upsert\" }}\n"), "\"upsert\""),
            (format!("{source}[sink]\n\"sink.parallelism\" = [1]\n"), "sink.parallelism"),
            (
                format!(
                    "{source}[table]\nname=\"t\"\ncolumns=[\"a \
                    INT\"]\nprimary-key=[\"b\"]\nbuckets=1\n"
                ),
                "primary-key",
            ),
            (
                format!(
                    "{source}[table]\nname=\"t\"\ncolumns=[\"a \
                    INTY\"]\nprimary-key=[\"a\"]\nbuckets=1\n"
                ),
                "[table] columns: `a INTY`",
            ),
        ] {
            let error = parse(&text).expect_err(&text);
            assert!(error.to_string().contains(part), "{text}: {error}");
            assert_eq!(crate::failure::exit_code(&error), 2);
        }
    }
}
