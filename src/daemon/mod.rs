//! The process that serves a mount, or keeps a directory, from the first check to the last trace removed.

mod background;
pub mod control;
pub mod log;
#[cfg(not(feature = "fuse"))]
mod no_fuse;
mod notify;
mod on_change;
mod plan;
#[cfg(feature = "fuse")]
mod serve;
mod signals;
mod write;

pub use background::{Ready, Side, fork};
#[cfg(not(feature = "fuse"))]
pub use no_fuse::serve;
pub use on_change::OnChange;
pub use plan::Plan;
#[cfg(feature = "fuse")]
pub use serve::serve;
pub use signals::{Signal, Signals, in_thread};
pub use write::{Writing, write};

use crate::exit::{Code, Failure};

/// Whether this program can mount at all.
///
/// Errors: it was built without FUSE.
pub fn can_mount() -> Result<(), Failure> {
    match cfg!(feature = "fuse") {
        true => Ok(()),
        false => Err(Failure::new(
            Code::NoFuse,
            "this secretfs was built without FUSE and cannot mount: use secretfs sync, or build it with --features fuse",
        )),
    }
}
