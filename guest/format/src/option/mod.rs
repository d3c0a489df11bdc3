//! What a row of an option table is: how its value is read, held against its bounds, and
//! described.
//!
//! The guest's list of options and the host's are made of it; [`text`] reads the values. Invariant:
//! type and bounds are told from what is checked, so help and documentation cannot differ from it.

pub mod text;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use self::text::Bare;
use crate::id::{ByteCount, Millis};

/// One option, as help and documentation show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionDoc {
    /// Its name, as users write it.
    pub name: String,
    /// `integer`, `bytes`, `duration`, `boolean`, `text`, or the allowed words with `|` between.
    pub value_type: String,
    /// What holds when it is not set; empty if it then has no value.
    pub default_value: String,
    /// The values that are allowed, in words; empty if the type says it all.
    pub bounds: String,
    /// What it does, what it costs, and why the default is what it is.
    pub doc: String,
}

/// A row of the table: an option whose value goes into a draft `D`.
pub struct Entry<D: 'static> {
    /// Its name, as users write it.
    pub name: &'static str,
    /// The text that is read when it is not set; empty if it then has no value.
    pub default: &'static str,
    /// How its value is read, and where it goes.
    pub kind: Kind<D>,
    /// What it does, what it costs, and why the default is what it is.
    pub doc: &'static str,
}

/// The result of a setter: a text says why a well-formed value is refused.
pub type Set = Result<(), String>;

/// One of the allowed words, and what it sets.
pub type Word<D> = (&'static str, fn(&mut D) -> Set);

/// How a value is read, what is allowed, and where it goes.
pub enum Kind<D: 'static> {
    /// A number, from the first to the second.
    Count(u32, u32, fn(&mut D, u32) -> Set),
    /// `true` or `false`.
    Flag(fn(&mut D, bool) -> Set),
    /// A number of bytes, from the first to the second.
    Size(ByteCount, ByteCount, fn(&mut D, ByteCount) -> Set),
    /// A span of time, from the first to the second.
    Span(Millis, Millis, Bare, fn(&mut D, Millis) -> Set),
    /// Any text; the first says in words what is allowed.
    Text(&'static str, fn(&mut D, &str) -> Set),
    /// One of some words.
    Words(&'static [Word<D>]),
}

impl<D> Entry<D> {
    /// Reads a value into the draft; the error says what is accepted, but not the option's name.
    pub fn set(&self, draft: &mut D, value: &str) -> Result<(), String> {
        match &self.kind {
            Kind::Count(low, high, set) => {
                let n = text::count(value)?;
                self.within(value, *low <= n && n <= *high)?;
                set(draft, n)
            }
            Kind::Flag(set) => set(draft, text::flag(value)?),
            Kind::Size(low, high, set) => {
                let n = text::size(value)?;
                self.within(value, *low <= n && n <= *high)?;
                set(draft, n)
            }
            Kind::Span(low, high, bare, set) => {
                let n = text::span(value, *bare)?;
                self.within(value, *low <= n && n <= *high)?;
                set(draft, n)
            }
            Kind::Text(_, set) => set(draft, value),
            Kind::Words(words) => {
                let known = words.iter().find(|(word, _)| value.trim().eq_ignore_ascii_case(word));
                let Some((_, set)) = known else {
                    let allowed = self.value_type().replace('|', "`, `");
                    return Err(format!("`{value}` is not one of its values: write `{allowed}`"));
                };
                set(draft)
            }
        }
    }

    fn within(&self, value: &str, holds: bool) -> Result<(), String> {
        if holds {
            return Ok(());
        }
        Err(format!("`{value}` is out of bounds: allowed is {}", self.bounds()))
    }

    /// The option as help and documentation show it.
    pub fn describe(&self) -> OptionDoc {
        OptionDoc {
            name: self.name.into(),
            value_type: self.value_type(),
            default_value: self.default.into(),
            bounds: self.bounds(),
            doc: self.doc.into(),
        }
    }

    fn value_type(&self) -> String {
        match &self.kind {
            Kind::Count(..) => "integer".to_string(),
            Kind::Flag(..) => "boolean".to_string(),
            Kind::Size(..) => "bytes".to_string(),
            Kind::Span(..) => "duration".to_string(),
            Kind::Text(..) => "text".to_string(),
            Kind::Words(words) => words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join("|"),
        }
    }

    fn bounds(&self) -> String {
        match &self.kind {
            Kind::Count(low, high, _) => format!("{low} to {high}"),
            Kind::Size(low, high, _) => {
                format!("{} to {}", text::size_text(*low), text::size_text(*high))
            }
            Kind::Span(low, high, _, _) => {
                format!("{} to {}", text::span_text(*low), text::span_text(*high))
            }
            Kind::Text(bounds, _) => (*bounds).to_string(),
            Kind::Flag(_) | Kind::Words(_) => String::new(),
        }
    }
}
