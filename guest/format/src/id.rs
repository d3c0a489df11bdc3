//! Newtypes for ids and units, so that two numbers of different meaning cannot be exchanged.
//!
//! Used on every step of a row's way. Invariant: a value of one of these types is what its name
//! says, nothing else.

use alloc::string::String;
use core::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// Milliseconds since the Unix epoch, or a span of milliseconds.
    Millis(u64)
}
number! {
    /// The stream engine's number of a checkpoint; zero is "none yet".
    CheckpointId(u64)
}
number! {
    /// The guest's name for one submitted operation.
    Ticket(u64)
}
number! {
    /// A number of bytes.
    ByteCount(u64)
}
number! {
    /// A whole number of hours.
    Hours(u32)
}
number! {
    /// A hash bucket of a partition, from zero.
    BucketId(u32)
}
number! {
    /// A writer's name for a segment of its file cache.
    SegmentId(u32)
}
number! {
    /// A writer (sink task) of this sink, from zero.
    WriterIndex(u32)
}

impl Millis {
    /// This time `span` later; at the end of time it stays there.
    pub const fn plus(self, span: Self) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// The span from `earlier` to this time; zero if that is later.
    pub const fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }
}

impl Hours {
    /// The same span in milliseconds.
    pub fn millis(self) -> Millis {
        Millis(u64::from(self.0) * 3_600_000)
    }
}

/// The service's id of an upsert session.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SessionId(pub String);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
