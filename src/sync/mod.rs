//! Keeps a directory of real files like a view: the content of a mount, and the same sequence of operations, without FUSE.
//!
//! The view's tree is what is wanted. An update of the tree is carried out in the directory by the publisher's steps
//! ([`Mirror::publish`]). At the start, and whenever that has failed, the directory is compared with the whole tree and
//! made like it by the same steps ([`Mirror::bring`]): what is there already stays, without an event, as the kubelet does
//! after a restart.
//!
//! # Whose files
//! What the kubelet's layout is made of is known by its form: `..data`, what it leads to, and links to `..data/NAME`. All
//! other names that are made here are written down first, in `..secretfs` in the directory. Whatever is neither is somebody
//! else's, and stays. That file also marks the directory, and a lock on the directory (flock(2)) says that somebody keeps it.
//!
//! # Attacks
//! Everything is reached below the open directory, one name after the other, and no link is ever followed. The directory
//! belongs to whom its files belong to, and no directory made here can be changed by group or others.

mod bring;
mod clean;
mod end;
mod error;
mod mirror;
mod place;
mod record;

pub use end::end;
pub use error::SyncError;
pub use mirror::Mirror;
pub use place::Rules;

#[cfg(test)]
mod tests;
