//! Debezium change events: an envelope with `op`, `before` and `after`, one per line, with or
//! without its schema.
//!
//! `lines.rs` gives the lines, `json.rs` parses them, `columns.rs` builds the rows. Invariant: a
//! change that moves a row to another key or partition is an update-before of the old row and an
//! update-after of the new one; a change that cannot be told exactly is refused with its line.

use arrow_schema::SchemaRef;
use upsert_sink::{RowKind, TableDescription};

use crate::job::{Format, Job};
use crate::source::columns::build_batch;
use crate::source::json::parse_lines;
use crate::source::lines::LineReader;
use crate::source::value::Json;
use crate::source::{Events, Source};

/// Envelopes, each a change of a row.
pub(crate) struct DebeziumSource {
    reader: LineReader,
    schema: SchemaRef,
    place: RowPlace,
}

/// The columns that say where a row lives.
#[derive(Clone, Debug)]
pub(crate) struct RowPlace {
    /// The table's primary key.
    pub(crate) key: Vec<String>,
    /// Those of the table's partition columns that come with the rows.
    pub(crate) partition: Vec<String>,
    /// Whether the job promises that every update has its before-image.
    pub(crate) before_images: bool,
}

impl DebeziumSource {
    /// Reads rows of `schema`, of which every field is nullable.
    pub(crate) fn new(reader: LineReader, schema: SchemaRef, place: RowPlace) -> Self {
        Self { reader, schema, place }
    }
}

impl Source for DebeziumSource {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn next(&mut self) -> anyhow::Result<Option<Events>> {
        let Some(lines) = self.reader.next()? else { return Ok(None) };
        let parsed = parse_lines(&lines)?;
        let mut images = Vec::with_capacity(parsed.len());
        let mut kinds = Vec::with_capacity(parsed.len());
        let mut origins = Vec::with_capacity(parsed.len());
        for (index, envelope) in &parsed {
            let rows = self.place.rows(envelope).map_err(|fault| lines.fault(*index, &fault))?;
            for (kind, image) in rows {
                kinds.push(kind);
                images.push(image);
                origins.push(*index);
            }
        }
        let rows = build_batch(&self.schema, &images);
        let rows = rows.map_err(|error| lines.fault(origins[error.row], &error.message))?;
        Ok(Some(Events { rows, kinds, events: lines.len() as u64, end: lines.end }))
    }
}

type Rows<'v, 'a> = Vec<(RowKind, &'v Json<'a>)>;

impl RowPlace {
    /// Where the rows of a job live, as the table itself says; none if no source asks for it.
    pub(crate) fn of(job: &Job, table: &TableDescription) -> Option<Self> {
        let Format::Debezium { schema } = &job.format else { return None };
        let partition = table.partition_columns.iter().map(|column| column.name.clone());
        let partition = partition.filter(|name| schema.index_of(name).is_ok()).collect();
        let (key, before_images) = (table.primary_key.clone(), job.before_images);
        Some(Self { key, partition, before_images })
    }

    /// The rows of an envelope: none, one, or two.
    fn rows<'v, 'a>(&self, envelope: &'v Json<'a>) -> Result<Rows<'v, 'a>, String> {
        // A tombstone says to Kafka that the key is gone; the delete before it said so to us.
        if envelope.is_null() {
            return Ok(Vec::new());
        }
        let payload = match envelope.field("payload") {
            None => envelope,
            Some(Json::Null) => return Ok(Vec::new()),
            Some(payload) => payload,
        };
        let Some(Json::Text(op)) = payload.field("op") else {
            return Err(String::from(
                "no `op`: this is no Debezium envelope; for plain rows set format = \"json\"",
            ));
        };
        let before = payload.field("before").filter(|image| !image.is_null());
        let after = payload.field("after").filter(|image| !image.is_null());
        match op.as_ref() {
            "c" | "r" => Ok(vec![(RowKind::Insert, required(after, "after", op)?)]),
            "u" => self.update(before, required(after, "after", op)?),
            "d" => {
                let before = required(before, "before", op)?;
                self.check_partition(before)?;
                Ok(vec![(RowKind::Delete, before)])
            }
            // A logical message carries no row.
            "m" => Ok(Vec::new()),
            "t" => Err(String::from(
                "op \"t\" truncates the whole table, which no upsert can express; truncate the \
                table yourself, remove this line, or set `skipped.operations=t` in Debezium",
            )),
            other => Err(format!("op {other:?}: the known ones are c, r, u, d, t and m")),
        }
    }

    fn update<'v, 'a>(
        &self,
        before: Option<&'v Json<'a>>,
        after: &'v Json<'a>,
    ) -> Result<Rows<'v, 'a>, String> {
        if self.before_images && before.is_none() {
            return Err(String::from(
                "op \"u\" without `before`, and the job says before-images = true; let the \
                database log whole rows (PostgreSQL: REPLICA IDENTITY FULL, MySQL: \
                binlog_row_image=FULL), or remove before-images from [source]",
            ));
        }
        let moved = before.filter(|before| self.moved(before, after));
        let mut rows = Vec::with_capacity(2);
        if let Some(before) = moved {
            self.check_partition(before)?;
            rows.push((RowKind::UpdateBefore, before));
        }
        rows.push((RowKind::UpdateAfter, after));
        Ok(rows)
    }

    fn moved(&self, before: &Json<'_>, after: &Json<'_>) -> bool {
        let columns = self.key.iter().chain(&self.partition);
        let value = |image: &Json<'_>, name: &str| {
            image.field(name).cloned().unwrap_or(Json::Null) == Json::Null
        };
        columns.into_iter().any(|name| {
            let both_null = value(before, name) && value(after, name);
            !both_null && before.field(name) != after.field(name)
        })
    }

    /// A delete without its partition would be applied to the wrong one.
    fn check_partition(&self, before: &Json<'_>) -> Result<(), String> {
        let known = |name: &&String| before.field(name).is_some_and(|value| !value.is_null());
        match self.partition.iter().find(|name| !known(name)) {
            None => Ok(()),
            Some(name) => Err(format!(
                "`before` has no value of partition column `{name}`, so the old row cannot be \
                found; let the database log whole rows (PostgreSQL: REPLICA IDENTITY FULL, MySQL: \
                binlog_row_image=FULL)"
            )),
        }
    }
}

fn required<'v, 'a>(
    image: Option<&'v Json<'a>>,
    name: &str,
    op: &str,
) -> Result<&'v Json<'a>, String> {
    match image {
        Some(image @ Json::Object(_)) => Ok(image),
        Some(other) => Err(format!("`{name}` of op {op:?} is {}, not an object", other.describe())),
        None => Err(format!(
            "op {op:?} without `{name}`: the row is not known; let the database log whole rows"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::value::parse;

    fn place() -> RowPlace {
        let (key, partition) = (vec![String::from("id")], vec![String::from("day")]);
        RowPlace { key, partition, before_images: false }
    }

    fn kinds(envelope: &str) -> Result<Vec<(RowKind, String)>, String> {
        let envelope = parse(envelope).expect("JSON");
        let rows = place().rows(&envelope)?;
        let id = |image: &Json<'_>| image.field("id").map(Json::describe).unwrap_or_default();
        Ok(rows.into_iter().map(|(kind, image)| (kind, id(image))).collect())
    }

    #[test]
    fn each_operation_becomes_its_rows() {
        let one = String::from("1");
        let row = "{\"id\":1,\"day\":\"a\"}";
        let insert = Ok(vec![(RowKind::Insert, one.clone())]);
        assert_eq!(kinds(&format!("{{\"op\":\"c\",\"after\":{row}}}")), insert);
        assert_eq!(kinds(&format!("{{\"op\":\"r\",\"before\":null,\"after\":{row}}}")), insert);
        let wrapped = format!("{{\"schema\":{{}},\"payload\":{{\"op\":\"c\",\"after\":{row}}}}}");
        assert_eq!(kinds(&wrapped), insert);
        let update = Ok(vec![(RowKind::UpdateAfter, one.clone())]);
        assert_eq!(kinds(&format!("{{\"op\":\"u\",\"before\":{row},\"after\":{row}}}")), update);
        assert_eq!(kinds(&format!("{{\"op\":\"u\",\"before\":null,\"after\":{row}}}")), update);
        let delete = Ok(vec![(RowKind::Delete, one)]);
        assert_eq!(kinds(&format!("{{\"op\":\"d\",\"before\":{row},\"after\":null}}")), delete);
    }

    #[test]
    fn a_row_that_moves_is_deleted_where_it_was() {
        let moved = Ok(vec![
            (RowKind::UpdateBefore, String::from("1")),
            (RowKind::UpdateAfter, String::from("2")),
        ]);
        let text =
            "{\"op\":\"u\",\"before\":{\"id\":1,\"day\":\"a\"},\"after\":{\"id\":2,\"day\":\"a\"}}";
        assert_eq!(kinds(text), moved);
        let moved = Ok(vec![
            (RowKind::UpdateBefore, String::from("1")),
            (RowKind::UpdateAfter, String::from("1")),
        ]);
        let text =
            "{\"op\":\"u\",\"before\":{\"id\":1,\"day\":\"a\"},\"after\":{\"id\":1,\"day\":\"b\"}}";
        assert_eq!(kinds(text), moved);
    }

    #[test]
    fn an_update_without_its_before_image_is_refused_if_the_job_promises_one() {
        let place = RowPlace { before_images: true, ..place() };
        let rows = |text| place.rows(&parse(text).expect("JSON")).map(|rows| rows.len());
        let update = "{\"op\":\"u\",\"before\":null,\"after\":{\"id\":1,\"day\":\"a\"}}";
        let fault = rows(update).expect_err("it is promised");
        assert!(fault.contains("before-images") && fault.contains("REPLICA IDENTITY"), "{fault}");
        assert_eq!(rows("{\"op\":\"c\",\"after\":{\"id\":1,\"day\":\"a\"}}"), Ok(1));
    }

    #[test]
    fn tombstones_and_messages_have_no_rows() {
        for text in ["null", "{\"schema\":null,\"payload\":null}", "{\"op\":\"m\",\"message\":{}}"]
        {
            assert_eq!(kinds(text), Ok(Vec::new()));
        }
    }

    #[test]
    fn what_cannot_be_told_exactly_is_refused() {
        for (text, part) in [
            ("{\"op\":\"t\"}", "truncates the whole table"),
            ("{\"op\":\"x\"}", "the known ones are"),
            ("{\"id\":1}", "no Debezium envelope"),
            ("{\"op\":\"d\",\"before\":null}", "without `before`"),
            ("{\"op\":\"d\",\"before\":{\"id\":1}}", "REPLICA IDENTITY FULL"),
            ("{\"op\":\"c\",\"after\":5}", "not an object"),
        ] {
            let fault = kinds(text).expect_err(text);
            assert!(fault.contains(part), "{fault}");
        }
    }
}
