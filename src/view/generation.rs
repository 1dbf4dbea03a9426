//! Names of generations: `..2026_11_24_10_15_12.1234567890`.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// A name that no generation has had yet, as the kubelet makes it: UTC to the second and a random number of 32 bits.
/// Source: `newTimestampDir` in pkg/volume/util/atomic_writer.go and Go's os.MkdirTemp.
pub(super) fn generation_name() -> Arc<str> {
    let mut random = [0u8; 4];
    // If the kernel had no random numbers yet, the time to the nanosecond still tells generations apart.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let suffix = match rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()) {
        Ok(_) => u32::from_ne_bytes(random),
        Err(_) => now.subsec_nanos(),
    };
    format!("..{}.{suffix}", utc(now.as_secs())).into()
}

/// Seconds since 1970 as `YYYY_MM_DD_hh_mm_ss`.
fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    format!("{year:04}_{month:02}_{day:02}_{:02}_{:02}_{:02}", second / 3600, second / 60 % 60, second % 60)
}

/// Days since 1970-01-01 as year, month and day of the Gregorian calendar. Source: Howard Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`; years begin in March there.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_date_utility() {
        // Each pair from `date -u -d @SECONDS +%Y_%m_%d_%H_%M_%S`.
        for (seconds, date) in [
            (0, "1970_01_01_00_00_00"),
            (951_782_399, "2000_02_28_23_59_59"),
            (951_782_400, "2000_02_29_00_00_00"),
            (1_709_251_199, "2024_02_29_23_59_59"),
            (4_107_542_400, "2100_03_01_00_00_00"),
        ] {
            assert_eq!(utc(seconds), date);
        }
    }

    #[test]
    fn two_names_differ() {
        assert_ne!(generation_name(), generation_name());
    }
}
