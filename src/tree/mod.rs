//! The inode table: nodes, names, attributes and how often the kernel has looked each of them up.
//!
//! The tree knows nothing of Kubernetes and nothing of FUSE. Three parties use it:
//! * the FUSE adapter asks ([`Tree::lookup`], [`Tree::getattr`], ...) and, for system calls of the publisher,
//!   changes single names ([`Tree::mkdir`], [`Tree::rename`], ...);
//! * the view hands over whole updates ([`Tree::update`]) and fills directories on demand ([`Tree::fill`]).
//!
//! # How an update reaches the kernel
//! As long as the kernel does not hold a directory (its lookup count is zero), nobody can watch it and nothing of it
//! is cached, so the steps are simply applied. Otherwise they are *staged*: the publisher repeats them as system
//! calls through the mount, the kernel asks for each one, and the staged nodes take their places. The decision and
//! the direct application happen under one lock, so no lookup can slip in between.
//!
//! # Inode numbers
//! Small, in sequence, never used twice, new for each generation; an inode's kind and content never change.
//!
//! # Locking
//! One lock round everything, held for map operations only: never across a callback, a reply or a system call.

mod node;
mod table;

pub use node::{Ino, NodeKind, Stat};

use std::collections::{HashMap, VecDeque};
use std::ffi::OsStr;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::object::Value;
use crate::volume::{NewNode, Step};
use node::Fill;
use table::Table;

/// Why the tree does not do what it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("no such name")]
    NotFound,
    #[error("not a directory")]
    NotDirectory,
    #[error("is a directory")]
    IsDirectory,
    #[error("not a link")]
    NotLink,
    #[error("directory not empty")]
    NotEmpty,
    #[error("name exists")]
    Exists,
    /// Indicates an inode that is not known (any more).
    #[error("unknown inode")]
    Stale,
    /// Indicates a change that nobody has staged.
    #[error("read-only")]
    ReadOnly,
    /// Indicates content that could not be fetched, with the errno that says why.
    #[error("content not available (errno {0})")]
    Unavailable(i32),
}

impl Error {
    /// The errno that the kernel gives to the caller.
    pub fn errno(self) -> i32 {
        match self {
            Error::NotFound => libc::ENOENT,
            Error::NotDirectory => libc::ENOTDIR,
            Error::IsDirectory => libc::EISDIR,
            Error::NotLink => libc::EINVAL,
            Error::NotEmpty => libc::ENOTEMPTY,
            Error::Exists => libc::EEXIST,
            Error::Stale => libc::ESTALE,
            Error::ReadOnly => libc::EROFS,
            Error::Unavailable(errno) => errno,
        }
    }
}

/// Content that somebody has to fetch before a question can be answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Demand {
    pub dir: Ino,
    /// Set where the directory's names cannot be listed and one of them is asked for.
    pub name: Option<Arc<str>>,
}

/// What the tree tells its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Somebody waits for this; it must sooner or later be answered with [`Tree::fill`], [`Tree::grant`],
    /// [`Tree::set_names`] or [`Tree::refuse`].
    Demand(Demand),
    /// The kernel has let go of this directory, which was asked for by its name: see [`Tree::drop_unused`].
    Unused(Ino),
}

/// What is known of the names in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    Known,
    /// The first who looks has to wait until they are listed.
    Unread,
    /// They may not be listed; each can be asked for.
    ByName,
    /// There were some, and they were withdrawn.
    Denied,
}

/// Why there is no answer (yet).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Miss {
    Error(Error),
    /// Ask again once this demand is met: see [`Tree::wait`].
    Pending(Demand),
}

impl From<Error> for Miss {
    fn from(error: Error) -> Self {
        Miss::Error(error)
    }
}

/// One name in a directory listing.
pub struct Listed {
    /// Where to go on after this name: stable as long as the name lives.
    pub cookie: u64,
    pub name: Arc<str>,
    pub stat: Stat,
}

/// What became of an update.
#[derive(Debug)]
pub enum Outcome {
    /// It is done. The kernel may hold attributes of this directory that are no longer true.
    Applied,
    /// The kernel holds the directory: carry these steps out as system calls in the directory at `path`, relative to
    /// the root, then call [`Tree::settle`].
    Publish { path: String, steps: Vec<Step> },
}

type Waiter = Box<dyn FnOnce(Result<(), Error>) + Send>;
type OnCall = Box<dyn Fn(Call) + Send + Sync>;

struct State {
    table: Table,
    /// Nodes that wait for the publisher's system call to ask for them, by place. One update may use a temporary name
    /// several times: they are taken in order.
    staged: HashMap<(Ino, Arc<str>), VecDeque<NewNode>>,
    waiters: HashMap<Demand, Vec<Waiter>>,
    /// Whether there is a publisher: else every update is applied directly.
    published: bool,
}

/// See the module's documentation.
pub struct Tree {
    state: Mutex<State>,
    on_call: OnCall,
}

impl Tree {
    /// A tree with only a root. `on_call` is called without any lock held, and must not block.
    pub fn new(root: NewNode, on_call: impl Fn(Call) + Send + Sync + 'static) -> Self {
        let state =
            State { table: Table::new(root), staged: HashMap::new(), waiters: HashMap::new(), published: false };
        Tree { state: Mutex::new(state), on_call: Box::new(on_call) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    // ---- what the kernel asks

    /// Looks a name up and counts the lookup. `Ok(None)`: there is no such name.
    pub fn lookup(&self, parent: Ino, name: &OsStr) -> Result<Option<Stat>, Miss> {
        let mut state = self.lock();
        let table = &mut state.table;
        let dir = table.dir(parent)?;
        // Names that are not UTF-8 can be no key and no object.
        let Some(name) = name.to_str() else { return Ok(None) };
        match dir.child(name) {
            Some(child) => {
                table.count_lookup(child);
                Ok(Some(table.stat(child)?))
            }
            None => match dir.fill {
                Fill::Ready => Ok(None),
                Fill::Unloaded { .. } | Fill::Unread => Err(Miss::Pending(Demand { dir: parent, name: None })),
                Fill::Denied { errno } => Err(Error::Unavailable(errno).into()),
                Fill::ByName { .. } => Err(Miss::Pending(Demand { dir: parent, name: Some(name.into()) })),
            },
        }
    }

    /// The kernel lets go of `count` lookups.
    pub fn forget(&self, ino: Ino, count: u64) {
        let unused = {
            let mut state = self.lock();
            state.table.forget(ino, count);
            state.table.is_unused(ino)
        };
        if unused {
            (self.on_call)(Call::Unused(ino));
        }
    }

    pub fn getattr(&self, ino: Ino) -> Result<Stat, Error> {
        self.lock().table.stat(ino)
    }

    pub fn readlink(&self, ino: Ino) -> Result<Arc<str>, Error> {
        self.lock().table.link(ino)
    }

    /// The whole content of a file.
    pub fn read(&self, ino: Ino) -> Result<Value, Miss> {
        self.lock().table.file(ino)
    }

    /// Lists names after `cookie` (0: from the start) until `sink` returns false, which means that it did not take
    /// that name. With `count`, each name that `sink` took counts as looked up (READDIRPLUS).
    pub fn readdir(
        &self,
        ino: Ino,
        cookie: u64,
        count: bool,
        mut sink: impl FnMut(&Listed) -> bool,
    ) -> Result<(), Miss> {
        let mut state = self.lock();
        let table = &mut state.table;
        match table.dir(ino)?.fill {
            Fill::Ready => {}
            Fill::Unloaded { .. } | Fill::Unread => return Err(Miss::Pending(Demand { dir: ino, name: None })),
            Fill::ByName { errno } | Fill::Denied { errno } => return Err(Error::Unavailable(errno).into()),
        }
        let taken = table.list(ino, cookie, &mut sink)?;
        if count {
            taken.into_iter().for_each(|child| table.count_lookup(child));
        }
        Ok(())
    }

    /// Calls `waiter` once `demand` has been met or refused; at once if that has happened meanwhile.
    pub fn wait(&self, demand: Demand, waiter: impl FnOnce(Result<(), Error>) + Send + 'static) {
        let first = {
            let mut state = self.lock();
            if !state.table.is_open(&demand) {
                drop(state);
                return waiter(Ok(()));
            }
            let waiters = state.waiters.entry(demand.clone()).or_default();
            waiters.push(Box::new(waiter));
            waiters.len() == 1
        };
        if first {
            (self.on_call)(Call::Demand(demand));
        }
    }

    // ---- what the publisher's system calls ask

    /// The publisher made a directory: the staged one takes its place. Counts a lookup.
    pub fn mkdir(&self, parent: Ino, name: &OsStr) -> Result<Stat, Error> {
        self.adopt(parent, name, |node| node.is_dir())
    }

    /// The publisher made a file: the staged one takes its place. Counts a lookup.
    pub fn mknod(&self, parent: Ino, name: &OsStr) -> Result<Stat, Error> {
        self.adopt(parent, name, |node| node.is_file())
    }

    /// The publisher made a link: the staged one takes its place. Counts a lookup.
    pub fn symlink(&self, parent: Ino, name: &OsStr, target: &OsStr) -> Result<Stat, Error> {
        self.adopt(parent, name, |node| node.link_target().is_some_and(|staged| target == staged))
    }

    fn adopt(&self, parent: Ino, name: &OsStr, fits: impl Fn(&NewNode) -> bool) -> Result<Stat, Error> {
        let name: Arc<str> = name.to_str().ok_or(Error::ReadOnly)?.into();
        let mut state = self.lock();
        let place = (parent, name.clone());
        let waiting = state.staged.get_mut(&place).ok_or(Error::ReadOnly)?;
        if !waiting.front().is_some_and(fits) {
            return Err(Error::ReadOnly);
        }
        let node = waiting.pop_front().ok_or(Error::ReadOnly)?;
        let ino = state.table.add(parent, name, node)?;
        state.table.count_lookup(ino);
        state.table.stat(ino)
    }

    /// The publisher renamed within one directory.
    pub fn rename(&self, parent: Ino, from: &OsStr, to: &OsStr) -> Result<(), Error> {
        let (Some(from), Some(to)) = (from.to_str(), to.to_str()) else { return Err(Error::NotFound) };
        self.lock().table.rename(parent, from, to.into())
    }

    /// The publisher removed a file or link.
    pub fn unlink(&self, parent: Ino, name: &OsStr) -> Result<(), Error> {
        self.lock().table.unlink(parent, name.to_str().ok_or(Error::NotFound)?)
    }

    /// The publisher removed an empty directory.
    pub fn rmdir(&self, parent: Ino, name: &OsStr) -> Result<(), Error> {
        self.lock().table.rmdir(parent, name.to_str().ok_or(Error::NotFound)?)
    }

    /// The publisher set attributes: what it sets them to has been staged with the node, so only the time moves.
    pub fn touch(&self, ino: Ino) -> Result<Stat, Error> {
        let mut state = self.lock();
        state.table.touch(ino)?;
        state.table.stat(ino)
    }

    // ---- what the view hands over

    /// From now on updates of directories that the kernel holds go through a publisher.
    pub fn set_published(&self) {
        self.lock().published = true;
    }

    /// Carries `steps` out below `dir`, or stages them for the publisher: see the module's documentation.
    /// One update of one directory at a time.
    pub fn update(&self, dir: Ino, steps: Vec<Step>) -> Result<Outcome, Error> {
        let mut state = self.lock();
        if !state.published || !state.table.is_held(dir) {
            for step in steps {
                state.table.apply(dir, step)?;
            }
            return Ok(Outcome::Applied);
        }
        let path = state.table.path(dir)?;
        for step in &steps {
            if let Step::Mkdir { name, node } | Step::Mkfile { name, node } | Step::Symlink { name, node } = step {
                state.staged.entry((dir, name.clone())).or_default().push_back(node.clone());
            }
        }
        Ok(Outcome::Publish { path, steps })
    }

    /// Ends a published update: what the system calls did not do (a failing one ends the publisher's run) is done now,
    /// without events. Returns whether anything was left to do.
    pub fn settle(&self, dir: Ino, left: Vec<Step>) -> bool {
        let mut state = self.lock();
        state.staged.retain(|(parent, _), _| *parent != dir);
        let any = !left.is_empty();
        for step in left {
            // A step that had happened when its answer got lost cannot be applied a second time: that is fine.
            let _ = state.table.apply(dir, step);
        }
        any
    }

    /// Gives an unloaded directory its content and answers all who wait for it. The directory keeps its times: it is
    /// not a change, only now known. Does nothing if the directory has been filled before.
    pub fn fill(&self, dir: Ino, children: Vec<(Arc<str>, NewNode)>) -> Result<(), Error> {
        self.meet(dir, |table| table.load(dir, children))
    }

    /// Changes what is known below a directory, then sends all who wait for it back to ask again.
    fn meet(&self, dir: Ino, change: impl FnOnce(&mut Table) -> Result<(), Error>) -> Result<(), Error> {
        let waiters = {
            let mut state = self.lock();
            change(&mut state.table)?;
            state.take_waiters(dir)
        };
        waiters.into_iter().for_each(|waiter| waiter(Ok(())));
        Ok(())
    }

    /// Adds a name that was asked for to a directory whose names cannot be listed, and answers all who wait for it. It is
    /// not a change, only now known.
    pub fn grant(&self, demand: &Demand, node: NewNode) -> Result<(), Error> {
        let Some(name) = demand.name.clone() else { return Err(Error::NotFound) };
        let (granted, waiters) = {
            let mut state = self.lock();
            let granted = state.table.grant(demand.dir, name, node);
            (granted, state.waiters.remove(demand).unwrap_or_default())
        };
        waiters.into_iter().for_each(|waiter| waiter(Ok(())));
        granted
    }

    /// What is known of the names in a directory.
    pub fn names(&self, dir: Ino) -> Option<Names> {
        match self.lock().table.dir(dir).ok()?.fill {
            Fill::Ready | Fill::Unloaded { .. } => Some(Names::Known),
            Fill::Unread => Some(Names::Unread),
            Fill::ByName { .. } => Some(Names::ByName),
            Fill::Denied { .. } => Some(Names::Denied),
        }
    }

    /// Changes what is known of the names in a directory; those that are there stay. All who wait are sent back to ask
    /// again. The kernel may hold a listing: the directory's attributes have changed.
    pub fn set_names(&self, dir: Ino, names: Names) -> Result<(), Error> {
        let fill = match names {
            Names::Known => Fill::Ready,
            Names::Unread => Fill::Unread,
            Names::ByName => Fill::ByName { errno: libc::EACCES },
            Names::Denied => Fill::Denied { errno: libc::EACCES },
        };
        self.meet(dir, |table| table.set_fill(dir, fill))
    }

    /// The directory, which has been emptied, is filled again when somebody looks into it.
    pub fn unload(&self, dir: Ino, subdirs: u32) -> Result<(), Error> {
        self.meet(dir, |table| table.set_fill(dir, Fill::Unloaded { subdirs }))
    }

    /// When content below the directory was last made or asked for, as a number that grows. What the kernel serves from its
    /// own cache is not seen here.
    pub fn last_use(&self, dir: Ino) -> u64 {
        self.lock().table.last_use(dir)
    }

    /// Lets go of the content of all files below an object's directory. They stay, with their attributes and numbers; who
    /// reads one demands the directory's content.
    pub fn drop_content(&self, dir: Ino) -> Result<(), Error> {
        self.lock().table.drop_content(dir)
    }

    /// Whether content below the directory was let go of.
    pub fn is_dropped(&self, dir: Ino) -> bool {
        self.lock().table.dir(dir).is_ok_and(|dir| dir.dropped)
    }

    /// Gives the files below an object's directory, by their names, the content back that they had, and answers all who
    /// wait for it.
    pub fn restore(&self, dir: Ino, value: impl Fn(&str) -> Option<Value>) -> Result<(), Error> {
        self.meet(dir, |table| table.restore(dir, value))
    }

    /// Removes a directory that was asked for by its name, if the kernel has let go of it and it still has that right to
    /// be forgotten. Says whether it did.
    pub fn drop_unused(&self, dir: Ino) -> bool {
        self.lock().table.drop_unused(dir)
    }

    /// Answers all who wait for content of `dir` that it cannot be had now; the next one asks again.
    pub fn refuse(&self, demand: &Demand, error: Error) {
        let waiters = self.lock().waiters.remove(demand).unwrap_or_default();
        waiters.into_iter().for_each(|waiter| waiter(Err(error)));
    }

    /// Makes an unloaded directory an empty one, because it is about to be removed; who waits gets `NotFound`.
    pub fn seal(&self, dir: Ino) {
        let waiters = {
            let mut state = self.lock();
            let _ = state.table.load(dir, Vec::new());
            state.take_waiters(dir)
        };
        waiters.into_iter().for_each(|waiter| waiter(Err(Error::NotFound)));
    }

    /// The path of a directory below the root, "" for the root itself.
    pub fn path(&self, dir: Ino) -> Result<String, Error> {
        self.lock().table.path(dir)
    }

    /// Whether a directory has no names in it.
    pub fn is_empty(&self, dir: Ino) -> bool {
        self.lock().table.dir(dir).is_ok_and(|dir| dir.is_empty())
    }

    /// The inode of a name, without counting a lookup.
    pub fn child(&self, dir: Ino, name: &str) -> Option<Ino> {
        self.lock().table.dir(dir).ok()?.child(name)
    }

    /// A directory with all that is known to be in it: content that nobody has asked for is not.
    pub fn copy(&self, dir: Ino) -> Result<NewNode, Error> {
        self.lock().table.copy(dir)
    }

    /// How many inodes there are, and how many blocks of 512 bytes their content takes.
    pub fn usage(&self) -> (u64, u64) {
        let state = self.lock();
        (state.table.len() as u64, state.table.blocks())
    }
}

impl State {
    fn take_waiters(&mut self, dir: Ino) -> Vec<Waiter> {
        let keys: Vec<Demand> = self.waiters.keys().filter(|demand| demand.dir == dir).cloned().collect();
        keys.iter().filter_map(|key| self.waiters.remove(key)).flatten().collect()
    }
}

#[cfg(test)]
mod tests;
