//! CREATE TABLE, ALTER TABLE … ADD PARTITION or COLUMNS, TRUNCATE and DROP TABLE, as MaxCompute
//! writes them.
//!
//! Between `script`, which splits a text into statements, and `change`, which carries them out.
//! Invariant: a statement that is parsed is supported whole; any clause that is not is refused by
//! its name.

use sqlparser::tokenizer::Token;

use super::tokens::Tokens;
use crate::table::catalog::Column;
use crate::table::catalog::TableDefinition;

/// A statement that changes the catalog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Statement {
    /// All of them can be null.
    AddColumns {
        table: TableName,
        if_not_exists: bool,
        columns: Vec<Column>,
    },
    /// Partitions as columns and values, in the order in which they were written.
    AddPartitions {
        table: TableName,
        if_not_exists: bool,
        partitions: Vec<NamedValues>,
    },
    CreateTable {
        table: TableName,
        if_not_exists: bool,
        definition: TableDefinition,
    },
    DropTable {
        table: TableName,
        if_exists: bool,
    },
    /// Of all partitions, if none is named.
    Truncate {
        table: TableName,
        partitions: Vec<NamedValues>,
    },
}

impl Statement {
    /// The table that it is about.
    pub(crate) fn table(&self) -> &TableName {
        match self {
            Self::AddColumns { table, .. }
            | Self::AddPartitions { table, .. }
            | Self::CreateTable { table, .. }
            | Self::DropTable { table, .. }
            | Self::Truncate { table, .. } => table,
        }
    }
}

/// A partition's columns with their values.
pub(crate) type NamedValues = Vec<(String, String)>;

/// A table's name, perhaps with its project and schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableName {
    pub(crate) project: Option<String>,
    pub(crate) schema: Option<String>,
    pub(crate) name: String,
}

/// Reads one statement.
///
/// Errors, in words: the first thing that is not understood or not supported.
pub(crate) fn parse(tokens: &mut Tokens) -> Result<Statement, String> {
    let statement = statement(tokens)?;
    tokens.expect_end()?;
    Ok(statement)
}

fn statement(tokens: &mut Tokens) -> Result<Statement, String> {
    if tokens.take("CREATE TABLE") {
        return create_table(tokens);
    }
    if tokens.take("ALTER TABLE") {
        return alter_table(tokens);
    }
    if tokens.take("DROP TABLE") {
        let if_exists = tokens.take("IF EXISTS");
        return Ok(Statement::DropTable { table: table_name(tokens)?, if_exists });
    }
    if tokens.take("TRUNCATE TABLE") {
        let table = table_name(tokens)?;
        return Ok(Statement::Truncate { table, partitions: partitions(tokens)? });
    }
    Err(format!("\"{}\" is not supported: {SUPPORTED}", tokens.next_words()))
}

fn table_name(tokens: &mut Tokens) -> Result<TableName, String> {
    let mut parts = vec![tokens.name()?];
    while tokens.take_mark(&Token::Period) {
        parts.push(tokens.name()?);
    }
    let name = parts.pop().expect("there is at least one part");
    let mut parts = parts.into_iter();
    let (project, schema, more) = (parts.next(), parts.next(), parts.next());
    match more {
        Some(_) => Err(format!("{name} has more parts than project, schema and table")),
        None => Ok(TableName { project, schema, name }),
    }
}

fn create_table(tokens: &mut Tokens) -> Result<Statement, String> {
    let if_not_exists = tokens.take("IF NOT EXISTS");
    let table = table_name(tokens)?;
    let (columns, primary_key) = columns(tokens)?;
    let mut definition = TableDefinition {
        id: String::new(),
        name: table.name.clone(),
        columns,
        partition_columns: Vec::new(),
        primary_key,
        buckets: BUCKETS_DEFAULT,
        comment: String::new(),
        partial_update: false,
    };
    let mut transactional = false;
    while !tokens.is_at_end() {
        if tokens.take("COMMENT") {
            definition.comment = tokens.string()?;
        } else if tokens.take("PARTITIONED BY") {
            let (columns, key) = self::columns(tokens)?;
            if !key.is_empty() {
                return Err("a partition column cannot be part of the primary key".to_owned());
            }
            definition.partition_columns = columns;
        } else if tokens.take("TBLPROPERTIES") {
            properties(tokens, &mut definition, &mut transactional)?;
        } else {
            return Err(format!("\"{}\" is not supported in CREATE TABLE", tokens.next_words()));
        }
    }
    check(&mut definition, transactional)?;
    Ok(Statement::CreateTable { table, if_not_exists, definition })
}

/// A list of columns in brackets, and the primary key if it is declared there.
fn columns(tokens: &mut Tokens) -> Result<(Vec<Column>, Vec<String>), String> {
    let (mut columns, mut primary_key) = (Vec::new(), Vec::new());
    tokens.expect_mark(&Token::LParen)?;
    loop {
        if tokens.take("PRIMARY KEY") {
            primary_key.extend(names(tokens)?);
        } else {
            let (column, is_key) = column(tokens)?;
            primary_key.extend(is_key.then(|| column.name.clone()));
            columns.push(column);
        }
        if !tokens.take_mark(&Token::Comma) {
            break;
        }
    }
    tokens.expect_mark(&Token::RParen)?;
    Ok((columns, primary_key))
}

fn column(tokens: &mut Tokens) -> Result<(Column, bool), String> {
    let name = tokens.name()?;
    let column_type = tokens.type_text()?;
    let mut column = Column { name, column_type, nullable: true, comment: String::new() };
    let mut is_key = false;
    loop {
        if tokens.take("NOT NULL") {
            column.nullable = false;
        } else if tokens.take("NULL") {
            column.nullable = true;
        } else if tokens.take("PRIMARY KEY") {
            is_key = true;
        } else if tokens.take("COMMENT") {
            column.comment = tokens.string()?;
        } else {
            return Ok((column, is_key));
        }
    }
}

fn names(tokens: &mut Tokens) -> Result<Vec<String>, String> {
    tokens.expect_mark(&Token::LParen)?;
    let mut names = vec![tokens.name()?];
    while tokens.take_mark(&Token::Comma) {
        names.push(tokens.name()?);
    }
    tokens.expect_mark(&Token::RParen)?;
    Ok(names)
}

fn properties(
    tokens: &mut Tokens,
    definition: &mut TableDefinition,
    transactional: &mut bool,
) -> Result<(), String> {
    tokens.expect_mark(&Token::LParen)?;
    loop {
        let name = tokens.string()?;
        tokens.expect_mark(&Token::Eq)?;
        let value = tokens.literal()?;
        match (name.as_str(), value.as_str()) {
            ("transactional", _) => *transactional = value.eq_ignore_ascii_case("true"),
            ("write.bucket.num", _) => {
                let buckets: Option<u32> = value.parse().ok();
                let buckets = buckets.filter(|buckets| (1..=BUCKETS_MAX).contains(buckets));
                definition.buckets = buckets.ok_or_else(|| {
                    format!("'write.bucket.num'='{value}': it must be 1 to {BUCKETS_MAX}")
                })?;
            }
            // Nothing is ever compacted away, so any retention is kept.
            ("acid.data.retain.hours", hours) if is_retention(hours) => {}
            ("acid.partial.fields.update.enable", _) => {
                definition.partial_update = value
                    .to_ascii_lowercase()
                    .parse()
                    .map_err(|_| format!("'{name}'='{value}': it must be 'true' or 'false'"))?;
            }
            _ => return Err(format!("the property '{name}'='{value}' is not supported")),
        }
        if !tokens.take_mark(&Token::Comma) {
            return tokens.expect_mark(&Token::RParen);
        }
    }
}

fn is_retention(hours: &str) -> bool {
    hours.parse().is_ok_and(|hours: u32| hours == 0 || (24..=168).contains(&hours))
}

fn check(definition: &mut TableDefinition, transactional: bool) -> Result<(), String> {
    if !transactional || definition.primary_key.is_empty() {
        return Err("only Delta tables are supported: declare a PRIMARY KEY (…) and \
                    TBLPROPERTIES ('transactional'='true')"
            .to_owned());
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if definition.name.len() > NAME_BYTES_MAX || !definition.name.chars().all(plain) {
        return Err(format!(
            "table {}: a name is made of at most {NAME_BYTES_MAX} letters, digits and _",
            definition.name
        ));
    }
    check_names(&definition.columns)?;
    check_names(&definition.partition_columns)?;
    for column in &mut definition.columns {
        column.nullable &= !definition.primary_key.contains(&column.name);
    }
    let schema = definition.checked_schema()?;
    let key: Vec<_> = schema.key_columns().map(|column| (&column.column_type, None)).collect();
    upsert_sink_format::hash::hash_values(upsert_sink_format::hash::Hasher::Default, &key)
        .map_err(|error| format!("primary key: {error}"))?;
    Ok(())
}

fn alter_table(tokens: &mut Tokens) -> Result<Statement, String> {
    let table = table_name(tokens)?;
    if !tokens.take("ADD") {
        return Err(format!("ALTER TABLE … {} is not supported: {SUPPORTED}", tokens.next_words()));
    }
    if tokens.take("COLUMNS") {
        return add_columns(tokens, table);
    }
    let if_not_exists = tokens.take("IF NOT EXISTS");
    let partitions = partitions(tokens)?;
    if partitions.is_empty() {
        return Err(format!(
            "ALTER TABLE … ADD {} is not supported: {SUPPORTED}",
            tokens.next_words()
        ));
    }
    Ok(Statement::AddPartitions { table, if_not_exists, partitions })
}

fn add_columns(tokens: &mut Tokens, table: TableName) -> Result<Statement, String> {
    let if_not_exists = tokens.take("IF NOT EXISTS");
    let (columns, key) = columns(tokens)?;
    if !key.is_empty() {
        return Err("ADD COLUMNS: a primary key never changes".to_owned());
    }
    if let Some(column) = columns.iter().find(|column| !column.nullable) {
        return Err(format!(
            "ADD COLUMNS: column {} is NOT NULL, but rows that are there already have no value \
             of it; leave NOT NULL out",
            column.name
        ));
    }
    check_names(&columns)?;
    Ok(Statement::AddColumns { table, if_not_exists, columns })
}

fn partitions(tokens: &mut Tokens) -> Result<Vec<NamedValues>, String> {
    let mut partitions = Vec::new();
    while tokens.take("PARTITION") {
        partitions.push(named_values(tokens)?);
        tokens.take_mark(&Token::Comma);
    }
    Ok(partitions)
}

fn check_names(columns: &[Column]) -> Result<(), String> {
    match columns.iter().find(|column| column.name.starts_with("__")) {
        Some(column) => {
            Err(format!("column {}: names that begin with __ are the service's", column.name))
        }
        None => Ok(()),
    }
}

fn named_values(tokens: &mut Tokens) -> Result<NamedValues, String> {
    let mut values = Vec::new();
    tokens.expect_mark(&Token::LParen)?;
    loop {
        let name = tokens.name()?;
        tokens.expect_mark(&Token::Eq)?;
        values.push((name, tokens.literal()?));
        if !tokens.take_mark(&Token::Comma) {
            tokens.expect_mark(&Token::RParen)?;
            return Ok(values);
        }
    }
}

/// As MaxCompute has it.
const BUCKETS_DEFAULT: u32 = 16;
const NAME_BYTES_MAX: usize = 128;
const BUCKETS_MAX: u32 = 4096;
const SUPPORTED: &str = "this server knows SELECT, CREATE TABLE, ALTER TABLE … ADD PARTITION or \
     ADD COLUMNS, TRUNCATE TABLE and DROP TABLE";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::tokens::statements;

    fn parse(text: &str) -> Result<Statement, String> {
        super::parse(&mut statements(text)?.remove(0))
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
        let columns: Vec<String> = types
            .iter()
            .enumerate()
            .map(|(at, t)| format!("`c{at}` {}", t.to_uppercase()))
            .collect();
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
        for columns in ["id BIGINT PRIMARY KEY, v STRING", "id BIGINT, v STRING, PRIMARY KEY (ID)"]
        {
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
            let table =
                "CREATE TABLE t (a BIGINT PRIMARY KEY) TBLPROPERTIES('transactional'='true'";
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
            ("ALTER TABLE t COMPACT MAJOR".to_owned(), "COMPACT MAJOR"),
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
}
