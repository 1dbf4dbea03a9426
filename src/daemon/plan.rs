//! What is to be mounted.

use std::sync::Arc;

use super::on_change::OnChange;
use crate::mount;
use crate::source::Source;
use crate::store::Store;
use crate::view::View;

/// All that a mount needs to be made.
pub struct Plan {
    pub request: mount::Request,
    pub view: Arc<View>,
    pub source: Arc<dyn Source>,
    pub store: Arc<Store>,
    /// SOURCE in the fstab form.
    pub name: String,
    pub on_change: OnChange,
}
