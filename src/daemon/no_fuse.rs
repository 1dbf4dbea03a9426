//! In place of [`serve`](super::serve) where the program was built without FUSE.

use std::future::Future;

use super::background::Ready;
use super::log::Log;
use super::plan::Plan;
use crate::exit::Failure;

/// Errors: always.
pub async fn serve<U: Future<Output = ()>>(
    _plan: Plan,
    _ready: &mut Ready,
    _log: &Log,
    _until: impl FnOnce() -> U,
) -> Result<(), Failure> {
    super::can_mount()
}
