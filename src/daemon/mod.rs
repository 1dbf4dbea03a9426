//! The process that serves a mount, or keeps a directory, from the first check to the last trace removed.

mod background;
pub mod control;
pub mod log;
mod notify;
mod on_change;
#[cfg(feature = "fuse")]
mod serve;
mod signals;
mod write;

pub use background::{Ready, Side, fork};
pub use on_change::OnChange;
#[cfg(feature = "fuse")]
pub use serve::{Plan, serve};
pub use signals::{Signal, Signals, in_thread};
pub use write::{Writing, write};
