//! The FUSE side: a thin translation between the kernel's requests and the [tree](crate::tree), the session that
//! carries it, and the publisher's own system calls told apart from everybody else's.

mod adapter;
mod counts;
mod session;
mod waits;

pub use adapter::{Adapter, Policy};
pub use counts::Counts;
pub use session::{Notices, Session};
