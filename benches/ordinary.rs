//! An ordinary FUSE file system in memory, to measure against: `fuser` as its examples use it, open and release answered,
//! one-second timeouts. It is mounted by secretfs's own code, so that the mounts differ in nothing else.
//!
//! It serves in a process of its own, as secretfs does: the bench starts itself again in this role.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner, OpenFlags,
    ReplyAttr, ReplyData, ReplyDirectory, ReplyEntry, ReplyOpen, Request, SessionACL,
};

/// The first argument of the process that serves.
pub const ROLE: &str = "serve-ordinary";

const TTL: Duration = Duration::from_secs(1);

/// A mounted copy of a tree; ends when it is dropped.
pub struct Ordinary {
    pub dir: PathBuf,
    server: Child,
}

impl Ordinary {
    /// Serves a copy of `source` at `dir`.
    pub fn mount(source: &Path, dir: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("the bench's own path"));
        command.arg(ROLE).arg(source).arg(dir).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut server = command.spawn().expect("the ordinary file system");
        let mut line = String::new();
        let stdout = server.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("its word");
        assert_eq!(line, "ready\n", "the ordinary file system did not start");
        Ordinary { dir: dir.to_owned(), server }
    }
}

impl Drop for Ordinary {
    fn drop(&mut self) {
        drop(self.server.stdin.take());
        let _ = self.server.wait();
    }
}

/// Serves a copy of `source` at `target` until standard input ends.
pub fn serve(source: &Path, target: &Path) {
    let request = secretfs::mount::Request {
        target: target.to_owned(),
        source: "ordinary".into(),
        allow_other: false,
        default_permissions: false,
        allow_nonempty: false,
        method: None,
    };
    let prepared = secretfs::mount::prepare(&request).expect("prepare the mount");
    let fuse = prepared.fuse.try_clone().expect("a descriptor");
    let session = fuser::Session::from_fd(InMemory::copy_of(source), fuse, SessionACL::All, fuser::Config::default())
        .expect("FUSE handshake");
    let session = session.spawn().expect("a thread");
    let mut attached = prepared.attach().expect("attach the mount");
    drop(attached.take_announce());
    println!("ready");
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    attached.detach().expect("unmount");
    session.join().expect("an orderly end");
}

struct Node {
    attr: FileAttr,
    parent: u64,
    children: Vec<(OsString, u64)>,
    /// A file's bytes or a link's target.
    content: Vec<u8>,
}

/// Inode N is the node at N - 1.
struct InMemory(Vec<Node>);

impl InMemory {
    fn copy_of(source: &Path) -> Self {
        let mut all = InMemory(Vec::new());
        all.add(source, 1);
        all
    }

    fn add(&mut self, path: &Path, parent: u64) -> u64 {
        let found = std::fs::symlink_metadata(path).expect("stat");
        let ino = self.0.len() as u64 + 1;
        let (kind, content) = match found.file_type() {
            kind if kind.is_dir() => (FileType::Directory, Vec::new()),
            kind if kind.is_symlink() => {
                (FileType::Symlink, std::fs::read_link(path).expect("readlink").as_os_str().as_bytes().to_vec())
            }
            _ => (FileType::RegularFile, std::fs::read(path).expect("read")),
        };
        let time = UNIX_EPOCH + Duration::from_secs(found.mtime() as u64);
        let attr = FileAttr {
            ino: INodeNo(ino),
            size: found.size(),
            blocks: found.blocks(),
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind,
            perm: (found.mode() & 0o7777) as u16,
            nlink: found.nlink() as u32,
            uid: found.uid(),
            gid: found.gid(),
            rdev: 0,
            blksize: 4096,
            flags: 0,
        };
        self.0.push(Node { attr, parent, children: Vec::new(), content });
        if kind == FileType::Directory {
            let entries = std::fs::read_dir(path).expect("readdir").map(|entry| entry.expect("entry"));
            let children = entries.map(|entry| (entry.file_name(), self.add(&entry.path(), ino))).collect();
            self.0[ino as usize - 1].children = children;
        }
        ino
    }

    fn node(&self, ino: INodeNo) -> &Node {
        &self.0[ino.0 as usize - 1]
    }
}

impl Filesystem for InMemory {
    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.node(parent).children.iter().find(|(child, _)| child == name) {
            Some((_, ino)) => reply.entry(&TTL, &self.node(INodeNo(*ino)).attr, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _request: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&TTL, &self.node(ino).attr);
    }

    fn readlink(&self, _request: &Request, ino: INodeNo, reply: ReplyData) {
        reply.data(&self.node(ino).content);
    }

    fn open(&self, _request: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(ino.0), FopenFlags::empty());
    }

    fn read(
        &self,
        _request: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let content = &self.node(ino).content;
        let from = content.len().min(offset as usize);
        let to = content.len().min(from + size as usize);
        reply.data(&content[from..to]);
    }

    fn readdir(&self, _request: &Request, ino: INodeNo, _fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let node = self.node(ino);
        let dots = [(OsStr::new("."), ino.0), (OsStr::new(".."), node.parent)];
        let children = node.children.iter().map(|(name, ino)| (name.as_os_str(), *ino));
        for (index, (name, ino)) in dots.into_iter().chain(children).enumerate().skip(offset as usize) {
            if reply.add(INodeNo(ino), index as u64 + 1, self.node(INodeNo(ino)).attr.kind, name) {
                break;
            }
        }
        reply.ok();
    }
}
