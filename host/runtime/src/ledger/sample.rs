//! Durations, of which every n-th is kept once there are many.
//!
//! Under `book.rs`, which counts the commits of thousands of partitions. Invariant: bounded; count
//! and maximum are exact, the median is exact up to the bound and afterwards that of an even
//! choice.

/// Durations in milliseconds.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    kept: Vec<u64>,
    /// One of so many is kept.
    every: u64,
    count: u64,
    max: u64,
}

impl Default for Sample {
    fn default() -> Self {
        Self { kept: Vec::new(), every: 1, count: 0, max: 0 }
    }
}

impl Sample {
    /// Adds one.
    pub(crate) fn add(&mut self, ms: u64) {
        if self.kept.len() == KEPT_MAX {
            let mut second = false;
            self.kept.retain(|_| {
                second = !second;
                second
            });
            self.every = self.every.saturating_mul(2);
        }
        if self.count.is_multiple_of(self.every) {
            self.kept.push(ms);
        }
        self.count += 1;
        self.max = self.max.max(ms);
    }

    /// How many there were.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The longest; zero without any.
    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    /// The one in the middle, the lower of two; zero without any.
    pub(crate) fn median(mut self) -> u64 {
        self.kept.sort_unstable();
        let middle = self.kept.len().saturating_sub(1) / 2;
        self.kept.get(middle).copied().unwrap_or_default()
    }
}

/// 32 KiB.
const KEPT_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_few_is_exact_and_that_of_many_is_near() {
        let sample = |count: u64| {
            let mut sample = Sample::default();
            (0..count).for_each(|ms| sample.add(ms));
            sample
        };
        assert_eq!(sample(0).median(), 0);
        assert_eq!(sample(4).median(), 1);
        assert_eq!(sample(5).median(), 2);
        let many = sample(1_000_000);
        assert_eq!((many.count(), many.max()), (1_000_000, 999_999));
        assert!(many.kept.len() <= KEPT_MAX && many.every.is_power_of_two());
        assert!((495_000..=505_000).contains(&many.median()));
    }
}
