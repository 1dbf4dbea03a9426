//! Carries updates out as system calls below a directory.
//!
//! Below a mount of ours this is what makes the kernel announce an update (inotify) and keeps its caches right, because
//! the kernel itself does each operation. Below a plain tmpfs directory the very same calls *are* a kubelet volume.
//! This module does not know which of the two it is: [`Content`] says who brings the bytes.
//!
//! # Why a thread of its own with no file descriptors
//! A thread that waits in a system call on our own mount waits for our own daemon. If the daemon is killed meanwhile,
//! the connection can only end when the last descriptor of /dev/fuse is closed, and a thread stuck in the kernel keeps
//! its process's descriptors open: nothing could end it any more. So the publisher's thread has a descriptor table of
//! its own with nothing in it but the directory it works below. It takes no lock that a thread which answers the kernel
//! takes, and all signals are blocked: an interrupted call would leave the kernel unsure of what happened.

mod steps;
mod thread;
mod written;

pub use steps::{Content, Supplied, carry_out};
pub(crate) use steps::{open_directory, remove_all};
pub use thread::{Place, Publisher, StartError};
pub use written::Written;

#[cfg(test)]
mod tests;
