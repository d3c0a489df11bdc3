//! Decimals as text: the form in which they stand in a record.
//!
//! Used by `encode` and `value_encode` to write, by `decode` to read. Invariant: what is written is
//! plain (no exponent, exactly the scale's digits after the point) and reads back to the same
//! number.

/// The most bytes of a decimal's text: sign, 39 digits, a leading zero and the point.
pub(crate) const DECIMAL_BYTES_MAX: usize = 42;

/// A decimal's text, at the end of `buffer`, and where it begins there. `scale` is at most 38.
pub(crate) fn write_decimal(
    unscaled: i128,
    scale: u8,
    buffer: &mut [u8; DECIMAL_BYTES_MAX],
) -> usize {
    let scale = usize::from(scale);
    let mut rest = unscaled.unsigned_abs();
    let mut at = buffer.len();
    let mut digits = 0;
    let mut put = |byte: u8| {
        at -= 1;
        buffer[at] = byte;
        at
    };
    while rest > 0 || digits <= scale {
        // Divisions of 64 bits are many times cheaper than those of 128.
        let mut part = (rest % TEN_TO_18) as u64;
        rest /= TEN_TO_18;
        for _ in 0..18 {
            if rest == 0 && part == 0 && digits > scale {
                break;
            }
            if digits == scale && scale > 0 {
                put(b'.');
            }
            put(b'0' + (part % 10) as u8);
            part /= 10;
            digits += 1;
        }
    }
    if unscaled < 0 { put(b'-') } else { at }
}

/// A decimal's text.
pub fn decimal_text(unscaled: i128, scale: u8) -> alloc::string::String {
    let mut buffer = [0; DECIMAL_BYTES_MAX];
    let start = write_decimal(unscaled, scale.min(38), &mut buffer);
    buffer[start..].iter().map(|byte| char::from(*byte)).collect()
}

/// Reads a decimal to a scale, rounding half away from zero, as the vendor's hasher does. Takes
/// plain and exponent form; none for what is no decimal or does not fit into 128 bits.
pub fn parse_decimal(text: &str, scale: u8) -> Option<i128> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, mantissa) = match mantissa.strip_prefix(['-', '+']) {
        Some(rest) => (mantissa.starts_with('-'), rest),
        None => (false, mantissa),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = || whole.bytes().chain(fraction.bytes());
    if digits().next().is_none() || !digits().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let shift = i64::from(exponent) + i64::from(scale);
    // How many of the digits stand before the scale's last digit, that one included.
    let kept = whole.len() as i64 + shift;
    let mut unscaled: i128 = 0;
    for digit in digits().take(usize::try_from(kept).unwrap_or(0)) {
        unscaled = unscaled.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
    }
    let missing = kept.saturating_sub((whole.len() + fraction.len()) as i64);
    if missing > 0 && unscaled != 0 {
        let factor = 10i128.checked_pow(u32::try_from(missing).ok()?)?;
        unscaled = unscaled.checked_mul(factor)?;
    }
    let next = usize::try_from(kept).ok().and_then(|kept| digits().nth(kept));
    if next.is_some_and(|digit| digit >= b'5') {
        unscaled = unscaled.checked_add(1)?;
    }
    Some(if negative { -unscaled } else { unscaled })
}

const TEN_TO_18: u128 = 1_000_000_000_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_plain_and_has_the_scales_digits() {
        for (unscaled, scale, text) in [
            (0, 0, "0"),
            (0, 2, "0.00"),
            (5, 3, "0.005"),
            (-5, 1, "-0.5"),
            (1_234_567_891_234, 4, "123456789.1234"),
            (-1_000_000_000_000_000_000, 0, "-1000000000000000000"),
            (10_000_000_000_000_000_000, 18, "10.000000000000000000"),
            (i128::MAX, 38, "1.70141183460469231731687303715884105727"),
            (i128::MIN, 0, "-170141183460469231731687303715884105728"),
        ] {
            assert_eq!(decimal_text(unscaled, scale), text);
        }
    }

    #[test]
    fn other_clients_forms_are_read() {
        for (text, scale, unscaled) in [
            ("6.4", 18, Some(6_400_000_000_000_000_000)),
            ("9.8E+11", 2, Some(98_000_000_000_000)),
            ("4E-7", 7, Some(4)),
            ("4E-7", 6, Some(0)),
            ("5E-7", 6, Some(1)),
            ("-0.005", 2, Some(-1)),
            ("0.5", 0, Some(1)),
            ("99.995", 2, Some(10_000)),
            (".5", 1, Some(5)),
            ("0E+2000000000", 3, Some(0)),
            ("1E+2000000000", 3, None),
            ("1E-2000000000", 3, Some(0)),
            ("1E99999999999", 3, None),
            ("", 0, None),
            ("-", 0, None),
            ("1.2.3", 0, None),
            ("0x1", 0, None),
            ("340282366920938463463374607431768211456", 0, None),
        ] {
            assert_eq!(parse_decimal(text, scale), unscaled, "{text} at {scale}");
        }
    }
}
