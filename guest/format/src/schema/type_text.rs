//! Reads the text of a type, word by word: shared by the table's types and the rows' types.
//!
//! Used once, at open, by `column_type` and `row_type`. Invariant: the cursor only moves forward,
//! and never into the middle of a character.

use alloc::string::String;

/// How deep types may nest: a column is at depth 1, the elements of its list at depth 2.
pub const DEPTH_MAX: usize = 16;

/// A place in the text of a type.
pub(crate) struct TypeText<'a> {
    rest: &'a str,
}

impl<'a> TypeText<'a> {
    /// Begins at the start of `text`.
    pub(crate) fn new(text: &'a str) -> Self {
        Self { rest: text.trim() }
    }

    /// The next letters, digits and underscores in lower case; empty if there are none.
    pub(crate) fn word(&mut self) -> String {
        self.plain_word().to_lowercase()
    }

    /// The name of a field: a plain word, or any text between backticks, in which a doubled
    /// backtick stands for one.
    pub(crate) fn name(&mut self) -> Option<String> {
        if !self.eat('`') {
            let word = self.plain_word();
            return (!word.is_empty()).then(|| word.into());
        }
        let mut name = String::new();
        loop {
            let end = self.rest.find('`')?;
            name.push_str(&self.rest[..end]);
            self.rest = &self.rest[end + 1..];
            match self.rest.strip_prefix('`') {
                Some(rest) => self.rest = rest,
                None => break,
            }
            name.push('`');
        }
        self.rest = self.rest.trim_start();
        (!name.is_empty()).then_some(name)
    }

    /// Passes `mark` if it comes next.
    pub(crate) fn eat(&mut self, mark: char) -> bool {
        let Some(rest) = self.rest.strip_prefix(mark) else { return false };
        // A doubled backtick is text, and the blanks of a quoted name are its own.
        self.rest = if mark == '`' { rest } else { rest.trim_start() };
        true
    }

    /// The next number; none if there is none or it does not fit.
    pub(crate) fn number(&mut self) -> Option<u32> {
        let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        let number = self.rest[..end].parse().ok()?;
        self.rest = self.rest[end..].trim_start();
        Some(number)
    }

    /// One number in parentheses.
    pub(crate) fn one_argument(&mut self) -> Option<u32> {
        let number = if self.eat('(') { self.number()? } else { return None };
        self.eat(')').then_some(number)
    }

    /// Whether nothing is left.
    pub(crate) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    fn plain_word(&mut self) -> &'a str {
        let end =
            self.rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        word
    }
}

/// Writes a field's name so that `TypeText::name` reads it back: in backticks unless it is a plain
/// word.
pub(crate) fn write_name(name: &str, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
    if name.chars().all(|c| c.is_alphanumeric() || c == '_') {
        return f.write_str(name);
    }
    write!(f, "`{}`", name.replace('`', "``"))
}
