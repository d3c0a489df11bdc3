//! The figures that the demo tells of its table: totals, and the busiest carriers.
//!
//! Made by `demo.rs` of the rows that it reads back. Invariant: the figures are those that SQL
//! gives: a delay that is null counts in no sum and in no average.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::Context;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::DataType;

/// The columns that the figures are made of.
pub(super) const COLUMNS: [&str; 4] = ["day", "carrier", "distance", "arr_delay"];

/// Carriers that are shown.
const SHOWN: usize = 5;

/// All that was added up.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) rows: u64,
    /// Those that have rows: the table's partitions.
    pub(super) days: BTreeSet<String>,
    pub(super) distance: i64,
    pub(super) arr_delay: i64,
    carriers: BTreeMap<String, Carrier>,
}

/// The share of one carrier.
#[derive(Debug, Default)]
struct Carrier {
    flights: i64,
    /// Flights whose delay is known, and the sum of those delays.
    landed: i64,
    arr_delay: i64,
}

impl Figures {
    /// Adds the rows of a batch that has [`COLUMNS`].
    pub(super) fn add(&mut self, batch: &RecordBatch) -> anyhow::Result<()> {
        let [day, carrier] = [texts(batch, "day")?, texts(batch, "carrier")?];
        let [distance, arr_delay] = [numbers(batch, "distance")?, numbers(batch, "arr_delay")?];
        for row in 0..batch.num_rows() {
            self.rows += 1;
            if !self.days.contains(day.value(row)) {
                self.days.insert(day.value(row).to_owned());
            }
            self.distance += value(&distance, row).unwrap_or_default();
            let carrier = self.carriers.entry(carrier.value(row).to_owned()).or_default();
            carrier.flights += 1;
            if let Some(arr_delay) = value(&arr_delay, row) {
                carrier.landed += 1;
                carrier.arr_delay += arr_delay;
                self.arr_delay += arr_delay;
            }
        }
        Ok(())
    }

    /// The carriers with the most flights, and by how many minutes they are late on the average.
    pub(super) fn busiest(&self) -> anyhow::Result<RecordBatch> {
        let mut busiest: Vec<(&String, &Carrier)> = self.carriers.iter().collect();
        busiest.sort_by_key(|(_, carrier)| std::cmp::Reverse(carrier.flights));
        busiest.truncate(SHOWN);
        let names = busiest.iter().map(|(name, _)| name.as_str());
        let flights = busiest.iter().map(|(_, carrier)| carrier.flights);
        let late: Float64Array = busiest.iter().map(|(_, carrier)| carrier.late()).collect();
        let columns: [(&str, ArrayRef); 3] = [
            ("carrier", Arc::new(StringArray::from_iter_values(names))),
            ("flights", Arc::new(Int64Array::from_iter_values(flights))),
            ("late_by_minutes", Arc::new(late)),
        ];
        Ok(RecordBatch::try_from_iter(columns)?)
    }
}

impl Carrier {
    /// The average delay with one digit after the point, if any is known.
    fn late(&self) -> Option<f64> {
        let average = self.arr_delay as f64 / self.landed as f64;
        (self.landed > 0).then(|| (average * 10.0).round() / 10.0)
    }
}

fn column(batch: &RecordBatch, name: &str, wanted: &DataType) -> anyhow::Result<ArrayRef> {
    let column = batch.column_by_name(name).with_context(|| format!("no column {name}"))?;
    // A value that does not fit must be an error, not null.
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    Ok(cast_with_options(column, wanted, &strict)?)
}

fn texts(batch: &RecordBatch, name: &str) -> anyhow::Result<StringArray> {
    Ok(column(batch, name, &DataType::Utf8)?.as_string::<i32>().clone())
}

fn numbers(batch: &RecordBatch, name: &str) -> anyhow::Result<Int64Array> {
    Ok(column(batch, name, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}

fn value(numbers: &Int64Array, row: usize) -> Option<i64> {
    numbers.is_valid(row).then(|| numbers.value(row))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(day: &str, rows: &[(&str, i64, Option<i64>)]) -> RecordBatch {
        let columns: [(&str, ArrayRef); 4] = [
            ("day", Arc::new(StringArray::from(vec![day; rows.len()]))),
            ("carrier", Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.0)))),
            ("distance", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1)))),
            ("arr_delay", Arc::new(rows.iter().map(|row| row.2).collect::<Int64Array>())),
        ];
        RecordBatch::try_from_iter(columns).expect("equal lengths")
    }

    #[test]
    fn a_delay_that_is_not_known_counts_in_no_sum_and_no_average() {
        let mut figures = Figures::default();
        let first = [("AA", 100, Some(4)), ("UA", 10, None), ("AA", 100, None)];
        figures.add(&batch("mon", &first)).expect("added");
        let second = [("AA", 100, Some(-5)), ("AA", 100, Some(2)), ("UA", 10, None)];
        figures.add(&batch("tue", &second)).expect("added");
        assert_eq!((figures.rows, figures.days.len()), (6, 2));
        assert_eq!((figures.distance, figures.arr_delay), (420, 1));
        let shown = arrow_cast::pretty::pretty_format_batches(&[figures.busiest().expect("made")]);
        let expected = "\
+---------+---------+-----------------+
| carrier | flights | late_by_minutes |
+---------+---------+-----------------+
| AA      | 4       | 0.3             |
| UA      | 2       |                 |
+---------+---------+-----------------+";
        assert_eq!(shown.expect("shown").to_string(), expected);
    }

    #[test]
    fn only_the_busiest_carriers_are_shown() {
        let mut figures = Figures::default();
        let carriers = ["A", "B", "C", "D", "E", "F"];
        for (at, carrier) in carriers.iter().enumerate() {
            figures.add(&batch("mon", &vec![(*carrier, 1, Some(0)); at + 1])).expect("added");
        }
        let busiest = figures.busiest().expect("made");
        let names: Vec<_> = busiest.column(0).as_string::<i32>().iter().flatten().collect();
        assert_eq!(names, ["F", "E", "D", "C", "B"]);
    }
}
