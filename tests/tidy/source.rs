//! A Rust file with its comments and literals blanked out, and what a small lexer can tell of it.
//!
//! Under every rule of this suite.
//! Invariant: `code` has the lines of the text, and nothing of comments and literals.

/// A Rust file, ready to be looked at.
pub(crate) struct RustFile {
    /// From the top of the tree.
    pub(crate) path: String,
    /// As it is.
    pub(crate) lines: Vec<String>,
    /// With comments, strings and character literals blanked.
    pub(crate) code: Vec<String>,
    /// For each line: whether it belongs to tests.
    pub(crate) in_tests: Vec<bool>,
}

/// One function with a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    /// Its name.
    pub(crate) name: String,
    /// The line of its `fn`, from zero.
    pub(crate) first: usize,
    /// The line of its closing brace.
    pub(crate) last: usize,
}

impl RustFile {
    /// Looks at `text`.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let code: Vec<String> = blank(text).lines().map(str::to_owned).collect();
        let in_tests = test_lines(path, &code);
        Self { path: path.into(), lines: text.lines().map(str::to_owned).collect(), code, in_tests }
    }

    /// The lines of code outside tests: number from one, blanked text.
    pub(crate) fn shipped(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.code.iter().zip(&self.in_tests).enumerate();
        lines
            .filter(|(_, (_, test))| !**test)
            .map(|(number, (line, _))| (number + 1, line.as_str()))
    }

    /// All lines of code: number from one, blanked text.
    pub(crate) fn all(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.iter().enumerate().map(|(number, line)| (number + 1, line.as_str()))
    }

    /// The functions with a body, in order.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let mut found = Vec::new();
        for (first, line) in self.code.iter().enumerate() {
            for at in word_places(line, "fn") {
                let name: String =
                    line[at + 2..].trim_start().chars().take_while(|c| is_word(*c)).collect();
                // `fn(u8) -> u8` is a type, and a function of a trait may end with a semicolon.
                if !name.is_empty()
                    && let Some(last) = end_of_body(&self.code, first, at)
                {
                    found.push(Function { name, first, last });
                }
            }
        }
        found
    }
}

/// Whether a character can be part of a name.
pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where `word` stands alone in `line`.
pub(crate) fn word_places(line: &str, word: &str) -> Vec<usize> {
    let alone =
        |at: usize| !line[..at].ends_with(is_word) && !line[at + word.len()..].starts_with(is_word);
    line.match_indices(word).map(|(at, _)| at).filter(|at| alone(*at)).collect()
}

/// The line where the braces that open after this place close; none if a semicolon comes first.
fn end_of_body(code: &[String], first: usize, column: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut brackets = 0_usize;
    for (number, line) in code.iter().enumerate().skip(first) {
        let start = if number == first { column } else { 0 };
        for c in line[start..].chars() {
            match c {
                '(' | '[' => brackets += 1,
                ')' | ']' => brackets = brackets.saturating_sub(1),
                '{' => depth += 1,
                '}' if depth == 1 => return Some(number),
                '}' => depth = depth.saturating_sub(1),
                ';' if depth == 0 && brackets == 0 => return None,
                _ => {}
            }
        }
    }
    None
}

/// Which lines belong to tests: the whole file by its place, or what `#[cfg(test)]` stands before.
fn test_lines(path: &str, code: &[String]) -> Vec<bool> {
    let by_place = path.starts_with("tests/")
        || path.contains("/tests/")
        || path.ends_with("/tests.rs")
        || path.ends_with("_tests.rs");
    let mut lines = vec![by_place; code.len()];
    for (first, line) in code.iter().enumerate() {
        if line.contains("#[cfg(test)]") || line.contains("#[test]") {
            let column = line.find("#[").unwrap_or(0);
            let after = line[column..].find(']').map_or(line.len(), |at| column + at + 1);
            let last = end_of_body(code, first, after).unwrap_or(first);
            lines[first..=last].fill(true);
        }
    }
    lines
}

/// Where the lexer is.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    Code,
    LineComment,
    BlockComment(usize),
    Text,
    RawText(usize),
}

/// Replaces everything but code and line ends by spaces.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut place = Place::Code;
    let mut at = 0;
    while at < chars.len() {
        let (next, taken) = step(place, &chars, at);
        let shown = place == Place::Code && next == Place::Code && taken == 1;
        for c in &chars[at..at + taken] {
            out.push(if *c == '\n' || shown { *c } else { ' ' });
        }
        place = next;
        at += taken;
    }
    out
}

/// One step of the lexer: where it is afterwards, and how many characters it took.
fn step(place: Place, chars: &[char], at: usize) -> (Place, usize) {
    let next = chars.get(at + 1).copied();
    match (place, chars[at]) {
        (Place::Code, '/') if next == Some('/') => (Place::LineComment, 2),
        (Place::Code, '/') if next == Some('*') => (Place::BlockComment(1), 2),
        (Place::Code, '"') => (Place::Text, 1),
        (Place::Code, 'r') if at == 0 || !is_word(chars[at - 1]) || chars[at - 1] == 'b' => {
            raw_text(chars, at).unwrap_or((Place::Code, 1))
        }
        (Place::Code, '\'') => (Place::Code, char_literal(chars, at)),
        (Place::LineComment, '\n') => (Place::Code, 1),
        (Place::BlockComment(depth), '/') if next == Some('*') => {
            (Place::BlockComment(depth + 1), 2)
        }
        (Place::BlockComment(1), '*') if next == Some('/') => (Place::Code, 2),
        (Place::BlockComment(depth), '*') if next == Some('/') => {
            (Place::BlockComment(depth - 1), 2)
        }
        (Place::Text, '\\') => (Place::Text, 2.min(chars.len() - at)),
        (Place::Text, '"') => (Place::Code, 1),
        (Place::RawText(hashes), '"') if closes(chars, at, hashes) => (Place::Code, 1 + hashes),
        (place, _) => (place, 1),
    }
}

/// The beginning of `r"…"` or `r#"…"#`, if it is one.
fn raw_text(chars: &[char], at: usize) -> Option<(Place, usize)> {
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    (chars.get(at + 1 + hashes) == Some(&'"')).then_some((Place::RawText(hashes), 2 + hashes))
}

/// Whether a quote ends a raw text of this many hashes.
fn closes(chars: &[char], at: usize, hashes: usize) -> bool {
    chars[at + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes
}

/// The length of the character literal that starts here; 1 for a lifetime.
fn char_literal(chars: &[char], at: usize) -> usize {
    match chars.get(at + 1) {
        Some('\\') => {
            let rest = chars[at + 3..].iter().take(12).position(|c| *c == '\'');
            rest.map_or(1, |end| end + 4)
        }
        Some(_) if chars.get(at + 2) == Some(&'\'') => 3,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked() {
        let text =
            "a /* b /* c */ d */ e // f\n\"g\\\"h\" i r#\"j\"k\"# l '\"' m '\\'' n<'o> br\"p\"";
        let code = blank(text);
        let words: Vec<&str> = code.split_whitespace().collect();
        assert_eq!(words, ["a", "e", "i", "l", "m", "n<'o>", "b"], "{code}");
        assert_eq!(code.lines().count(), 2);
    }

    #[test]
    fn functions_are_measured_from_fn_to_brace() {
        let text =
            "fn a() {\n  if b { c() }\n}\ntrait T { fn d(x: [u8; 2]);\nfn e(f: fn(u8)) {\n} }";
        let file = RustFile::new("x.rs", text);
        let found = file.functions();
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!((found[0].first, found[0].last), (0, 2));
        assert_eq!((found[1].name.as_str(), found[1].first, found[1].last), ("e", 4, 5));
    }

    #[test]
    fn lines_of_tests_are_known() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n  fn b() {}\n}\nfn c() {}";
        let file = RustFile::new("guest/x.rs", text);
        assert_eq!(file.in_tests, [false, true, true, true, true, false]);
        assert!(RustFile::new("guest/x/tests.rs", "fn a() {}").in_tests[0]);
    }
}
