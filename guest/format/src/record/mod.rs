//! Records and packs as they stand on the wire: the body of a PUT, before compression.
//!
//! A row comes here from `bucket`, with its batch; its record goes to `buffer`. The local server
//! comes here from the other end. Invariant: `encode` writes what MaxCompute's own clients write;
//! `decode` reads what they write, and nothing that its checksums do not vouch for.

mod block;
mod bytes;
mod convert;
pub mod crc;
mod decimal;
mod decode;
mod encode;
mod partial;
mod step;
mod value;
mod value_encode;
pub(crate) mod varint;
mod wire;

pub use block::{BLOCK_ROWS, RecordBlock};
pub use bytes::RecordBytes;
pub use convert::table_value;
pub use decimal::{decimal_text, parse_decimal};
pub use decode::{DecodedRecord, decode_pack, decode_row, decode_rows};
pub use encode::RecordEncoder;
pub use partial::{PartialRows, WrittenColumns};
pub use value::Value;
pub use value_encode::{encode_partial, encode_row, encode_values, pack_trailer, stream_trailer};

/// The effect of a record on its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Removes the row of this key; only the key is written.
    Delete,
    /// Puts the row in the place of any other of this key.
    Upsert,
}

impl Op {
    /// The effect of a row of this kind: insert and update-after put, update-before and delete
    /// remove.
    pub const fn of(kind: crate::batch::RowKind) -> Self {
        if kind.removes() { Self::Delete } else { Self::Upsert }
    }

    /// The byte of the `__operation` column: `U` or `D`.
    pub(crate) const fn letter(self) -> u8 {
        match self {
            Self::Delete => b'D',
            Self::Upsert => b'U',
        }
    }
}
