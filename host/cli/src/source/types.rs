//! Column definitions in job files: `name TYPE [NOT NULL]`, in Flink's words, as Arrow types.
//!
//! `job.rs` parses with it; `columns.rs` builds arrays of these types, and the sink maps them onto
//! the table's. Invariant: every type that parses can be built from JSON; one that cannot be is
//! refused here, by name.

use std::sync::Arc;

use arrow_schema::DataType;
use arrow_schema::Field;
use arrow_schema::Fields;
use arrow_schema::TimeUnit;

/// Types inside types, at most.
const NESTING_MAX: usize = 16;

/// Parses `name TYPE`, with `NOT NULL` or without.
///
/// Errors: what is wrong, as text.
pub(crate) fn parse_column(text: &str) -> Result<Field, String> {
    let mut words = Words::new(text);
    let name = words.name().ok_or_else(|| format!("{text:?}: write `name TYPE`"))?;
    let data_type = words.data_type(0).map_err(|fault| format!("{text:?}: {fault}"))?;
    let nullable = match words.rest() {
        "" => true,
        rest if rest
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .eq_ignore_ascii_case("not null") =>
        {
            false
        }
        rest => return Err(format!("{text:?}: {rest:?} after the type is not understood")),
    };
    Ok(Field::new(name, data_type, nullable))
}

struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    fn new(text: &'a str) -> Self {
        Self { rest: text.trim_start() }
    }

    fn rest(&self) -> &'a str {
        self.rest.trim()
    }

    fn take(&mut self, bytes: usize) -> &'a str {
        let (word, rest) = self.rest.split_at(bytes);
        self.rest = rest.trim_start();
        word
    }

    /// The next name, in backquotes or without.
    fn name(&mut self) -> Option<&'a str> {
        if let Some(quoted) = self.rest.strip_prefix('`') {
            let end = quoted.find('`')?;
            return Some(self.take(end + 2).trim_matches('`'));
        }
        let end = self.rest.find(|c: char| !(c.is_alphanumeric() || c == '_'));
        let end = end.unwrap_or(self.rest.len());
        (end > 0).then(|| self.take(end))
    }

    fn eat(&mut self, symbol: char) -> bool {
        let found = self.rest.starts_with(symbol);
        if found {
            self.take(symbol.len_utf8());
        }
        found
    }

    fn expect(&mut self, symbol: char) -> Result<(), String> {
        if self.eat(symbol) {
            Ok(())
        } else {
            Err(format!("`{symbol}` expected at {:?}", self.rest))
        }
    }

    fn numbers(&mut self) -> Result<Vec<u8>, String> {
        let mut numbers = Vec::new();
        if !self.eat('(') {
            return Ok(numbers);
        }
        loop {
            let word = self.name().unwrap_or_default();
            // Lengths of CHAR and VARCHAR go up to 65535, and are checked by the sink.
            let number = word.parse::<u16>().map_err(|_| format!("{word:?} is no number"))?;
            numbers.push(u8::try_from(number).unwrap_or(u8::MAX));
            if !self.eat(',') {
                break;
            }
        }
        self.expect(')')?;
        Ok(numbers)
    }

    fn data_type(&mut self, depth: usize) -> Result<DataType, String> {
        if depth > NESTING_MAX {
            return Err(format!("types are nested more than {NESTING_MAX} deep"));
        }
        let word = self.name().unwrap_or_default().to_ascii_uppercase();
        match word.as_str() {
            "ARRAY" => {
                self.expect('<')?;
                let element = self.data_type(depth + 1)?;
                self.expect('>')?;
                Ok(DataType::List(Arc::new(Field::new("element", element, true))))
            }
            "MAP" => self.map(depth),
            "ROW" | "STRUCT" => self.row(depth),
            _ => {
                let numbers = self.numbers()?;
                simple(&word, &numbers)
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<DataType, String> {
        self.expect('<')?;
        let key = self.data_type(depth + 1)?;
        if key != DataType::Utf8 {
            return Err(String::from("the keys of a JSON object are text: use MAP<STRING, …>"));
        }
        self.expect(',')?;
        let value = self.data_type(depth + 1)?;
        self.expect('>')?;
        let entries =
            Fields::from(vec![Field::new("key", key, false), Field::new("value", value, true)]);
        let entries = Field::new("entries", DataType::Struct(entries), false);
        Ok(DataType::Map(Arc::new(entries), false))
    }

    fn row(&mut self, depth: usize) -> Result<DataType, String> {
        self.expect('<')?;
        let mut fields = Vec::new();
        loop {
            let name = self.name().ok_or("a field's name is missing")?;
            self.eat(':');
            fields.push(Field::new(name, self.data_type(depth + 1)?, true));
            if !self.eat(',') {
                break;
            }
        }
        self.expect('>')?;
        Ok(DataType::Struct(Fields::from(fields)))
    }
}

fn simple(word: &str, numbers: &[u8]) -> Result<DataType, String> {
    Ok(match (word, numbers) {
        ("BOOLEAN", []) => DataType::Boolean,
        ("TINYINT", []) => DataType::Int8,
        ("SMALLINT", []) => DataType::Int16,
        ("INT" | "INTEGER", []) => DataType::Int32,
        ("BIGINT", []) => DataType::Int64,
        ("FLOAT", []) => DataType::Float32,
        ("DOUBLE", []) => DataType::Float64,
        ("DECIMAL", []) => DataType::Decimal128(38, 18),
        ("DECIMAL", [precision]) => decimal(*precision, 0)?,
        ("DECIMAL", [precision, scale]) => decimal(*precision, *scale)?,
        ("STRING" | "JSON" | "TIME", []) | ("CHAR" | "VARCHAR", [_]) => DataType::Utf8,
        ("TIME", [_]) => DataType::Utf8,
        ("BYTES" | "BINARY" | "VARBINARY", _) => DataType::Binary,
        ("DATE", []) => DataType::Date32,
        ("DATETIME", []) => DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
        ("TIMESTAMP" | "TIMESTAMP_NTZ", numbers) => DataType::Timestamp(unit(numbers)?, None),
        ("TIMESTAMP_LTZ", numbers) => DataType::Timestamp(unit(numbers)?, Some("UTC".into())),
        _ => return Err(format!("type {word} is not known here")),
    })
}

fn decimal(precision: u8, scale: u8) -> Result<DataType, String> {
    let fits = (1..=38).contains(&precision) && scale <= precision;
    let scale = i8::try_from(scale).ok().filter(|_| fits);
    let scale = scale.ok_or("DECIMAL(p, s): p is 1 to 38, s is 0 to p")?;
    Ok(DataType::Decimal128(precision, scale))
}

/// Flink's default is microseconds.
fn unit(numbers: &[u8]) -> Result<TimeUnit, String> {
    match numbers {
        [] | [4..=6] => Ok(TimeUnit::Microsecond),
        [0] => Ok(TimeUnit::Second),
        [1..=3] => Ok(TimeUnit::Millisecond),
        [7..=9] => Ok(TimeUnit::Nanosecond),
        _ => Err(String::from("the precision of a timestamp is 0 to 9")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> DataType {
        parse_column(&format!("c {text}")).expect("valid").data_type().clone()
    }

    #[test]
    fn every_type_of_the_documentation_parses() {
        assert_eq!(parse("bigint"), DataType::Int64);
        assert_eq!(parse("DECIMAL(10, 2)"), DataType::Decimal128(10, 2));
        assert_eq!(parse("VARCHAR(300)"), DataType::Utf8);
        assert_eq!(parse("TIMESTAMP(3)"), DataType::Timestamp(TimeUnit::Millisecond, None));
        let ltz = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
        assert_eq!(parse("TIMESTAMP_LTZ(9)"), ltz);
        assert!(matches!(parse("MAP<STRING, ARRAY<INT>>"), DataType::Map(_, false)));
        assert!(
            matches!(parse("ROW<a INT, b ROW<c STRING>>"), DataType::Struct(f) if f.len() == 2)
        );
    }

    #[test]
    fn names_and_nullability_are_kept() {
        let field = parse_column(" `odd name`  INT  not  null ").expect("valid");
        assert_eq!((field.name().as_str(), field.is_nullable()), ("odd name", false));
        assert!(parse_column("day STRING").expect("valid").is_nullable());
    }

    #[test]
    fn what_is_not_a_column_is_refused_with_its_text() {
        for text in [
            "",
            "x",
            "x BIGGINT",
            "x DECIMAL(99)",
            "x INT NULLABLE",
            "x ARRAY<INT",
            "m MAP<INT, INT>",
        ] {
            let fault = parse_column(text).expect_err(text);
            assert!(fault.contains(&format!("{text:?}")), "{fault}");
        }
        let deep = format!("x {}INT{}", "ARRAY<".repeat(20), ">".repeat(20));
        assert!(parse_column(&deep).expect_err("too deep").contains("nested"));
    }
}
