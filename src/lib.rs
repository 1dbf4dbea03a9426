//! secretfs mounts Kubernetes Secrets, and everything else that a pod mounts as files, exactly as the pod sees them.
//!
//! Data flows one way; each layer knows only the one before it and is tested without the next:
//!
//! ```text
//!  API server --watch/get--\                                                                /--> kernel page cache --> programs
//!                           source --> store --> view, pod and volume rules --> generation --> tree <--> FUSE adapter
//!  manifests ---inotify----/                               (pure)                            \--> publisher: mkdir, symlink, rename, unlink
//! ```
//!
//! Without FUSE, [`sync`] has the publisher's steps make real files.

mod chance;
pub mod check;
pub mod cli;
pub mod daemon;
pub mod doctor;
pub mod exit;
#[cfg(feature = "fuse")]
pub mod fuse;
pub mod memory;
pub mod mount;
pub mod object;
pub mod pod;
pub mod process;
pub mod publisher;
pub mod rights;
pub mod source;
pub mod store;
pub mod sync;
pub mod tree;
pub mod view;
pub mod volume;
