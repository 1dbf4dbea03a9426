//! Content as real files, written as the kubelet's AtomicWriter writes them.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Stat, Uid};

use super::steps::{Content, open_directory, remove_all};
use crate::volume::{Attr, NewBody, NewNode};

/// Writes files, and gives them their modes and, if the process may, their owners.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    /// Whether owners are set. Otherwise all belongs to this process's user.
    owners: bool,
}

impl Written {
    /// Only root can give files to others (CAP_CHOWN).
    pub fn by_this_process() -> Self {
        Written { owners: rustix::process::geteuid().is_root() }
    }

    /// What a directory of a tree becomes on disk. Nobody but the owner may change it, whatever the tree shows: a mount
    /// is read-only, this is not, and whoever can rename in a directory could lead readers, and us, elsewhere. Without
    /// root's rights we have to be able to change it ourselves.
    pub fn directory(&self, attr: Attr) -> Attr {
        let own = if self.owners { 0 } else { 0o700 };
        Attr { mode: attr.mode & !0o022 | own, ..attr }
    }

    /// Whether a file or directory has this mode and owner.
    pub fn fits(&self, stat: &Stat, attr: Attr) -> bool {
        stat.st_mode & 0o7777 == attr.mode && self.belongs(stat, attr)
    }

    /// Whether it belongs to whom it should.
    pub fn belongs(&self, stat: &Stat, attr: Attr) -> bool {
        !self.owners || (stat.st_uid == attr.uid && stat.st_gid == attr.gid)
    }

    /// Sets mode and owner of what is open, where they differ: programs that watch are told of each call.
    pub fn set(&self, fd: BorrowedFd<'_>, attr: Attr) -> io::Result<()> {
        let stat = rustix::fs::fstat(fd)?;
        // The owner first: changing it can clear bits of the mode (chown(2)).
        if !self.belongs(&stat, attr) {
            rustix::fs::fchown(fd, Some(Uid::from_raw(attr.uid)), Some(Gid::from_raw(attr.gid)))?;
        }
        Ok(rustix::fs::fchmod(fd, Mode::from_raw_mode(attr.mode))?)
    }

    fn fill(&self, dir: BorrowedFd<'_>, node: &NewNode) -> io::Result<()> {
        // In the instant between mkdir and open somebody who may rename here could have put another one in its place.
        let stat = rustix::fs::fstat(dir)?;
        if stat.st_uid != rustix::process::geteuid().as_raw() || stat.st_mode & 0o077 != 0 {
            return Err(io::Error::other("a new directory was replaced by somebody else"));
        }
        let NewBody::Dir(children) = &node.body else { return self.set(dir, self.directory(node.attr)) };
        for (name, child) in children {
            match &child.body {
                NewBody::File(_) => self.make_file(dir, name, child)?,
                NewBody::Link(target) => {
                    rustix::fs::symlinkat(&**target, dir, &**name)?;
                    self.complete_link(dir, name, child)?;
                }
                NewBody::Dir(_) | NewBody::Unloaded { .. } | NewBody::Unread => {
                    rustix::fs::mkdirat(dir, &**name, Mode::RWXU)?;
                    self.fill(open_directory(dir, name)?.as_fd(), child)?;
                }
            }
        }
        self.set(dir, self.directory(node.attr))
    }
}

impl Content for Written {
    fn complete_directory(&self, dir: BorrowedFd<'_>, name: &str, node: &NewNode) -> io::Result<()> {
        let made = open_directory(dir, name).and_then(|made| self.fill(made.as_fd(), node));
        if made.is_err() {
            // Half a generation is of no use to anybody, and may be what fills the file system.
            let _ = remove_all(dir, name);
        }
        made
    }

    fn make_file(&self, dir: BorrowedFd<'_>, name: &str, node: &NewNode) -> io::Result<()> {
        let NewBody::File(value) = &node.body else { return Err(io::ErrorKind::InvalidInput.into()) };
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?);
        let written = file.write_all(value.as_bytes()).and_then(|()| self.set(file.as_fd(), node.attr));
        if written.is_err() {
            let _ = rustix::fs::unlinkat(dir, name, AtFlags::empty());
        }
        written
    }

    fn complete_link(&self, dir: BorrowedFd<'_>, name: &str, node: &NewNode) -> io::Result<()> {
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if self.belongs(&stat, node.attr) {
            return Ok(());
        }
        let (uid, gid) = (Uid::from_raw(node.attr.uid), Gid::from_raw(node.attr.gid));
        Ok(rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
    }
}
