//! A directory that may be kept: checked, locked, marked and held open.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::SyncError;
use super::record::{self, Record};
use crate::memory::has_swap;
use crate::mount::Device;
use crate::mount::table::Table;
use crate::publisher::{Written, carry_out, open_directory};
use crate::volume::{Attr, NewBody, NewNode, Step};

/// Source: linux/magic.h.
const TMPFS_MAGIC: u64 = 0x0102_1994;
const RAMFS_MAGIC: u64 = 0x8584_58f6;

/// What a directory must satisfy.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Whether values may be written to a disk.
    pub on_disk: bool,
    /// Whose the directory may be, beside the caller's: the user to whom everything in it is given.
    pub owner: u32,
}

/// See the module's documentation.
pub(super) struct Place {
    /// Absolute.
    path: PathBuf,
    rules: Rules,
    fd: OwnedFd,
    pub(super) record: Record,
    /// Whether an earlier process kept it.
    pub(super) taken_over: bool,
    /// Generations that an earlier process made, by directory and by the name that the tree has for the same content.
    pub(super) adopted: HashMap<(String, Arc<str>), String>,
    pub(super) written: Written,
}

impl Place {
    /// Checks the directory, from the outside to the inside, and takes it.
    pub fn open(path: &Path, rules: Rules) -> Result<Place, SyncError> {
        let path = std::path::absolute(path).map_err(unreachable(path))?;
        let fd = open_root(&path)?;
        let stat = rustix::fs::fstat(&fd).map_err(errno(&path))?;
        let me = rustix::process::geteuid().as_raw();
        if stat.st_uid != me && stat.st_uid != rules.owner {
            return Err(SyncError::NotOwner { path, uid: stat.st_uid });
        }
        if stat.st_mode & 0o022 != 0 {
            return Err(SyncError::OthersMayWrite { path, mode: stat.st_mode & 0o7777 });
        }
        let file_system = magic(&fd).map_err(errno(&path))?;
        if !rules.on_disk && ![TMPFS_MAGIC, RAMFS_MAGIC].contains(&file_system) {
            return Err(SyncError::NotInMemory { path });
        }
        lock(&fd, &path)?;
        let (record, taken_over) = match Record::read(fd.as_fd()).map_err(unreachable(&path))? {
            Some(mut record) => {
                record.claim(fd.as_fd()).map_err(unreachable(&path))?;
                (record, true)
            }
            None => {
                if let Some((name, _)) = entries(fd.as_fd()).map_err(unreachable(&path))?.into_iter().next() {
                    return Err(SyncError::NotEmpty { path, name });
                }
                let before = Attr { mode: stat.st_mode & 0o7777, uid: stat.st_uid, gid: stat.st_gid };
                let created = Record::create(fd.as_fd(), before);
                (created.map_err(|cause| SyncError::Write { path: path.clone(), cause })?, false)
            }
        };
        let written = Written::by_this_process();
        Ok(Place { path, rules, fd, record, taken_over, adopted: HashMap::new(), written })
    }

    /// If the directory was removed, or another one is at its path, takes that one.
    pub fn refresh(&mut self) -> Result<(), SyncError> {
        let here = rustix::fs::statat(CWD, &self.path, AtFlags::SYMLINK_NOFOLLOW);
        let ours = rustix::fs::fstat(&self.fd).map_err(errno(&self.path))?;
        match here {
            Ok(here) if (here.st_dev, here.st_ino) == (ours.st_dev, ours.st_ino) => {}
            _ => *self = Place::open(&self.path, self.rules)?,
        }
        Ok(())
    }

    /// Whether the kernel may write what is in the directory to a swap area: a tmpfs without `noswap`, on a host that swaps.
    /// Source: tmpfs(5), and `shmem_show_options` in mm/shmem.c, since Linux 6.4.
    pub fn may_be_swapped(&self) -> bool {
        let is_tmpfs = magic(&self.fd).is_ok_and(|magic| magic == TMPFS_MAGIC);
        let Ok(stat) = rustix::fs::fstat(&self.fd) else { return false };
        let device = Device { major: rustix::fs::major(stat.st_dev), minor: rustix::fs::minor(stat.st_dev) };
        let is_pinned = |table: Table| table.of_device(device).any(|entry| entry.has_super_option("noswap"));
        is_tmpfs && has_swap() && !Table::read().is_ok_and(is_pinned)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The directory itself, open.
    pub fn root(&self) -> io::Result<OwnedFd> {
        self.fd.try_clone()
    }

    /// Opens a directory below, one name after the other.
    pub fn open_below(&self, path: &str) -> io::Result<OwnedFd> {
        let mut names = path.split('/').filter(|name| !name.is_empty());
        names.try_fold(self.root()?, |dir, name| open_directory(dir.as_fd(), name))
    }

    /// Carries one step out in the directory `dir`, which is at `path` below this one.
    pub fn carry_out(&mut self, dir: BorrowedFd<'_>, path: &str, step: &Step) -> io::Result<()> {
        let at = |name: &str| below(path, name);
        match step {
            Step::Mkdir { name, node } | Step::Mkfile { name, node } => self.record.will_make(&at(name), node)?,
            Step::Rename { to, .. } if !to.starts_with("..") => {
                // It takes the place of a file of ours.
                let attr = Attr { mode: 0, uid: 0, gid: 0 };
                self.record.will_make(&at(to), &NewNode { attr, body: NewBody::Unread })?;
            }
            Step::RemoveAll { name } if !name.starts_with("..") => {
                let mut foreign = Vec::new();
                self.remove_dir(dir, path, name, &mut foreign)?;
                warn_of_foreign(&foreign);
                return Ok(());
            }
            Step::RemoveAll { name } => {
                let adopted = self.adopted.remove(&(path.to_owned(), name.clone()));
                let name = adopted.map_or_else(|| name.clone(), Into::into);
                return gone(carry_out(dir, &Step::RemoveAll { name }, &self.written));
            }
            Step::Unlink { name } => {
                gone(carry_out(dir, step, &self.written))?;
                self.record.is_gone(&at(name));
                return Ok(());
            }
            _ => {}
        }
        carry_out(dir, step, &self.written).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => io::Error::new(error.kind(), format!("a name below {path:?} is taken")),
            _ => error,
        })
    }
}

/// The magic number of the file system.
fn magic(fd: &OwnedFd) -> Result<u64, Errno> {
    Ok(rustix::fs::fstatfs(fd)?.f_type as u64 & 0xffff_ffff)
}

/// Opens the directory itself: a link in its place is refused.
pub(super) fn open_root(path: &Path) -> Result<OwnedFd, SyncError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|error| match error {
        Errno::NOENT => SyncError::Missing { path: path.to_owned() },
        Errno::NOTDIR | Errno::LOOP => SyncError::NotADirectory { path: path.to_owned() },
        error => errno(path)(error),
    })
}

/// Locks the directory as long as it is open. Processes that we start do not inherit it.
pub(super) fn lock(fd: &OwnedFd, path: &Path) -> Result<(), SyncError> {
    match rustix::fs::flock(fd, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(Errno::WOULDBLOCK) => Err(SyncError::Taken { path: path.to_owned() }),
        Err(error) => Err(errno(path)(error)),
    }
}

fn unreachable(path: &Path) -> impl Fn(io::Error) -> SyncError + '_ {
    |cause| SyncError::Unreachable { path: path.to_owned(), cause }
}

fn errno(path: &Path) -> impl Fn(Errno) -> SyncError + '_ {
    |cause| SyncError::Unreachable { path: path.to_owned(), cause: cause.into() }
}

/// What should go is gone already.
pub(super) fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

pub(super) fn below(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") }
}

/// All names in a directory but the record's, each with what it is. Names that are not UTF-8 are shown as far as they can
/// be: none of them is ours.
pub(super) fn entries(dir: BorrowedFd<'_>) -> io::Result<Vec<(String, Stat)>> {
    let mut all = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if [c".", c".."].contains(&name) || name.to_bytes() == record::NAME.as_bytes() {
            continue;
        }
        match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => all.push((name.to_string_lossy().into_owned(), stat)),
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(all)
}

pub(super) fn is(stat: &Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(stat.st_mode) == kind
}

pub(super) fn warn_of_foreign(paths: &[String]) {
    for path in paths {
        tracing::warn!("{path:?} was not written by secretfs: it is left where it is");
    }
}
