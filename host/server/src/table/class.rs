//! Classes of keys, for buckets whose keys do not fit into memory all at once.
//!
//! Under `merge.rs` and `overlay.rs`, which read a bucket once for each class. Invariant: a key is
//! in exactly one class of a division, and in exactly one half of its class.

/// The keys whose checksum leaves `rest` when divided by `of`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Class {
    of: u32,
    rest: u32,
}

impl Class {
    /// Every key.
    pub(super) const ALL: Self = Self { of: 1, rest: 0 };

    /// All keys in so many classes.
    pub(super) fn division(of: u32) -> impl Iterator<Item = Self> {
        (0..of).map(move |rest| Self { of, rest })
    }

    /// Whether a key is in it.
    pub(super) fn has(self, key: &[u8]) -> bool {
        self.of == 1 || crc32c::crc32c(key) % self.of == self.rest
    }

    /// Whether it may be divided once more.
    pub(super) fn is_divisible(self) -> bool {
        self.of < CLASSES_MAX
    }

    /// The two classes that it is made of, in the order in which they are left when it is popped.
    pub(super) fn halves(self) -> [Self; 2] {
        let of = self.of * 2;
        [Self { of, rest: self.rest + self.of }, Self { of, rest: self.rest }]
    }
}

/// Classes of keys, at most; beyond that a single key would be too large.
const CLASSES_MAX: u32 = 1 << 16;
