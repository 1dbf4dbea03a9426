//! The process that serves a mount, from the first check of the mount point to the last trace removed.

mod background;
pub mod control;
pub mod log;
mod notify;
mod on_change;
mod serve;

pub use background::{Ready, Side, fork};
pub use on_change::OnChange;
pub use serve::{Plan, Signal, Signals, in_thread, serve};
