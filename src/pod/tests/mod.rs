//! Tables whose expectations are those of the kubelet's own unit tests and sources.

mod keys;
mod projected;
