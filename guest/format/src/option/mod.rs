//! A row of an option table: how its value is read, held against its bounds, and
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
    /// The value when it is not set; empty if it then has none.
    pub default_value: String,
    /// The values that are allowed, in words; empty if the type says it all.
    pub bounds: String,
    /// Its effect, its cost, and the reason of the default.
    pub doc: String,
}

/// A row of the table: an option whose value goes into a draft `D`.
pub struct OptionEntry<D: 'static> {
    /// Its name, as users write it.
    pub name: &'static str,
    /// The text that is read when it is not set; empty if it then has no value.
    pub default: &'static str,
    /// How its value is read, and where it goes.
    pub kind: OptionKind<D>,
    /// Its effect, its cost, and the reason of the default.
    pub doc: &'static str,
}

/// The result of a setter: a text says why a well-formed value is refused.
pub type Set = Result<(), String>;

/// One of the allowed words, and what it sets.
pub type Word<D> = (&'static str, fn(&mut D) -> Set);

/// How a value is read, what is allowed, and where it goes.
pub enum OptionKind<D: 'static> {
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

impl<D> OptionEntry<D> {
    /// Reads a value into the draft; the error says what is accepted, but not the option's name.
    pub fn set(&self, draft: &mut D, value: &str) -> Result<(), String> {
        match &self.kind {
            OptionKind::Count(low, high, set) => {
                let n = text::count(value)?;
                self.within(value, *low <= n && n <= *high)?;
                set(draft, n)
            }
            OptionKind::Flag(set) => set(draft, text::flag(value)?),
            OptionKind::Size(low, high, set) => {
                let n = text::size(value)?;
                self.within(value, *low <= n && n <= *high)?;
                set(draft, n)
            }
            OptionKind::Span(low, high, bare, set) => {
                let n = text::span(value, *bare)?;
                self.within(value, *low <= n && n <= *high)?;
                set(draft, n)
            }
            OptionKind::Text(_, set) => set(draft, value),
            OptionKind::Words(words) => {
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
            OptionKind::Count(..) => "integer".to_string(),
            OptionKind::Flag(..) => "boolean".to_string(),
            OptionKind::Size(..) => "bytes".to_string(),
            OptionKind::Span(..) => "duration".to_string(),
            OptionKind::Text(..) => "text".to_string(),
            OptionKind::Words(words) => {
                words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join("|")
            }
        }
    }

    fn bounds(&self) -> String {
        match &self.kind {
            OptionKind::Count(low, high, _) => format!("{low} to {high}"),
            OptionKind::Size(low, high, _) => {
                format!("{} to {}", text::size_text(*low), text::size_text(*high))
            }
            OptionKind::Span(low, high, _, _) => {
                format!("{} to {}", text::span_text(*low), text::span_text(*high))
            }
            OptionKind::Text(bounds, _) => (*bounds).to_string(),
            OptionKind::Flag(_) | OptionKind::Words(_) => String::new(),
        }
    }
}
