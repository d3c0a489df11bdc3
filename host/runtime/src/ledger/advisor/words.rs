//! Figures in words, as hints write them.
//!
//! Invariant: a figure has its unit, and as many digits as a reader needs.

use super::{AdviceRule, Hint};

/// Microseconds.
pub(super) fn span(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{} ms", us / 1_000),
        1_000_000..100_000_000 => {
            format!("{}.{} s", us / 1_000_000, us / 100_000 % 10)
        }
        _ => format!("{} s", us / 1_000_000),
    }
}

/// Milliseconds.
pub(super) fn span_ms(ms: u64) -> String {
    span(ms.saturating_mul(1_000))
}

/// Bytes.
pub(super) fn bytes(bytes: u64) -> String {
    let tenths = |unit: u64, name: &str| {
        let tenths = bytes.saturating_mul(10) / unit;
        match tenths % 10 {
            0 => format!("{} {name}", tenths / 10),
            tenth => format!("{}.{tenth} {name}", tenths / 10),
        }
    };
    match bytes {
        0..1_024 => format!("{bytes} bytes"),
        1_024..0x10_0000 => tenths(1 << 10, "KiB"),
        _ => tenths(1 << 20, "MiB"),
    }
}

/// A size that is not below so many bytes, as options take it.
pub(super) fn bytes_above(bytes: u64) -> String {
    match bytes {
        0..0x10_0000 => format!("{} KiB", bytes.div_ceil(1 << 10)),
        _ => format!("{} MiB", bytes.div_ceil(1 << 20)),
    }
}

/// A whole number of seconds that is not below so many milliseconds, as options take it.
pub(super) fn seconds_above(ms: u64) -> String {
    format!("{} s", ms.div_ceil(1_000).max(1))
}

/// A hint to set an option.
pub(super) fn set(
    rule: AdviceRule,
    (option, value): (&str, &str),
    measured: String,
    words: String,
) -> Hint {
    Hint { rule, option: Some(option.into()), set: Some(value.into()), measured, words }
}

/// A hint where no option helps.
pub(super) fn tell(rule: AdviceRule, measured: String, words: String) -> Hint {
    Hint { rule, option: None, set: None, measured, words }
}

/// The engine's interval, which is no option of the sink; `--checkpoint-interval` of the command
/// line.
pub(super) const INTERVAL: &str = "checkpoint interval";
