//! Keeps values of Secrets out of swap, core dumps and reused memory.

mod harden;

pub use harden::harden;
