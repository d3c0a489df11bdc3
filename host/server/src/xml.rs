//! Text in XML: what the vendor's clients can read, whatever it says.
//!
//! Used by every answer of the ODPS plane. Invariant: a document stays well-formed and means what
//! was put in, but for characters that XML cannot hold: those become U+FFFD.

use std::borrow::Cow;

/// Text between tags, or within an attribute.
pub(crate) fn escaped(text: &str) -> String {
    quick_xml::escape::escape(allowed(text)).into_owned()
}

/// Text that is left as it is.
pub(crate) fn cdata(text: &str) -> String {
    format!("<![CDATA[{}]]>", allowed(text).replace("]]>", "]]]]><![CDATA[>"))
}

/// Whether XML can hold the text as it is.
pub(crate) fn can_hold(text: &str) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_breaks_a_document() {
        assert_eq!(escaped("a<b>&\"c\"\u{0}"), "a&lt;b&gt;&amp;&quot;c&quot;\u{fffd}");
        assert_eq!(cdata("x]]>y\u{1b}"), "<![CDATA[x]]]]><![CDATA[>y\u{fffd}]]>");
        assert!(can_hold("größer\t\n😀") && !can_hold("\r") && !can_hold("\u{ffff}"));
    }
}
