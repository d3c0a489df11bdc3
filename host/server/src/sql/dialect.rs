//! MaxCompute's SQL as a dialect of sqlparser.
//!
//! Under `tokens`, which parses statements by it; `ddl` reads the trees that it makes. The library
//! parses queries, columns and DROP TABLE as they are. Statements that MaxCompute writes in a way
//! of its own (clauses in any order, several partitions, several columns) are parsed here into the
//! library's own trees. Invariant: a clause that is not known is left unparsed, so that whoever
//! finds it refuses it by its name.

use sqlparser::ast::helpers::attached_token::AttachedToken;
use sqlparser::ast::helpers::stmt_create_table::CreateTableBuilder;
use sqlparser::ast::{
    AlterTable, AlterTableOperation, BinaryOperator, ColumnDef, ColumnOption, CommentDef,
    CreateTableOptions, Expr, HiveDistributionStyle, IndexColumn, ObjectName, Partition,
    PrimaryKeyConstraint, SqlOption, Statement, TableConstraint, Truncate, TruncateTableTarget,
};
use sqlparser::dialect::Dialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{IsOptional, Parser, ParserError};
use sqlparser::tokenizer::Token;

/// The dialect.
#[derive(Debug)]
pub(super) struct MaxCompute;

impl Dialect for MaxCompute {
    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_alphabetic() || ch == '_'
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        ch.is_alphanumeric() || ch == '_'
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        // Double quotes are those of strings.
        ch == '`'
    }

    fn supports_string_literal_backslash_escape(&self) -> bool {
        true
    }

    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }

    fn supports_group_by_expr(&self) -> bool {
        true
    }

    fn parse_statement(&self, parser: &mut Parser<'_>) -> Option<Result<Statement, ParserError>> {
        if parser.parse_keywords(&[Keyword::CREATE, Keyword::TABLE]) {
            return Some(create_table(parser));
        }
        if parser.parse_keywords(&[Keyword::ALTER, Keyword::TABLE]) {
            return Some(alter_table(parser));
        }
        let truncates = parser.parse_keywords(&[Keyword::TRUNCATE, Keyword::TABLE]);
        truncates.then(|| truncate(parser))
    }

    /// Leaves every option of a column unparsed but the four that a Delta table may have.
    fn parse_column_option(
        &self,
        parser: &mut Parser<'_>,
    ) -> Result<Option<Result<Option<ColumnOption>, ParserError>>, ParserError> {
        let known = [Keyword::NOT, Keyword::NULL, Keyword::COMMENT, Keyword::PRIMARY];
        let is_known = parser.peek_one_of_keywords(&known).is_some();
        Ok(if is_known { None } else { Some(Ok(None)) })
    }
}

/// The next words of a statement, for messages.
pub(super) fn next_words<'t>(tokens: impl Iterator<Item = &'t Token>) -> String {
    let word = |token: &Token| match token {
        Token::Word(word) if word.quote_style == Some(TYPE_QUOTE) => word.value.clone(),
        token => token.to_string(),
    };
    let words: Vec<String> = tokens.take(WORDS).map(word).collect();
    words.join(" ")
}

/// The statements that change the catalog, and the one that reads.
pub(super) const SUPPORTED: &str = "this server knows SELECT, CREATE TABLE, ALTER TABLE … ADD \
     PARTITION, ADD COLUMNS or COMPACT MAJOR, TRUNCATE TABLE and DROP TABLE";

fn create_table(parser: &mut Parser<'_>) -> Result<Statement, ParserError> {
    let if_not_exists = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
    let name = parser.parse_object_name(false)?;
    let (columns, constraints) = columns(parser)?;
    let mut partitioned = HiveDistributionStyle::NONE;
    let mut comment = None;
    let mut properties = Vec::new();
    loop {
        if parser.parse_keyword(Keyword::COMMENT) {
            comment = Some(CommentDef::WithoutEq(parser.parse_comment_value()?));
        } else if parser.parse_keywords(&[Keyword::PARTITIONED, Keyword::BY]) {
            partitioned = partition_columns(parser)?;
        } else if parser.parse_keyword(Keyword::TBLPROPERTIES) {
            properties.extend(in_brackets(parser, property)?);
        } else {
            break;
        }
    }
    let table = CreateTableBuilder::new(name)
        .if_not_exists(if_not_exists)
        .columns(columns)
        .constraints(constraints)
        .comment_after_column_def(comment)
        .hive_distribution(partitioned)
        .table_options(CreateTableOptions::TableProperties(properties))
        .build();
    match rest(parser) {
        rest if rest.is_empty() => Ok(table.into()),
        rest => unsupported(format!("\"{rest}\" is not supported in CREATE TABLE")),
    }
}

fn alter_table(parser: &mut Parser<'_>) -> Result<Statement, ParserError> {
    let name = parser.parse_object_name(false)?;
    let of = partitions(parser)?;
    if parse_word(parser, "COMPACT") {
        return compact_table(parser, name, of);
    }
    if !of.is_empty() {
        let rest = rest(parser);
        return unsupported(format!(
            "ALTER TABLE … PARTITION … {rest} is not supported: {SUPPORTED}"
        ));
    }
    if !parser.parse_keyword(Keyword::ADD) {
        let rest = rest(parser);
        return unsupported(format!("ALTER TABLE … {rest} is not supported: {SUPPORTED}"));
    }
    let operations = match parser.parse_keyword(Keyword::COLUMNS) {
        true => add_columns(parser)?,
        false => vec![add_partitions(parser)?],
    };
    Ok(Statement::AlterTable(AlterTable {
        name,
        if_exists: false,
        only: false,
        operations,
        location: None,
        on_cluster: None,
        table_type: None,
        end_token: AttachedToken::empty(),
    }))
}

/// The library has a tree for it as another system writes it.
fn compact_table(
    parser: &mut Parser<'_>,
    name: ObjectName,
    mut of: Vec<Vec<Expr>>,
) -> Result<Statement, ParserError> {
    if !parse_word(parser, "MAJOR") {
        let rest = rest(parser);
        return unsupported(format!("COMPACT {rest} is not supported: write COMPACT MAJOR"));
    }
    let partition = of.pop().map(Partition::Partitions);
    if !of.is_empty() {
        let message = "COMPACT MAJOR of several partitions is not supported: write one for each";
        return unsupported(message.to_owned());
    }
    Ok(Statement::OptimizeTable {
        name,
        has_table_keyword: true,
        on_cluster: None,
        partition,
        include_final: true,
        deduplicate: None,
        predicate: None,
        zorder: None,
    })
}

/// A word that is none of the library's keywords.
fn parse_word(parser: &mut Parser<'_>, word: &str) -> bool {
    let is_next = match &parser.peek_token_ref().token {
        Token::Word(next) => next.quote_style.is_none() && next.value.eq_ignore_ascii_case(word),
        _ => false,
    };
    if is_next {
        parser.advance_token();
    }
    is_next
}

fn add_columns(parser: &mut Parser<'_>) -> Result<Vec<AlterTableOperation>, ParserError> {
    let if_not_exists = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
    let (columns, constraints) = columns(parser)?;
    let add_column = |column_def| AlterTableOperation::AddColumn {
        column_keyword: false,
        if_not_exists,
        column_def,
        column_position: None,
    };
    let add_constraint =
        |constraint| AlterTableOperation::AddConstraint { constraint, not_valid: false };
    let constraints = constraints.into_iter().map(add_constraint);
    Ok(columns.into_iter().map(add_column).chain(constraints).collect())
}

fn add_partitions(parser: &mut Parser<'_>) -> Result<AlterTableOperation, ParserError> {
    let if_not_exists = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
    let new_partitions: Vec<Partition> =
        partitions(parser)?.into_iter().map(Partition::Partitions).collect();
    if new_partitions.is_empty() {
        let rest = rest(parser);
        return unsupported(format!("ALTER TABLE … ADD {rest} is not supported: {SUPPORTED}"));
    }
    Ok(AlterTableOperation::AddPartitions { if_not_exists, new_partitions })
}

/// The library's tree has one list for the one partition that it knows of; here each item of the
/// list is a tuple, which is a partition.
fn truncate(parser: &mut Parser<'_>) -> Result<Statement, ParserError> {
    let name = parser.parse_object_name(false)?;
    let partitions = partitions(parser)?.into_iter().map(Expr::Tuple).collect();
    Ok(Statement::Truncate(Truncate {
        table_names: vec![TruncateTableTarget { name, only: false, has_asterisk: false }],
        partitions: Some(partitions),
        table: true,
        if_exists: false,
        identity: None,
        cascade: None,
        on_cluster: None,
    }))
}

/// A list of columns in brackets, and the primary key if it is declared there.
fn columns(parser: &mut Parser<'_>) -> Result<(Vec<ColumnDef>, Vec<TableConstraint>), ParserError> {
    let mut constraints = Vec::new();
    let columns = in_brackets(parser, |parser| {
        if !parser.parse_keywords(&[Keyword::PRIMARY, Keyword::KEY]) {
            return parser.parse_column_def().map(Some);
        }
        let names = parser.parse_parenthesized_column_list(IsOptional::Mandatory, false)?;
        let key = PrimaryKeyConstraint {
            name: None,
            index_name: None,
            index_type: None,
            columns: names.into_iter().map(IndexColumn::from).collect(),
            index_options: Vec::new(),
            characteristics: None,
        };
        constraints.push(TableConstraint::PrimaryKey(key));
        Ok(None)
    })?;
    Ok((columns.into_iter().flatten().collect(), constraints))
}

fn partition_columns(parser: &mut Parser<'_>) -> Result<HiveDistributionStyle, ParserError> {
    let (columns, constraints) = columns(parser)?;
    match constraints.is_empty() {
        true => Ok(HiveDistributionStyle::PARTITIONED { columns }),
        false => unsupported("a partition column cannot be part of the primary key".to_owned()),
    }
}

/// Any number of partitions, with or without commas between them, each as its equations.
fn partitions(parser: &mut Parser<'_>) -> Result<Vec<Vec<Expr>>, ParserError> {
    let mut partitions = Vec::new();
    while parser.parse_keyword(Keyword::PARTITION) {
        partitions.push(in_brackets(parser, equation)?);
        let _ = parser.consume_token(&Token::Comma);
    }
    Ok(partitions)
}

/// `name = value`, as a comparison.
fn equation(parser: &mut Parser<'_>) -> Result<Expr, ParserError> {
    let name = parser.parse_identifier()?;
    parser.expect_token(&Token::Eq)?;
    let value = Expr::Value(parser.parse_value()?);
    let left = Box::new(Expr::Identifier(name));
    Ok(Expr::BinaryOp { left, op: BinaryOperator::Eq, right: Box::new(value) })
}

/// `'name' = value`. The library would take a whole expression for the value.
fn property(parser: &mut Parser<'_>) -> Result<SqlOption, ParserError> {
    let key = parser.parse_identifier()?;
    parser.expect_token(&Token::Eq)?;
    Ok(SqlOption::KeyValue { key, value: Expr::Value(parser.parse_value()?) })
}

fn in_brackets<'a, T>(
    parser: &mut Parser<'a>,
    item: impl FnMut(&mut Parser<'a>) -> Result<T, ParserError>,
) -> Result<Vec<T>, ParserError> {
    parser.expect_token(&Token::LParen)?;
    let items = parser.parse_comma_separated(item)?;
    parser.expect_token(&Token::RParen)?;
    Ok(items)
}

fn rest(parser: &Parser<'_>) -> String {
    let tokens: Vec<Token> = (0..WORDS).map(|at| parser.peek_nth_token(at).token).collect();
    next_words(tokens.iter().take_while(|token| **token != Token::EOF))
}

fn unsupported<T>(message: String) -> Result<T, ParserError> {
    Err(ParserError::ParserError(message))
}

/// The quotes of a type in angle brackets that `tokens` has made one word: no name has them.
pub(super) const TYPE_QUOTE: char = '"';
/// Words that a message quotes, at most.
const WORDS: usize = 4;
