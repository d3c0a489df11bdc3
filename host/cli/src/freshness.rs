//! How long rows take from being handed to the sink until they are visible.
//!
//! `engine.rs` adds one sample per batch when the commit of its checkpoint is known; `report.rs`
//! prints the percentiles. Invariant: memory does not grow with the run; a percentile is never
//! below the true one and at most 1/16 above it.

/// Buckets of a power of two; each is 1/16 of that power wide.
const STEPS: usize = 16;
/// Powers of two that fit in the histogram: up to 2^40 ms.
const POWERS: usize = 41;

/// Weighted samples in milliseconds.
#[derive(Clone, Debug)]
pub(crate) struct Freshness {
    counts: Vec<u64>,
    rows: u64,
}

impl Default for Freshness {
    fn default() -> Self {
        Self { counts: vec![0; STEPS * POWERS], rows: 0 }
    }
}

impl Freshness {
    /// Notes that `rows` rows became visible `millis` after they were handed over.
    pub(crate) fn add(&mut self, millis: u64, rows: u64) {
        self.counts[bucket(millis)] += rows;
        self.rows += rows;
    }

    /// The least time in milliseconds that `percent` of the rows did not exceed; none without rows.
    pub(crate) fn percentile(&self, percent: u64) -> Option<u64> {
        let wanted = (self.rows * percent).div_ceil(100).max(1);
        let mut seen = 0;
        let found = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        found.map(upper_bound)
    }
}

fn bucket(millis: u64) -> usize {
    if millis < STEPS as u64 {
        return millis as usize;
    }
    let power = millis.ilog2() as usize;
    let step = (millis >> (power - 4)) as usize - STEPS;
    ((power - 3) * STEPS + step).min(STEPS * POWERS - 1)
}

fn upper_bound(bucket: usize) -> u64 {
    if bucket < STEPS {
        return bucket as u64;
    }
    let power = bucket / STEPS + 3;
    let step = (bucket % STEPS + STEPS) as u64;
    ((step + 1) << (power - 4)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_rows_not_by_batches() {
        let mut freshness = Freshness::default();
        freshness.add(3, 99);
        freshness.add(1000, 1);
        assert_eq!(freshness.percentile(50), Some(3));
        assert_eq!(freshness.percentile(99), Some(3));
        assert!(freshness.percentile(100).is_some_and(|p| (1000..=1063).contains(&p)));
    }

    #[test]
    fn no_rows_have_no_percentile() {
        assert_eq!(Freshness::default().percentile(50), None);
    }

    #[test]
    fn every_bucket_holds_its_own_upper_bound() {
        for index in 0..STEPS * 38 {
            assert_eq!(bucket(upper_bound(index)), index);
        }
    }
}
