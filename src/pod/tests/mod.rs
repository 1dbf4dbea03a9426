//! Tables whose expectations are those of the kubelet's own unit tests and sources.

mod downward;
mod inject;
mod keys;
mod mounts;
mod nested;
mod projected;
mod resources;
mod trust;
mod variables;
