//! The words of a statement, one after another.
//!
//! Under `script`, `ddl` and `select`; the tokens are those of DataFusion's SQL parser. Invariant:
//! an error names the statement's words where it was found and what was expected.

use sqlparser::ast;
use sqlparser::dialect::Dialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;
use sqlparser::tokenizer::Tokenizer;
use sqlparser::tokenizer::Word;

/// MaxCompute's way of writing names and strings.
#[derive(Debug)]
struct MaxCompute;

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
}

/// The statements of a text.
///
/// Errors, in words: a quote that is not closed.
pub(crate) fn statements(text: &str) -> Result<Vec<Tokens>, String> {
    let tokens = Tokenizer::new(&MaxCompute, text).tokenize().map_err(|e| e.to_string())?;
    let statements = tokens.split(|token| *token == Token::SemiColon).map(|tokens| Tokens {
        tokens: tokens.iter().filter(|t| !matches!(t, Token::Whitespace(_))).cloned().collect(),
        at: 0,
    });
    Ok(statements.filter(|statement| !statement.tokens.is_empty()).collect())
}

/// Parses the words of one statement as a query's SQL, with names in lower case: they are the
/// same in any case.
pub(crate) fn parse_query(tokens: Tokens) -> Result<ast::Statement, String> {
    let lower = |token| match token {
        Token::Word(word) if word.quote_style.is_some() => {
            Token::Word(Word { value: word.value.to_lowercase(), ..word })
        }
        token => token,
    };
    let tokens = tokens.tokens.into_iter().map(lower).collect();
    let mut parser = Parser::new(&MaxCompute).with_tokens(tokens);
    let statement = parser.parse_statement().map_err(|error| error.to_string())?;
    match parser.peek_token().token {
        Token::EOF => Ok(statement),
        other => Err(format!("at \"{other}\": the statement's end is expected")),
    }
}

/// One statement, read from left to right.
#[derive(Debug)]
pub(crate) struct Tokens {
    tokens: Vec<Token>,
    at: usize,
}

impl Tokens {
    /// Takes the words if they come next, whatever their case.
    pub(crate) fn take(&mut self, words: &str) -> bool {
        let mut at = self.at;
        for word in words.split(' ') {
            match self.tokens.get(at) {
                Some(token) if is_word(token, word) => at += 1,
                _ => return false,
            }
        }
        self.at = at;
        true
    }

    /// Takes a mark such as a comma if it comes next.
    pub(crate) fn take_mark(&mut self, mark: &Token) -> bool {
        let found = self.tokens.get(self.at) == Some(mark);
        self.at += usize::from(found);
        found
    }

    /// As `take_mark`, but it must come next.
    pub(crate) fn expect_mark(&mut self, mark: &Token) -> Result<(), String> {
        if self.take_mark(mark) { Ok(()) } else { Err(self.unexpected(&mark.to_string())) }
    }

    /// A name, in backticks or not, in lower case.
    pub(crate) fn name(&mut self) -> Result<String, String> {
        match self.tokens.get(self.at) {
            Some(Token::Word(word)) => {
                self.at += 1;
                Ok(word.value.to_ascii_lowercase())
            }
            _ => Err(self.unexpected("a name")),
        }
    }

    /// A string, in single or double quotes.
    pub(crate) fn string(&mut self) -> Result<String, String> {
        let text = match self.tokens.get(self.at) {
            Some(Token::SingleQuotedString(text) | Token::DoubleQuotedString(text)) => text.clone(),
            _ => return Err(self.unexpected("a string in quotes")),
        };
        self.at += 1;
        Ok(text)
    }

    /// A string, or a number as it is written.
    pub(crate) fn literal(&mut self) -> Result<String, String> {
        if let Some(Token::Number(text, _)) = self.tokens.get(self.at) {
            self.at += 1;
            return Ok(text.clone());
        }
        self.string()
    }

    /// The words of a column's type: a name, and what is in brackets after it.
    pub(crate) fn type_text(&mut self) -> Result<String, String> {
        let mut text = self.name()?;
        let mut depth = 0_i32;
        while let Some(token) = self.tokens.get(self.at) {
            let change = match token {
                Token::LParen | Token::Lt => 1,
                Token::RParen | Token::Gt => -1,
                Token::ShiftRight => -2,
                _ => 0,
            };
            if depth + change < 0 || (depth == 0 && change == 0) {
                break;
            }
            text.push_str(&token.to_string().to_ascii_lowercase());
            depth += change;
            self.at += 1;
        }
        Ok(text)
    }

    /// Whether this reads, and changes nothing.
    pub(crate) fn is_query(&self) -> bool {
        let first = self.tokens.iter().find(|token| **token != Token::LParen);
        let words = ["SELECT", "WITH", "VALUES"];
        first.is_some_and(|token| words.iter().any(|word| is_word(token, word)))
    }

    /// How many words and marks make the statement deeper: each may be another level of a tree.
    pub(crate) fn operators(&self) -> usize {
        self.tokens.iter().filter(|token| deepens(token)).count()
    }

    /// Whether there is nothing left.
    pub(crate) fn is_at_end(&self) -> bool {
        self.at >= self.tokens.len()
    }

    /// Nothing may be left.
    pub(crate) fn expect_end(&self) -> Result<(), String> {
        if self.is_at_end() { Ok(()) } else { Err(self.unexpected("the statement's end")) }
    }

    /// The statement's next words, for messages.
    pub(crate) fn next_words(&self) -> String {
        let words: Vec<String> =
            self.tokens[self.at..].iter().take(4).map(ToString::to_string).collect();
        words.join(" ")
    }

    fn unexpected(&self, expected: &str) -> String {
        match self.next_words() {
            found if found.is_empty() => format!("the statement ends where {expected} is expected"),
            found => format!("at \"{found}\": {expected} is expected"),
        }
    }
}

fn deepens(token: &Token) -> bool {
    match token {
        Token::Word(word) if word.quote_style.is_none() => {
            let words = [
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
            words.iter().any(|deep| word.value.eq_ignore_ascii_case(deep))
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
