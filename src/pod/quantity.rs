//! Quantities as apimachinery reads and rounds them (pkg/api/resource/quantity.go, `ParseQuantity`, `ScaledValue`), with all
//! that is odd about it: what is too large for 64 bits becomes 0 or something else, and negative fractions are rounded in
//! two ways.
//!
//! One thing differs: numbers of more than 38 digits are refused. Go reads them, and shows a remainder modulo 2^64.

/// A number as Go keeps it, which decides how it is rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Amount {
    /// value * 10^scale, as `int64Amount`.
    Short { value: i64, scale: i32 },
    /// Billionths, as an `infDecAmount` has them after `ParseQuantity`.
    Nanos(i128),
}

/// `maxInt64Factors`: so many decimal digits fit into 64 bits.
const SHORT_DIGITS: i32 = 18;
const NANO: i32 = -9;
/// The largest binary quantity, in billionths: what is larger becomes it.
const MOST_NANOS: i128 = i64::MAX as i128 * 1_000_000_000;

/// The parts of a quantity without leading zeros.
struct Parts<'a> {
    negative: bool,
    /// Whether there is any digit before the suffix.
    numeric: bool,
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
}

enum Unit {
    Decimal(i32),
    Binary(u32),
}

impl Amount {
    pub(super) fn parse(text: &str) -> Option<Self> {
        // `UnmarshalJSON` allows space around it.
        let text = text.trim();
        if text.is_empty() {
            return None;
        }
        let parts = split(text)?;
        let unit = unit(parts.suffix)?;
        short(&parts, &unit).or_else(|| long(&parts, &unit))
    }

    pub(super) fn is_zero(self) -> bool {
        matches!(self, Amount::Short { value: 0, .. } | Amount::Nanos(0))
    }

    /// `Value`: rounded to whole units.
    pub(super) fn units(self) -> i64 {
        self.scaled(0)
    }

    /// `MilliValue`: rounded to thousandths.
    pub(super) fn millis(self) -> i64 {
        self.scaled(-3)
    }

    fn scaled(self, to: i32) -> i64 {
        match self {
            Amount::Short { value, scale } if scale < to => divided(value, to.abs_diff(scale)),
            Amount::Short { value, scale } => multiplied(value, scale.abs_diff(to)),
            Amount::Nanos(nanos) => {
                let divisor = 10_i128.pow(to.abs_diff(NANO));
                // `scaledValue`: down to the whole number towards zero and one up, also if it is negative.
                let nanos = if nanos < i128::from(i64::MAX) { i128::from(nanos as i64) } else { nanos };
                (nanos / divisor + i128::from(nanos % divisor != 0)) as i64
            }
        }
    }
}

/// value / 10^digits, rounded away from zero.
fn divided(value: i64, digits: u32) -> i64 {
    match 10_i64.checked_pow(digits) {
        Some(divisor) if value % divisor == 0 => value / divisor,
        Some(divisor) => value / divisor + value.signum(),
        None => value.signum(),
    }
}

/// value * 10^digits. What overflows is still used: `positiveScaleInt64` says that it failed, and nobody listens.
fn multiplied(value: i64, digits: u32) -> i64 {
    let factor = 10_i64.checked_pow(digits);
    match digits {
        1 | 2 | 3 | 6 | 9 => value.wrapping_mul(factor.unwrap_or(0)),
        _ => factor.and_then(|factor| value.checked_mul(factor)).unwrap_or(0),
    }
}

/// `parseQuantityString`.
fn split(text: &str) -> Option<Parts<'_>> {
    let negative = text.starts_with('-');
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, rest) = digits(unsigned.trim_start_matches('0'));
    let (fraction, suffix) = rest.strip_prefix('.').map_or(("", rest), digits);
    let number = suffix.trim_start_matches(['e', 'E', 'i', 'n', 'u', 'm', 'k', 'K', 'M', 'G', 'T', 'P']);
    let number = number.strip_prefix(['-', '+']).unwrap_or(number);
    let numeric = !fraction.is_empty() || unsigned.starts_with(|c: char| c.is_ascii_digit());
    let whole = if whole.is_empty() { "0" } else { whole };
    number.bytes().all(|byte| byte.is_ascii_digit()).then_some(Parts { negative, numeric, whole, fraction, suffix })
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// `suffixHandler.interpret`.
fn unit(suffix: &str) -> Option<Unit> {
    Some(match suffix {
        "n" => Unit::Decimal(-9),
        "u" => Unit::Decimal(-6),
        "m" => Unit::Decimal(-3),
        "" => Unit::Decimal(0),
        "k" => Unit::Decimal(3),
        "M" => Unit::Decimal(6),
        "G" => Unit::Decimal(9),
        "T" => Unit::Decimal(12),
        "P" => Unit::Decimal(15),
        "E" => Unit::Decimal(18),
        "Ki" => Unit::Binary(10),
        "Mi" => Unit::Binary(20),
        "Gi" => Unit::Binary(30),
        "Ti" => Unit::Binary(40),
        "Pi" => Unit::Binary(50),
        "Ei" => Unit::Binary(60),
        other => Unit::Decimal(other.strip_prefix(['e', 'E'])?.parse::<i64>().ok()? as i32),
    })
}

/// The fast path of `ParseQuantity`, if it takes it.
fn short(parts: &Parts, unit: &Unit) -> Option<Amount> {
    let length = |text: &str| i32::try_from(text.len()).unwrap_or(i32::MAX);
    let (whole, fraction) = (length(parts.whole), length(parts.fraction));
    let (scale, factor, spare) = match *unit {
        Unit::Decimal(exponent) => (exponent, 1, SHORT_DIGITS.saturating_sub(whole).saturating_sub(fraction)),
        Unit::Binary(exponent) if fraction == 0 => (0, 1_i64 << exponent, 14 - whole - exponent as i32 * 3 / 10),
        Unit::Binary(_) => return None,
    };
    let scale = scale.wrapping_sub(fraction);
    if spare < 0 || scale < NANO {
        return None;
    }
    let value = [parts.whole, parts.fraction].concat().parse::<i64>().ok()?.checked_mul(factor)?;
    Some(Amount::Short { value: if parts.negative { -value } else { value }, scale })
}

/// The slow path: billionths, rounded away from zero, so that whoever asks for a little gets something.
fn long(parts: &Parts, unit: &Unit) -> Option<Amount> {
    // The fast path takes no digits for zero.
    if !parts.numeric {
        return None;
    }
    let fraction = parts.fraction.trim_end_matches('0');
    let digits: i128 = [parts.whole, fraction].concat().parse().ok()?;
    let places = i64::try_from(fraction.len()).ok()?;
    let nanos = match *unit {
        Unit::Decimal(exponent) => shifted(digits, i64::from(exponent) - places - i64::from(NANO))?,
        Unit::Binary(exponent) => {
            let scaled = digits.checked_mul(1 << exponent);
            let nanos = scaled.and_then(|scaled| shifted(scaled, -places - i64::from(NANO)));
            let Some(nanos) = nanos.filter(|nanos| *nanos <= MOST_NANOS) else {
                return Some(Amount::Short { value: if parts.negative { -i64::MAX } else { i64::MAX }, scale: 0 });
            };
            nanos
        }
    };
    Some(Amount::Nanos(if parts.negative { -nanos } else { nanos }))
}

/// number * 10^places, rounded up; `None` if it is too large.
fn shifted(number: i128, places: i64) -> Option<i128> {
    if number == 0 {
        return Some(0);
    }
    let power = u32::try_from(places.unsigned_abs()).ok().and_then(|places| 10_i128.checked_pow(places));
    match (places < 0, power) {
        (false, power) => number.checked_mul(power?),
        (true, Some(power)) => Some(number / power + i128::from(number % power != 0)),
        (true, None) => Some(1),
    }
}

#[cfg(test)]
mod tests;
