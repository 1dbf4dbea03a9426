use proptest::prelude::*;

use super::*;

/// Printed by apimachinery v0.37.2: `Value()`, `MilliValue()`, `IsZero()` of `ParseQuantity`.
#[test]
fn quantities_are_as_apimachinery_has_them() {
    #[rustfmt::skip]
    let table = [
        ("0", 0, 0, true),
        ("1", 1, 1000, false),
        ("100m", 1, 100, false),
        ("1200m", 2, 1200, false),
        ("100Mi", 104857600, 104857600000, false),
        ("1Gi", 1073741824, 1073741824000, false),
        ("1.5Gi", 1610612736, 1610612736000, false),
        ("0.5", 1, 500, false),
        ("1.1", 2, 1100, false),
        ("-1", -1, -1000, false),
        ("-1.5", -2, -1500, false),
        ("-1500m", -2, -1500, false),
        ("-0.1", -1, -100, false),
        ("-1.5Ki", -1536, -1536000, false),
        ("1n", 1, 1, false),
        ("1u", 1, 1, false),
        ("1e3", 1000, 1000000, false),
        ("1E3", 1000, 1000000, false),
        ("1e-3", 1, 1, false),
        ("1e-10", 1, 1, false),
        ("1e-100", 1, 1, false),
        ("12e6", 12000000, 12000000000, false),
        ("1E", 1000000000000000000, 0, false),
        ("10E", 0, 0, false),
        ("9E", 9000000000000000000, 0, false),
        ("9223372036854775807", 9223372036854775807, -1000, false),
        ("9223372036854775808", -9223372036854775808, 0, false),
        ("99999999999999999999", 7766279631452241919, 200376420520688664, false),
        ("1Ki", 1024, 1024000, false),
        ("1Mi", 1048576, 1048576000, false),
        ("1Ti", 1099511627776, 1099511627776000, false),
        ("1Pi", 1125899906842624, 1125899906842624000, false),
        ("7Ei", 8070450532247928832, -9223372036854775808, false),
        ("8Ei", 9223372036854775807, -1000, false),
        ("100Ei", 9223372036854775807, -1000, false),
        ("100Ti", 109951162777600, 109951162777600000, false),
        ("0.1Ki", 103, 102400, false),
        ("1.0000000001Ki", 1025, 1024001, false),
        ("-100Ti", -8568098290, -8568098291071, false),
        ("-8Ei", -9223372036854775807, 1000, false),
        ("5P", 5000000000000000, 5000000000000000000, false),
        ("10P", 10000000000000000, 0, false),
        ("1T", 1000000000000, 1000000000000000, false),
        ("1M", 1000000, 1000000000, false),
        ("1k", 1000, 1000000, false),
        ("000123", 123, 123000, false),
        ("0.000", 0, 0, true),
        ("+5", 5, 5000, false),
        (".5", 1, 500, false),
        ("5.", 5, 5000, false),
        ("5.Ki", 5120, 5120000, false),
        (".5Ki", 512, 512000, false),
        (".", 0, 0, true),
        ("Ki", 0, 0, true),
        ("-", 0, 0, true),
        ("+", 0, 0, true),
        ("1.2345678901", 2, 1235, false),
        ("123456789.123456789", 123456790, 123456789124, false),
        ("1234567890.1234567890", 1234567891, 1234567890124, false),
        ("-1234567890.12345678901", -1234567889, -1234567890122, false),
        ("1e+3", 1000, 1000000, false),
        ("0e20", 0, 0, true),
        ("0.0000000001", 1, 1, false),
        ("16Ti", 17592186044416, 17592186044416000, false),
        ("3.3Mi", 3460301, 3460300800, false),
        ("1.999999999", 2, 2000, false),
        ("0.9999999991", 1, 1000, false),
        ("-0.9999999991", -1, -1000, false),
        ("12345678901234567890m", 12345678901234568, -6101065172474983726, false),
        ("1e18", 1000000000000000000, 0, false),
        ("1e19", 0, 0, false),
        ("1e16", 10000000000000000, 0, false),
        ("123456789012345678", 123456789012345678, -5670419503621183312, false),
        ("1234567890123456789", 1234567890123456789, -1363962815083169272, false),
        ("-1e-30", 1, 1, false),
        ("1e-9", 1, 1, false),
        ("1.5E", 1500000000000000000, 0, false),
        ("0.1n", 1, 1, false),
        ("99999999999999999.9", 100000000000000000, 7766279631452241820, false),
    ];
    for (text, units, millis, zero) in table {
        let amount = Amount::parse(text).expect(text);
        assert_eq!((amount.units(), amount.millis(), amount.is_zero()), (units, millis, zero), "{text}");
    }
    // JSON may have space around it.
    assert_eq!(Amount::parse(" 1 "), Amount::parse("1"));
}

/// What it refuses as well.
#[test]
fn other_texts_are_no_quantities() {
    for text in [
        "",
        "a",
        "1.1.1",
        "1KiB",
        "1K",
        "1ki",
        "1e",
        "1Em",
        "--1",
        "1+",
        "1-",
        "1_0",
        "0x1",
        "1 m",
        "Inf",
        "1mm",
        "1i",
        "1e-10Ki",
        "Ei",
        ".Ei",
        "-e-12",
        "1e99999999999999999999",
    ] {
        assert_eq!(Amount::parse(text), None, "{text}");
    }
    assert_eq!(
        Amount::parse("e3").map(Amount::is_zero),
        Some(true),
        "no digit is zero, where no long numbers are at stake"
    );
    // These Go reads, in very long time or modulo 2^64.
    assert_eq!(Amount::parse(&"9".repeat(40)), None);
    assert!(Amount::parse("1e2147483648").is_some());
}

/// The number that a quantity means: digits * 10^power * 2^twos, rounded up at 10^-places. It is computed digit by digit.
fn meant(digits: u64, power: i32, twos: u32, places: i32) -> Option<i64> {
    let mut number = vec![0_u8; 0];
    let mut rest = u128::from(digits) << twos;
    while rest > 0 {
        number.push((rest % 10) as u8);
        rest /= 10;
    }
    let mut up = false;
    for _ in power + places..0 {
        up |= !number.is_empty() && number.remove(0) != 0;
    }
    for _ in 0..(power + places).max(0) {
        number.insert(0, 0);
    }
    let whole =
        number.iter().rev().try_fold(0_i64, |sum, digit| sum.checked_mul(10)?.checked_add(i64::from(*digit)))?;
    whole.checked_add(i64::from(up))
}

proptest! {
    /// Numbers that fit into 64 bits are rounded up to what they mean, whichever way they are computed.
    #[test]
    fn positive_quantities_mean_what_they_say(
        digits in 0..10_000_000_000_u64,
        point in 0..10_usize,
        zeros in 0..3_usize,
        unit in prop::sample::select(vec![
            ("", 0, 0), ("n", -9, 0), ("u", -6, 0), ("m", -3, 0), ("k", 3, 0), ("M", 6, 0), ("G", 9, 0), ("T", 12, 0),
            ("P", 15, 0), ("E", 18, 0), ("Ki", 0, 10), ("Mi", 0, 20), ("Gi", 0, 30), ("Ti", 0, 40), ("Pi", 0, 50),
            ("Ei", 0, 60), ("e2", 2, 0), ("E-5", -5, 0), ("e+1", 1, 0),
        ]),
    ) {
        let (suffix, power, twos) = unit;
        let written = format!("{digits:010}");
        let (whole, fraction) = written.split_at(10 - point);
        let text = format!("{}{whole}.{fraction}{suffix}", "0".repeat(zeros));
        let amount = Amount::parse(&text).expect("a quantity");
        prop_assert_eq!(amount.is_zero(), digits == 0);
        // It is first rounded up to billionths, which cannot change what it is rounded up to here.
        for (places, found) in [(0, amount.units()), (3, amount.millis())] {
            if let Some(meant) = meant(digits, power - point as i32, twos, places) {
                prop_assert_eq!(found, meant, "{}", text);
            }
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "[-+]?[0-9.]{0,45}[eEinumkKMGTP]{0,3}[-+]?[0-9]{0,20}|.*") {
        if let Some(amount) = Amount::parse(&text) {
            let _ = (amount.units(), amount.millis());
        }
    }
}
