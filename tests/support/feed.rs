//! The two flight feeds and what they come to: figures of an independent fold, not of our code.
//!
//! Used by the suites that run whole feeds. Invariant: a feed is used only with its own figures.

use std::env;
use std::path::{Path, PathBuf};

/// A feed and the table that it comes to.
#[derive(Debug)]
pub struct Feed {
    /// Its name in messages.
    pub name: &'static str,
    /// Its file.
    pub path: PathBuf,
    /// Changes in it.
    pub events: u64,
    /// Rows of the table after them.
    pub rows: i64,
    /// The sum of `dep_delay` over those rows.
    pub sum_dep_delay: i64,
    /// The sum of `air_time` over those rows.
    pub sum_air_time: i64,
}

impl Feed {
    /// The full feed if `FLIGHTS_FEED` names it, the sample in the tree otherwise.
    pub fn chosen() -> Self {
        match env::var_os("FLIGHTS_FEED") {
            Some(path) if !Path::new(&path).ends_with(SAMPLE) => Self::full(PathBuf::from(path)),
            _ => Self::sample(),
        }
    }

    /// January: in the tree.
    pub fn sample() -> Self {
        Self {
            name: "sample (January)",
            path: top().join("host/cli/data").join(SAMPLE),
            events: 80_406,
            rows: 26_483,
            sum_dep_delay: 265_801,
            sum_air_time: 4_070_239,
        }
    }

    fn full(path: PathBuf) -> Self {
        Self {
            name: "full (2013)",
            path,
            events: 1_000_898,
            rows: 328_521,
            sum_dep_delay: 4_152_200,
            sum_air_time: 49_326_610,
        }
    }
}

const SAMPLE: &str = "flights_cdc_2013_01.parquet";

/// The top of the tree.
pub fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the tree")
}
