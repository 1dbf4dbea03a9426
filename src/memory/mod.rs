//! Keeps values of Secrets out of swap, core dumps and reused memory.
//!
//! [`Wiped`] is the memory they live in; [`harden`] closes the ways by which others could read it; [`Wiping`] wipes the
//! copies that libraries make, once they let them go. What nothing here can help against: root, the kernel's page cache
//! of files that were read, hibernation images, and what libraries still hold.

mod allocator;
pub mod arena;
mod harden;
mod mapping;
mod slots;
mod swap;

pub use allocator::Wiping;
pub use arena::Wiped;
pub use harden::harden;
pub use swap::has_swap;
