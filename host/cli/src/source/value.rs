//! One line of JSON as a tree that keeps numbers as they were written.
//!
//! `lines.rs` reads lines, `columns.rs` turns trees into arrays. Own code, because the reader of
//! arrow-json takes 1.5 for the integer 1 without a word (a test below watches whether it still
//! does), and its faults name neither line nor character. Invariant: no text makes it panic,
//! recursion is bounded, and a fault says at which character it is.

use std::borrow::Cow;

/// Values inside values, at most.
const NESTING_MAX: usize = 64;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json<'a> {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number, as it was written.
    Number(&'a str),
    /// A string, without its escapes.
    Text(Cow<'a, str>),
    /// A list.
    Array(Vec<Self>),
    /// Names and values in their order.
    Object(Vec<(Cow<'a, str>, Self)>),
}

impl<'a> Json<'a> {
    /// The value of a name; of the last one if it is there twice. None also if this is no object.
    pub(crate) fn field(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(fields) => {
                fields.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value)
            }
            _ => None,
        }
    }

    /// The kind of value, for an error.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Null => String::from("null"),
            Self::Bool(value) => value.to_string(),
            Self::Number(digits) => (*digits).to_owned(),
            Self::Text(text) => format!("{:?}", shorten(text)),
            Self::Array(_) => String::from("an array"),
            Self::Object(_) => String::from("an object"),
        }
    }

    /// Whether this is `null`.
    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
}

/// Text for an error message: at most 60 characters.
fn shorten(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(60) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

/// Parses one value that fills the whole text.
///
/// Errors: the byte where it goes wrong, counted from 1, and what was expected.
pub(crate) fn parse(text: &str) -> Result<Json<'_>, (usize, &'static str)> {
    let mut parser = Parser { text, at: 0 };
    parser.space();
    let value = parser.value(0).map_err(|what| (parser.at + 1, what))?;
    parser.space();
    if parser.at < text.len() {
        return Err((parser.at + 1, "the value ends before the line does"));
    }
    Ok(value)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

type Parsed<T> = Result<T, &'static str>;

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn value(&mut self, depth: usize) -> Parsed<Json<'a>> {
        if depth > NESTING_MAX {
            return Err("values are nested too deep");
        }
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => Ok(Json::Text(self.string()?)),
            Some(b'-' | b'0'..=b'9') => Ok(Json::Number(self.number()?)),
            Some(b't') => self.word("true", Json::Bool(true)),
            Some(b'f') => self.word("false", Json::Bool(false)),
            Some(b'n') => self.word("null", Json::Null),
            Some(_) => Err("a value is expected"),
            None => Err("the line ends before the value does"),
        }
    }

    fn word(&mut self, word: &str, value: Json<'a>) -> Parsed<Json<'a>> {
        if !self.text[self.at..].starts_with(word) {
            return Err("a value is expected");
        }
        self.at += word.len();
        Ok(value)
    }

    fn object(&mut self, depth: usize) -> Parsed<Json<'a>> {
        self.at += 1;
        let mut fields = Vec::new();
        self.space();
        if self.eat(b'}') {
            return Ok(Json::Object(fields));
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return Err("a name in quotes is expected");
            }
            let name = self.string()?;
            self.space();
            if !self.eat(b':') {
                return Err("`:` is expected after a name");
            }
            self.space();
            fields.push((name, self.value(depth + 1)?));
            self.space();
            if self.eat(b'}') {
                return Ok(Json::Object(fields));
            }
            if !self.eat(b',') {
                return Err("`,` or `}` is expected");
            }
        }
    }

    fn array(&mut self, depth: usize) -> Parsed<Json<'a>> {
        self.at += 1;
        let mut values = Vec::new();
        self.space();
        if self.eat(b']') {
            return Ok(Json::Array(values));
        }
        loop {
            self.space();
            values.push(self.value(depth + 1)?);
            self.space();
            if self.eat(b']') {
                return Ok(Json::Array(values));
            }
            if !self.eat(b',') {
                return Err("`,` or `]` is expected");
            }
        }
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        self.at - start
    }

    fn number(&mut self) -> Parsed<&'a str> {
        let start = self.at;
        self.eat(b'-');
        let zero = self.peek() == Some(b'0');
        let digits = self.digits();
        if digits == 0 || (zero && digits > 1) {
            return Err("a number is a digit 1 to 9 and more digits, or 0");
        }
        if self.eat(b'.') && self.digits() == 0 {
            return Err("digits are expected after the point");
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if !self.eat(b'-') {
                self.eat(b'+');
            }
            if self.digits() == 0 {
                return Err("digits are expected in the exponent");
            }
        }
        Ok(&self.text[start..self.at])
    }

    /// A string from its opening quote on; borrowed unless it has escapes.
    fn string(&mut self) -> Parsed<Cow<'a, str>> {
        self.at += 1;
        let mut start = self.at;
        let mut unescaped: Option<String> = None;
        loop {
            match self.peek() {
                None => return Err("the line ends within a string"),
                Some(b'"') => {
                    let piece = &self.text[start..self.at];
                    self.at += 1;
                    return Ok(match unescaped {
                        None => Cow::Borrowed(piece),
                        Some(before) => Cow::Owned(before + piece),
                    });
                }
                Some(b'\\') => {
                    let text = unescaped.get_or_insert_default();
                    text.push_str(&self.text[start..self.at]);
                    self.at += 1;
                    let character = self.escape()?;
                    unescaped.get_or_insert_default().push(character);
                    start = self.at;
                }
                Some(0..=0x1f) => return Err("a control character in a string must be escaped"),
                Some(_) => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Parsed<char> {
        let byte = self.peek().ok_or("the line ends within a string")?;
        self.at += 1;
        Ok(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.unicode(),
            _ => return Err("this escape is not known"),
        })
    }

    fn unicode(&mut self) -> Parsed<char> {
        let first = self.hex4()?;
        if !(0xd800..0xe000).contains(&first) {
            return char::from_u32(first).ok_or("this is no character");
        }
        let paired = first < 0xdc00 && self.eat(b'\\') && self.eat(b'u');
        let second = if paired { self.hex4()? } else { 0 };
        if !(0xdc00..0xe000).contains(&second) {
            return Err("half of a surrogate pair is no character");
        }
        let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        char::from_u32(code).ok_or("this is no character")
    }

    fn hex4(&mut self) -> Parsed<u32> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            code = code * 16 + digit.ok_or("four hexadecimal digits are expected")?;
            self.at += 1;
        }
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The day this fails, the kept library may take the place of this file.
    #[test]
    fn arrow_json_still_takes_a_fraction_for_an_integer_without_a_word() {
        use arrow_array::cast::AsArray;
        use arrow_array::types::Int64Type;
        use arrow_schema::{DataType, Field, Schema};

        let schema = Schema::new(vec![Field::new("n", DataType::Int64, true)]);
        let rows = std::io::Cursor::new("{\"n\": 1.5}");
        let mut reader = arrow_json::ReaderBuilder::new(schema.into()).build(rows).expect("built");
        let batch = reader.next().expect("a batch").expect("it takes the row");
        assert_eq!(batch.column(0).as_primitive::<Int64Type>().value(0), 1);
    }

    #[test]
    fn numbers_keep_their_digits() {
        let text = "{\"a\": -12345678901234567890.120, \"b\":[1e5,0]}";
        let value = parse(text).expect("valid");
        assert_eq!(value.field("a"), Some(&Json::Number("-12345678901234567890.120")));
        assert_eq!(
            value.field("b"),
            Some(&Json::Array(vec![Json::Number("1e5"), Json::Number("0")]))
        );
    }

    #[test]
    fn escapes_become_characters() {
        let value = parse(r#""a\n\u00e9\ud83d\ude00\"z""#).expect("valid");
        assert_eq!(value, Json::Text(Cow::Borrowed("a\né😀\"z")));
    }

    #[test]
    fn the_last_of_two_equal_names_counts() {
        let value = parse(r#"{"a":1,"a":2}"#).expect("valid");
        assert_eq!(value.field("a"), Some(&Json::Number("2")));
    }

    #[test]
    fn malformed_text_is_refused_at_its_place() {
        for (text, at) in [
            ("{", 2),
            ("{\"a\" 1}", 6),
            ("[1,]", 4),
            ("01", 3),
            ("1.", 3),
            ("nul", 1),
            ("{} {}", 4),
            ("\"\\ud800\"", 8),
            ("\"a", 3),
            ("\"\\x\"", 4),
            ("", 1),
            ("\"\u{1}\"", 2),
        ] {
            assert_eq!(parse(text).map_err(|(at, _)| at), Err(at), "{text}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_not_followed() {
        let text = "[".repeat(100_000);
        assert!(parse(&text).is_err());
    }
}
