//! The columns of a result: each has a name that clients can use, and one of a table's types.
//!
//! Made of a query's schema or of a table, before the first row. Invariant: a batch that conforms
//! has exactly the Arrow types that files of tables have, so that nothing behind it meets others.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::{DataType, Field, IntervalUnit, Schema, SchemaRef, TimeUnit};
use serde_json::{Value as Json, json};
use upsert_sink_format::schema::{ColumnType, TableSchema};

use crate::error::Refusal;
use crate::table::rows::{TYPE_KEY, data_type};

/// One column of a result.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ResultColumn {
    pub(crate) name: String,
    pub(crate) column_type: ColumnType,
}

/// The columns of a result.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shape {
    pub(crate) columns: Vec<ResultColumn>,
}

impl Shape {
    /// The columns of a table that are stored in rows.
    pub(crate) fn of_table(table: &TableSchema) -> Self {
        let column = |c: &upsert_sink_format::schema::TableColumn| ResultColumn {
            name: c.name.clone(),
            column_type: c.column_type.clone(),
        };
        Self { columns: table.columns.iter().map(column).collect() }
    }

    /// The columns of a query. A column without a name of its own, such as `count(*)`, is named
    /// `_c0` by its place, as MaxCompute does.
    ///
    /// Errors, in words: a column of a type that no table can have.
    pub(crate) fn of_query(schema: &Schema) -> Result<Self, String> {
        let mut names = BTreeSet::new();
        let mut columns = Vec::with_capacity(schema.fields().len());
        for (at, field) in schema.fields().iter().enumerate() {
            let plain = |c: char| c.is_alphanumeric() || c == '_';
            let usable = !field.name().is_empty() && field.name().chars().all(plain);
            let name = match usable && names.insert(field.name().clone()) {
                true => field.name().clone(),
                false => format!("_c{at}"),
            };
            let column_type = column_type(field).ok_or_else(|| {
                format!(
                    "column {} of the result has the type {}, which no table can have; cast it \
                     to one that a table can have",
                    field.name(),
                    field.data_type()
                )
            })?;
            columns.push(ResultColumn { name, column_type });
        }
        Ok(Self { columns })
    }

    /// The Arrow schema of batches that conform.
    pub(crate) fn schema(&self) -> SchemaRef {
        let field = |c: &ResultColumn| Field::new(&c.name, data_type(&c.column_type), true);
        Arc::new(Schema::new(self.columns.iter().map(field).collect::<Vec<_>>()))
    }

    /// The same rows in the types of this shape.
    ///
    /// Errors, in words: a value that its column's type cannot hold.
    pub(crate) fn conform(&self, batch: &RecordBatch) -> Result<RecordBatch, String> {
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        let mut arrays = Vec::with_capacity(self.columns.len());
        for (column, array) in self.columns.iter().zip(batch.columns()) {
            let wanted = data_type(&column.column_type);
            arrays.push(match *array.data_type() == wanted {
                true => Arc::clone(array),
                false => cast_with_options(array, &wanted, &strict)
                    .map_err(|error| format!("column {}: {error}", column.name))?,
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let batch = RecordBatch::try_new_with_options(self.schema(), arrays, &options);
        batch.map_err(|error| error.to_string())
    }

    /// The places of these columns, in the order in which they are named; all if none is.
    ///
    /// Errors: `InvalidColumnSpec` for a name that there is not.
    pub(crate) fn pick(&self, names: Option<&str>) -> Result<Vec<usize>, Refusal> {
        let Some(names) = names.filter(|names| !names.is_empty()) else {
            return Ok((0..self.columns.len()).collect());
        };
        let mut picked = Vec::new();
        for name in names.split(',') {
            let at = self.columns.iter().position(|c| c.name.eq_ignore_ascii_case(name));
            let at = at.filter(|at| !picked.contains(at)).ok_or_else(|| {
                let all: Vec<&str> = self.columns.iter().map(|c| c.name.as_str()).collect();
                Refusal::invalid_columns(format!(
                    "columns={names}: {name:?} is named twice, or there is no such column; there \
                     are {}",
                    all.join(", ")
                ))
            })?;
            picked.push(at);
        }
        Ok(picked)
    }

    /// The shape as a download session describes it.
    pub(crate) fn tunnel_json(&self) -> Json {
        let column = |c: &ResultColumn| {
            json!({
                "name": c.name, "type": c.column_type.to_string(), "comment": "",
                "nullable": "true",
            })
        };
        let columns: Vec<Json> = self.columns.iter().map(column).collect();
        json!({ "columns": columns, "partitionKeys": [] })
    }

    /// The shape as the descriptor of an instance's result shows it.
    pub(crate) fn descriptor_json(&self) -> Json {
        let column =
            |c: &ResultColumn| json!({ "Name": c.name, "Type": c.column_type.to_string() });
        json!({ "Columns": self.columns.iter().map(column).collect::<Vec<_>>() })
    }
}

/// The type of a query's column: that of the table's column it was taken from, if its values are
/// still of that kind, else the one that holds its values.
fn column_type(field: &Field) -> Option<ColumnType> {
    let of_table = field.metadata().get(TYPE_KEY).and_then(|text| ColumnType::parse(text).ok());
    let of_table = of_table.filter(|column| data_type(column) == *field.data_type());
    of_table.or_else(|| holding(field.data_type()))
}

fn holding(arrow: &DataType) -> Option<ColumnType> {
    Some(match arrow {
        DataType::Null | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            ColumnType::String
        }
        DataType::Boolean => ColumnType::Boolean,
        DataType::Int8 => ColumnType::TinyInt,
        DataType::Int16 | DataType::UInt8 => ColumnType::SmallInt,
        DataType::Int32 | DataType::UInt16 => ColumnType::Int,
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => ColumnType::BigInt,
        DataType::Float16 | DataType::Float32 => ColumnType::Float,
        DataType::Float64 => ColumnType::Double,
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => ColumnType::Binary,
        DataType::Date32 | DataType::Date64 => ColumnType::Date,
        DataType::Timestamp(TimeUnit::Millisecond, Some(_)) => ColumnType::Datetime,
        DataType::Timestamp(_, Some(_)) => ColumnType::Timestamp,
        DataType::Timestamp(_, None) => ColumnType::TimestampNtz,
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale) => {
            ColumnType::Decimal { precision: *precision, scale: u8::try_from(*scale).ok()? }
        }
        DataType::Interval(IntervalUnit::YearMonth) => ColumnType::IntervalYearMonth,
        DataType::Duration(_) => ColumnType::IntervalDayTime,
        DataType::List(element)
        | DataType::LargeList(element)
        | DataType::FixedSizeList(element, _) => {
            ColumnType::Array(Box::new(holding(element.data_type())?))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => ColumnType::Map(
                Box::new(holding(fields.first()?.data_type())?),
                Box::new(holding(fields.get(1)?.data_type())?),
            ),
            _ => return None,
        },
        DataType::Struct(fields) if !fields.is_empty() => {
            let field = |f: &Arc<Field>| Some((f.name().clone(), holding(f.data_type())?));
            ColumnType::Struct(fields.iter().map(field).collect::<Option<_>>()?)
        }
        DataType::Dictionary(_, values) => holding(values)?,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_keeps_its_tables_type_while_its_values_do() {
        let field = |data_type| {
            let metadata = [(TYPE_KEY.to_owned(), "varchar(6)".to_owned())];
            Field::new("v", data_type, true).with_metadata(metadata.into())
        };
        assert_eq!(column_type(&field(DataType::Utf8)), Some(ColumnType::Varchar(6)));
        assert_eq!(column_type(&field(DataType::Int64)), Some(ColumnType::BigInt));
    }

    #[test]
    fn what_has_no_usable_name_is_named_by_its_place() {
        let field = |name: &str| Field::new(name, DataType::Int64, true);
        let schema = Schema::new(vec![field("count(*)"), field("a"), field("a")]);
        let shape = Shape::of_query(&schema).expect("integers");
        let names: Vec<&str> = shape.columns.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["_c0", "a", "_c2"]);
    }

    #[test]
    fn a_type_that_no_table_can_have_is_refused_by_name() {
        let field = Field::new("t", DataType::Time32(TimeUnit::Second), true);
        let message = Shape::of_query(&Schema::new(vec![field])).unwrap_err();
        assert!(message.contains("column t") && message.contains("Time32"), "{message}");
    }

    #[test]
    fn columns_are_picked_in_the_order_of_their_names() {
        let field = |name: &str| Field::new(name, DataType::Int64, true);
        let schema = Schema::new(vec![field("a"), field("b"), field("c")]);
        let shape = Shape::of_query(&schema).expect("integers");
        assert_eq!(shape.pick(Some("c,A")), Ok(vec![2, 0]));
        assert_eq!(shape.pick(None), Ok(vec![0, 1, 2]));
        for wrong in ["d", "a,a", "a,,b"] {
            assert_eq!(shape.pick(Some(wrong)).unwrap_err().code, "InvalidColumnSpec", "{wrong}");
        }
    }
}
