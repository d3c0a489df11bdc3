//! The promises of partitions: names, defaults, refusals, and the limit.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use alloc::{format, vec};

use proptest::prelude::*;
use upsert_sink_format::batch::{BatchBuilder, ColumnBuilder};
use upsert_sink_format::id::Millis;
use upsert_sink_format::tunnel::{ColumnDescription, TableDescription};

use super::*;
use crate::config::TaskFacts;

fn column(name: &str, column_type: &str) -> ColumnDescription {
    ColumnDescription { name: name.into(), column_type: column_type.into(), nullable: true }
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

/// A partitioner for a table `id bigint` with these partition columns, of which some are in the
/// rows.
struct Case {
    plan: RowPlan,
    partitioner: Partitioner,
    indexes: Vec<PartitionIndex>,
    faults: Vec<(usize, RowFault)>,
}

impl Case {
    fn new(partition: &[(&str, &str)], rows: &[(&str, &str)], options: &[(&str, &str)]) -> Self {
        let table = TableDescription {
            name: "t".into(),
            columns: vec![column("id", "bigint")],
            partition_columns: partition.iter().map(|(name, of)| column(name, of)).collect(),
            primary_key: vec!["id".into()],
            buckets: 4,
        };
        let schema = TableSchema::parse(&table).expect("the table is well-formed");
        let mut columns = pairs(&[("id", "BIGINT")]);
        columns.extend(pairs(rows));
        let facts = TaskFacts {
            parallelism: 1,
            local: true,
            checkpoint_interval: Millis(0),
            before_images: false,
        };
        let (config, _) = SinkConfig::parse(&pairs(options), &schema, &columns, &facts)
            .expect("options are right");
        let plan =
            RowPlan::new(&schema, &columns, &config.static_partition()).expect("columns are right");
        let partitioner = Partitioner::new(&schema, &plan, &config);
        Self { plan, partitioner, indexes: Vec::new(), faults: Vec::new() }
    }

    fn assign(&mut self, columns: &[ColumnBuilder], rows: usize) -> Result<(), Error> {
        let id = ColumnBuilder::int64((0..rows as i64).map(Some));
        let first = BatchBuilder::new(rows).column(id);
        let bytes =
            columns.iter().fold(first, |batch, column| batch.column(column.clone())).build();
        let batch = RowBatch::parse(&bytes, &self.plan).expect("the batch is well-formed");
        self.partitioner.assign(&batch, &mut self.indexes, &mut self.faults)
    }

    /// The name of each row's partition; a refused row has none.
    fn specs(&self) -> Vec<Option<&str>> {
        let spec =
            |index: &PartitionIndex| (!index.is_refused()).then(|| self.partitioner.spec(*index));
        self.indexes.iter().map(spec).collect()
    }
}

/// The names that rows with these texts get in a table partitioned by one string column.
fn by_day(options: &[(&str, &str)], days: &[Option<&str>]) -> (Case, Result<(), Error>) {
    let mut case = Case::new(&[("day", "string")], &[("day", "STRING")], options);
    let done = case.assign(&[ColumnBuilder::utf8(days.iter().copied())], days.len());
    (case, done)
}

#[test]
fn a_table_without_partitions_has_one_with_an_empty_name() {
    let mut case = Case::new(&[], &[], &[]);
    case.assign(&[], 3).expect("no limit is reached");
    assert_eq!(case.specs(), [Some(""); 3]);
    assert_eq!(case.partitioner.len(), 1);
}

#[test]
fn fixed_levels_and_levels_of_the_row_make_one_name() {
    let levels = [("day", "string"), ("hour", "int"), ("on", "date")];
    let mut case =
        Case::new(&levels, &[("HOUR", "INT"), ("on", "DATE")], &[("partition", "day='d 1'")]);
    let hours = ColumnBuilder::int32([Some(7), Some(7), Some(-12)]);
    let dates = ColumnBuilder::date32([Some(0), Some(0), Some(-719_162)]);
    case.assign(&[hours, dates], 3).expect("no limit is reached");
    let first = "day='d 1',hour='7',on='1970-01-01'";
    let last = "day='d 1',hour='-12',on='0001-01-01'";
    assert_eq!(case.specs(), [Some(first), Some(first), Some(last)]);
}

#[test]
fn null_and_empty_go_to_the_default_partition() {
    let (case, _) = by_day(&[], &[None, Some(""), Some("__DEFAULT_PARTITION__"), Some("x")]);
    assert_eq!(case.indexes, [0, 0, 0, 1].map(PartitionIndex));
    assert_eq!(case.specs()[0], Some("day='__DEFAULT_PARTITION__'"));
    let (case, _) = by_day(&[("sink.partition.default-value", "none")], &[None]);
    assert_eq!(case.specs(), [Some("day='none'")]);
}

#[test]
fn null_in_a_column_that_is_not_text_is_refused() {
    let mut case = Case::new(&[("hour", "bigint")], &[("hour", "BIGINT")], &[]);
    case.assign(&[ColumnBuilder::int64([Some(1), None, Some(1)])], 3).expect("no limit is reached");
    assert_eq!(case.specs(), [Some("hour='1'"), None, Some("hour='1'")]);
    assert_eq!(case.faults[0].0, 1);
    assert_eq!(case.faults[0].1.column, "hour");
    assert!(case.faults[0].1.rule.contains("NULL"));
}

#[test]
fn values_that_cannot_be_part_of_a_name_are_refused_with_the_rule() {
    let long = "x".repeat(256);
    let bad = ["a'b", "a\"b", "a/b", "a,b", "a=b", "a\\b", "a\nb", "a\0b", "\0", "a\u{85}b", &long];
    let rows: Vec<Option<&str>> = bad.iter().flat_map(|text| [Some("good"), Some(*text)]).collect();
    let (case, done) = by_day(&[], &rows);
    done.expect("no limit is reached");
    assert_eq!(case.faults.len(), bad.len());
    for (nth, (row, fault)) in case.faults.iter().enumerate() {
        assert_eq!(*row, 2 * nth + 1);
        assert!(case.indexes[*row].is_refused());
        assert!(fault.rule.contains("255 bytes") && !fault.rule.contains("good"), "{fault}");
    }
    assert_eq!(case.partitioner.len(), 1);
    let (case, _) = by_day(&[], &[Some(&"y".repeat(255)), Some("Größe 3 %")]);
    assert_eq!((case.faults.len(), case.partitioner.len()), (0, 2));
}

#[test]
fn a_value_longer_than_its_column_is_refused() {
    let mut case = Case::new(&[("day", "varchar(3)")], &[("day", "STRING")], &[]);
    case.assign(&[ColumnBuilder::utf8([Some("äöü"), Some("abcd")])], 2)
        .expect("no limit is reached");
    assert_eq!(case.specs(), [Some("day='äöü'"), None]);
    assert!(case.faults[0].1.rule.contains("at most 3"));
}

#[test]
fn too_many_dynamic_partitions_name_option_limit_and_remedy() {
    let days: Vec<String> = (0..101).map(|n| format!("d{n}")).collect();
    let texts: Vec<Option<&str>> = days.iter().map(|day| Some(day.as_str())).collect();
    let (mut case, done) = by_day(&[], &texts[..100]);
    done.expect("100 are allowed");
    let more = case.assign(&[ColumnBuilder::utf8([Some("d0"), Some("d100")])], 2);
    let message = more.expect_err("101 are not").to_string();
    for word in ["Too many dynamic partitions", "`sink.dynamic-partition.limit`", "100", "raise"] {
        assert!(message.contains(word), "`{message}` does not say `{word}`");
    }
    case.partitioner.forget();
    case.assign(&[ColumnBuilder::utf8(texts[1..].iter().copied())], 100).expect("counted anew");
    assert_eq!(case.specs()[99], Some("day='d100'"));
}

proptest! {
    #[test]
    fn rows_share_a_partition_exactly_if_they_share_all_values(
        rows in proptest::collection::vec(
            (proptest::option::of("[ab]{0,2}|[a-z]{9,20}"), -2..2_i64),
            1..200,
        ),
    ) {
        let levels = [("day", "string"), ("hour", "bigint")];
        let columns = [("hour", "BIGINT"), ("day", "STRING")];
        let mut case = Case::new(&levels, &columns, &[("sink.dynamic-partition.limit", "1000")]);
        let hours = ColumnBuilder::int64(rows.iter().map(|row| Some(row.1)));
        let days = ColumnBuilder::utf8(rows.iter().map(|row| row.0.as_deref()));
        case.assign(&[hours, days], rows.len()).expect("no limit is reached");
        let mut known = BTreeMap::new();
        for ((day, hour), index) in rows.iter().zip(&case.indexes) {
            let day = day.as_deref().filter(|day| !day.is_empty());
            let day = day.unwrap_or("__DEFAULT_PARTITION__");
            let next = PartitionIndex(known.len() as u32);
            prop_assert_eq!(*known.entry((day, hour)).or_insert(next), *index);
            prop_assert_eq!(case.partitioner.spec(*index), format!("day='{day}',hour='{hour}'"));
        }
    }
}

/// More partitions than are remembered, in an order without order; an empty text is the default's
/// second name.
#[test]
fn rows_that_jump_between_partitions_find_their_own_every_time() {
    let name = |n: usize| match n % 331 {
        0 => String::new(),
        1 => String::from("__DEFAULT_PARTITION__"),
        n => format!("{}{n}", if n % 3 == 0 { "day-with-a-long-name-" } else { "d" }),
    };
    let days: Vec<String> = (0..5_000).map(|row| name(row * row * 7 + row / 3)).collect();
    let hours: Vec<String> = (0..5_000).map(|row| name(row * 13 / 5 % 3)).collect();
    let expected = |text: &str| {
        if text.is_empty() { String::from("__DEFAULT_PARTITION__") } else { String::from(text) }
    };
    let column = |texts: &[String]| ColumnBuilder::utf8(texts.iter().map(|t| Some(t.as_str())));
    let limit = [("sink.dynamic-partition.limit", "5000")];
    let mut one = Case::new(&[("day", "string")], &[("day", "STRING")], &limit);
    let levels = [("day", "string"), ("hour", "string")];
    let mut two = Case::new(&levels, &[("day", "STRING"), ("hour", "STRING")], &limit);
    for _ in 0..2 {
        one.assign(&[column(&days)], days.len()).expect("below the limit");
        two.assign(&[column(&days), column(&hours)], days.len()).expect("below the limit");
        let named = one.specs();
        let named_twice = two.specs();
        for (row, (day, hour)) in days.iter().zip(&hours).enumerate() {
            let day = expected(day);
            let hour = expected(hour);
            assert_eq!(named[row], Some(&*format!("day='{day}'")), "row {row}");
            assert_eq!(named_twice[row], Some(&*format!("day='{day}',hour='{hour}'")));
        }
        one.partitioner.forget();
        two.partitioner.forget();
    }
}
