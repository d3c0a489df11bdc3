//! XML as the catalog writes it, as a tree of names and texts.
//!
//! Used by `tunnel/response.rs`, `tunnel/sql.rs` and `tunnel/table.rs`. Invariant: depth and nodes
//! are bounded; no external entity is ever resolved.

use quick_xml::Reader;
use quick_xml::events::Event;

/// One element.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) children: Vec<Self>,
}

impl Node {
    /// The first child of that name.
    pub(crate) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The first element of that name, anywhere below.
    pub(crate) fn find(&self, name: &str) -> Option<&Self> {
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
pub(crate) fn parse(text: &str) -> Result<Node, String> {
    let mut reader = Reader::from_str(text);
    let mut open = vec![Node::default()];
    let mut nodes = 0;
    loop {
        let event = reader.read_event().map_err(|error| error.to_string())?;
        let top = open.last_mut().ok_or("an element ends that did not begin")?;
        match event {
            Event::Start(start) => {
                nodes += 1;
                if open.len() >= DEPTH_MAX || nodes >= NODES_MAX {
                    return Err(String::from("too many elements"));
                }
                let name = String::from_utf8_lossy(start.local_name().as_ref()).into_owned();
                open.push(Node { name, ..Node::default() });
            }
            Event::Empty(start) => {
                let name = String::from_utf8_lossy(start.local_name().as_ref()).into_owned();
                top.children.push(Node { name, ..Node::default() });
            }
            Event::End(_) => {
                let node = open.pop().ok_or("an element ends that did not begin")?;
                let parent = open.last_mut().ok_or("an element ends that did not begin")?;
                parent.children.push(node);
            }
            Event::Text(part) => {
                top.text += part.decode().map_err(|error| error.to_string())?.trim();
            }
            Event::CData(part) => {
                top.text += &part.decode().map_err(|error| error.to_string())?;
            }
            Event::GeneralRef(reference) => top.text.push(character(&reference)?),
            Event::Eof => break,
            _ => {}
        }
    }
    let root = open.pop().filter(|_| open.is_empty()).ok_or("it ends too early")?;
    root.children.into_iter().next().ok_or_else(|| String::from("it is empty"))
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

/// `text` inside an element.
pub(crate) fn escape(text: &str) -> String {
    quick_xml::escape::escape(text).into_owned()
}

const DEPTH_MAX: usize = 32;
const NODES_MAX: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_sections_and_entities_are_read() {
        let root =
            parse("<?xml version=\"1.0\"?>\n<a><b>x &amp; &#65;</b><c><![CDATA[{<}]]></c><d/></a>");
        let root = root.expect("well-formed");
        assert_eq!(root.child("b").map(|node| node.text.as_str()), Some("x&A"));
        assert_eq!(root.find("c").map(|node| node.text.as_str()), Some("{<}"));
        assert!(root.child("d").is_some());
    }

    #[test]
    fn what_is_no_xml_is_an_error() {
        for text in ["", "<a>", "</a>", "<a></b>", "<a>&evil;</a>", &"<a>".repeat(100)] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
