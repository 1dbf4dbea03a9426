//! Each [`Step`] as the system calls that the kubelet makes for it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};

use crate::volume::{NewBody, NewNode, Step};

/// Who brings the content of a node that the publisher makes.
pub trait Content: Send {
    /// `dir`/`name` has just been made, empty and for its maker alone, by mkdir: bring what `node` says, then open it up.
    fn complete_directory(&self, dir: BorrowedFd<'_>, name: &str, node: &NewNode) -> io::Result<()>;

    /// Make the regular file `dir`/`name` with the content that `node` says.
    fn make_file(&self, dir: BorrowedFd<'_>, name: &str, node: &NewNode) -> io::Result<()>;

    /// `dir`/`name` has just been made by symlink: see to what is left to do.
    fn complete_link(&self, _dir: BorrowedFd<'_>, _name: &str, _node: &NewNode) -> io::Result<()> {
        Ok(())
    }
}

/// The file system beneath has the content ready: it appears with the node.
pub struct Supplied;

impl Content for Supplied {
    fn complete_directory(&self, dir: BorrowedFd<'_>, name: &str, node: &NewNode) -> io::Result<()> {
        let mode = Mode::from_raw_mode(node.attr.mode);
        Ok(rustix::fs::chmodat(dir, name, mode, AtFlags::empty())?)
    }

    fn make_file(&self, dir: BorrowedFd<'_>, name: &str, node: &NewNode) -> io::Result<()> {
        let mode = Mode::from_raw_mode(node.attr.mode);
        Ok(rustix::fs::mknodat(dir, name, FileType::RegularFile, mode, 0)?)
    }
}

/// Carries one step out in `dir`.
///
/// Errors: what the system call answers; the directory is then as the calls before it left it.
pub fn carry_out(dir: BorrowedFd<'_>, step: &Step, content: &dyn Content) -> io::Result<()> {
    match step {
        Step::Mkdir { name, node } => {
            // As os.MkdirTemp: private first, then opened up, so that the umask has no say.
            rustix::fs::mkdirat(dir, &**name, Mode::RWXU)?;
            content.complete_directory(dir, name, node)
        }
        Step::Mkfile { name, node } => content.make_file(dir, name, node),
        Step::Symlink { name, node } => match &node.body {
            NewBody::Link(target) => {
                rustix::fs::symlinkat(&**target, dir, &**name)?;
                content.complete_link(dir, name, node)
            }
            _ => Err(io::ErrorKind::InvalidInput.into()),
        },
        Step::Rename { from, to } => Ok(rustix::fs::renameat(dir, &**from, dir, &**to)?),
        Step::Unlink { name } => Ok(rustix::fs::unlinkat(dir, &**name, AtFlags::empty())?),
        Step::RemoveAll { name } => remove_all(dir, name),
    }
}

/// Removes the content of a directory, then the directory, as os.RemoveAll does: watchers of the files and of the
/// directory get their events before it goes.
pub(crate) fn remove_all(parent: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let dir = open_directory(parent, name)?;
    for (entry, is_dir) in entries(dir.as_fd())? {
        if is_dir {
            remove_all(dir.as_fd(), &entry)?;
        } else {
            rustix::fs::unlinkat(&dir, &*entry, AtFlags::empty())?;
        }
    }
    // As long as it is open the directory lives on without its name: its own watchers would be told after its parent's.
    drop(dir);
    Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

pub(crate) fn open_directory(parent: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?)
}

/// All names but `.` and `..`, read before the first is removed.
fn entries(dir: BorrowedFd<'_>) -> io::Result<Vec<(String, bool)>> {
    let mut all = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_str().map_err(|_| io::ErrorKind::InvalidData)?;
        if name != "." && name != ".." {
            all.push((name.to_owned(), entry.file_type() == FileType::Directory));
        }
    }
    Ok(all)
}
