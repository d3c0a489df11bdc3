//! The words of a statement, before and while they are parsed.
//!
//! Under `script`, `ddl` and `select`; words and trees are those of sqlparser, which DataFusion has
//! too. Types in angle brackets are made one word before a statement is parsed: sqlparser goes down
//! such a type by calls, as deep as a client likes, and does not know MaxCompute's STRUCT.
//! Invariant: an error names the statement's words where it was found and what was expected.

use sqlparser::ast::Statement;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer, Word};

use super::dialect::{MaxCompute, TYPE_QUOTE, next_words};

/// The statements of a text.
///
/// Errors, in words: a quote that is not closed.
pub(crate) fn statements(text: &str) -> Result<Vec<Tokens>, String> {
    let tokens = Tokenizer::new(&MaxCompute, text).tokenize().map_err(|e| e.to_string())?;
    let statements = tokens.split(|token| *token == Token::SemiColon).map(|tokens| {
        Tokens(tokens.iter().filter(|t| !matches!(t, Token::Whitespace(_))).cloned().collect())
    });
    Ok(statements.filter(|statement| !statement.0.is_empty()).collect())
}

/// The words of one statement.
#[derive(Debug)]
pub(crate) struct Tokens(Vec<Token>);

impl Tokens {
    /// Whether the statement begins with these words, whatever their case.
    pub(crate) fn begins_with(&self, words: &str) -> bool {
        let mut tokens = self.0.iter();
        words.split(' ').all(|word| tokens.next().is_some_and(|token| is_word(token, word)))
    }

    /// Whether the statement reads, and changes nothing.
    pub(crate) fn is_query(&self) -> bool {
        let first = self.0.iter().find(|token| **token != Token::LParen);
        let words = ["SELECT", "WITH", "VALUES"];
        first.is_some_and(|token| words.iter().any(|word| is_word(token, word)))
    }

    /// The name that a SET gives a value to, in lower case.
    ///
    /// Errors, in words: there is none.
    pub(crate) fn setting(&self) -> Result<String, String> {
        let mut name = String::new();
        let mut at = 1;
        loop {
            let Some(Token::Word(word)) = self.0.get(at) else {
                return Err(unexpected("a name", &self.0[at.min(self.0.len())..]));
            };
            name.push_str(&word.value.to_ascii_lowercase());
            if self.0.get(at + 1) != Some(&Token::Period) {
                return Ok(name);
            }
            name.push('.');
            at += 2;
        }
    }

    /// How many words and marks make the statement deeper: each may be another level of a tree.
    pub(crate) fn operators(&self) -> usize {
        self.0.iter().filter(|token| deepens(token)).count()
    }

    /// The first words of the statement, for messages.
    pub(crate) fn first_words(&self) -> String {
        next_words(self.0.iter())
    }

    /// Parses a query, with names in lower case: they are the same in any case.
    ///
    /// Errors, in words.
    pub(crate) fn parse_query(self) -> Result<Statement, String> {
        let lower = |token| match token {
            Token::Word(word) if word.quote_style.is_some() => {
                Token::Word(Word { value: word.value.to_lowercase(), ..word })
            }
            token => token,
        };
        let tokens = self.0.into_iter().map(lower).collect();
        let mut parser = Parser::new(&MaxCompute).with_tokens(tokens);
        let statement = parser.parse_statement().map_err(|error| error.to_string())?;
        match parser.peek_token().token {
            Token::EOF => Ok(statement),
            other => Err(format!("at \"{other}\": the statement's end is expected")),
        }
    }

    /// Parses a statement that changes the catalog. Strings have single quotes then, whatever
    /// quotes they were written in.
    ///
    /// Errors, in words: the first word that is not understood.
    pub(crate) fn parse_change(self) -> Result<Statement, String> {
        let tokens = with_plain_types(self.0)?;
        let place = |(at, token): (usize, &Token)| {
            let start = Location { line: 1, column: at as u64 + 1 };
            let token = match token {
                Token::DoubleQuotedString(text) => Token::SingleQuotedString(text.clone()),
                token => token.clone(),
            };
            TokenWithSpan { token, span: Span { start, end: start } }
        };
        let placed = tokens.iter().enumerate().map(place).collect();
        let mut parser = Parser::new(&MaxCompute).with_tokens_with_locations(placed);
        let statement = parser.parse_statement().map_err(|error| in_words(error, &tokens))?;
        match parser.peek_token().token {
            Token::EOF => Ok(statement),
            _ => {
                let at = parser.peek_token().span.start.column as usize;
                Err(unexpected("the statement's end", &tokens[at - 1..]))
            }
        }
    }
}

/// The words with each type in angle brackets as one word, in lower case. Its quotes are those of
/// no name, so it is not taken for one.
///
/// Errors, in words: brackets that do not match.
fn with_plain_types(mut tokens: Vec<Token>) -> Result<Vec<Token>, String> {
    let mut plain = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        let rest = &tokens[at..];
        let length =
            type_length(rest).ok_or_else(|| unexpected("a type whose brackets match", rest))?;
        if length == 1 {
            plain.push(std::mem::replace(&mut tokens[at], Token::EOF));
        } else {
            let words = rest[..length].iter();
            let value = words.map(|token| token.to_string().to_ascii_lowercase()).collect();
            let keyword = Keyword::NoKeyword;
            plain.push(Token::Word(Word { value, quote_style: Some(TYPE_QUOTE), keyword }));
        }
        at += length;
    }
    Ok(plain)
}

/// How many words from the first one on are a type in angle brackets: one if it is no such type,
/// none if its brackets do not match.
fn type_length(tokens: &[Token]) -> Option<usize> {
    if !matches!(tokens, [Token::Word(_), Token::Lt, ..]) {
        return Some(1);
    }
    let mut depth = 0_i32;
    for (at, token) in tokens.iter().enumerate().skip(1) {
        depth += match token {
            Token::LParen | Token::Lt => 1,
            Token::RParen | Token::Gt => -1,
            Token::ShiftRight => -2,
            _ => 0,
        };
        if depth <= 0 {
            return (depth == 0).then_some(at + 1);
        }
    }
    None
}

/// An error of the parser in the words of this server. The parser names the place of a word as a
/// column of line 1.
fn in_words(error: ParserError, tokens: &[Token]) -> String {
    let text = match error {
        ParserError::ParserError(text) | ParserError::TokenizerError(text) => text,
        ParserError::RecursionLimitExceeded => return "it is nested too deeply".to_owned(),
    };
    let parts = text.strip_prefix("Expected: ").and_then(|text| text.split_once(", found: "));
    let Some((expected, found)) = parts else { return text };
    let expected = match expected {
        "identifier" => "a name",
        "string literal" => "a string in quotes",
        "a data type name" => "a type",
        "a list of columns in parentheses" => "(",
        "a concrete value" => "a string or a number",
        other => other,
    };
    let place = found.rsplit_once(" at Line: 1, Column: ");
    let place = place.and_then(|(_, column)| column.parse::<usize>().ok());
    let rest = place.and_then(|column| tokens.get(column.checked_sub(1)?..));
    unexpected(expected, rest.unwrap_or_default())
}

fn unexpected(expected: &str, rest: &[Token]) -> String {
    match next_words(rest.iter()) {
        found if found.is_empty() => format!("the statement ends where {expected} is expected"),
        found => format!("at \"{found}\": {expected} is expected"),
    }
}

fn deepens(token: &Token) -> bool {
    match token {
        Token::Word(word) if word.quote_style.is_none() => {
            DEEPENING.iter().any(|deep| word.value.eq_ignore_ascii_case(deep))
        }
        Token::Word(_)
        | Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::DoubleQuotedString(_)
        | Token::Comma
        | Token::Period
        | Token::LParen
        | Token::RParen => false,
        _ => true,
    }
}

fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(w) if w.quote_style.is_none() && w.value.eq_ignore_ascii_case(word))
}

const DEEPENING: [&str; 15] = [
    "AND",
    "OR",
    "NOT",
    "UNION",
    "EXCEPT",
    "INTERSECT",
    "MINUS",
    "JOIN",
    "CASE",
    "IS",
    "IN",
    "LIKE",
    "BETWEEN",
    "DIV",
    "SELECT",
];
