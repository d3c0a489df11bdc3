//! Promises of batches: what `wit/README.md` allows is read, everything else is refused with its
//! place.
//!
//! Belongs to `batch`; random corruption is in `tests/record_properties.rs`. Invariant: no refusal
//! panics.

use alloc::string::{String, ToString};
use alloc::vec;

use super::form::{BUFFER_BYTES, HEADER_BYTES, NODE_BYTES};
use super::*;
use crate::schema::RowType;

fn plan(types: &[&str]) -> RowPlan {
    let column = |(index, text): (usize, &&str)| {
        (alloc::format!("c{index}"), RowType::parse(text).expect(text))
    };
    let row_columns = types.iter().enumerate().map(column).collect();
    RowPlan { row_columns, columns: vec![], partition_columns: vec![] }
}

/// Three rows of a number and a text.
fn sample() -> Vec<u8> {
    BatchBuilder::new(3)
        .kinds(&[RowKind::Insert, RowKind::UpdateAfter, RowKind::Delete])
        .column(ColumnBuilder::int64([Some(1), None, Some(3)]))
        .column(ColumnBuilder::utf8([Some("a"), Some("zwölf"), None]))
        .build()
}

const SAMPLE_TYPES: [&str; 2] = ["BIGINT", "VARCHAR(9)"];

/// Where the sample's buffers are listed.
const BUFFERS: usize = HEADER_BYTES + 2 * NODE_BYTES;

fn refusal(change: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut bytes = sample();
    change(&mut bytes);
    let error = RowBatch::parse(&bytes, &plan(&SAMPLE_TYPES)).expect_err("a corrupt batch");
    assert_eq!(error.kind, crate::error::ErrorKind::Corrupt);
    error.to_string()
}

fn put(bytes: &mut [u8], at: usize, number: u32) {
    bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
}

/// Where a buffer of the sample begins.
fn start(bytes: &[u8], buffer: usize) -> usize {
    let at = BUFFERS + buffer * BUFFER_BYTES;
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes")) as usize
}

#[test]
fn rows_read_back_as_they_were_built() {
    let (bytes, plan) = (sample(), plan(&SAMPLE_TYPES));
    let batch = RowBatch::parse(&bytes, &plan).expect("a batch");
    assert_eq!(batch.rows(), 3);
    let kinds: Vec<RowKind> = (0..3).map(|row| batch.kind(row)).collect();
    assert_eq!(kinds, [RowKind::Insert, RowKind::UpdateAfter, RowKind::Delete]);
    let numbers: Vec<_> = (0..3).map(|row| batch.column(0).integer(row)).collect();
    assert_eq!(numbers, [Some(1), None, Some(3)]);
    let texts: Vec<_> = (0..3).map(|row| batch.column(1).text(row)).collect();
    assert_eq!(texts, [Some("a"), Some("zwölf"), None]);
    assert_eq!(batch.column(1).bytes(0), Some(&b"a"[..]));
    assert_eq!(batch.column(1).integer(0), None);
}

#[test]
fn short_texts_are_equal_exactly_if_their_bytes_are() {
    let texts =
        ["", "\0", "\0\0", "a", "\0a", "a\0", "2026-01-01", "2026-01-02", "0123456789abcdef"];
    let more = ["0123456789abcdeF", "\x00123456789abcdef", "a", "0123456789abcdefg", ""];
    let texts: Vec<&str> = texts.into_iter().chain(more).collect();
    let column = ColumnBuilder::utf8(texts.iter().map(|text| Some(*text)));
    let bytes = BatchBuilder::new(texts.len()).column(column).build();
    let batch = RowBatch::parse(&bytes, &plan(&["STRING"])).expect("a batch");
    let Values::Utf8(slices) = batch.column(0).values else { panic!("a column of text") };
    let short: Vec<_> = (0..texts.len()).map(|row| slices.short(row)).collect();
    for (a, text) in short.iter().zip(&texts) {
        assert_eq!(a.is_some(), text.len() <= 16);
        for (b, other) in short.iter().zip(&texts).filter(|_| a.is_some()) {
            assert_eq!(a == b, text == other, "{text:?} {other:?}");
        }
    }
}

#[test]
fn a_batch_without_kinds_is_all_inserts_and_may_be_empty() {
    let plan = plan(&SAMPLE_TYPES);
    let one = BatchBuilder::new(1)
        .column(ColumnBuilder::int64([Some(1)]))
        .column(ColumnBuilder::utf8([Some("")]))
        .build();
    assert_eq!(RowBatch::parse(&one, &plan).expect("a batch").kind(0), RowKind::Insert);
    let none = BatchBuilder::new(0)
        .column(ColumnBuilder::int64([]))
        .column(ColumnBuilder::utf8([]))
        .build();
    assert_eq!(RowBatch::parse(&none, &plan).expect("a batch").rows(), 0);
}

#[test]
fn the_header_is_checked() {
    assert!(refusal(|b| b[0] = b'X').contains("USRB"));
    assert!(refusal(|b| b.truncate(5)).contains("USRB"));
    assert!(refusal(|b| b[4] = 2).contains("version 2"));
    assert!(refusal(|b| b[6] = 2).contains("form 2"));
    assert!(refusal(|b| b[6] = 3).contains("form 3"));
    assert!(refusal(|b| b.truncate(30)).contains("ends before"));
    assert!(refusal(|b| b.push(0)).contains("length"));
    assert!(refusal(|b| put(b, 16, u32::MAX)).contains("do not fit"));
    assert!(refusal(|b| put(b, 20, u32::MAX)).contains("do not fit"));
    assert!(refusal(|b| put(b, 12, 3)).contains("3 columns"));
    assert!(refusal(|b| put(b, 8, 4)).contains("3 kinds for 4 rows"));
    assert!(refusal(|b| put(b, 16, 1)).contains("batch"));
}

#[test]
fn kinds_and_nodes_are_checked() {
    let kinds = |b: &[u8]| u32::from_le_bytes(b[32..36].try_into().expect("4 bytes")) as usize;
    assert!(
        refusal(|b| {
            let at = kinds(b);
            b[at + 2] = 4;
        })
        .contains("row 2 has 4")
    );
    let node = HEADER_BYTES;
    assert!(refusal(|b| b[node] = 4).contains("layout 4, but BIGINT has layout 5"));
    assert!(refusal(|b| b[node + 1] = 1).contains("unit 1"));
    assert!(refusal(|b| b[node + 2] = 1).contains("scale 1"));
    assert!(refusal(|b| b[node + 3] = 1).contains("fourth byte"));
    assert!(refusal(|b| put(b, node + 4, 1)).contains("1 children"));
    assert!(refusal(|b| put(b, node + 8, 2)).contains("2 values instead of 3"));
    assert!(refusal(|b| put(b, node + 12, 5)).contains("buffer 5 of 5"));
    assert!(refusal(|b| put(b, node + 12, u32::MAX)).contains("of 5"));
}

#[test]
fn buffers_and_offsets_are_checked() {
    let values = BUFFERS + BUFFER_BYTES;
    assert!(refusal(|b| put(b, values, 4)).contains("multiple of 8"));
    assert!(refusal(|b| put(b, values, 0)).contains("must lie between"));
    assert!(refusal(|b| put(b, values, u32::MAX - 7)).contains("must lie between"));
    assert!(refusal(|b| put(b, values + 4, 16)).contains("16 bytes instead of 24"));
    assert!(refusal(|b| put(b, values + 4, u32::MAX)).contains("must lie between"));
    let offset = |index: usize, value: u32| {
        move |b: &mut Vec<u8>| {
            let at = start(b, 3);
            put(b, at + 4 * index, value);
        }
    };
    assert!(refusal(offset(0, 1)).contains("begin with 0"));
    assert!(refusal(offset(2, 0)).contains("rise"));
    assert!(refusal(offset(1, u32::MAX)).contains("rise"));
    assert!(refusal(offset(3, 8)).contains("end at 8, but there are 7"));
}

#[test]
fn text_is_utf8_unless_it_is_null() {
    let broken = |row: usize| {
        move |b: &mut Vec<u8>| {
            let at = start(b, 4);
            b[at + row] = 0xff;
        }
    };
    let message = refusal(broken(1));
    assert!(message.contains("column c1") && message.contains("value 1"), "{message}");
    // A cut through the middle of a character is no text on either side.
    assert!(
        refusal(|b| {
            let at = start(b, 3);
            put(b, at + 4, 4);
        })
        .contains("not UTF-8")
    );
    let with_null = BatchBuilder::new(2)
        .column(ColumnBuilder::int64([Some(1), Some(2)]))
        .column(ColumnBuilder::utf8([Some("a"), None]))
        .build();
    let mut bytes = with_null.clone();
    let text = start(&bytes, 4);
    let offsets = start(&bytes, 3);
    bytes.resize(text + 2, 0xff);
    let length = bytes.len() as u64;
    bytes[24..32].copy_from_slice(&length.to_le_bytes());
    put(&mut bytes, BUFFERS + 4 * BUFFER_BYTES + 4, 2);
    put(&mut bytes, offsets + 8, 2);
    let plan = plan(&SAMPLE_TYPES);
    let batch = RowBatch::parse(&bytes, &plan).expect("null text is not looked at");
    assert_eq!((batch.column(1).text(0), batch.column(1).text(1)), (Some("a"), None));
}

#[test]
fn nested_columns_are_checked_like_their_parents() {
    let plan = plan(&["MAP<STRING, ARRAY<INT>>"]);
    let map = |keys: [Option<&str>; 2], lengths: [usize; 2]| {
        let elements = ColumnBuilder::list([Some(1), None], ColumnBuilder::int32([Some(7)]));
        let column = ColumnBuilder::map(lengths.map(Some), ColumnBuilder::utf8(keys), elements);
        BatchBuilder::new(2).column(column).build()
    };
    assert!(RowBatch::parse(&map([Some("a"), Some("b")], [0, 2]), &plan).is_ok());
    let refusal = |bytes: &[u8]| RowBatch::parse(bytes, &plan).expect_err("corrupt").to_string();
    assert!(refusal(&map([Some("a"), None], [1, 1])).contains("key is null"));
    assert!(refusal(&map([Some("a"), Some("b")], [1, 2])).contains("3, but there are 2 entries"));
}

#[test]
fn the_unit_of_a_time_is_that_of_its_type() {
    let build =
        |unit| BatchBuilder::new(1).column(ColumnBuilder::timestamp(unit, [Some(1)])).build();
    let plan = plan(&["TIMESTAMP(6)"]);
    assert!(RowBatch::parse(&build(TimeUnit::Micros), &plan).is_ok());
    assert!(RowBatch::parse(&build(TimeUnit::Millis), &plan).is_err());
}

#[test]
fn an_instant_is_any_timestamp_without_a_unit_and_its_nanoseconds_are_less_than_a_second() {
    let build = |rows: &[Option<(i64, u32)>]| {
        let column = ColumnBuilder::instants(rows.iter().copied());
        BatchBuilder::new(rows.len()).column(column).build()
    };
    let bytes = build(&[Some((-1, 999_999_999)), None]);
    for row_type in ["TIMESTAMP(0)", "TIMESTAMP(9)", "TIMESTAMP_LTZ(3)"] {
        let plan = plan(&[row_type]);
        let batch = RowBatch::parse(&bytes, &plan).expect(row_type);
        let Values::Instant { seconds, nanos } = batch.column(0).values else { panic!("instants") };
        assert_eq!(i64::from_le_bytes(seconds[0]), -1);
        assert_eq!(u32::from_le_bytes(nanos[0]), 999_999_999);
        assert!(batch.column(0).is_null(1));
    }
    let refusal = |bytes: &[u8], row_type: &str| {
        RowBatch::parse(bytes, &plan(&[row_type])).expect_err("corrupt").to_string()
    };
    assert!(refusal(&bytes, "BIGINT").contains("layout 18, but BIGINT has layout 5"));
    let long = build(&[Some((0, 0)), Some((0, 1_000_000_000))]);
    assert!(refusal(&long, "TIMESTAMP(9)").contains("value 1 has 1000000000 nanoseconds"));
    let mut in_seconds = bytes.clone();
    in_seconds[HEADER_BYTES + 1] = 1;
    assert!(refusal(&in_seconds, "TIMESTAMP(3)").contains("unit 1"));
    let buffers = HEADER_BYTES + NODE_BYTES;
    let mut short = bytes.clone();
    put(&mut short, buffers + 2 * BUFFER_BYTES + 4, 7);
    assert!(refusal(&short, "TIMESTAMP(3)").contains("7 bytes instead of 8"));
    // Of a null value nothing is looked at.
    let mut null = bytes.clone();
    let at = null[buffers + 2 * BUFFER_BYTES..][..4].try_into().expect("4 bytes");
    put(&mut null, u32::from_le_bytes(at) as usize + 4, u32::MAX);
    assert!(RowBatch::parse(&null, &plan(&["TIMESTAMP(9)"])).is_ok());
}
