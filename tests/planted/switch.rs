//! The switch of the planted bugs: the module `planted` of the copy of the core that has them all.
//!
//! Below every machine: the lines that the patches in `bugs/` insert ask it first. Invariant: at
//! most one bug is on, and none before the first is planted.

use core::sync::atomic::{AtomicU64, Ordering};

/// The number of the bug that is on; of none in the beginning, for no name has the number 0.
static PLANTED: AtomicU64 = AtomicU64::new(0);

/// Plants the bug of this name in place of the one before, or none.
pub fn plant(name: Option<&str>) {
    PLANTED.store(name.map_or(0, number), Ordering::Relaxed);
}

/// Whether the bug of this name is on.
#[macro_export]
macro_rules! planted {
    ($name:literal) => {
        $crate::planted::is_on(const { $crate::planted::number($name) })
    };
}

/// Whether the bug of this number is on.
#[inline]
pub(crate) fn is_on(number: u64) -> bool {
    PLANTED.load(Ordering::Relaxed) == number
}

/// A name as a number (its FNV-1a hash), so that a machine compares no texts on a row's way.
pub(crate) const fn number(name: &str) -> u64 {
    let name = name.as_bytes();
    let (mut number, mut at) = (0xCBF2_9CE4_8422_2325, 0);
    while at < name.len() {
        number = (number ^ name[at] as u64).wrapping_mul(0x0100_0000_01B3);
        at += 1;
    }
    assert!(number != 0, "0 stands for no bug: take another name");
    number
}
