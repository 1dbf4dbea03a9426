//! What an unquoted YAML scalar means: the rules of go.yaml.in/yaml/v2 (resolve.go), which kubectl reads manifests with.
//!
//! They are YAML 1.1's with Go's own number syntax: `yes` and `off` are booleans, `0400` is octal, `1_000` is a thousand,
//! but `190:20:30` is a string.

use super::error::Malformed;

/// The tag of a scalar, as far as it changes what the scalar means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    /// No tag: the scalar's own form decides.
    None,
    Str,
    Bool,
    Int,
    Float,
    Null,
    Timestamp,
    Binary,
    Merge,
    /// `!`, `!anything`, or a tag that go-yaml does not resolve: the scalar is a string.
    Other,
}

impl Tag {
    /// From the whole tag, prefix resolved.
    pub fn from_uri(uri: &str) -> Tag {
        match uri.strip_prefix("tag:yaml.org,2002:") {
            Some("str") => Tag::Str,
            Some("bool") => Tag::Bool,
            Some("int") => Tag::Int,
            Some("float") => Tag::Float,
            Some("null") => Tag::Null,
            Some("timestamp") => Tag::Timestamp,
            Some("binary") => Tag::Binary,
            Some("merge") => Tag::Merge,
            _ => Tag::Other,
        }
    }
}

/// What a scalar turned out to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scalar {
    Null,
    Bool(bool),
    Int(i64),
    /// An integer beyond `i64`: a number like any other, but not a key of a mapping.
    Unsigned(u64),
    Float(f64),
    /// The text itself.
    Text,
    /// The text is base64 of the string's bytes.
    Binary,
}

/// Reads a scalar that has a tag or is unquoted; one that is quoted and has none is always its text.
pub(super) fn resolve(tag: Tag, text: &str) -> Result<Scalar, Malformed> {
    let scalar = match tag {
        Tag::Str | Tag::Other | Tag::Merge => return Ok(Scalar::Text),
        Tag::Binary => return Ok(Scalar::Binary),
        // go-yaml hands dates on as the strings that they were; a tagged one must look like a date.
        Tag::Timestamp => return if is_dated(text) { Ok(Scalar::Text) } else { Err(Malformed::Tag) },
        _ => implicit(text),
    };
    match (tag, scalar) {
        (Tag::None, scalar) => Ok(scalar),
        (Tag::Bool, Scalar::Bool(_)) | (Tag::Null, Scalar::Null) | (Tag::Float, Scalar::Float(_)) => Ok(scalar),
        (Tag::Int, Scalar::Int(_) | Scalar::Unsigned(_)) => Ok(scalar),
        (Tag::Float, Scalar::Int(number)) => Ok(Scalar::Float(number as f64)),
        _ => Err(Malformed::Tag),
    }
}

fn implicit(text: &str) -> Scalar {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Scalar::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Scalar::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Scalar::Bool(false),
        ".nan" | ".NaN" | ".NAN" => Scalar::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Scalar::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Scalar::Float(f64::NEG_INFINITY),
        _ => number(text).unwrap_or(Scalar::Text),
    }
}

fn number(text: &str) -> Option<Scalar> {
    match text.bytes().next()? {
        b'.' => float(text),
        b'0'..=b'9' | b'+' | b'-' => {
            // A long value is not a number, and its copy would have to be wiped.
            if text.len() > 400 {
                return None;
            }
            let plain: String = text.chars().filter(|c| *c != '_').collect();
            integer(&plain).or_else(|| float(&plain))
        }
        _ => None,
    }
}

/// strconv.ParseInt and then ParseUint with base 0, underscores removed.
fn integer(text: &str) -> Option<Scalar> {
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = unsigned.get(..2).map(str::to_ascii_lowercase);
    let (digits, radix) = match lower.as_deref() {
        Some("0x") => (&unsigned[2..], 16),
        Some("0o") => (&unsigned[2..], 8),
        Some("0b") => (&unsigned[2..], 2),
        _ if unsigned.len() > 1 && unsigned.starts_with('0') => (&unsigned[1..], 8),
        _ => (unsigned, 10),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let size = i128::from_str_radix(digits, radix).ok()?;
    let value = if negative { -size } else { size };
    if let Ok(value) = i64::try_from(value) {
        return Some(Scalar::Int(value));
    }
    // ParseUint takes no sign.
    let signed = text.starts_with(['+', '-']);
    u64::try_from(value).ok().filter(|_| !signed).map(Scalar::Unsigned)
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?` within the range of f64.
fn float(text: &str) -> Option<Scalar> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let good_mantissa = match mantissa.split_once('.') {
        Some(("", fraction)) => digits(fraction),
        Some((whole, fraction)) => digits(whole) && (fraction.is_empty() || digits(fraction)),
        None => digits(mantissa),
    };
    let good_exponent = exponent.is_none_or(|exponent| digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)));
    if !(good_mantissa && good_exponent) {
        return None;
    }
    let value: f64 = text.parse().ok()?;
    value.is_finite().then_some(Scalar::Float(value))
}

/// Four digits and a hyphen. (go-yaml parses the whole date; a tagged scalar that begins like a date and is none is
/// taken as a string here and refused there.)
fn is_dated(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() > 4 && bytes[..4].iter().all(u8::is_ascii_digit) && bytes[4] == b'-'
}

/// How sigs.k8s.io/yaml writes a number that is the key of a mapping: Go's `FormatFloat(f, 'g', -1, 32)`.
pub(super) fn float_key(number: f64) -> String {
    let number = number as f32;
    if number.is_nan() {
        return ".nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { ".inf" } else { "-.inf" }.to_owned();
    }
    // The shortest digits that read back as the same number: d.ddde<exponent>.
    let text = format!("{number:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        return format!("{number}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unquoted_scalars_mean_what_go_yaml_says() {
        // resolve.go of go.yaml.in/yaml v2.4.4.
        let table = [
            ("y", Scalar::Bool(true)),
            ("yEs", Scalar::Text),
            ("off", Scalar::Bool(false)),
            ("", Scalar::Null),
            ("nULL", Scalar::Text),
            ("0400", Scalar::Int(256)),
            ("0o17", Scalar::Int(15)),
            ("-0x1F", Scalar::Int(-31)),
            ("0b1_01", Scalar::Int(5)),
            ("1_000", Scalar::Int(1000)),
            ("_1", Scalar::Text),
            ("08", Scalar::Float(8.0)),
            ("190:20:30", Scalar::Text),
            ("18446744073709551615", Scalar::Unsigned(u64::MAX)),
            ("+18446744073709551615", Scalar::Float(u64::MAX as f64)),
            ("99999999999999999999", Scalar::Float(1e20)),
            ("-9223372036854775808", Scalar::Int(i64::MIN)),
            ("1e3", Scalar::Float(1000.0)),
            ("1.", Scalar::Float(1.0)),
            (".5", Scalar::Float(0.5)),
            (".", Scalar::Text),
            ("-", Scalar::Text),
            ("0x", Scalar::Text),
            ("+-1", Scalar::Text),
            ("1e999", Scalar::Text),
            ("-.INF", Scalar::Float(f64::NEG_INFINITY)),
            ("2001-12-14", Scalar::Text),
            ("<<", Scalar::Text),
            ("1.2.3", Scalar::Text),
        ];
        for (text, want) in table {
            assert_eq!(resolve(Tag::None, text), Ok(want), "{text}");
        }
    }

    #[test]
    fn a_tag_decides_or_refuses() {
        assert_eq!(resolve(Tag::Str, "5"), Ok(Scalar::Text));
        assert_eq!(resolve(Tag::Other, "5"), Ok(Scalar::Text));
        assert_eq!(resolve(Tag::Float, "5"), Ok(Scalar::Float(5.0)));
        assert_eq!(resolve(Tag::Int, "five"), Err(Malformed::Tag));
        assert_eq!(resolve(Tag::Null, "x"), Err(Malformed::Tag));
        assert_eq!(resolve(Tag::Binary, "aGk="), Ok(Scalar::Binary));
    }

    #[test]
    fn number_keys_are_written_as_go_writes_them() {
        let table = [
            (0.5, "0.5"),
            (1.0, "1"),
            (123456.0, "123456"),
            (1234567.0, "1.234567e+06"),
            (123456789.0, "1.2345679e+08"),
            (0.0001234, "0.0001234"),
            (1.5e-7, "1.5e-07"),
            (-2.25, "-2.25"),
        ];
        for (number, want) in table {
            assert_eq!(float_key(number), want, "{number}");
        }
        assert_eq!(float_key(f64::INFINITY), ".inf");
    }
}
