//! The kernel's requests, translated for the [`Tree`] and back. Nothing is decided here, so that the file system can be
//! tested without FUSE; what is particular to the protocol is this table:
//!
//! | request | answer | why |
//! |---|---|---|
//! | OPEN, OPENDIR, FLUSH, ACCESS, xattr calls | ENOSYS, once | the kernel then never asks again: hot reads cost no request |
//! | IOCTL | ENOTTY | asked by isatty() of some languages for each open; never remembered by the kernel |
//! | whatever changes something | EROFS | unless it is a system call of our own publisher |
//! | names, attributes, links, listings, pages | from the tree, valid for a year | the kernel keeps them; the publisher's system calls keep the kernel right |

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use fuser::{
    AccessFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation, INodeNo, InitFlags, IoctlFlags,
    KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request,
    TimeOrNow, WriteFlags,
};

use super::Counts;
use super::waits::Waits;
use crate::tree::{Demand, Error, Ino, Listed, Miss, NodeKind, Stat, Tree};

/// What depends on how the mount was made.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Mounted for others too, with `default_permissions`: then the mount may be id-mapped (pods with user namespaces).
    pub id_mapped: bool,
}

/// How long the kernel may keep names and attributes: far below what it clamps, far above what anybody waits for.
const LONG: Duration = Duration::from_secs(365 * 24 * 3600);
/// The same where no publisher keeps the kernel right, and for names that are not there and could not be announced.
const SHORT: Duration = Duration::from_secs(1);

/// State that the adapter's threads and the session share.
pub(super) struct Shared {
    pub(super) tree: Arc<Tree>,
    pub(super) counts: Arc<Counts>,
    pub(super) policy: Policy,
    /// The publisher's thread id as the kernel reports it; 0 while it is not known.
    pub(super) publisher: AtomicU32,
    /// A name nobody else can guess. The publisher looks it up, and whoever asks for it is the publisher: its id may
    /// be another one in the pid namespace of whoever mounted.
    pub(super) probe: String,
    /// Set where no publisher can reach the mount.
    pub(super) forgetful: AtomicBool,
    pub(super) waits: Waits,
    /// Set where the kernel's thread ids are those of our own pid namespace.
    pub(super) sees_threads: AtomicBool,
}

/// The thread that asks, as far as its signals can be seen: 0 if not.
#[derive(Clone, Copy)]
struct Asker(u32);

/// See the module's documentation.
pub struct Adapter(pub(super) Arc<Shared>);

/// Inode numbers are never used twice, so there is only one generation of each.
const GENERATION: Generation = Generation(0);

fn ino(number: INodeNo) -> Ino {
    Ino(number.0)
}

fn errno(error: Error) -> Errno {
    Errno::from_i32(error.errno())
}

fn file_attr(stat: &Stat) -> FileAttr {
    FileAttr {
        ino: INodeNo(stat.ino.0),
        size: stat.size,
        blocks: stat.blocks(),
        atime: stat.mtime,
        mtime: stat.mtime,
        ctime: stat.ctime,
        crtime: stat.mtime,
        kind: file_type(stat.kind),
        perm: stat.attr.mode as u16,
        nlink: stat.nlink,
        uid: stat.attr.uid,
        gid: stat.attr.gid,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

fn file_type(kind: NodeKind) -> FileType {
    match kind {
        NodeKind::Dir => FileType::Directory,
        NodeKind::File => FileType::RegularFile,
        NodeKind::Link => FileType::Symlink,
    }
}

/// A negative answer that the kernel may keep: node 0.
fn absent() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: SystemTime::UNIX_EPOCH,
        mtime: SystemTime::UNIX_EPOCH,
        ctime: SystemTime::UNIX_EPOCH,
        crtime: SystemTime::UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

impl Shared {
    fn ttl(&self) -> Duration {
        if self.forgetful.load(Ordering::Relaxed) { SHORT } else { LONG }
    }

    fn is_publisher(&self, request: &Request) -> bool {
        // 0 means a caller outside of the mount's pid namespace: nobody we know.
        request.pid() != 0 && request.pid() == self.publisher.load(Ordering::Acquire)
    }

    /// The publisher has made itself known.
    fn meet_publisher(&self, thread: u32) {
        self.publisher.store(thread, Ordering::Release);
        // Else somebody in another pid namespace has mounted.
        let ours = Path::new("/proc/self/task").join(thread.to_string()).exists();
        self.sees_threads.store(ours, Ordering::Relaxed);
    }

    fn asker(&self, request: &Request) -> Asker {
        Asker(if self.sees_threads.load(Ordering::Relaxed) { request.pid() } else { 0 })
    }

    /// Answers later, when the content has been fetched, or cannot be, or nobody wants it any more.
    fn wait(&self, asker: Asker, demand: Demand, answer: impl FnOnce(Result<(), Error>) + Send + 'static) {
        self.waits.wait(&self.tree, demand, asker.0, answer);
    }

    /// Answers a LOOKUP, later if the content has to be fetched first. The kernel's thread is never held.
    fn lookup(self: &Arc<Self>, asker: Asker, parent: Ino, name: &OsStr, reply: ReplyEntry) {
        match self.tree.lookup(parent, name) {
            Ok(Some(stat)) => reply.entry(&self.ttl(), &file_attr(&stat), GENERATION),
            Ok(None) => reply.entry(&self.ttl(), &absent(), GENERATION),
            Err(Miss::Error(error)) => reply.error(errno(error)),
            Err(Miss::Pending(demand)) => {
                let (shared, name) = (self.clone(), name.to_owned());
                self.wait(asker, demand, move |outcome| match outcome {
                    Ok(()) => shared.lookup(asker, parent, &name, reply),
                    // Only just now: nothing will announce it if it comes into being.
                    Err(Error::NotFound) => reply.entry(&SHORT, &absent(), GENERATION),
                    Err(error) => reply.error(errno(error)),
                });
            }
        }
    }

    fn readdir(self: &Arc<Self>, asker: Asker, dir: Ino, cookie: u64, mut reply: ReplyDirectory) {
        let listed = self.tree.readdir(dir, cookie, false, |listed: &Listed| {
            !reply.add(INodeNo(listed.stat.ino.0), listed.cookie, file_type(listed.stat.kind), &*listed.name)
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(Miss::Error(error)) => reply.error(errno(error)),
            Err(Miss::Pending(demand)) => {
                let shared = self.clone();
                self.wait(asker, demand, move |outcome| match outcome {
                    Ok(()) => shared.readdir(asker, dir, cookie, reply),
                    Err(error) => reply.error(errno(error)),
                });
            }
        }
    }

    fn readdirplus(self: &Arc<Self>, asker: Asker, dir: Ino, cookie: u64, mut reply: ReplyDirectoryPlus) {
        let ttl = self.ttl();
        let listed = self.tree.readdir(dir, cookie, true, |listed: &Listed| {
            let attr = file_attr(&listed.stat);
            !reply.add(attr.ino, listed.cookie, &*listed.name, &ttl, &attr, GENERATION)
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(Miss::Error(error)) => reply.error(errno(error)),
            Err(Miss::Pending(demand)) => {
                let shared = self.clone();
                self.wait(asker, demand, move |outcome| match outcome {
                    Ok(()) => shared.readdirplus(asker, dir, cookie, reply),
                    Err(error) => reply.error(errno(error)),
                });
            }
        }
    }

    /// Answers a READ, later if the content was let go of and has to be fetched again. It fills a page for all who read it,
    /// and who waits for a page can be killed.
    fn read(self: &Arc<Self>, file: Ino, offset: u64, size: u32, reply: ReplyData) {
        match self.tree.read(file) {
            Ok(value) => {
                let bytes = value.as_bytes();
                let from = usize::try_from(offset).map_or(bytes.len(), |offset| offset.min(bytes.len()));
                let to = from.saturating_add(size as usize).min(bytes.len());
                reply.data(&bytes[from..to]);
            }
            Err(Miss::Error(error)) => reply.error(errno(error)),
            Err(Miss::Pending(demand)) => {
                let shared = self.clone();
                self.tree.wait(demand, move |outcome| match outcome {
                    Ok(()) => shared.read(file, offset, size, reply),
                    Err(error) => reply.error(errno(error)),
                });
            }
        }
    }

    /// Counts a change that somebody asks for, and says whether it is the publisher who does.
    fn admits(&self, request: &Request) -> bool {
        let ours = self.is_publisher(request);
        if ours {
            self.counts.publish.up()
        } else {
            self.counts.refused.up()
        }
        ours
    }

    fn made(&self, made: Result<Stat, Error>, reply: ReplyEntry) {
        match made {
            Ok(stat) => reply.entry(&self.ttl(), &file_attr(&stat), GENERATION),
            Err(error) => reply.error(errno(error)),
        }
    }
}

fn finish(done: Result<(), Error>, reply: ReplyEmpty) {
    match done {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno(error)),
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        let mut wanted = InitFlags::FUSE_CACHE_SYMLINKS
            | InitFlags::FUSE_AUTO_INVAL_DATA
            | InitFlags::FUSE_NO_OPEN_SUPPORT
            | InitFlags::FUSE_NO_OPENDIR_SUPPORT
            | InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_NO_EXPORT_SUPPORT;
        if self.0.policy.id_mapped {
            wanted |= InitFlags::FUSE_ALLOW_IDMAP;
        }
        // All or nothing: what this kernel lacks comes back and is left out. Each is an optimisation, none is needed.
        if let Err(missing) = config.add_capabilities(wanted) {
            let _ = config.add_capabilities(wanted - missing);
        }
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.0.counts.lookup.up();
        if name == OsStr::new(&self.0.probe) {
            self.0.meet_publisher(request.pid());
            return reply.error(Errno::ENOENT);
        }
        self.0.lookup(self.0.asker(request), ino(parent), name, reply);
    }

    fn forget(&self, _request: &Request, node: INodeNo, nlookup: u64) {
        self.0.counts.forget.up();
        self.0.tree.forget(ino(node), nlookup);
    }

    fn getattr(&self, _request: &Request, node: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        self.0.counts.getattr.up();
        match self.0.tree.getattr(ino(node)) {
            Ok(stat) => reply.attr(&self.0.ttl(), &file_attr(&stat)),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn readlink(&self, _request: &Request, node: INodeNo, reply: ReplyData) {
        self.0.counts.readlink.up();
        match self.0.tree.readlink(ino(node)) {
            Ok(target) => reply.data(target.as_bytes()),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn read(
        &self,
        _request: &Request,
        node: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.0.counts.read.up();
        self.0.read(ino(node), offset, size, reply);
    }

    fn readdir(&self, request: &Request, node: INodeNo, _fh: FileHandle, offset: u64, reply: ReplyDirectory) {
        self.0.counts.readdir.up();
        self.0.readdir(self.0.asker(request), ino(node), offset, reply);
    }

    fn readdirplus(&self, request: &Request, node: INodeNo, _fh: FileHandle, offset: u64, reply: ReplyDirectoryPlus) {
        self.0.counts.readdirplus.up();
        self.0.readdirplus(self.0.asker(request), ino(node), offset, reply);
    }

    /// Like a tmpfs as large as the machine's memory: what is used is what the content takes.
    fn statfs(&self, _request: &Request, _node: INodeNo, reply: ReplyStatfs) {
        self.0.counts.statfs.up();
        let (inodes, blocks) = self.0.tree.usage();
        let used = blocks / 8;
        let total = total_pages().max(used);
        reply.statfs(total, total - used, total - used, inodes, 0, 4096, 255, 4096);
    }

    fn open(&self, _request: &Request, _node: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.0.counts.open.up();
        reply.error(Errno::ENOSYS);
    }

    fn opendir(&self, _request: &Request, _node: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.0.counts.opendir.up();
        reply.error(Errno::ENOSYS);
    }

    fn flush(&self, _request: &Request, _node: INodeNo, _fh: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        self.0.counts.flush.up();
        reply.error(Errno::ENOSYS);
    }

    fn access(&self, _request: &Request, _node: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        self.0.counts.access.up();
        reply.error(Errno::ENOSYS);
    }

    fn getxattr(&self, _request: &Request, _node: INodeNo, _name: &OsStr, _size: u32, reply: ReplyXattr) {
        self.0.counts.xattr.up();
        reply.error(Errno::ENOSYS);
    }

    fn listxattr(&self, _request: &Request, _node: INodeNo, _size: u32, reply: ReplyXattr) {
        self.0.counts.xattr.up();
        reply.error(Errno::ENOSYS);
    }

    fn fsync(&self, _request: &Request, _node: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.0.counts.other.up();
        reply.error(Errno::ENOSYS);
    }

    fn fsyncdir(&self, _request: &Request, _node: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.0.counts.other.up();
        reply.error(Errno::ENOSYS);
    }

    fn lseek(&self, _: &Request, _: INodeNo, _: FileHandle, _: i64, _: i32, reply: fuser::ReplyLseek) {
        self.0.counts.other.up();
        // The kernel then seeks by itself, in a file without holes.
        reply.error(Errno::ENOSYS);
    }

    fn ioctl(
        &self,
        _request: &Request,
        _node: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        _command: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        self.0.counts.ioctl.up();
        reply.error(Errno::ENOTTY);
    }

    // ---- changes: the publisher's, and refused for everybody else

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, _mode: u32, _umask: u32, reply: ReplyEntry) {
        if !self.0.admits(request) {
            return reply.error(Errno::EROFS);
        }
        self.0.made(self.0.tree.mkdir(ino(parent), name), reply);
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        if !self.0.admits(request) {
            return reply.error(Errno::EROFS);
        }
        self.0.made(self.0.tree.mknod(ino(parent), name), reply);
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        if !self.0.admits(request) {
            return reply.error(Errno::EROFS);
        }
        self.0.made(self.0.tree.symlink(ino(parent), name, target.as_os_str()), reply);
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if !self.0.admits(request) || parent != new_parent || !flags.is_empty() {
            return reply.error(Errno::EROFS);
        }
        finish(self.0.tree.rename(ino(parent), name, new_name), reply);
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        if !self.0.admits(request) {
            return reply.error(Errno::EROFS);
        }
        finish(self.0.tree.unlink(ino(parent), name), reply);
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        if !self.0.admits(request) {
            return reply.error(Errno::EROFS);
        }
        finish(self.0.tree.rmdir(ino(parent), name), reply);
    }

    fn setattr(
        &self,
        request: &Request,
        node: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        if !self.0.admits(request) || size.is_some() {
            return reply.error(Errno::EROFS);
        }
        match self.0.tree.touch(ino(node)) {
            Ok(stat) => reply.attr(&self.0.ttl(), &file_attr(&stat)),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn create(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, _: i32, reply: ReplyCreate) {
        self.0.counts.refused.up();
        reply.error(Errno::EROFS);
    }

    fn link(&self, _: &Request, _: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        self.0.counts.refused.up();
        reply.error(Errno::EROFS);
    }

    fn write(
        &self,
        _request: &Request,
        _node: INodeNo,
        _fh: FileHandle,
        _offset: u64,
        _data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        self.0.counts.refused.up();
        reply.error(Errno::EROFS);
    }

    fn setxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: &[u8], _: i32, _: u32, reply: ReplyEmpty) {
        self.0.counts.refused.up();
        reply.error(Errno::EROFS);
    }

    fn removexattr(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        self.0.counts.refused.up();
        reply.error(Errno::EROFS);
    }

    fn fallocate(&self, _: &Request, _: INodeNo, _: FileHandle, _: u64, _: u64, _: i32, reply: ReplyEmpty) {
        self.0.counts.refused.up();
        reply.error(Errno::EROFS);
    }
}

/// The machine's memory in pages of 4096 bytes.
fn total_pages() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram.saturating_mul(u64::from(info.mem_unit)) / 4096
}
