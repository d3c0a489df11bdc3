//! For each type of a table's column the type of rows that takes its place without loss.
//!
//! Used by `basics.rs`, which opens a writer on the user's table without having rows. Invariant:
//! what is answered may become the column's type, by the table of `wit/README.md`.

use upsert_sink_format::schema::ColumnType;

/// The row type, as a task writes it.
pub(super) fn row_type(column: &ColumnType) -> String {
    match column {
        ColumnType::Binary => String::from("BYTES"),
        ColumnType::Json => String::from("STRING"),
        ColumnType::Datetime => String::from("TIMESTAMP_LTZ(3)"),
        ColumnType::Timestamp => String::from("TIMESTAMP_LTZ(9)"),
        ColumnType::TimestampNtz => String::from("TIMESTAMP(9)"),
        ColumnType::IntervalYearMonth => String::from("INTERVAL YEAR TO MONTH"),
        ColumnType::IntervalDayTime => String::from("INTERVAL DAY TO SECOND"),
        ColumnType::Array(element) => format!("ARRAY<{}>", row_type(element)),
        ColumnType::Map(key, value) => format!("MAP<{}, {}>", row_type(key), row_type(value)),
        ColumnType::Struct(fields) => {
            let field = |(name, field): &(String, ColumnType)| {
                format!("`{}` {}", name.replace('`', "``"), row_type(field))
            };
            format!("ROW<{}>", fields.iter().map(field).collect::<Vec<_>>().join(", "))
        }
        same => same.to_string().to_uppercase(),
    }
}

#[cfg(test)]
mod tests {
    use upsert_sink_format::schema::RowType;

    use super::*;

    #[test]
    fn every_type_of_a_table_has_rows_that_become_it() {
        for text in [
            "bigint",
            "int",
            "smallint",
            "tinyint",
            "boolean",
            "float",
            "double",
            "decimal(10,2)",
            "string",
            "varchar(20)",
            "char(3)",
            "binary",
            "date",
            "datetime",
            "timestamp",
            "timestamp_ntz",
            "interval_year_month",
            "interval_day_time",
            "json",
            "array<bigint>",
            "map<string,array<datetime>>",
            "struct<a:bigint,b:map<string,struct<c:json>>>",
        ] {
            let column = ColumnType::parse(text).expect(text);
            let row = RowType::parse(&row_type(&column)).expect(text);
            assert!(row.may_become(&column), "{row} cannot become {column}");
        }
    }
}
