//! Finds the name that a misspelt one was probably meant to be.
//!
//! Used at open, for messages only. Invariant: a suggestion is one of the candidates.

use alloc::vec::Vec;

/// The candidate that is fewest edits away from `name`, if that is close enough to be meant: at
/// most a third of its letters differ. Case does not matter; of equals the first wins.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = name.chars().count().div_ceil(3);
    candidates
        .into_iter()
        .map(|candidate| (edits(name, candidate), candidate))
        .min_by_key(|(edits, _)| *edits)
        .filter(|(edits, _)| *edits <= most)
        .map(|(_, candidate)| candidate)
}

/// How many letters to insert, delete, replace or exchange with the next one to turn one name into
/// the other.
fn edits(from: &str, to: &str) -> usize {
    let lower = |name: &str| name.chars().flat_map(char::to_lowercase).collect::<Vec<char>>();
    let (from, to) = (lower(from), lower(to));
    // The last three rows of the table of distances between the beginnings of both names.
    let mut before_last = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for i in 0..from.len() {
        let mut row = Vec::with_capacity(last.len());
        row.push(i + 1);
        for j in 0..to.len() {
            let replaced = last[j] + usize::from(from[i] != to[j]);
            let mut least = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && from[i] == to[j - 1] && from[i - 1] == to[j] {
                least = least.min(before_last[j - 1] + 1);
            }
            row.push(least);
        }
        before_last = core::mem::replace(&mut last, row);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_finds_its_neighbour() {
        let names = ["carrier", "flight", "origin", "dep_delay"];
        assert_eq!(nearest("carier", names), Some("carrier"));
        assert_eq!(nearest("DEPDELAY", names), Some("dep_delay"));
        assert_eq!(nearest("fligth", names), Some("flight"));
        assert_eq!(nearest("tailnum", names), None);
        assert_eq!(nearest("", names), None);
        assert_eq!(nearest("x", []), None);
    }
}
