//! The op column: which of its values insert, update or delete.
//!
//! `parquet.rs` and `json.rs` translate with it. Invariant: a value that nobody declared is an
//! error, never a guess.

use std::collections::BTreeMap;

use arrow_array::{Array, StringArray};
use upsert_sink::RowKind;

/// From a value of the op column to what its row does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OpColumn {
    /// The column's name.
    pub(crate) name: String,
    kinds: BTreeMap<String, RowKind>,
}

/// The meaning of an op column's values where the job does not say.
const DEFAULT: &[(&str, RowKind)] = &[
    ("I", RowKind::Insert),
    ("U", RowKind::UpdateAfter),
    ("D", RowKind::Delete),
    ("+I", RowKind::Insert),
    ("-U", RowKind::UpdateBefore),
    ("+U", RowKind::UpdateAfter),
    ("-D", RowKind::Delete),
];

impl OpColumn {
    /// A column with the usual values: `I`, `U`, `D`, and Flink's `+I`, `-U`, `+U`, `-D`.
    pub(crate) fn new(name: &str) -> Self {
        let kinds = DEFAULT.iter().map(|(value, kind)| (String::from(*value), *kind)).collect();
        Self { name: String::from(name), kinds }
    }

    /// A column with values of its own, each mapped to `insert`, `update`, `update-before` or
    /// `delete`.
    ///
    /// Errors: the name of a kind that there is not, as text.
    pub(crate) fn with_values(
        name: &str,
        values: &BTreeMap<String, String>,
    ) -> Result<Self, String> {
        let mut kinds = BTreeMap::new();
        for (value, kind) in values {
            kinds.insert(value.clone(), parse_kind(kind)?);
        }
        Ok(Self { name: String::from(name), kinds })
    }

    /// The values that remove a row.
    pub(crate) fn removing(&self) -> Vec<String> {
        let removes = |kind: &RowKind| matches!(kind, RowKind::Delete | RowKind::UpdateBefore);
        let removing = self.kinds.iter().filter(|(_, kind)| removes(kind));
        removing.map(|(value, _)| value.clone()).collect()
    }

    /// Whether one of its values is for before-images.
    pub(crate) fn has_before_images(&self) -> bool {
        self.kinds.values().any(|kind| *kind == RowKind::UpdateBefore)
    }

    /// The kinds of a batch's rows.
    ///
    /// Errors: the index of the row, and what is wrong with its value.
    pub(crate) fn translate(&self, ops: &StringArray) -> Result<Vec<RowKind>, (usize, String)> {
        let mut kinds = Vec::with_capacity(ops.len());
        for row in 0..ops.len() {
            let kind = if ops.is_null(row) { None } else { self.kinds.get(ops.value(row)) };
            kinds.push(*kind.ok_or_else(|| (row, self.unknown(ops, row)))?);
        }
        Ok(kinds)
    }

    fn unknown(&self, ops: &StringArray, row: usize) -> String {
        let value = if ops.is_null(row) { "null" } else { ops.value(row) };
        let known: Vec<&str> = self.kinds.keys().map(String::as_str).collect();
        format!(
            "op column `{}` = {value:?}: the job maps only {}; map it in [source.ops]",
            self.name,
            known.join(", ")
        )
    }
}

fn parse_kind(text: &str) -> Result<RowKind, String> {
    match text {
        "insert" => Ok(RowKind::Insert),
        "update" | "update-after" => Ok(RowKind::UpdateAfter),
        "update-before" => Ok(RowKind::UpdateBefore),
        "delete" => Ok(RowKind::Delete),
        _ => Err(format!("{text:?}: use insert, update, update-before or delete")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_undeclared_value_is_refused_with_its_row() {
        let column = OpColumn::new("op");
        let ops = StringArray::from(vec!["I", "U", "D"]);
        let kinds = column.translate(&ops).expect("all are known");
        assert_eq!(kinds, [RowKind::Insert, RowKind::UpdateAfter, RowKind::Delete]);
        let ops = StringArray::from(vec![Some("I"), Some("X"), None]);
        let (row, message) = column.translate(&ops).expect_err("X is not");
        assert_eq!(row, 1);
        assert!(message.contains("\"X\"") && message.contains("[source.ops]"));
    }

    #[test]
    fn a_job_may_name_its_own_values() {
        let values = BTreeMap::from([(String::from("put"), String::from("update"))]);
        let column = OpColumn::with_values("verb", &values).expect("valid");
        let kinds = column.translate(&StringArray::from(vec!["put"])).expect("known");
        assert_eq!(kinds, [RowKind::UpdateAfter]);
        let values = BTreeMap::from([(String::from("x"), String::from("upsertt"))]);
        assert!(OpColumn::with_values("verb", &values).is_err());
    }
}
