//! One inode: what never changes (number, kind, content) and what does (names, times, lookups).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use crate::object::Value;
use crate::volume::Attr;

/// An inode number. 1 is the root; numbers grow and are never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ino(pub u64);

impl Ino {
    pub const ROOT: Ino = Ino(1);
}

impl fmt::Debug for Ino {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    Dir,
    File,
    Link,
}

/// What stat shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    pub ino: Ino,
    pub kind: NodeKind,
    pub attr: Attr,
    /// Bytes: of a file its content, of a link its target, of a directory what tmpfs would show.
    pub size: u64,
    pub nlink: u32,
    pub mtime: SystemTime,
    pub ctime: SystemTime,
}

impl Stat {
    /// Size on disk in units of 512 bytes, as on tmpfs: whole pages for files, one for the target of a link that does
    /// not fit into the inode, nothing for directories. Source: shmem_symlink, `SHORT_SYMLINK_LEN`, mm/shmem.c.
    pub fn blocks(&self) -> u64 {
        const SHORT_SYMLINK_LEN: u64 = 128; // with the NUL at the end
        match self.kind {
            NodeKind::File => self.size.div_ceil(4096) * 8,
            NodeKind::Link if self.size + 1 > SHORT_SYMLINK_LEN => 8,
            NodeKind::Dir | NodeKind::Link => 0,
        }
    }
}

/// Whether a directory's names are all known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fill {
    Ready,
    /// Nothing is known but how many sub-directories there will be.
    Unloaded {
        subdirs: u32,
    },
    /// Nobody has listed the names yet.
    Unread,
    /// Names can be asked for one by one, and listing them fails with this errno.
    ByName {
        errno: i32,
    },
    /// The content was withdrawn: listing it and names that are not there fail with this errno.
    Denied {
        errno: i32,
    },
}

/// A directory's names. Cookies give listings a place to go on that survives changes in between.
#[derive(Debug)]
pub(super) struct Dir {
    by_name: BTreeMap<Arc<str>, (Ino, u64)>,
    by_cookie: BTreeMap<u64, Arc<str>>,
    next_cookie: u64,
    pub(super) subdirs: u32,
    pub(super) fill: Fill,
}

/// Cookies of `.` and `..`; names have those from 3 on.
pub(super) const DOT: u64 = 1;
pub(super) const DOT_DOT: u64 = 2;

impl Dir {
    pub(super) fn new(fill: Fill) -> Self {
        Dir { by_name: BTreeMap::new(), by_cookie: BTreeMap::new(), next_cookie: DOT_DOT + 1, subdirs: 0, fill }
    }

    pub(super) fn child(&self, name: &str) -> Option<Ino> {
        self.by_name.get(name).map(|(ino, _)| *ino)
    }

    pub(super) fn insert(&mut self, name: Arc<str>, ino: Ino) {
        let cookie = self.next_cookie;
        self.next_cookie += 1;
        self.by_cookie.insert(cookie, name.clone());
        self.by_name.insert(name, (ino, cookie));
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<Ino> {
        let (ino, cookie) = self.by_name.remove(name)?;
        self.by_cookie.remove(&cookie);
        Some(ino)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Names with a cookie above `cookie`, in the order in which they were made.
    pub(super) fn after(&self, cookie: u64) -> impl Iterator<Item = (u64, &Arc<str>, Ino)> {
        self.by_cookie.range(cookie + 1..).filter_map(|(cookie, name)| Some((*cookie, name, self.child(name)?)))
    }

    pub(super) fn children(&self) -> Vec<(Arc<str>, Ino)> {
        self.by_name.iter().map(|(name, (ino, _))| (name.clone(), *ino)).collect()
    }

    /// As tmpfs counts: 20 bytes a name, `.` and `..` included. Not known means 0, never a guess.
    pub(super) fn size(&self) -> u64 {
        match self.fill {
            Fill::Unloaded { .. } | Fill::Unread | Fill::ByName { .. } => 0,
            _ => 20 * (self.by_name.len() as u64 + 2),
        }
    }

    pub(super) fn nlink(&self) -> u32 {
        match self.fill {
            Fill::Unloaded { subdirs } => 2 + subdirs,
            // What file systems show that do not count: programs then look at every name.
            Fill::Unread | Fill::ByName { .. } => 1,
            _ => 2 + self.subdirs,
        }
    }
}

#[derive(Debug)]
pub(super) enum Body {
    Dir(Dir),
    File(Value),
    Link(Arc<str>),
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) attr: Attr,
    pub(super) body: Body,
    pub(super) parent: Ino,
    pub(super) name: Arc<str>,
    /// False once the name is removed; the node lives on until the kernel forgets it.
    pub(super) linked: bool,
    pub(super) lookups: u64,
    pub(super) mtime: SystemTime,
    pub(super) ctime: SystemTime,
}
