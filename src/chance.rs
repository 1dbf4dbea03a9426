//! Chance, where it only has to keep many from doing the same thing at the same time.

use std::hash::{BuildHasher as _, RandomState};

/// A number from 0 to below 1. The standard library seeds its hash tables at random, which is all the chance needed here.
pub fn fraction() -> f64 {
    (RandomState::new().hash_one(0u8) >> 11) as f64 / (1u64 << 53) as f64
}
