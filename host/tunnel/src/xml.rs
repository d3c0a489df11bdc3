//! XML as the catalog and its clients write it: read as a tree of names and texts, and texts
//! written so that every client can read them.
//!
//! Used by `response.rs`, `sql.rs` and `description.rs`, and by the local server from the other
//! end. Invariant: depth and nodes are bounded; no external entity is ever resolved; a document
//! stays well-formed whatever is put in, but for characters that XML cannot hold: those become
//! U+FFFD.

use std::borrow::Cow;

use quick_xml::Reader;
use quick_xml::events::Event;

/// One element.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct XmlNode {
    /// Its name, without a prefix.
    pub name: String,
    /// Its text, without blanks at the ends unless it is a CDATA section.
    pub text: String,
    /// The elements in it.
    pub children: Vec<Self>,
}

impl XmlNode {
    /// The first child of that name.
    pub fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The first element of that name, anywhere below.
    pub fn find(&self, name: &str) -> Option<&Self> {
        let mut waiting: Vec<&Self> = self.children.iter().rev().collect();
        while let Some(node) = waiting.pop() {
            if node.name == name {
                return Some(node);
            }
            waiting.extend(node.children.iter().rev());
        }
        None
    }
}

/// The root element.
///
/// # Errors
/// The first mistake, in words.
pub fn parse(text: &str) -> Result<XmlNode, String> {
    let document = document(text)?;
    document.children.into_iter().next().ok_or_else(|| String::from("it is empty"))
}

/// A node without a name around all of the text; it has no children if the text has no element.
///
/// # Errors
/// The first mistake, in words.
pub fn document(text: &str) -> Result<XmlNode, String> {
    let mut reader = Reader::from_str(text);
    let mut open = vec![XmlNode::default()];
    // Whether the text of an open element is to be kept as it is, blanks at its ends included.
    let mut exact = vec![false];
    let mut nodes = 0;
    loop {
        let event = reader.read_event().map_err(|error| error.to_string())?;
        let is_full = open.len() >= DEPTH_MAX || nodes >= NODES_MAX;
        let top = open.last_mut().ok_or("an element ends that did not begin")?;
        match event {
            Event::Start(_) | Event::Empty(_) if is_full => {
                return Err(String::from("too many elements"));
            }
            Event::Start(start) => {
                nodes += 1;
                let name = String::from_utf8_lossy(start.local_name().as_ref()).into_owned();
                open.push(XmlNode { name, ..XmlNode::default() });
                exact.push(false);
            }
            Event::Empty(start) => {
                nodes += 1;
                let name = String::from_utf8_lossy(start.local_name().as_ref()).into_owned();
                top.children.push(XmlNode { name, ..XmlNode::default() });
            }
            Event::End(_) => {
                let mut node = open.pop().ok_or("an element ends that did not begin")?;
                if exact.pop() == Some(false) {
                    node.text = String::from(node.text.trim());
                }
                let parent = open.last_mut().ok_or("an element ends that did not begin")?;
                parent.children.push(node);
            }
            Event::Text(part) => {
                top.text += &part.decode().map_err(|error| error.to_string())?;
            }
            Event::CData(part) => {
                top.text += &part.decode().map_err(|error| error.to_string())?;
                *exact.last_mut().ok_or("a section is outside of any element")? = true;
            }
            Event::GeneralRef(reference) => top.text.push(character(&reference)?),
            Event::Eof => break,
            _ => {}
        }
    }
    let document = open.pop().filter(|_| open.is_empty());
    document.ok_or_else(|| String::from("it ends too early: a closing tag is expected"))
}

fn character(reference: &quick_xml::events::BytesRef<'_>) -> Result<char, String> {
    if let Some(character) = reference.resolve_char_ref().map_err(|error| error.to_string())? {
        return Ok(character);
    }
    match reference.decode().map_err(|error| error.to_string())?.as_ref() {
        "amp" => Ok('&'),
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        "quot" => Ok('"'),
        "apos" => Ok('\''),
        name => Err(format!("the entity `{name}` is not known")),
    }
}

/// Text between tags, or within an attribute.
pub fn escaped(text: &str) -> String {
    quick_xml::escape::escape(allowed(text)).into_owned()
}

/// Text that is left as it is.
pub fn cdata(text: &str) -> String {
    format!("<![CDATA[{}]]>", allowed(text).replace("]]>", "]]]]><![CDATA[>"))
}

/// Whether XML can hold the text as it is.
pub fn can_hold(text: &str) -> bool {
    text.chars().all(is_allowed)
}

fn allowed(text: &str) -> Cow<'_, str> {
    match can_hold(text) {
        true => Cow::Borrowed(text),
        false => text.chars().map(|c| if is_allowed(c) { c } else { '\u{fffd}' }).collect(),
    }
}

fn is_allowed(c: char) -> bool {
    // A carriage return would be read as a line feed.
    matches!(c, '\t' | '\n' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

const DEPTH_MAX: usize = 32;
const NODES_MAX: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_sections_and_entities_are_read() {
        let text = "<a><b> x &amp; &#65;\n</b><c><![CDATA[{<} ]]></c><d/></a>";
        let root = parse(&format!("<?xml version=\"1.0\"?>\n{text}")).expect("well-formed");
        assert_eq!(root.child("b").map(|node| node.text.as_str()), Some("x & A"));
        assert_eq!(root.find("c").map(|node| node.text.as_str()), Some("{<} "));
        assert!(root.child("d").is_some());
    }

    #[test]
    fn what_is_no_xml_is_an_error() {
        for text in ["", "<a>", "</a>", "<a></b>", "<a>&evil;</a>", &"<a>".repeat(100)] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse(&format!("<a>{}</a>", "<b/>".repeat(NODES_MAX))).is_err());
    }

    #[test]
    fn no_text_breaks_a_document() {
        assert_eq!(escaped("a<b>&\"c\"\u{0}"), "a&lt;b&gt;&amp;&quot;c&quot;\u{fffd}");
        assert_eq!(cdata("x]]>y\u{1b}"), "<![CDATA[x]]]]><![CDATA[>y\u{fffd}]]>");
        assert!(can_hold("größer\t\n😀") && !can_hold("\r") && !can_hold("\u{ffff}"));
    }
}
