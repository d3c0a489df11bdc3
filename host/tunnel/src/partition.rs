//! The spellings of a partition on the wire, and the canonical one:
//! `day='2013-01-01',hour='7'`.
//!
//! Used by `table/mod.rs`, `catalog.rs` and `compaction.rs`. Invariant: what does not follow the
//! grammar exactly goes into no request and no SQL.

use crate::error::{TunnelError, escape};

/// As the Tunnel's query wants it: without quotes.
pub(crate) fn for_query(spec: &str) -> Option<String> {
    let levels = levels(spec)?;
    let levels: Vec<_> = levels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    Some(levels.join(","))
}

/// As SQL wants it: with quotes, and the names in back quotes.
pub(crate) fn for_sql(spec: &str) -> Option<String> {
    let levels = levels(spec)?;
    let levels: Vec<_> = levels.iter().map(|(name, value)| format!("`{name}`='{value}'")).collect();
    Some(levels.join(","))
}

/// As it is, if it is spelled like that.
pub(crate) fn canonical(spec: &str) -> Option<&str> {
    levels(spec).map(|_| spec)
}

/// The canonical one from the name that a catalog lists: with quotes or without, and with `,` or
/// `/` between levels.
pub(crate) fn listed(name: &str) -> Option<String> {
    let level = |level: &str| {
        let (name, value) = level.split_once('=')?;
        let quoted = |quote| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
        let value = quoted('\'').or_else(|| quoted('"')).unwrap_or(value);
        Some(format!("{name}='{value}'"))
    };
    let spec: Option<Vec<String>> = name.split([',', '/']).map(level).collect();
    spec.map(|levels| levels.join(",")).filter(|spec| levels(spec).is_some())
}

/// The error of one that is spelled otherwise.
pub(crate) fn malformed(spec: &str) -> TunnelError {
    let spec = escape(spec, 200);
    TunnelError::unusable(format!("`{spec}` is not of the form name='value',…"))
}

fn levels(spec: &str) -> Option<Vec<(&str, &str)>> {
    let levels: Option<Vec<_>> = spec.split(',').map(level).collect();
    levels.filter(|levels| levels.len() <= LEVELS_MAX)
}

fn level(level: &str) -> Option<(&str, &str)> {
    let (name, value) = level.split_once('=')?;
    let value = value.strip_prefix('\'')?.strip_suffix('\'')?;
    let name_is_sound = !name.is_empty()
        && name.len() <= 128
        && name.chars().all(|character| character.is_alphanumeric() || character == '_');
    // None of these can be told apart in a partition's name by the service and its clients.
    let breaks = |c: char| c.is_control() || matches!(c, '\'' | '"' | '\\' | '/' | '=' | '`');
    let value_is_sound = !value.is_empty() && value.len() <= 1024 && !value.contains(breaks);
    (name_is_sound && value_is_sound).then_some((name, value))
}

/// The service allows six levels.
const LEVELS_MAX: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_has_two_spellings() {
        let spec = "day='2013-01-01',h='a b'";
        assert_eq!(for_query(spec).as_deref(), Some("day=2013-01-01,h=a b"));
        assert_eq!(for_sql(spec).as_deref(), Some("`day`='2013-01-01',`h`='a b'"));
    }

    #[test]
    fn a_listed_name_is_read_in_every_spelling() {
        let spec = "day='2013-01-01',h='a b'";
        for name in [spec, "day=2013-01-01/h=a b", "day=\"2013-01-01\",h='a b'"] {
            assert_eq!(listed(name).as_deref(), Some(spec), "{name}");
        }
        for name in ["", "day", "day=", "day='x/y'", "day='a\\'b'", "d='1'/e", "day='a=b'"] {
            assert_eq!(listed(name), None, "{name}");
        }
    }

    #[test]
    fn nothing_gets_out_of_its_quotes() {
        for spec in [
            "",
            "day",
            "day=1",
            "day='1",
            "day='1''",
            "day='a' ) ; drop",
            "d-y='1'",
            "day='a\n'",
            "day='a\\'",
            "day=''",
            "day='1',",
            "day='x/y'",
        ] {
            assert_eq!(for_sql(spec), None, "{spec}");
        }
    }
}
