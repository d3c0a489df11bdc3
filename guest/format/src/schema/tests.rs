//! Promises of tables and plans: what fits is matched, what does not is refused by name.
//!
//! Belongs to `schema`. Invariant: each refusal names the column and the remedy.

use alloc::string::ToString;
use alloc::vec;

use super::*;

fn describe(name: &str, column_type: &str, nullable: bool) -> ColumnDescription {
    ColumnDescription { name: name.into(), column_type: column_type.into(), nullable }
}

fn flights() -> TableDescription {
    TableDescription {
        name: "local.flights".into(),
        columns: vec![
            describe("flight", "bigint", true),
            describe("carrier", "string", false),
            describe("distance", "int", false),
            describe("note", "varchar(5)", true),
        ],
        partition_columns: vec![describe("day", "string", false)],
        primary_key: vec!["Carrier".into(), "flight".into()],
        buckets: 8,
    }
}

fn pairs(text: &str) -> Vec<(String, String)> {
    text.split(';')
        .filter(|part| !part.is_empty())
        .map(|part| part.split_once(' ').map(|(a, b)| (a.into(), b.into())).expect("name type"))
        .collect()
}

fn refused(rows: &str, fixed: &str) -> String {
    let schema = TableSchema::parse(&flights()).expect("a good table");
    RowPlan::new(&schema, &pairs(rows), &pairs(fixed)).expect_err(rows).to_string()
}

#[test]
fn the_key_is_in_table_order_and_never_null() {
    let schema = TableSchema::parse(&flights()).expect("a good table");
    assert_eq!(schema.key, [0, 1]);
    assert!(!schema.columns[0].nullable);
    assert_eq!(
        schema.key_columns().map(|c| c.name.as_str()).collect::<Vec<_>>(),
        ["flight", "carrier"]
    );
}

#[test]
fn a_bad_table_is_refused_by_name() {
    let refused = |change: fn(&mut TableDescription)| {
        let mut description = flights();
        change(&mut description);
        TableSchema::parse(&description).expect_err("a bad table").to_string()
    };
    assert!(refused(|t| t.primary_key.clear()).contains("PRIMARY KEY"));
    assert!(refused(|t| t.primary_key.push("dest".into())).contains("primary key dest"));
    assert!(refused(|t| t.buckets = 0).contains("0 buckets"));
    assert!(
        refused(|t| t.columns[3].column_type = "blob".into()).contains("column note, type blob")
    );
    assert!(refused(|t| t.columns[3].name = "DAY".into()).contains("two columns named day"));
    assert!(refused(|t| t.partition_columns[0].column_type = "double".into()).contains("day"));
}

#[test]
fn columns_are_matched_by_name_in_any_order() {
    let schema = TableSchema::parse(&flights()).expect("a good table");
    let rows = pairs("DAY STRING;distance SMALLINT;carrier CHAR(2);flight INT");
    let plan = RowPlan::new(&schema, &rows, &[]).expect("a good plan");
    assert_eq!(plan.columns, [Some(3), Some(2), Some(1), None]);
    assert_eq!(plan.partition_columns, [PartitionSource::Row(0)]);
    let plan = RowPlan::new(&schema, &rows[1..], &pairs("day 2013-01-01")).expect("a good plan");
    assert_eq!(plan.partition_columns, [PartitionSource::Static("2013-01-01".into())]);
}

#[test]
fn a_plan_that_does_not_fit_is_refused_by_name() {
    let full = "day STRING;distance INT;carrier STRING;flight INT";
    assert!(refused("day STRING;distance INT;carrier STRING", "").contains("column flight"));
    assert!(
        refused("day STRING;carrier STRING;flight INT", "").contains("does not let it be null")
    );
    assert!(refused(&[full, ";carier STRING"].concat(), "").contains("did you mean carrier?"));
    assert!(refused(&[full, ";Flight INT"].concat(), "").contains("two columns"));
    let mismatch = refused("day STRING;distance BIGINT;carrier STRING;flight INT", "");
    assert!(mismatch.contains("BIGINT") && mismatch.contains("type int"), "{mismatch}");
    assert!(refused(&full[11..], "").contains("neither"));
    assert!(refused(full, "day x").contains("leave one of the two out"));
    assert!(refused(&full[11..], "dya x").contains("did you mean day?"));
    assert!(refused("day TEXT", "").contains("column day, row type TEXT"));
}
