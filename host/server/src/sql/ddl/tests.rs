//! Statements that are understood, and how others are refused.

use super::*;
use crate::sql::tokens::statements;

fn parse(text: &str) -> Result<Statement, String> {
    match super::parse(statements(text)?.remove(0))? {
        Parsed::Change(statement) => Ok(statement),
        Parsed::Compact(table) => panic!("{table:?}"),
    }
}

fn created(text: &str) -> TableDefinition {
    match parse(text).expect("valid") {
        Statement::CreateTable { definition, .. } => definition,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_type_of_a_delta_table_can_be_a_column() {
    let types = "bigint,int,smallint,tinyint,boolean,float,double,decimal(10,2),string,\
                 varchar(20),char(3),binary,date,datetime,timestamp,timestamp_ntz,\
                 interval_year_month,interval_day_time,json,array<bigint>,\
                 map<string,array<int>>,struct<a:bigint,b:map<string,struct<c:int>>>";
    let mut depth = 0;
    let split = types.split(|c| {
        depth += match c {
            '<' | '(' => 1,
            '>' | ')' => -1,
            _ => 0,
        };
        c == ',' && depth == 0
    });
    let types: Vec<&str> = split.collect();
    let columns: Vec<String> =
        types.iter().enumerate().map(|(at, t)| format!("`c{at}` {}", t.to_uppercase())).collect();
    let text = format!(
        "CREATE TABLE IF NOT EXISTS `local`.`t` ({}, PRIMARY KEY(`c0`)) \
         TBLPROPERTIES('transactional'='true',\"write.bucket.num\"='4');",
        columns.join(",")
    );
    let definition = created(&text);
    let found: Vec<_> = definition.columns.iter().map(|c| c.column_type.as_str()).collect();
    assert_eq!(found, types);
    assert_eq!(definition.buckets, 4);
}

#[test]
fn the_primary_key_is_never_null_however_it_is_declared() {
    for columns in ["id BIGINT PRIMARY KEY, v STRING", "id BIGINT, v STRING, PRIMARY KEY (ID)"] {
        let text = format!(
            "create table T ({columns}) partitioned by (day string comment 'd') \
             tblproperties ('transactional'='true')"
        );
        let definition = created(&text);
        assert_eq!(definition.name, "t");
        assert_eq!(definition.primary_key, ["id"]);
        assert!(!definition.columns[0].nullable && definition.columns[1].nullable);
        assert_eq!(definition.partition_columns[0].comment, "d");
    }
}

#[test]
fn partial_update_is_a_property_of_the_table() {
    let with = |property: &str| {
        let table = "CREATE TABLE t (a BIGINT PRIMARY KEY) TBLPROPERTIES('transactional'='true'";
        created(&format!("{table}{property})")).partial_update
    };
    assert!(with(", \"acid.partial.fields.update.enable\"=\"true\""));
    assert!(!with(", 'acid.partial.fields.update.enable'='FALSE'"));
    assert!(!with(""));
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let table = "TBLPROPERTIES('transactional'='true')";
    for (text, named) in [
        ("MERGE INTO t".to_owned(), "\"MERGE INTO t\" is not supported"),
        (format!("CREATE TABLE t (a BIGINT PRIMARY KEY) {table} LIFECYCLE 7"), "LIFECYCLE 7"),
        (format!("CREATE TABLE t (a JSON PRIMARY KEY) {table}"), "primary key"),
        (format!("CREATE TABLE t (a BLOB PRIMARY KEY) {table}"), "blob"),
        (format!("CREATE TABLE t (a BIGINT) {table}"), "only Delta tables"),
        ("CREATE TABLE t (a BIGINT PRIMARY KEY)".to_owned(), "only Delta tables"),
        (
            "CREATE TABLE t (a BIGINT PRIMARY KEY) TBLPROPERTIES('transactional'='true', \
             'acid.partial.fields.update.enable'='yes')"
                .to_owned(),
            "'true' or 'false'",
        ),
        ("ALTER TABLE t COMPACT MINOR".to_owned(), "COMPACT MINOR is not supported"),
        ("ALTER TABLE t PARTITION (a=1) DROP".to_owned(), "PARTITION … DROP"),
        ("ALTER TABLE t PARTITION (a=1), PARTITION (a=2) COMPACT MAJOR".to_owned(), "one for each"),
        ("ALTER TABLE t COMPACT MAJOR -f".to_owned(), "the statement's end is expected"),
        ("ALTER TABLE t ADD COLUMNS (b INT NOT NULL)".to_owned(), "column b is NOT NULL"),
        ("ALTER TABLE t ADD COLUMNS (b INT PRIMARY KEY)".to_owned(), "primary key"),
        ("ALTER TABLE t ADD COLUMNS (__b INT)".to_owned(), "__b"),
        ("ALTER TABLE t ADD COLUMNS".to_owned(), "ends where ( is expected"),
        ("ALTER TABLE t DROP COLUMN b".to_owned(), "DROP COLUMN b"),
        ("TRUNCATE TABLE t PARTITION (a)".to_owned(), "at \")\": = is expected"),
        ("DROP TABLE t CASCADE".to_owned(), "CASCADE"),
        ("DROP TABLE".to_owned(), "ends where a name is expected"),
    ] {
        let message = parse(&text).expect_err(&text);
        assert!(message.contains(named), "{text}: {message}");
    }
}

#[test]
fn clauses_come_in_any_order_and_the_last_comment_counts() {
    let definition = created(
        "CREATE TABLE t (a BIGINT COMMENT \"of a\" PRIMARY KEY) COMMENT 'x' \
         TBLPROPERTIES ('transactional'='true') PARTITIONED BY (day STRING) \
         TBLPROPERTIES (\"write.bucket.num\"=8) COMMENT \"y\"",
    );
    assert_eq!((definition.comment.as_str(), definition.buckets), ("y", 8));
    assert_eq!(definition.columns[0].comment, "of a");
    assert_eq!(definition.partition_columns[0].name, "day");
}

#[test]
fn a_type_that_is_as_deep_as_a_text_can_be_is_refused() {
    for end in ["", ">", ">>"] {
        let deep = format!("{}INT{}", "ARRAY<".repeat(100_000), end.repeat(100_000));
        let text = format!("CREATE TABLE t (a {deep}, PRIMARY KEY (a))");
        parse(&text).expect_err("too deep, or not closed");
    }
}

#[test]
fn strings_are_no_names_and_options_of_other_systems_are_refused() {
    for (text, named) in [
        ("DROP TABLE 't'", "a name is expected"),
        ("CREATE TABLE t (\"a\" BIGINT)", "a name is expected"),
        ("CREATE TABLE t (a BIGINT DEFAULT 1)", "at \"DEFAULT 1 )\": ) is expected"),
        ("CREATE TABLE t (a BIGINT UNIQUE)", "UNIQUE"),
        ("CREATE TABLE t (a BIGINT CONSTRAINT b NOT NULL)", "CONSTRAINT b"),
        ("CREATE TABLE t (a ARRAY<INT", "brackets match"),
        ("DROP TABLE ARRAY<INT>", "a name is expected"),
        ("CREATE TABLE t (a BIGINT) CLUSTERED BY (a) INTO 4 BUCKETS", "CLUSTERED BY"),
        ("CREATE TABLE t (a BIGINT) PARTITIONED", "\"PARTITIONED\" is not supported"),
        ("CREATE TABLE t (a BIGINT) PARTITIONED BY (b)", "a type is expected"),
        ("CREATE TABLE t (a BIGINT) PARTITIONED BY (PRIMARY KEY (a))", "a partition column"),
        ("CREATE TABLE t LIKE u", "LIKE u"),
        ("CREATE EXTERNAL TABLE t (a BIGINT)", "CREATE EXTERNAL TABLE"),
        ("ALTER TABLE IF EXISTS t ADD PARTITION (a=1)", "EXISTS"),
        ("TRUNCATE TABLE a, b", "at \", b\": the statement's end is expected"),
        ("DROP TABLE a, b", "several tables"),
        ("DROP TABLE a PURGE", "PURGE"),
    ] {
        let message = parse(text).expect_err(text);
        assert!(message.contains(named), "{text}: {message}");
    }
}

#[test]
fn partitions_are_added_with_any_quotes() {
    let text = r#"ALTER TABLE p.`t` ADD IF NOT EXISTS
        PARTITION (day='it\'s', h=3) PARTITION (day="x",h='4')"#;
    let statement = parse(text).expect("valid");
    let Statement::AddPartitions { partitions, if_not_exists: true, .. } = statement else {
        panic!("{statement:?}")
    };
    let pair = |n: &str, v: &str| (n.to_owned(), v.to_owned());
    assert_eq!(partitions[0], [pair("day", "it's"), pair("h", "3")]);
    assert_eq!(partitions[1], [pair("day", "x"), pair("h", "4")]);
}

#[test]
fn columns_are_added_and_partitions_emptied() {
    let statement =
        parse("ALTER TABLE `p`.t ADD COLUMNS IF NOT EXISTS (B INT COMMENT 'x', c json)");
    let Ok(Statement::AddColumns { columns, if_not_exists: true, .. }) = statement else {
        panic!("{statement:?}")
    };
    assert_eq!((columns[0].name.as_str(), columns[0].comment.as_str()), ("b", "x"));
    let statement = parse("TRUNCATE TABLE t PARTITION (day='a'), PARTITION (day='b')");
    let Ok(Statement::Truncate { partitions, .. }) = statement else { panic!("{statement:?}") };
    assert_eq!(partitions.len(), 2);
}

#[test]
fn a_table_or_one_partition_of_it_is_compacted() {
    let compacted = |text: &str| match super::parse(statements(text).expect("words").remove(0)) {
        Ok(Parsed::Compact(compacted)) => compacted,
        other => panic!("{text}: {other:?}"),
    };
    let whole = compacted("alter table p.`T` compact major");
    assert_eq!((whole.table.name.as_str(), whole.partition), ("t", None));
    let one = compacted("ALTER TABLE t PARTITION (day=\"x\", h=3) COMPACT MAJOR;");
    let pair = |n: &str, v: &str| (n.to_owned(), v.to_owned());
    assert_eq!(one.partition, Some(vec![pair("day", "x"), pair("h", "3")]));
}
